"""The slow line, on a clock that stands still unless everybody waits."""

import asyncio
import selectors
from collections.abc import Coroutine

import pytest

from benchmarks.proxy import ADDRESS, MEGABIT, PIECE, Line, Proxy, carry

LINE = Line(delay=0.5, rate=1000.0)


class Waiting(selectors.DefaultSelector):
    """Lets time pass at once where a loop would sleep."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop on that clock."""

    def __init__(self) -> None:
        self.waiting = Waiting()
        super().__init__(self.waiting)

    def time(self) -> float:
        return self.waiting.now


class Arrivals:
    """A writer that notes when bytes come."""

    def __init__(self, *, broken: bool = False) -> None:
        self.pieces: list[tuple[float, int]] = []
        self.ended = False
        self._broken = broken

    def write(self, piece: bytes) -> None:
        self.pieces.append((asyncio.get_running_loop().time(), len(piece)))

    async def drain(self) -> None:
        if self._broken:
            raise ConnectionResetError

    def write_eof(self) -> None:
        self.ended = True


def run(work: Coroutine[object, object, None]) -> None:
    loop = Loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


async def close(each: asyncio.Server | asyncio.StreamWriter) -> None:
    each.close()
    await each.wait_closed()


async def carried(line: Line, arrivals: Arrivals, *parts: bytes) -> None:
    reader = asyncio.StreamReader()
    for part in parts:
        reader.feed_data(part)
    reader.feed_eof()
    await carry(line, reader, arrivals)  # type: ignore[arg-type]


def test_bench_line_delays_and_then_limits_the_rate() -> None:
    arrivals = Arrivals()
    run(carried(LINE, arrivals, bytes(3 * PIECE)))
    each = PIECE / LINE.rate
    assert [size for _, size in arrivals.pieces] == [PIECE] * 3
    assert [when for when, _ in arrivals.pieces] == pytest.approx([k * each + 0.5 for k in (1, 2, 3)])
    assert arrivals.ended


def test_bench_line_of_a_broken_end_reads_on_and_ends() -> None:
    arrivals = Arrivals(broken=True)
    run(carried(LINE, arrivals, bytes(5 * PIECE)))
    assert len(arrivals.pieces) == 1
    assert arrivals.ended


def test_bench_line_holds_no_more_than_twice_its_delay() -> None:
    line = Line(delay=0.05, rate=100 * MEGABIT)
    assert line.pieces * PIECE <= 2 * line.delay * line.rate < (line.pieces + 1) * PIECE
    assert line.text == "50 ms each way, 100 Mbit/s"


def test_bench_proxy_carries_both_directions_and_their_ends() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"heard " + await reader.read())
        await close(writer)

    async def talk() -> None:
        target = await asyncio.start_server(echo, ADDRESS, 0)
        port = target.sockets[0].getsockname()[1]
        server = await Proxy(Line(delay=0.0, rate=1e12), target=port).serve(0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"words")
        writer.write_eof()
        assert await reader.read() == b"heard words"
        await close(writer)
        await close(server)
        await close(target)

    asyncio.run(talk())


def test_bench_proxy_to_nobody_closes() -> None:
    async def talk() -> None:
        unused = await asyncio.start_server(lambda *_: None, ADDRESS, 0)
        port = unused.sockets[0].getsockname()[1]
        await close(unused)
        server = await Proxy(Line(), target=port).serve(0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        await close(writer)
        await close(server)

    asyncio.run(talk())
