"""How far transformers itself is from the float32 numbers of tests/fixtures/model_bf16 when it computes in bf16.

tests/parity/test_model.c takes the size of its bf16 tolerances from what this prints.
Written with torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, on the CPU.

    python oracle/bf16_spread.py
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import Qwen3ForCausalLM
from transformers.utils import logging as transformers_logging

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "model_bf16"


def relative_max(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def main():
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    expected = load_file(FOLDER / "expected.safetensors")
    model = Qwen3ForCausalLM.from_pretrained(FOLDER, dtype=torch.bfloat16, attn_implementation="eager")
    worst = {"logp": 0.0, "entropy": 0.0, "L": 0.0, "gradient norm": 0.0}

    def note(key, value):
        worst[key] = max(worst[key], value)

    for case in json.loads((FOLDER / "cases.json").read_text())["cases"]:
        if not case["gradients"]:
            continue
        name, loss = case["name"], 0.0
        model.zero_grad()
        for i, sequence in enumerate(case["sequences"]):
            tokens, n = torch.tensor([sequence["tokens"]]), sequence["n_prompt"]
            logits = model(input_ids=tokens, use_cache=False).logits[0, n - 1:-1].float()
            for temperature, suffix in ((1.0, "t10"), (0.7, "t07")):
                logps = torch.log_softmax(logits / temperature, dim=-1)
                logp, entropy = logps.gather(1, tokens[0, n:, None])[:, 0], -(logps.exp() * logps).sum(-1)
                note("logp", relative_max(logp, expected[f"{name}.{i}.logp_{suffix}"]))
                note("entropy", relative_max(entropy, expected[f"{name}.{i}.entropy_{suffix}"]))
                if temperature == case["temperature"]:
                    loss = loss + (logp * expected[f"{name}.{i}.c"]).sum() + (entropy * expected[f"{name}.{i}.e"]).sum()
        loss.backward()
        note("L", abs(loss.item() - expected[f"{name}.loss"].item()))
        for key, p in model.named_parameters():
            want = expected[f"{name}.grad.{key}"]
            note("gradient norm", ((p.grad.float() - want).norm() / want.norm()).item())
    print(", ".join(f"{k} {v:.1e}" for k, v in worst.items()))


if __name__ == "__main__":
    main()
