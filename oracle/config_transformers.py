"""config.json files in the manner of other tools, and what transformers makes of each.

Writes tests/fixtures/configs.json: a list of {name, text, wanted} where wanted holds the resolved numbers, or
{name, text, refused}: the word that a refusal must name, because transformers would compute something that plain
cohort does not, or cannot read the file. wanted has the rotary frequencies of transformers' own module, and which
layers slide.
Written with transformers 5.24.0.

    python oracle/config_transformers.py
"""

import json
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.mistral.modeling_mistral import MistralRotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "configs.json"
ABSENT = object()


def published(hidden, layers, heads, kv, ffn, tied, **changes):
    """As Qwen published it, written by transformers 4.51."""
    config = {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
        "hidden_size": hidden, "initializer_range": 0.02, "intermediate_size": ffn,
        "max_position_embeddings": 40960, "max_window_layers": layers, "model_type": "qwen3",
        "num_attention_heads": heads, "num_hidden_layers": layers, "num_key_value_heads": kv,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None,
        "tie_word_embeddings": tied, "torch_dtype": "bfloat16", "transformers_version": "4.51.0",
        "use_cache": True, "use_sliding_window": False, "vocab_size": 151936,
    }
    return change(config, **changes)


def change(config, **changes):
    config = {**config, **changes}
    return {k: v for k, v in config.items() if v is not ABSENT}


SIZES = {"0.6B": (1024, 28, 16, 8, 3072, True), "1.7B": (2048, 28, 16, 8, 6144, True),
         "4B": (2560, 36, 32, 8, 9728, True), "8B": (4096, 36, 32, 8, 12288, False),
         "14B": (5120, 40, 40, 8, 17408, False), "32B": (5120, 64, 64, 8, 25600, False)}
SMALL = published(*SIZES["0.6B"])
# transformers 5: dtype, rope_parameters, layer_types, null for tokens that are not stated
FIVE = change(SMALL, torch_dtype=ABSENT, dtype="bfloat16", rope_theta=ABSENT, rope_scaling=ABSENT,
              rope_parameters={"rope_theta": 1000000, "rope_type": "default"}, pad_token_id=None,
              layer_types=["full_attention"] * 28, transformers_version="5.24.0")


TWO = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645,
    "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864,
    "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 14,
    "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "sliding_window": 32768, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1", "use_cache": True, "use_sliding_window": False, "vocab_size": 151936,
}
# Llama 3.1 and 3.2 as Meta published them, Mistral 7B (v0.1 to v0.3) and Nemo
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
          "rope_type": "llama3"}
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
    "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama",
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_scaling": LLAMA3, "rope_theta": 500000.0, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.42.3", "use_cache": True, "vocab_size": 128256,
}
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768,
    "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.34.0.dev0", "use_cache": True, "vocab_size": 32000,
}
ROTARIES = {"qwen3": Qwen3RotaryEmbedding, "qwen2": Qwen2RotaryEmbedding, "llama": LlamaRotaryEmbedding,
            "mistral": MistralRotaryEmbedding}


def llama(**changes):
    return change(LLAMA, **changes)


def mistral(**changes):
    return change(MISTRAL, **changes)


def two(**changes):
    return change(TWO, **changes)


def small(**changes):
    return change(SMALL, **changes)


def five(**changes):
    return change(FIVE, **changes)


CONFIGS = {f"Qwen3-{name}": published(*sizes) for name, sizes in SIZES.items()}
CONFIGS |= {
    "Qwen3-0.6B-Base": small(eos_token_id=151643, max_position_embeddings=32768),
    "Qwen3-4B-Instruct-2507": published(*SIZES["4B"], rope_theta=5000000, max_position_embeddings=262144),
    "Qwen3-4B-Thinking-2507": published(*SIZES["4B"], rope_theta=5000000.0, max_position_embeddings=262144,
                                        torch_dtype=ABSENT, dtype="bfloat16"),
    "DeepSeek-R1-0528-Qwen3-8B": published(
        *SIZES["8B"], rope_scaling={"rope_type": "yarn", "factor": 4.0, "attn_factor": 0.8782488562869419,
                                    "original_max_position_embeddings": 32768}, max_position_embeddings=131072),
    "long-by-yarn": small(rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}),
    "transformers-5": five(),
    "transformers-5-dtype-null": five(dtype=None),
    "transformers-5-float32": five(dtype="float32"),
    "transformers-5-attention-factor": five(rope_parameters={
        "rope_theta": 1000000.0, "rope_type": "default", "attention_factor": None, "factor": None}),
    "transformers-5-theta-absent": five(rope_parameters={"rope_type": "default"}),
    "transformers-5-rope-null": five(rope_parameters=None),
    "transformers-5-yarn": five(rope_parameters={"rope_theta": 1000000, "rope_type": "yarn", "factor": 4.0,
                                                 "original_max_position_embeddings": 32768}),
    "mlx-lm": small(quantization=None, quantization_config=None),
    "mlx-lm-4bit": small(quantization={"group_size": 64, "bits": 4},
                         quantization_config={"group_size": 64, "bits": 4}),
    "fp8": small(quantization_config={"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}),
    "unsloth": small(pad_token_id=151654, unsloth_version="2026.10.1", unsloth_fixed=True,
                     torch_dtype="bfloat16"),
    "axolotl": small(use_cache=False, _attn_implementation_autoset=True, pad_token_id=151643,
                     torch_dtype="float16"),
    "llama-factory": small(use_cache=False, _name_or_path="/data/Qwen3-0.6B", eos_token_id=[151645, 151643]),
    "trl-sft": five(use_cache=False, bos_token_id=None, eos_token_id=151645, pad_token_id=151643),
    "torch-prefix-free": small(torch_dtype="float32"),
    "dtype-absent": small(torch_dtype=ABSENT),
    "head-dim-absent": small(head_dim=ABSENT),
    "head-dim-null": small(head_dim=None),
    "kv-heads-absent": published(*SIZES["8B"], num_key_value_heads=ABSENT),
    "kv-heads-null": small(num_key_value_heads=None),
    "almost-empty": {"model_type": "qwen3"},
    "architectures-null": small(architectures=None),
    "architectures-absent": small(architectures=ABSENT),
    "defaults-of-sizes": small(vocab_size=ABSENT, intermediate_size=ABSENT, max_position_embeddings=ABSENT,
                               rms_norm_eps=ABSENT, tie_word_embeddings=ABSENT, hidden_act=ABSENT),
    "theta-absent": small(rope_theta=ABSENT),
    "rope-default-with-keys": small(rope_scaling={"rope_type": "default", "factor": 1.0,
                                                  "original_max_position_embeddings": 40960}),
    "rope-default-factor-4": small(rope_scaling={"rope_type": "default", "factor": 4.0}),
    "rope-linear-1": small(rope_scaling={"type": "linear", "factor": 1.0}),
    "rope-linear-2": small(rope_scaling={"rope_type": "linear", "factor": 2.0}),
    "rope-unknown-key": small(rope_scaling={"rope_type": "default", "beta_fast": 32, "mine": "x"}),
    "sliding-off-with-window": small(sliding_window=4096, max_window_layers=0),
    "sliding-on-paper": small(use_sliding_window=True, sliding_window=4096, max_window_layers=28),
    "sliding-null": small(use_sliding_window=True, sliding_window=None, max_window_layers=0),
    "sliding-wide": small(use_sliding_window=True, sliding_window=40960, max_window_layers=0),
    "sliding-almost-wide": small(use_sliding_window=True, sliding_window=40959, max_window_layers=0),
    "sliding-all-full": small(use_sliding_window=True, sliding_window=8, max_window_layers=0,
                              layer_types=["full_attention"] * 28),
    "sliding-one-layer": small(use_sliding_window=True, sliding_window=8, max_window_layers=27),
    "sliding-by-defaults": published(*SIZES["4B"], use_sliding_window=True, sliding_window=ABSENT,
                                     max_window_layers=ABSENT),
    "sliding-by-layer-types": small(use_sliding_window=True, sliding_window=8, max_window_layers=28,
                                    layer_types=["full_attention"] * 27 + ["sliding_attention"]),
    "layer-types-too-few": small(layer_types=["full_attention"] * 27),
    "swish": small(hidden_act="swish"),
    "gelu": small(hidden_act="gelu"),
    "bias": small(attention_bias=True),
    "other-keys": small(num_experts=0, auto_map={"AutoModel": "x.Y"}, id2label={"0": "LABEL_0"}, pruned_heads={},
                        return_dict=True, output_attentions=False, chunk_size_feed_forward=0),
    "dropout": small(attention_dropout=0.1),
    # Qwen2.5 as published, by transformers 4.43 and by 5; the key attention_bias, which Qwen2 does not have; what is absent
    "Qwen2.5-0.5B-Instruct": TWO,
    "Qwen2.5-7B-Instruct": two(hidden_size=3584, intermediate_size=18944, num_attention_heads=28, num_hidden_layers=28,
                               num_key_value_heads=4, tie_word_embeddings=False, vocab_size=152064,
                               sliding_window=131072, max_window_layers=28),
    "Qwen2.5-transformers-5": two(torch_dtype=ABSENT, dtype="bfloat16", rope_theta=ABSENT, sliding_window=None,
                                  rope_parameters={"rope_theta": 1000000.0, "rope_type": "default"},
                                  layer_types=["full_attention"] * 24),
    "qwen2-almost-empty": {"model_type": "qwen2"},
    "qwen2-kv-heads-absent": two(num_attention_heads=64, hidden_size=1024, num_key_value_heads=ABSENT),
    "qwen2-head-dim": two(head_dim=128),
    "qwen2-attention-bias": two(attention_bias=False),
    "qwen2-attention-bias-true": two(attention_bias=True),
    "qwen2-sliding": two(use_sliding_window=True, sliding_window=4096, max_window_layers=21),
    "qwen2-yarn": two(rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}),
    "qwen3-shape-as-llama": small(model_type="llama", architectures=["LlamaForCausalLM"]),
    "Llama-3.1-8B-Instruct": LLAMA,
    "Llama-3.2-1B-Instruct": llama(hidden_size=2048, head_dim=64, intermediate_size=8192, num_hidden_layers=16,
                                   rope_scaling={**LLAMA3, "factor": 32.0}, tie_word_embeddings=True),
    "Meta-Llama-3-8B": llama(rope_scaling=None, max_position_embeddings=8192, eos_token_id=128001, mlp_bias=ABSENT),
    "Llama-2-7b-hf": llama(rope_scaling=None, rope_theta=ABSENT, max_position_embeddings=4096, eos_token_id=2,
                           bos_token_id=1, intermediate_size=11008, num_key_value_heads=32, vocab_size=32000,
                           attention_bias=ABSENT, mlp_bias=ABSENT, pad_token_id=0, torch_dtype="float16"),
    "DeepSeek-R1-Distill-Llama-8B": llama(bos_token_id=128000, eos_token_id=128001, torch_dtype="bfloat16"),
    "DeepSeek-R1-Distill-Qwen-1.5B": two(
        hidden_size=1536, intermediate_size=8960, num_attention_heads=12, num_hidden_layers=28, sliding_window=4096,
        max_window_layers=21, rope_theta=10000, max_position_embeddings=131072, tie_word_embeddings=False,
        bos_token_id=151643, eos_token_id=151643, use_mrope=False),
    "SmolLM2-135M-Instruct": llama(
        hidden_size=576, intermediate_size=1536, num_attention_heads=9, num_key_value_heads=3, num_hidden_layers=30,
        max_position_embeddings=8192, rope_theta=100000, rope_scaling=None, rope_interleaved=False, vocab_size=49152,
        is_llama_config=True, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=2,
        **{"transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}}),
    "TinyLlama-1.1B": llama(rope_scaling=None, rope_theta=ABSENT, hidden_size=2048, intermediate_size=5632,
                            num_hidden_layers=22, num_key_value_heads=4, max_position_embeddings=2048, vocab_size=32000,
                            bos_token_id=1, eos_token_id=2),
    "llama-almost-empty": {"model_type": "llama"},
    "llama-biases": llama(attention_bias=True, mlp_bias=True),
    "llama-head-dim-null": llama(head_dim=None),
    "llama-linear": llama(rope_scaling={"type": "linear", "factor": 4.0}),
    "llama-transformers-5": llama(rope_scaling=ABSENT, rope_theta=ABSENT, torch_dtype=ABSENT, dtype="bfloat16",
                                  rope_parameters={**LLAMA3, "rope_theta": 500000.0}),
    "llama-llama3-without-low": llama(rope_scaling={"factor": 8.0, "high_freq_factor": 4.0, "rope_type": "llama3",
                                                    "original_max_position_embeddings": 8192}),
    "Mistral-7B-v0.1": MISTRAL,
    "Mistral-7B-v0.3": mistral(rope_theta=1000000.0, sliding_window=None, vocab_size=32768),
    "Mistral-Nemo-2407": mistral(head_dim=128, hidden_size=5120, num_hidden_layers=40, rope_theta=1000000.0,
                                 sliding_window=None, vocab_size=131072, max_position_embeddings=131072),
    "mistral-almost-empty": {"model_type": "mistral"},
    "mistral-wide": mistral(sliding_window=32768),
    "mistral-layer-types": mistral(layer_types=["full_attention"] * 32),
    "mistral-bias": mistral(attention_bias=True),
    "yarn-betas": small(rope_scaling={"rope_type": "yarn", "factor": 2.5, "original_max_position_embeddings": 16384,
                                      "beta_fast": 20, "beta_slow": 2.0, "truncate": False}),
    "yarn-mscale": small(rope_scaling={"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
                                       "mscale": 0.707, "mscale_all_dim": 1.0}),
    "yarn-attention-factor": small(rope_scaling={"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.25,
                                                 "original_max_position_embeddings": 32768}),
    "yarn-factor-null": small(rope_scaling={"rope_type": "yarn", "factor": None,
                                            "original_max_position_embeddings": 8192}),
    "yarn-original-absent": small(rope_scaling={"rope_type": "yarn", "factor": 4.0}),
    "yarn-factor-absent": small(rope_scaling={"rope_type": "yarn", "original_max_position_embeddings": 32768}),
    "rope-dynamic": small(rope_scaling={"type": "dynamic", "factor": 2.0}),
    "rope-longrope": small(rope_scaling={"rope_type": "longrope", "short_factor": [1.0] * 64, "factor": 4.0,
                                         "long_factor": [2.0] * 64, "original_max_position_embeddings": 32768}),
    "rope-by-layer-type": five(rope_parameters={
        "full_attention": {"rope_type": "default", "rope_theta": 1000000.0}}),
    "qwen2-mlp-bias": two(mlp_bias=True),
    "hidden-size-text": small(hidden_size="1024"),
    "hidden-size-fraction": small(hidden_size=1024.5),
}
RAW = {
    "crlf": json.dumps(SMALL, indent=2).replace("\n", "\r\n"),
    "one-line-no-newline": json.dumps(SMALL, separators=(",", ":")),
    "big-number-in-an-unknown-key": json.dumps(SMALL)[:-1] + ', "seen": 340282366920938463463374607431768211455}',
    "infinity-in-an-unknown-key": json.dumps(SMALL)[:-1] + ', "best": Infinity, "last": NaN, "huge": 1e999}',
}
# What cohort reads although this transformers does not, with the file that both read.
LENIENT = {
    "bom": ("\ufeff" + json.dumps(SMALL), SMALL),
    "whole-numbers-as-reals": (json.dumps(small(hidden_size=1024.0, num_hidden_layers=28.0, vocab_size=151936.0,
                                                head_dim=128.0, rope_theta=1e6)), SMALL),
    "dtype-with-prefix": (json.dumps(small(torch_dtype="torch.bfloat16")), SMALL),
}


def head_dim(config):
    """Qwen2Config has none unless the file states one."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def windows(config):
    """The window of each layer, 0 where there is none or it hides nothing."""
    size = getattr(config, "sliding_window", None) or 0
    if config.model_type == "llama" or size >= config.max_position_embeddings:
        size = 0
    types = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return [size if kind == "sliding_attention" else 0 for kind in types]


# Keys that transformers passes over, and cohort refuses: nobody can say what the file means by them.
STRICT = {"mistral": ("attention_bias", "mlp_bias", "layer_types"), "qwen2": ("mlp_bias",), "qwen3": ("mlp_bias",)}


def runs(values):
    """(value, how often) of equal neighbours."""
    out = []
    for value in values:
        if out and out[-1][0] == value:
            out[-1][1] += 1
        else:
            out.append([value, 1])
    return out


def ids(value):
    return [] if value is None else value if isinstance(value, list) else [value]


def resolve(text):
    """(wanted, refused): one of them None."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_bytes(text.encode())
        raw = json.loads(text)
        if raw.get("model_type") not in ROTARIES:
            return None, "model_type" if "architectures" not in raw else "architectures"
        try:
            config = AutoConfig.from_pretrained(folder)
            rotary = ROTARIES[config.model_type](config)
        except Exception as error:  # what transformers cannot read has one key that is wrong
            keys = [key for key in raw if key in str(error)]
            return None, keys[0] if keys else ""
    if getattr(config, "quantization_config", None) is not None or raw.get("quantization"):
        return None, "quantiz"
    for key in STRICT.get(config.model_type, ()):
        if raw.get(key):
            return None, key
    if config.hidden_act not in ("silu", "swish"):
        return None, "hidden_act"
    kind = config.rope_parameters.get("rope_type")
    if kind not in ("default", "linear", "dynamic", "yarn", "llama3"):
        return None, "rope"
    theta = float(config.rope_parameters["rope_theta"])
    return {
        "vocab_size": config.vocab_size, "hidden_size": config.hidden_size, "n_layers": config.num_hidden_layers,
        "n_heads": config.num_attention_heads, "n_kv_heads": config.num_key_value_heads,
        "head_dim": head_dim(config), "intermediate_size": config.intermediate_size,
        "max_positions": config.max_position_embeddings, "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": theta, "tied": config.tie_word_embeddings,
        "dtype": None if config.dtype is None else str(config.dtype).removeprefix("torch."),
        "attention_dropout": config.attention_dropout,
        "attention_bias": config.model_type == "qwen2" or getattr(config, "attention_bias", False),
        "mlp_bias": getattr(config, "mlp_bias", False),
        "rope_type": kind, "attention_factor": rotary.attention_scaling,
        "frequencies": [float(f"{x:.9g}") for x in rotary.inv_freq.tolist()],
        "windows": [list(run) for run in runs(windows(config))],
        "eos": ids(config.eos_token_id), "bos": -1 if config.bos_token_id is None else config.bos_token_id,
    }, None


def main():
    texts = {name: json.dumps(config, indent=2) for name, config in CONFIGS.items()} | RAW
    cases = []
    for name, text in texts.items():
        wanted, refused = resolve(text)
        cases.append({"name": name, "text": text, **({"wanted": wanted} if wanted else {"refused": refused})})
    for name, (text, same) in LENIENT.items():
        cases.append({"name": name, "text": text, "wanted": resolve(json.dumps(same))[0]})
    OUT.write_text(json.dumps(cases, indent=1) + "\n")
    for case in cases:
        print(f"{case['name']:36}", case.get("refused") if "refused" in case else
              {k: case["wanted"][k] for k in ("n_kv_heads", "head_dim", "rope_theta", "dtype")})


main()
