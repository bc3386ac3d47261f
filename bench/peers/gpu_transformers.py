"""The GPU work of `cohort bench` on Hugging Face transformers (torch, CUDA, bfloat16, random weights of the exact shapes).

    python3 bench/peers/gpu_transformers.py [--large] [--compile] [--rounds 3] [--new-tokens 64] [--to FILE]

Prints one JSON object a line: model, kind, what, tokens a second (median, least and most of the rounds). What is timed begins and ends with the
GPU idle. One run of everything comes first and is not counted. Decoding is `generate` with its default (growing) cache, sampling at temperature 1
without filters, its lengths forced; the prompt's time is in it. Training is the GRPO loss on the completions (log-probs in float32 from bfloat16
logits), gradient norm and AdamW (bfloat16 moments; ours are float32), micro-batches as they ran fastest. --large adds the 8B shape, --compile
training of 0.6B with torch.compile (its compilation is not in the figure).
"""
import argparse
import json
import statistics
import time

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

VOCAB = 151936
SHAPES = {
    "qwen3-0.6b": dict(hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
                       head_dim=128, tie_word_embeddings=True),
    "qwen3-8b": dict(hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8,
                     head_dim=128, tie_word_embeddings=False),
    # For a look at this script where there is no GPU.
    "trial": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
                  tie_word_embeddings=True),
}


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def build(shape, device):
    config = Qwen3Config(vocab_size=VOCAB, max_position_embeddings=40960, rms_norm_eps=1e-6,
                         rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, **SHAPES[shape])
    torch.manual_seed(1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = Qwen3ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    weight = model.model.layers[0].mlp.up_proj.weight.detach()
    assert weight.dtype == torch.bfloat16 and float(weight.float().std()) > 0.01, "the weights are not random bfloat16"
    return model


def timed(device, rounds, amount, run):
    """Tokens a second of each round, after one that is not counted."""
    run()
    figures = []
    for _ in range(rounds):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        figures.append(amount / (time.perf_counter() - start))
    return figures


def decode(model, device, rounds, batch, n_prompt, n_new):
    ids = torch.randint(0, VOCAB, (batch, n_prompt), device=device)

    @torch.no_grad()
    def run():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                             min_new_tokens=n_new, max_new_tokens=n_new)
        assert out.shape == (batch, n_prompt + n_new)

    return timed(device, rounds, batch * n_new, run)


def train(model, device, rounds, rows, n_prompt, n_completion, micro, compiled=False):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0, fused=device == "cuda")
    forward = torch.compile(model) if compiled else model
    advantage = torch.randn(rows, 1, device=device)

    def loss_of(ids, advantage):
        # As TRL: the logits of the completions alone; the one behind the last token predicts nothing.
        logits = forward(ids, logits_to_keep=n_completion + 1).logits[:, :-1].float()
        target = ids[:, -n_completion:]
        logp = logits.gather(-1, target.unsqueeze(-1)).squeeze(-1) - torch.logsumexp(logits, -1)
        ratio = torch.exp(logp - logp.detach())
        clipped = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        return -clipped.sum() / (rows * n_completion)

    def run():
        ids = torch.randint(0, VOCAB, (rows, n_prompt + n_completion), device=device)
        for first in range(0, rows, micro):
            loss_of(ids[first:first + micro], advantage[first:first + micro]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    figures = timed(device, rounds, rows * (n_prompt + n_completion), run)
    model.eval()
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="the 8B shape too")
    parser.add_argument("--compile", action="store_true", help="training with torch.compile too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--to", help="file to append the lines to")
    parser.add_argument("--trial", action="store_true", help="a tiny shape on the CPU: whether the script runs")
    arguments = parser.parse_args()
    device = "cpu" if arguments.trial else "cuda"
    rounds, n_new = arguments.rounds, arguments.new_tokens
    begun = time.perf_counter()

    def show(model, kind, what, figures):
        line = json.dumps({"model": model, "kind": kind, "what": what, "value": round(statistics.median(figures), 1), "unit": "tok/s",
                           "low": round(min(figures), 1), "high": round(max(figures), 1), "samples": len(figures), "peer": "transformers"})
        print(line, flush=True)
        print(f"{time.perf_counter() - begun:.0f} s", flush=True)
        if arguments.to:
            with open(arguments.to, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    if arguments.trial:
        cases = [("trial", (1, 4), (4, 16, 16, 2), False)]
        compiled_case = ("trial", (), (4, 16, 16, 2), True)
    else:
        cases = [("qwen3-0.6b", (1, 256), (64, 128, 512, 8), False)]
        if arguments.large:
            cases.append(("qwen3-8b", (1, 256), (32, 128, 512, 4), False))
        compiled_case = ("qwen3-0.6b", (), (64, 128, 512, 8), True)
    if arguments.compile:
        cases.append(compiled_case)  # last: it takes longest
    for name, batches, rows, compiled in cases:
        model = build(name, device).eval()
        for batch in batches:
            show(name, "decode", f"batch {batch}, prompt 128, {n_new} new", decode(model, device, rounds, batch, 128, n_new))
        n, n_prompt, n_completion, micro = rows
        show(name, "train", f"{n} x ({n_prompt} + {n_completion})" + (", torch.compile" if compiled else ", eager"),
             train(model, device, rounds, n, n_prompt, n_completion, micro, compiled))
        del model
        if device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
