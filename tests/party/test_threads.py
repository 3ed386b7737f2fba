import os
import sys
from pathlib import Path

import pytest
import torch

from moiety.party import threads
from moiety.party.threads import available_threads


def test_threads_are_those_of_pytorch_where_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert available_threads() == 7


@pytest.fixture
def without_pytorch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Unload PyTorch, leave no wish, and give a folder to describe processors in."""
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_SIBLINGS", f"{tmp_path}/cpu{{}}")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5})
    return tmp_path


def test_threads_are_what_the_environment_asks_for(
    without_pytorch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del without_pytorch
    for asked, found in (("3", 3), ("0", 4), ("", 4), ("many", 4), ("-1", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert available_threads() == found


def test_threads_are_cores_and_not_the_processors_that_share_one(without_pytorch: Path) -> None:
    assert available_threads() == 4  # nothing is known of them
    for cpu, siblings in ((0, "0,4"), (1, "1,5"), (2, "2,6"), (5, "1,5")):
        without_pytorch.joinpath(f"cpu{cpu}").write_text(siblings)
    assert available_threads() == 3
