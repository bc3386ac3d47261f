"""Reward functions in Python, with TRL's signature:

    cohort grpo --reward python:examples/reward_functions.py:think_format_reward,python:examples/reward_functions.py:gsm8k_reward ...

A function gets the whole batch: prompts and completions as lists (of texts, or of lists of messages where the data set's prompt is one), completion_ids,
the columns of the data set by their names, and trainer_state. It returns a number for each completion, or None where one cannot be scored. The same
file works in TRL: reward_funcs=[think_format_reward, gsm8k_reward]. Standard library only.
"""

import asyncio
import re


def text_of(completion):
    """A completion is a text, or a list with the assistant's message."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def think_format_reward(completions, **kwargs):
    """1 if the completion is <think>...</think> and then an answer."""
    pattern = re.compile(r"^<think>(?!.*<think>)(.*?)</think>.*$", re.DOTALL | re.MULTILINE)
    return [1.0 if pattern.match(text_of(completion)) else 0.0 for completion in completions]


def number_in(text):
    """The last number of a text, behind #### if that is there, as in GSM8K."""
    numbers = re.findall(r"-?\d[\d,]*\.?\d*", text.split("####")[-1])
    return numbers[-1].replace(",", "").rstrip(".") if numbers else None


def gsm8k_reward(completions, answer, log_extra=None, log_metric=None, **kwargs):
    """1 if the last number is that of the column "answer"; what was read stands in completions.jsonl, the share without a number in metrics.jsonl."""
    found = [number_in(text_of(completion)) for completion in completions]
    if log_extra:
        log_extra("extracted_answer", [number or "[none]" for number in found])
    if log_metric:
        log_metric("frac_without_number", sum(number is None for number in found) / len(found))
    return [float(number is not None and number == number_in(str(right))) for number, right in zip(found, answer)]


async def short_reward(completions, completion_ids, trainer_state, **kwargs):
    """Up to 0.1 for brevity, once half of the run is over. async, for functions that ask a server: all completions are asked at the same time."""

    async def one(ids):
        await asyncio.sleep(0)  # in its place: a request to a judge
        return 0.1 / (1 + len(ids))

    if trainer_state.global_step < trainer_state.max_steps / 2:
        return [None] * len(completions)
    return await asyncio.gather(*(one(ids) for ids in completion_ids))
