"""Tiny sequence classifiers and what transformers computes from them: scores and gradients.

Writes tests/fixtures/classifier_NAME/: a checkpoint as save_pretrained writes it, cases.json (the token rows) and
expected.safetensors: `scores` [rows, labels], `weights` [rows, labels] (multiples of 1/64), and `grad.PARAMETER` of the
sum of weights times scores. Every row runs alone, in float32 (eager), so that its last token is the one that is scored.
Written with torch 2.15.0, transformers 5.24.0.

    python oracle/classifier_transformers.py
"""

import json
import shutil

import torch
from model_transformers import FIXTURES, exact
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers.utils import logging as transformers_logging

SHAPE = dict(vocab_size=53, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=256, bos_token_id=None, eos_token_id=None)
CLASSIFIERS = {
    "qwen3": (Qwen3Config, dict(head_dim=16, num_labels=1, tie_word_embeddings=True), 41),
    "qwen2": (Qwen2Config, dict(num_labels=2), 42),
    "llama": (LlamaConfig, dict(num_labels=3, attention_bias=True, mlp_bias=True), 43),
    "mistral": (MistralConfig, dict(num_labels=1, head_dim=16, sliding_window=20), 44),
}
LENGTHS = [1, 2, 17, 64, 70, 130]


def main():
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name, (kind, keys, seed) in CLASSIFIERS.items():
        torch.manual_seed(0)
        config = kind(**SHAPE, **keys, dtype=torch.float32, attn_implementation="eager")
        model = AutoModelForSequenceClassification.from_config(config).to(torch.float32).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                random = torch.rand(parameter.shape, generator=generator)
                normal = torch.randn(parameter.shape, generator=generator) * 0.3
                parameter.copy_(0.5 + random if parameter_name.endswith("norm.weight") else normal)
        folder = FIXTURES / f"classifier_{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        model.save_pretrained(folder)
        rows = [torch.randint(0, SHAPE["vocab_size"], (n,), generator=generator).tolist() for n in LENGTHS]
        weights = exact(torch.randn(len(rows), config.num_labels, generator=generator))
        scores = torch.stack([model(input_ids=torch.tensor([row])).logits[0] for row in rows])
        (weights * scores).sum().backward()
        tensors = {"scores": scores.detach(), "weights": weights}
        tensors |= {f"grad.{n}": p.grad for n, p in model.named_parameters()}
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "expected.safetensors")
        (folder / "cases.json").write_text(json.dumps({"rows": rows}) + "\n")
        for path in folder.iterdir():
            path.chmod(0o644)
        print(name, scores[:, 0].tolist())


main()
