"""`InteractiveLinear`'s contract with autograd, over a link that only records."""

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moiety.contract.schedule import RowHandle, Split
from moiety.errors import LocalProtocolError, NonFiniteError
from moiety.nn.layer import InteractiveLinear
from moiety.nn.step import AdaptiveStep, PlainStep
from tests.support.no_choice import NeverGoesBack

HANDLE = RowHandle(split=Split.TRAIN, epoch=0, batch=0, rows=4)
NEXT = RowHandle(split=Split.TRAIN, epoch=0, batch=1, rows=4)


class RecordingLink(NeverGoesBack):
    """Gives z that depends on the batch, and keeps what it is told."""

    def __init__(self) -> None:
        self.started: list[tuple[RowHandle, bool]] = []
        self.updates: list[NDArray[np.float64]] = []

    def start(self, handle: RowHandle, *, training: bool) -> None:
        self.started.append((handle, training))

    def result(self) -> NDArray[np.float64]:
        handle, _ = self.started[-1]
        return np.arange(8.0).reshape(4, 2) / 8 + handle.batch

    def update(self, scaled_NK: NDArray[np.float64], dz_NK: NDArray[np.float64]) -> None:
        del dz_NK
        self.updates.append(scaled_NK)


def layer_of(rate: float = 0.5) -> tuple[InteractiveLinear, RecordingLink]:
    link = RecordingLink()
    return InteractiveLinear(link, in_features=3, out_features=2, rule=PlainStep(rate)), link


def target() -> Tensor:
    return torch.linspace(-1, 1, 8).reshape(4, 2)


def loss_of(z: Tensor) -> Any:
    return ((z - target()) ** 2).sum()


def test_forward_adds_the_bias() -> None:
    layer, link = layer_of()
    nn.init.constant_(layer.bias, 2.0)
    z = layer(HANDLE)
    assert torch.equal(z, torch.arange(8.0).reshape(4, 2) / 8 + 2)
    assert link.started == [(HANDLE, True)]


def test_backward_sends_the_scaled_gradient_once_and_sets_the_bias_gradient() -> None:
    layer, link = layer_of(rate=0.5)
    z = layer(HANDLE)
    loss_of(z).backward()
    dz_NK = 2 * (z.detach() - target())
    (sent,) = link.updates
    assert np.array_equal(sent, 0.5 * dz_NK.double().numpy())
    assert layer.bias.grad is not None
    assert torch.equal(layer.bias.grad, dz_NK.sum(dim=0))


def test_learning_rate_can_be_changed_between_steps() -> None:
    layer, link = layer_of(rate=0.5)
    assert layer.learning_rate == 0.5
    layer.learning_rate = 0.25
    z = layer(HANDLE)
    loss_of(z).backward()
    assert np.array_equal(link.updates[0], 0.25 * 2 * (z.detach() - target()).double().numpy())


def test_z_takes_the_precision_of_the_layer() -> None:
    layer, link = layer_of()
    z = layer.double()(HANDLE)
    assert z.dtype == torch.float64
    loss_of(z).backward()
    assert link.updates[0].dtype == np.float64


def test_parameters_are_the_bias_alone() -> None:
    layer, _ = layer_of()
    assert list(dict(layer.named_parameters())) == ["bias"]
    assert list(layer.state_dict()) == ["bias"]
    assert repr(layer) == "InteractiveLinear(in_features=3, out_features=2)"


@pytest.mark.parametrize("disable", [torch.no_grad, torch.inference_mode])
def test_forward_without_gradients_is_forward_only(disable: Callable[[], torch.no_grad]) -> None:
    layer, link = layer_of()
    with disable():
        first, second = layer(HANDLE), layer(NEXT)
    assert not first.requires_grad
    assert torch.equal(second, first + 1)
    assert link.started == [(HANDLE, False), (NEXT, False)]
    loss_of(layer(HANDLE)).backward()
    assert len(link.updates) == 1


def test_start_asks_before_result_is_waited_for() -> None:
    layer, link = layer_of()
    pending = layer.start(HANDLE)
    assert link.started == [(HANDLE, True)]
    loss_of(pending.result()).backward()
    assert len(link.updates) == 1


@pytest.mark.parametrize("evaluating", [False, True])
def test_second_forward_before_backward(*, evaluating: bool) -> None:
    layer, link = layer_of()
    layer(HANDLE)
    with (
        torch.set_grad_enabled(not evaluating),
        pytest.raises(LocalProtocolError, match="second forward") as caught,
    ):
        layer(NEXT)
    assert "no_grad" in caught.value.hint
    assert link.started == [(HANDLE, True)]


def test_backward_twice_with_a_kept_graph() -> None:
    layer, link = layer_of()
    loss = loss_of(layer(HANDLE))
    loss.backward(retain_graph=True)
    with pytest.raises(LocalProtocolError, match="backward ran twice") as caught:
        loss.backward()
    assert "retain_graph" in caught.value.hint
    assert len(link.updates) == 1


def test_kept_graph_of_an_earlier_step_is_not_taken_for_the_open_one() -> None:
    layer, link = layer_of()
    loss = loss_of(layer(HANDLE))
    loss.backward(retain_graph=True)
    layer.zero_grad()
    later = loss_of(layer(NEXT))
    with pytest.raises(LocalProtocolError, match="backward ran twice"):
        loss.backward()
    assert len(link.updates) == 1
    layer.zero_grad()
    later.backward()
    assert len(link.updates) == 2


def test_accumulated_gradients_are_refused_before_anything_is_sent() -> None:
    layer, link = layer_of()
    loss_of(layer(HANDLE)).backward()
    with pytest.raises(LocalProtocolError, match="not cleared") as caught:
        loss_of(layer(NEXT)).backward()
    assert "zero_grad" in caught.value.hint
    assert len(link.updates) == 1


def run_loop(before: bool, *, to_none: bool) -> tuple[InteractiveLinear, RecordingLink]:  # noqa: FBT001
    layer, link = layer_of()
    top = nn.Sequential(nn.ReLU(), nn.Linear(2, 1))
    for parameter in top.parameters():
        nn.init.constant_(parameter, 0.5)
    optimizer = torch.optim.Adam([*layer.parameters(), *top.parameters()], lr=0.1)
    for handle in (HANDLE, NEXT, HANDLE):
        if before:
            optimizer.zero_grad(set_to_none=to_none)
        loss = ((top(layer(handle)).squeeze(1) - 1) ** 2).mean()
        loss.backward()
        optimizer.step()
        if not before:
            optimizer.zero_grad(set_to_none=to_none)
    return layer, link


@pytest.mark.parametrize("to_none", [False, True])
def test_ordinary_loops_run_unchanged(*, to_none: bool) -> None:
    first, first_link = run_loop(before=True, to_none=to_none)
    second, second_link = run_loop(before=False, to_none=to_none)
    assert len(first_link.updates) == 3
    assert torch.equal(first.bias, second.bias)
    assert all(map(np.array_equal, first_link.updates, second_link.updates))
    assert bool((first.bias != 0).any())


def test_loop_with_zero_grad_between_forward_and_backward() -> None:
    layer, link = layer_of()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for handle in (HANDLE, NEXT):
        loss = loss_of(layer(handle))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert len(link.updates) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_gradient_that_is_not_finite_is_not_sent(value: float) -> None:
    layer, link = layer_of()
    z = layer(HANDLE)
    factor = torch.ones(4, 2)
    factor[1, 1] = value
    with pytest.raises(NonFiniteError, match="nothing was sent") as caught:
        (z * factor).sum().backward()
    assert caught.value.hint
    assert link.updates == []
    assert layer.bias.grad is None


@pytest.mark.parametrize("rows", [0, [1, 2], slice(3), torch.arange(4), np.arange(4), None, (0, 0)])
def test_anything_but_a_handle_is_refused(rows: object) -> None:
    layer, link = layer_of()
    with pytest.raises(LocalProtocolError, match="must be a batch's handle") as caught:
        layer(rows)
    assert "batch.rows" in caught.value.hint
    assert link.started == []


def test_failed_start_leaves_no_step_open() -> None:
    layer, link = layer_of()
    with pytest.raises(LocalProtocolError):
        layer(None)
    loss_of(layer(HANDLE)).backward()
    assert len(link.updates) == 1


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, copy.copy, lambda layer: torch.save(layer, io.BytesIO())]
)
def test_layer_is_neither_copied_nor_pickled(duplicate: Callable[[nn.Module], object]) -> None:
    layer, _ = layer_of()
    with pytest.raises(LocalProtocolError, match="the peer holds the rest of it"):
        duplicate(nn.Sequential(layer)[0])


def test_gradient_flows_to_a_network_behind_it() -> None:
    layer, _ = layer_of()
    top = nn.Linear(2, 1)
    z = layer(HANDLE)
    top(z).sum().backward()
    assert top.weight.grad is not None
    assert torch.allclose(top.weight.grad, z.detach().sum(dim=0, keepdim=True))


def test_adaptive_rule_sees_every_gradient() -> None:
    link = RecordingLink()
    rule = AdaptiveStep(0.5)
    layer = InteractiveLinear(link, in_features=3, out_features=2, rule=rule)
    for handle in (HANDLE, NEXT):
        loss_of(layer(handle)).backward()
        layer.zero_grad()
    assert rule.state()["steps"].tolist() == [2.0]
