"""Tiny adapters as PEFT writes them, the weights that PEFT merges of them, and which modules PEFT adapts.

Writes tests/fixtures/adapter/: base_KIND_DTYPE (a model), KIND_DTYPE_CASE (an adapter), merged.json (SHA-256 of every
merged tensor's bytes; of DoRA in fp32 the values, because the order of its norm's sum is not defined; of experts too, whose product torch
computes in an order of its own, and of the embedding in bf16, whose change PEFT rounds before it adds it), targets.json and targets_experts.json (settings, and the modules, ranks and scales that
PEFT gives them, or that it refuses). Deterministic. Written with
peft 0.21.2, torch 2.15.0, transformers 5.24.0, on the CPU.

    python oracle/adapter_peft.py            # all
    python oracle/adapter_peft.py experts    # those of models with experts alone
"""

import hashlib
import json
import random
import shutil
import sys
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, MixtralConfig, Qwen2Config, Qwen3Config, Qwen3MoeConfig

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
    "embedding": dict(r=3, lora_alpha=5, target_modules=["v_proj", "embed_tokens"]),
    "unset": dict(r=2, lora_alpha=5),
    "bias": dict(r=2, lora_alpha=5, target_modules=["q_proj", "k_proj"], lora_bias=True),  # Qwen2 has the biases
    "dora_embedding": dict(r=2, lora_alpha=5, use_dora=True, target_modules=["v_proj", "embed_tokens"]),
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
            inexact = case.startswith("dora") and dtype == torch.float32
            merged[f"{name}_{case}"] = {
                key: [float(x) for x in value.flatten()]
                if (inexact and key.endswith("proj.weight") and ("self_attn" in key if case == "dora" else "v_proj" in key))
                or (inexact and "embed_tokens" in key and case != "dora")
                or (case.endswith("embedding") and dtype == torch.bfloat16 and "embed_tokens" in key)
                else digest(value) for key, value in sorted(tensors.items())}
    (FIXTURES / "merged.json").write_text(json.dumps(merged, indent=0) + "\n")


EXPERT_CASES = {
    "plain": dict(r=2, lora_alpha=4, target_modules=["q_proj"], target_parameters=["experts.gate_up_proj", "experts.down_proj"]),
    "all": dict(r=2, lora_alpha=3, target_modules="all-linear"),
    "down": dict(r=3, lora_alpha=6, use_rslora=True, target_modules=[], target_parameters=["mlp.experts.down_proj"],
                 rank_pattern={"1.mlp.experts.down_proj": 4}),
}


def expert_config(kind, dtype):
    shape = dict(SHAPE, num_hidden_layers=2, intermediate_size=16, dtype=dtype)
    if kind == "mixtral":
        return MixtralConfig(**shape, num_local_experts=3, num_experts_per_tok=2)
    return Qwen3MoeConfig(**shape, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8)


def in_checkpoint(kind, tensors):
    """The tensors by the names of the checkpoint: of qwen3moe each expert's, of mixtral those of a layer (fused)."""
    for key, value in tensors.items():
        if kind == "mixtral" or ".experts." not in key:
            yield key, value
            continue
        base, half = key.rsplit(".", 1)[0], value.shape[1] // 2
        for e in range(value.shape[0]):
            if key.endswith("down_proj"):
                yield f"{base}.{e}.down_proj.weight", value[e]
            else:
                yield f"{base}.{e}.gate_proj.weight", value[e, :half]
                yield f"{base}.{e}.up_proj.weight", value[e, half:]


def expert_adapters():
    merged = json.loads((FIXTURES / "merged.json").read_text())
    for kind, dtype in (("qwen3moe", torch.float32), ("mixtral", torch.float32), ("qwen3moe", torch.bfloat16)):
        torch.manual_seed(7)
        name = f"{kind}_{'f32' if dtype == torch.float32 else 'bf16'}"
        base = FIXTURES / f"base_{name}"
        shutil.rmtree(base, ignore_errors=True)
        model = AutoModelForCausalLM.from_config(expert_config(kind, dtype)).to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.round(parameter * 4096 * 4) / 4096)
        model.save_pretrained(base, save_original_format=kind != "mixtral")
        for case, settings in EXPERT_CASES.items():
            folder = FIXTURES / f"{name}_{case}"
            shutil.rmtree(folder, ignore_errors=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=dtype),
                                         LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path=f"base_{name}", **settings))
                generator = torch.Generator().manual_seed(5)
                with torch.no_grad():
                    for key, value in adapted.named_parameters():
                        if "lora_" in key:
                            value.add_((torch.randn(value.shape, generator=generator) * 0.05).to(value.dtype))
                for each in adapted.peft_config.values():
                    each.base_model_name_or_path = f"base_{name}"
                adapted.save_pretrained(folder)
            (folder / "README.md").unlink(missing_ok=True)
            path = folder / "adapter_config.json"
            saved = {key: sorted(value) if isinstance(value, list) else value
                     for key, value in json.loads(path.read_text()).items()}
            path.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")
            tensors = adapted.eval().merge_and_unload().state_dict()
            merged[f"{name}_{case}"] = {
                key: [float(x) for x in value.flatten()] if ".mlp." in key else digest(value)
                for key, value in sorted(in_checkpoint(kind, tensors))}
    (FIXTURES / "merged.json").write_text(json.dumps(merged, indent=0) + "\n")


EXPERT_WORDS = {
    "qwen3moe": ["q_proj", "k_proj", "self_attn.v_proj", "1.self_attn.o_proj", "gate", "mlp.gate", "gate_proj", "up_proj",
                 "down_proj", "experts.gate_proj", "lm_head", "w1", "experts"],
    "mixtral": ["q_proj", "k_proj", "self_attn.v_proj", "1.self_attn.o_proj", "gate", "w1", "w3", "w2", "experts.w2",
                "gate_proj", "down_proj", "lm_head"]}
EXPERT_PARAMETERS = ["gate_up_proj", "down_proj", "experts.gate_up_proj", "mlp.experts.down_proj", "gate.weight",
                     "mlp.gate.weight", "model.layers.1.mlp.experts.down_proj", "0.mlp.experts.gate_up_proj", "up_proj"]
EXPERT_KEYS = ["gate_up_proj", "mlp.experts.down_proj", r".*\.1\..*", "q_proj", r"model.*gate.weight", "mlp.gate"]


def expert_targets():
    rng = random.Random(4)
    rows = []
    for _ in range(240):
        kind = rng.choice(["qwen3moe", "mixtral"])
        settings = dict(r=rng.choice([1, 2, 4]), lora_alpha=rng.choice([1, 4, 2.5]), use_rslora=rng.random() < 0.3)
        choice = rng.random()
        if choice < 0.2:
            settings["target_modules"] = "all-linear"
        elif choice < 0.8:
            settings["target_modules"] = rng.sample(EXPERT_WORDS[kind], rng.randint(1, 5))
        elif choice < 0.9:
            settings["target_modules"] = []
        if rng.random() < 0.5:
            settings["target_parameters"] = rng.sample(EXPERT_PARAMETERS, rng.randint(1, 3))
        if rng.random() < 0.2:
            settings["exclude_modules"] = rng.sample(["q_proj", "experts", "gate", "1.self_attn.o_proj"], 1)
        if rng.random() < 0.2 and isinstance(settings.get("target_modules"), list):
            settings["layers_to_transform"] = rng.choice([0, [1]])
        if rng.random() < 0.3:
            settings["rank_pattern"] = {key: rng.choice([1, 3, 5]) for key in rng.sample(EXPERT_KEYS, 1)}
        if rng.random() < 0.2:
            settings["alpha_pattern"] = {key: rng.choice([2, 3.5]) for key in rng.sample(EXPERT_KEYS, 1)}
        asked = json.loads(json.dumps(settings))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model = get_peft_model(AutoModelForCausalLM.from_config(expert_config(kind, torch.float32)),
                                       LoraConfig(task_type="CAUSAL_LM", **settings))
                sites = sorted([key.removeprefix("base_model.model."), module.r["default"], module.scaling["default"],
                                list(module.lora_A["default"].weight.shape), list(module.lora_B["default"].weight.shape)]
                               for key, module in model.named_modules()
                               if isinstance(module, LoraLayer) and "default" in module.r)
                rows.append(dict(kind=kind, settings=asked, sites=sites))
            except (ValueError, NotImplementedError, TypeError) as error:
                rows.append(dict(kind=kind, settings=asked, refused=f"{type(error).__name__}: {error}"[:80]))
    (FIXTURES / "targets_experts.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    print(len(rows), "settings of models with experts,", sum("refused" in row for row in rows), "refused")


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
    if sys.argv[1:] != ["experts"]:
        shutil.rmtree(FIXTURES, ignore_errors=True)
        FIXTURES.mkdir(parents=True)
        adapters()
        targets()
    expert_adapters()
    expert_targets()
