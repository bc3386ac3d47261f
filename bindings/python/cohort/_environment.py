"""Tools and environments of this process: what `cohort grpo --tools python:FILE.py` runs in a program of its own, over the library's callback."""

from __future__ import annotations

import ctypes
import json
import queue
from ctypes import byref
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import _library as c
from . import _tools_worker as tools_worker
from ._rewards import REWARD_FAILED, name_of
from ._run import Bridge

EPISODE = "cohort_episode"  # in a state: which object it is of


class _Lines:
    """What the worker writes, a line at a time, until the library asks."""

    def __init__(self) -> None:
        self.lines: "queue.SimpleQueue[bytes]" = queue.SimpleQueue()

    def write(self, line: bytes) -> None:
        self.lines.put(line)

    def flush(self) -> None: ...


class Environment(tools_worker.Worker):
    """Functions that the model calls (tools), or an object for each episode (factory), as TRL has them.

    Calls of different episodes run side by side, in threads; those of an episode one after the other. Objects are kept until the next batch is
    drawn, so that reward functions get them.
    """

    def __init__(self, tools: Optional[List[Any]], factory: Optional[Callable[[], Any]]) -> None:
        self.out = _Lines()
        super().__init__(self.out)
        self.batch: Optional[Tuple[Any, Any]] = None
        self.objects: Dict[str, Any] = {}
        try:
            if factory is not None:
                self.name = name_of(factory)
                self.use_factory(factory, self.name)
            else:
                self.name = "tools"
                self.use_functions({name_of(function): function for function in tools or []})
        except tools_worker.Refused as error:
            raise TypeError(str(error)) from None

    def state_of(self, thing: Any, episode: str) -> Dict[str, Any]:
        self.objects[episode] = thing
        return {**super().state_of(thing, episode), EPISODE: episode}

    def object_of(self, story: Dict[str, Any]) -> Any:
        """The object of an episode; None: there is none, as of one that was lost."""
        return self.objects.get((story.get("state") or {}).get(EPISODE, ""))

    def attach(self, options: c.Options, bridge: Bridge) -> None:
        """Answers the turns of the options' command. One at a time."""

        @c.ENVIRONMENT
        def ask(_context: Any, environment: Any, request: Any, length: int, err: Any) -> int:
            try:
                if request:
                    self._take(json.loads(ctypes.string_at(request, length)))
                while True:
                    line = self.out.lines.get_nowait()
                    status = int(c.lib.cohort_environment_answer(environment, line, len(line), err))
                    if status != 0:
                        return status
            except queue.Empty:
                return 0
            except BaseException as error:
                bridge.keep(error)
                err.contents.status, err.contents.message = REWARD_FAILED, ("%s: %s" % (self.name, error)).encode()[:1199]
                return REWARD_FAILED

        options.kept.append(ask)
        c.call("cohort_options_set_environment", options.handle, self.name.encode(), ask, None)

    def _take(self, message: Dict[str, Any]) -> None:
        if message["type"] == "hello":
            self.start(self.name, tools_worker.THREADS)
        else:
            batch = (message.get("step"), message.get("eval"))
            if message["type"] == "begin" and batch != self.batch:
                self.batch = batch
                self.objects.clear()
            self.asked.put(message)
