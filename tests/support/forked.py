"""`moiety` commands in processes forked from a server that has imported everything: they start at once."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from moiety.cli.app import main
from tests.support.parties import WAIT_SECONDS, Outcome

SERVER: Final = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.support.killed_processes"])


class _Lines:
    """A text stream whose lines go through a connection."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._connection.send((self._name, line))
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines went when they were whole."""

    def isatty(self) -> bool:
        return False


def _command(connection: Connection, arguments: tuple[str, ...]) -> None:
    streams: tuple[Any, Any] = (_Lines(connection, "output"), _Lines(connection, "errors"))
    sys.stdout, sys.stderr = streams
    main(list(arguments))


class Forked:
    """A command that runs.

    Args:
        arguments: of the command.
    """

    def __init__(self, *arguments: str | Path) -> None:
        self._connection, other = SERVER.Pipe(duplex=False)
        self.process = SERVER.Process(target=_command, args=(other, tuple(map(str, arguments))))
        self.process.start()
        other.close()
        self._said: dict[str, list[str]] = {"output": [], "errors": []}

    def wait_for(self, words: str) -> str:
        """Return the next line that holds some words."""
        while (said := self._next()) is not None:
            if words in said:
                return said
        raise AssertionError(f"ended without {words!r}: {self._said}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self) -> Outcome:
        """Wait for the end and return everything that was said."""
        while self._next() is not None:
            pass
        self.process.join(WAIT_SECONDS)
        code = self.process.exitcode
        assert code is not None
        return Outcome(
            code=code, output="\n".join(self._said["output"]), errors="\n".join(self._said["errors"])
        )

    def _next(self) -> str | None:
        if not self._connection.poll(WAIT_SECONDS):
            raise AssertionError(f"silent: {self._said}")
        try:
            name, line = self._connection.recv()
        except EOFError:
            return None
        self._said[name].append(line)
        return str(line)


@contextmanager
def forked(*arguments: str | Path) -> Iterator[Forked]:
    """Run a command; it is ended if the test fails."""
    running = Forked(*arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.join()
