"""Settings of the whole test run, and the database server that tests share."""

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
