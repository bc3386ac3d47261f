"""Tiny checkpoints of every dense family and what transformers computes from them: logits, log-probs, entropies, gradients.

Writes tests/fixtures/model_NAME/ (see oracle/README.md for the exact format). Deterministic: same
versions, same files. Written with torch 2.15.0, transformers 5.23.0 (qwen2 and what FAMILIES has: 5.24.0), safetensors
0.8.0, on the CPU.

    python oracle/model_transformers.py            # all models
    python oracle/model_transformers.py tied bf16  # some
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (AutoModelForCausalLM, GenerationConfig, LlamaConfig, MistralConfig, MixtralConfig,
                          Qwen2Config, Qwen3Config, Qwen3MoeConfig)
from transformers.utils import logging as transformers_logging

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
TEMPERATURES = {"t10": 1.0, "t07": 0.7}

# name: heads H, key/value heads K, head size D, width C, feed-forward F, layers L, vocabulary V
MODELS = {
    "tied": dict(H=4, K=2, D=16, C=32, F=48, L=2, V=97, tie=True, theta=1e6, std=0.3, seed=11),
    "untied": dict(H=2, K=2, D=8, C=24, F=40, L=3, V=64, tie=False, theta=1e6, std=0.35, seed=12),
    "wide_heads": dict(H=4, K=1, D=32, C=40, F=64, L=2, V=131, tie=True, theta=1e4, std=0.25, seed=13),
    "sharded": dict(H=2, K=1, D=128, C=64, F=96, L=1, V=80, tie=False, theta=1e6, std=0.2, seed=14,
                    shard="120KB", old_config=True),
    "bf16": dict(H=4, K=2, D=16, C=32, F=48, L=2, V=97, tie=True, theta=5e5, std=0.3, seed=15, bf16=True),
    # biases of q, k and v, no norm of the heads; Qwen2Config has no head_dim: D is C / H
    "qwen2": dict(H=4, K=2, D=8, C=32, F=40, L=2, V=64, tie=False, theta=1e6, std=0.3, seed=16, config=Qwen2Config),
    # experts: weights that add up to 1, the first layer dense by its number
    "experts": dict(H=2, K=1, D=16, C=24, F=40, L=3, V=64, tie=False, theta=1e6, std=0.3, seed=17, config=Qwen3MoeConfig,
                    keys=dict(num_experts=8, num_experts_per_tok=3, moe_intermediate_size=16, norm_topk_prob=True,
                               mlp_only_layers=[0])),
    # weights as the softmax has them, every other layer dense, a tensor for all experts of a layer
    "experts_fused": dict(H=2, K=2, D=8, C=32, F=24, L=2, V=60, tie=True, theta=1e4, std=0.3, seed=18,
                          config=Qwen3MoeConfig, fused=True,
                          keys=dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24,
                                     norm_topk_prob=False, decoder_sparse_step=2)),
    # weights in F16, computed in fp32
    "experts_f16": dict(H=2, K=1, D=16, C=32, F=40, L=2, V=64, tie=False, theta=1e6, std=0.3, seed=20,
                        config=Qwen3MoeConfig, f16=True,
                        keys=dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, norm_topk_prob=True,
                                   mlp_only_layers=[0])),
    # in bf16, where rounding would choose other experts: all of them are chosen
    "experts_bf16": dict(H=2, K=1, D=16, C=32, F=40, L=2, V=64, tie=False, theta=1e6, std=0.3, seed=41, fewer=True,
                         config=Qwen3MoeConfig, bf16=True,
                         keys=dict(num_experts=4, num_experts_per_tok=4, moe_intermediate_size=16, norm_topk_prob=True,
                                    mlp_only_layers=[0])),
    "mixtral": dict(H=4, K=2, D=8, C=32, F=24, L=2, V=64, tie=False, theta=1e6, std=0.3, seed=19, config=MixtralConfig,
                    keys=dict(num_local_experts=4, num_experts_per_tok=2)),
}

# Three shapes and more a family, with what tells it apart: `keys` go into its config. fewer: only some of the cases.
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=128)
FAMILIES = {
    "qwen3_yarn": dict(H=4, K=2, D=16, C=24, F=32, L=2, V=53, tie=False, theta=1e4, std=0.3, seed=21, rope=YARN),
    # windows by layer, one narrower than a chunk of keys; biases of all four projections of the attention
    "qwen3_window": dict(H=4, K=2, D=8, C=24, F=32, L=3, V=53, tie=True, theta=1e6, std=0.3, seed=22,
                         keys=dict(use_sliding_window=True, sliding_window=40, attention_bias=True, layer_types=[
                             "sliding_attention", "full_attention", "sliding_attention"])),
    "qwen3_linear": dict(H=2, K=1, D=24, C=20, F=36, L=2, V=61, tie=True, theta=1e4, std=0.3, seed=23,
                         rope=dict(rope_type="linear", factor=3.0)),
    "qwen2_yarn": dict(H=4, K=1, D=8, C=32, F=40, L=2, V=53, tie=True, theta=1e6, std=0.3, seed=24, config=Qwen2Config,
                       rope=dict(YARN, beta_fast=4.0, beta_slow=2.0, mscale=0.7, mscale_all_dim=1.3, truncate=False)),
    "qwen2_window": dict(H=3, K=3, D=8, C=24, F=32, L=3, V=53, tie=False, theta=1e6, std=0.3, seed=25,
                         config=Qwen2Config,
                         keys=dict(use_sliding_window=True, sliding_window=17, max_window_layers=1)),
    # Llama 3.1 and 3.2: the rotation of that name, heads that are not C / H
    "llama_llama3": dict(H=4, K=2, D=16, C=32, F=40, L=2, V=53, tie=True, theta=1e4, std=0.3, seed=26,
                         config=LlamaConfig, keys=dict(head_dim=16, rms_norm_eps=1e-5),
                         rope=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                   original_max_position_embeddings=64)),
    "llama_biases": dict(H=4, K=4, D=8, C=32, F=40, L=2, V=53, tie=False, theta=1e4, std=0.3, seed=27,
                         config=LlamaConfig, keys=dict(attention_bias=True, mlp_bias=True)),
    "llama_linear": dict(H=3, K=1, D=8, C=24, F=36, L=3, V=61, tie=False, theta=1e4, std=0.3, seed=28,
                         config=LlamaConfig, rope=dict(rope_type="linear", factor=2.0), old_config=True),
    "mistral_window": dict(H=4, K=2, D=16, C=32, F=40, L=2, V=53, tie=False, theta=1e4, std=0.3, seed=29,
                           config=MistralConfig, keys=dict(head_dim=16, sliding_window=16)),
    "mistral_wide": dict(H=4, K=1, D=12, C=48, F=32, L=2, V=61, tie=False, theta=1e6, std=0.3, seed=30,
                         config=MistralConfig, keys=dict(sliding_window=70)),
    "mistral_tied": dict(H=2, K=1, D=32, C=24, F=40, L=2, V=53, tie=True, theta=1e6, std=0.3, seed=31,
                         config=MistralConfig, keys=dict(head_dim=32, sliding_window=None)),
}
FEWER_PROMPTS = [5, 130]
FEWER_CASES = ("group", "long")
MODELS |= {name: dict(spec, fewer=True) for name, spec in FAMILIES.items()}

PROMPT_LENGTHS = [1, 5, 17, 70, 130]  # two of them cross a multiple of 64

# Cases with gradients. `groups` is a list of (prompt length, completion lengths): the completions of one
# entry share its prompt. `entropy`: are the coefficients e of the entropies non-zero.
GRADIENT_CASES = {
    "group": dict(groups=[(9, [3, 7, 1])], temperature="t10", entropy=False),
    "entropy": dict(groups=[(9, [3, 7, 1])], temperature="t10", entropy=True),
    "cold": dict(groups=[(13, [6, 2, 9])], temperature="t07", entropy=True),
    "long": dict(groups=[(1, [5]), (61, [1, 9, 70]), (64, [2, 3]), (120, [12])], temperature="t10", entropy=True),
}


def exact(tensor):
    """Rounds to multiples of 1/64, so that the numbers are short and exact in every format."""
    return torch.round(tensor * 64) / 64


def build(spec):
    kind = spec.get("config", Qwen3Config)
    config = kind(
        vocab_size=spec["V"], hidden_size=spec["C"], intermediate_size=spec["F"],
        num_hidden_layers=spec["L"], num_attention_heads=spec["H"], num_key_value_heads=spec["K"],
        **({"head_dim": spec["D"]} if kind in (Qwen3Config, Qwen3MoeConfig, MixtralConfig) else {}),
        max_position_embeddings=512, tie_word_embeddings=spec["tie"],
        rope_parameters={"rope_type": "default", "rope_theta": spec["theta"], **spec.get("rope", {})},
        bos_token_id=spec["V"] - 1, eos_token_id=spec["V"] - 2, pad_token_id=None,
        dtype=torch.float32, attn_implementation="eager", **spec.get("keys", {}))
    model = AutoModelForCausalLM.from_config(config).to(torch.float32)
    generator = torch.Generator().manual_seed(spec["seed"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):  # around 1, far enough from it that a missing scale shows
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spec["std"])
    model.generation_config = GenerationConfig(
        bos_token_id=spec["V"] - 1, eos_token_id=[spec["V"] - 2, spec["V"] - 1], pad_token_id=spec["V"] - 1,
        do_sample=True, temperature=0.6, top_k=20, top_p=0.95)
    return model


def save(model, spec, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for kind, dtype in (("bf16", torch.bfloat16), ("f16", torch.float16)):
        if spec.get(kind):
            model = model.to(dtype)
            model.config.dtype = dtype
    model.save_pretrained(folder, save_original_format=not spec.get("fused"),
                          **({"max_shard_size": spec["shard"]} if "shard" in spec else {}))
    if spec.get("old_config"):  # as transformers 4 wrote it: rope_theta at the top level, torch_dtype
        path = folder / "config.json"
        config = json.loads(path.read_text())
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        kind = rope.pop("rope_type")  # "type" in the oldest files
        config["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
        config["torch_dtype"] = config.pop("dtype")
        config.pop("layer_types", None)
        config["sliding_window"] = None
        config["transformers_version"] = "4.51.0"
        path.write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n")


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                experts_implementation="eager").eval()


def checkpoint_gradients(model, spec):
    """Gradients by the names that the checkpoint's tensors have: transformers holds the experts of a layer as one."""
    mixtral = spec.get("config") is MixtralConfig
    for name, parameter in model.named_parameters():
        grad = parameter.grad
        if spec.get("fused") or ".mlp." not in name or spec.get("config") not in (Qwen3MoeConfig, MixtralConfig):
            yield name, grad
        elif name.endswith("experts.gate_up_proj") or name.endswith("experts.down_proj"):
            down = name.endswith("down_proj")
            parts = ("w2" if mixtral else "down_proj",) if down else ("w1", "w3") if mixtral else ("gate_proj", "up_proj")
            base = name.rsplit(".", 1)[0].replace(".mlp.", ".block_sparse_moe." if mixtral else ".mlp.")
            for e in range(grad.shape[0]):
                for part, piece in zip(parts, grad[e].chunk(len(parts))):
                    yield f"{base}.{e}.{part}.weight", piece
        else:
            yield name.replace(".mlp.", ".block_sparse_moe." if mixtral else ".mlp."), grad


def check_routing(model, sequences):
    """No choice of experts hangs on rounding."""
    chosen = getattr(model.config, "num_experts_per_tok", 0)
    least = 1.0
    for s in sequences if chosen not in (0, getattr(model.config, "num_experts", None)) else []:
        with torch.no_grad():
            for logits in model(input_ids=torch.tensor([s["tokens"]]), output_router_logits=True).router_logits:
                p = torch.softmax(logits.reshape(-1, logits.shape[-1]), -1).sort(-1, descending=True).values
                least = min(least, (p[:, chosen - 1] - p[:, chosen]).min().item())
    assert least > 2e-6, f"two experts are {least} apart"
    return least


def forward(model, tokens):
    return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]


def score(logits, tokens, n_prompt, temperature):
    """logp and entropy of tokens[n_prompt:]; the logits at t score the token at t + 1."""
    logps = torch.log_softmax(logits[n_prompt - 1:-1] / temperature, dim=-1)
    targets = torch.tensor(tokens[n_prompt:])
    return logps.gather(1, targets[:, None])[:, 0], -(logps.exp() * logps).sum(-1)


def check_padding(model, sequences):
    """Right-padded batch against one by one: both must be the same function."""
    n = max(len(s["tokens"]) for s in sequences)
    ids = torch.zeros(len(sequences), n, dtype=torch.long)
    mask = torch.zeros(len(sequences), n, dtype=torch.long)
    for row, s in enumerate(sequences):
        ids[row, :len(s["tokens"])] = torch.tensor(s["tokens"])
        mask[row, :len(s["tokens"])] = 1
    worst = 0.0
    with torch.no_grad():
        batch = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for row, s in enumerate(sequences):
            one = forward(model, s["tokens"])
            worst = max(worst, (batch[row, :len(s["tokens"])] - one).abs().max().item())
    assert worst < 5e-5, f"padded and unpadded logits differ by {worst}"
    return worst


def prompts_case(model, spec, generator, tensors):
    sequences = []
    for i, n in enumerate(FEWER_PROMPTS if spec.get("fewer") else PROMPT_LENGTHS):
        tokens = torch.randint(0, spec["V"], (n,), generator=generator).tolist()
        with torch.no_grad():
            tensors[f"prompts.{i}.logits"] = forward(model, tokens)
        sequences.append({"tokens": tokens, "n_prompt": n, "group": i, "logits_from": 0})
    return {"name": "prompts", "temperature": 1.0, "gradients": False, "sequences": sequences}


def gradient_case(model, spec, name, case, generator, tensors):
    sequences = []
    total = torch.zeros(())
    model.zero_grad(set_to_none=True)
    for group, (n_prompt, lengths) in enumerate(case["groups"]):
        prompt = torch.randint(0, spec["V"], (n_prompt,), generator=generator).tolist()
        for n in lengths:
            i = len(sequences)
            tokens = prompt + torch.randint(0, spec["V"], (n,), generator=generator).tolist()
            c = exact(torch.randn(n, generator=generator))
            e = exact(torch.randn(n, generator=generator)) if case["entropy"] else torch.zeros(n)
            logits = forward(model, tokens)
            for label, temperature in TEMPERATURES.items():
                logp, entropy = score(logits, tokens, n_prompt, temperature)
                tensors[f"{name}.{i}.logp_{label}"] = logp.detach()
                tensors[f"{name}.{i}.entropy_{label}"] = entropy.detach()
                if label == case["temperature"]:
                    loss = (c * logp).sum() + (e * entropy).sum()
            loss.backward()
            total = total + loss.detach()
            tensors[f"{name}.{i}.logits"] = logits[n_prompt - 1:-1].detach()
            tensors[f"{name}.{i}.c"] = c
            tensors[f"{name}.{i}.e"] = e
            sequences.append({"tokens": tokens, "n_prompt": n_prompt, "group": group,
                              "logits_from": n_prompt - 1})
    tensors[f"{name}.loss"] = total.reshape(1)
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-3, parameter_name
    for parameter_name, gradient in checkpoint_gradients(model, spec):
        tensors[f"{name}.grad.{parameter_name}"] = gradient.clone()  # what follows zeroes and adds in place
    return {"name": name, "temperature": TEMPERATURES[case["temperature"]], "gradients": True,
            "sequences": sequences}


def aux_case(model, spec, case, tensors):
    """The auxiliary loss of a case's sequences without their last tokens, as one padded batch, and its gradient."""
    rows = [s["tokens"][:-1] for s in case["sequences"]]
    n = max(map(len, rows))
    ids = torch.tensor([row + [0] * (n - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (n - len(row)) for row in rows])
    model.zero_grad(set_to_none=False)
    loss = model(input_ids=ids, attention_mask=mask, use_cache=False, output_router_logits=True).aux_loss
    loss.backward()
    tensors["aux.loss"] = loss.detach().reshape(1)
    for name, gradient in checkpoint_gradients(model, spec):
        tensors[f"aux.grad.{name}"] = gradient.clone()


def write_model(name, spec):
    folder = FIXTURES / f"model_{name}"
    save(build(spec), spec, folder)
    model = load(folder)  # from what was written, so that bf16 rounding and the old config count
    generator = torch.Generator().manual_seed(1000 + spec["seed"])
    tensors = {}
    cases = [prompts_case(model, spec, generator, tensors)]
    for case_name, case in GRADIENT_CASES.items():
        if case_name == "entropy" and name not in ("tied", "untied", "wide_heads"):
            continue  # the file stays small; "cold" and "long" have entropies too
        if spec.get("fewer") and case_name not in FEWER_CASES:
            continue
        cases.append(gradient_case(model, spec, case_name, case, generator, tensors))
    if hasattr(model.config, "num_experts_per_tok"):
        aux_case(model, spec, cases[1], tensors)
    padded = check_padding(model, [s for case in cases for s in case["sequences"]])
    check_routing(model, [s for case in cases for s in case["sequences"]])
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, folder / "expected.safetensors")
    document = {"format": 1, "model": {key: spec[key] for key in "HKDCFLV"},
                "rope_theta": spec["theta"], "tied": spec["tie"], "cases": cases}
    (folder / "cases.json").write_text(json.dumps(document) + "\n")
    for path in folder.iterdir():
        path.chmod(0o644)
    size = sum(f.stat().st_size for f in folder.iterdir())
    spread = tensors["prompts.1.logits"].std().item()
    print(f"model_{name}: {size / 1e6:.2f} MB, logits std {spread:.2f}, padded vs unpadded max {padded:.1e}")


def main():
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    for name in sys.argv[1:] or MODELS:
        write_model(name, MODELS[name])


if __name__ == "__main__":
    main()
