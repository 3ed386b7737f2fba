"""Entity alignment: both parties find the rows that they have in common, and bring them into one order.

    label owner -> data owner   ALIGNMENT        what is compared, number of ids, alignment it has kept
    data owner -> label owner   ALIGNMENT        the same
        where both have kept the same alignment, this is the end
    label owner -> data owner   BLINDED_IDS      a H(x) for its ids, in an order of its own drawing
    data owner -> label owner   DOUBLY_BLINDED   a b H(x), in the order in which they came
                                BLINDED_IDS      b H(y) for its ids, in an order of its own drawing
    label owner -> data owner   DOUBLY_BLINDED   a b H(y), in the order in which they came
                                ALIGNED          digest of the common ones in ascending order
    data owner -> label owner   ALIGNED          the same

Each knows which of its rows an element of its own stands for, and of the peer's elements only whether
they are among its own. Scalars and orders are drawn anew for each alignment. A side sends only after it
has taken all that was expected, so that neither waits for a reader; elements are multiplied as they come.
Semi-honest parties, as everywhere; ids that are easy to guess are no secret from a peer that puts guesses
into its table.

Pure state machines, one for each role. Reference: docs/adr/0015-entity-alignment.md; the protocol is that of
Meadows (1986) and Huberman, Franklin and Hogg (1999).
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from moiety.contract.terms import WIRE_VERSION, Hex32, Name, decode_terms, encode_terms
from moiety.crypto.psi import ELEMENT_BYTES, Blinding, Elements, Group, Rows, intersect, require_distinct
from moiety.crypto.sampling import Randomness
from moiety.crypto.scheme import MapFunction
from moiety.crypto.secret import Secret
from moiety.errors import (
    AlignmentError,
    ContractMismatchError,
    LocalProtocolError,
    MalformedMessageError,
    RemoteProtocolError,
)
from moiety.protocol.messages import Block, Kind
from moiety.protocol.product import Collector, blocks_of

IDS_LIMIT: Final = 2**26
BLOCK_ELEMENTS: Final = 2**15
"""Elements of a block: 1 MiB, about a second of one core."""
_RULE = Annotated[str, Field(pattern=r"^[a-z]{1,16}$")]
_HINTS: Final = {
    "wire_version": "the same wire_version comes with the same version of moiety on both sides",
    "columns": "name as many id columns under [table] on both sides, or none on either",
    "normalise": "both parties write the same rules, in the same order, into normalise under [table]",
}

Progress = Callable[[int, int], None]
"""Told how many elements are done, and of how many."""


class AlignmentTerms(BaseModel):
    """What a party states before ids are compared.

    Args:
        wire_version: of the message format.
        run: the run's name in both run files.
        columns: id columns; 0 where the run file names none.
        normalise: names of the rules of each.
        ids: distinct ids that this side has; not compared.
        kept: digest of an alignment of an earlier session that still fits this side's table, or empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    wire_version: int = WIRE_VERSION
    run: Name
    columns: Annotated[int, Field(ge=0, le=64)]
    normalise: Annotated[tuple[Annotated[tuple[_RULE, ...], Field(max_length=16)], ...], Field(max_length=64)]
    ids: Annotated[int, Field(ge=0, le=IDS_LIMIT)]
    kept: Hex32 | Annotated[str, Field(max_length=0)] = ""


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """What an alignment found.

    Args:
        digest: of the common ids in their order; the same on both sides.
        places: which of own ids they are, in that order; None where the kept alignment holds.
        peer_ids: how many the peer has.
    """

    digest: bytes
    places: Rows | None
    peer_ids: int


class Alignment(Secret, ABC):
    """One party's machine.

    Args:
        terms: what this side states.
        elements: gives own distinct ids as elements, (count, 32); asked only if they are needed.
        group: of the elements.
        randomness: where scalar and order come from.
        map_function: spreads pieces of the work.
        progress: told after each block.
    """

    def __init__(
        self,
        terms: AlignmentTerms,
        *,
        elements: Callable[[], Elements],
        group: Group,
        randomness: Randomness,
        map_function: MapFunction = map,
        progress: Progress = lambda done, count: None,  # noqa: ARG005
    ) -> None:
        self._terms = terms
        self._hashed = elements
        self._group = group
        self._randomness = randomness
        self._map = map_function
        self._progress = progress
        self._blinding: Blinding | None = None
        self._expected: list[tuple[Collector, list[bytes]]] = []
        self._shuffled: Elements = np.zeros((0, ELEMENT_BYTES), dtype=np.uint8)
        self._peer_ids = 0
        self._found: tuple[Rows, bytes] | None = None
        self._result: Aligned | None = None
        self._closed = False
        self._work = (0, 0)

    @property
    def result(self) -> Aligned | None:
        """What was found; None while blocks are expected."""
        return self._result

    def receive(self, block: Block) -> Iterator[Block]:
        """Take a block; yield what answers it. Any error closes the machine for good.

        Raises:
            RemoteProtocolError: the block is not expected, or the peer found something else.
            ContractMismatchError: the parties differ in a field.
            MalformedMessageError: an element is none, or comes twice.
            AlignmentError: no id is common.

        Leaks:
            To the peer: the number of own ids, which of its own ids are common, and nothing else.
        """
        # One alignment, one scalar: a second one under the same scalar would let a peer test ids of its
        # choice one by one (ADR 0015).
        if self._closed or self._result is not None:
            raise LocalProtocolError("the alignment is over")
        try:
            yield from self._take(block)
        except BaseException:
            self._closed = True
            raise

    def _take(self, block: Block) -> Iterator[Block]:
        if not self._expected:
            yield from self._first(block)
            return
        collector, taken = next(each for each in self._expected if not each[0].complete)
        collector.receive(block)
        taken.append(self._multiplied(block) if block.kind is Kind.BLINDED_IDS else block.payload)
        if all(each.complete for each, _ in self._expected):
            messages = [b"".join(parts) for _, parts in self._expected]
            raw = [b"".join(each.payloads) for each, _ in self._expected]
            self._expected = []
            yield from self._complete(raw, messages)

    def _multiplied(self, block: Block) -> bytes:
        elements = _elements(block.payload)
        multiplied = self._secret.multiply(elements).tobytes()
        self._advance(len(elements))
        return multiplied

    def _agree(self, peer: AlignmentTerms) -> bool:
        """Compare terms; tell whether the alignment that both have kept holds."""
        for field in ("wire_version", "run", "columns", "normalise"):
            own, other = getattr(self._terms, field), getattr(peer, field)
            if own != other:
                shown = (_shown(own), _shown(other))
                raise ContractMismatchError(
                    field=field, own=shown[0], peer=shown[1], hint=_HINTS.get(field, "")
                )
        self._peer_ids = peer.ids
        if self._terms.kept and self._terms.kept == peer.kept:
            self._result = Aligned(digest=bytes.fromhex(peer.kept), places=None, peer_ids=peer.ids)
            return True
        if not peer.ids:
            raise MalformedMessageError("the peer has no ids to align")
        self._work = (0, self._terms.ids + peer.ids)
        return False

    def _blinded(self) -> Iterator[Block]:
        """Yield own ids blinded, in an order of own drawing."""
        shuffled = self._shuffled
        starts = range(0, len(shuffled), BLOCK_ELEMENTS)
        pieces = (self._blinded_piece(shuffled[start : start + BLOCK_ELEMENTS]) for start in starts)
        return blocks_of(Kind.BLINDED_IDS, pieces, step=0, count=len(starts))

    def _draw(self) -> None:
        """Hash own ids, and draw scalar and order."""
        own = self._hashed()
        self._blinding = Blinding(
            self._group, count=len(own), randomness=self._randomness, map_function=self._map
        )
        self._shuffled = own[self._blinding.order]

    def _blinded_piece(self, elements: Elements) -> bytes:
        blinded = self._secret.multiply(elements).tobytes()
        self._advance(len(elements))
        return blinded

    def _find(self, own: bytes, peer: bytes) -> bytes:
        """Intersect the doubly blinded ids; return the digest to compare."""
        places, digest = intersect(_elements(own), _elements(peer))
        self._found = (self._secret.order[places], digest)
        return digest

    def _end(self, digest: bytes) -> None:
        """Take the peer's digest.

        Raises:
            RemoteProtocolError: it found something else.
            AlignmentError: nothing is common.
        """
        assert self._found is not None
        places, own_digest = self._found
        if digest != own_digest:
            raise RemoteProtocolError("the parties found different rows in common", hint="align again")
        if not len(places):
            raise AlignmentError(
                f"none of {self._terms.ids} own ids is among the peer's {self._peer_ids}",
                hint="compare with the peer which columns id names and how their values are written: "
                "normalise under [table] brings both into one form",
            )
        self._result = Aligned(digest=digest, places=places, peer_ids=self._peer_ids)

    def _await(self, kind: Kind, count: int) -> None:
        sizes = [min(BLOCK_ELEMENTS, count - start) for start in range(0, count, BLOCK_ELEMENTS)]
        collector = Collector(kind, step=0, sizes=[ELEMENT_BYTES * size for size in sizes])
        self._expected.append((collector, []))

    def _await_digest(self) -> None:
        self._expected.append((Collector(Kind.ALIGNED, step=0, sizes=[ELEMENT_BYTES]), []))

    def _advance(self, count: int) -> None:
        self._work = (self._work[0] + count, self._work[1])
        self._progress(*self._work)

    @property
    def _secret(self) -> Blinding:
        assert self._blinding is not None
        return self._blinding

    @abstractmethod
    def _first(self, block: Block) -> Iterator[Block]:
        """Take the peer's terms."""

    @abstractmethod
    def _complete(self, raw: list[bytes], messages: list[bytes]) -> Iterator[Block]:
        """Take what was expected: as it came, and with blinded ids multiplied."""


class LabelOwnerAlignment(Alignment):
    """The side that opens the session."""

    def hello(self) -> Block:
        """Return the opening message.

        Leaks:
            The number of own ids, and how they are brought into one form.
        """
        return Block(kind=Kind.ALIGNMENT, step=0, payload=encode_terms(self._terms))

    def _first(self, block: Block) -> Iterator[Block]:
        peer = _terms(block)
        if self._agree(peer):
            return
        self._await(Kind.DOUBLY_BLINDED, self._terms.ids)
        self._await(Kind.BLINDED_IDS, peer.ids)
        self._draw()
        yield from self._blinded()

    def _complete(self, raw: list[bytes], messages: list[bytes]) -> Iterator[Block]:
        if self._found is not None:
            self._end(raw[0])
            return
        require_distinct(_elements(raw[0]))
        require_distinct(_elements(raw[1]))
        yield from _cut(Kind.DOUBLY_BLINDED, messages[1])
        digest = self._find(raw[0], messages[1])
        self._await_digest()
        yield Block(kind=Kind.ALIGNED, step=0, payload=digest)


class DataOwnerAlignment(Alignment):
    """The side that answers."""

    _peers: bytes = b""

    def _first(self, block: Block) -> Iterator[Block]:
        peer = _terms(block)
        yield Block(kind=Kind.ALIGNMENT, step=0, payload=encode_terms(self._terms))
        if self._agree(peer):
            return
        self._await(Kind.BLINDED_IDS, peer.ids)
        self._draw()

    def _complete(self, raw: list[bytes], messages: list[bytes]) -> Iterator[Block]:
        if not self._peers:
            require_distinct(_elements(raw[0]))
            self._peers = messages[0]
            self._await(Kind.DOUBLY_BLINDED, self._terms.ids)
            self._await_digest()
            yield from _cut(Kind.DOUBLY_BLINDED, self._peers)
            yield from self._blinded()
            return
        require_distinct(_elements(raw[0]))
        digest = self._find(raw[0], self._peers)
        yield Block(kind=Kind.ALIGNED, step=0, payload=digest)
        self._end(raw[1])


def _terms(block: Block) -> AlignmentTerms:
    if (block.kind, block.step, block.index, block.count) != (Kind.ALIGNMENT, 0, 0, 1):
        raise RemoteProtocolError(
            f"{block.kind.name} of step {block.step} came where ALIGNMENT of step 0 was expected"
        )
    return decode_terms(block.payload, AlignmentTerms)


def _cut(kind: Kind, data: bytes) -> Iterator[Block]:
    step = BLOCK_ELEMENTS * ELEMENT_BYTES
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    return blocks_of(kind, pieces, step=0, count=len(pieces))


def _elements(data: bytes) -> Elements:
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, ELEMENT_BYTES)


def _shown(value: object) -> object:
    """Write rules as a run file does."""
    return json.dumps(value) if isinstance(value, tuple) else value
