"""A hundred GRPO optimizer steps of TRL's GRPOTrainer on scripted completions and rewards, in float32.

Writes tests/fixtures/grpo_hundred/ (see oracle/README.md). As grpo_steps_trl.py, whose trainer this uses, but what is
compared is where a long run ends: the change of every tensor. Rewards are functions of the completions, so that the
policy moves somewhere. Each run is repeated with other padding and another attention kernel: "spread" says how far, of
the distance moved, TRL then ends from itself.
Deterministic. Written with the versions of grpo_steps_trl.py, on the CPU.

    python oracle/grpo_hundred_trl.py              # all runs
    python oracle/grpo_hundred_trl.py grpo gspo    # some
"""

import json
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3ForCausalLM
from trl import RLOOConfig, RLOOTrainer

from grpo_steps_trl import (COMMON, EOS, FIXTURES, INITIAL, MAX_COMPLETION, N_GENERATIONS, N_PROMPTS, OTHER_ROUNDING, Scripted,
                            draw_completion, drawing, train, write_runs)

FOLDER = FIXTURES / "grpo_hundred"
N_STEPS = 100

# Every run has other settings beside its loss, so that what acts on a step is covered together.
RUNS = {
    "grpo": dict(lr_scheduler_type="linear", warmup_steps=10),
    "dapo": dict(loss_type="dapo", per_device_train_batch_size=N_PROMPTS * N_GENERATIONS // 2,
                 gradient_accumulation_steps=2, steps_per_generation=2, lr_scheduler_type="cosine", weight_decay=0.1,
                 temperature=0.9, mask_truncated_completions=True),
    "dr_grpo": dict(loss_type="dr_grpo", num_iterations=2, epsilon_high=0.28, scale_rewards="none", max_grad_norm=0.05),
    "gspo": dict(importance_sampling_level="sequence", epsilon=3e-3, epsilon_high=4e-3, num_iterations=2,
                 lr_scheduler_type="linear"),
    "kl": dict(beta=0.04, use_bias_correction_kl=True, num_iterations=2, adam_beta2=0.99, scale_rewards="batch"),
    "cispo": dict(loss_type="cispo", epsilon_high=1.05, num_iterations=2, top_entropy_quantile=0.8),
    # The reference is a copy of the adapter that the run goes on with.
    "lora": dict(learning_rate=4e-3, beta=0.02, num_iterations=2, lr_scheduler_type="cosine", warmup_steps=5, weight_decay=0.01),
}
# Those of RLOOTrainer, which lacks some of the settings and has some of its own.
OF_GRPO = ("loss_type", "use_bias_correction_kl", "scale_rewards", "importance_sampling_level")
RLOO_RUNS = {
    "rloo": dict(learning_rate=1e-4, beta=0.05, num_iterations=2, lr_scheduler_type="linear", epsilon_high=0.28),
    "rloo_clip": dict(learning_rate=2e-4, epsilon=0.4, beta=0.02, num_iterations=2, reward_clip_range=(0.3, 0.9), normalize_advantages=True, mask_truncated_completions=True),
}
# Adapters that a run goes on with, by run: those whose gradients adapter_gradients_peft.py takes of model_tied.
ADAPTERS = {"lora": "rslora"}
RUNS.update(RLOO_RUNS)
SETTINGS = {**COMMON, "max_steps": N_STEPS, "learning_rate": 1e-3}


def write_script():
    """One round = one generation batch. A run with several iterations does not use the last rounds."""
    draw = drawing(1984)

    def reward(tokens):
        low = sum(token < EOS[0] // 2 for token in tokens)
        return round(8 * low / len(tokens)) / 8 + (0.25 if tokens[-1] == EOS[0] else 0.0)

    rounds = []
    for _ in range(N_STEPS):
        prompts = [draw(1 + draw(1, 12)[0], EOS[0]) for _ in range(N_PROMPTS)]
        completions = [draw_completion(draw) for _ in range(N_PROMPTS * N_GENERATIONS)]
        rounds.append({"prompts": prompts, "completions": completions, "rewards": [reward(c) for c in completions]})
    return rounds


def start_of(name, weights):
    """What the run's tensors begin with, and where they end under the same names: those of an adapter's file."""
    if name not in ADAPTERS:
        return dict(Qwen3ForCausalLM.from_pretrained(INITIAL, dtype=torch.float32).named_parameters()), weights
    initial = load_file(FIXTURES / "adapter_gradients" / ADAPTERS[name] / "adapter_model.safetensors")
    ends = {k.replace(".default.", "."): v for k, v in weights.items() if ".default." in k}
    assert initial.keys() == ends.keys()
    return initial, ends


class ScriptedRLOO(Scripted, RLOOTrainer):
    """RLOOTrainer whose completions come from the script."""

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        return super()._generate_single_turn(prompt_ids)[0]


def write_run(name, script):
    settings = {**SETTINGS, **RUNS[name]}
    kinds = {}
    if name in RLOO_RUNS:
        settings = {k: v for k, v in settings.items() if k not in OF_GRPO}
        kinds = {"trainer_class": ScriptedRLOO, "config_class": RLOOConfig}
    adapter = FIXTURES / "adapter_gradients" / ADAPTERS[name] if name in ADAPTERS else None
    logs, _, weights = train(script, settings, adapter=adapter, **kinds)
    other = train(script, {**settings, **OTHER_ROUNDING}, attention="sdpa", adapter=adapter, **kinds)[2][N_STEPS]
    initial, ends = start_of(name, weights[N_STEPS])
    other = start_of(name, other)[1]
    change = {k: ends[k] - v.detach() for k, v in initial.items()}
    spread = {k: ((other[k] - ends[k]).norm() / v.norm()).item() for k, v in change.items()}
    # Halves: their rounding, 2^-12 of an element, is far below the hundredth that is asked for.
    save_file({k: v.to(torch.float16).contiguous() for k, v in change.items()}, FOLDER / f"{name}.safetensors")
    document = {"format": 1, **({"adapter": ADAPTERS[name]} if name in ADAPTERS else {}), "settings": settings,
                "loss": [entry["loss"] for entry in logs], "moved": {k: v.norm().item() for k, v in change.items()}, "spread": max(spread.values())}
    (FOLDER / f"{name}.json").write_text(json.dumps(document) + "\n")
    clipped = [entry.get("clip_ratio/region_mean", 0.0) for entry in logs]
    print(f"{name}: spread {max(spread.values()):.2e} at {max(spread, key=spread.get)}, clipped {max(clipped):.3f}, "
          f"moved {min(document['moved'].values()):.3f} to {max(document['moved'].values()):.3f}, "
          f"gradient {max(entry['grad_norm'] for entry in logs):.2f}", flush=True)


if __name__ == "__main__":
    write_runs(FOLDER, write_script(), sys.argv[1:] or RUNS, write_run)
