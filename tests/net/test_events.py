"""Logs: one vocabulary, each event with its fields, and nothing secret in any of them."""

import ast
import json
import logging
import re
from base64 import b64encode
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moiety
from moiety.cli.logs import log_to
from moiety.config import LIMITS
from moiety.contract.policy import exceeded
from moiety.demo.local import simulate
from moiety.errors import ConfigError, PeerPolicyError
from moiety.net import events
from moiety.net.events import CONTEXT, EVENTS, LOGGER, LONGEST_TEXT, MODEL_SAVED, STEP_DONE, Event, Log, plain
from moiety.protocol.messages import Block, Kind
from moiety.store import model as checkpoint
from moiety.store.contract import kept_contract
from tests.net.test_session import sessions
from tests.support.parties import Files, configure, make_parties, meet, run_here, score

SOURCES = sorted(Path(moiety.__file__).parent.rglob("*.py"))
DOCUMENT = Path(__file__).parents[2] / "docs" / "logs.md"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_parties(tmp_path)


@pytest.fixture
def logged() -> Iterator[StringIO]:
    """All events as JSON lines, at every level."""
    stream = StringIO()
    log_to(stream=stream, form="json", level="debug")
    yield stream
    log_to(form=None, level=None)
    LOGGER.propagate = True
    LOGGER.setLevel(logging.NOTSET)


def lines(logged: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged.getvalue().splitlines()]


def emitted() -> Iterator[tuple[str, set[str], bool]]:
    """Every call of `emit` in the package: the event's name, its fields, whether more are unpacked."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "emit":
                assert isinstance(node.args[0], ast.Name)
                fields = {each.arg for each in node.keywords if each.arg is not None}
                yield node.args[0].id, fields, any(each.arg is None for each in node.keywords)


def test_every_event_that_is_emitted_is_in_the_vocabulary_with_its_fields() -> None:
    found = {name: fields for name, fields, _ in emitted() if name != "event"}
    for name, fields in found.items():
        event = getattr(events, name)
        assert isinstance(event, Event)
        assert event.name == name.lower()
        assert fields <= set(event.fields), name
    frames = {"FRAME_SENT", "FRAME_RECEIVED"}  # given to one function by name
    assert set(found) | frames == {name.upper() for name in EVENTS}


def test_documentation_has_every_event() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    told = {
        name: (level, tuple(re.findall(r"`(\w+)`", fields)), meaning) for name, level, fields, meaning in rows
    }
    assert told == {
        name: (logging.getLevelName(event.level).lower(), event.fields, event.meaning)
        for name, event in EVENTS.items()
    }


def test_event_with_a_field_that_is_not_declared_is_a_defect(logged: StringIO) -> None:
    with pytest.raises(AssertionError, match="not in the vocabulary"):
        Log().emit(MODEL_SAVED, loss=0.5)
    with pytest.raises(AssertionError, match="not in the vocabulary"):
        Log(customer="c1")
    assert logged.getvalue() == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3, 3),
        (0.5, 0.5),
        (True, True),
        (None, None),
        ("blind", "blind"),
        (b"key", "<bytes>"),
        (np.arange(3), "<ndarray>"),
        (np.float64(0.25), "<float64>"),
        ([1, 2], "<list>"),
        ("x" * (LONGEST_TEXT + 1), "<str>"),
        ("\x1b[2J", "<str>"),
        (exceeded("steps", allowed=1, asked=2), "<PolicyError>"),
    ],
)
def test_field_is_a_number_or_a_short_text_or_only_a_type(value: object, shown: object) -> None:
    assert plain(value) == shown
    assert type(plain(value)) is type(shown)


def test_log_says_whose_it_is_and_where_in_the_transcript(logged: StringIO) -> None:
    first, second, _, _ = sessions()
    first.send([Block(kind=Kind.WEIGHTS, step=3, payload=b"12345")])
    second.receive()
    sent, received = lines(logged)
    assert sent == {
        **{key: sent[key] for key in ("timestamp", "role", "session")},
        "level": "debug",
        "event": "frame_sent",
        "sent": 1,
        "received": 0,
        "kind": "WEIGHTS",
        "step": 3,
        "block": 0,
        "blocks": 1,
        "bytes": 5,
    }
    assert (received["event"], received["sent"], received["received"]) == ("frame_received", 0, 1)
    assert sent["role"] != received["role"]
    assert sent["session"] == received["session"]


def test_log_names_the_limit_that_stopped_a_session(logged: StringIO) -> None:
    first, second, _, _ = sessions()
    first.abort(exceeded("steps", allowed=7, asked=8))
    with pytest.raises(PeerPolicyError):
        second.receive()
    aborted, _, told, *_ = lines(logged)
    assert (aborted["event"], aborted["code"], aborted["limit"]) == ("session_aborted", "policy", "steps")
    assert (told["event"], told["error"], told["limit"]) == ("peer_aborted", "PeerPolicyError", "steps")
    assert told["limit"] in LIMITS


def test_log_below_its_level_costs_and_writes_nothing() -> None:
    stream = StringIO()
    log_to(stream=stream, form="text", level="info")
    try:
        Log().emit(STEP_DONE, epoch=0, step=1, rows=2)
        Log(role="label owner").emit(MODEL_SAVED, step=1)
    finally:
        log_to(form=None, level=None)
        LOGGER.propagate = True
        LOGGER.setLevel(logging.NOTSET)
    (line,) = stream.getvalue().splitlines()
    assert 'level=info event=model_saved role="label owner" step=1' in line


def test_events_of_a_run_tell_its_story(files: Files, logged: StringIO) -> None:
    simulate(files.label_owner, files.data_owner)
    found = lines(logged)
    assert {line["run"] for line in found if "run" in line} == {"small"}
    digests = {line["contract"] for line in found if line["event"] == "contract_agreed"}
    agreed = kept_contract(files.data_owner.parent / "small")
    assert agreed is not None
    assert digests == {agreed.digest}
    steps = [line["step"] for line in found if line["event"] == "step_done"]
    assert steps == [1, 2, 3, 4]
    released = [line["released_z_per_row"] for line in found if line["event"] == "release_counted"]
    assert max(released) == 8
    assert [line["role"] for line in found if line["event"] == "model_saved"] == ["data owner", "label owner"]
    for line in found:
        known = {"timestamp", "level", "event", *CONTEXT, *EVENTS[line["event"]].fields}
        assert set(line) <= known


def written_forms(values: np.ndarray[Any, Any]) -> set[str]:
    """Return how an array's numbers could be written: each in decimal and hexadecimal, all as bytes."""
    flat = np.ascontiguousarray(values).ravel()
    forms = {flat.tobytes().hex(), b64encode(flat.tobytes()).decode()}
    for value in flat[:200].tolist():
        forms |= {repr(value), str(value)} | ({f"{value:x}"} if isinstance(value, int) else set())
    return {form for form in forms if len(form) > 6}


def secrets_of(files: Files) -> set[str]:
    """Return everything of a finished run that no log may have: keys, shares, features, labels, ids."""
    strings = {f"c{number}" for number in range(600)} | {f"f{number}" for number in range(8)} | {"customer"}
    for path in (files.label_owner, files.data_owner):
        pem = (path.parent / "own.key").read_text().splitlines()
        strings |= {line for line in pem if line}
        arrays, facts = checkpoint.load_model(path.parent / "small")
        for array in arrays.values():
            strings |= written_forms(array)
        strings |= {str(facts[name]) for name in ("seed",) if name in facts}
    return strings


def found_in(text: str, secrets: set[str]) -> set[str]:
    words = set(re.findall(r"[^\s\"=,:{}\[\]]+", text))
    return {each for each in secrets if each in words or (len(each) > 12 and each in text)}


def test_logs_of_a_whole_run_hold_no_key_share_feature_label_or_id(
    files: Files, tmp_path: Path, logged: StringIO
) -> None:
    """The attack: somebody reads everything that both parties log of a training and a prediction.

    Control: one careless event per kind of secret is found.
    """
    simulate(files.label_owner, files.data_owner)
    score(files, tmp_path / "scores.csv")
    configure(files.data_owner, {"policy.smallest_batch": 10_000})
    meeting = meet(files)
    assert meeting.result is None
    text = logged.getvalue()
    assert len(text.splitlines()) > 60
    secrets = secrets_of(files)
    assert len(secrets) > 800
    assert found_in(text, secrets) == set()
    arrays, _ = checkpoint.load_model(files.data_owner.parent / "small")
    careless = f'share={arrays["share"].ravel()[0]} key={arrays["dither_key"].tobytes().hex()} id="c17"'
    assert len(found_in(text + careless, secrets)) == 3


def test_events_have_no_field_that_depends_on_labels() -> None:
    words = re.compile(r"loss|metric|auc|score(?!d)|label|target|gradient")
    assert not [event.name for event in EVENTS.values() if any(map(words.search, event.fields))]


def test_options_choose_form_and_level(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = run_here("ledger", files.data_owner)
    assert silent.errors == ""
    told = run_here("--log-format", "json", "ledger", files.data_owner)
    started, ended = (json.loads(line) for line in told.errors.splitlines())
    assert (started["event"], started["command"]) == ("command_started", "ledger")
    assert ended["event"] == "command_ended"
    assert told.output == silent.output
    monkeypatch.setenv("MOIETY_LOG_LEVEL", "error")
    failed = run_here("ledger", files.label_owner)
    (line, *_) = [each for each in failed.errors.splitlines() if "event=" in each]
    assert "event=command_failed error=ConfigError exit_code=2" in line
    monkeypatch.delenv("MOIETY_LOG_LEVEL")
    assert run_here("ledger", files.data_owner).errors == ""
    LOGGER.propagate = True


@pytest.mark.parametrize("option", ["--log-format", "--log-level"])
def test_option_that_is_not_known_is_refused(files: Files, option: str) -> None:
    outcome = run_here(option, "loud", "ledger", files.data_owner)
    assert outcome.code == ConfigError.exit_code
    assert option in outcome.errors
