"""Where the events of a command go: lines on the standard error stream, as JSON or as text.

Imported by the command line only; who imports the package as a library configures the logger "moiety".
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import structlog
import typer

from moiety import __version__
from moiety.config.listener import LOGGER
from moiety.errors import ConfigError
from moiety.net.events import COMMAND_ENDED, COMMAND_STARTED, Log

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
FORMATS: Final = ("json", "text")
_FIRST: Final = ("timestamp", "level", "event", "role", "run", "peer", "session", "sent", "received")


def log_to(*, stream: TextIO | None = None, form: str | None, level: str | None) -> None:
    """Write events from now on; nothing where neither form nor level is given.

    Args:
        stream: where to; the standard error stream if left out.
        form: "json", one object a line, or "text"; text if left out.
        level: the least that is written: "debug", "info", "warning" or "error"; info if left out.

    Raises:
        ConfigError: no such form or level.
    """
    for each in list(LOGGER.handlers):
        if isinstance(each, _Handler):
            LOGGER.removeHandler(each)
    if form is None and level is None:
        return
    _require("--log-format", form or "text", FORMATS)
    _require("--log-level", level or "info", tuple(LEVELS))
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_formatter(json=form == "json"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(LEVELS[level or "info"])
    LOGGER.propagate = False


def log_command(context: typer.Context, *, form: str | None, level: str | None) -> None:
    """Write events from now on, among them when this command begins and when it has done its work.

    Raises:
        ConfigError: no such form or level.
    """
    log_to(form=form, level=level)
    log, command = Log(), context.invoked_subcommand
    log.emit(COMMAND_STARTED, command=command, software=__version__)

    def ended() -> None:
        if sys.exc_info()[0] is None:
            log.emit(COMMAND_ENDED, command=command)

    context.call_on_close(ended)


class _Handler(logging.StreamHandler[TextIO]):
    """The command line's own handler, told apart from those of a program that imports the package."""


def _formatter(*, json: bool) -> logging.Formatter:
    renderer: Any = structlog.processors.JSONRenderer()
    if not json:
        renderer = structlog.processors.LogfmtRenderer(bool_as_flag=False)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[_with_fields, renderer],
    )


def _with_fields(_: Any, __: str, said: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Put an event's fields beside its name, the context first."""
    record: logging.LogRecord = said.pop("_record")
    said.pop("_from_structlog")
    every = {**said, **getattr(record, "fields", {})}
    first = {name: every.pop(name) for name in _FIRST if name in every}
    return {**first, **every}


def _require(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{option} {value!r} is not known", hint=f"choose one of {', '.join(known)}")
