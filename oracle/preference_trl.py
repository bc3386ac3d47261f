"""Steps of TRL's KTOTrainer, CPOTrainer and ORPOTrainer on fixed tokens, in float32: one for each loss and switch, and
twenty of one run each.

Writes tests/fixtures/preference/ (see oracle/README.md for the exact format). The model is tests/fixtures/model_tied; the
reference of KTO's single steps is tests/fixtures/dpo/twenty (write these first: model_transformers.py, dpo_trl.py).
Everything but the tokens is TRL's. Every 16th element of large tensors is kept.
Deterministic. Written with torch 2.15.0, transformers 5.24.0, trl 1.16.0, datasets 5.2.0, on the CPU.

    python oracle/preference_trl.py
"""

import json
import tempfile
import warnings

import torch
from datasets import Dataset
from dpo_trl import LEAST, STRIDE, Recorder, write_pairs
from grpo_steps_trl import EOS, INITIAL, make_tokenizer
from safetensors.torch import save_file
from transformers import PrinterCallback, Qwen3ForCausalLM
from transformers.utils import logging as transformers_logging
from trl import KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

FOLDER = INITIAL.parent / "preference"
REFERENCE = INITIAL.parent / "dpo" / "twenty"
N_STEPS, BATCH = 20, 4

RUNS = {
    "kto": ("kto", {}),
    "kto_weighted": ("kto", dict(desirable_weight=1.33, undesirable_weight=0.5, beta=0.3)),
    "kto_wanted": ("kto", {}),  # of wanted completions alone
    "apo_zero_unpaired": ("kto", dict(loss_type="apo_zero_unpaired")),
    "cpo": ("cpo", {}),
    "cpo_smoothed": ("cpo", dict(label_smoothing=0.1, cpo_alpha=0.5)),
    "cpo_hinge": ("cpo", dict(loss_type="hinge")),
    "cpo_ipo": ("cpo", dict(loss_type="ipo")),
    "simpo": ("cpo", dict(loss_type="simpo", cpo_alpha=0.0, beta=2.0, simpo_gamma=1.0)),
    "simpo_smoothed": ("cpo", dict(loss_type="simpo", label_smoothing=0.1)),
    "alphapo": ("cpo", dict(loss_type="alphapo", alpha=0.25, beta=2.0)),
    "orpo": ("orpo", {}),
    "orpo_strong": ("orpo", dict(beta=1.5)),
}
TWENTY = {"kto": ("kto", {}), "simpo": ("cpo", dict(loss_type="simpo", cpo_alpha=0.0, beta=2.0)), "orpo": ("orpo", {})}
COMMON = ("loss", "grad_norm", "rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected")
# logits/* of cpo and orpo are means over prompts and padding too, here over completions.
LOGGED = {"kto": (*COMMON, "kl", "entropy", "num_tokens", "logits/chosen", "logits/rejected"),
          "cpo": (*COMMON, "rewards/accuracies", "nll_loss"),
          "orpo": (*COMMON, "rewards/accuracies", "nll_loss", "log_odds_ratio", "log_odds_chosen")}


class FixedKTOTrainer(KTOTrainer):
    """KTOTrainer whose rows are tokens already; completions are rotated within batches as TRL does it."""

    def _prepare_dataset(self, dataset, processing_class, args, *rest, **more):
        if args.loss_type != "kto":
            return dataset
        n, ids = args.per_device_train_batch_size, dataset["completion_ids"]
        rotated = [ids[(i // n) * n + (i - 1) % n] for i in range(len(ids))]
        return dataset.add_column("KL_completion_ids", rotated)


def words(ids, lead=""):
    return lead + " ".join(f"t{i}" for i in ids)


def singles(pairs, wanted_only):
    """Completions of pairs in turn."""
    rows = []
    for i, pair in enumerate(pairs):
        side = "chosen" if wanted_only or i % 2 == 0 else "rejected"
        rows.append({"prompt_ids": pair["prompt_ids"], "completion_ids": pair[f"{side}_ids"], "label": side == "chosen"})
    return rows


def train(kind, rows, settings, reference, **more):
    torch.manual_seed(0)

    def load(folder):
        return Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")

    model, recorder = load(INITIAL), Recorder()
    if kind != "kto":
        rows = [{"prompt": words(r["prompt_ids"]), "chosen": words(r["chosen_ids"], " "),
                 "rejected": words(r["rejected_ids"], " ")} for r in rows]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = dict(
            output_dir=scratch, save_strategy="no", report_to="none", logging_steps=1, disable_tqdm=True, use_cpu=True,
            bf16=False, gradient_checkpointing=False, seed=0, max_steps=1, max_grad_norm=0.0, learning_rate=1e-3,
            optim="adamw_torch", lr_scheduler_type="constant", per_device_train_batch_size=len(rows),
            train_sampling_strategy="sequential") | settings | more
        common = dict(model=model, train_dataset=Dataset.from_list(rows), processing_class=make_tokenizer(),
                      callbacks=[recorder])
        if kind == "kto":
            trainer = FixedKTOTrainer(args=KTOConfig(**arguments), ref_model=load(reference), **common)
        elif kind == "cpo":
            trainer = CPOTrainer(args=CPOConfig(**arguments), **common)
        else:
            trainer = ORPOTrainer(args=ORPOConfig(**arguments), **common)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    steps = [{k: e[k] for k in LOGGED[kind] if k in e} for e in trainer.state.log_history if "loss" in e]
    return steps, recorder.gradients, {k: v.detach().clone() for k, v in model.named_parameters()}


def sample(name, tensors):
    return {f"{name}.{k}": v.reshape(-1)[:: STRIDE if v.numel() >= LEAST else 1].clone() for k, v in tensors.items()}


def pairs_of(n, seed):
    """With an end behind every completion, as CPO and ORPO have it."""
    pairs = write_pairs(n, seed)
    for pair in pairs:
        for side in ("chosen_ids", "rejected_ids"):
            pair[side] += [EOS[0]] if pair[side][-1] != EOS[0] else []
    return [{k: pair[k] for k in ("prompt_ids", "chosen_ids", "rejected_ids")} for pair in pairs]


def main():
    transformers_logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    pairs, runs, tensors = pairs_of(6, 41), {}, {}
    for name, (kind, settings) in RUNS.items():
        rows = singles(pairs, name == "kto_wanted") if kind == "kto" else pairs
        steps, gradients, _ = train(kind, rows, settings, REFERENCE)
        runs[name] = {"kind": kind, "settings": settings, "rows": rows, "figures": steps[0]}
        tensors |= sample(name, gradients)
        print(name, steps[0])
    twenty = {}
    many = pairs_of(N_STEPS * BATCH, 42)
    for name, (kind, settings) in TWENTY.items():
        rows = singles(many, False) if kind == "kto" else many
        steps, _, weights = train(kind, rows, settings, INITIAL, max_steps=N_STEPS, per_device_train_batch_size=BATCH,
                                  max_grad_norm=1.0)
        twenty[name] = {"kind": kind, "settings": settings, "rows": rows, "steps": steps}
        tensors |= sample(f"twenty.{name}", weights)
        print(name, [round(s["loss"], 4) for s in steps])
    document = {"format": 1, "initial": "../model_tied", "reference": "../dpo/twenty", "stride": STRIDE, "least": LEAST,
                "batch": BATCH, "runs": runs, "twenty": twenty}
    (FOLDER / "cases.json").write_text(json.dumps(document) + "\n")
    save_file(tensors, FOLDER / "expected.safetensors")
    for path in FOLDER.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    main()
