"""The built-in rewards under TRL's names. In `reward_funcs` they are computed by the library itself; called, they score completions here.

>>> from cohort.rewards import accuracy_reward
>>> accuracy_reward(completions=[[{"role": "assistant", "content": r"It is $\\boxed{7}$"}]], solution=["$7$"])
[1.0]
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any, Callable, Dict, List, Optional, TypeVar

from ._run import output_of
from ._worker import plain

F = TypeVar("F", bound=Callable[..., Any])


def of_tokens(function: F) -> F:
    """Marks a reward function that returns, for each completion, a list of one number (or None) for each of its tokens."""
    function.rewards_tokens = True  # type: ignore[attr-defined]
    return function


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "".join(str(message.get("content") or "") for message in value)
    return str(value)


class Builtin:
    """A reward of the library's. `options`: what it is given, such as max_completion_len."""

    def __init__(self, name: str, spec: str, options: Optional[Dict[str, Any]] = None, doc: str = "") -> None:
        self.__name__, self.spec, self.options, self.__doc__ = name, spec, dict(options or {}), doc

    def __call__(self, completions: List[Any], prompts: Optional[List[Any]] = None, completion_ids: Optional[List[List[int]]] = None,
                 **columns: Any) -> List[Optional[float]]:
        """Scores: one for each completion (texts, or lists of messages), None where one cannot be scored."""
        if not completions:
            return []
        options = dict(self.options)
        if columns.get("reasoning_delimiters") is not None:
            options["reasoning_delimiters"] = columns.pop("reasoning_delimiters")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "rows.jsonl")
            with open(path, "w", encoding="utf-8") as out:
                for i, completion in enumerate(completions):
                    row = {name: values[i] for name, values in columns.items() if isinstance(values, (list, tuple)) and len(values) == len(completions)}
                    row.update(prompt=_text(prompts[i]) if prompts else "", completion=_text(completion))
                    if completion_ids is not None:
                        row["completion_ids"] = list(completion_ids[i])
                    out.write(json.dumps(plain(row)) + "\n")
            written = output_of("score", {**options, "data": path, "reward": self.spec})
        scores = [json.loads(line)["reward"] for line in written.splitlines() if line.startswith(b"{")]
        return [None if score is None else float(score) for score in scores]

    def __repr__(self) -> str:
        return "cohort.rewards.%s" % self.__name__


accuracy_reward = Builtin("accuracy_reward", "accuracy", doc="1 where the answer that the completion states is the row's solution (or answer).")
think_format_reward = Builtin("think_format_reward", "think_format", doc="1 where the completion is <think>...</think> and an answer.")


reasoning_accuracy_reward = Builtin(
    "reasoning_accuracy_reward", "reasoning_accuracy", doc="accuracy_reward of what follows the reasoning (reasoning_delimiters: texts that end it).")


def get_soft_overlong_punishment(max_completion_len: int, soft_punish_cache: int) -> Builtin:
    """DAPO's punishment of long completions."""
    return Builtin("soft_overlong_punishment_reward", "soft_overlong_punishment",
                   {"max_completion_len": max_completion_len, "soft_punish_cache": soft_punish_cache})


def get_cosine_scaled_reward(min_value_wrong: float = -1.0, max_value_wrong: float = -0.5, min_value_correct: float = 0.5,
                             max_value_correct: float = 1.0, max_len: int = 1000) -> Builtin:
    """Right answers are worth more the shorter they are, wrong ones less."""
    return Builtin("cosine_scaled_reward", "cosine_scaled", {
        "min_value_wrong": min_value_wrong, "max_value_wrong": max_value_wrong, "min_value_correct": min_value_correct,
        "max_value_correct": max_value_correct, "max_len": max_len,
    })


def get_repetition_penalty_reward(ngram_size: int = 3, max_penalty: float = -1.0) -> Builtin:
    """The share of n-grams that repeat an earlier one."""
    return Builtin("repetition_penalty_reward", "repetition_penalty", {"ngram_size": ngram_size, "max_penalty": max_penalty})
