"""Trainings over loopback with a proxy between the parties, and what they came to."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from moiety.config import load_run
from moiety.config.listener import SILENT, Listener
from moiety.contract.products import Role
from moiety.errors import MoietyError
from moiety.net import transport
from moiety.net.frame import decode_frame
from moiety.party.data_owner.provide import provide
from moiety.party.label_owner.train import train
from moiety.store import model as checkpoint
from tests.support.parties import Files, configure, free_address, let_data_owner_dial
from tests.support.patience import PATIENCE
from tests.support.proxy import Fault, FaultyProxy
from tests.support.randomness import RecordedRandomness


@dataclass(kw_only=True)
class FaultyRun:
    """What a training over a faulty proxy came to.

    Attributes:
        weights: both saved shares, added up.
        seeds: how many each party drew.
        frames: by role and number, the different frames that were sent; one each, unless one was made again.
        connections: through the proxy.
        struck: faults that happened.
        attempts: of the label owner's command.
    """

    weights: NDArray[np.uint64]
    seeds: tuple[int, int]
    frames: dict[tuple[Role, int], set[bytes]] = field(default_factory=dict)
    connections: int = 0
    struck: int = 0
    attempts: int = 1


def saved_share(run_file: Path) -> NDArray[np.uint64]:
    """Read a party's share of W from its saved model."""
    arrays, _ = checkpoint.load_model(load_run(run_file).folder)
    return arrays["share"]


def run_with(
    files: Files,
    faults: Sequence[Fault | None],
    monkeypatch: pytest.MonkeyPatch,
    *,
    label_owner_listens: bool = False,
    listener: Listener = SILENT,
) -> FaultyRun:
    """Train through a proxy that breaks connections, and start again what ended before its handshake."""
    address = free_address()
    frames = record_frames(monkeypatch)
    with FaultyProxy(int(address.rsplit(":", 1)[1]), faults) as proxy:
        if label_owner_listens:
            let_data_owner_dial(files, proxy.address)
            configure(files.label_owner, {"peer.listen": address})
        else:
            configure(files.data_owner, {"peer.listen": address})
            configure(files.label_owner, {"peer.dial": proxy.address})
        peer = _Peer(files)
        peer.start()
        attempts, label_source = _train(files, listener)
        peer.join(PATIENCE)
        assert not peer.is_alive()
        assert peer.source is not None
        return FaultyRun(
            weights=saved_share(files.label_owner) + saved_share(files.data_owner),
            seeds=(len(label_source.given), len(peer.source.given)),
            frames=frames,
            connections=proxy.connections,
            struck=proxy.struck,
            attempts=attempts,
        )


def _train(files: Files, listener: Listener) -> tuple[int, RecordedRandomness]:
    for attempt in range(1, 4):
        source = RecordedRandomness(b"label owner")
        try:
            train(files.label_owner, listener=listener, randomness=source)
        except MoietyError:
            continue
        return attempt, source
    raise AssertionError("three attempts failed")


class _Peer(threading.Thread):
    """A data owner that answers one training, and is started again where a handshake failed."""

    def __init__(self, files: Files) -> None:
        super().__init__(daemon=True)
        self._files = files
        self.source: RecordedRandomness | None = None

    def run(self) -> None:
        for _ in range(3):
            source = RecordedRandomness(b"data owner")
            try:
                provide(self._files.data_owner, once=True, listener=SILENT, randomness=source)
            except MoietyError:
                continue
            self.source = source
            return


def record_frames(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[Role, int], set[bytes]]:
    """Record every numbered frame that is handed to the transport from here on."""
    frames: dict[tuple[Role, int], set[bytes]] = {}
    send = transport.StreamChannel.send

    def recording(channel: transport.StreamChannel, data: bytes) -> None:
        frame = decode_frame(data)
        if frame.block.kind.name not in ("RECONNECT", "ACKNOWLEDGE", "ABORT"):
            frames.setdefault((frame.role, frame.sequence), set()).add(data)
        send(channel, data)

    monkeypatch.setattr(transport.StreamChannel, "send", recording)
    return frames


def notice_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a vanished peer be noticed after about a second instead of ten."""
    quick = {
        "grpc.keepalive_time_ms": 500,
        "grpc.keepalive_timeout_ms": 500,
        "grpc.http2.ping_timeout_ms": 500,
        "grpc.http2.min_ping_interval_without_data_ms": 200,
        "grpc.http2.min_recv_ping_interval_without_data_ms": 200,
    }
    options = tuple((name, quick.get(name, value)) for name, value in transport._OPTIONS)
    monkeypatch.setattr(transport, "_OPTIONS", options)
