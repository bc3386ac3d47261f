"""Writes tests/fixtures/loss/trl.json: GRPOTrainer._compute_loss of the installed TRL on random log-probs.

The trainer is built without __init__ and gets only the attributes that _compute_loss reads; the model's
forward is replaced by a leaf tensor, so loss, gradient and metrics are TRL's own code. It runs in float64 on
float32-representable inputs, so that the fixture shows formulas and not rounding; "loss_fp32" is the same
call in float32, the precision TRL trains with. The torch version matters where a ratio is exactly on a clip bound (batch 3): clamp
passes a gradient there up to torch 2.13, none from 2.14 on.

    python oracle/loss_trl.py
"""

import itertools
import json
import os
import random
from collections import defaultdict
from types import SimpleNamespace

import torch
import trl
from trl import GRPOTrainer

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "loss", "trl.json")
MAX_LENGTH = 12


def f32(x):
    return torch.tensor(x, dtype=torch.float32).item()


def make_trainer(case, n_micro):
    trainer = object.__new__(GRPOTrainer)
    trainer.args = SimpleNamespace(
        delta=case["delta"] or None, use_bias_correction_kl=False, steps_per_generation=n_micro
    )
    trainer.top_entropy_quantile = 1.0
    trainer.off_policy_mask_threshold = None
    trainer.importance_sampling_level = case["level"]
    trainer.loss_type = case["type"]
    trainer.beta = case["beta"]
    trainer.epsilon_low = case["epsilon"]
    trainer.epsilon_high = case["epsilon_high"]
    trainer.max_completion_length = MAX_LENGTH
    trainer.use_vllm = False
    trainer.vllm_importance_sampling_correction = False
    trainer.aux_loss_enabled = False
    trainer._entropy_bonus_enabled = False
    trainer.model = SimpleNamespace(training=True)
    trainer.current_gradient_accumulation_steps = n_micro
    trainer.accelerator = SimpleNamespace(
        num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=True
    )
    trainer._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    return trainer


def padded(rows, dtype, width):
    return torch.tensor([r + [0.0] * (width - len(r)) for r in rows], dtype=dtype)


def run(case, batch, dtype):
    """Loss of the optimizer step, gradient per sequence, metrics of the last micro-batch."""
    sequences = batch["sequences"]
    size = len(sequences) // batch["micro_batches"]
    # TRL takes completions padded to one column for sequence-level values, so keep at least two.
    counted = sum(0 if s["masked"] else len(s["logp"]) for s in sequences)
    total, gradient, metrics = 0.0, [], {}
    trainer = make_trainer(case, batch["micro_batches"])
    for start in range(0, len(sequences), size):
        part = sequences[start : start + size]
        width = max(2, max(len(s["logp"]) for s in part))
        lp = padded([s["logp"] for s in part], dtype, width).requires_grad_()
        entropy = padded([s["entropy"] for s in part], dtype, width)
        mask = torch.tensor(
            [[0 if s["masked"] or t >= len(s["logp"]) else 1 for t in range(width)] for s in part]
        )
        inputs = {
            "prompt_ids": torch.zeros(len(part), 1, dtype=torch.long),
            "prompt_mask": torch.ones(len(part), 1, dtype=torch.long),
            "completion_ids": torch.zeros(len(part), width, dtype=torch.long),
            "completion_mask": mask,
            "advantages": torch.tensor([s["advantage"] for s in part], dtype=dtype),
            "num_items_in_batch": torch.tensor(counted),
        }
        if case["old"]:
            inputs["old_per_token_logps"] = padded([s["logp_old"] for s in part], dtype, width)
        if case["beta"]:
            inputs["ref_per_token_logps"] = padded([s["logp_ref"] for s in part], dtype, width)
        trainer._get_per_token_logps_and_entropies = lambda *a, **k: (lp, entropy, None)
        loss = trainer._compute_loss(trainer.model, inputs)
        loss.backward()
        total += loss.item()
        gradient += [lp.grad[i, : len(s["logp"])].tolist() for i, s in enumerate(part)]
    if batch["micro_batches"] == 1:
        metrics = {k: v[0] for k, v in trainer._metrics["train"].items()}
    return total, gradient, metrics


def random_batch(rng, n, micro_batches=1, masked=(), noise=0.3):
    sequences = []
    for i in range(n):
        length = rng.randint(1, MAX_LENGTH) if i else MAX_LENGTH
        logp = [f32(-abs(rng.gauss(0, 1.5)) - 0.01) for _ in range(length)]
        sequences.append(
            {
                "masked": i in masked,
                "advantage": 0.0 if i % 5 == 4 else f32(rng.gauss(0, 1.2)),
                "logp": logp,
                "logp_old": [f32(x + rng.gauss(0, noise)) for x in logp],
                "logp_ref": [f32(x + rng.gauss(0, 0.4)) for x in logp],
                "entropy": [f32(abs(rng.gauss(0, 1))) for _ in logp],
            }
        )
    return {"micro_batches": micro_batches, "sequences": sequences}


def kink_batch(rng):
    """Old equal to new: a ratio of exactly 1, which is a tie, and with epsilon 0 or delta 1 a bound too."""
    batch = random_batch(rng, 5)
    for s in batch["sequences"]:
        s["logp_old"] = [x if t % 3 else f32(x + 0.25 * (-1) ** t) for t, x in enumerate(s["logp"])]
    batch["sequences"][1]["logp_old"] = list(batch["sequences"][1]["logp"])
    return batch


def case_list():
    cases = []

    def add(batch, types, levels, betas, deltas, epsilons, old=True):
        for t, lv, b, d, (e, eh) in itertools.product(types, levels, betas, deltas, epsilons):
            cases.append(
                dict(batch=batch, type=t, level=lv, beta=b, delta=d, epsilon=e, epsilon_high=eh, old=old)
            )

    types = ["grpo", "bnpo", "dr_grpo", "dapo"]
    levels = ["token", "sequence"]
    usual = [(0.2, 0.2), (0.2, 0.28)]
    # Sequence ratios are near 1: bounds as narrow as GSPO's let them be clipped.
    narrow = [(0.02, 0.03)]
    add(0, types, levels, [0.0, 0.04], [0.0, 1.5, 1.1], usual)
    add(0, types, ["sequence"], [0.0, 0.04], [0.0, 1.01], narrow)
    add(1, types, levels, [0.0, 0.04], [0.0, 1.4], usual + narrow)
    add(2, ["grpo", "dr_grpo", "dapo"], levels, [0.0, 0.1], [0.0, 1.5], usual[1:])
    add(3, types, levels, [0.0], [0.0, 1.0, 1.2], [(0.0, 0.0), (0.0, 0.2), (0.2, 0.0), (0.2, 0.2)])
    add(4, types, levels, [0.0, 0.04], [0.0], usual[1:])
    add(0, types, levels, [0.0, 0.04], [0.0, 1.0], usual[1:], old=False)
    return cases


def shortened(x):
    """Doubles with 15 digits; float32 inputs are exact with 9."""
    return float(f"{x:.15g}")


def main():
    rng = random.Random(20)
    batches = [
        random_batch(rng, 6),
        random_batch(rng, 6, masked=(1, 3)),
        random_batch(rng, 8, micro_batches=4, masked=(2,)),
        kink_batch(rng),
        random_batch(rng, 3, masked=(0, 1, 2)),
    ]
    cases = []
    for case in case_list():
        loss, gradient, metrics = run(case, batches[case["batch"]], torch.float64)
        loss_fp32, _, _ = run(case, batches[case["batch"]], torch.float32)
        metrics = {k: None if v != v else shortened(v) for k, v in metrics.items()}
        gradient = [[float(f"{x:.10g}") for x in row] for row in gradient]
        cases.append(
            case
            | dict(loss=shortened(loss), loss_fp32=shortened(loss_fp32), gradient=gradient, metrics=metrics)
        )
    for batch in batches:
        for s in batch["sequences"]:
            for key in ("logp", "logp_old", "logp_ref", "entropy"):
                s[key] = [float(f"{x:.9g}") for x in s[key]]
            s["advantage"] = float(f"{s['advantage']:.9g}")
    fixture = {
        "source": f"TRL {trl.__version__}, torch {torch.__version__.split('+')[0]}: "
        "GRPOTrainer._compute_loss, oracle/loss_trl.py",
        "max_completion_length": MAX_LENGTH,
        "batches": batches,
        "cases": cases,
    }
    with open(OUT, "w") as f:
        f.write('{"source": %s, "max_completion_length": %d,\n' % (json.dumps(fixture["source"]), MAX_LENGTH))
        f.write('"batches": [\n' + ",\n".join(json.dumps(b) for b in batches) + "],\n")
        f.write('"cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "]}\n")
    print(len(cases), "cases,", os.path.getsize(OUT), "bytes")


if __name__ == "__main__":
    main()
