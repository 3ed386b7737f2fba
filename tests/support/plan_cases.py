"""The protocols that a plan is made for, and both parties' folders with a table of each."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from moiety.contract.products import Role
from moiety.party.plan.cost import Line
from moiety.party.plan.options import Options
from moiety.party.plan.plan import Plan, plan
from tests.support.parties import Files, configure, make_parties

LOOPBACK: Final = Line()
EPOCHS: Final = 3
LABEL_OWNER, DATA_OWNER = Role.LABEL_OWNER, Role.DATA_OWNER


@dataclass(frozen=True, kw_only=True)
class Case:
    """A protocol, and what the data owner has in front of the interactive layer."""

    protocol: str
    bottom: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> int:
        return 16 if self.bottom else 8

    @property
    def activations(self) -> str:
        return "trained" if self.bottom and not self.bottom.get("frozen") else "fixed"


BOTTOM: Final = {"bottom": "moiety.demo.networks:bottom"}
CASES: Final = [
    Case(protocol="blind"),
    Case(protocol="blind", bottom={**BOTTOM, "frozen": True}),
    Case(protocol="joint", bottom=BOTTOM),
    Case(protocol="acml"),
    Case(protocol="acml", bottom=BOTTOM),
]
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.protocol}-{case.activations}")


def files_of(folder: Path, case: Case) -> Files:
    """Make both parties of a case: 427 rows to train in batches of 143 and 142, validation and test rows."""
    files = make_parties(folder, rows=610)
    chosen = {"name": case.protocol} | ({} if case.protocol == "blind" else {"reveals": "gradients"})
    configure(files.label_owner, {"protocol": chosen, "train.epochs": EPOCHS, "train.batch": 150})
    # A checkpoint is marked by the clock, and a plan does not count it.
    configure(files.label_owner, {"checkpoint.every": "never"})
    # As many digits as in the usual policy: the label owner's forecast assumes that one.
    configure(files.data_owner, {"protocol": chosen, "policy.smallest_batch": 142})
    if case.bottom:
        configure(files.data_owner, {"model": case.bottom})
    return files


def label_options(case: Case) -> Options:
    return Options(in_features=case.inputs, activations=case.activations)


DATA_OPTIONS: Final = Options(units=4, batch=150, epochs=EPOCHS, validation=0.1, test=0.2)


def planned(path: Path, options: Options) -> Plan:
    return plan(path, options, line=LOOPBACK, timed=False)
