"""Gradients of every tensor that an adapter of PEFT trains, on the tiny models of model_transformers.py, in float32.

Writes tests/fixtures/adapter_gradients/CASE/: the adapter as PEFT saves it, its values moved away from where they
start, and gradients.safetensors: dL/dTENSOR by the names of the adapter's file, L ("loss") being that of the model's
case "cold" (oracle/README.md). settings.json names the cases with their models. Deterministic. Written with peft
0.21.2, torch 2.15.0, transformers 5.24.0, on the CPU.

    python oracle/adapter_gradients_peft.py            # all cases
    python oracle/adapter_gradients_peft.py all head   # some
"""

import json
import shutil
import sys
import warnings

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from model_transformers import FIXTURES, TEMPERATURES, forward, load, score

FOLDER = FIXTURES / "adapter_gradients"
TEMPERATURE = TEMPERATURES["t07"]  # of the case "cold"

CASES = {
    "unset": ("untied", dict(r=4, lora_alpha=8)),
    "all": ("untied", dict(r=3, lora_alpha=6, target_modules="all-linear")),
    "rslora": ("tied", dict(r=5, lora_alpha=3, use_rslora=True, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])),
    "ranks": ("untied", dict(r=2, lora_alpha=4, target_modules="all-linear",
                             rank_pattern={"k_proj": 5, r"layers\.0\.mlp\.up_proj": 1}, alpha_pattern={"down_proj": 7.5})),
    "ranks_rslora": ("qwen2", dict(r=3, lora_alpha=2, use_rslora=True, target_modules=["q_proj", "v_proj", "up_proj"],
                                   rank_pattern={"v_proj": 1}, alpha_pattern={"1.self_attn.q_proj": 9})),
    "pattern": ("tied", dict(r=2, lora_alpha=5, target_modules=r".*\.1\.(self_attn|mlp)\.(k|down)_proj")),
    "layers": ("untied", dict(r=2, lora_alpha=1, target_modules=["gate_proj", "o_proj"], layers_to_transform=[0, 2])),
    "mlp": ("qwen2", dict(r=4, lora_alpha=4, target_modules=["gate_proj", "up_proj", "down_proj"])),
    "one": ("tied", dict(r=1, lora_alpha=16, target_modules=["o_proj"])),
    "head": ("untied", dict(r=2, lora_alpha=5, target_modules=["q_proj", "lm_head"])),
    "embedding": ("untied", dict(r=3, lora_alpha=5, target_modules=["q_proj", "embed_tokens"])),
    "embedding_tied": ("tied", dict(r=2, lora_alpha=3, use_rslora=True, target_modules=["embed_tokens", "v_proj"])),
    "head_tied": ("tied", dict(r=2, lora_alpha=5, target_modules=["lm_head"])),
    "both_tied": ("tied", dict(r=4, lora_alpha=4, target_modules=["lm_head", "embed_tokens", "down_proj"])),
    "wide": ("untied", dict(r=32, lora_alpha=32, target_modules=["k_proj", "up_proj"])),  # more than the inputs have
    "exclude": ("qwen2", dict(r=3, lora_alpha=0.5, target_modules="all-linear", exclude_modules=["0.self_attn.q_proj", "mlp.gate_proj"])),
    "saved": ("untied", dict(r=2, lora_alpha=5, target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"])),
    "saved_modules": ("untied", dict(r=2, lora_alpha=5, target_modules="all-linear",
                                     modules_to_save=["norm", "0.mlp"])),
    "saved_attention": ("untied", dict(r=2, lora_alpha=5, target_modules=["up_proj"],
                                       modules_to_save=["model.norm", "1.self_attn", "2.post_attention_layernorm"])),
    "saved_biases": ("qwen2", dict(r=2, lora_alpha=5, target_modules=["q_proj", "down_proj"],
                                   modules_to_save=["0.self_attn"])),
    "lora_bias": ("qwen2", dict(r=2, lora_alpha=5, target_modules=["q_proj", "k_proj"], lora_bias=True)),
    "bias_all": ("qwen2", dict(r=2, lora_alpha=5, target_modules=["q_proj", "up_proj"], bias="all")),
    "bias_lora_only": ("qwen2", dict(r=2, lora_alpha=5, target_modules=["q_proj", "v_proj"], lora_bias=True, bias="lora_only")),
    "dora": ("untied", dict(r=3, lora_alpha=6, use_dora=True, target_modules="all-linear")),
    "dora_parts": ("qwen2", dict(r=2, lora_alpha=3, use_dora=True, use_rslora=True,  # parts of q, k, v, which have biases
                                 target_modules=["q_proj", "v_proj", "up_proj", "lm_head"], rank_pattern={"v_proj": 4})),
    "dora_embedding": ("untied", dict(r=3, lora_alpha=5, use_dora=True, target_modules=["embed_tokens", "q_proj"])),
    "dora_both_tied": ("tied", dict(r=2, lora_alpha=3, use_dora=True, use_rslora=True,
                                    target_modules=["lm_head", "embed_tokens"])),
    "experts": ("experts", dict(r=2, lora_alpha=5, target_modules=["q_proj"],
                                target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"])),
    "experts_down": ("experts_fused", dict(r=3, lora_alpha=6, target_modules=[], target_parameters=["down_proj"])),
    "experts_gate_up": ("mixtral", dict(r=8, lora_alpha=3, use_rslora=True, target_modules=["v_proj"],
                                        target_parameters=["mlp.experts.gate_up_proj", "gate.weight"])),
    "experts_all": ("experts_fused", dict(r=2, lora_alpha=4, target_modules="all-linear")),
    "experts_words": ("mixtral", dict(r=1, lora_alpha=2, target_modules=["w1", "w2", "w3", "q_proj"])),  # gate and up: rank 2
    "experts_layers": ("experts", dict(r=2, lora_alpha=3, target_modules=["gate_proj", "up_proj", "o_proj"],
                                       target_parameters=["layers.1.mlp.experts.down_proj"],
                                       rank_pattern={"experts.down_proj": 5})),
}


def move(model):
    """Off the start values, by multiples of 1/256 so that the files are exact in every format."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            noise = torch.randn(parameter.shape, generator=generator) * 0.1
            parameter.copy_(torch.round((parameter + noise) * 256) / 256)


def settle(folder):
    """PEFT writes sets as lists in the order of their hashes."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    for key, value in config.items():
        config[key] = sorted(value) if isinstance(value, list) else value
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def cold(fixture):
    """The sequences of the case "cold", with the coefficients of its log-probs and entropies."""
    cases = json.loads((FIXTURES / fixture / "cases.json").read_text())["cases"]
    expected = load_file(FIXTURES / fixture / "expected.safetensors")
    case = next(c for c in cases if c["name"] == "cold")
    return [(s["tokens"], s["n_prompt"], expected[f"cold.{i}.c"], expected[f"cold.{i}.e"])
            for i, s in enumerate(case["sequences"])]


def write_case(name):
    base, settings = CASES[name]
    fixture, folder = f"model_{base}", FOLDER / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(load(FIXTURES / fixture),
                               LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path=f"../../{fixture}", **settings))
    model.eval()
    move(model)
    total = torch.zeros(())
    for tokens, n_prompt, c, e in cold(fixture):
        logp, entropy = score(forward(model, tokens), tokens, n_prompt, TEMPERATURE)
        loss = (c * logp).sum() + (e * entropy).sum()
        loss.backward()
        total = total + loss.detach()
    shutil.rmtree(folder, ignore_errors=True)
    for each in model.peft_config.values():
        each.base_model_name_or_path = f"../../{fixture}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    settle(folder)
    trained = {k: v for k, v in model.named_parameters() if v.requires_grad}
    for key, parameter in trained.items():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-4, key
    # PEFT names what it saves by the values of a state_dict: here those are the gradients.
    gradients = get_peft_model_state_dict(model, state_dict={k: v.grad.clone() for k, v in trained.items()},
                                          save_embedding_layers=False)
    assert len(gradients) == len(trained), sorted(gradients)
    gradients["loss"] = total.reshape(1)
    save_file({k: v.contiguous() for k, v in gradients.items()}, folder / "gradients.safetensors")
    for path in folder.iterdir():
        path.chmod(0o644)
    print(f"{name}: {len(trained)} tensors, loss {total.item():.4f}")


def main():
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    for name in sys.argv[1:] or CASES:
        write_case(name)
    (FOLDER / "settings.json").write_text(json.dumps({k: v[0] for k, v in CASES.items()}) + "\n")


if __name__ == "__main__":
    main()
