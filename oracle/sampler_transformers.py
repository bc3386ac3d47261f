"""What transformers' own logits warpers leave of random logits, in its order: tests/fixtures/sampler_transformers.json.

The cases are as those of sampler_mlx.py, with hf_order. The repetition penalty looks at all of the history; there is no XTC in
transformers. Cases in which a decision hangs on rounding (within 1e-5) are skipped.
Run: python oracle/sampler_transformers.py"""

import json
import pathlib

import numpy as np
import torch
from transformers.generation.logits_process import (LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor,
                                                    TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)


def floats(values):
    return [float("%.9g" % v) for v in np.asarray(values, dtype=np.float32).ravel()]


def warpers(case):
    """The order of GenerationMixin._get_logits_processor."""
    out = LogitsProcessorList()
    if case["temperature"] != 1.0:
        out.append(TemperatureLogitsWarper(case["temperature"]))
    if case["top_k"]:
        out.append(TopKLogitsWarper(top_k=case["top_k"]))
    if 0 < case["top_p"] < 1:
        out.append(TopPLogitsWarper(top_p=case["top_p"]))
    if case["min_p"]:
        out.append(MinPLogitsWarper(min_p=case["min_p"], min_tokens_to_keep=case["min_tokens_to_keep"]))
    return out


def is_close_call(case, logits):
    x = np.asarray(logits, dtype=np.float64).ravel() / case["temperature"]
    if case["top_k"]:
        order = np.sort(x)[::-1]
        if case["top_k"] < len(x) and order[case["top_k"] - 1] - order[case["top_k"]] < 1e-4:
            return True  # equals stay there, and here the lowest ids
        x = np.where(x >= order[min(case["top_k"], len(x)) - 1], x, -np.inf)
    p = np.exp(x - x.max())
    p /= p.sum()
    near = lambda a, b: np.any(np.abs(np.asarray(a) - b) < 1e-5 * max(b, 1e-3))
    if 0 < case["top_p"] < 1:
        order = np.sort(p)[::-1]
        if near(np.cumsum(order), case["top_p"]):
            return True
        above = np.cumsum(order) - order
        last = order[(above < case["top_p"]).sum() - 1]
        if np.any((np.abs(p - last) < 1e-7) & (p != last)) or (p == last).sum() > 1:
            return True
        p = np.where(p >= last, p, 0)
    return bool(case["min_p"] and near(p[p > 0] / p.max(), case["min_p"]))


def main():
    random = np.random.default_rng(11)
    cases = []
    while len(cases) < 120:
        count = int(random.choice([5, 16, 33, 100]))
        logits = random.normal(0, float(random.choice([0.5, 2.0, 6.0])), count).astype(np.float32)
        pick = lambda off, *on: type(off)(random.choice([off, *on]))
        case = {
            "hf_order": True,
            "temperature": pick(1.0, 0.6, 1.7, 0.3),
            "top_p": pick(0.0, 0.3, 0.5, 0.8, 0.95),
            "min_p": pick(0.0, 0.0, 0.02, 0.1, 0.5),
            "min_tokens_to_keep": pick(1, 1, 3),
            "xtc_probability": 0.0, "xtc_threshold": 0.1, "xtc_special": [],
            "top_k": pick(0, 1, 2, 4, 8),
            "repetition_penalty": pick(0.0, 0.0, 1.3, 0.8),
            "presence_penalty": 0.0, "frequency_penalty": 0.0,
            "repetition_context": 0, "presence_context": 20, "frequency_context": 20,
            "bias_id": [], "bias": [],
        }
        history = [int(i) for i in random.integers(0, count, int(random.choice([1, 6, 30])))]
        ids = torch.tensor([history])
        changed = torch.tensor(logits)[None]
        if case["repetition_penalty"]:
            changed = RepetitionPenaltyLogitsProcessor(case["repetition_penalty"])(ids, changed)
        if is_close_call(case, changed.numpy()):
            continue
        left = warpers(case)(ids, changed.clone())
        cases.append({**case, "history": history, "logits": floats(logits), "processed": floats(changed),
                      "probs": floats(torch.softmax(left, -1))})
    path = pathlib.Path(__file__).parent.parent / "tests/fixtures/sampler_transformers.json"
    path.write_text('{"cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n")


if __name__ == "__main__":
    main()
