"""The label owner's top network: from widths, or from a factory of one's own."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from moiety.errors import ConfigError
from moiety.networks import from_factory, make_loss, perceptron

FACTORIES = """
from torch import nn

def top(units, outputs):
    return nn.Linear(units, outputs)

def nothing(units, outputs):
    return [units, outputs]

number = 5
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
