"""In which order TRL's GRPOTrainer takes slices of generation batches, and what its counts of a batch come to.

Writes tests/fixtures/step_walk.json. A trainer on tests/fixtures/model_tied goes through its steps; completions are
scripted so that each can be recognised, and what every training_step is given is noted. The first configuration is
that of TRL's test_prepare_input_called_with_correct_data, with a set of 12 prompts (two generation batches an epoch).
Written with torch 2.15.0, transformers 5.24.0, trl 1.16.0, datasets 5.2.0, on the CPU.

    python oracle/step_walk_trl.py
"""

import json
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PrinterCallback, Qwen3ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from grpo_steps_trl import EOS, INITIAL, make_tokenizer

FIXTURE = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "step_walk.json"
N_PROMPTS = 12
# slices: steps_per_generation; accumulated: gradient_accumulation_steps
WALKS = [dict(slices=4, accumulated=3, iterations=2, size=6, group=4),
         dict(slices=4, accumulated=2, iterations=1, size=6, group=2),
         dict(slices=2, accumulated=4, iterations=1, size=6, group=2),
         dict(slices=2, accumulated=2, iterations=3, size=6, group=2)]
# What GRPOConfig makes of the counts (TRL's names); null: not given.
COUNTS = [dict(per_device_train_batch_size=6, gradient_accumulation_steps=3, steps_per_generation=4, num_generations=4),
          dict(per_device_train_batch_size=8, gradient_accumulation_steps=4, num_generations=8),
          dict(per_device_train_batch_size=8, gradient_accumulation_steps=2, generation_batch_size=64, num_generations=8),
          dict(per_device_train_batch_size=4, gradient_accumulation_steps=6, num_generations=8),
          dict(per_device_train_batch_size=4, generation_batch_size=6, num_generations=2),
          dict(per_device_train_batch_size=3, gradient_accumulation_steps=3, num_generations=2),
          dict(per_device_train_batch_size=8, generation_batch_size=16, steps_per_generation=2, num_generations=8)]


class WalkedTrainer(GRPOTrainer):
    """Row i of generation batch g has the completion (g, i) in base 90."""

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        g = self.n_generated
        self.n_generated += 1
        self.prompts.append(["".join(f"t{i} " for i in p).strip() for p in prompt_ids])
        return [[g, i, EOS[0]] for i in range(len(prompt_ids))], None

    def _prepare_inputs(self, generation_batch):
        inputs = super()._prepare_inputs(generation_batch)
        self.walk.append((inputs["completion_ids"].tolist(), self.state.global_step))
        return inputs


def walk(slices, accumulated, iterations, size, group):
    torch.manual_seed(0)
    model = Qwen3ForCausalLM.from_pretrained(INITIAL, dtype=torch.float32)
    rows = [{"prompt": f"t{i} t{i}"} for i in range(N_PROMPTS)]
    with tempfile.TemporaryDirectory() as scratch:
        args = GRPOConfig(output_dir=scratch, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
                          bf16=False, gradient_checkpointing=False, shuffle_dataset=False, learning_rate=0.0,
                          max_completion_length=8, num_train_epochs=3, per_device_train_batch_size=size,
                          gradient_accumulation_steps=accumulated, steps_per_generation=slices,
                          num_iterations=iterations, num_generations=group, loss_type="grpo")
        trainer = WalkedTrainer(model=model, reward_funcs=lambda completions, **kwargs: [0.0] * len(completions),
                                args=args, train_dataset=Dataset.from_list(rows), processing_class=make_tokenizer())
        trainer.remove_callback(PrinterCallback)
        trainer.n_generated, trainer.walk, trainer.prompts = 0, [], []
        trainer.train()
    steps, known = [], {}
    for completions, global_step in trainer.walk:
        batches = {c[0] for c in completions}
        assert len(batches) == 1 and len(completions) == size
        batch = batches.pop()
        seen = known.setdefault(batch, [])  # its slices in the order in which they first came
        content = sorted(c[1] for c in completions)
        if content not in seen:
            seen.append(content)
        steps.append([batch, seen.index(content), global_step])
    for batch, seen in known.items():  # slices are a partition of the batch
        assert sorted(sum(seen, [])) == list(range(slices * size)), (batch, seen)
    prompts = [[int(p.split()[0][1:]) for p in batch[::group]] for batch in trainer.prompts]
    return dict(slices=slices, accumulated=accumulated, iterations=iterations, prompts=prompts, walk=steps)


def counts(given):
    try:
        with tempfile.TemporaryDirectory() as scratch:
            config = GRPOConfig(output_dir=scratch, use_cpu=True, bf16=False, report_to="none", **given)
    except ValueError:
        return dict(given=given, refused=True)
    return dict(given=given, slices=config.steps_per_generation, accumulated=config.gradient_accumulation_steps,
                prompts=config.generation_batch_size // config.num_generations)


def main():
    found = dict(format=1, walks=[walk(**w) for w in WALKS], counts=[counts(c) for c in COUNTS])
    FIXTURE.write_text(json.dumps(found).replace('"walk": ', '\n  "walk": ').replace('{"given"', '\n {"given"')
                       .replace('{"slices"', '\n {"slices"') + "\n")


main()
