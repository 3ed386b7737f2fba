"""What a person sees while a command runs: sentences, and how far a training is."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from moiety.cli.text import size
from moiety.config.listener import Listener


class Terminal(Listener):
    """Prints sentences, a line for each epoch, and a bar while a training runs; a context manager.

    Args:
        console: where to; the standard output if left out.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            _Speed(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TextColumn("{task.fields[sent]} out, {task.fields[received]} in"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,  # a log file gets the lines only
        )
        self._task = self._progress.add_task("training", epoch=1, loss=0.0, sent=size(0), received=size(0))

    def say(self, sentence: str) -> None:
        """Print a sentence, above the bar where there is one."""
        self._console.print(Text(sentence), soft_wrap=True)

    def begin(self, *, epochs: int, rows: int) -> None:
        """Start the bar over all rows of all epochs."""
        self._progress.reset(self._task, total=epochs * rows)
        self._progress.start()

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        """Move the bar by a batch."""
        self._progress.update(
            self._task,
            advance=rows,
            epoch=epoch + 1,
            loss=loss,
            sent=size(sent),
            received=size(received),
        )

    def epoch(self, *, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        """Print the mean loss and the validation metrics of an epoch."""
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self.say(f"epoch {epoch + 1}: loss {loss:.4f}" + (f", validation {shown}" if shown else ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()


class _Speed(ProgressColumn):
    """Rows per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f} rows/s")
