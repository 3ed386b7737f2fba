"""One party's command, timed by phase: `python -m benchmarks.outside_party NOTE MODULE COMMAND RUN_FILE`.

Each thread's CPU time counts for the innermost phase that it is in, so that what a phase calls of another is
not counted twice, and the phases of a process add up to its total. Where NOTE ends in .txt, the command runs
under cProfile instead, which sees the main thread only.
"""

import cProfile
import importlib
import inspect
import json
import pstats
import resource
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, Final

from moiety.cli.app import main

PRODUCTS: Final = "encrypted products"
PHASES: Final = {
    PRODUCTS: (
        "moiety.crypto.rlwe:RlweKeyHolder.prepare",
        "moiety.crypto.rlwe:RlweKeyHolder.encrypt",
        "moiety.crypto.rlwe:RlweKeyHolder.decrypt",
        "moiety.crypto.rlwe:RlweEvaluator.prepare",
        "moiety.crypto.rlwe:RlweEvaluator.respond",
        "moiety.crypto.rlwe:response_zeros",
        "moiety.crypto.rlwe:respond_block",
        "moiety.protocol.data_owner:matmul",
    ),
    "imports after the start": ("_frozen_importlib:_find_and_load",),
    "open and look at tables": (
        "moiety.party.data_owner.provide:read_features",
        "moiety.party.label_owner.run:read_labels",
        "moiety.party.label_owner.run:_check_labels",
    ),
    "prepare": (
        "moiety.data.table_pass:TablePass.__iter__",
        "moiety.party.data_owner.activations:ActivationTable.__init__",
        "moiety.party.label_owner.run:LabelOwnerRun.__init__",
    ),
    "rows of a batch": ("moiety.party.data_owner.activations:ActivationTable.batch",),
    "dither": ("moiety.protocol.data_owner:dither",),
    "machines": (
        "moiety.protocol.data_owner:DataOwner.receive",
        "moiety.protocol.label_owner:LabelOwner.receive",
        "moiety.protocol.label_owner:LabelOwner.request",
        "moiety.protocol.label_owner:LabelOwner.update",
    ),
    "send and receive": (
        "moiety.net.transport:StreamChannel.send",
        "moiety.net.transport:StreamChannel.receive",
    ),
    "torch": ("moiety.nn.fit:apply_top", "torch:Tensor.backward", "torch.optim:Adam.step"),
}
"""What belongs to each phase, module and name; a function that others import by name, where it is used."""

LARGEST: Final = 40
"""Functions that a profile lists."""


class Clock:
    """Counts CPU time of each thread for the innermost phase that it is in."""

    def __init__(self) -> None:
        self._here = threading.local()
        self._counters: list[defaultdict[str, float]] = []
        self.main = self._counter()

    def enter(self, phase: str) -> None:
        """Begin a phase."""
        self._turn()
        self._here.stack.append(phase)

    def leave(self) -> None:
        """Go back to the phase before."""
        self._turn()
        self._here.stack.pop()

    def totals(self) -> dict[str, float]:
        """Return seconds by phase, over all threads."""
        return {phase: sum(each[phase] for each in self._counters) for phase in PHASES}

    def _counter(self) -> defaultdict[str, float]:
        if not hasattr(self._here, "stack"):
            self._here.stack, self._here.since, self._here.counter = [], 0.0, defaultdict(float)
            self._counters.append(self._here.counter)
        counter: defaultdict[str, float] = self._here.counter
        return counter

    def _turn(self) -> None:
        counter, now = self._counter(), time.thread_time()
        if self._here.stack:
            counter[self._here.stack[-1]] += now - self._here.since
        self._here.since = now


def timed(function: Callable[..., Any], phase: str, clock: Clock) -> Callable[..., Any]:
    """Count what a function takes; of a generator, what each of its steps takes."""

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        clock.enter(phase)
        try:
            return function(*arguments, **options)
        finally:
            clock.leave()

    @wraps(function)
    def steps(*arguments: Any, **options: Any) -> Iterator[Any]:
        given, end = function(*arguments, **options), object()
        advance = timed(next, phase, clock)
        while (item := advance(given, end)) is not end:
            yield item

    return steps if inspect.isgeneratorfunction(function) else call


def patch(clock: Clock) -> list[str]:
    """Time whatever this process has loaded; return what that was."""
    found = []
    for phase, places in PHASES.items():
        for place in places:
            module, _, name = place.partition(":")
            if module in sys.modules:
                *path, last = name.split(".")
                owner: Any = sys.modules[module]
                for part in path:
                    owner = getattr(owner, part)
                setattr(owner, last, timed(getattr(owner, last), phase, clock))
                found.append(place)
    return found


def be_party(note: Path, module: str, *command: str) -> None:
    """Be one party's process: run its command, and note what it used."""
    importlib.import_module(module)
    start, main_start, clock = time.process_time(), time.thread_time(), Clock()
    profile = cProfile.Profile(time.thread_time) if note.suffix == ".txt" else None
    found = [] if profile else patch(clock)
    try:
        main(list(command)) if profile is None else profile.runcall(main, list(command))
    finally:
        if profile is not None:
            with note.open("w", encoding="utf-8") as file:
                pstats.Stats(profile, stream=file).sort_stats("tottime").print_stats(LARGEST)
        else:
            used, phases = resource.getrusage(resource.RUSAGE_SELF), clock.totals()
            phases["start, imports"] = start
            phases["other, main thread"] = time.thread_time() - main_start - sum(clock.main.values())
            phases["other threads (gRPC)"] = used.ru_utime + used.ru_stime - sum(phases.values())
            values = {"user": used.ru_utime, "sys": used.ru_stime, "found": found, "phases": phases}
            note.write_text(json.dumps(values), encoding="utf-8")


if __name__ == "__main__":
    be_party(Path(sys.argv[1]), *sys.argv[2:])
