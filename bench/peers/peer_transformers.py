"""The work of `cohort bench` on Hugging Face transformers (torch, CPU, bfloat16), the two in turn in one run.

    python bench/peers/peer_transformers.py --cohort build/cohort [--kind prefill,decode,train] [--rounds 3] [--new-tokens 32]

Prints one JSON object a line: kind, what, ours and theirs in tokens a second (medians over the rounds), and their ratio (median of the ratios of
neighbours). Both sides use random weights of the Qwen3-0.6B shape and the same number of threads.
"""
import argparse
import json
import statistics
import subprocess
import time

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

VOCAB = 151936


def build_model():
    config = Qwen3Config(vocab_size=VOCAB, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
                         num_key_value_heads=8, head_dim=128, max_position_embeddings=40960, rms_norm_eps=1e-6, tie_word_embeddings=True,
                         rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
    torch.manual_seed(1)
    return Qwen3ForCausalLM(config).to(torch.bfloat16)


@torch.no_grad()
def prefill(model, n_prompt):
    ids = torch.randint(0, VOCAB, (1, n_prompt))
    start = time.perf_counter()
    model(ids, use_cache=True, logits_to_keep=1)
    return n_prompt / (time.perf_counter() - start)


@torch.no_grad()
def decode(model, batch, n_prompt, n_new):
    """The prompt is computed once and its cache repeated: transformers has no sharing of pages. Only the steps are timed."""
    ids = torch.randint(0, VOCAB, (1, n_prompt))
    out = model(ids, use_cache=True, logits_to_keep=1)
    cache = out.past_key_values
    if batch > 1:
        cache.batch_repeat_interleave(batch)
    token = torch.multinomial(torch.softmax(out.logits[:, -1].float(), -1), batch, replacement=True).reshape(batch, 1)
    start = time.perf_counter()
    for _ in range(n_new - 1):
        logits = model(token, past_key_values=cache, use_cache=True).logits[:, -1].float()
        token = torch.multinomial(torch.softmax(logits, -1), 1)
    return batch * (n_new - 1) / (time.perf_counter() - start)


class Trainer:
    """8 x (128 + 128), loss on the completions, AdamW. Its weights and moments are bfloat16; ours have a full float32 master and moments."""

    def __init__(self, model):
        self.model = model.train()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0)

    def step(self, rows=8, n_prompt=128, n_completion=128):
        ids = torch.randint(0, VOCAB, (rows, n_prompt + n_completion))
        start = time.perf_counter()
        logits = self.model(ids[:, :-1], logits_to_keep=n_completion).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, -n_completion:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return rows * (n_prompt + n_completion - 1) / (time.perf_counter() - start)


def ours(arguments, kind):
    """One run of our side: {what: tokens a second}."""
    command = [arguments.cohort, "bench", "--kind", kind, "--format", "jsonl", "--quick", "--threads", str(arguments.threads)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    rows = [json.loads(line) for line in out.splitlines()]
    return {row["what"]: row["value"] for row in rows if row["kind"] == kind}


def compare(arguments, kind, cases):
    """cases: (beginning of our row's name, function that gives their tokens a second)."""
    for _, run in cases:
        run()  # warm-up
    found = {name: ([], []) for name, _ in cases}
    for _ in range(arguments.rounds):
        values = ours(arguments, kind)
        for name, run in cases:
            mine = [value for what, value in values.items() if what.startswith(name)]
            found[name][0].append(mine[0])
            found[name][1].append(run())
    for name, (mine, theirs) in found.items():
        print(json.dumps({"kind": kind, "what": name, "ours": round(statistics.median(mine), 2), "theirs": round(statistics.median(theirs), 2),
                          "ratio": round(statistics.median(a / b for a, b in zip(mine, theirs)), 3), "rounds": arguments.rounds}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", default="build/cohort")
    parser.add_argument("--kind", default="prefill,decode,train")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=24, help="as cohort bench --quick")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    kinds = arguments.kind.split(",")
    model = build_model().eval()
    if "prefill" in kinds:
        compare(arguments, "prefill", [("512 tokens", lambda: prefill(model, 512))])
    if "decode" in kinds:
        compare(arguments, "decode",
                [(f"batch {b},", lambda b=b: decode(model, b, 256, arguments.new_tokens)) for b in (1, 8, 32)])
    if "train" in kinds:
        trainer = Trainer(model)
        compare(arguments, "train", [("8 x (128 + 128)", trainer.step)])


if __name__ == "__main__":
    main()
