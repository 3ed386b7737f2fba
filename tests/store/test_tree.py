"""States of optimisers and schedules survive without pickle, or are refused by name."""

import json
import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from moiety.errors import CheckpointCorruptError, CheckpointError
from moiety.store.tree import flatten, rebuild

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


def round_trip(value: Any) -> Any:
    tree, arrays = flatten(value, name="it")
    return rebuild(json.loads(json.dumps(tree, allow_nan=False)), arrays)


@given(TREES)
def test_plain_data_comes_back_with_its_types(value: Any) -> None:
    again = round_trip(value)
    assert repr(again) == repr(value)


def test_numbers_that_json_has_not_come_back() -> None:
    again = round_trip([math.inf, -math.inf, -0.0, 0.1, 2**200])
    assert repr(again) == repr([math.inf, -math.inf, -0.0, 0.1, 2**200])
    assert math.isnan(round_trip(math.nan))


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool],
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)])
def test_tensors_come_back_to_the_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    value = torch.arange(math.prod(shape)).reshape(shape).to(dtype)
    again = round_trip({"a": value})["a"]
    assert (again.dtype, again.shape) == (dtype, shape)
    assert torch.equal(again, value)


def test_tensor_that_changes_afterwards_is_not_in_the_state() -> None:
    value = torch.zeros(3)
    tree, arrays = flatten(value, name="it")
    value += 1
    assert torch.equal(rebuild(tree, arrays), torch.zeros(3))


def test_containers_and_arrays_keep_their_types() -> None:
    value = {
        "counter": Counter({3: 1, 5: 2}),
        "ordered": OrderedDict(b=1, a=2),
        "scalar": np.float64(0.25),
        "array": np.arange(3),
        1: torch.ones(1),
        "1": torch.zeros(1),
    }
    again = round_trip(value)
    assert type(again["counter"]) is Counter
    assert again["counter"] == value["counter"]
    assert list(again["ordered"]) == ["b", "a"]
    assert again["scalar"] == 0.25
    np.testing.assert_array_equal(again["array"], np.arange(3))
    assert (again[1].item(), again["1"].item()) == (1.0, 0.0)


class Chosen:
    """Something of the user's own."""


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (print, "builtin_function"),
        (Chosen(), "Chosen"),
        ({"inner": [0, lambda: 0]}, r"it\.inner\.1 is a function"),
        ({(1, 2): 0}, "key that is a tuple"),
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        (torch.zeros(2).to_sparse(), "dense tensor"),
        (torch.zeros(2, dtype=torch.complex64), "dense tensor"),
        (np.array(["a"]), "ndarray"),
    ],
)
def test_what_cannot_be_kept_is_named(value: Any, says: str) -> None:
    with pytest.raises(CheckpointError, match=says) as caught:
        flatten(value, name="it")
    assert caught.value.hint


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"unknown": 1},
        {"list": 1},
        {"dict": [1]},
        {"tensor": "missing", "type": "float32"},
        {"float": "x"},
        {"a": 1, "b": 2},
        1.5,
        [],
    ],
)
def test_damaged_state_is_refused(tree: Any) -> None:
    with pytest.raises(CheckpointCorruptError):
        rebuild(tree, {})


OPTIMIZERS = [
    "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop",
    "Rprop",
    "SGD",
]  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_continues_to_the_bit(name: str) -> None:
    def trained(steps: int, state: dict[str, Any] | None = None, start: Any = None) -> tuple[Any, Any]:
        weight = nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3) if start is None else start.clone())
        optimizer = getattr(torch.optim, name)([weight], lr=0.05)
        if state is not None:
            optimizer.load_state_dict(state)
        for number in range(steps):
            weight.grad = weight.detach().cos() + number * 0
            optimizer.step()
        return weight.detach(), optimizer.state_dict()

    whole, _ = trained(5)
    half, state = trained(3)
    again, _ = trained(2, round_trip(state), half)
    assert torch.equal(again, whole)


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "step": lambda o: lr_scheduler.StepLR(o, 2),
    "milestones": lambda o: lr_scheduler.MultiStepLR(o, [1, 3, 3]),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 7),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=9),
    "linear": lr_scheduler.LinearLR,
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "chain": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.5)], milestones=[2]
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_continues_to_the_bit(name: str) -> None:
    def made() -> tuple[Any, Any]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
        return optimizer, SCHEDULES[name](optimizer)

    def rates(optimizer: Any, schedule: Any, steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            optimizer.step()
            schedule.step()
            found.append(optimizer.param_groups[0]["lr"])
        return found

    whole = rates(*made(), 6)
    optimizer, schedule = made()
    first = rates(optimizer, schedule, 3)
    states = [round_trip(each.state_dict()) for each in (optimizer, schedule)]
    other, again = made()
    other.load_state_dict(states[0])
    again.load_state_dict(states[1])
    assert first + rates(other, again, 3) == whole
