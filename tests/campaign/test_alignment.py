"""A million ids on each side, in two processes over loopback with mutual TLS: `pytest -m campaign -s`."""

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from tests.support.aligned_tables import common, who_is_where, write_tables
from tests.support.parties import configure, free_address, let_data_owner_dial

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(7200)]

ROWS = 10**6


def test_a_million_rows_are_beside_their_own(tmp_path: Path) -> None:
    files = write_tables(tmp_path, rows=ROWS)
    let_data_owner_dial(files, free_address())
    for path in (files.label_owner, files.data_owner):
        configure(path, {"peer.connect_deadline": 600.0})
    commands = {
        "data owner": ("provide", "--once", str(files.data_owner)),
        "label owner": ("align", str(files.label_owner)),
    }
    begin, memory = perf_counter(), {}
    running = {
        name: subprocess.Popen([sys.executable, "-m", "moiety", *words]) for name, words in commands.items()
    }
    for name, process in reversed(running.items()):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, name
        memory[name] = 1024 * usage.ru_maxrss
    seconds = perf_counter() - begin
    mine, theirs = who_is_where(files)
    megabytes = ", ".join(f"{name} {used // 10**6} MB" for name, used in memory.items())
    sys.stdout.write(f"aligned {ROWS:,} ids a side in {seconds:.0f} s; peak memory: {megabytes}\n")
    assert np.count_nonzero(mine != theirs) == 0
    assert len(mine) == common(files) == 888_889
    assert max(memory.values()) < 2 * 2**30
