"""Writes tests/fixtures/grpo_tools.json: a step of TRL's GRPOTrainer with tools, whose turns are scripted: ids of completions, which of them are trained
on, the messages that rewards get, and what is logged.

Turns are texts in the form of examples/tool-use/template.jinja; all else is TRL's: calls are taken apart, run and answered, answers become ids, the
loop ends by itself or by max_tool_calling_iterations. MODEL is made by

    cohort init --preset nano --tokenizer bytes --seed 1 --out MODEL

    python oracle/grpo_tools_trl.py MODEL
"""

import copy
import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers
import trl
import trl.chat_template_utils as templates
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from trl import GRPOConfig, GRPOTrainer

ROOT = Path(__file__).resolve().parent.parent
N_GENERATIONS, MOST_ITERATIONS = 2, 2


def call(name, **arguments):
    return "<tool_call>" + json.dumps({"name": name, "arguments": arguments}) + "</tool_call>"


# What the model says, turn by turn, to each question.
SCRIPT = {
    "a": [call("good", x=1) + call("good", x=2), "ok"],
    "b": [call("bad", x=1), "ok"],
    "c": [call("gone", x=1), "ok"],
    "d": ["ok"],
    "e": [call("good", y=1), "ok"],
    "f": [call("good", x=5), call("bad", x=6), "ok"],
    "g": [call("good", x=7), call("good", x=8), call("good", x=9), "ok"],
    "h": [call("good", x="3"), "ok"],
}


def good(x: int) -> int:
    """Adds one.

    Args:
        x: The number
    """
    return x + 1


def bad(x: int) -> int:
    """Fails.

    Args:
        x: The number
    """
    raise ValueError("no luck")


kept = {}


def seen(prompts, completions, completion_ids, **kwargs):
    kept.update(completions=copy.deepcopy(completions), completion_ids=copy.deepcopy(completion_ids))
    return [1.0 if c[-1].get("content") == "ok" else 0.25 * len(c) for c in completions]


class Scripted(GRPOTrainer):
    def _generate_single_turn(self, prompt_ids, *_args, **_kwargs):
        turns = []
        for ids in prompt_ids:
            text = self._tokenizer.decode(ids)
            question = text.split("<|im_start|>user\n")[1][0]
            turn = text.split("<|im_start|>user\n" + question + "<|im_end|>")[1].count("<|im_start|>assistant\n") - 1
            turns.append(self._tokenizer.encode(SCRIPT[question][turn]) + [self._tokenizer.eos_token_id])
        return turns, None

    def _generate(self, prompts):
        made = super()._generate(prompts)
        kept.update(prompt_ids=made[0], tool_mask=made[2])
        return made


def main():
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    tokenizer.chat_template = (ROOT / "examples/tool-use/template.jinja").read_text()
    tokenizer.response_template = templates.qwen3_template
    rows = [{"prompt": [{"role": "user", "content": question}]} for question in SCRIPT]
    with tempfile.TemporaryDirectory() as folder:
        args = GRPOConfig(output_dir=folder, per_device_train_batch_size=len(rows) * N_GENERATIONS, num_generations=N_GENERATIONS, max_steps=1,
                          max_completion_length=600, max_tool_calling_iterations=MOST_ITERATIONS, shuffle_dataset=False, report_to="none", logging_steps=1,
                          use_cpu=True, save_strategy="no", disable_tqdm=True, bf16=False, learning_rate=1e-9)
        trainer = Scripted(model, seen, args, Dataset.from_list(rows), processing_class=tokenizer, tools=[good, bad])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    log = trainer.state.log_history[0]
    episodes = []
    for i, question in enumerate(question for question in SCRIPT for _ in range(N_GENERATIONS)):
        if i % N_GENERATIONS == 0:
            ids = kept["completion_ids"][i]
            assert ids == kept["completion_ids"][i + 1]
            episodes.append({"question": question, "script": SCRIPT[question], "ids": ids, "mask": kept["tool_mask"][i],
                             "messages": kept["completions"][i]})
    measured = {name: value for name, value in log.items() if name.startswith(("tools/", "completions/", "rewards/", "reward", "frac_reward"))}
    out = {"trl": trl.__version__, "transformers": transformers.__version__, "iterations": MOST_ITERATIONS, "episodes": episodes, "measured": measured,
           "logged": sorted(log)}
    with open(ROOT / "tests/fixtures/grpo_tools.json", "w") as file:
        json.dump(out, file, indent=1)
        file.write("\n")


main()
