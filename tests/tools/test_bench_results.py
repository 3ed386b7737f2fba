import doctest
import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.instructions import RECORDED, changes, loops, read_dumps
from benchmarks.measure import Record
from benchmarks.report import PAGES, TABLES, fill
from benchmarks.results import SCALED, combine, machine_records, read, single, write
from benchmarks.run import chosen
from benchmarks.scaling import counted, linear, scaled_records
from benchmarks.shapes import Size
from moiety.crypto import kernel

DOCTESTED = ("instructions", "report", "results", "run", "scaling", "shapes")
FIELDS = ["least", "name", "runs", "shape", "system", "unit", "value"]


def figure(name: str = "product", *, system: str = "moiety", value: float = 1.0) -> Record:
    return single(name, shape="(1 x 1)(1 x 1)", system=system, value=value, unit="ms of CPU")


@pytest.mark.parametrize("name", DOCTESTED)
def test_bench_docstring_examples_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_bench_results_are_a_flat_list_of_records(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write([figure(), *machine_records()], path)
    records = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(records, list)
    assert all(sorted(each) == FIELDS for each in records)
    assert {each["name"] for each in records} == {"product", "machine"}


def test_bench_write_replaces_what_was_measured_again_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    scaled = figure(system=f"slow{SCALED}rows 1, 2)")
    write([figure(), figure("ntt"), scaled], path)
    write([figure(value=2.0), replace(scaled, system=f"slow{SCALED}rows 4, 8)", value=3.0)], path)
    assert {(each.name, each.system): each.value for each in read(path)} == {
        ("ntt", "moiety"): 1.0,
        ("product", "moiety"): 2.0,
        ("product", f"slow{SCALED}rows 4, 8)"): 3.0,
    }


def test_bench_combine_keeps_different_systems_apart() -> None:
    runs = [[figure(value=3.0), figure(system="SEAL", value=9.0)], [figure(value=1.0)]]
    assert [(each.system, each.value, each.least, each.runs) for each in combine(runs)] == [
        ("moiety", 2.0, 1.0, 2),
        ("SEAL", 9.0, 9.0, 1),
    ]


def test_bench_scaling_says_how_far_it_misses() -> None:
    scaled = linear("rows", (1, 2, 3), 10, lambda rows: {1: 1.0, 2: 2.0, 3: 4.0}[rows])
    assert scaled.seconds == 1 + 9 * 1.5
    assert scaled.miss == -0.25
    small, large = {"encrypt": 1.0, "respond": 4.0}, {"encrypt": 2.0, "respond": 4.0}
    counts = {"encrypt": 1, "respond": 2}, {"encrypt": 2, "respond": 2}
    known = counted("x", small=(small, counts[0]), large=(large, counts[1]), full={"respond": 10.0})
    assert known.seconds == 20.0
    assert known.miss == 0.0
    names = [each.system for each in scaled_records(known, Size(rows=1, contraction=1, kept=1), "slow")]
    assert names == [f"slow{SCALED}x)"] * 3


def test_bench_runs_each_suite_once() -> None:
    assert chosen(["bytes", "product", "memory"], full=False) == ["product", "epoch-fate"]
    assert chosen([], full=False) == ["product", "ntt", "epoch-fate", "demo"]
    assert "peers" in chosen([], full=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_bench_pages_show_the_recorded_figures(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- table: ") == text.count("<!-- end -->") > 0
    assert fill(text, read()) == text, "run python -m benchmarks.report"


def test_bench_tables_show_every_system() -> None:
    mine = [figure("epoch-fate", system=each) for each in ("encrypted", "twin")]
    table = "\n".join(TABLES["epoch-fate"](mine))
    assert "| encrypted | 1 ms of CPU |" in table
    assert "| twin | 1 ms of CPU |" in table


def test_bench_instruction_counts_cover_every_loop() -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["counts"]
    names = [each.name for each in loops()]
    assert {path: list(counts) for path, counts in recorded.items()} == {"avx2": names, "portable": names}


def test_bench_instruction_loops_run_on_the_portable_path() -> None:
    try:
        kernel.use_instruction_set("portable")
        for loop in loops():
            loop.work()
            assert loop.elements > 0
    finally:
        kernel.use_instruction_set(kernel.instruction_sets()[0])


def test_bench_instruction_changes_below_the_tolerance_are_not_named() -> None:
    dump = "desc: Trigger: Client Request: portable: 10: encode\nevents: Ir\nsummary: 1005\n"
    (line,) = changes({"portable": {"encode": 100.0}}, read_dumps([dump, "summary: 3\n"]))
    assert line == "portable: encode: 100.5 instructions"
