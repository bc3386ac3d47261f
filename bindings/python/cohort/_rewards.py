"""Reward functions of Python's, called as TRL calls them."""

from __future__ import annotations

import asyncio
import ctypes
import json
import math
from typing import Any, Callable, Dict, List, Optional

from . import _library as c
from . import _worker as worker
from ._run import Bridge

RewardFunction = Callable[..., Any]
REWARD_FAILED = c.ERRORS.index(c.RewardError)


def name_of(function: Any) -> str:
    name = getattr(function, "__name__", None) or getattr(getattr(function, "func", None), "__name__", None)
    return str(name or type(function).__name__)


class Rewards:
    """Functions that C asks."""

    def __init__(self, bridge: Bridge, state: Callable[[], Dict[str, Any]], object_of: Optional[Callable[[Dict[str, Any]], Any]] = None) -> None:
        """object_of: the environment's object of an episode."""
        self.bridge, self.state, self.object_of = bridge, state, object_of
        self.loop: Optional[asyncio.AbstractEventLoop] = None

    def add(self, options: c.Options, function: RewardFunction, name: str) -> None:
        if worker.is_async(function) and self.loop is None:
            self.loop = asyncio.new_event_loop()

        def answered(rows: Any, n: int, err: Any) -> Optional[List[Any]]:
            listed = [rows[i].contents for i in range(n)]
            answers = self.bridge.here(lambda: self._score(function, name, listed), None)
            if answers is None:
                message = "%s raised %s" % (name, type(self.bridge.raised).__name__)
                err.contents.status, err.contents.message = REWARD_FAILED, message.encode()[:1199]
            return answers

        @c.REWARD
        def score(_context: Any, rows: Any, n: int, rewards: Any, err: Any) -> int:
            answers = answered(rows, n, err)
            for i, value in enumerate(answers or []):
                rewards[i] = math.nan if value is None else value
            return REWARD_FAILED if answers is None else 0

        @c.TOKEN_REWARD
        def score_tokens(_context: Any, rows: Any, n: int, rewards: Any, err: Any) -> int:
            answers = answered(rows, n, err)
            for i, value in enumerate(answers or []):
                self._fill(rewards[i], rows[i].contents.n_tokens, value)
            return REWARD_FAILED if answers is None else 0

        tokens = getattr(function, "rewards_tokens", False)
        options.kept.append(score_tokens if tokens else score)
        if tokens:
            c.call("cohort_options_add_token_reward", options.handle, name.encode(), score_tokens, None)
        else:
            c.call("cohort_options_add_reward", options.handle, name.encode(), score, None)

    @staticmethod
    def _fill(places: Any, n: int, value: Any) -> None:
        """A list: rewards of tokens. A number: at the last token, which makes it the completion's."""
        if isinstance(value, list):
            for i, one in enumerate(value):
                places[i] = math.nan if one is None else one
        elif n > 0:
            places[n - 1] = math.nan if value is None else value

    def _episode(self, text: Optional[bytes]) -> Optional[Dict[str, Any]]:
        if text is None:
            return None
        episode: Dict[str, Any] = json.loads(text)
        if self.object_of is not None:
            episode["object"] = self.object_of(episode)
        return episode

    def _score(self, function: RewardFunction, name: str, rows: List[Any]) -> List[Any]:
        given = []
        for row in rows:
            given.append({
                "columns": json.loads(row.row_json), "prompt": c.text_at(row.prompt, row.prompt_length),
                "completion": c.text_at(row.completion, row.completion_length), "tokens": list(row.tokens[: row.n_tokens]) if row.n_tokens else [],
                "finish_reason": row.finish_reason.decode(), "parsed": json.loads(row.parsed_json) if row.parsed_json else None,
                "episode": self._episode(row.episode_json),
            })
        try:
            answers: List[Dict[str, Any]] = worker.score(function, name, given, self.state(), self.loop)
        except worker.Refused as error:
            raise c.RewardError(str(error)) from None
        for key, values in answers[0].get("metrics", {}).items():
            for value in values:
                c.call("cohort_reward_log_metric", rows[0].log, key.encode(), math.nan if value is None else value)
        for row, answer in zip(rows, answers):
            for column, value in answer.get("extra", {}).items():
                c.call("cohort_reward_log_extra", row.log, column.encode(), json.dumps(value).encode())
        values = [answer["reward"] for answer in answers]
        if not getattr(function, "rewards_tokens", False):
            for i, value in enumerate(values):
                if isinstance(value, list):
                    raise c.RewardError("%s returned a list for completion %d; a function that rewards tokens is marked so: @cohort.rewards.of_tokens"
                                        % (name, i))
        return values

    def close(self) -> None:
        if self.loop is not None:
            self.loop.close()
            self.loop = None
