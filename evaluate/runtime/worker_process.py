"""Every worker process, of a benchmark and of a study: how it is started and spoken to, and how its end reads.

Messages are JSON objects, one a line, on the worker's stdin and stdout. Whatever else a worker prints goes to its log.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import evaluate
from evaluate.core.errors import MachineError

Message = dict[str, Any]
GRACE = 5.0  # seconds that a process which closed its stdout has to end
TAIL = 4000
_START = "import sys; sys.path[:] = sys.argv.pop().split('\\n'); from {module} import main; main()"


class WorkerProcess:
    """A Python that runs `main` of a module, out of a zipped bundle as well.

    on_message  : is given each message, and None at the end of them, from a thread of its own.
    log         : the file that is added to by whatever else the worker prints.
    environment : what is changed in this process's own.
    command     : what to start instead.
    Raises MachineError where no process can be started.
    """

    def __init__(
        self,
        module: str,
        log: Path,
        on_message: Callable[[Any], None],
        *,
        environment: Mapping[str, str],
        command: Sequence[str] | None = None,
    ) -> None:
        self.log = log
        places = {**os.environ, **environment}
        try:
            with log.open("ab") as errors:
                self._log_start = errors.tell()
                self.process = subprocess.Popen(
                    list(command or worker_command(module)),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=places,
                )
        except OSError as error:
            raise MachineError(f"no worker process could be started: {error.strerror or error}") from error
        # A pipe cannot be polled everywhere.
        self._reader = threading.Thread(target=self._read, args=(on_message,), daemon=True)
        self._reader.start()

    def _read(self, on_message: Callable[[Any], None]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self.process.stdout or ():
                message = _message(line)
                if message:
                    on_message(message)
        on_message(None)

    def send(self, message: Mapping[str, Any]) -> None:
        """One line to the worker; that it is gone shows by the end of its messages."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(json.dumps(message).encode() + b"\n")
                self.process.stdin.flush()

    def ending(self, doing: str = "") -> str:
        """How it ended, in words: its exit code or signal, what it was `doing`, and the last line in its log."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)
        code = self.process.returncode
        how = _signal_name(-code) if code is not None and code < 0 else f"exit code {code}"
        last = self.last_words()
        return f"{how}{doing}; its last words: {last}" if last else f"{how}{doing}"

    def last_words(self) -> str:
        """The last line that it printed; empty where there is none."""
        with self.log.open("rb") as file:
            file.seek(max(self._log_start, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
        printable = ("".join(c if c.isprintable() else " " for c in line).strip() for line in reversed(lines))
        return next((line[:300] for line in printable if line), "")

    def stop(self) -> None:
        """End it at once, and let go of its pipes: one that is being read cannot be closed."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if threading.current_thread() is not self._reader:
            self._reader.join(1)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Parent:
    """A worker's half: messages from its parent, and to it. A worker whose parent is gone ends at once.

    From here on whatever prints on stdout, prints on stderr. Ctrl-C, which reaches the whole group, is the parent's.
    """

    def __init__(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._output = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        rest = b""
        while data := os.read(0, 1 << 16):  # sys.stdin, locked by a thread, would abort a worker that ends by itself
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._messages.put(json.loads(line))
        os._exit(1)

    def receive(self) -> Message:
        """The next message, waited for."""
        return self._messages.get()

    def send(self, message: Mapping[str, Any]) -> None:
        """One line to the parent."""
        try:
            self._output.write(json.dumps(message).encode() + b"\n")
            self._output.flush()
        except BrokenPipeError:
            os._exit(1)


def worker_command(module: str) -> list[str]:
    """This Python, with this process's own search path, running `main` of a module. Raises MachineError without one.

    `python -c` and `-m` put the working directory first, whose json.py or random.py nobody means: where this process
    searches it by a relative name, as a notebook does, it comes last.
    """
    if not sys.executable:
        raise MachineError(
            "a process of its own is needed, and this Python does not know its own program (sys.executable is empty); "
            "run it from an ordinary Python"
        )
    home = str(Path(evaluate.__path__[0]).parent.absolute())
    places = sorted(map(str, sys.path), key=lambda place: not Path(place).is_absolute())
    if home not in places:
        places.insert(0, home)
    path = "\n".join(dict.fromkeys(str(Path(place).absolute()) for place in places))
    return [sys.executable, "-c", _START.format(module=module), path]


def _message(line: bytes) -> Message:
    """What a line holds; nothing where it is cut off, or none of the worker's: a library may print while it starts."""
    try:
        message = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name} (killed: perhaps out of memory)" if name == "SIGKILL" else name
