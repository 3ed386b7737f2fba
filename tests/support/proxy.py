"""A proxy below TLS, on loopback, that breaks connections at the byte it is told to; a context manager.

What is wrong with a connection stands in a list, one entry for each connection in turn; later ones are sound.
"""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from benchmarks.proxy import ADDRESS, Ends, Line, Proxy, carry
from tests.support.patience import PATIENCE

Kind = Literal["cut", "truncate", "corrupt", "stall", "hold", "freeze", "slow"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one connection.

    Args:
        kind: "cut" resets it; "truncate" ends it in order, in the middle of what was sent; "corrupt" inverts
            a byte; "stall" holds both directions for a while, "hold" until another connection comes; "freeze"
            carries nothing any more and says nothing; "slow" delays every byte.
        at: bytes of its direction that pass before.
        answers: the direction is that of the side that listens.
        seconds: of the stall, or of the delay.
    """

    kind: Kind
    at: int = 0
    answers: bool = False
    seconds: float = 0.0


class FaultyProxy(Proxy):
    """Carries connections to a port, with faults.

    Args:
        target: the port.
        faults: one for each connection, in turn.

    Attributes:
        port: where it listens.
        connections: carried so far.
        struck: faults that happened.
    """

    def __init__(self, target: int, faults: Iterable[Fault | None]) -> None:
        super().__init__(Line(delay=0.0, rate=1e9), target=target)
        self._faults = iter(faults)
        self._ready = threading.Event()
        self._joins: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self.port = 0
        self.connections = 0
        self.struck = 0

    async def join(self, near: Ends, far: Ends) -> None:
        """Carry one connection with its fault."""
        self.connections += 1
        if self.connections > 1:
            self._another.set()
        current = asyncio.current_task()
        assert current is not None
        self._joins.add(current)
        current.add_done_callback(self._joins.discard)
        fault = next(self._faults, None)
        if fault is None or fault.kind == "slow":
            delay = 0.0 if fault is None else fault.seconds
            line = Line(delay=delay, rate=1e9)
            self.struck += fault is not None
            await asyncio.gather(carry(line, near[0], far[1]), carry(line, far[0], near[1]))
            return
        flow = asyncio.Event()
        flow.set()
        sides = ((near, far), (far, near))
        tasks = [
            asyncio.ensure_future(
                self._carry(ends[0], other[1], flow, fault if fault.answers is (ends is far) else None)
            )
            for ends, other in sides
        ]
        ended = asyncio.ensure_future(self._end.wait())
        await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        for writer in (near[1], far[1]):
            if fault.kind == "cut":
                writer.transport.abort()
            else:
                writer.close()
        for task in (*tasks, ended):
            task.cancel()
        await asyncio.gather(*tasks, ended, return_exceptions=True)

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flow: asyncio.Event,
        fault: Fault | None,
    ) -> None:
        passed = 0
        while piece := await reader.read(2**14):
            await flow.wait()
            if fault is not None and passed + len(piece) > fault.at:
                keep = fault.at - passed
                self.struck += 1
                if fault.kind in ("cut", "truncate"):
                    writer.write(piece[:keep])
                    return
                if fault.kind == "corrupt":
                    piece = piece[:keep] + bytes([piece[keep] ^ 0xFF]) + piece[keep + 1 :]
                else:
                    flow.clear()
                    if fault.kind == "hold":
                        await self._another.wait()
                    else:
                        await asyncio.sleep(fault.seconds if fault.kind == "stall" else 3600)
                    flow.set()
                fault = None
            passed += len(piece)
            writer.write(piece)
            await writer.drain()

    async def _main(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._another = asyncio.Event()
        server = await self.serve(0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        if self._joins:
            await asyncio.wait(self._joins, timeout=PATIENCE)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{ADDRESS}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
