"""A listener that keeps the sentences it is told."""

from collections.abc import Callable

from moiety.config.listener import Listener


class Heard(Listener):
    """Keeps sentences, or hands each one on.

    Args:
        say: what is done with a sentence; it is added to `said` if left out.
    """

    def __init__(self, say: Callable[[str], object] | None = None) -> None:
        self.said: list[str] = []
        self._say = say or self.said.append

    def say(self, sentence: str) -> None:
        self._say(sentence)
