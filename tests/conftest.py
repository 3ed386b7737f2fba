"""Settings of the whole test run, and what tests share: a database server, runs without dither."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from tests.support.postgres import Server, running_server

# Derandomised: a failure on one machine is the same failure on every other.
settings.register_profile("moiety", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("moiety")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Run a PostgreSQL server for as long as this process runs tests."""
    with running_server() as running:
        yield running


@pytest.fixture
def database(server: Server) -> Iterator[Server]:
    """Let this process reach the server for one test, nothing of its own settings in the way."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("PG") or name == "MOIETY_POSTGRESQL"]:
        del os.environ[name]
    os.environ.update(server.environment)
    yield server
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Release z without dither, so that an encrypted run can be compared with one in the clear exactly."""

    def nothing(_key: object, share_DK: NDArray[np.uint64], digest_N: NDArray[Any]) -> NDArray[np.uint64]:
        return np.zeros((len(digest_N), share_DK.shape[1]), dtype=np.uint64)

    monkeypatch.setattr("moiety.protocol.data_owner.dither", nothing)
