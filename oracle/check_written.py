"""Loads with transformers, or an adapter with PEFT, what the program wrote, and compares log-probs, or of a reward model
the scores.

    cohort logprobs --model FOLDER --dtype f32 --batch sampled.jsonl >rows.jsonl
    python oracle/check_written.py FOLDER rows.jsonl       # an adapter's adapter_config.json names its base
    python oracle/check_written.py FOLDER sampled.jsonl rows.jsonl        # a reward model, whose rows are scores alone

Prints the largest difference; more than 2e-4 is an error, and so is a tensor that a full checkpoint has not, or that is of
no use. A reward model is asked for one row at a time and for all at once. Written with torch 2.15.0, transformers 5.24.0,
peft 0.21.2.
"""

import json
import sys
from pathlib import Path

import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification


def load_scorer(folder):
    config = Path(folder, "adapter_config.json")
    if not config.exists():
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        assert not any(report.values()), report
        return model
    base = AutoModelForSequenceClassification.from_pretrained(
        json.loads(config.read_text())["base_model_name_or_path"], num_labels=1, dtype=torch.float32,
        attn_implementation="eager")
    base.config.pad_token_id = base.config.pad_token_id or 0
    return PeftModel.from_pretrained(base, folder)


@torch.no_grad()
def check_scores(folder, rows, scores):
    model = load_scorer(folder).eval()
    ids = [row["prompt_tokens"] + row["tokens"] for row in map(json.loads, open(rows))]
    want = [json.loads(line)["scores"] for line in open(scores)]
    alone = [model(input_ids=torch.tensor([row])).logits[0].tolist() for row in ids]
    pairs = list(zip(want, alone))
    if model.config.pad_token_id is not None:
        most, pad = max(map(len, ids)), model.config.pad_token_id
        padded = torch.tensor([row + [pad] * (most - len(row)) for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (most - len(row)) for row in ids])
        pairs += zip(want, model(input_ids=padded, attention_mask=mask).logits.tolist())
    return model, max(abs(a - b) for left, right in pairs for a, b in zip(left, right, strict=True))


@torch.no_grad()
def check_logprobs(folder, rows):
    kind = AutoPeftModelForCausalLM if Path(folder, "adapter_config.json").exists() else AutoModelForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    worst = 0.0
    for line in open(rows):
        row = json.loads(line)
        ids = row["prompt_tokens"] + row["tokens"]
        logp = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), -1)
        n = len(row["prompt_tokens"])
        want = [logp[i - 1, ids[i]].item() for i in range(n, len(ids))]
        worst = max([worst] + [abs(a - b) for a, b in zip(want, row["logprobs"])])
    return model, worst


what = "score" if len(sys.argv) == 4 else "log-prob"
model, worst = check_scores(*sys.argv[1:]) if len(sys.argv) == 4 else check_logprobs(*sys.argv[1:])
print(f"{sys.argv[1]}: {type(model).__name__}, largest difference of a {what} {worst:.1e}")
sys.exit(worst > 2e-4)
