"""Byte strings as a whole session with a data owner: terms, key, resumption and requests in any order.

Slower than the machines (a table is prepared for each session), and closer to what a peer can reach. Imported
by `targets`.
"""

from functools import cache

from fuzz.files import scratch
from fuzz.machines import blocks_from
from moiety.config import DataOwnerRun, load_data_owner_run
from moiety.contract.products import Role
from moiety.contract.terms import encode_terms
from moiety.data.table import Table
from moiety.net.channel import memory_pair
from moiety.net.session import Session
from moiety.party.data_owner.features import read_features
from moiety.party.data_owner.party import DataOwnerParty
from moiety.party.data_owner.session import DataOwnerSession
from moiety.protocol.messages import Block, Kind
from moiety.store.checkpoints import open_checkpoints
from tests.support.pair import label_terms
from tests.support.parties import make_parties
from tests.support.randomness import RecordedRandomness

ROWS = 40


@cache
def _data_owner() -> tuple[DataOwnerRun, Table]:
    files = make_parties(scratch() / "parties", rows=ROWS, columns=3)
    settings = load_data_owner_run(files.data_owner)
    return settings, read_features(settings)


def give_data_owner_party(data: bytes) -> None:
    """Open a session by honest terms, unless the first byte is odd, and go on with blocks of any kind."""
    settings, table = _data_owner()
    party = DataOwnerParty(
        settings=settings,
        table=table,
        ledger=None,
        randomness=RecordedRandomness(b"party"),
        report=lambda _: None,
        checkpoints=open_checkpoints(settings.folder, settings.checkpoint, report=lambda _: None),
    )
    session = DataOwnerSession(party, Session(memory_pair()[1], role=Role.DATA_OWNER, deadline_seconds=0.0))
    try:
        if not data[:1] or not data[0] & 1:
            _give(session, _hello(settings, table))
        for block in blocks_from(data[1:]):
            _give(session, block)
    finally:
        session.close()


def _give(session: DataOwnerSession, block: Block) -> None:
    for _ in session.receive(block):
        pass


def _hello(settings: DataOwnerRun, table: Table) -> Block:
    terms = label_terms(
        run=settings.run, rows=ROWS, order_digest=table.id_digest(settings.table.id).hex(), out_features=2
    )
    return Block(kind=Kind.HELLO, step=0, payload=encode_terms(terms))
