"""The protocols there are: where each is written, and what a run file has to know of it beforehand.

Everything else a protocol is stands in its own module, as a table (`contract.flow`). A new one is that module
and an entry here. Imported by whoever checks the name of a protocol, or asks what it may do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticKnownError


@dataclass(frozen=True, kw_only=True)
class KnownProtocol:
    """What is known of a protocol before its module is loaded.

    Args:
        module: holds its `FLOW`.
        bottom: whether a run trains the data owner's bottom model.
        reveals_gradients: it may show the data owner gradients, so that both run files have to say so.
    """

    module: str
    bottom: Literal["never", "optional", "always"] = "never"
    reveals_gradients: bool = False


PROTOCOLS: Final[dict[str, KnownProtocol]] = {
    "blind": KnownProtocol(module="moiety.protocol.blind"),
    "joint": KnownProtocol(module="moiety.protocol.joint", bottom="always", reveals_gradients=True),
    "acml": KnownProtocol(module="moiety.protocol.acml", bottom="optional", reveals_gradients=True),
}
DEFAULT_PROTOCOL: Final = "blind"
"""Reveals nothing: what is taken where nothing is said, and what hints recommend."""


def _known(name: Any) -> Any:
    if name not in protocol_names():
        raise PydanticKnownError("literal_error", {"expected": _listed(protocol_names())})
    return name


def protocol_names() -> tuple[str, ...]:
    """Return the names of all protocols."""
    return tuple(PROTOCOLS)


ProtocolName = Annotated[
    str, BeforeValidator(_known), WithJsonSchema({"type": "string", "enum": list(protocol_names())})
]
"""The name of one of them; another value is an error that lists them."""


def protocols_that(condition: Callable[[KnownProtocol], bool]) -> list[str]:
    """Return the names of those that meet a condition."""
    return [name for name, known in PROTOCOLS.items() if condition(known)]


def _listed(names: tuple[str, ...]) -> str:
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}"
