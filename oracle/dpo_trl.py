"""A step of TRL's DPOTrainer on pairs of fixed tokens, for each of its losses and switches, and twenty steps of one run,
in float32.

Writes tests/fixtures/dpo/ (see oracle/README.md for the exact format). The model is tests/fixtures/model_tied (write that
first). The reference of the single steps is a number for each completion, near the policy's; that of the twenty steps
is the model that they begin with. Everything else is TRL's: collator, loss, metrics; the gradients are those that the
optimizer is given. Of most runs every 16th element of large tensors is kept.
Deterministic. Written with torch 2.15.0, transformers 5.24.0, trl 1.16.0, datasets 5.2.0, on the CPU.

    python oracle/dpo_trl.py
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from grpo_steps_trl import EOS, INITIAL, make_tokenizer
from safetensors.torch import save_file
from transformers import PrinterCallback, Qwen3ForCausalLM, TrainerCallback
from transformers.utils import logging as transformers_logging
from trl import DPOConfig, DPOTrainer

FOLDER = INITIAL.parent / "dpo"
STRIDE, LEAST = 16, 1000
N_STEPS, BATCH = 20, 4

RUNS = {
    "sigmoid": {},
    "hinge": dict(loss_type="hinge"),
    "ipo": dict(loss_type="ipo"),
    "exo_pair": dict(loss_type="exo_pair", label_smoothing=0.1),
    "nca_pair": dict(loss_type="nca_pair"),
    "robust": dict(loss_type="robust", label_smoothing=0.1),
    "bco_pair": dict(loss_type="bco_pair"),
    "sppo_hard": dict(loss_type="sppo_hard"),
    "aot": dict(loss_type="aot"),
    "aot_smoothed": dict(loss_type="aot", label_smoothing=0.1),
    "aot_unpaired": dict(loss_type="aot_unpaired"),
    "apo_zero": dict(loss_type="apo_zero"),
    "apo_down": dict(loss_type="apo_down", beta=0.5),
    "discopop": dict(loss_type="discopop"),
    "sft": dict(loss_type="sft"),
    "sigmoid_norm": dict(loss_type="sigmoid_norm", beta=0.5),
    "three": dict(loss_type=["sigmoid", "bco_pair", "sft"], loss_weights=[0.8, 0.2, 1.0]),
    "forward_kl": dict(f_divergence_type="forward_kl"),
    "js_divergence": dict(f_divergence_type="js_divergence", beta=0.3),
    "alpha_divergence": dict(f_divergence_type="alpha_divergence", f_alpha_divergence_coef=0.3),
    "ipo_forward_kl": dict(loss_type="ipo", f_divergence_type="forward_kl"),
    "ld_alpha": dict(ld_alpha=0.5),
    "ld_alpha_0": dict(ld_alpha=0.0, beta=0.4),
    "weighted": dict(use_weighting=True),
    "weighted_ipo": dict(loss_type="ipo", use_weighting=True),
}
WHOLE = ("sigmoid", "three", "ld_alpha", "weighted_ipo")  # runs of which all gradients are kept
LOGGED = ("loss", "entropy", "mean_token_accuracy", "rewards/chosen", "rewards/rejected", "rewards/accuracies",
          "rewards/margins", "logps/chosen", "logps/rejected", "logits/chosen", "logits/rejected", "num_tokens")


@torch.no_grad()
def write_pairs(n, seed):
    """Prompts of several lengths with two completions; every other chosen token is the model's likeliest."""
    model = Qwen3ForCausalLM.from_pretrained(INITIAL, dtype=torch.float32, attn_implementation="eager")
    generator = torch.Generator().manual_seed(seed)

    def draw(k, low, high):
        return torch.randint(low, high, (k,), generator=generator).tolist()

    pairs = []
    for i in range(n):
        prompt, chosen = (draw(draw(1, 1, high)[0], 0, EOS[0]) for high in (20, 8))
        rejected = draw(len(chosen) + draw(1, 0, 3)[0], 0, EOS[0])  # of about one length, so that sorting sorts
        for t in range(0, len(chosen), 2):
            chosen[t] = model(torch.tensor([prompt + chosen[:t]])).logits[0, -1].argmax().item()
        chosen.append(EOS[0])
        rejected += [EOS[0]] if i % 3 else []
        row = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        for side in ("chosen", "rejected"):
            ids = torch.tensor([prompt + row[f"{side}_ids"]])
            logp = model(ids).logits[0].log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[len(prompt) - 1:].sum().item()
            row[f"logp_{side}"] = logp
            noise = 2.0 * torch.randn((), generator=generator).item()
            row[f"ref_{side}_logps"] = torch.tensor(logp + noise, dtype=torch.float32).item()
        pairs.append(row)
    return pairs


def sorting_seed():
    """One whose pairs have another order by the policy than by the reference: aot differs from sigmoid."""
    for seed in range(31, 1000):
        pairs = write_pairs(6, seed)
        orders = [sorted(range(6), key=lambda i: pairs[i][f"{name}chosen{end}"] - pairs[i][f"{name}rejected{end}"])
                  for name, end in (("logp_", ""), ("ref_", "_logps"))]
        if orders[0] != orders[1]:
            return seed


class FixedTrainer(DPOTrainer):
    """DPOTrainer whose rows are tokens already, with their references' scores where those are precomputed."""

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset

    def _precompute_ref_logps(self, dataset, *args, **kwargs):
        return dataset


class Recorder(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients = {k: v.grad.detach().clone().contiguous() for k, v in model.named_parameters()
                          if v.grad is not None}


def train(pairs, settings, precomputed, **more):
    torch.manual_seed(0)
    model = Qwen3ForCausalLM.from_pretrained(INITIAL, dtype=torch.float32, attn_implementation="eager")
    columns = [k for k in pairs[0] if not k.startswith("logp_") and (precomputed or not k.startswith("ref_"))]
    dataset = Dataset.from_list([{k: row[k] for k in columns} for row in pairs])
    recorder = Recorder()
    settings = dict(settings)
    reference = None if precomputed else Qwen3ForCausalLM.from_pretrained(
        INITIAL, dtype=torch.float32, attn_implementation="eager")
    with tempfile.TemporaryDirectory() as scratch:
        arguments = dict(
            output_dir=scratch, save_strategy="no", report_to="none", logging_steps=1, disable_tqdm=True, use_cpu=True,
            bf16=False, gradient_checkpointing=False, seed=0, max_steps=1, max_grad_norm=0.0, learning_rate=1e-3,
            optim="adamw_torch", lr_scheduler_type="constant", per_device_train_batch_size=len(pairs),
            per_device_eval_batch_size=len(pairs), precompute_ref_log_probs=precomputed, pad_to_multiple_of=None,
            train_sampling_strategy="sequential")
        args = DPOConfig(**(arguments | settings | more))
        trainer = FixedTrainer(model=model, ref_model=reference, args=args, train_dataset=dataset, eval_dataset=dataset,
                               processing_class=make_tokenizer(), callbacks=[recorder])
        trainer.remove_callback(PrinterCallback)
        before = trainer.evaluate() if precomputed else {}
        trainer.train()
    entries = [e for e in trainer.state.log_history if "loss" in e]
    steps = [{k: e[k] for k in (*LOGGED, "grad_norm")} for e in entries]
    before = {k: before[f"eval_{k}"] for k in LOGGED if f"eval_{k}" in before and k != "num_tokens"}
    weights = {k: v.detach().clone().contiguous() for k, v in model.named_parameters()}
    return steps, before, recorder.gradients, weights


def main():
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    pairs, runs, tensors = write_pairs(6, sorting_seed()), {}, {}
    for name, settings in RUNS.items():
        steps, before, gradients, _ = train(pairs, settings, True)
        runs[name] = {"settings": settings, "figures": steps[0], "eval": before}
        if name in WHOLE:
            tensors |= {f"{name}.{k}": v for k, v in gradients.items()}
        else:
            tensors |= {f"{name}.{k}": v.reshape(-1)[:: STRIDE if v.numel() >= LEAST else 1].clone()
                        for k, v in gradients.items()}
        print(name, steps[0]["loss"], steps[0]["grad_norm"])
    assert runs["aot"]["figures"]["loss"] != runs["sigmoid"]["figures"]["loss"]
    many = write_pairs(N_STEPS * BATCH, 32)
    steps, _, _, weights = train(many, {}, False, max_steps=N_STEPS, per_device_train_batch_size=BATCH,
                                 max_grad_norm=1.0)
    (FOLDER / "twenty").mkdir(exist_ok=True)  # a model that oracle/preference_trl.py takes as another's reference
    shutil.copy(INITIAL / "config.json", FOLDER / "twenty" / "config.json")
    save_file(weights, FOLDER / "twenty" / "model.safetensors", metadata={"format": "pt"})
    print([s["loss"] for s in steps])
    for row in many:
        for key in ("ref_chosen_logps", "ref_rejected_logps", "logp_chosen", "logp_rejected"):
            del row[key]
    for row in pairs:
        del row["logp_chosen"], row["logp_rejected"]
    document = {"format": 1, "initial": "../model_tied", "stride": STRIDE, "least": LEAST, "whole": list(WHOLE), "pairs": pairs,
                "runs": runs, "twenty": {"batch": BATCH, "pairs": many, "steps": steps}}
    (FOLDER / "cases.json").write_text(json.dumps(document) + "\n")
    save_file(tensors, FOLDER / "gradients.safetensors")
    for path in FOLDER.rglob("*.*"):
        path.chmod(0o644)


if __name__ == "__main__":
    main()
