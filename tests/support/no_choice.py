"""The part of a link, or of activations, that a training without a best epoch never uses."""

from typing import NoReturn

from moiety.crypto.ring import RingArray


class NeverGoesBack:
    """Fails where a fake is asked to return to an earlier epoch."""

    def share(self) -> NoReturn:
        raise AssertionError("nothing is kept of an epoch here")

    def go_back(self, epoch: int, share_DK: RingArray | None = None) -> None:
        raise AssertionError(f"this training never goes back: {epoch}, {share_DK is None}")
