"""A command of the library from its beginning to its end, with callbacks on the thread that called.

The call itself runs on a thread of its own, so that Ctrl-C is seen at once, and what it calls back (rewards, logs) runs where the caller is:
functions that may only run on the main thread, such as those with signal.alarm, do so.
"""

from __future__ import annotations

import math
import queue
import threading
from ctypes import byref, sizeof
from typing import Any, Callable, Optional, TypeVar

from . import _library as c

T = TypeVar("T")


class Bridge:
    """Functions of the caller's that C calls, and what they raised."""

    def __init__(self, stop: c.Stop) -> None:
        self.stop = stop
        self.raised: Optional[BaseException] = None
        self.calls: "queue.SimpleQueue[Optional[tuple[Callable[[], Any], list[Any], threading.Event]]]" = queue.SimpleQueue()

    def here(self, function: Callable[[], T], otherwise: T) -> T:
        """Called by C on its thread: runs function on the caller's thread. After an exception nothing more is called."""
        if self.raised is not None:
            return otherwise
        answer: list[Any] = []
        done = threading.Event()
        self.calls.put((function, answer, done))
        done.wait()
        return answer[0] if answer else otherwise

    def keep(self, error: BaseException) -> None:
        if self.raised is None:
            self.raised = error
        self.stop.trigger()

    def run(self, work: Callable[[], int]) -> int:
        """work() on a thread of its own, until it ends; its callbacks here."""
        status: list[int] = []

        def body() -> None:
            try:
                status.append(work())
            finally:
                self.calls.put(None)

        thread = threading.Thread(target=body, name="cohort", daemon=True)
        thread.start()
        while True:
            try:
                item = self.calls.get()
            except KeyboardInterrupt as error:  # stops as the stop object does: a checkpoint is saved, then it is raised
                if self.raised is not None:
                    raise
                self.keep(error)
                continue
            if item is None:
                break
            function, answer, done = item
            try:
                answer.append(function())
            except BaseException as error:
                self.keep(error)
            finally:
                done.set()
        thread.join()
        return status[0] if status else c.ERRORS.index(c.InternalError)


class Watcher:
    """What a run tells: override what you want to know. Called on the thread that called run_command."""

    def on_output(self, text: bytes) -> None: ...

    def on_message(self, text: str) -> None: ...

    def on_metrics(self, metrics: dict[str, Optional[float]]) -> None: ...

    def on_progress(self, phase: str, step: int, steps: int, done: int, total: int, unit: str, per_second: float) -> None: ...


def observer_of(bridge: Bridge, watcher: Watcher, progress: bool) -> c.Observer:
    observer = c.Observer()
    c.lib.cohort_observer_init_sized(byref(observer), sizeof(observer))

    @c.OUTPUT
    def on_output(_context: Any, data: Any, length: int) -> None:
        text = bytes(data[:length])
        bridge.here(lambda: watcher.on_output(text), None)

    @c.MESSAGE
    def on_message(_context: Any, text: bytes) -> None:
        line = text.decode("utf-8", "replace")
        bridge.here(lambda: watcher.on_message(line), None)

    @c.METRICS
    def on_metrics(_context: Any, metrics: Any) -> None:
        items = metrics.contents
        row = {items.items[i].name.decode(): items.items[i].value for i in range(items.count)}
        clean = {name: value if math.isfinite(value) else None for name, value in row.items()}
        bridge.here(lambda: watcher.on_metrics(clean), None)

    @c.PROGRESS
    def on_progress(_context: Any, progress: Any) -> bool:
        if bridge.raised is not None:
            return False
        p = progress.contents
        values = (p.phase.decode(), p.step, p.steps, p.done, p.total, p.unit.decode(), p.per_second)
        bridge.here(lambda: watcher.on_progress(*values), None)
        return bridge.raised is None

    observer.output, observer.message, observer.metrics = on_output, on_message, on_metrics
    if progress:
        observer.progress = on_progress
    return observer


def run_command(options: c.Options, watcher: Watcher, stop: Optional[c.Stop] = None, bridge: Optional[Bridge] = None,
                progress: bool = False) -> None:
    """Runs the options' command. Raises what a callback raised, with its traceback, else what the command failed with."""
    c.check_process()
    stop = stop or c.Stop()
    bridge = bridge or Bridge(stop)
    options.set_stop(stop)
    observer, err = observer_of(bridge, watcher, progress), c.error_struct()
    status = bridge.run(lambda: int(c.lib.cohort_run(options.handle, byref(observer), byref(err))))
    if bridge.raised is not None:
        raise bridge.raised
    c.check(status, err)


class Collected(Watcher):
    """Keeps the output, and tells messages to a function."""

    def __init__(self, say: Optional[Callable[[str], None]] = None) -> None:
        self.output = bytearray()
        self.say = say

    def on_output(self, text: bytes) -> None:
        self.output += text

    def on_message(self, text: str) -> None:
        if self.say is not None:
            self.say(text)


def output_of(command: str, values: dict[str, Any], say: Optional[Callable[[str], None]] = None) -> bytes:
    """Runs a command with these options, and returns what it wrote."""
    options, collected = c.Options(command), Collected(say)
    for name, value in values.items():
        options.set(name, value)
    run_command(options, collected)
    options.close()
    return bytes(collected.output)
