"""Loads with transformers, or an adapter with PEFT, what the program wrote, and compares log-probs.

    cohort logprobs --model FOLDER --dtype f32 --batch sampled.jsonl >rows.jsonl
    python oracle/check_written.py FOLDER rows.jsonl       # an adapter's adapter_config.json names its base

Prints the largest difference of a log-prob; more than 2e-4 is an error. Written with torch 2.15.0, transformers 5.24.0,
peft 0.21.2.
"""

import json
import sys
from pathlib import Path

import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM

folder, rows = sys.argv[1:]
kind = AutoPeftModelForCausalLM if Path(folder, "adapter_config.json").exists() else AutoModelForCausalLM
model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
worst = 0.0
for line in open(rows):
    row = json.loads(line)
    ids = row["prompt_tokens"] + row["tokens"]
    with torch.no_grad():
        logp = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), -1)
    n = len(row["prompt_tokens"])
    want = [logp[i - 1, ids[i]].item() for i in range(n, len(ids))]
    worst = max([worst] + [abs(a - b) for a, b in zip(want, row["logprobs"])])
print(f"{folder}: {type(model).__name__}, largest difference of a log-prob {worst:.1e}")
sys.exit(worst > 2e-4)
