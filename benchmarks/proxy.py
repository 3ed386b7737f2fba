"""A TCP connection made slow: each direction has a delay and a rate; for benchmarks, on this machine only.

Bytes leave one after the other at the rate and arrive a one-way delay later, in order. What was read and has
not arrived yet is bounded: the sender then waits, as it would for a full window.
`python -m benchmarks.proxy PORT TARGET_PORT` runs until its standard input ends.
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ADDRESS: Final = "127.0.0.1"
PIECE: Final = 2**14
MEGABIT: Final = 125_000.0
"""Bytes a second."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A slow line.

    Args:
        delay: seconds from one end to the other.
        rate: bytes a second in each direction.
    """

    delay: float = 0.05
    rate: float = 100 * MEGABIT

    @property
    def text(self) -> str:
        """The line as it is printed."""
        return f"{self.delay * 1e3:g} ms each way, {self.rate / MEGABIT:g} Mbit/s"

    def seconds(self, *, size: float) -> float:
        """Return the time that bytes take to leave."""
        return size / self.rate

    @property
    def pieces(self) -> int:
        """Pieces on their way: what the line holds, and as much again."""
        return max(4, int(2 * self.delay * self.rate / PIECE))


class Proxy:
    """Accepts connections and hands them on to a port of this machine."""

    def __init__(self, line: Line, *, target: int) -> None:
        self._line = line
        self._target = target

    async def serve(self, port: int) -> asyncio.Server:
        """Listen on a port of the loopback interface; 0 takes a free one."""
        return await asyncio.start_server(self._accept, ADDRESS, port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(ADDRESS, self._target)
        except OSError:
            await _close(writer)
            return
        await self.join((reader, writer), (far_reader, far_writer))
        for each in (writer, far_writer):
            await _close(each)

    async def join(self, near: Ends, far: Ends) -> None:
        """Carry both directions of one connection until they end."""
        await asyncio.gather(carry(self._line, near[0], far[1]), carry(self._line, far[0], near[1]))


async def carry(line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction until it ends."""
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(line.pieces)
    delivery = asyncio.ensure_future(_deliver(queue, writer))
    clock, free = asyncio.get_running_loop().time, 0.0
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(PIECE):
            free = max(free, clock()) + line.seconds(size=len(piece))
            await queue.put((free + line.delay, piece))
    await queue.put((clock() + line.delay, b""))
    await delivery


async def _deliver(queue: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
    clock = asyncio.get_running_loop().time
    gone = False
    while True:
        moment, piece = await queue.get()
        await asyncio.sleep(max(0.0, moment - clock()))
        if not piece:
            break
        if not gone:
            try:
                writer.write(piece)
                await writer.drain()
            except ConnectionError:
                gone = True  # the sender is read to its end all the same
    with contextlib.suppress(OSError, RuntimeError):  # the other end may have gone before
        writer.write_eof()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@contextlib.contextmanager
def slow_line(line: Line, *, port: int, target: int) -> Iterator[None]:
    """Run the proxy in a process of its own, so that it takes no turns with what is measured."""
    command = [sys.executable, "-m", "benchmarks.proxy", str(port), str(target)]
    command += ["--delay", str(line.delay), "--rate", str(line.rate)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdout.readline()  # it listens
        yield
    finally:
        process.stdin.close()
        process.wait(10)


async def _main(line: Line, port: int, target: int) -> None:
    server = await Proxy(line, target=target).serve(port)
    print("listening", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxy", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("target", type=int)
    parser.add_argument("--delay", type=float, default=Line.delay)
    parser.add_argument("--rate", type=float, default=Line.rate)
    given = parser.parse_args()
    asyncio.run(_main(Line(delay=given.delay, rate=given.rate), given.port, given.target))
