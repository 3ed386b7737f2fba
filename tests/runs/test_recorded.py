"""Files of earlier versions are still read: run files, tables, models, checkpoints, ledgers, contracts.

`tests/recorded/<version>/<case>` is what runs of that version left; tests/recorded/record.py made it. The
dither of z is a function of the data owner's key, its share of W and the row's prepared columns, all of which
are in the files: so scores are the same, up to the rounding of float32.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from pyarrow import csv

from moiety.cli.contract import _EARLIER, contract_lines
from moiety.cli.ledger import ledger_lines
from moiety.cli.text import said
from moiety.config import (
    DataOwnerRun,
    LabelOwnerRun,
    Policy,
    limit_label,
    load_data_owner_run,
    load_label_owner_run,
)
from moiety.contract.terms import field_label
from moiety.crypto.sampling import SystemRandomness
from moiety.demo.local import attach_data_owner
from moiety.net.channel import MemoryChannel, memory_pair
from moiety.party.label_owner.checkpoints import saved_place
from moiety.party.label_owner.predict import predict
from moiety.party.label_owner.train import train
from moiety.store.checkpoints import open_checkpoints
from moiety.store.contract import kept_contract
from moiety.store.ledger import Ledger, read_ledger
from moiety.store.model import load_model
from tests.support.hearing import Heard

RECORDED: Final = Path(__file__).parents[1] / "recorded"
CASES: Final = [str(path.parent.relative_to(RECORDED)) for path in sorted(RECORDED.glob("*/*/expected.json"))]
FINISHED: Final = [case for case in CASES if case.endswith("-finished")]
STOPPED: Final = [case for case in CASES if case.endswith("-stopped")]
ROUNDING: Final = 2e-6


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A copy of a recorded case, with its run files read."""

    folder: Path
    expected: dict[str, Any]

    @property
    def label_owner(self) -> LabelOwnerRun:
        return load_label_owner_run(self.folder / "bank" / "run.toml")

    @property
    def data_owner(self) -> DataOwnerRun:
        return load_data_owner_run(self.folder / "telco" / "run.toml")

    @property
    def runs(self) -> tuple[LabelOwnerRun, DataOwnerRun]:
        return self.label_owner, self.data_owner

    @contextmanager
    def peer(self) -> Iterator[MemoryChannel]:
        """Let the data owner answer at the other end of a channel, and count what it releases."""
        own_end, peer_end = memory_pair()
        with closing(Ledger(self.data_owner.ledger)) as ledger:
            path = self.folder / "telco" / "run.toml"
            attach_data_owner(peer_end, path, randomness=SystemRandomness(), ledger=ledger)
            yield own_end
        peer_end.pump = None

    def scores(self) -> dict[str, list[Any]]:
        output = self.folder / "scores.csv"
        with self.peer() as channel:
            predict(self.folder / "bank" / "run.toml", output, channel=channel)
        scores: dict[str, list[Any]] = csv.read_csv(output).to_pydict()
        return scores

    def models(self) -> list[str]:
        """Which model each party has saved."""
        return [str(load_model(run.folder)[1]["model"]) for run in self.runs]


class Steps(Heard):
    """Counts steps, and keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def step(self, **_: Any) -> None:
        self.count += 1


def copied(case: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Copy a case, and set the passphrase of checkpoints that are encrypted: the name of the case."""
    monkeypatch.setenv("RECORDED_PASSPHRASE", Path(case).name)
    shutil.copytree(RECORDED / case, folder / "case")
    expected = json.loads((folder / "case" / "expected.json").read_text(encoding="utf-8"))
    return Recorded(folder=folder / "case", expected=expected)


def require_checkpoints(recorded: Recorded) -> None:
    """Require all checkpoints on both sides to be whole, and the newest to be where the run stopped."""
    expected = recorded.expected
    own, peers = (
        open_checkpoints(run.folder, run.checkpoint, listener=Heard(pytest.fail)).saved(expected["run"])
        for run in recorded.runs
    )
    assert (len(own), len(peers)) == (2, 2)
    assert own[0].mark.text == peers[0].mark.text == expected["mark"]
    place = saved_place(own[0])
    assert (place.epoch, place.batch) == (expected["epoch"], expected["batch"])


def test_cases_of_every_kind_were_recorded() -> None:
    names = {Path(case).name for case in CASES}
    finished = {"blind-finished", "periods-finished"}
    assert names >= finished | {"blind-stopped", "joint-stopped", "encrypted-stopped"}
    assert len(FINISHED) + len(STOPPED) == len(CASES)


@pytest.mark.parametrize("case", CASES)
def test_recorded_run_files_ledger_and_contracts_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    recorded = copied(case, tmp_path, monkeypatch)
    assert read_ledger(recorded.data_owner.ledger).totals.model_dump() == recorded.expected["ledger"]
    for run in recorded.runs:
        kept = kept_contract(run.folder)
        assert kept is not None
        assert kept.digest == recorded.expected["contract"]
        assert (kept_contract(run.folder, purpose="predict") is not None) == (case in FINISHED)


def test_recorded_options_mean_what_they_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = copied("v0.1.0/blind-finished", tmp_path, monkeypatch).data_owner.limits
    assert limits == Policy(
        released_z_per_row=640,
        predictions=1000,
        smallest_batch=16,
        steps=500,
        runs=5,
        wide_layer=False,
        early_stopping=True,
        protocols=("blind", "acml"),
        schemes=("rlwe",),
        reveals=(),
    )


@pytest.mark.parametrize("case", CASES)
def test_recorded_ledger_and_contracts_are_printed_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    recorded = copied(case, tmp_path, monkeypatch)
    data_owner = recorded.folder / "telco" / "run.toml"
    released = recorded.expected["ledger"]["released_z_per_row"]
    counted = f"{limit_label('released_z_per_row')} {released} 640 {640 - released}"
    assert counted in [" ".join(line.split()) for line in ledger_lines(data_owner)]
    for run_file in (data_owner, recorded.folder / "bank" / "run.toml"):
        lines = [" ".join(line.split()) for line in contract_lines(run_file)]
        agreed = lines[lines.index("the data owner:") :]
        for limit in _EARLIER.values():
            value = getattr(recorded.data_owner.limits, limit.removeprefix("policy."))
            assert f"{field_label(limit)} {said(value)}" in agreed
        assert any(line.startswith("changed since: version of the messages is 5") for line in lines)


@pytest.mark.parametrize("case", FINISHED)
def test_recorded_model_scores_as_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    recorded = copied(case, tmp_path, monkeypatch)
    assert recorded.models() == [recorded.expected["model"]] * 2
    scores, expected = recorded.scores(), recorded.expected["scores"]
    assert list(scores) == list(expected)
    for name, column in expected.items():
        assert scores[name] == pytest.approx(column, abs=ROUNDING), name
    totals = read_ledger(recorded.data_owner.ledger).totals
    assert totals.predictions == 2 * recorded.expected["ledger"]["predictions"]


@pytest.mark.parametrize(
    "case",
    # A passphrase takes seconds.
    [pytest.param(case, marks=[pytest.mark.slow] * ("encrypted" in case)) for case in STOPPED],
)
def test_recorded_run_continues_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    recorded = copied(case, tmp_path, monkeypatch)
    expected, steps = recorded.expected, Steps()
    if recorded.label_owner.checkpoint.passphrase is None:  # each reading takes a second otherwise
        require_checkpoints(recorded)
    with recorded.peer() as channel:
        path = recorded.folder / "bank" / "run.toml"
        result = train(path, resume=True, channel=channel, listener=steps)
    assert f"the run resumes after step {expected['updates']}" in steps.said
    assert steps.count == result.steps - expected["updates"]
    assert len(result.validation) == recorded.label_owner.train.epochs
    assert len(set(recorded.models())) == 1
    for run in recorded.runs:
        _, facts = load_model(run.folder)
        assert (facts["run_id"], facts["updates"]) == (expected["run"], result.steps)
    assert not list(recorded.label_owner.folder.glob("checkpoints/*.safetensors*"))
    assert len(recorded.scores()["row"]) == result.rows
