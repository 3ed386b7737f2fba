"""A run that outlives the sessions it was trained in: it resumes by itself from the newest common checkpoint.

A session is lost when one of the two processes started anew. The label owner then opens another one, with
new keys, until the peer has been away for longer than the deadline; what is saved stays, and the run can be
resumed by hand. Imported by both parties' loops.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from moiety.config.listener import Listener
from moiety.errors import (
    MoietyError,
    PeerIdentityError,
    PeerTimeoutError,
    PeerUnreachableError,
    SessionLostError,
    TransportError,
)
from moiety.store.checkpoints import Checkpoints

Done = TypeVar("Done")
FIRST_WAIT_SECONDS: Final = 0.2
LONGEST_WAIT_SECONDS: Final = 5.0
_AWAY: Final = (SessionLostError, PeerUnreachableError, PeerTimeoutError)


@dataclass
class Attempt:
    """One session's share of a run.

    Args:
        resume: it resumes from a checkpoint.
        opened: it came so far that training could continue.
    """

    resume: bool
    opened: bool = False


def keep_trying(
    attempt: Callable[[Attempt], Done],
    *,
    resume: bool,
    checkpoints: Checkpoints,
    deadline_seconds: float,
    listener: Listener,
) -> Done:
    """Make attempts until one ends well, or the peer stays away.

    Args:
        attempt: trains to the end, or raises; says in its argument how far it came.
        resume: whether the first one resumes from a checkpoint.
        checkpoints: without one, a lost session is the end of the run.
        deadline_seconds: how long the peer may be away.
        listener: told why another attempt is made.

    Raises:
        TransportError: the peer stayed away; the hint says how to resume.
        MoietyError: as `attempt`.
    """
    away_since, pause = time.monotonic(), FIRST_WAIT_SECONDS
    retries = False
    while True:
        trial = Attempt(resume=resume or retries)
        try:
            return attempt(trial)
        except MoietyError as error:
            if trial.opened:
                away_since, pause = time.monotonic(), FIRST_WAIT_SECONDS
            lost = isinstance(error, SessionLostError) or (retries and not trial.opened)
            saved = checkpoints.newest_run() is not None
            late = time.monotonic() - away_since + pause > deadline_seconds
            if not (lost and saved) or not isinstance(error, _AWAY) or late:
                raise saved_hint(error, checkpoints, command="train") from error
            listener.say(f"{error.message}: going back to the newest checkpoint")
        time.sleep(pause)
        retries, pause = True, min(2 * pause, LONGEST_WAIT_SECONDS)


def saved_hint(error: MoietyError, checkpoints: Checkpoints, *, command: str) -> MoietyError:
    """Return the error; where it is one of the connection and the state is saved, its hint says so."""
    transport = isinstance(error, TransportError) and not isinstance(error, PeerIdentityError)
    if transport and checkpoints.newest_run() is not None:
        error.hint = f"the state is saved: resume with `moiety {command} RUN_FILE --resume` on this side"
    return error
