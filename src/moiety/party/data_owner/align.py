"""The data owner's side of an alignment, which may open a session. Imported by the session's script."""

from moiety.party.alignment import AlignedTable, OwnSide
from moiety.party.data_owner.party import DataOwnerParty, Script, Wait
from moiety.protocol.alignment import DataOwnerAlignment
from moiety.protocol.messages import Block


def align(party: DataOwnerParty, block: Block) -> Script[AlignedTable]:
    """Align the tables; return the own one in the common order.

    Args:
        party: whose table it is.
        block: the label owner's first.

    Raises:
        RemoteProtocolError: a block is not the expected one.
        ContractMismatchError: the parties compare different things.
        AlignmentError: no id is common.
        DataError: ids cannot be read, or repeat and may not.

    Leaks:
        To the label owner: the number of own ids, and which of its ids are among them.
    """
    own = OwnSide(party.settings, party.table, report=party.report)
    machine = own.machine(DataOwnerAlignment, randomness=party.randomness)
    yield from machine.receive(block)
    while machine.result is None:
        yield from machine.receive((yield Wait.BETWEEN))
    aligned = own.finish(machine.result)
    party.report(aligned.sentence)
    return aligned
