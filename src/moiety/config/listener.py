"""Who is told what happens: one object, handed down by whoever starts a run.

It is told three things: sentences for a person, the progress of a training, and events for programs. Losses
and metrics depend on labels: they are progress, and in no event (ADR 0022). Imported by every room that has
something to tell; imports none.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

LOGGER: Final = logging.getLogger("moiety")
LOGGER.addHandler(logging.NullHandler())


class Listener:
    """Is told what happens. This one ignores it, and logs events; derive from it to hear more.

    A method that raises ends the run.
    """

    def say(self, sentence: str) -> None:
        """Something that whoever runs this should know."""

    def begin(self, *, epochs: int, rows: int) -> None:
        """Training starts: `rows` in each of `epochs`."""

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        """A step over `rows` is done; `sent` and `received` are bytes since the start of the session."""

    def epoch(self, *, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        """An epoch is done, with its mean training loss and its validation metrics."""

    def event(self, name: str, *, level: int, fields: Mapping[str, Any]) -> None:
        """An event of docs/logs.md, at a level of the standard library, goes to its logger "moiety"."""
        LOGGER.log(level, name, extra={"fields": fields})


class Printer(Listener):
    """Prints sentences on the standard output, and logs events."""

    def say(self, sentence: str) -> None:
        """Print it."""
        print(sentence)  # noqa: T201 - what it is for


SILENT: Final = Listener()
PRINTER: Final = Printer()
