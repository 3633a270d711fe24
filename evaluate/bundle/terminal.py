"""How the bundle's command speaks and is stopped: progress on stderr, results on stdout, signals."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from evaluate.core.errors import printable

WIDTH = 79


class Progress:
    """The status callback: one line that is written over on a terminal, elsewhere a line for each new kind of work."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.live = quiet, sys.stderr.isatty()
        self.spoken, self.width = "", 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.width:
            self._write("\r" + " " * self.width + "\r")

    def __call__(self, message: str, done: float, total: float) -> None:
        if self.quiet:
            return
        if self.live:
            share = f" {100 * min(done / total, 1):3.0f} %" if total > 0 and done > 0 else ""
            line = f"{message}{share}"[:WIDTH]
            self._write("\r" + line.ljust(self.width))
            self.width = len(line)
        elif message != self.spoken:
            self.spoken = message
            self._write(message + "\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()


def say(text: str) -> None:
    """A line on stderr."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()


def show(text: str) -> None:
    """Lines on stdout, in the letters its encoding has. Raises BrokenPipeError where nobody reads them."""
    if sys.stdout is None:  # closed before we came
        return
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(printable(text).encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def close_stdout() -> None:
    """Point stdout at nothing, so that Python does not complain on exit that nobody reads it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """A terminated process, or one whose terminal is gone, cleans up as after Ctrl-C."""
    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    numbers = [signal.Signals[name] for name in names if hasattr(signal, name)]
    heard = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]  # nohup
    before = {number: signal.signal(number, _interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
