"""What optimisers, schedules and networks keep, as JSON and arrays: nothing is pickled, no code is loaded.

`flatten` takes nested dictionaries, lists and tuples of numbers, strings, tensors and arrays apart; `rebuild`
puts them together again, exactly. Anything else is refused, so that a run learns at its start that its
optimiser cannot be saved. Imported by both parties' checkpoints.
"""

import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from moiety.errors import CheckpointCorruptError, CheckpointError
from moiety.store.files import Arrays

if TYPE_CHECKING:
    from torch import Tensor

Tree = Any
"""JSON: scalars as they are, everything else an object with one key that says what it is."""

_SCALARS: Final = (str, bool, int, type(None))
_MAPPINGS: Final[dict[str, type[Any]]] = {"dict": dict, "ordered": OrderedDict, "counter": Counter}
_SEQUENCES: Final[dict[str, Callable[[list[Any]], Any]]] = {"list": list, "tuple": tuple}


def flatten(value: Any, *, name: str) -> tuple[Tree, Arrays]:
    """Take a value apart.

    Args:
        value: what a `state_dict()` or `state()` returned.
        name: prefix of the arrays' names, and what an error calls the value.

    Returns:
        JSON, and the arrays that it names.

    Raises:
        CheckpointError: it holds something that is neither plain data nor a tensor, naming where.
    """
    arrays: Arrays = {}
    return _flat(value, name, arrays), arrays


def rebuild(tree: Tree, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Put together what `flatten` took apart.

    Raises:
        CheckpointCorruptError: it is not what `flatten` returns.
    """
    try:
        return _built(tree, arrays)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointCorruptError(
            "the state in a checkpoint does not fit together", hint="restore it from a backup"
        ) from error


def _flat(value: Any, name: str, arrays: Arrays) -> Tree:
    torch = sys.modules.get("torch")  # where nobody has loaded it, nothing is a tensor
    if torch is not None and isinstance(value, torch.Tensor):
        return {"tensor": _kept(_as_array(value, name), name, arrays), "type": str(value.dtype)[6:]}
    if type(value) is np.ndarray and value.dtype.kind in "biuf":
        return {"array": _kept(value, name, arrays)}
    plain = value.item() if isinstance(value, np.generic) else value
    if type(plain) in _SCALARS:
        return plain
    if type(plain) is float:
        return {"float": plain.hex()}
    return _flat_parts(plain, name, arrays)


def _flat_parts(value: Any, name: str, arrays: Arrays) -> Tree:
    for kind, mapping in _MAPPINGS.items():
        if type(value) is mapping:
            pairs = [(_key(key, name), _flat(each, f"{name}.{key}", arrays)) for key, each in value.items()]
            return {kind: [list(pair) for pair in pairs]}
    for kind, sequence in _SEQUENCES.items():
        if type(value) is sequence:
            return {kind: [_flat(each, f"{name}.{number}", arrays) for number, each in enumerate(value)]}
    raise CheckpointError(
        f"{name} is a {type(value).__name__}, which no checkpoint can hold",
        hint='choose one that keeps numbers and tensors only, or write every = "never" in [checkpoint]',
    )


def _key(key: Any, name: str) -> str | int:
    if type(key) not in (str, int):
        raise CheckpointError(f"{name} has a key that is a {type(key).__name__}", hint="use names or numbers")
    return key  # type: ignore[no-any-return]


def _as_array(value: "Tensor", name: str) -> NDArray[Any]:
    import torch  # noqa: PLC0415  two seconds

    plain = value.detach().cpu()
    if plain.layout is not torch.strided or plain.is_quantized or plain.is_complex():
        raise CheckpointError(
            f"{name} is not a dense tensor of real numbers", hint="choose another optimiser"
        )
    if plain.dtype is torch.bfloat16:  # NumPy has none: its bits are kept
        plain = plain.view(torch.int16)
    return plain.numpy().copy()


def _kept(array: NDArray[Any], name: str, arrays: Arrays) -> str:
    while name in arrays:  # the keys 1 and "1" of one dictionary
        name += "'"
    arrays[name] = array
    return name


def _built(tree: Tree, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if not isinstance(tree, dict):
        if type(tree) not in _SCALARS:
            raise ValueError("not a scalar")
        return tree
    if "tensor" in tree:
        import torch  # noqa: PLC0415  two seconds

        tensor = torch.from_numpy(arrays[tree["tensor"]].copy())
        return tensor.view(torch.bfloat16) if tree["type"] == "bfloat16" else tensor
    ((kind, content),) = tree.items()
    if kind == "array":
        return arrays[content].copy()
    if kind == "float":
        return float.fromhex(content)
    if kind in _MAPPINGS:
        return _MAPPINGS[kind]({key: _built(each, arrays) for key, each in content})
    return _SEQUENCES[kind]([_built(each, arrays) for each in content])
