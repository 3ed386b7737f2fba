"""Tables and lists of names with values: as they are, in columns, and no wider than the terminal."""

import fcntl
import io
import os
import pty
import struct
import sys
import termios

import pytest

from moiety.cli.text import pairs, said, table, width

HEADINGS = ("column", "missing", "remarks")
REMARK = "nearly every value is another one, as in an id, and a rule for numbers needs numbers"


@pytest.fixture(autouse=True)
def piped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print into a pipe, whatever the tests run in."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())


def test_table_aligns_text_left_and_numbers_right() -> None:
    rows = [["income", "12 (3.5 %)", ""], ["f", "0", "constant"]]
    assert table(HEADINGS, rows, numbers=("missing",)) == [
        "column     missing  remarks",
        "income  12 (3.5 %)",
        "f                0  constant",
    ]


def test_pairs_stand_below_the_line_that_says_of_what() -> None:
    assert pairs({"units": 4, "limit on steps": None, "may stop": False}) == [
        "  units           4",
        "  limit on steps  no limit",
        "  may stop        no",
    ]


@pytest.mark.parametrize(
    "name", ["[bold]", "[/]", "[link=x]y[/link]", ":smile:", "a  b", "\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
def test_cell_is_printed_as_it_is(name: str) -> None:
    assert table(("column",), [[name]]) == ["column", name]
    assert pairs({name: name}) == [f"  {name}  {name}"]


def test_cell_cannot_move_the_cursor_or_end_its_line() -> None:
    assert table(("column",), [["\x1b[2Jid\n\ttwo\x9b"]]) == ["column", r"\x1b[2Jid\n\ttwo\x9b"]


def test_row_stays_one_line_in_a_pipe_and_wraps_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["customer", "0", REMARK]]
    assert table(HEADINGS, rows, numbers=("missing",))[1] == f"customer        0  {REMARK}"
    monkeypatch.setenv("COLUMNS", "50")
    lines = table(HEADINGS, rows, numbers=("missing",))
    assert len(lines) > 2
    assert max(map(len, lines)) <= 50
    assert " ".join(line[19:] for line in lines[1:]) == REMARK
    assert max(map(len, pairs({"remark": REMARK}))) <= 50


def test_word_longer_than_the_terminal_is_broken_and_nothing_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    lines = pairs({"digest": "0123456789abcdef" * 4})
    assert "".join(line.split()[-1] for line in lines) == "0123456789abcdef" * 4


def test_width_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    controller, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 72, 0, 0))
        assert width() == 72
    os.close(controller)


def test_value_is_written_as_a_person_reads_it() -> None:
    written = {said(each) for each in (True, 0, 0.5, ["rlwe"], ())}
    assert written == {"yes", "0", "0.5", "rlwe", "nothing"}
