"""How many threads a party's computations may use. Imported by both parties' loops and the plan.

PyTorch would tell, but takes two seconds to load, and a data owner without a bottom model does not need it.
"""

import os
import sys
from pathlib import Path
from typing import Final

_SIBLINGS: Final = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def available_threads() -> int:
    """Return PyTorch's number where it is loaded, or OMP_NUM_THREADS, or the cores that this process may use.

    Results do not depend on it.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return len({_core(cpu) for cpu in os.sched_getaffinity(0)})


def _core(cpu: int) -> str:
    """Name a processor's core: two threads of one core are not twice as fast."""
    try:
        return Path(_SIBLINGS.format(cpu)).read_text(encoding="ascii")
    except OSError:
        return str(cpu)
