"""Row 17 of the attacks: secrets in repr, logs, errors, pickles and copies, over every secret type.

Two walks keep the list complete: over all subclasses of `Secret`, each of which needs a maker here, and over
the package's source for classes with an attribute named like a secret, each of which must be a `Secret` or
stand below with the reason why it is none.
"""

import ast
import copy
import importlib
import inspect
import logging
import pickle  # noqa: TID251 - what must fail
import pkgutil
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import moiety
from moiety.crypto.parameters import TESTING_ONLY
from moiety.crypto.rlwe import RlweKeyHolder
from moiety.crypto.sampling import Seed
from moiety.crypto.secret import Secret
from moiety.errors import CheckpointError
from moiety.net.events import EVENTS, Log
from moiety.net.identity import Identity
from moiety.protocol.state import DataOwnerState
from tests.support.randomness import RecordedRandomness, words_of

SEED = Seed(b"a seed that nobody may ever read")
PEM = b"-----BEGIN PRIVATE KEY-----\nTm90IGEga2V5\n"


def _key_holder() -> tuple[object, list[str]]:
    holder = RlweKeyHolder(TESTING_ONLY, public_seed=SEED, randomness=RecordedRandomness(b"secrets"))
    return holder, [str(holder._secret[0, 0]), str(holder._negated_secret[0, 0])]


def _data_owner_state() -> tuple[object, list[str]]:
    share_DK = words_of("share", 4).reshape(2, 2)
    state = DataOwnerState(share_DK=share_DK, dither_key=SEED, updates=7)
    return state, [str(share_DK[0, 0]), "a seed that", SEED.hex()]


def _identity() -> tuple[object, list[str]]:
    return Identity(key=PEM, certificate=b"public"), ["PRIVATE KEY", "Tm90", PEM.hex()]


def _with_a_share(name: str) -> tuple[object, list[str]]:
    """An object of a party's class that holds a share and nothing else: what it shows is its type's doing."""
    thing: object = object.__new__(secret_types()[name])
    share_DK = words_of("share", 4).reshape(2, 2)
    object.__setattr__(thing, "_share", share_DK)
    return thing, [str(share_DK[0, 0])]


MAKERS: dict[str, Callable[[], tuple[object, list[str]]]] = {
    "RlweKeyHolder": _key_holder,
    "DataOwnerState": _data_owner_state,
    "Identity": _identity,
    **{
        name: partial(_with_a_share, name)
        for name in (
            "AcmlDataOwner",
            "AcmlLabelOwner",
            "BlindDataOwner",
            "BestModel",
            "Blinding",
            "BlindLabelOwner",
            "BottomModel",
            "Candidates",
            "DataOwnerAlignment",
            "Agreed",
            "DataOwnerParty",
            "DataOwnerSession",
            "JointDataOwner",
            "JointLabelOwner",
            "Joined",
            "Keeper",
            "LabelOwnerAlignment",
            "LabelOwnerLink",
            "LabelOwnerRun",
            "OwnFeatures",
            "OwnCheckpoints",
            "OwnSide",
            "PaillierKeyHolder",
            "Past",
            "Prepared",
            "PrivateKey",
            "Proposal",
            "ResumedRun",
            "RlweEvaluator",
            "SavedModel",
            "Start",
            "TrainedActivations",
            "Vault",
            "_Desk",
            "_RequestZeros",
        )
    },
}
"""An object of each secret type, and strings that would give it away."""

SECRET_NAME = re.compile(r"(^|_)(key|keys|seed|share|secret|mask|dither)(_[A-Z]+)?$")
PUBLIC = {
    "OwnFiles": "the path of the key's file",
    "Schedule": "the seed of the row order is drawn jointly and known to both",
    "Pair": "both roles in one process: a specification, with nobody to hide from",
    "TwinLink": "training in the clear, of both parties' data in one place",
}
"""Classes with an attribute named like a secret that hold none."""


def walk(kind: type[object]) -> Iterator[type[object]]:
    subclasses: list[type[object]] = kind.__subclasses__()
    for each in subclasses:
        yield each
        yield from walk(each)


def secret_types() -> dict[str, type]:
    """All subclasses of `Secret` in the package, every module imported."""
    for module in pkgutil.walk_packages(moiety.__path__, "moiety."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {each.__name__: each for each in walk(Secret) if each.__module__.startswith("moiety.")}


def attributes(definition: ast.ClassDef) -> set[str]:
    """Names of annotated fields, and of what methods assign to self."""
    fields = {
        node.target.id
        for node in definition.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assigned = {
        node.attr
        for node in ast.walk(definition)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    return fields | assigned


def holders(source: str) -> dict[str, set[str]]:
    """Classes of a module's text with attributes named like secrets."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    found = {each.name: {a for a in attributes(each) if SECRET_NAME.search(a)} for each in classes}
    return {name: names for name, names in found.items() if names}


@pytest.fixture(params=sorted(MAKERS))
def secret(request: pytest.FixtureRequest) -> tuple[object, list[str]]:
    return MAKERS[request.param]()


@dataclass(frozen=True)
class Careless:
    """The control: what a secret type looks like without its base."""

    key: bytes


def _fail_over(thing: object) -> None:
    raise CheckpointError(f"cannot use {thing}", hint=f"look at {thing!r}")


def given_away(thing: object, strings: list[str], caplog: pytest.LogCaptureFixture) -> list[str]:
    """The attack: everything that a person prints, logs or raises; which of the strings is in it."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("moiety").info("state %s %r", thing, thing)
        try:
            _fail_over(thing)
        except CheckpointError as error:
            logging.getLogger("moiety").exception("failed")
            raised = "".join(traceback.format_exception(error)) + error.hint
    printed = f"{thing} {thing!r} {thing!s} {thing!a} {format(thing)} {[thing]} { {'x': thing} }"
    return [each for each in strings if each in printed + raised + caplog.text]


def copies(thing: object) -> list[str]:
    """The attack: every way to write an object down or to double it that works."""
    ways: dict[str, Callable[[], object]] = {
        f"pickle {protocol}": partial(pickle.dumps, thing, protocol=protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    }
    ways |= {
        "in a list": lambda: pickle.dumps([thing]),
        "copy": lambda: copy.copy(thing),
        "deepcopy": lambda: copy.deepcopy({"inside": thing}),
    }
    worked = []
    for name, way in ways.items():
        try:
            way()
        except TypeError:
            continue
        else:
            worked.append(name)
    return worked


def test_secrets_given_away_by_a_careless_type(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody prints, logs, raises, pickles and copies a key. Control of the tests below: it works."""
    assert given_away(Careless(PEM), ["PRIVATE KEY"], caplog) == ["PRIVATE KEY"]
    assert len(copies(Careless(PEM))) == pickle.HIGHEST_PROTOCOL + 4


def test_secrets_given_away_by_text(
    secret: tuple[object, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """The same for each secret type. Ours: the text names the type and nothing else."""
    thing, strings = secret
    assert repr(thing) == f"<{type(thing).__name__}: redacted>"
    assert given_away(thing, strings, caplog) == []
    with np.printoptions(threshold=10**6):
        assert given_away(thing, strings, caplog) == []


def test_secrets_given_away_by_events(
    secret: tuple[object, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """The same in every field of every event. Ours: only the type is written."""
    thing, strings = secret
    for event in EVENTS.values():
        for name in event.fields:
            caplog.clear()
            with caplog.at_level(logging.DEBUG, logger="moiety"):
                Log().emit(event, **{name: thing})
            (record,) = caplog.records
            assert record.__dict__["fields"] == {name: f"<{type(thing).__name__}>"}
            assert not [each for each in strings if each in str(record.__dict__)]


def test_secrets_given_away_by_copies(secret: tuple[object, list[str]]) -> None:
    """The same for each secret type. Ours: every way is refused."""
    assert copies(secret[0]) == []


def test_secret_types_all_covered() -> None:
    """A new secret type comes; the tests above have to know it."""
    assert {name for name, kind in secret_types().items() if not inspect.isabstract(kind)} == set(MAKERS)


SAMPLE = """
class A:
    def __init__(self, key): self._dither_key = key
class B:
    share_DK: object
class C:
    def __init__(self): self._rows = 3
"""


def test_secret_holders_walk_fires() -> None:
    """Control of the next test: attributes named like secrets are seen, others are not."""
    assert holders(SAMPLE) == {"A": {"_dither_key"}, "B": {"share_DK"}}


def package_holders() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file in sorted(Path(moiety.__file__).parent.rglob("*.py")):
        found |= holders(file.read_text(encoding="utf-8"))
    return found


def test_secret_holders_are_secret_types() -> None:
    """A new class with a key, seed, share or mask comes that is no `Secret`.

    Control: the test above. Ours: each is a `Secret`, or listed here with a reason.
    """
    found = package_holders()
    uncovered = set(found) - set(secret_types()) - set(PUBLIC)
    assert {name: found[name] for name in sorted(uncovered)} == {}
    assert set(PUBLIC) <= set(found), "a class listed as public is gone: take it off the list"
