import io

import pytest
from rich.console import Console

from moiety.cli.progress import Terminal


def shown(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=160)
    with Terminal(console) as bar:
        bar.begin(epochs=2, rows=100)
        bar.step(epoch=0, rows=60, loss=0.75, sent=3_000_000, received=5_000_000)
        bar._progress.refresh()
        bar.epoch(epoch=0, loss=0.5, metrics={"AUC": 0.875, "KS": 0.25})
        bar.epoch(epoch=1, loss=0.25, metrics={})
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_bar_shows_epoch_speed_loss_and_bytes_on_a_terminal() -> None:
    text = shown(terminal=True)
    for words in ("epoch 1", "rows/s", "loss 0.7500", "3.0 MB out, 5.0 MB in"):
        assert words in text


def test_bar_leaves_only_the_epochs_in_a_log() -> None:
    assert shown(terminal=False) == (
        "epoch 1: loss 0.5000, validation AUC 0.8750, KS 0.2500\nepoch 2: loss 0.2500\n"
    )


@pytest.mark.parametrize("terminal", [False, True])
def test_sentence_is_printed_as_it_is(*, terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=20)
    with Terminal(console) as screen:
        screen.say("drift of column '[bold]' :smile: in [link]/home/own.crt[/link], 3 of 12 rows")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == (
        "drift of column '[bold]' :smile: in [link]/home/own.crt[/link], 3 of 12 rows\n"
    )
