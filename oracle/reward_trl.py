"""A step of TRL's RewardTrainer on pairs of fixed tokens, with margins and with centred rewards, and twenty steps of one
run, in float32.

Writes tests/fixtures/reward/ (see oracle/README.md for the exact format). The model is tests/fixtures/classifier_qwen3
(write that first). Everything is TRL's: collator, loss, metrics;
the gradients are those that the optimizer is given. Of most runs every 4th element of large tensors is kept.
Deterministic. Written with torch 2.15.0, transformers 5.24.0, trl 1.16.0, datasets 5.2.0, on the CPU.

    python oracle/reward_trl.py
"""

import json
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from transformers.utils import logging as transformers_logging
from trl import RewardConfig, RewardTrainer

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
INITIAL, FOLDER = FIXTURES / "classifier_qwen3", FIXTURES / "reward"
VOCAB, PAD = 53, 52  # the last token pads, and is in no row
STRIDE, LEAST = 4, 1000
N_STEPS, BATCH = 20, 4

RUNS = {
    "plain": ({}, False),
    "margins": ({}, True),
    "centred": (dict(center_rewards_coefficient=0.01), False),
    "both": (dict(center_rewards_coefficient=0.05), True),
}
LOGGED = ("loss", "num_tokens", "min_reward", "mean_reward", "max_reward", "accuracy", "margin")


def write_pairs(n, seed):
    """Sequences that begin alike, or not at all; one is the beginning of the other; two are the same."""
    generator = torch.Generator().manual_seed(seed)

    def draw(k, low, high):
        return torch.randint(low, high, (k,), generator=generator).tolist()

    pairs = []
    for i in range(n):
        prompt, chosen, rejected = (draw(draw(1, 1, high)[0], 0, PAD) for high in (16, 8, 8))
        kind = i % 6
        prompt = [] if kind == 3 else prompt
        rejected = chosen + rejected if kind == 4 else chosen if kind == 5 else rejected
        if not prompt and chosen[0] == rejected[0]:
            rejected[0] = (chosen[0] + 1) % PAD
        pairs.append({"chosen_ids": prompt + chosen, "rejected_ids": prompt + rejected,
                      "margin": round(2.0 * torch.randn((), generator=generator).item(), 2)})
    return pairs


def make_tokenizer():
    tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCAB)}, unk_token=f"t{PAD}"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="t50", pad_token=f"t{PAD}")


class Recorder(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients = {k: v.grad.detach().clone().contiguous() for k, v in model.named_parameters()
                          if v.grad is not None}


def train(pairs, settings, margins, **more):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(INITIAL, dtype=torch.float32, attn_implementation="eager")
    columns = ("chosen_ids", "rejected_ids", "margin") if margins else ("chosen_ids", "rejected_ids")
    dataset = Dataset.from_list([{k: row[k] for k in columns} for row in pairs])
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = dict(
            output_dir=scratch, save_strategy="no", report_to="none", logging_steps=1, disable_tqdm=True, use_cpu=True,
            bf16=False, gradient_checkpointing=False, seed=0, max_steps=1, max_grad_norm=0.0, learning_rate=1e-3,
            optim="adamw_torch", lr_scheduler_type="constant", per_device_train_batch_size=len(pairs),
            per_device_eval_batch_size=len(pairs), train_sampling_strategy="sequential")
        args = RewardConfig(**(arguments | settings | more))
        trainer = RewardTrainer(model=model, args=args, train_dataset=dataset, eval_dataset=dataset,
                                processing_class=make_tokenizer(), callbacks=[recorder])
        trainer.remove_callback(PrinterCallback)
        before = trainer.evaluate()
        trainer.train()
    entries = [e for e in trainer.state.log_history if "loss" in e]
    steps = [{k: e[k] for k in (*LOGGED, "grad_norm")} for e in entries]
    before = {k: before[f"eval_{k}"] for k in LOGGED if k != "num_tokens"}
    weights = {k: v.detach().clone().contiguous() for k, v in model.named_parameters()}
    return steps, before, recorder.gradients, weights


def main():
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    pairs, runs, tensors = write_pairs(6, 51), {}, {}
    for name, (settings, margins) in RUNS.items():
        steps, before, gradients, _ = train(pairs, settings, margins)
        runs[name] = {"settings": settings | {"margins": margins}, "figures": steps[0], "eval": before}
        stride = 1 if name == "both" else STRIDE
        tensors |= {f"{name}.{k}": v.reshape(-1)[:: stride if v.numel() >= LEAST else 1].clone()
                    for k, v in gradients.items()}
        print(name, steps[0])
    many = write_pairs(N_STEPS * BATCH, 52)
    steps, _, _, weights = train(many, {}, True, max_steps=N_STEPS, per_device_train_batch_size=BATCH, max_grad_norm=1.0,
                                 learning_rate=1e-4)  # RewardConfig's own
    tensors |= {f"twenty.{k}": v for k, v in weights.items()}
    print([s["loss"] for s in steps])
    document = {"format": 1, "initial": "../classifier_qwen3", "stride": STRIDE, "least": LEAST, "whole": ["both"],
                "pairs": pairs, "runs": runs, "twenty": {"batch": BATCH, "pairs": many, "steps": steps}}
    (FOLDER / "cases.json").write_text(json.dumps(document) + "\n")
    save_file(tensors, FOLDER / "expected.safetensors")
    for path in FOLDER.rglob("*.*"):
        path.chmod(0o644)


if __name__ == "__main__":
    main()
