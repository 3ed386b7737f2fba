"""The command line: help, exit codes, and the sessions in tests/sessions.

A session starts in a folder with both parties' folders, `bank` and `telco`. Lines that start with `$` are
commands: `moiety`, or one of the runner's own: `set FILE KEY VALUE`, `write FILE LINE`, `lines FILE LINE...`
(lines without blanks, or in quotes), `cp`, `rm`, `chmod`, `mkdir`, `cut FILE BYTES` (keep its start), `env
NAME VALUE`, `sql STATEMENTS` (for the test server, reachable then). The lines after it are what it prints,
but for blank ones; output comes before errors. `...` stands for anything within a line and, alone, for any
lines. `[exit N]` ends what a command with another exit code than 0 prints.
"""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer

import moiety
from moiety.cli.app import app, main
from moiety.errors import MoietyError
from tests.support.parties import Outcome, configure, make_parties, run_here
from tests.support.postgres import Server

SESSIONS = sorted((Path(__file__).parents[1] / "sessions").glob("*.txt"))
SCREEN_LINES = 40
WITH_IDS = {"check", "prepare", "database", "tables", "folders", "stopping", "align"}
"""Sessions whose tables have id columns, by which they are aligned."""
COMMANDS = [
    *("init", "trust", "check", "provide", "train", "align", "predict"),
    *("simulate", "demo", "plan", "ledger", "contract"),
]


@pytest.mark.parametrize("session", SESSIONS, ids=lambda path: path.stem)
def test_session_prints_what_it_should(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    make_parties(tmp_path, ids=session.stem in WITH_IDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    text = session.read_text(encoding="utf-8")
    database = request.getfixturevalue("database") if "$ sql " in text else None
    for command, expected in commands_of(text):
        outcome = run_command(command, database)
        printed = (outcome.output + outcome.errors).splitlines()
        printed += [f"[exit {outcome.code}]"] if outcome.code else []
        assert re.fullmatch(pattern_of(expected), "\n".join(printed)), f"{command}\n" + "\n".join(printed)


def commands_of(text: str) -> list[tuple[str, list[str]]]:
    """Cut a session into commands and the lines expected of each."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line and not line.startswith("#"):
            found[-1][1].append(line)
    return found


def pattern_of(expected: list[str]) -> str:
    """Turn expected lines into a regular expression."""
    lines = [
        "(?s:.*)" if line == "..." else re.escape(line).replace(r"\.\.\.", "[^\n]*") for line in expected
    ]
    return "\n+".join(lines)


def run_command(command: str, database: Server | None) -> Outcome:  # noqa: C901 - a line for each command
    """Run one line of a session."""
    name, *arguments = shlex.split(command)
    match name:
        case "moiety":
            return run_here(*arguments)
        case "set":
            configure(Path(arguments[0]), {arguments[1]: json.loads(command.split(" ", 3)[3])})
        case "cp":
            shutil.copy(arguments[0], arguments[1])
        case "rm":
            Path(arguments[0]).unlink()
        case "write":
            Path(arguments[0]).write_text(command.split(" ", 2)[2] + "\n", encoding="utf-8")
        case "lines":
            Path(arguments[0]).write_text("\n".join(arguments[1:]) + "\n", encoding="utf-8")
        case "mkdir":
            Path(arguments[0]).mkdir()
        case "chmod":
            Path(arguments[1]).chmod(int(arguments[0], 8))
        case "cut":
            content = Path(arguments[0]).read_bytes()
            Path(arguments[0]).write_bytes(content[: int(arguments[1])])
        case "env":
            os.environ[arguments[0]] = arguments[1]
        case "sql":
            assert database is not None
            database.run(" ".join(arguments))
        case _:
            raise AssertionError(command)
    return Outcome(code=0, output="", errors="")


def test_commands_are_the_ones_described() -> None:
    assert list(typer.main.get_group(app).commands) == COMMANDS


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_fits_one_screen(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = run_here(*command, "--help")
    assert outcome.code == 0
    lines = outcome.output.splitlines()
    assert lines[0].startswith(" ".join(["Usage: moiety", *command]))
    assert len(lines) <= SCREEN_LINES
    assert max(len(line) for line in lines) <= 80


def test_help_says_of_each_command_what_it_does_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = run_here("--help").output
    assert "..." not in listed.partition("Commands:")[2]
    for name, command in typer.main.get_group(app).commands.items():
        summary, _, rest = (command.help or "").partition("\n\n")
        assert f"  {name:<8}  {summary}\n" in listed
        assert rest.endswith("."), name


def test_help_has_words_for_every_argument_and_option() -> None:
    for name, command in typer.main.get_group(app).commands.items():
        for each in command.params:
            assert (getattr(each, "help", "") or "").endswith("."), f"{name} {each.name}"


def test_version_is_printed() -> None:
    assert run_here("--version") == Outcome(code=0, output=f"moiety {moiety.__version__}\n", errors="")


def _kinds(kind: type[MoietyError]) -> list[type[MoietyError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in _kinds(child))]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ConfigError", 2),
        ("ParameterError", 2),
        ("DataError", 3),
        ("AlignmentError", 3),
        ("CapacityError", 4),
        ("ProtocolError", 5),
        ("MalformedMessageError", 5),
        ("TransportError", 6),
        ("PeerIdentityError", 6),
        ("CheckpointCorruptError", 7),
    ],
)
def test_main_ends_with_the_exit_code_of_the_kind(
    name: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kind,) = [each for each in _kinds(MoietyError) if each.__name__ == name]
    _fail_with(kind("broken", hint="mend it"), monkeypatch)
    outcome = run_here("check", "run.toml")
    assert outcome == Outcome(code=code, output="", errors="error: broken\nhint: mend it\n")


def test_main_leaves_an_empty_hint_out(monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_with(MoietyError("broken"), monkeypatch)
    assert run_here("check", "run.toml").errors == "error: broken\n"


def test_main_says_that_it_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_with(KeyboardInterrupt(), monkeypatch)
    assert run_here("check", "run.toml") == Outcome(code=130, output="", errors="interrupted\n")


def test_main_lets_a_defect_through(monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_with(ZeroDivisionError(), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        main(["check", "run.toml"])


def _fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("moiety.party.check.check", fail)
