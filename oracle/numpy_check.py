"""Checks tests/fixtures/model_*/ against a Qwen3 or Qwen2 forward written on its own in numpy, in float64.

Nothing of transformers is used: the weights are read from the files, the decoder is the plain formula.
Logits, log-probs and entropies must agree; the gradients are checked by the directional derivative of
the case's scalar along a random direction in each parameter (central difference in float64).
Prints the largest error of each kind: the rounding of the float32 reference itself.
Written with numpy 2.4.6, safetensors 0.8.0.

    python oracle/numpy_check.py            # all models
    python oracle/numpy_check.py tied bf16  # some
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"


def read_tensors(path):
    with safe_open(path, framework="pt") as f:
        return {k: f.get_tensor(k).double().numpy() for k in f.keys()}


def rms(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def rope(x, theta):
    """x [T, heads, D]: the pair (i, i + D/2) turns by position * theta^(-2 i / D)."""
    n, _, d = x.shape
    angle = np.arange(n)[:, None] * theta ** (-np.arange(0, d, 2) / d)[None, :]
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    low, high = x[..., : d // 2], x[..., d // 2:]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], -1)


def logits_of(w, cfg, theta, tokens):
    n_heads, n_kv, d = cfg["num_attention_heads"], cfg["num_key_value_heads"], cfg.get("head_dim")
    d = d or cfg["hidden_size"] // n_heads
    eps = cfg["rms_norm_eps"]
    x = w["model.embed_tokens.weight"][tokens]
    n = len(tokens)
    mask = np.where(np.tril(np.ones((n, n))) > 0, 0.0, -np.inf)
    for layer in range(cfg["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        h = rms(x, w[p + "input_layernorm.weight"], eps)
        q, k, v = (h @ w[p + f"self_attn.{x}_proj.weight"].T + w.get(p + f"self_attn.{x}_proj.bias", 0.0) for x in "qkv")
        q, k, v = q.reshape(n, n_heads, d), k.reshape(n, n_kv, d), v.reshape(n, n_kv, d)
        if cfg["model_type"] == "qwen3":
            q, k = rms(q, w[p + "self_attn.q_norm.weight"], eps), rms(k, w[p + "self_attn.k_norm.weight"], eps)
        q, k = rope(q, theta), rope(k, theta)
        out = np.empty((n, n_heads, d))
        for head in range(n_heads):
            kv = head // (n_heads // n_kv)
            s = q[:, head] @ k[:, kv].T / np.sqrt(d) + mask
            s = np.exp(s - s.max(-1, keepdims=True))
            out[:, head] = s / s.sum(-1, keepdims=True) @ v[:, kv]
        x = x + out.reshape(n, n_heads * d) @ w[p + "self_attn.o_proj.weight"].T
        h = rms(x, w[p + "post_attention_layernorm.weight"], eps)
        gate = h @ w[p + "mlp.gate_proj.weight"].T
        up = h @ w[p + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[p + "mlp.down_proj.weight"].T
    head = w["model.embed_tokens.weight"] if cfg["tie_word_embeddings"] else w["lm_head.weight"]
    return rms(x, w["model.norm.weight"], eps) @ head.T


def score(logits, sequence, temperature):
    first, tokens = sequence["n_prompt"], sequence["tokens"]
    z = logits[first - 1:-1] / temperature
    z = z - z.max(-1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return logp[np.arange(len(tokens) - first), tokens[first:]], -(np.exp(logp) * logp).sum(-1)


def case_loss(w, cfg, theta, case, tensors):
    total = 0.0
    for i, sequence in enumerate(case["sequences"]):
        logits = logits_of(w, cfg, theta, sequence["tokens"])
        logp, entropy = score(logits, sequence, case["temperature"])
        total += tensors[f"{case['name']}.{i}.c"] @ logp + tensors[f"{case['name']}.{i}.e"] @ entropy
    return total


def check(name):
    folder = FIXTURES / f"model_{name}"
    cfg = json.loads((folder / "config.json").read_text())
    document = json.loads((folder / "cases.json").read_text())
    theta = cfg["rope_theta"] if "rope_theta" in cfg else cfg["rope_parameters"]["rope_theta"]
    weights, tensors = {}, read_tensors(folder / "expected.safetensors")
    for path in sorted(folder.glob("model*.safetensors")):
        weights.update(read_tensors(path))
    rng = np.random.default_rng(7)
    worst = dict(logits=0.0, logp=0.0, entropy=0.0, loss=0.0, slope=0.0)
    names = set()
    for case in document["cases"]:
        c = case["name"]
        for i, sequence in enumerate(case["sequences"]):
            logits = logits_of(weights, cfg, theta, sequence["tokens"])
            expected = tensors[f"{c}.{i}.logits"]
            part = logits[sequence["logits_from"]:][: len(expected)]
            names.add(f"{c}.{i}.logits")
            worst["logits"] = max(worst["logits"], np.abs(part - expected).max())
            for label, temperature in (("t10", 1.0), ("t07", 0.7)) if case["gradients"] else ():
                logp, entropy = score(logits, sequence, temperature)
                worst["logp"] = max(worst["logp"], np.abs(logp - tensors[f"{c}.{i}.logp_{label}"]).max())
                worst["entropy"] = max(worst["entropy"],
                                       np.abs(entropy - tensors[f"{c}.{i}.entropy_{label}"]).max())
                names |= {f"{c}.{i}.logp_{label}", f"{c}.{i}.entropy_{label}", f"{c}.{i}.c", f"{c}.{i}.e"}
        if not case["gradients"]:
            continue
        loss = case_loss(weights, cfg, theta, case, tensors)
        worst["loss"] = max(worst["loss"], abs(loss - tensors[f"{c}.loss"][0]))
        names.add(f"{c}.loss")
        for parameter, value in weights.items():
            gradient = tensors[f"{c}.grad.{parameter}"]
            names.add(f"{c}.grad.{parameter}")
            direction = rng.standard_normal(value.shape) / np.sqrt(value.size)
            step, sides = 1e-5, []
            for sign in (1, -1):
                moved = dict(weights)
                moved[parameter] = value + sign * step * direction
                sides.append(case_loss(moved, cfg, theta, case, tensors))
            slope = (sides[0] - sides[1]) / (2 * step)
            scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
            worst["slope"] = max(worst["slope"], abs(slope - (gradient * direction).sum()) / scale)
    assert names == set(tensors), f"model_{name}: not checked: {sorted(set(tensors) - names)[:5]}"
    print(f"model_{name}: " + ", ".join(f"{k} {v:.1e}" for k, v in worst.items()))
    limits = dict(logits=5e-5, logp=5e-5, entropy=5e-5, loss=5e-4, slope=1e-5)
    return all(worst[k] < limits[k] for k in worst)


def main():
    names = sys.argv[1:] or [p.name[len("model_"):] for p in sorted(FIXTURES.glob("model_*")) if p.is_dir()]
    if not all([check(name) for name in names]):
        raise SystemExit("numpy_check: an error is larger than float32 rounding explains")


if __name__ == "__main__":
    main()
