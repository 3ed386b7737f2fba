"""Which encrypted matrices the receiver has from an earlier exchange, so that they do not cross again.

Both parties count alike, and so does the forecast: nobody asks. Imported by the machines and the forecast.
"""

from moiety.contract.contract import Contract
from moiety.contract.flow import Send, Serves
from moiety.contract.products import Product
from moiety.contract.schedule import Split

Part = tuple[Product, Split, int]
"""Names encrypted activations that serve the whole session: for which product, of which rows."""


class Reuse:
    """What serves longer than one exchange, in one session."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._weights: dict[Product, tuple[int, tuple[int, ...]]] = {}
        self._parts: set[Part] = set()

    def has(self, send: Send, part: tuple[Split, int], *, rows: int, updates: int) -> bool:
        """Tell whether the receiver has a message already; from now on it has.

        Args:
            send: the message.
            part: of which split the batch is, and which part of it: a number of the same rows each time.
            rows: of the batch.
            updates: steps made so far.
        """
        if send.of is None:
            return False
        product = send.of.product
        # Both parties and the forecast count alike from public numbers: nobody has to say what it still
        # holds.
        if send.serves is Serves.WEIGHTS:
            now = (updates, self._contract.plan(product, rows).request_layout)
            before, self._weights[product] = self._weights.get(product), now
            return before == now
        if send.serves is Serves.ACTIVATIONS and self._contract.reuses_activations:
            known = (product, *part) in self._parts
            self._parts.add((product, *part))
            return known
        return False

    def weights_replaced(self) -> None:
        """Note that W is that of another epoch now."""
        self._weights.clear()
