"""Both parties' folders with a bottom model beside the data owner's run file, and ways to run them."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from moiety.config.listener import SILENT, Listener
from moiety.demo.local import simulate
from moiety.party.label_owner.result import Result
from moiety.store import model as checkpoint
from tests.support.parties import ROWS, Files, configure, make_parties
from tests.support.randomness import RecordedRandomness

FACTORIES: Final = """
import torch
from torch import nn

class Codes(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.embedding = nn.Embedding(6, 2)
    def forward(self, values):
        return self.embedding(values.long()).flatten(1)

class Exploding(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.linear = nn.Linear(columns, 6)
        self.batches = 0
    def forward(self, values):
        self.batches += self.training
        return self.linear(values) / (self.batches < 3)

def dense(columns):
    return nn.Sequential(nn.Linear(columns, 6), nn.Tanh())

def wide(columns):
    return nn.Sequential(nn.Linear(columns, 7), nn.Tanh())

def convolution(columns):
    return nn.Sequential(
        nn.Unflatten(1, (1, columns)), nn.Conv1d(1, 3, 3, padding=1), nn.Tanh(), nn.Flatten()
    )

def dropout(columns):
    return nn.Sequential(nn.Linear(columns, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 6))

def norm(columns):
    return nn.Sequential(nn.Linear(columns, 6), nn.BatchNorm1d(6), nn.Tanh())

def large(columns):
    layer = nn.Linear(columns, columns)
    with torch.no_grad():
        layer.weight.copy_(10 * torch.eye(columns))
        layer.bias.zero_()
    return layer

def three(columns):
    return nn.Unflatten(1, (1, columns))

def nothing(columns):
    return "no network"

def slow(parameters, lr):
    return torch.optim.SGD(parameters, lr=lr / 1000)

def halving(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
"""

MODULE: Final = "bottoms_of_runs"


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Both parties' folders, with a module of factories beside the data owner's run file."""

    files: Files
    path: Path

    def choose(
        self, protocol: str, bottom: str | None, *, scheme: str = "rlwe", frozen: bool = False
    ) -> None:
        """Write a protocol into both run files, and a bottom model into the data owner's."""
        chosen: dict[str, Any] = {"name": protocol, "scheme": scheme}
        if protocol != "blind":
            chosen["reveals"] = "gradients"
        model = {} if bottom is None else {"bottom": f"{MODULE}:{bottom}", "frozen": frozen}
        configure(self.files.label_owner, {"protocol": chosen})
        configure(self.files.data_owner, {"protocol": chosen, "model": model})

    def label_owner(self, **changes: Any) -> None:
        """Change keys of the label owner's run file: `train__epochs=3`."""
        configure(self.files.label_owner, {name.replace("__", "."): value for name, value in changes.items()})

    def data_owner(self, **changes: Any) -> None:
        """Change keys of the data owner's run file."""
        configure(self.files.data_owner, {name.replace("__", "."): value for name, value in changes.items()})

    def options(self, party: str, table: str, text: str) -> None:
        """Append a table of options; the last change of a run file."""
        path = self.files.label_owner if party == "label owner" else self.files.data_owner
        with path.open("a", encoding="utf-8") as file:
            file.write(f"[train.{table}]\n{text}\n")

    def run(self, *, seed: bytes = b"runs", listener: Listener = SILENT) -> Result:
        return simulate(
            self.files.label_owner,
            self.files.data_owner,
            listener=listener,
            randomness=RecordedRandomness(seed),
        )

    def bottom(self) -> dict[str, NDArray[Any]]:
        """Return the saved bottom model."""
        arrays, _ = checkpoint.load_model(self.path / "telco" / "small")
        return {name: array for name, array in arrays.items() if name.startswith("bottom.")}


def make_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, kind: str = "binary", rows: int = ROWS
) -> Folder:
    """Make both folders, with the module of factories on the path of this process."""
    files = make_parties(path, kind=kind, rows=rows)
    (path / "telco" / f"{MODULE}.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(path / "telco")
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    folder = Folder(files=files, path=path)
    folder.label_owner(train__epochs=6, train__learning_rate=0.03)
    return folder


class Losses(Listener):
    """A listener that keeps the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        del epoch, rows, sent, received
        self.losses.append(loss)


def differ(one: dict[str, NDArray[Any]], two: dict[str, NDArray[Any]]) -> bool:
    """Tell whether two saved bottom models differ."""
    return any(not np.array_equal(one[name], two[name]) for name in one)
