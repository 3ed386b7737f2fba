"""`moiety` commands in processes forked from a server that has imported everything: they start at once."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from moiety.cli.app import main
from tests.support.parties import Outcome
from tests.support.patience import PATIENCE

SERVER: Final = multiprocessing.get_context("forkserver")
# With what a training loads only when it needs it, which takes longer than a short training itself.
LATE: Final = ["torch._dynamo", "sklearn.impute", "sklearn.preprocessing", "rich.progress"]
SERVER.set_forkserver_preload(["tests.support.killed_processes", *LATE])


class _Lines:
    """A text stream whose lines go through a connection; after some words it waits to be let continue."""

    def __init__(self, connection: Connection, name: str, stop_at: str | None) -> None:
        self._connection = connection
        self._name = name
        self._stop_at = stop_at
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._connection.send((self._name, line))
            if self._stop_at is not None and self._stop_at in line:
                self._stop_at = None
                self._connection.recv()
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines went when they were whole."""

    def isatty(self) -> bool:
        return False


def _command(
    connection: Connection,
    arguments: tuple[str, ...],
    stop_at: str | None,
    prelude: Callable[[], None] | None,
) -> None:
    os.environ["COLUMNS"] = "200"
    streams: tuple[Any, Any] = (_Lines(connection, "output", stop_at), _Lines(connection, "errors", None))
    sys.stdout, sys.stderr = streams
    if prelude is not None:
        prelude()
    main(list(arguments))


class Forked:
    """A command that runs.

    Args:
        arguments: of the command.
        stop_at: words after which it waits for `release`, so that a test does something in between.
        prelude: runs in the process before the command.
    """

    def __init__(
        self,
        *arguments: str | Path,
        stop_at: str | None = None,
        prelude: Callable[[], None] | None = None,
    ) -> None:
        self._connection, other = SERVER.Pipe()
        command = (other, tuple(map(str, arguments)), stop_at, prelude)
        self.process = SERVER.Process(target=_command, args=command)
        self.process.start()
        other.close()
        self._said: dict[str, list[str]] = {"output": [], "errors": []}

    def wait_for(self, words: str) -> str:
        """Return the next line that holds some words."""
        while (said := self._next()) is not None:
            if words in said:
                return said
        raise AssertionError(f"ended without {words!r}: {self._said}")

    def release(self) -> None:
        """Let it continue where it stopped."""
        self._connection.send(None)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self) -> Outcome:
        """Wait for the end and return everything that was said."""
        while self._next() is not None:
            pass
        self.process.join(PATIENCE)
        code = self.process.exitcode
        assert code is not None
        return Outcome(
            code=code, output="\n".join(self._said["output"]), errors="\n".join(self._said["errors"])
        )

    def close(self) -> None:
        """End the process, if it still runs, and the connection to it."""
        self.process.kill()
        self.process.join()
        self._connection.close()

    def _next(self) -> str | None:
        if not self._connection.poll(PATIENCE):
            raise AssertionError(f"silent: {self._said}")
        try:
            name, line = self._connection.recv()
        except (EOFError, ConnectionResetError):
            return None
        self._said[name].append(line)
        return str(line)


@contextmanager
def forked(
    *arguments: str | Path, stop_at: str | None = None, prelude: Callable[[], None] | None = None
) -> Iterator[Forked]:
    """Run a command; nothing of it is left if the test fails."""
    running = Forked(*arguments, stop_at=stop_at, prelude=prelude)
    try:
        yield running
    finally:
        running.close()
