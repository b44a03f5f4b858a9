"""Tasks in several processes of this machine: one that dies takes only its own task with it, and a fresh one tries that once more."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

Task = Mapping[str, Any]
"""Plain data, so that it can go to another process or machine."""
Function = Callable[[Task, Callable[[Any], None]], dict[str, Any]]
"""Takes a task and something to tell its progress to; found by its name in the other process. Returns plain data, raises nothing."""

_TRIES = 2
_PATIENCE_S = 10.0
"""How long a process may take to end by itself."""


@dataclass(frozen=True)
class Lost:
    """A task without a result: those who worked on it died."""

    because: str


def run_in_processes(
    function: Function, tasks: Iterable[Task], *, jobs: int, tell: Callable[[Task, Any], None]
) -> Generator[tuple[Task, dict[str, Any] | Lost], None, None]:
    """Every task with its result, as they are ready, from up to `jobs` processes; `tell` gets what the tasks say on their way.

    The processes are started anew (spawn), do not listen to Ctrl-C, and end with this generator, or when this process dies.
    What they log is logged here.
    """
    waiting = deque((task, _TRIES) for task in tasks)
    workers: list[_Worker] = []
    leaving: list[_Worker] = []  # nobody waits for them while others have something to say
    try:
        workers.extend(_Worker(function, *waiting.popleft()) for _ in range(min(jobs, len(waiting))))
        while workers:
            ready = wait([worker.pipe for worker in workers])
            for worker in [one for one in workers if one.pipe in ready]:
                said = worker.hear()
                if isinstance(said, _Told):
                    tell(worker.task, said.what)
                    continue
                if isinstance(said, Lost) and worker.tries > 1:
                    waiting.appendleft((worker.task, worker.tries - 1))
                elif said is not None:
                    yield worker.task, said
                if isinstance(said, Lost):
                    workers.remove(worker)
                    if waiting:
                        workers.append(_Worker(function, *waiting.popleft()))
                elif said is not None and waiting:
                    worker.begin(*waiting.popleft())
                elif said is not None:
                    worker.let_go()
                    workers.remove(worker)
                    leaving.append(worker)
    finally:
        for worker in workers:
            worker.stop()
        for worker in leaving:
            worker.end()


# ---------------------------------------------------------------- below: one process, seen from here and from inside


@dataclass(frozen=True)
class _Told:
    what: Any


class _Worker:
    """One process, as seen from the one that started it."""

    def __init__(self, function: Function, task: Task, tries: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, logging.getLogger().getEffectiveLevel()), daemon=True)
        self._process.start()
        other.close()
        self._function = function
        self.begin(task, tries)

    def begin(self, task: Task, tries: int) -> None:
        self.task, self.tries = task, tries
        try:
            self.pipe.send((self._function, dict(task)))
        except OSError:  # it has just died, of which `hear` will tell
            pass

    def hear(self) -> _Told | dict[str, Any] | Lost | None:
        """What the process says: its progress, its result, or that it is no more; None for a line of its log."""
        try:
            kind, what = self.pipe.recv()
        except (EOFError, OSError):
            return Lost(self._ending())
        if kind == "log":
            name, level, text = what
            logging.getLogger(name).log(level, "%s", text)
            return None
        result: dict[str, Any] = what
        return _Told(what) if kind == "told" else result

    def let_go(self) -> None:
        """Say that there is no more to do."""
        self.pipe.close()

    def end(self) -> None:
        """Wait until the process that was let go has ended by itself."""
        self._process.join(_PATIENCE_S)
        self.stop()

    def stop(self) -> None:
        self.pipe.close()
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(_PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()

    def _ending(self) -> str:
        self._process.join(_PATIENCE_S)
        self.pipe.close()
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"its process ended too early (exit code {code})"
        return f"its process was killed ({_signal_name(-code)}), perhaps because the memory did not suffice: try fewer --jobs"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _serve(pipe: Connection, level: int) -> None:
    """The life of a process: one task after the other, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one is stopped by the user, and stops this one
    lock = threading.Lock()

    def say(kind: str, what: Any) -> None:
        with lock:  # several threads log
            pipe.send((kind, what))

    logging.basicConfig(level=level, handlers=[_Forward(say)])
    try:
        while True:
            function, task = pipe.recv()
            say("done", function(task, lambda what: say("told", what)))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # nobody listens any more
        return


class _Forward(logging.Handler):
    """Hands log records to whoever started this process."""

    def __init__(self, say: Callable[[str, Any], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say("log", (record.name, record.levelno, record.getMessage()))
