"""Tiny adapters as PEFT writes them, the weights that PEFT merges of them, and which modules PEFT adapts.

Writes tests/fixtures/adapter/: base_KIND_DTYPE (a model), KIND_DTYPE_CASE (an adapter), merged.json (SHA-256 of every
merged tensor's bytes; of DoRA in fp32 the values, because the order of its norm's sum is not defined) and targets.json
(settings, and the modules, ranks and scales that PEFT gives them, or that it refuses). Deterministic. Written with
peft 0.21.2, torch 2.15.0, transformers 5.24.0, on the CPU.

    python oracle/adapter_peft.py
"""

import hashlib
import json
import random
import shutil
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "adapter"
SHAPE = dict(vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
             num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=False)
CASES = {
    "plain": dict(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"]),
    "all": dict(r=3, lora_alpha=6, target_modules="all-linear"),
    "overrides": dict(r=2, lora_alpha=8, use_rslora=True, target_modules=["gate_proj", "down_proj"],
                      rank_pattern={"gate_proj": 3}, alpha_pattern={"down_proj": 3}),
    "dora": dict(r=2, lora_alpha=4, use_dora=True, target_modules=["q_proj", "k_proj", "o_proj"]),
    "pattern": dict(r=2, lora_alpha=5, target_modules=r".*\.(1|2)\.self_attn\.(k|o)_proj"),
    "layers": dict(r=2, lora_alpha=5, target_modules=["up_proj", "k_proj"], layers_to_transform=[0, 2],
                   layers_pattern="layers"),
    "saved": dict(r=2, lora_alpha=5, target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"]),
    "head": dict(r=2, lora_alpha=5, target_modules=["q_proj", "lm_head"]),
    "unset": dict(r=2, lora_alpha=5),
    "bias": dict(r=2, lora_alpha=5, target_modules=["q_proj", "k_proj"], lora_bias=True),  # Qwen2 has the biases
}


def config(kind, dtype):
    if kind == "qwen2":
        return Qwen2Config(**SHAPE, dtype=dtype)
    return Qwen3Config(**SHAPE, head_dim=8, dtype=dtype)


def digest(tensor):
    return hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def adapters():
    merged = {}
    for kind, dtype in (("qwen3", torch.float32), ("qwen3", torch.bfloat16), ("qwen2", torch.float32)):
        torch.manual_seed(7)
        name = f"{kind}_{'f32' if dtype == torch.float32 else 'bf16'}"
        base = FIXTURES / f"base_{name}"
        model = AutoModelForCausalLM.from_config(config(kind, dtype)).to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.round(parameter * 4096 * 4) / 4096)
        model.save_pretrained(base)
        for case, settings in CASES.items():
            if case == "bias" and kind == "qwen3":
                continue
            adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=dtype),
                                     LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path=f"base_{name}", **settings))
            generator = torch.Generator().manual_seed(5)
            with torch.no_grad():
                for key, value in adapted.named_parameters():
                    if "lora_" in key or "modules_to_save" in key:
                        value.add_((torch.randn(value.shape, generator=generator) * 0.05).to(value.dtype))
            for each in adapted.peft_config.values():
                each.base_model_name_or_path = f"base_{name}"
            adapted.save_pretrained(FIXTURES / f"{name}_{case}")
            (FIXTURES / f"{name}_{case}" / "README.md").unlink(missing_ok=True)
            tensors = adapted.eval().merge_and_unload().state_dict()
            inexact = case == "dora" and dtype == torch.float32
            merged[f"{name}_{case}"] = {
                key: [float(x) for x in value.flatten()] if inexact and "self_attn" in key and key.endswith("proj.weight")
                else digest(value) for key, value in sorted(tensors.items())}
    (FIXTURES / "merged.json").write_text(json.dumps(merged, indent=0) + "\n")


WORDS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "self_attn.q_proj", "mlp.up_proj",
         "model.layers.1.self_attn.k_proj", "1.self_attn.v_proj", "proj", "lm_head", "_proj"]
PATTERNS = ["q_proj", r".*q_proj", r".*\.(q|k)_proj", r"model\.layers\.[01]\.mlp\.\w+", r".*self_attn.*", r".*\.2\..*(up|down)_proj",
            r"(.*\.)?o_proj$", r".*layers\.\d+\.mlp\.(gate|up)_proj", "all-linear", "ALL-LINEAR", r".*_pro", r"model.*o_proj|.*v_proj"]
KEYS = ["q_proj", "proj", "^model.layers.0.self_attn.q_proj", "layers.0.*", "mlp.up_proj", r".*\.1\..*", "v_proj"]


def targets():
    rng = random.Random(3)
    rows = []
    for _ in range(300):
        settings = dict(r=rng.choice([1, 2, 4, 8]), lora_alpha=rng.choice([1, 4, 8, 2.5]), use_rslora=rng.random() < 0.3)
        settings["target_modules"] = (rng.choice(PATTERNS) if rng.random() < 0.4
                                      else rng.sample(WORDS, rng.randint(1, 4)))
        if rng.random() < 0.3:
            settings["exclude_modules"] = rng.choice(PATTERNS[:8]) if rng.random() < 0.4 else rng.sample(WORDS, rng.randint(1, 2))
        if rng.random() < 0.3:
            settings["layers_to_transform"] = rng.choice([0, 1, [0, 2], [2], [5], []])
            if rng.random() < 0.5:
                settings["layers_pattern"] = rng.choice(["layers", ["layers"], ["h", "layers"], "blocks"])
        if rng.random() < 0.3:
            settings["rank_pattern"] = {key: rng.choice([1, 3, 5]) for key in rng.sample(KEYS, 1)}
        if rng.random() < 0.3:
            settings["alpha_pattern"] = {key: rng.choice([2, 3.5]) for key in rng.sample(KEYS, 1)}
        if rng.random() < 0.2:
            settings["modules_to_save"] = rng.sample(["lm_head", "mlp", "k_proj"], 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model = get_peft_model(AutoModelForCausalLM.from_config(config("qwen3", torch.float32)),
                                       LoraConfig(task_type="CAUSAL_LM", **settings))
                sites = sorted([key.removeprefix("base_model.model."), module.r["default"], module.scaling["default"]]
                               for key, module in model.named_modules()
                               if isinstance(module, LoraLayer) and "default" in module.r)
                rows.append(dict(settings=settings, sites=sites))
            except (ValueError, NotImplementedError) as error:
                rows.append(dict(settings=settings, refused=str(error)[:60]))
    (FIXTURES / "targets.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    print(len(rows), "settings,", sum("refused" in row for row in rows), "refused")


if __name__ == "__main__":
    shutil.rmtree(FIXTURES, ignore_errors=True)
    FIXTURES.mkdir(parents=True)
    adapters()
    targets()
