"""Writes tests/fixtures/advantages/tokens.json: advantages of tokens by the formulas of docs/GRPO.md, in float64 with numpy.

A reward is an event: (token, value). A row with one number has one event, at its last token. Statistics are of events, and
a token's advantage is the sum of those at and behind it: process supervision as in arXiv 2402.03300, section 4.1.3. Its
last case is the paper's own arithmetic, step by step.

    python oracle/token_rewards.py
"""

import json
import os
import random

import numpy as np

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "advantages", "tokens.json")
EPSILON = 1e-4


def std(values):
    return np.std(values, ddof=1) if len(values) > 1 else np.nan


def divided(x, s, epsilon=EPSILON):
    return x / (s + epsilon)


def events_of(case, row):
    """{token: {function: value}}"""
    events = {}
    for f, given in enumerate(case["rewards"][row]):
        listed = given if isinstance(given, list) else [None] * (case["n_tokens"][row] - 1) + [given]
        for t, value in enumerate(listed):
            if value is not None:
                events.setdefault(t, {})[f] = value
    return events


def advantages(case):
    rows, group, weights = range(len(case["rewards"])), case["group"], case["weights"]
    events = [events_of(case, i) for i in rows]
    total = [{t: sum(weights[f] * v for f, v in given.items()) for t, given in e.items()} for e in events]
    groups = [rows[i : i + group] for i in range(0, len(rows), group)]
    batch = [v for e in total for v in e.values()]
    zero, result = 0, [{} for _ in rows]
    for members in groups:
        here = [v for i in members for v in total[i].values()]
        if case["aggregation"] == "normalize_then_sum":
            for f, weight in enumerate(weights):
                of_f = [given[f] for i in members for given in events[i].values() if f in given]
                for i in members:
                    for t, given in events[i].items():
                        z = divided(given[f] - np.mean(of_f), std(of_f)) if f in given and len(of_f) > 1 else 0.0
                        result[i][t] = result[i].get(t, 0.0) + weight * z
            continue
        for i in members:
            others = [v for j in members if j != i for v in total[j].values()]
            for t, value in total[i].items():
                if case["estimator"] == "rloo":
                    a = value - np.mean(others) if others else np.nan
                elif case["estimator"] == "reinforce_plus_plus":
                    a = value - np.mean(batch)
                else:
                    a = value - np.mean(here)
                if case["scale"] == "group":
                    a = divided(a, std(here))
                elif case["scale"] == "batch" and case["estimator"] == "grpo":
                    a = divided(a, std(batch))
                result[i][t] = a
        of = batch if case["estimator"] == "reinforce_plus_plus" or (
            case["estimator"] == "grpo" and case["scale"] == "batch") else here
        zero += group if len(of) > 1 and std(of) <= 1e-8 else 0
    flat = [v for e in result for v in e.values() if not np.isnan(v)]
    if case["aggregation"] == "normalize_then_sum":
        zero = len(rows) if len(flat) > 1 and std(flat) <= 1e-8 else 0
    if case["aggregation"] == "normalize_then_sum" or (case["scale"] == "batch" and case["estimator"] != "grpo"):
        result = [{t: divided(v - np.mean(flat), std(flat)) for t, v in e.items()} for e in result]
    out = []
    for i in rows:
        a = [sum(v for s, v in result[i].items() if s >= t and not np.isnan(v)) for t in range(case["n_tokens"][i])]
        out.append([float(x) for x in a])
    return out, zero / len(rows)


def random_case(rng, estimator, scale, aggregation):
    group, weights = rng.choice([2, 3, 4]), rng.choice([[1.0], [1.0, 0.5], [2.0, -0.25, 1.0]])
    listed = [rng.random() < 0.7 for _ in weights]
    if not any(listed):
        listed[0] = True
    n = group * rng.choice([1, 2, 3])
    n_tokens = [rng.randint(1, 7) for _ in range(n)]
    rewards = []
    for i in range(n):
        row = []
        for f in range(len(weights)):
            if rng.random() < 0.1:
                row.append(None)
            elif listed[f] and rng.random() < 0.9:
                density = rng.choice([0.0, 0.3, 1.0])
                row.append([round(rng.gauss(0, 1), 3) if rng.random() < density else None for _ in range(n_tokens[i])])
            else:
                row.append(round(rng.gauss(0, 1), 3))
        rewards.append(row)
    return dict(estimator=estimator, scale=scale, aggregation=aggregation, group=group, weights=weights, n_tokens=n_tokens,
                rewards=rewards)


def paper():
    """Two outputs of one question, with rewards at the ends of their steps: r~ = (r - mean(R)) / std(R), A_t = the sum of r~
    of the steps that end at or behind t."""
    case = dict(estimator="grpo", scale="group", aggregation="sum_then_normalize", group=2, weights=[1.0], n_tokens=[5, 4],
                rewards=[[[None, 0.5, None, None, 1.0]], [[None, None, -1.0, 0.25]]])
    r = np.array([0.5, 1.0, -1.0, 0.25])
    a, b, c, d = (r - r.mean()) / (r.std(ddof=1) + EPSILON)
    want = [[a + b, a + b, b, b, b], [c + d, c + d, c + d, d]]
    assert np.allclose(np.concatenate(advantages(case)[0]), np.concatenate(want), rtol=1e-14)
    return case


def main():
    rng = random.Random(5)
    kinds = [("grpo", s, "sum_then_normalize") for s in ("group", "batch", "none")]
    kinds += [("grpo", "group", "normalize_then_sum")]
    kinds += [("rloo", s, "sum_then_normalize") for s in ("group", "batch", "none")]
    kinds += [(e, "batch", "sum_then_normalize") for e in ("reinforce_plus_plus", "reinforce_plus_plus_baseline")]
    cases = [paper()] + [random_case(rng, *kind) for kind in kinds for _ in range(12)]
    for case in cases:
        case["advantages"], case["frac_reward_zero_std"] = advantages(case)
        case["advantages"] = [[float(f"{x:.12g}") for x in row] for row in case["advantages"]]
    with open(OUT, "w") as f:
        f.write('{"source": "formulas of docs/GRPO.md, numpy %s, oracle/token_rewards.py",\n"cases": [\n' % np.__version__)
        f.write(",\n".join(json.dumps(c) for c in cases) + "]}\n")
    print(len(cases), "cases,", os.path.getsize(OUT), "bytes")


if __name__ == "__main__":
    main()
