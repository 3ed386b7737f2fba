"""Objects that must not leave the process by accident. Imported by whatever holds key material."""

from typing import Any, NoReturn


class Secret:
    """Base of every object that holds a key, a seed or a mask: no repr, no copy, no pickle."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: redacted>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a secret and cannot be pickled")

    def __copy__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a secret and cannot be copied")

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a secret and cannot be copied")
