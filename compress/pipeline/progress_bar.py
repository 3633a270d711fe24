"""How far long work is: a bar on a terminal and in a notebook, else a line now and then."""

from __future__ import annotations

import sys
from typing import Any, Self

from evaluate.bundle.terminal import Progress as Lines
from evaluate.bundle.terminal import one_line


class Progress(Lines):
    """The status callback of long work: a bar on a terminal, which starts over where the work does; else as `Lines`.

    timed : what is still to do may grow on the way, and the bar has no estimate of its own.
    """

    def __init__(self, *settings: Any, **more: Any) -> None:
        super().__init__(*settings, **more)
        self.live = self.live or (not self.quiet and in_notebook())

    def __enter__(self) -> Self:
        if self.live:
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Rich

            columns = (TextColumn("{task.description}", markup=False), BarColumn(24), TaskProgressColumn())
            left = () if self.timed else (TextColumn("left"), TimeRemainingColumn())
            console = Console(file=None if in_notebook() else self.stream)
            self.rich = Rich(*columns, TimeElapsedColumn(), *left, console=console, transient=True)
            self.task, self.done, self.total = self.rich.add_task("", total=None), 0.0, 0.0
            self.rich.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.rich.stop()

    def show(self, message: str, done: float, total: float) -> None:
        """The bar."""
        most = total if total > 0 else None
        if not self.timed and (total != self.total or done < self.done):
            self.rich.reset(self.task, total=most)
        self.done, self.total = done, total
        self.rich.update(self.task, description=one_line(message), completed=done, total=most)


def in_notebook() -> bool:
    """Whether a notebook shows what is printed here."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")
