"""What there is to sign: the agreed contract without what is fresh in each session, as canonical JSON.

Two organisations compare its digest, by telephone or in a signed paper. It is the same on both sides and in
every session under the same terms: nonces, totals of earlier runs and the place where a run is resumed
are left out. The digest in the header of every frame is another one (`Contract.digest`): it covers both
nonces, and so binds frames to one session. Imported by whoever keeps or shows contracts.
"""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

from moiety.config import AnyRun
from moiety.contract.contract import Contract
from moiety.contract.products import REVEALS_GRADIENTS, Role
from moiety.contract.schedule import Split
from moiety.contract.stated import common
from moiety.contract.terms import WIRE_VERSION, Lasts, Terms, fields_lasting

Content = dict[str, Any]

CONTENT_VERSION: Final = 2
PER_SESSION: Final = fields_lasting(Lasts.SESSION)
"""Fields of the terms that are no part of what is signed."""
_GROUP: Final = 4


def content_of(contract: Contract) -> Content:
    """Return what both parties agreed on, by who stated it, and what follows from it."""
    label_owner, data_owner = _signed(contract.label_owner), _signed(contract.data_owner)
    return {
        "contract": CONTENT_VERSION,
        "both": {name: label_owner[name] for name in Terms.model_fields if name in label_owner},
        "label_owner": _own(label_owner),
        "data_owner": _own(data_owner),
        "follows": _consequences(contract),
    }


def common_of(settings: AnyRun, *, rows: int | None = None, order_digest: str | None = None) -> Content:
    """Return what both run files of a training have to say alike: known before the parties meet.

    Args:
        settings: either run file.
        rows: of this side's table; None where the parties first find the rows they have in common.
        order_digest: of the rows in their order, in hexadecimal; None as above.
    """
    content = {
        "wire_version": WIRE_VERSION,
        **common(settings, purpose="train"),
        "rows": rows,
        "order_digest": order_digest,
        "model": "",
    }
    return {name: content[name] for name in Terms.model_fields if content.get(name) is not None}


def canonical(content: Mapping[str, Any]) -> bytes:
    """Encode as canonical JSON: sorted keys, no spaces, ASCII."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def content_digest(content: Mapping[str, Any]) -> str:
    """Return SHA-256 of "moiety contract", a newline and the canonical JSON, in hexadecimal."""
    return sha256(b"moiety contract\n" + canonical(content)).hexdigest()


def grouped(digest: str) -> str:
    """Write a digest in groups, to be read out by telephone.

    >>> grouped("00ff11ee")
    '00ff 11ee'
    """
    return " ".join(digest[at : at + _GROUP] for at in range(0, len(digest), _GROUP))


def _signed(terms: Terms) -> Content:
    values: Content = json.loads(terms.model_dump_json())
    return {name: value for name, value in values.items() if name not in PER_SESSION}


def _own(signed: Content) -> Content:
    return {name: value for name, value in signed.items() if name not in Terms.model_fields}


def _consequences(contract: Contract) -> Content:
    schedule, agreed = contract.schedule, contract.label_owner
    if not contract.training:
        return {"scored_rows": agreed.rows, "values_of_z_for_a_row": contract.out_features}
    return {
        "training_rows": len(schedule.split_rows(Split.TRAIN)),
        "validation_rows": len(schedule.split_rows(Split.VALIDATION)),
        "test_rows": len(schedule.split_rows(Split.TEST)),
        "steps": agreed.epochs * contract.steps_per_epoch,
        "values_of_z_for_a_row": agreed.epochs * contract.out_features,
        "encryption": sorted(scheme.description for scheme in contract.schemes.values()),
    }


_DECIDES = {"data-owner": Role.DATA_OWNER, "label-owner": Role.LABEL_OWNER}


def revealed_lines(contract: Contract, role: Role) -> Iterator[str]:
    """Yield what this run reveals, as the party in `role` should read it."""
    if contract.trains_bottom:
        yield REVEALS_GRADIENTS
    if contract.assignment is not None:
        training, validation, test = contract.assignment.counts
        rows = f"{training} training, {validation} validation and {test} test rows"
        if _DECIDES[contract.label_owner.split] is role:
            yield f"this run shows the peer which rows lie in which period of an own column: {rows}"
        else:
            yield f"a column of the peer's decides the split, and shows which rows lie in its periods: {rows}"
    if contract.training and contract.label_owner.may_stop:
        yield "this run may stop early: the data owner learns when, and that depends on labels"
    if contract.keeps_best and not contract.hides_choice:
        yield "this run goes back to its best epoch: the data owner learns which, and that depends on labels"
