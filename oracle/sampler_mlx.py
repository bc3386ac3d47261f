"""What MLX-LM's own logits processors and sampling methods leave of random logits: tests/fixtures/sampler_mlx.json.

Each case holds raw logits, a history, parameters, the processed logits and the probabilities from which MLX-LM would draw
(softmax of the filtered log-probs divided by the temperature). XTC is run with probability 1, so that its coin does not matter.
Cases in which a probability mass or a threshold lies within 1e-5 of a decision are skipped: there rounding decides.
Run: python oracle/sampler_mlx.py"""

import json
import math
import pathlib

import mlx.core as mx
import numpy as np
from mlx_lm import sample_utils as su


def floats(values):
    return [float("%.9g" % v) for v in np.asarray(values, dtype=np.float32).ravel()]


def processed(case, logits, history):
    bias = dict(zip(case["bias_id"], case["bias"]))
    tokens = mx.array(history)
    out = mx.array(logits)[None]
    for processor in su.make_logits_processors(
            bias or None, case["repetition_penalty"] or None, case["repetition_context"],
            case["presence_penalty"] or None, case["presence_context"],
            case["frequency_penalty"] or None, case["frequency_context"]):
        out = processor(tokens, out)
    return out


def filtered(case, logits):
    """What make_sampler's own chain hands to its draw: the draw is replaced by one that keeps its input."""
    seen = []
    su.categorical_sampling = lambda left, temp: seen.append(left * (1.0 / temp))
    sampler = su.make_sampler(
        case["temperature"], case["top_p"], case["min_p"], case["min_tokens_to_keep"], case["top_k"],
        case["xtc_probability"], case["xtc_threshold"], case["xtc_special"])
    sampler(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    return seen[0]


def is_close_call(case, logits):
    """In double: does any decision hang on rounding?"""
    x = np.asarray(logits, dtype=np.float64).ravel()
    lp = x - x.max() - math.log(np.exp(x - x.max()).sum())
    p = np.exp(lp)
    order = np.sort(p)[::-1]
    near = lambda a, b: np.any(np.abs(np.asarray(a) - b) < 1e-5 * max(b, 1e-3))
    if 0 < case["top_p"] < 1:
        if near(np.cumsum(order), case["top_p"]):
            return True
        above = np.cumsum(order) - order
        p = np.where(p >= order[(above < case["top_p"]).sum() - 1], p, 0)
    if case["min_p"] and near(p[p > 0] / p.max(), case["min_p"]):
        return True
    if case["min_p"]:
        keep = np.argsort(-p)[:case["min_tokens_to_keep"]]
        kept = np.zeros(len(p), bool)
        kept[keep] = True
        p = np.where((p >= case["min_p"] * p.max()) | kept, p, 0)
    return bool(case["xtc_probability"] and near(p / p.sum(), case["xtc_threshold"]))


def main():
    random = np.random.default_rng(7)
    cases = []
    while len(cases) < 160:
        count = int(random.choice([5, 16, 33, 100]))
        spread = float(random.choice([0.5, 2.0, 6.0]))
        logits = random.normal(0, spread, count).astype(np.float32)
        if random.random() < 0.2:
            logits[random.integers(0, count, 2)] = -30.0
        pick = lambda off, *on: type(off)(random.choice([off, *on]))
        n_bias = int(random.choice([0, 0, 2]))
        case = {
            "temperature": pick(1.0, 0.6, 1.7),
            "top_p": pick(0.0, 0.1, 0.5, 0.8, 0.95, 1.0),
            "min_p": pick(0.0, 0.0, 0.02, 0.1, 0.5),
            "min_tokens_to_keep": pick(1, 1, 3),
            "xtc_probability": pick(0.0, 0.0, 1.0),
            "xtc_threshold": pick(0.02, 0.1, 0.3),
            "xtc_special": pick(0, 0, 1) * [0, int(np.argmax(logits))],
            "top_k": pick(0, 0, 1, 2, 4),
            "repetition_penalty": pick(0.0, 0.0, 1.3, 0.8),
            "presence_penalty": pick(0.0, 0.0, 0.5),
            "frequency_penalty": pick(0.0, 0.0, 0.25),
            "repetition_context": pick(20, 3),
            "presence_context": pick(20, 4),
            "frequency_context": pick(20, 5),
            "bias_id": [int(i) for i in random.permutation(count)[:n_bias]],
            "bias": floats(random.normal(0, 3, n_bias)),
        }
        history = [int(i) for i in random.integers(0, count, int(random.choice([1, 6, 30])))]
        changed = processed(case, logits, history)
        if is_close_call(case, changed):
            continue
        probs = mx.softmax(filtered(case, changed), axis=-1)
        cases.append({**case, "history": history, "logits": floats(logits),
                      "processed": floats(changed), "probs": floats(probs)})
    path = pathlib.Path(__file__).parent.parent / "tests/fixtures/sampler_mlx.json"
    lines = ",\n".join(json.dumps(c) for c in cases)
    path.write_text('{"cases": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
