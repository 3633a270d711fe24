"""How a command speaks and is stopped: progress on stderr, results on stdout, signals."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import IO, NoReturn, TypeVar

from evaluate.core.errors import printable

WIDTH = 79
EVERY_SECONDS = 15.0
P = TypeVar("P", bound="Progress")


class Progress:
    """The status callback of long work: one line that is written over on a terminal, elsewhere a line now and then.

    timed : the messages say themselves how far the work is and how long it takes, and several kinds of work go on at
    once: a line now and then, whatever it says. A context manager.
    """

    def __init__(
        self,
        quiet: bool = False,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        timed: bool = False,
    ) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.quiet, self.clock, self.timed = quiet, clock, timed
        self.live = not quiet and self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.spoken, self.at, self.width = "", -float("inf"), 0

    def __enter__(self: P) -> P:
        return self

    def __exit__(self, *error: object) -> None:
        if self.width:
            self._write("\r" + " " * self.width + "\r")

    def __call__(self, message: str, done: float, total: float) -> None:
        if not self.quiet:
            (self.show if self.live else self._speak)(message, done, total)

    def show(self, message: str, done: float, total: float) -> None:
        """The line on a terminal."""
        line = f"{message}{self._share(done, total)}"[:WIDTH]
        self._write("\r" + line.ljust(self.width))
        self.width = len(line)

    def _speak(self, message: str, done: float, total: float) -> None:
        """A line for each new kind of work, and one every so often while it lasts."""
        now, kind = self.clock(), "" if self.timed else re.sub(r"[\d.,]+", "", message)
        if kind != self.spoken or now - self.at >= EVERY_SECONDS:
            self.spoken, self.at = kind, now
            self._write(f"{one_line(message, 200 if self.timed else 100)}{self._share(done, total)}\n")

    def _share(self, done: float, total: float) -> str:
        return f" ({100 * min(done / total, 1):.0f} %)" if total > 0 and done > 0 and not self.timed else ""

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()


def one_line(message: str, most: int = 100) -> str:
    """The start of a message, without what would move the cursor."""
    return "".join(c if c.isprintable() else " " for c in message)[:most]


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
