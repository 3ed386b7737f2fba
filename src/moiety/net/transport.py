"""Frames over the network: gRPC streams of opaque bytes under mutual TLS with pinned certificates.

One bidirectional stream carries one session. Which side listens is configuration; nothing else differs.
Knows nothing of messages. Limits: frames of `MAX_FRAME_BYTES`, eight of them waiting in each direction.
"""

import os
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc

from moiety.errors import ConfigError, PeerIdentityError, PeerTimeoutError, PeerUnreachableError
from moiety.net import signals
from moiety.net.channel import MAX_FRAME_BYTES, require_size
from moiety.net.identity import Identity, host_name, same_certificate

# gRPC's C core writes its own lines to standard error, for failures that are reported here anyway.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

Taken = TypeVar("Taken")
QUEUED_FRAMES: Final = 8
FLUSH_SECONDS: Final = 5.0
CONNECTIONS: Final = 8
RETRY_SECONDS: Final = 0.3
_POLL_SECONDS: Final = 0.2
_SERVICE: Final = "moiety.Session"
_METHOD: Final = "Exchange"
_LIMIT: Final = MAX_FRAME_BYTES + 1024
_OPTIONS: Final = (
    ("grpc.max_send_message_length", _LIMIT),
    ("grpc.max_receive_message_length", _LIMIT),
    # A peer that has vanished is noticed within about ten seconds.
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 5000),
    # The limit that counts: without it an unanswered ping was not noticed in 45 s (grpcio 1.85).
    ("grpc.http2.ping_timeout_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
    ("grpc.http2.max_ping_strikes", 0),
    # Quick retries while the peer has not started yet.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Strangers who connect and say nothing are gone after this.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),
    # The pinned peer is dialled directly, whatever proxy the environment names.
    ("grpc.enable_http_proxy", 0),
)
_GONE: Final = "the connection to the peer has ended"
_CAUSES: Final = (
    "check that the peer has started, that a firewall lets the connection through, and that each side "
    "pinned the certificate the other side uses"
)


def _get(source: "queue.Queue[Taken]", *, seconds: float | None) -> Taken:
    """Take from a queue, and let signals through between two waits.

    Raises:
        queue.Empty: nothing came in time.
    """
    until = inf if seconds is None else time.monotonic() + seconds
    with signals.deferred():
        while True:
            left = until - time.monotonic()
            try:
                return source.get(timeout=max(0.0, min(left, _POLL_SECONDS)))
            except queue.Empty:
                if left <= 0:
                    raise
            signals.check_waiting()


class StreamChannel:
    """One end of a session's stream; made by `dial` and `Acceptor`."""

    def __init__(self) -> None:
        self._inbox: queue.Queue[bytes | None] = queue.Queue(QUEUED_FRAMES)
        self._outbox: queue.Queue[bytes | None] = queue.Queue(QUEUED_FRAMES)
        self._gone = threading.Event()
        self._ended = threading.Event()
        self._drained = threading.Event()
        self._closed = False
        self.bytes_sent = 0
        self.bytes_received = 0

    def send(self, frame: bytes) -> None:
        """Send one frame; waits while eight are unsent.

        Raises:
            MalformedMessageError: the frame exceeds the limit.
            PeerUnreachableError: the connection is gone.

        Leaks:
            The frame to the peer; its size and time to the network.
        """
        require_size(frame)
        with signals.deferred():
            sent = not self._closed and self._put(self._outbox, frame, interruptible=True)
        if not sent:
            raise PeerUnreachableError(_GONE, hint="see the peer's output, then start the run again")
        self.bytes_sent += len(frame)

    def receive(self, *, deadline_seconds: float) -> bytes:
        """Return the next frame.

        Raises:
            PeerUnreachableError: the connection is gone and every frame that came was returned.
            PeerTimeoutError: no frame came before the deadline.
        """
        if self._ended.is_set() and self._inbox.empty():
            raise PeerUnreachableError(_GONE, hint="see the peer's output, then start the run again")
        try:
            frame = _get(self._inbox, seconds=deadline_seconds)
        except queue.Empty as error:
            raise PeerTimeoutError(
                f"the peer is connected but did not answer within {deadline_seconds:g} s",
                hint="see whether the peer is still working; raise answer_deadline if it is",
            ) from error
        if frame is None:
            raise PeerUnreachableError(_GONE, hint="see the peer's output, then start the run again")
        require_size(frame)
        self.bytes_received += len(frame)
        return frame

    def close(self) -> None:
        """Deliver what was sent, waiting at most five seconds, and end the stream."""
        with signals.deferred():
            if self._closed:
                return
            self._closed = True
            self._put(self._outbox, None)
            self._drained.wait(2 * FLUSH_SECONDS)
            self._after_close()
            self._gone.set()

    def _after_close(self) -> None:
        """Do what this end needs once everything was handed over."""

    def _after_end(self) -> None:
        """Do what this end needs once the peer sends nothing more."""

    def outgoing(self) -> Iterator[bytes]:
        """Yield what is to be sent until `close`; runs in one of gRPC's threads."""
        try:
            while not self._gone.is_set():
                try:
                    frame = self._outbox.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    continue
                if frame is None:
                    return
                yield frame
        finally:
            self._drained.set()

    def feed(self, frames: Iterable[bytes]) -> None:
        """Take what the peer sends until the stream ends; runs in a thread."""
        try:
            for frame in frames:
                if not self._put(self._inbox, frame):
                    return
        except (grpc.RpcError, ValueError):
            # How a stream ended is of no use to the caller: the last frames say what the peer meant.
            self._gone.set()
        finally:
            self._ended.set()
            self._after_end()
            self._put_end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _put(
        self, target: "queue.Queue[bytes | None]", frame: bytes | None, *, interruptible: bool = False
    ) -> bool:
        while not self._gone.is_set():
            if interruptible:
                signals.check_waiting()
            try:
                target.put(frame, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def _put_end(self) -> None:
        while not self._closed:
            try:
                self._inbox.put(None, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return


class DialledChannel(StreamChannel):
    """The end that made the connection."""

    def __init__(self, connection: grpc.Channel) -> None:
        super().__init__()
        self._connection = connection
        stub = connection.stream_stream(f"/{_SERVICE}/{_METHOD}", None, None)
        self._call = stub(self.outgoing())
        self._reader = threading.Thread(target=self.feed, args=(self._call,), daemon=True)

    def open(self, address: str) -> None:
        """Wait until the listener has taken the session.

        Raises:
            PeerIdentityError: it does not accept this side's certificate.
            PeerUnreachableError: it refused, or went away.
        """
        self._call.initial_metadata()
        # A session that the peer took and has ended already is no refusal: `receive` says how it went.
        code = grpc.StatusCode.OK if self._call.is_active() else self._call.code()
        if code is not grpc.StatusCode.OK:
            self._gone.set()
            self._connection.close()
            if code is grpc.StatusCode.UNAUTHENTICATED:
                raise PeerIdentityError(
                    f"the peer at {address} pinned another certificate for this side",
                    hint="send the peer own.crt again and compare fingerprints by telephone",
                )
            raise PeerUnreachableError(
                f"the peer at {address} refused the session"
                + (": it is in another one" if code is grpc.StatusCode.RESOURCE_EXHAUSTED else ""),
                hint="wait until the peer's present session is over, then start again",
            )
        self._reader.start()

    def _after_end(self) -> None:
        # The listener's end is the end of the stream: nobody will take what a `send` waits to hand over.
        self._gone.set()

    def _after_close(self) -> None:
        self._reader.join(FLUSH_SECONDS)
        self._call.cancel()
        self._connection.close()


def dial(address: str, *, identity: Identity, pinned: bytes, deadline_seconds: float) -> DialledChannel:
    """Connect to a listening peer, trying again until the deadline: also while it is in another session.

    Args:
        address: "host:port".
        identity: own key and certificate.
        pinned: the only certificate accepted from the peer, as PEM.
        deadline_seconds: how long to try.

    Raises:
        PeerUnreachableError: no connection was made; the message names likely causes.
        PeerIdentityError: the peer does not accept this side's certificate.

    Leaks:
        Own certificate to whoever answers.
    """
    until = time.monotonic() + deadline_seconds
    while True:
        left = max(until - time.monotonic(), 0.0)
        try:
            return _dial_once(address, identity=identity, pinned=pinned, seconds=left)
        except grpc.FutureTimeoutError as error:
            raise PeerUnreachableError(
                f"no connection to {address} within {deadline_seconds:g} s", hint=_CAUSES
            ) from error
        except PeerUnreachableError:
            if time.monotonic() + RETRY_SECONDS >= until:
                raise
        time.sleep(RETRY_SECONDS)


def _dial_once(address: str, *, identity: Identity, pinned: bytes, seconds: float) -> DialledChannel:
    credentials = grpc.ssl_channel_credentials(
        root_certificates=pinned,
        private_key=identity.key,
        certificate_chain=identity.certificate,
    )
    # The pinned certificate is the only root and no authority, so that it is the only one accepted.
    name = ("grpc.ssl_target_name_override", host_name(pinned))
    connection = grpc.secure_channel(address, credentials, options=(*_OPTIONS, name))
    try:
        _wait_ready(connection, seconds)
        channel = DialledChannel(connection)
        channel.open(address)
    except BaseException:
        connection.close()
        raise
    return channel


def _wait_ready(connection: grpc.Channel, seconds: float) -> None:
    until = time.monotonic() + seconds
    with signals.deferred():
        ready = grpc.channel_ready_future(connection)
        while True:
            left = until - time.monotonic()
            try:
                ready.result(timeout=max(0.0, min(left, _POLL_SECONDS)))
            except grpc.FutureTimeoutError:
                if left <= 0:
                    ready.cancel()
                    raise
                signals.check_waiting()
            else:
                return


class Acceptor:
    """Waits for the pinned peer, one session at a time; a context manager.

    Args:
        address: "host:port"; port 0 takes a free one.
        identity: own key and certificate.
        pinned: the only certificate accepted from the peer, as PEM.

    Raises:
        ConfigError: the address cannot be listened at.
    """

    def __init__(self, address: str, *, identity: Identity, pinned: bytes) -> None:
        self._pinned = pinned
        self._waiting: queue.Queue[StreamChannel] = queue.Queue()
        self._session = threading.Lock()
        self._server = grpc.server(
            ThreadPoolExecutor(CONNECTIONS), options=_OPTIONS, maximum_concurrent_rpcs=CONNECTIONS
        )
        handler = grpc.stream_stream_rpc_method_handler(self._exchange, None, None)
        service = grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: handler})
        self._server.add_generic_rpc_handlers((service,))
        credentials = grpc.ssl_server_credentials(
            [(identity.key, identity.certificate)],
            root_certificates=pinned,
            require_client_auth=True,
        )
        self.address = _bind(self._server, address, credentials)
        self._server.start()

    def accept(self, *, deadline_seconds: float | None = None) -> StreamChannel:
        """Return the next session's channel; without a deadline, wait as long as it takes.

        Raises:
            PeerUnreachableError: nobody with the pinned certificate connected before the deadline.
        """
        try:
            return _get(self._waiting, seconds=deadline_seconds)
        except queue.Empty as error:
            raise PeerUnreachableError(
                f"nobody connected to {self.address} within {deadline_seconds:g} s", hint=_CAUSES
            ) from error

    def close(self) -> None:
        """Let the session under way end, then stop listening."""
        self._server.stop(FLUSH_SECONDS).wait(2 * FLUSH_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _exchange(self, frames: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        presented: list[bytes] = context.auth_context().get("x509_pem_cert", [])
        if not presented or not same_certificate(presented[0], self._pinned):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "certificate")
        if not self._session.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        try:
            yield from self._serve(frames, context)
        finally:
            self._session.release()

    def _serve(self, frames: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        channel = StreamChannel()
        context.add_callback(channel._gone.set)  # noqa: SLF001 - the end that this module makes
        context.send_initial_metadata(())
        reader = threading.Thread(target=channel.feed, args=(frames,), daemon=True)
        reader.start()
        self._waiting.put(channel)
        yield from channel.outgoing()


def _bind(server: grpc.Server, address: str, credentials: Any) -> str:
    host, _, port = address.rpartition(":")
    try:
        taken = server.add_secure_port(address, credentials)
    except RuntimeError:
        taken = 0
    if taken == 0:
        raise ConfigError(
            f"{address} cannot be listened at",
            hint=f"choose another: a program may use port {port}, or this machine has no address {host}",
        )
    return f"{host}:{taken}"
