"""Writes tests/fixtures/advantages/trl.json: advantages and reward metrics of the installed TRL.

_generate_and_score_completions of GRPOTrainer, and of RLOOTrainer (estimator "rloo"), runs unchanged on a trainer built
without __init__; generation is a stub and the reward functions return the fixture's numbers (None where null). RLOO's
KL in the reward comes from log-probs that differ by the fixture's penalty (beta 1). Each case runs in float32, as
TRL trains, and in float64 (default dtype changed, same code), which shows the formulas without rounding.

    python oracle/advantage_trl.py
"""

import json
import os
import random
from collections import defaultdict
from types import SimpleNamespace

import torch
import trl
from accelerate import Accelerator
from trl import GRPOTrainer, RLOOTrainer

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "advantages", "trl.json")


def f32(x):
    return torch.tensor(x, dtype=torch.float32).item()


def run(case, dtype):
    torch.set_default_dtype(dtype)
    rewards, n_functions = case["rewards"], len(case["weights"])
    rloo = case.get("estimator") == "rloo"
    trainer = object.__new__(RLOOTrainer if rloo else GRPOTrainer)
    trainer.accelerator = Accelerator(cpu=True)
    trainer.model = SimpleNamespace(training=True)
    trainer.args = SimpleNamespace(
        per_device_train_batch_size=len(rewards),
        steps_per_generation=1,
        gradient_accumulation_steps=1,
        gradient_checkpointing_kwargs=None,
        report_to=[],
    )
    trainer.state = SimpleNamespace(global_step=0)
    trainer.environment_factories = trainer.environments = None
    trainer.tools, trainer._is_vlm, trainer.pad_to_multiple_of = [], False, None
    trainer._tokenizer = SimpleNamespace(pad_token_id=0)
    trainer.mask_truncated_completions = trainer.use_vllm = trainer.log_multimodal = False
    trainer.vllm_importance_sampling_correction = False
    trainer.num_iterations, trainer.beta = 1, 0.0
    trainer.num_generations = case["group"]
    trainer.multi_objective_aggregation = case.get("aggregation", "sum_then_normalize")
    if rloo:
        trainer.normalize_advantages, trainer.reward_clip_range = case["scale"] == "batch", None
        trainer.beta, trainer.ref_model = 1.0 if case.get("penalty") else 0.0, SimpleNamespace()
        halves = torch.tensor([[p / 2] * 2 for p in case.get("penalty") or [0.0] * len(rewards)], dtype=dtype)
        trainer._get_per_token_logps_and_entropies = lambda model, *a, **k: (
            -halves if model is trainer.ref_model else 0 * halves, None, None)
    trainer.scale_rewards = case["scale"]
    trainer.reward_weights = torch.tensor(case["weights"], dtype=dtype)
    trainer.reward_funcs = [
        (lambda i: lambda **kwargs: [row[i] for row in rewards])(i) for i in range(n_functions)
    ]
    trainer.reward_processing_classes = [None] * n_functions
    trainer.reward_func_names = [f"f{i}" for i in range(n_functions)]
    trainer._metrics = {"train": defaultdict(list)}
    trainer._logs = defaultdict(list, rewards=defaultdict(list))
    trainer._pending_extra_logs, trainer._pending_metrics = {}, {}
    trainer.model.is_gradient_checkpointing = False
    n = len(rewards)
    generated = [[1]] * n, [[2, 3]] * n, ["x"] * n
    if not rloo:
        generated = (*generated[:2], None, generated[2], None, {}, None, None)
    trainer._generate = lambda prompts: generated
    output = trainer._generate_and_score_completions([{"prompt": "p"}] * n)
    metrics = {k: v[0] for k, v in trainer._metrics["train"].items()}

    def clean(x):
        return None if x != x else float(f"{x:.15g}")

    result = {
        "advantages": [clean(a) for a in output["advantages"].tolist()],
        "reward": clean(metrics["reward"]),
        "reward_std": clean(metrics["reward_std"]),
        "frac_reward_zero_std": clean(metrics["frac_reward_zero_std"]),
        "function_mean": [clean(metrics[f"rewards/f{i}/mean"]) for i in range(n_functions)],
        "function_std": [clean(metrics[f"rewards/f{i}/std"]) for i in range(n_functions)],
    }
    torch.set_default_dtype(torch.float32)
    return result


def random_rewards(rng, n, n_functions, nulls):
    rows = []
    for _ in range(n):
        row = [f32(rng.choice([0.0, 1.0, 0.5]) if f == 0 else rng.gauss(0, 1)) for f in range(n_functions)]
        rows.append([None if rng.random() < nulls else x for x in row])
    return rows


def case_list():
    rng = random.Random(4)
    sets = [
        ("golden", 4, [1.0], [[x] for x in [1, 0, 0, 0, 1, 1, 1, 1, 0.5, 1, 0, 2]]),
        ("one function", 8, [1.0], random_rewards(rng, 32, 1, 0)),
        ("weights", 4, [1.0, 0.5, -0.25], random_rewards(rng, 16, 3, 0)),
        ("nulls", 4, [1.0, 0.5], random_rewards(rng, 24, 2, 0.3)),
        ("many nulls", 4, [1.0], random_rewards(rng, 24, 1, 0.6)),
        ("all null", 2, [1.0, 2.0], [[None, None]] * 4),
        ("one scorable row", 4, [1.0], [[None], [0.75], [None], [None], [1], [0], [None], [1]]),
        ("one scorable row in the batch", 2, [1.0], [[None], [0.5], [None], [None]]),
        ("all equal", 4, [1.0, 1.0], [[0.5, 0.25]] * 8),
        ("groups equal, batch not", 2, [2.0], [[1.0], [1.0], [0.0], [0.0], [0.25], [0.25]]),
        ("group of one", 1, [1.0], [[1.0], [0.0], [None], [0.5]]),
        ("single row", 1, [1.0], [[0.25]]),
        ("close to zero deviation", 3, [1.0], [[f32(1e-9)], [0.0], [f32(-1e-9)], [f32(3e-8)], [0.0], [f32(-3e-8)]]),
    ]
    for name, group, weights, rewards in sets:
        for scale in ("group", "batch", "none"):
            yield dict(name=name, group=group, scale=scale, weights=weights, rewards=rewards)
    for name, group, weights, rewards in sets:
        base = dict(name=name, group=group, weights=weights, rewards=rewards)
        yield base | dict(scale="group", aggregation="normalize_then_sum")
        # scale "batch" stands for RLOO's normalize_advantages.
        yield base | dict(scale="none", estimator="rloo")
        yield base | dict(scale="batch", estimator="rloo")
    penalty = [f32(rng.gauss(0, 0.5)) for _ in range(24)]
    for scale in ("none", "batch"):
        yield dict(name="a KL in the reward", group=4, scale=scale, weights=[1.0, 0.5],
                   rewards=random_rewards(rng, 24, 2, 0.2), estimator="rloo", penalty=penalty)


def main():
    cases = []
    for case in case_list():
        cases.append(case | {"float64": run(case, torch.float64), "float32": run(case, torch.float32)})
    source = f"TRL {trl.__version__} GRPOTrainer._generate_and_score_completions, oracle/advantage_trl.py"
    with open(OUT, "w") as f:
        f.write('{"source": %s,\n"cases": [\n' % json.dumps(source))
        f.write(",\n".join(json.dumps(c) for c in cases) + "]}\n")
    print(len(cases), "cases,", os.path.getsize(OUT), "bytes")


if __name__ == "__main__":
    main()
