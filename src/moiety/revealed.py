"""What a run tells a party beyond what every run does, in sentences for both sides' output.

Each says what both run files had to say first. Imported by whatever prints before a training.
"""

from collections.abc import Iterator

from moiety.contract import Contract
from moiety.messages import Role
from moiety.products import REVEALS_GRADIENTS

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
