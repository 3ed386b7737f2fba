"""The machines of each protocol, by its name in run files. Imported by the parties and by `simulate`."""

from typing import Final

from moiety.config import ProtocolName
from moiety.protocol.acml import AcmlDataOwner, AcmlLabelOwner
from moiety.protocol.blind import BlindDataOwner, BlindLabelOwner
from moiety.protocol.data_owner import DataOwner
from moiety.protocol.joint import JointDataOwner, JointLabelOwner
from moiety.protocol.label_owner import LabelOwner

DATA_OWNERS: Final[dict[ProtocolName, type[DataOwner]]] = {
    "blind": BlindDataOwner,
    "joint": JointDataOwner,
    "acml": AcmlDataOwner,
}
LABEL_OWNERS: Final[dict[ProtocolName, type[LabelOwner]]] = {
    "blind": BlindLabelOwner,
    "joint": JointLabelOwner,
    "acml": AcmlLabelOwner,
}
