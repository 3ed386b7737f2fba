import re
from pathlib import Path

import pytest
from pyarrow import csv, parquet

from moiety.cli.result import demonstration_lines
from moiety.config import load_data_owner_run, load_label_owner_run
from moiety.config.listener import SILENT
from moiety.demo import demo
from moiety.demo.credit import CREDIT_FEATURES, CREDIT_TARGET
from moiety.demo.demo import Example, run_demo, set_up, simulate_runs
from moiety.demo.tables import BANK_ID, TELCO_ID
from moiety.errors import ConfigError, TransportError
from tests.support.hearing import Heard
from tests.support.parties import configure, free_address

FEW_ROWS = 3000
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the demonstration on the first customers only."""
    for name in ("write_labels", "write_features"):
        write = getattr(demo, name)
        monkeypatch.setattr(demo, name, lambda path, rows, write=write: write(path, rows=rows or FEW_ROWS))


@pytest.mark.slow
@pytest.mark.usefixtures("few_rows")
def test_demo_trains_in_two_processes_and_compares(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    listener = Heard()
    shown = run_demo(tmp_path / "demo", epochs=1, listener=listener)
    text = "\n".join([*listener.said, *demonstration_lines(shown)])
    for words in (
        "labels.csv: 2,879 rows, customers like TW-0001234",
        "features.parquet: 2,879 rows, subscribers like 1234, and 23 features",
        "they align their tables first",
        "credit card default, 2,6",
        "encrypted",
        "twin, in the clear",
        "Adam, in the clear",
        "test AUC",
        "test KS",
        "bank sent",
        "peak memory: bank ",
        "B, telco ",
        "log2 q = 141",
        "data owner learnt: ",
        "label owner learnt: 32 values of z for each training row",
    ):
        assert words in text
    said = capfd.readouterr().out
    assert [line for line in shown_in_readme() if not is_printed(line, said + text)] == []
    assert said.count("aligned: 2,6") == 2
    assert said.count(" without an id, ") == said.count(" with the id of an earlier row, ") == 2
    saved = {path.name for path in (tmp_path / "demo" / "telco" / "credit").iterdir()}
    assert saved >= {"contract.json", "model.json", "model.safetensors"}
    assert sum(name.startswith("alignment-") for name in saved) == 1


def shown_in_readme() -> list[str]:
    """Return what README.md shows of the output, without what it leaves out."""
    section = README.read_text(encoding="utf-8").partition("\n## Try it\n")[2].partition("\n## ")[0]
    lines = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    assert len(lines) > 5
    return [line for line in lines if line != "..."]


def is_printed(line: str, printed: str) -> bool:
    """Tell whether there is such a line, with any numbers and blanks; `...` stands for the rest of one."""
    number = r"[\d][\d,.]*"
    form = re.escape(" ".join(re.sub(number, "#", line).split())).replace(r"\.\.\.", ".*")
    shown = [" ".join(re.sub(number, "#", each).split()) for each in printed.splitlines()]
    return any(re.fullmatch(form, each) for each in shown)


def test_set_up_gives_each_party_its_own_columns_only(tmp_path: Path) -> None:
    parties = set_up(tmp_path / "demo", Example(epochs=3, rows=50), address="127.0.0.1:7443")
    bank, telco = parties.label_owner.parent, parties.data_owner.parent
    assert csv.read_csv(bank / "labels.csv").column_names == [BANK_ID, CREDIT_TARGET]
    assert parquet.read_schema(telco / "features.parquet").names == [TELCO_ID, *CREDIT_FEATURES]
    assert not {path.name for path in bank.iterdir()} & {"features.parquet"}
    assert (telco / "bank.crt").read_bytes() == (bank / "own.crt").read_bytes()
    assert (telco / "own.key").read_bytes() != (bank / "own.key").read_bytes()
    assert load_label_owner_run(parties.label_owner).train.epochs == 3
    assert load_data_owner_run(parties.data_owner).peer[0].dial == "127.0.0.1:7443"


def test_demo_refuses_a_folder_that_exists(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists") as caught:
        run_demo(tmp_path, epochs=1, listener=SILENT)
    assert "another folder" in caught.value.hint


@pytest.mark.slow
def test_demo_says_which_process_failed_and_ends_the_other(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    parties = set_up(tmp_path / "demo", Example(epochs=1, rows=2000), address=free_address())
    configure(parties.label_owner, {"table.target": "defaults"})
    with pytest.raises(TransportError, match="the process of bank and telco failed"):
        demo._run_processes(parties)
    assert "no column 'defaults'" in capfd.readouterr().err


@pytest.mark.slow
def test_simulate_runs_takes_its_example_without_run_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "SIMULATED_ROWS", 2000)
    result = simulate_runs(None, None, listener=SILENT)
    assert 1700 < result.rows < 1800
    assert "AUC" in result.test
    assert not Path(result.folder).exists()


@pytest.mark.parametrize(("protocol", "units"), [("joint", 8), ("acml", 8)])
def test_example_of_another_protocol_trains_a_bottom_model(tmp_path: Path, protocol: str, units: int) -> None:
    example = Example(epochs=1, rows=50, protocol=protocol, scheme="paillier")
    parties = set_up(tmp_path / "demo", example, address="127.0.0.1:7443")
    own, peer = load_label_owner_run(parties.label_owner), load_data_owner_run(parties.data_owner)
    assert own.protocol == peer.protocol
    assert (own.protocol.name, own.protocol.scheme, own.protocol.reveals) == (
        protocol,
        "paillier",
        "gradients",
    )
    assert peer.trains_bottom
    assert own.model.units == units


@pytest.mark.slow
def test_paillier_example_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PAILLIER_ROWS", 400)
    monkeypatch.setattr(demo, "PAILLIER_UNITS", 1)
    result = simulate_runs(None, None, protocol="acml", scheme="paillier-legacy", listener=SILENT)
    assert 340 < result.rows < 360
    assert (result.out_features, result.spare_bits) == (1, None)
    assert result.parameters == ["Paillier, 2048-bit modulus, 112-bit security"]
    assert set(result.label_leakage) == {"norm", "direction", "spectral"}


def test_simulate_refuses_a_protocol_beside_run_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="are for the example") as caught:
        simulate_runs(tmp_path / "a", tmp_path / "b", protocol="joint", listener=SILENT)
    assert "run files" in caught.value.hint
