"""One object is told sentences, progress and events; by itself it logs events and ignores the rest."""

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import moiety
from moiety.config.listener import PRINTER, SILENT, Listener
from moiety.demo.local import simulate
from moiety.net.events import EVENTS
from tests.support.parties import make_parties


class Eavesdrops(Listener):
    """Keeps the events it is told, and logs none."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, Mapping[str, Any]]] = []

    def event(self, name: str, *, level: int, fields: Mapping[str, Any]) -> None:
        self.events.append((name, level, fields))


def test_listener_is_told_every_event_of_its_own_party_and_none_of_the_peers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files, listener = make_parties(tmp_path), Eavesdrops()
    with caplog.at_level(logging.DEBUG, logger="moiety"):
        simulate(files.label_owner, files.data_owner, listener=listener)
    names = [name for name, _, _ in listener.events]
    assert {"contract_agreed", "frame_sent", "step_done", "model_saved", "session_closed"} <= set(names)
    assert names.count("epoch_done") == 2
    assert {fields["role"] for _, _, fields in listener.events} == {"label owner"}
    assert all(level == EVENTS[name].level for name, level, _ in listener.events)
    logged = [record.fields["role"] for record in caplog.records if hasattr(record, "fields")]
    assert set(logged) == {"data owner"}


def test_silent_listener_says_nothing_and_logs_events(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, logger="moiety"):
        SILENT.say("aligned")
        SILENT.begin(epochs=1, rows=1)
        SILENT.step(epoch=0, rows=1, loss=0.5, sent=1, received=1)
        SILENT.epoch(epoch=0, loss=0.5, metrics={})
        SILENT.event("epoch_done", level=logging.INFO, fields={"step": 2})
    assert capsys.readouterr() == ("", "")
    (record,) = caplog.records
    assert (record.getMessage(), record.__dict__["fields"]) == ("epoch_done", {"step": 2})


def test_sentences_of_a_data_owner_are_printed_unless_somebody_listens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert inspect.signature(moiety.provide).parameters["listener"].default is PRINTER
    assert inspect.signature(moiety.open_run).parameters["listener"].default is SILENT
    PRINTER.say("session ended: the peer's certificate is another one")
    assert capsys.readouterr().out == "session ended: the peer's certificate is another one\n"
