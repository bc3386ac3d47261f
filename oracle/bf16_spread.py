"""How far transformers itself is from the float32 numbers of tests/fixtures/model_bf16 and model_experts_bf16 when it
computes in bf16.

tests/parity/test_model.c takes the size of its bf16 tolerances from what this prints.
Written with torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, on the CPU.

    python oracle/bf16_spread.py
"""

import json

import torch
from safetensors.torch import load_file
from model_transformers import FIXTURES, MODELS, checkpoint_gradients
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging


def relative_max(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def spread(kind):
    folder = FIXTURES / f"model_{kind}"
    expected = load_file(folder / "expected.safetensors")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager",
                                                 experts_implementation="eager")
    worst = {"logp": 0.0, "entropy": 0.0, "L": 0.0, "gradient norm": 0.0}

    def note(key, value):
        worst[key] = max(worst[key], value)

    for case in json.loads((folder / "cases.json").read_text())["cases"]:
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
        for key, grad in checkpoint_gradients(model, MODELS[kind]):
            want = expected[f"{name}.grad.{key}"]
            note("gradient norm", ((grad.float() - want).norm() / want.norm()).item())
    print(f"{kind}:", ", ".join(f"{k} {v:.1e}" for k, v in worst.items()))


def main():
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    for kind in ("bf16", "experts_bf16"):
        spread(kind)


if __name__ == "__main__":
    main()
