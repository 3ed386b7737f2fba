"""Settings of the whole test run, and the database server that tests share."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.postgres import Server, running_server

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
