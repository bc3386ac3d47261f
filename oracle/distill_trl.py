"""A step of TRL's DistillationTrainer on scripted completions for each divergence and temperature, and twenty steps of two
runs, in float32.

Writes tests/fixtures/distill/ (see oracle/README.md for the exact format). The student is tests/fixtures/model_tied
(write that first), the teacher a wider and deeper model of random weights that this script writes. Nothing is sampled:
generation is replaced by a script, everything else is TRL's: the batches, the divergence, its normaliser, metrics,
evaluation; the gradients are those that the optimizer is given.
Deterministic. Written with torch 2.15.0, transformers 5.24.0, trl 1.16.0, datasets 5.2.0, on the CPU.

    python oracle/distill_trl.py
"""

import copy
import json
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from dpo_trl import Recorder
from grpo_steps_trl import EOS, INITIAL, VOCAB, drawing, make_tokenizer
from safetensors.torch import save_file
from transformers import PrinterCallback, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging as transformers_logging
from trl import DistillationConfig, DistillationTrainer

FOLDER = INITIAL.parent / "distill"
STRIDE, LEAST = 8, 1000
N_STEPS, BATCH, MAX_COMPLETION = 20, 6, 16
LOGGED = ("loss", "grad_norm", "entropy", "learning_rate", "num_tokens", "completions/mean_length",
          "completions/min_length", "completions/max_length", "completions/clipped_ratio",
          "completions/mean_terminated_length", "completions/min_terminated_length", "completions/max_terminated_length")

RUNS = {
    "default": {},  # beta 1: reverse KL
    "forward": dict(beta=0.0),
    "tenth": dict(beta=0.1),
    "half": dict(beta=0.5),
    "nine_tenths": dict(beta=0.9),
    "warm": dict(temperature=1.7),
    "cool": dict(beta=0.5, temperature=0.6),
    "cool_forward": dict(beta=0.0, temperature=0.6),
    # Two micro-batches a step: the normaliser is that of both.
    "accumulated": dict(beta=0.3, per_device_train_batch_size=BATCH // 2, gradient_accumulation_steps=2),
}
WHOLE = ("default", "cool")  # runs of which all gradients are kept
TWENTY = {"reverse": {}, "between": dict(beta=0.4, temperature=0.8)}


def write_rounds():
    draw = drawing(77)
    rounds = []
    for _ in range(N_STEPS):
        prompts = [draw(2 + draw(1, 20)[0], EOS[0]) for _ in range(BATCH)]
        assert len({tuple(p) for p in prompts}) == BATCH
        completions = []
        for i in range(BATCH):
            n = MAX_COMPLETION if i == 0 else 1 + draw(1, MAX_COMPLETION - 1)[0]  # the first one is cut
            completions.append(draw(n, EOS[0]) if i == 0 else draw(n - 1, EOS[0]) + [EOS[i % 2]])
        rounds.append({"prompts": prompts, "completions": completions})
    return rounds


def write_teacher():
    torch.manual_seed(5)
    config = Qwen3Config(vocab_size=VOCAB, hidden_size=40, num_hidden_layers=3, num_attention_heads=4, head_dim=8,
                         num_key_value_heads=2, intermediate_size=56, max_position_embeddings=128, rope_theta=5000.0,
                         rms_norm_eps=1e-6, tie_word_embeddings=False, initializer_range=0.3, dtype="float32",
                         eos_token_id=EOS[0], bos_token_id=None)
    model = Qwen3ForCausalLM(config)
    for name, value in model.named_parameters():
        if "norm" in name:
            value.data += 0.2 * torch.randn_like(value)
    model.save_pretrained(FOLDER / "teacher")
    (FOLDER / "teacher" / "generation_config.json").unlink(missing_ok=True)


class ScriptedTrainer(DistillationTrainer):
    """DistillationTrainer whose completions come from the script."""

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        script = self.rounds[self.drawn]
        assert sorted(prompt_ids) == sorted(script["prompts"]), "TRL's batch is not the script's"
        self.drawn += self.model.training
        return [copy.deepcopy(script["completions"][script["prompts"].index(p)]) for p in prompt_ids]


def train(rounds, settings, **more):
    torch.manual_seed(0)
    student, teacher = (Qwen3ForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
                        for path in (INITIAL, FOLDER / "teacher"))
    rows = [{"prompt": " ".join(f"t{i}" for i in p)} for r in rounds for p in r["prompts"]]
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = dict(
            output_dir=scratch, save_strategy="no", report_to="none", logging_steps=1, disable_tqdm=True, use_cpu=True,
            bf16=False, gradient_checkpointing=False, seed=0, max_steps=1, max_grad_norm=0.0, learning_rate=1e-3,
            optim="adamw_torch", lr_scheduler_type="constant", per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH, max_completion_length=MAX_COMPLETION, pad_to_multiple_of=None,
            shuffle_dataset=False)
        args = DistillationConfig(**(arguments | settings | more))
        trainer = ScriptedTrainer(model=student, teacher_model=teacher, args=args,
                                  train_dataset=Dataset.from_list(rows), eval_dataset=Dataset.from_list(rows[:BATCH]),
                                  processing_class=make_tokenizer(), callbacks=[recorder])
        trainer.remove_callback(PrinterCallback)
        trainer.rounds, trainer.drawn = rounds, 0
        before = trainer.evaluate()
        trainer.train()
    steps = [{k: e[k] for k in LOGGED} for e in trainer.state.log_history if "loss" in e]
    before = {k: before[f"eval_{k}"] for k in ("loss", "entropy")}
    weights = {k: v.detach().clone().contiguous() for k, v in student.named_parameters()}
    return steps, before, recorder.gradients, weights


def main():
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_teacher()
    rounds, runs, tensors, twenty = write_rounds(), {}, {}, {}
    for name, settings in RUNS.items():
        steps, before, gradients, _ = train(rounds[:1], settings)
        runs[name] = {"settings": settings, "figures": steps[0], "eval": before}
        tensors |= {f"{name}.{k}": v.reshape(-1)[:: 1 if name in WHOLE or v.numel() < LEAST else STRIDE].clone()
                    for k, v in gradients.items()}
        print(name, steps[0]["loss"], steps[0]["entropy"], steps[0]["grad_norm"], before)
    for name, settings in TWENTY.items():
        steps, _, _, weights = train(rounds, settings, max_steps=N_STEPS, max_grad_norm=1.0)
        assert len(steps) == N_STEPS
        twenty[name] = {"settings": settings, "steps": steps}
        save_file(weights, FOLDER / f"{name}.safetensors")
        print(name, [round(s["loss"], 4) for s in steps])
    document = {"format": 1, "initial": "../model_tied", "stride": STRIDE, "least": LEAST, "whole": list(WHOLE),
                "max_completion_length": MAX_COMPLETION, "rounds": rounds, "runs": runs, "twenty": twenty}
    (FOLDER / "cases.json").write_text(json.dumps(document) + "\n")
    save_file(tensors, FOLDER / "gradients.safetensors")
    for path in FOLDER.rglob("*.*"):
        path.chmod(0o644)


if __name__ == "__main__":
    main()
