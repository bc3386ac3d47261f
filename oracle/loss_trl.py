"""Writes tests/fixtures/loss/trl.json and switches.json: _compute_loss of the installed TRL's GRPOTrainer and GMPOTrainer
on random log-probs.

trl.json has clipped losses with clips, masks and micro-batches; switches.json every loss with every legal combination of
level, delta, KL, off-policy mask, entropy filter and entropy bonus, quantiles of the filter, and a course of the adaptive
bonus; tokens.json the same combinations with an advantage for each token, which _compute_loss takes from subclasses
(GMPOTrainer does not). The trainer is built without __init__ and gets only the attributes that _compute_loss reads; the model's
forward is replaced by a leaf tensor, so loss, gradient and metrics are TRL's own code. It runs in float64 on
float32-representable inputs, so that the fixture shows formulas and not rounding; "loss_fp32" is the same
call in float32, the precision TRL trains with. The torch version matters where a ratio is exactly on a clip bound (batch 3): clamp
passes a gradient there up to torch 2.13, none from 2.14 on.

    python oracle/loss_trl.py
"""

import copy
import dataclasses
import itertools
import json
import os
import random
from collections import defaultdict
from types import SimpleNamespace

import torch
import trl
from trl import GRPOConfig, GRPOTrainer

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
from trl.experimental.gmpo import GMPOTrainer  # noqa: E402

FOLDER = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "loss")
MAX_LENGTH = 12
# Defaults of the installed GRPOConfig; the C test has them as literals.
DEFAULTS = {f.name: f.default for f in dataclasses.fields(GRPOConfig)}


def f32(x):
    return torch.tensor(x, dtype=torch.float32).item()


def make_trainer(case, n_micro):
    trainer = object.__new__(GMPOTrainer if case["type"] == "gmpo" else GRPOTrainer)
    trainer.args = SimpleNamespace(
        **{k: DEFAULTS[k] for k in DEFAULTS if k.startswith(("sapo_", "vespo_", "entropy_"))}
        | {k: case[k] for k in case if k.startswith("entropy_")},
        delta=case["delta"] or None,
        use_bias_correction_kl=case.get("correction", False),
        steps_per_generation=n_micro,
    )
    trainer.top_entropy_quantile = case.get("top", 1.0)
    trainer.off_policy_mask_threshold = case.get("off_policy")
    trainer.entropy_coef = case.get("entropy_coef", 0.0)
    trainer.use_adaptive_entropy = case.get("adaptive", False)
    trainer._last_world_entropy = float("inf")
    trainer._entropy_window_stats = None
    trainer.importance_sampling_level = case["level"]
    trainer.loss_type = case["type"]
    trainer.beta = case["beta"]
    trainer.epsilon_low = case["epsilon"]
    trainer.epsilon_high = case["epsilon_high"]
    trainer.max_completion_length = MAX_LENGTH
    trainer.use_vllm = False
    trainer.vllm_importance_sampling_correction = False
    trainer.aux_loss_enabled = False
    trainer._entropy_bonus_enabled = trainer.entropy_coef != 0.0 or trainer.use_adaptive_entropy
    trainer.model = SimpleNamespace(training=True)
    trainer.current_gradient_accumulation_steps = n_micro
    trainer.accelerator = SimpleNamespace(
        num_processes=1,
        gather=lambda x: x,
        reduce=lambda x, reduction: x,
        pad_across_processes=lambda x, dim, pad_index: x,
        sync_gradients=True,
    )
    trainer._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    return trainer


def padded(rows, dtype, width):
    return torch.tensor([r + [0.0] * (width - len(r)) for r in rows], dtype=dtype)


def run(case, batch, dtype, trainer=None):
    """Loss of the optimizer step, gradients per sequence, metrics of the last micro-batch."""
    if case["type"] in ("sapo", "vespo"):
        torch.set_default_dtype(dtype)  # of what torch.where makes of their two temperatures
    sequences = batch["sequences"]
    size = len(sequences) // batch["micro_batches"]
    # TRL takes completions padded to one column for sequence-level values, so keep at least two.
    counted = sum(0 if s["masked"] else len(s["logp"]) for s in sequences)
    total, gradient, entropy_gradient, metrics = 0.0, [], [], {}
    trainer = trainer or make_trainer(case, batch["micro_batches"])
    for start in range(0, len(sequences), size):
        part = sequences[start : start + size]
        width = max(2, max(len(s["logp"]) for s in part))
        lp = padded([s["logp"] for s in part], dtype, width).requires_grad_()
        entropy = padded([s["entropy"] for s in part], dtype, width).requires_grad_()
        mask = torch.tensor(
            [[0 if s["masked"] or t >= len(s["logp"]) else 1 for t in range(width)] for s in part]
        )
        inputs = {
            "prompt_ids": torch.zeros(len(part), 1, dtype=torch.long),
            "prompt_mask": torch.ones(len(part), 1, dtype=torch.long),
            "completion_ids": torch.zeros(len(part), width, dtype=torch.long),
            "completion_mask": mask,
            "advantages": padded([s["advantage"] for s in part], dtype, width)
            if isinstance(part[0]["advantage"], list)
            else torch.tensor([s["advantage"] for s in part], dtype=dtype),
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
        if entropy.grad is not None:
            entropy_gradient += [entropy.grad[i, : len(s["logp"])].tolist() for i, s in enumerate(part)]
    torch.set_default_dtype(torch.float32)
    if batch["micro_batches"] == 1:
        metrics = {k: v[-1] for k, v in trainer._metrics["train"].items()}
    return total, gradient, entropy_gradient, metrics


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


CLIPPED = ["grpo", "bnpo", "dr_grpo", "dapo", "luspo"]


def switch_batch(rng, masked):
    """Small, with sequences inside and far outside every bound, of both signs; one that is masked."""
    sequences = []
    for i, drift in enumerate([0.05, 0.4, -0.4, 0.1, -0.1, 0.0]):
        logp = [f32(-abs(rng.gauss(0, 1.5)) - 0.01) for _ in range(rng.randint(2, 5))]
        sequences.append(
            {
                "masked": i in masked,
                "advantage": f32((1 if i % 2 else -1) * (0.2 + rng.random())),
                "logp": logp,
                "logp_old": [f32(x + drift + rng.gauss(0, 0.3)) for x in logp],
                "logp_ref": [f32(x + rng.gauss(0, 0.4)) for x in logp],
                "entropy": [f32(abs(rng.gauss(0, 1))) for _ in logp],
            }
        )
    sequences[5]["advantage"] = 0.0
    return {"micro_batches": 1, "sequences": sequences}


def switch_cases():
    def case(kind, level, delta, kl, off_policy=None, top=1.0, coef=0.0, batch=0):
        epsilon = 0.4 if kind == "gmpo" else 5.0 if kind == "cispo_wide" else 0.2
        return dict(
            batch=batch, type=kind.removesuffix("_wide"), level=level, beta=0.0 if kl == "none" else 0.3,
            delta=delta, epsilon=epsilon, epsilon_high=epsilon + 0.08, old=True, correction=kl == "corrected",
            off_policy=off_policy, top=top, entropy_coef=coef)

    losses = CLIPPED + ["cispo", "cispo_wide", "sapo", "vespo"]
    for kind, level, kl in itertools.product(losses, ["token", "sequence"], ["none", "plain", "corrected"]):
        for delta in [0.0, 1.5] if kind in CLIPPED else [0.0]:
            for batch in (0, 1):
                yield case(kind, level, delta, kl, batch=batch)
            yield case(kind, level, delta, kl, off_policy=0.1)
            yield case(kind, level, delta, kl, top=0.4)
            yield case(kind, level, delta, kl, coef=0.5)
            yield case(kind, level, delta, kl, off_policy=0.1, top=0.4, coef=0.5, batch=1)
    # GMPOTrainer reads neither level nor delta, correction, off-policy mask nor bonus.
    for kl, batch, top in itertools.product(["none", "plain"], [0, 1], [1.0, 0.4]):
        yield case("gmpo", "token", 0.0, kl, top=top, batch=batch)


def rounded(rows):
    return [[float(f"{x:.9g}") for x in row] for row in rows]


def near(a, b):
    return all(abs(x - y) <= 1e-5 * abs(x) + 1e-6 for r, q in zip(a, b, strict=True) for x, y in zip(r, q, strict=True))


def quantiles(rng):
    for n, top in itertools.product([1, 2, 3, 7, 50, 1001], [0.0, 0.1, 0.2, 0.25, 0.5, 0.7, 0.8, 0.9]):
        values = [f32(abs(rng.gauss(0, 1))) if rng.random() < 0.7 else 0.25 for _ in range(n)]
        if n > 100:
            values = values[:100] * 10 + values[:1]  # many equal ones
        entropies = torch.tensor([values])
        kept = make_trainer(dict(type="grpo", level="token", beta=0, epsilon=0, epsilon_high=0, delta=0), 1)
        kept = kept.get_high_entropy_mask(entropies, torch.ones_like(entropies), 1 - top)
        yield dict(top=top, repeat=10 if n > 100 else 1, values=values[:100], kept=int(kept.sum()),
                   least=min(v for v, k in zip(values, kept[0].tolist(), strict=True) if k))


def controller(batch):
    """Steps of an adaptive bonus whose entropies cross the target."""
    case = dict(type="dapo", level="token", beta=0.0, delta=0.0, epsilon=0.2, epsilon_high=0.2, old=True, top=0.6,
                adaptive=True, entropy_coef=0.02, entropy_target=0.7, entropy_coef_delta=0.015, entropy_coef_max=0.04,
                entropy_coef_min=0.0)
    trainer, steps = make_trainer(case, 1), []
    for factor in [0.1, 0.2, 0.3, 2.0, 3.0, 3.0, 0.2, 0.2, 2.0]:
        scaled = copy.deepcopy(batch)
        for s in scaled["sequences"]:
            s["entropy"] = [f32(factor * x) for x in s["entropy"]]
        loss, _, _, metrics = run(case, scaled, torch.float64, trainer)
        steps.append(dict(factor=factor, loss=shortened(loss), policy_loss=shortened(metrics["policy_loss"]),
                          coef=shortened(metrics["entropy_coef"]), last=shortened(trainer._last_world_entropy)))
    return case | dict(batch=1, steps=steps)


def run_cases(batches, cases):
    """Each case with what TRL makes of it."""
    results = []
    for case in cases:
        loss, gradient, entropy_gradient, metrics = run(case, batches[case["batch"]], torch.float64)
        loss_fp32, gradient_fp32, entropy_fp32, _ = run(case, batches[case["batch"]], torch.float32)
        assert near(gradient, gradient_fp32) and near(entropy_gradient, entropy_fp32), case
        result = dict(loss=shortened(loss), loss_fp32=shortened(loss_fp32), gradient=rounded(gradient),
                      metrics={k: None if v != v else shortened(v) for k, v in metrics.items()})
        if case["entropy_coef"]:
            result["entropy_gradient"] = rounded(entropy_gradient)
        results.append(case | result)
    return results


def write_lines(name, fixture, batches, cases):
    path = os.path.join(FOLDER, name)
    with open(path, "w") as f:
        f.write("".join(f"{'{' if i == 0 else ''}{json.dumps(k)}: {json.dumps(v)},\n"
                        for i, (k, v) in enumerate(fixture.items())))
        f.write('"batches": [\n' + ",\n".join(json.dumps(b) for b in batches) + "],\n")
        f.write('"cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "]}\n")
    print(len(cases), f"cases of {name},", os.path.getsize(path), "bytes")


def source(what):
    return f"TRL {trl.__version__}, torch {torch.__version__.split('+')[0]}: {what}, oracle/loss_trl.py"


def token_advantages(rng, batch):
    """Signs that change within a completion, and zeros."""
    for s in batch["sequences"]:
        s["advantage"] = [0.0 if rng.random() < 0.15 else f32(rng.gauss(0, 1)) for _ in s["logp"]]
    return batch


def write_tokens():
    rng = random.Random(22)
    batches = [token_advantages(rng, switch_batch(rng, masked)) for masked in ((), (3,))]
    cases = run_cases(batches, (c for c in switch_cases() if c["type"] != "gmpo"))
    tidy(batches)
    write_lines("tokens.json", {"source": source("GRPOTrainer"), "max_completion_length": MAX_LENGTH}, batches, cases)


def write_switches():
    rng = random.Random(21)
    batches = [switch_batch(rng, ()), switch_batch(rng, (3,))]
    cases = run_cases(batches, switch_cases())
    course = controller(batches[1])
    tidy(batches)
    fixture = {
        "source": source("GRPOTrainer and GMPOTrainer"),
        "max_completion_length": MAX_LENGTH,
        "defaults": {k: v for k, v in DEFAULTS.items() if k.startswith(("sapo_", "vespo_", "entropy_"))},
        "controller": course,
        "quantiles": list(quantiles(rng)),
    }
    write_lines("switches.json", fixture, batches, cases)


def tidy(batches):
    for batch in batches:
        for s in batch["sequences"]:
            for key in ("logp", "logp_old", "logp_ref", "entropy"):
                s[key] = [float(f"{x:.9g}") for x in s[key]]
            one = s["advantage"]
            s["advantage"] = [float(f"{x:.9g}") for x in one] if isinstance(one, list) else float(f"{one:.9g}")


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
        loss, gradient, _, metrics = run(case, batches[case["batch"]], torch.float64)
        loss_fp32, _, _, _ = run(case, batches[case["batch"]], torch.float32)
        metrics = {k: None if v != v else shortened(v) for k, v in metrics.items()}
        gradient = [[float(f"{x:.10g}") for x in row] for row in gradient]
        cases.append(
            case
            | dict(loss=shortened(loss), loss_fp32=shortened(loss_fp32), gradient=gradient, metrics=metrics)
        )
    tidy(batches)
    fixture = {
        "source": f"TRL {trl.__version__}, torch {torch.__version__.split('+')[0]}: "
        "GRPOTrainer._compute_loss, oracle/loss_trl.py",
        "max_completion_length": MAX_LENGTH,
        "batches": batches,
        "cases": cases,
    }
    path = os.path.join(FOLDER, "trl.json")
    with open(path, "w") as f:
        f.write('{"source": %s, "max_completion_length": %d,\n' % (json.dumps(fixture["source"]), MAX_LENGTH))
        f.write('"batches": [\n' + ",\n".join(json.dumps(b) for b in batches) + "],\n")
        f.write('"cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "]}\n")
    print(len(cases), "cases,", os.path.getsize(path), "bytes")
    write_switches()
    write_tokens()


if __name__ == "__main__":
    main()
