"""Perplexity by sliding windows (transformers' guide to it) and the log-likelihoods of choices (lm-evaluation-harness), computed with
transformers in float32, beside what `cohort perplexity` and `cohort eval --choices` print: run it with the program and a checkpoint.

python oracle/likelihood_transformers.py build/cohort MODEL TEXT ROWS.jsonl     MODEL in f32; ROWS with prompt, choices, answer

The guide's script counts one token of each window too few in the weight of its mean; here every token but the first counts once, which
is what it describes."""

import json
import math
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def run(*command):
    return [json.loads(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()]


def logprobs(model, ids):
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0, :-1].double(), -1)


def perplexity(model, ids, window, stride):
    total, previous = 0.0, 1
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        part = ids[begin:end]
        lp = logprobs(model, part)
        for t in range(previous - begin, len(part)):
            total -= lp[t - 1, part[t]].item()
        previous = end
        if end == len(ids):
            break
    return total, len(ids) - 1


def choice_logprob(model, tokenizer, context, choice):
    spaces = len(context) - len(context.rstrip())
    continuation = " " + choice
    if spaces:
        context, continuation = context[:-spaces], context[-spaces:] + continuation
    whole, asked = tokenizer(context + continuation).input_ids, tokenizer(context).input_ids
    lp = logprobs(model, whole)
    return sum(lp[t - 1, whole[t]].item() for t in range(len(asked), len(whole))), len(whole) - len(asked)


def main():
    program, folder, text_file, rows_file = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = open(text_file).read()
    ids = tokenizer(text).input_ids
    common = ("--model", folder, "--dtype", "f32", "--device", "cpu", "--format", "jsonl")
    for window, stride in ((64, 16), (64, 63), (128, 64), (100, 33)):
        total, n = perplexity(model, ids, window, stride)
        ours = run(program, "perplexity", text_file, *common, "--window", str(window), "--stride", str(stride))[0]
        assert ours["tokens"] == n, (ours["tokens"], n)
        assert abs(ours["nll"] - total / n) < 2e-6 * total / n, (ours["nll"], total / n)
        size = len(text.encode()) - len(tokenizer.decode(ids[:1]).encode())
        assert ours["bytes"] == size and abs(ours["bits_per_byte"] - total / math.log(2) / size) < 1e-5
        print("perplexity", window, stride, ours["perplexity"], math.exp(total / n))
    rows = [json.loads(line) for line in open(rows_file)]
    ours = run(program, "eval", "--choices", "--data", rows_file, *common)
    right = {"acc": 0, "acc_norm": 0, "acc_bytes": 0, "acc_tokens": 0}
    for row, mine in zip(rows, ours):
        found = [choice_logprob(model, tokenizer, row["prompt"], choice) for choice in row["choices"]]
        for (lp, n), have, count in zip(found, mine["logprobs"], mine["tokens"]):
            assert n == count and abs(lp - have) < 1e-4, (row, lp, have, n, count)
        for name, length in (("acc", lambda i: 1), ("acc_norm", lambda i: len(row["choices"][i])),
                             ("acc_bytes", lambda i: len(row["choices"][i].encode())), ("acc_tokens", lambda i: found[i][1])):
            best = max(range(len(found)), key=lambda i: found[i][0] / length(i))
            assert mine[name] == (best == row["answer"]), (row, name)
            right[name] += best == row["answer"]
    for name, n in right.items():
        share = n / len(rows)
        assert abs(ours[-1]["eval_" + name] - share) < 1e-9
        assert abs(ours[-1]["eval_" + name + "/stderr"] - math.sqrt(share * (1 - share) / (len(rows) - 1))) < 1e-9
    print("choices", right, "of", len(rows))


if __name__ == "__main__":
    main()
