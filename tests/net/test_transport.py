import math
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import NamedTuple

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from moiety.errors import (
    ConfigError,
    MalformedMessageError,
    PeerIdentityError,
    PeerTimeoutError,
    PeerUnreachableError,
    TransportError,
)
from moiety.net.channel import MAX_FRAME_BYTES, Channel
from moiety.net.identity import Identity, create_identity, load_identity
from moiety.net.transport import Acceptor, dial
from tests.support.patience import PATIENCE

LOOPBACK = "127.0.0.1:0"


class Parties(NamedTuple):
    bank: Identity
    telco: Identity
    stranger: Identity


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    folder = tmp_path_factory.mktemp("parties")
    # The stranger has the name of the real peer: names prove nothing.
    names = {"bank": "bank", "telco": "telco", "stranger": "telco"}
    for place, name in names.items():
        create_identity(folder / place, name)
    return Parties(*(load_identity(folder / p / "own.key", folder / p / "own.crt") for p in names))


@pytest.fixture
def listener(parties: Parties) -> Iterator[Acceptor]:
    with Acceptor(LOOPBACK, identity=parties.bank, pinned=parties.telco.certificate) as made:
        yield made


def dial_bank(parties: Parties, address: str, *, seconds: float = PATIENCE) -> Channel:
    pinned = parties.bank.certificate
    return dial(address, identity=parties.telco, pinned=pinned, deadline_seconds=seconds)


@contextmanager
def connected(parties: Parties, listener: Acceptor) -> Iterator[tuple[Channel, Channel]]:
    dialled = dial_bank(parties, listener.address)
    accepted = listener.accept(deadline_seconds=PATIENCE)
    try:
        yield dialled, accepted
    finally:
        close_both(dialled, accepted)


def close_both(first: Channel, second: Channel) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first.close), pool.submit(second.close)]:
            done.result()


def expired(identity: Identity) -> Identity:
    key = load_pem_private_key(identity.key, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    old, now = x509.load_pem_x509_certificate(identity.certificate), datetime.now(UTC)
    serial = x509.random_serial_number()
    builder = x509.CertificateBuilder(old.subject, old.issuer, old.public_key(), serial)
    builder = builder.not_valid_before(now - timedelta(2)).not_valid_after(now - timedelta(1))
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    pem = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    return Identity(key=identity.key, certificate=pem)


@contextmanager
def freezable_relay(target: str) -> Iterator[tuple[str, Event]]:
    """Forward one TCP connection until the event is set; then keep it open and forward nothing."""
    frozen, stopped = Event(), Event()
    host, port = target.rsplit(":", 1)
    with socket.create_server(("127.0.0.1", 0)) as door:

        def relay() -> None:
            near, _ = door.accept()
            with near, socket.create_connection((host, int(port))) as far:
                other = {near: far, far: near}
                while not stopped.is_set():
                    for ready in select.select([near, far], [], [], 0.05)[0]:
                        if frozen.is_set():
                            stopped.wait()
                            return
                        data = ready.recv(65536)
                        if not data:
                            return
                        other[ready].sendall(data)

        thread = Thread(target=relay)
        thread.start()
        try:
            yield f"127.0.0.1:{door.getsockname()[1]}", frozen
        finally:
            stopped.set()
            thread.join()


def test_frames_arrive_in_order_both_ways(parties: Parties, listener: Acceptor) -> None:
    frames = [bytes([i % 256]) * (i * 37 % 5000) for i in range(200)]

    def exchange(channel: Channel) -> list[bytes]:
        got = []
        for frame in frames:
            channel.send(frame)
            got.append(channel.receive(deadline_seconds=PATIENCE))
        return got

    with connected(parties, listener) as ends, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(exchange, ends)) == [frames, frames]
        size = sum(map(len, frames))
        assert [(end.bytes_sent, end.bytes_received) for end in ends] == [(size, size)] * 2


def test_largest_frame_passes_unchanged_both_ways(parties: Parties, listener: Acceptor) -> None:
    frame = bytes(range(256)) * (MAX_FRAME_BYTES // 256)
    assert len(frame) == MAX_FRAME_BYTES
    with connected(parties, listener) as (dialled, accepted):
        dialled.send(frame)
        assert accepted.receive(deadline_seconds=PATIENCE) == frame
        accepted.send(frame)
        assert dialled.receive(deadline_seconds=PATIENCE) == frame


def test_frame_over_the_limit_is_refused_before_it_leaves(parties: Parties, listener: Acceptor) -> None:
    with connected(parties, listener) as (dialled, accepted):
        for end in (dialled, accepted):
            with pytest.raises(MalformedMessageError):
                end.send(bytes(MAX_FRAME_BYTES + 1))
            assert end.bytes_sent == 0
        dialled.send(b"still usable")
        assert accepted.receive(deadline_seconds=PATIENCE) == b"still usable"


@pytest.mark.parametrize("excess", [1, 2**20])
def test_frame_over_the_limit_from_the_peer_is_refused(
    parties: Parties, listener: Acceptor, monkeypatch: pytest.MonkeyPatch, excess: int
) -> None:
    with connected(parties, listener) as (dialled, accepted):
        with monkeypatch.context() as careless:
            careless.setattr("moiety.net.transport.require_size", lambda _frame: None)
            dialled.send(bytes(MAX_FRAME_BYTES + excess))
        with pytest.raises((MalformedMessageError, PeerUnreachableError)):
            accepted.receive(deadline_seconds=PATIENCE)


def test_receive_without_a_frame_ends_at_its_deadline(parties: Parties, listener: Acceptor) -> None:
    with connected(parties, listener) as (dialled, accepted):
        for end in (dialled, accepted):
            with pytest.raises(PeerTimeoutError, match="did not answer"):
                end.receive(deadline_seconds=0.05)


@pytest.mark.parametrize("closer", [0, 1])
def test_frames_sent_before_close_arrive_then_the_end(
    parties: Parties, listener: Acceptor, closer: int
) -> None:
    with connected(parties, listener) as ends, ThreadPoolExecutor(1) as pool:
        other = ends[1 - closer]
        for i in range(8):
            ends[closer].send(bytes([i]) * 100_000)
        closing = pool.submit(ends[closer].close)
        for i in range(8):
            assert other.receive(deadline_seconds=PATIENCE) == bytes([i]) * 100_000
        with pytest.raises(PeerUnreachableError):
            other.receive(deadline_seconds=PATIENCE)
        other.close()
        closing.result()


def test_closed_channel_sends_nothing_more(parties: Parties, listener: Acceptor) -> None:
    with connected(parties, listener) as (dialled, accepted):
        close_both(dialled, accepted)
        for end in (dialled, accepted):
            with pytest.raises(PeerUnreachableError):
                end.send(b"late")
            with pytest.raises(PeerUnreachableError):
                end.receive(deadline_seconds=PATIENCE)


def test_listener_that_shows_another_certificate_is_refused(parties: Parties) -> None:
    with (
        Acceptor(LOOPBACK, identity=parties.stranger, pinned=parties.bank.certificate) as other,
        pytest.raises(TransportError) as caught,
    ):
        dial(
            other.address,
            identity=parties.bank,
            pinned=parties.telco.certificate,
            deadline_seconds=1,
        )
    assert other.address in caught.value.message
    assert "certificate" in caught.value.hint


def test_dialler_that_shows_another_certificate_is_refused(parties: Parties, listener: Acceptor) -> None:
    with pytest.raises(TransportError) as caught:
        dial(
            listener.address,
            identity=parties.stranger,
            pinned=parties.bank.certificate,
            deadline_seconds=1,
        )
    assert listener.address in caught.value.message
    assert "certificate" in caught.value.hint
    with pytest.raises(PeerUnreachableError):
        listener.accept(deadline_seconds=0.05)


def test_other_certificate_that_tls_let_through_is_refused(parties: Parties, listener: Acceptor) -> None:
    listener._pinned = parties.stranger.certificate
    with pytest.raises(PeerIdentityError, match="another certificate"):
        dial_bank(parties, listener.address)


def test_other_certificate_gets_in_where_none_is_compared(
    parties: Parties, listener: Acceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control of the test above: a listener that leaves it to TLS lets in whatever TLS lets through."""
    listener._pinned = parties.stranger.certificate
    monkeypatch.setattr("moiety.net.transport.same_certificate", lambda *_: True)
    with connected(parties, listener) as (dialled, accepted):
        dialled.send(b"stranger")
        assert accepted.receive(deadline_seconds=PATIENCE) == b"stranger"


@pytest.mark.parametrize("old", ["listener", "dialler"])
@pytest.mark.slow
def test_expired_certificate_is_refused_by_tls(parties: Parties, old: str) -> None:
    bank = expired(parties.bank) if old == "listener" else parties.bank
    telco = expired(parties.telco) if old == "dialler" else parties.telco
    with Acceptor(LOOPBACK, identity=bank, pinned=telco.certificate) as made:
        with pytest.raises(TransportError):
            dial(made.address, identity=telco, pinned=bank.certificate, deadline_seconds=1)
        with pytest.raises(PeerUnreachableError):
            made.accept(deadline_seconds=0.05)


def test_dialler_without_a_certificate_is_refused(parties: Parties, listener: Acceptor) -> None:
    credentials = grpc.ssl_channel_credentials(parties.bank.certificate)
    options = (("grpc.ssl_target_name_override", "bank"),)
    with grpc.secure_channel(listener.address, credentials, options) as connection:
        call = connection.stream_stream("/moiety.Session/Exchange", None, None)(iter([b"x"]))
        with pytest.raises(grpc.RpcError):
            next(call)
    with pytest.raises(PeerUnreachableError):
        listener.accept(deadline_seconds=0.05)


def test_nobody_at_the_address_names_it_and_the_causes(parties: Parties) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PeerUnreachableError, match=address) as caught:
            dial_bank(parties, address, seconds=0.5)
    assert "started" in caught.value.hint
    assert "firewall" in caught.value.hint


def test_plain_text_peer_is_refused(parties: Parties) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        address = f"127.0.0.1:{plain.getsockname()[1]}"
        with pytest.raises(PeerUnreachableError, match=address):
            dial_bank(parties, address, seconds=0.5)


def test_peer_that_starts_later_is_reached(parties: Parties) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with ThreadPoolExecutor(1) as pool:
        dialling = pool.submit(dial_bank, parties, address)
        with pytest.raises(TimeoutError):
            dialling.result(timeout=0.5)
        with Acceptor(address, identity=parties.bank, pinned=parties.telco.certificate) as late:
            close_both(dialling.result(), late.accept(deadline_seconds=PATIENCE))


def test_garbage_on_the_port_does_not_disturb_the_session(parties: Parties, listener: Acceptor) -> None:
    host, port = listener.address.rsplit(":", 1)
    with connected(parties, listener) as (dialled, accepted):
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\x16\x03\x01\xff\xff" + b"z" * 999):
            with socket.create_connection((host, int(port)), timeout=PATIENCE) as line:
                line.sendall(garbage)
                dialled.send(garbage)
                assert accepted.receive(deadline_seconds=PATIENCE) == garbage
                accepted.send(b"echo")
                assert dialled.receive(deadline_seconds=PATIENCE) == b"echo"


def test_second_session_is_refused_while_one_is_open(
    parties: Parties, listener: Acceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moiety.net.transport.RETRY_SECONDS", math.inf)  # so it tries once
    with connected(parties, listener) as (dialled, accepted):
        with pytest.raises(PeerUnreachableError, match=r"another one|another session"):
            dial_bank(parties, listener.address)
        dialled.send(b"undisturbed")
        assert accepted.receive(deadline_seconds=PATIENCE) == b"undisturbed"


def test_next_session_is_served_after_the_first(parties: Parties, listener: Acceptor) -> None:
    for word in (b"first", b"second"):
        with connected(parties, listener) as (dialled, accepted):
            dialled.send(word)
            assert accepted.receive(deadline_seconds=PATIENCE) == word


def test_accept_without_a_peer_ends_at_its_deadline(listener: Acceptor) -> None:
    with pytest.raises(PeerUnreachableError, match=listener.address) as caught:
        listener.accept(deadline_seconds=0.05)
    assert caught.value.hint


def test_port_in_use_names_the_address(parties: Parties, listener: Acceptor) -> None:
    with pytest.raises(ConfigError, match=listener.address) as caught:
        Acceptor(listener.address, identity=parties.bank, pinned=parties.telco.certificate)
    assert "port" in caught.value.hint


def test_port_zero_is_replaced_by_the_one_taken(listener: Acceptor) -> None:
    host, port = listener.address.rsplit(":", 1)
    assert host == "127.0.0.1"
    assert int(port) > 0


def test_send_ends_when_a_slow_peer_disappears(parties: Parties, listener: Acceptor) -> None:
    frame = bytes(2**20)
    with connected(parties, listener) as (dialled, accepted), ThreadPoolExecutor(1) as pool:

        def fill() -> None:
            while True:
                dialled.send(frame)

        filling = pool.submit(fill)
        accepted.receive(deadline_seconds=PATIENCE)
        accepted.close()
        with pytest.raises(PeerUnreachableError):
            filling.result(timeout=PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize("waiting", [0, 1])
def test_peer_that_vanishes_without_a_word_is_noticed(
    parties: Parties, listener: Acceptor, waiting: int
) -> None:
    with freezable_relay(listener.address) as (address, frozen):
        ends = (dial_bank(parties, address), listener.accept(deadline_seconds=PATIENCE))
        ends[0].send(b"alive")
        assert ends[1].receive(deadline_seconds=PATIENCE) == b"alive"
        frozen.set()
        with pytest.raises(PeerUnreachableError):
            ends[waiting].receive(deadline_seconds=PATIENCE)
        close_both(*ends)
