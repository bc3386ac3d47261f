"""Writes tests/fixtures/rewards.json: values of the installed TRL's reward functions for completions of our own.

A case is a reward of cohort with its parameters, and a row for each completion: its text, the length and ids of its
tokens, the row's solution, and what TRL's function of that name gives (null where None). Floats are written so that
they read back to the same double.

    python oracle/rewards_trl.py
"""

import json
import os
import random

from trl.rewards import (
    get_cosine_scaled_reward,
    get_repetition_penalty_reward,
    get_soft_overlong_punishment,
    reasoning_accuracy_reward,
    think_format_reward,
)

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "rewards.json")

THINKING = [
    "<think>a</think>b", "<think>\nsome\nlines\n</think>\n\nThe answer\nis 4", "<think></think>", "<think>a</think> </think>",
    " <think>a</think>b", "\n<think>a</think>b", "x\n<think>a</think>b", "<think>a<think>b</think>", "<think>a</think>b<think>",
    "<think>a", "a</think>b", "", "<think>", "</think>", "<think>a</think >", "<THINK>a</THINK>", "<think>\u00e9\u65e5</think>\u00e9",
    "<think>a\r\nb</think>\r\n", "<think>a\u2028b</think>", "<think >a</think>", "<think>a</think>\n\n\n", "<think>1</think>2<think>3</think>",
    "<thinking>a</thinking>", "<think>a\n</think>\n<think>", "<think>a\0b</think>c",
]

# Where both sides agree which answer is stated; what accuracy itself does is the subject of answers.json.
ANSWERED = [
    (r"<think> so </think> The final answer is \boxed{\frac{1}{3}}", r"\frac{1}{3}"),
    (r"<think> so </think> The final answer is \boxed{\frac{1}{2}}", r"\frac{1}{3}"),
    (r"<think> perhaps \boxed{\frac{1}{3}} but", r"\frac{1}{3}"),
    (r"\boxed{7}", "$7$"),
    (r"<think>\boxed{7}</think>\boxed{8}", "$7$"),
    (r"<think>\boxed{8}</think>\boxed{7}", "$7$"),
    (r"<think>a</think>\boxed{7}</think>\boxed{8}", "$8$"),
    (r"<think>a</think>\boxed{7}</think>\boxed{8}", "$7$"),
    (r"</think>\boxed{7}", "$7$"),
    (r"<think>\boxed{7}</think>", "$7$"),
    (r"<think>\boxed{7}</think", "$7$"),
    (r"<|end|>\boxed{7}", "$7$"),
    (r"<|end|>\boxed{7}[reply]so", "$7$"),
    (r"<|end|>so[reply]\boxed{7}", "$7$"),
    (r"[reply]\boxed{7}<|end|>so", "$7$"),
    (r"[reply]so<|end|>\boxed{7}", "$7$"),
    (r"so[reply]\boxed{7}", "$7$"),
    (r"<|end|>\boxed{7}<|end|>so", "$7$"),
    (r"<|end|>so<|end|>\boxed{7}", "$7$"),
    ("", "$7$"),
    (r"</think>\boxed{7}", ""),
    (r"\boxed{7}", ""),
]


def row(text="", ids=(), solution=None, n=None):
    return {"completion": text, "ids": list(ids), "n": len(ids) if n is None else n, "solution": solution}


def case(reward, parameters, rows, function):
    values = function(
        completions=[[{"role": "assistant", "content": r["completion"]}] for r in rows],
        completion_ids=[r["ids"] if r["ids"] else [1] * r["n"] for r in rows],
        solution=[r["solution"] for r in rows],
    )
    return {"reward": reward, "parameters": parameters, "rows": [dict(r, value=v) for r, v in zip(rows, values, strict=True)]}


def main():
    rng = random.Random(1)
    cases = [case("think_format", {}, [row(t) for t in THINKING], think_format_reward)]
    cases.append(dict(cases[0], reward="format"))

    for longest, cache in [(100, 20), (100, 0), (7, 7), (7, 3), (5, 11), (32768, 4096), (1, 1)]:
        edges = {longest - cache + d for d in (-1, 0, 1)} | {longest + d for d in (-1, 0, 1)} | {0, 1, 10 * longest}
        edges |= {rng.randrange(0, longest + 2) for _ in range(8)}
        parameters = {"max_completion_len": longest, "soft_punish_cache": cache}
        rows = [row(n=n) for n in sorted(edges) if n >= 0]
        cases.append(case("soft_overlong_punishment", parameters, rows, get_soft_overlong_punishment(**parameters)))

    for size, penalty in [(3, -1.0), (2, -1.0), (1, -0.3), (4, -2.5), (40, -1.0), (1024, -0.1), (2, 0.0)]:
        lists = [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [5] * 5, [1, 2, 3] * 3, [2147483646, 0] * 4, [256, 1, 65536, 256, 1], [9] * 300]
        lists += [[rng.randrange(0, rng.choice([2, 3, 20])) for _ in range(rng.randrange(0, 90))] for _ in range(25)]
        parameters = {"ngram_size": size, "max_penalty": penalty}
        cases.append(case("repetition_penalty", parameters, [row(ids=ids) for ids in lists], get_repetition_penalty_reward(**parameters)))

    for parameters in [{"max_len": 100}, {"max_len": 7}, {"max_len": 1},
                       {"max_len": 64, "min_value_wrong": -2.0, "max_value_wrong": -0.1, "min_value_correct": 0.3, "max_value_correct": 1.7},
                       {"max_len": 64, "min_value_wrong": 0.0, "max_value_wrong": 0.0, "min_value_correct": 2.0, "max_value_correct": -1.0}]:
        lengths = [0, 1, parameters["max_len"] // 2, parameters["max_len"] - 1, parameters["max_len"], parameters["max_len"] + 1, 1000]
        lengths += [rng.randrange(0, parameters["max_len"] + 1) for _ in range(6)]
        rows = [row(t, (), "$7$" if s else "", n) for n in lengths for t, s in [(r"\boxed{7}", 1), (r"\boxed{8}", 1), (r"\boxed{7}", 0)]]
        cases.append(case("cosine_scaled", parameters, rows, get_cosine_scaled_reward(**parameters)))

    for delimiters in [None, ["</think>"], ["<|end|>", "[reply]"], ["[reply]", "<|end|>"], ["</think>", "[reply]"], ["never"]]:
        parameters = {} if delimiters is None else {"reasoning_delimiters": delimiters}
        cases.append(case("reasoning_accuracy", parameters, [row(t, (), s) for t, s in ANSWERED],
                          lambda delimiters=delimiters, **k: reasoning_accuracy_reward(reasoning_delimiters=delimiters, **k)))

    with open(OUT, "w") as f:
        head = json.dumps({"format": 1, "trl": __import__("trl").__version__})[:-1]
        f.write(head + ', "cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n")
    print(sum(len(c["rows"]) for c in cases), "values in", len(cases), "cases")


main()
