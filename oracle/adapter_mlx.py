"""Adapters of experts, routers and attention as MLX-LM writes them, and the weights that MLX-LM fuses of them.

Writes tests/fixtures/adapter/mlx_BASE_CASE/: adapters.safetensors and adapter_config.json as mlx_lm.lora saves them, its values
drawn; and fused.safetensors: the tensors that LoRALinear.fuse and LoRASwitchLinear.fuse changed, by the names of the base in
tests/fixtures/adapter/base_BASE. Deterministic. Written with mlx-lm 0.32.2 and mlx[cpu], on the CPU.

    python oracle/adapter_mlx.py
"""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models import mixtral, qwen3_moe
from mlx_lm.tuner.utils import linear_to_lora_layers

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "adapter"
CASES = {
    "qwen3moe_f32_all": (None, 1, 2.0),  # every module of the last layer
    "qwen3moe_f32_keys": (["self_attn.q_proj", "mlp.switch_mlp.down_proj", "mlp.gate"], 2, 1.5),
    "mixtral_f32_keys": (["block_sparse_moe.switch_mlp.gate_proj", "block_sparse_moe.switch_mlp.up_proj",
                          "block_sparse_moe.gate", "self_attn.v_proj"], 2, 2.0),
}


def in_mlx(kind, weights):
    """The base's tensors by MLX-LM's names: experts stacked, gate and up apart."""
    for key, value in weights.items():
        if ".experts.gate_up_proj" in key:
            half, block = value.shape[1] // 2, key.split(".mlp.")[0] + ".block_sparse_moe.switch_mlp."
            yield block + "gate_proj.weight", value[:, :half]
            yield block + "up_proj.weight", value[:, half:]
        elif ".experts.down_proj" in key and kind == "mixtral":
            yield key.split(".mlp.")[0] + ".block_sparse_moe.switch_mlp.down_proj.weight", value
        elif kind == "mixtral" and ".mlp.gate." in key:
            yield key.replace(".mlp.", ".block_sparse_moe."), value
        else:
            yield key, value


def in_base(kind, key, value):
    """A fused tensor by the names of the base: of Mixtral's gate and up in halves, gate first, under names of their own."""
    if ".switch_mlp." in key and kind == "qwen3moe":
        prefix, leaf = key.split("switch_mlp.")
        for e in range(value.shape[0]):
            yield f"{prefix}experts.{e}.{leaf}", value[e]
    elif ".switch_mlp." in key:
        leaf = key.split("switch_mlp.")[1].removesuffix(".weight")
        yield key.split(".block_sparse_moe")[0] + f".mlp.experts.{leaf}", value
    else:
        yield key.replace(".block_sparse_moe.", ".mlp."), value


def main():
    for number, (name, (keys, layers, scale)) in enumerate(CASES.items()):
        base = name.rsplit("_", 1)[0]
        kind = base.removesuffix("_f32")
        module = mixtral if kind == "mixtral" else qwen3_moe
        config = json.loads((FIXTURES / f"base_{base}" / "config.json").read_text())
        config["rope_theta"] = config.get("rope_theta", 10000.0)
        config.setdefault("num_experts", config.get("num_local_experts"))
        model = module.Model(module.ModelArgs.from_dict(config))
        weights = dict(in_mlx(kind, mx.load(str(FIXTURES / f"base_{base}" / "model.safetensors"))))
        if kind == "qwen3moe":
            weights = model.sanitize(weights)
        model.load_weights(list(weights.items()), strict=True)
        parameters = dict(rank=2, scale=scale, dropout=0.0, **({} if keys is None else {"keys": keys}))
        model.freeze()
        linear_to_lora_layers(model, layers, parameters)
        mx.random.seed(number)
        drawn = [(k, mx.round(mx.random.normal(v.shape) * 0.1 * 256) / 256)
                 for k, v in sorted(tree_flatten(model.trainable_parameters())) if "lora_" in k]
        model.update(tree_unflatten(drawn))
        folder = FIXTURES / f"mlx_{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        mx.save_safetensors(str(folder / "adapters.safetensors"), dict(drawn))
        (folder / "adapter_config.json").write_text(json.dumps(
            {"fine_tune_type": "lora", "model": f"base_{base}", "num_layers": layers, "lora_parameters": parameters},
            indent=4, sort_keys=True) + "\n")
        fused = {}
        for path, layer in model.named_modules():
            if hasattr(layer, "fuse"):
                fused.update(in_base(kind, f"{path}.weight", layer.fuse().weight))
        mx.save_safetensors(str(folder / "fused.safetensors"), fused)
        for path in folder.iterdir():
            path.chmod(0o644)
        print(f"{name}: {len(drawn)} tensors, {len(fused)} fused, "
              f"most {max(float(np.abs(np.array(v)).max()) for v in fused.values()):.2f}")


if __name__ == "__main__":
    main()
