"""The label owner's top network: from widths, or from a factory of one's own."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from moiety.config import LocalTraining
from moiety.crypto.sampling import Seed
from moiety.errors import ConfigError
from moiety.nn.build import (
    advance,
    check_training,
    from_factory,
    make_loss,
    make_optimizer,
    make_schedule,
    perceptron,
    seed_torch,
)

FACTORIES = """
import torch
from torch import nn

def top(units, outputs):
    return nn.Linear(units, outputs)

def nothing(units, outputs):
    return [units, outputs]

number = 5

def plain(parameters, lr, **options):
    return torch.optim.SGD(parameters, lr=lr, dampening=0.125, **options)

def halving(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
"""


@pytest.fixture
def my_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_models_of_test.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_models_of_test", raising=False)
    return "my_models_of_test"


@pytest.mark.parametrize("hidden", [[], [5], [5, 7]])
def test_perceptron_has_the_widths_asked_for(hidden: list[int]) -> None:
    network = perceptron(3, hidden, 2)
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == list(
        zip([3, *hidden], [*hidden, 2], strict=True)
    )
    assert isinstance(network[0], nn.ReLU)  # z comes straight from the interactive layer
    assert network(torch.zeros(4, 3)).shape == (4, 2)


def test_factory_is_called_with_units_and_outputs(my_models: str) -> None:
    network = from_factory(f"{my_models}:top", 3, 2, key="model.top", takes="(units, outputs)")
    assert isinstance(network, nn.Linear)
    assert (network.in_features, network.out_features) == (3, 2)


@pytest.mark.parametrize("name", ["", ":top", "no_such_module_here:top", "{}:missing", "{}", "{}:"])
def test_factory_that_cannot_be_imported(my_models: str, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be imported") as caught:
        from_factory(name.format(my_models), 3, 2, key="model.top", takes="(units, outputs)")
    assert "module:factory" in caught.value.hint


def test_factory_that_returns_no_network(my_models: str) -> None:
    with pytest.raises(ConfigError, match="returned list") as caught:
        from_factory(f"{my_models}:nothing", 3, 2, key="model.top", takes="(units, outputs)")
    assert "torch.nn.Module" in caught.value.hint


def test_factory_that_is_no_function(my_models: str) -> None:
    with pytest.raises(ConfigError, match="is a int and not a factory"):
        from_factory(f"{my_models}:number", 3, 2, key="model.top", takes="(units, outputs)")


def test_losses_take_what_the_networks_give() -> None:
    targets = {
        "binary": torch.ones(4),
        "multiclass": torch.ones(4, dtype=torch.int64),
        "regression": torch.ones(4),
    }
    for kind, target in targets.items():
        outputs = torch.zeros(4, 3) if kind == "multiclass" else torch.zeros(4)
        assert float(make_loss(kind, None)(outputs, target)) > 0


# --- losses by class ---

OUTPUTS = torch.tensor([0.3, -1.2, 2.0, -0.1, 0.7])
CLASSES = torch.tensor([0, 1, 1, 0, 1])


def test_binary_loss_without_weights_is_torchs_own() -> None:
    loss = make_loss("binary", None)(OUTPUTS, CLASSES.float())
    assert torch.equal(loss, nn.functional.binary_cross_entropy_with_logits(OUTPUTS, CLASSES.float()))


@pytest.mark.parametrize("weights", [[0.25, 3.0], [1.0, 1.0], [50.0, 0.5]])
def test_binary_loss_by_class_equals_torchs_weighted_loss(weights: list[float]) -> None:
    outputs = OUTPUTS.clone().requires_grad_()
    loss = make_loss("binary", weights)(outputs, CLASSES.float())
    loss.backward()  # type: ignore[no-untyped-call]
    # The same as two classes with logits 0 and x.
    logits = torch.stack([torch.zeros(5), OUTPUTS], dim=1).requires_grad_()
    expected = nn.functional.cross_entropy(logits, CLASSES, weight=torch.tensor(weights))
    expected.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.allclose(loss, expected, atol=1e-6)
    assert outputs.grad is not None
    assert torch.allclose(outputs.grad, logits.grad[:, 1], atol=1e-6)


def test_binary_loss_by_class_does_not_depend_on_the_scale_of_the_weights() -> None:
    one, two = (make_loss("binary", [k * 0.5, k * 2.0])(OUTPUTS, CLASSES.float()) for k in (1.0, 8.0))
    assert torch.allclose(one, two)


def test_loss_over_several_classes_equals_torchs_weighted_loss() -> None:
    outputs = torch.stack([OUTPUTS, -OUTPUTS, OUTPUTS * 0.5], dim=1)
    targets = torch.tensor([0, 1, 2, 2, 0])
    weights = [0.25, 3.0, 1.5]
    loss = make_loss("multiclass", weights)(outputs, targets)
    assert torch.equal(loss, nn.CrossEntropyLoss(weight=torch.tensor(weights))(outputs, targets))
    assert not torch.allclose(loss, make_loss("multiclass", None)(outputs, targets))


def test_regression_loss_is_the_mean_square() -> None:
    assert torch.equal(make_loss("regression", None)(OUTPUTS, OUTPUTS + 2.0), torch.tensor(4.0))


# --- optimisers and schedules ---


def training(**keys: object) -> LocalTraining:
    return LocalTraining.model_validate(keys)


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(2, 2))]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", torch.optim.Adam),
        ("AdamW", torch.optim.AdamW),
        ("adamw", torch.optim.AdamW),
        ("SGD", torch.optim.SGD),
        ("rmsprop", torch.optim.RMSprop),
        ("torch.optim:Adagrad", torch.optim.Adagrad),
    ],
)
def test_optimizer_is_found_by_its_name(name: str, kind: type[torch.optim.Optimizer]) -> None:
    optimizer = make_optimizer(training(optimizer=name, learning_rate=0.125), parameters())
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 0.125


def test_optimizer_takes_its_options() -> None:
    options = {"momentum": 0.5, "nesterov": True, "weight_decay": 0.25}
    optimizer = make_optimizer(training(optimizer="sgd", optimizer_options=options), parameters())
    group = optimizer.param_groups[0]
    assert {name: group[name] for name in options} == options
    betas = make_optimizer(training(optimizer_options={"betas": [0.5, 0.75]}), parameters())
    assert tuple(betas.param_groups[0]["betas"]) == (0.5, 0.75)


def test_optimizer_of_a_factory_takes_rate_and_options(my_models: str) -> None:
    settings = training(
        optimizer=f"{my_models}:plain", learning_rate=0.5, optimizer_options={"momentum": 0.25}
    )
    optimizer = make_optimizer(settings, parameters())
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (0.5, 0.25)
    assert optimizer.param_groups[0]["dampening"] == 0.125  # the factory's own


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"optimizer": "adamm"}, "train.optimizer is not known to torch"),
        ({"optimizer": "lr_scheduler"}, "train.optimizer is not known to torch"),
        ({"optimizer": "lbfgs"}, "train.optimizer = 'lbfgs' cannot be used"),
        ({"optimizer": "Optimizer"}, "train.optimizer cannot be made"),
        ({"optimizer": "no_such_module:f"}, "train.optimizer = 'no_such_module:f' cannot be imported"),
        ({"optimizer": "torch.nn:Identity"}, "train.optimizer = 'torch.nn:Identity' cannot be used"),
        ({"optimizer_options": {"speed": 1.0}}, "train.optimizer cannot be made"),
        ({"optimizer_options": {"eps": -1.0}}, "train.optimizer cannot be made"),
        ({"optimizer_options": {"betas": [0.5]}}, "train.optimizer cannot be made"),
        ({"schedule": "StepLr"}, "train.schedule is not known to torch"),
        ({"schedule": "EPOCH_DEPRECATION_WARNING"}, "train.schedule is not known to torch"),
        ({"schedule": "StepLR"}, "train.schedule cannot be made"),
        ({"schedule": "LRScheduler"}, "train.schedule cannot be made: NotImplementedError"),
        ({"schedule": "ReduceLROnPlateau"}, "train.schedule = 'ReduceLROnPlateau' cannot be used"),
        ({"schedule": "no_such_module:f"}, "train.schedule = 'no_such_module:f' cannot be imported"),
        ({"schedule": "builtins:id"}, "train.schedule = 'builtins:id' cannot be used"),
        ({"schedule": "StepLR", "schedule_options": {"step_size": 0}}, "train.schedule cannot step"),
        (
            {"schedule": "OneCycleLR", "schedule_options": {"max_lr": 0.1, "total_steps": 2}},
            "train.schedule cannot step: Tried to step 3 times",
        ),
    ],
)
def test_training_that_cannot_be_used_is_refused_with_a_hint(keys: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_training(training(**keys), epochs=3)
    assert says in caught.value.message
    assert caught.value.hint


def test_training_that_can_be_used_is_not_refused() -> None:
    given = parameters()
    settings = training(schedule="OneCycleLR", schedule_options={"max_lr": 0.1, "total_steps": 4})
    check_training(settings, parameters=given, epochs=3)
    assert torch.equal(given[0], torch.zeros(2, 2))
    check_training(training())


def test_check_of_a_training_uses_the_parameters_it_is_given() -> None:
    with pytest.raises(ConfigError, match="empty parameter list"):
        check_training(training(), parameters=iter(()))


def test_schedule_follows_its_options() -> None:
    settings = training(
        learning_rate=0.5, schedule="MultiStepLR", schedule_options={"milestones": [1, 3], "gamma": 0.5}
    )
    optimizer = make_optimizer(settings, parameters())
    schedule, rates = make_schedule(settings, optimizer), []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        advance(schedule)
    assert rates == [0.5, 0.25, 0.25, 0.125]


def test_schedule_of_a_factory(my_models: str) -> None:
    settings = training(learning_rate=0.5, schedule=f"{my_models}:halving")
    optimizer = make_optimizer(settings, parameters())
    schedule = make_schedule(settings, optimizer)
    optimizer.step()
    advance(schedule)
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_no_schedule_leaves_the_rate() -> None:
    optimizer = make_optimizer(training(), parameters())
    assert make_schedule(training(), optimizer) is None
    advance(None)
    assert optimizer.param_groups[0]["lr"] == 0.01


def test_seed_begins_the_same_stream_again_and_leaves_no_call_for_later() -> None:
    queued = len(torch.cuda._queued_calls)
    drawn = []
    for first in (7, 7, 8):
        seed_torch(Seed(bytes([first]) * 32))
        drawn.append(torch.empty(4).uniform_())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])
    assert len(torch.cuda._queued_calls) == queued
