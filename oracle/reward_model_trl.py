"""A model among the rewards of TRL's GRPOTrainer: what it gives conversations and texts, in float32.

Writes tests/fixtures/reward_model/: a tiny sequence classifier as save_pretrained writes it beside the tokenizer's files that
lie there (a byte-level tokenizer as `cohort init --tokenizer bytes` writes it, with a chat template of its own), and
rows.jsonl: rows with prompt and completion, and the score that GRPOTrainer._calculate_rewards has for them.
Deterministic. Written with torch 2.15.0, transformers 5.24.0, trl 1.16.0, on the CPU.

    python oracle/reward_model_trl.py
"""

import json
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from grpo_steps_trl import INITIAL, make_tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging as transformers_logging
from trl import GRPOConfig, GRPOTrainer

FOLDER = INITIAL.parent / "reward_model"


def user(text):
    return {"role": "user", "content": text}


def make_rows():
    conversations = [
        ([user("What is 2 + 2?")], ["4", "It is four.", "It is five.", ""]),
        ([{"role": "system", "content": "Be brief."}, user("Say something nice.")],
         ["You look well.", "  no  ", "You look well, and the weather is fine today; " * 6]),
        ([user("Bonjour, ça va ?"), {"role": "assistant", "content": "Très bien."}, user("Et alors ? 日本語")],
         ["Ça va.", "<think>\nhm\n</think>\n\nOui — 日本語."]),
        ([user("Go on: one, two"), {"role": "assistant", "content": "one, two, "}], ["three", "four"]),
    ]
    texts = [("The capital of France is", [" Paris.", " Lyon.", ""]),
             ("<|im_start|>2 + 2 =", [" 4", " 5, or 6", " <think>hm</think> 4"])]
    rows = [{"prompt": prompt, "completion": completion} for prompt, completions in conversations
            for completion in completions]
    plain = [{"prompt": prompt, "completion": completion} for prompt, completions in texts for completion in completions]
    return rows, plain


def main():
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    config = Qwen3Config(vocab_size=264, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, head_dim=16, max_position_embeddings=512, num_labels=1,
                         tie_word_embeddings=True, bos_token_id=None, eos_token_id=258, pad_token_id=263,
                         dtype=torch.float32, attn_implementation="eager")
    model = AutoModelForSequenceClassification.from_config(config).to(torch.float32).eval()
    generator = torch.Generator().manual_seed(61)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            random, normal = torch.rand(parameter.shape, generator=generator), torch.randn(parameter.shape,
                                                                                          generator=generator)
            parameter.copy_(0.5 + random if name.endswith("norm.weight") else 0.3 * normal)
    model.save_pretrained(FOLDER)
    written = []
    with tempfile.TemporaryDirectory() as scratch:
        args = GRPOConfig(output_dir=scratch, use_cpu=True, bf16=False, report_to="none", num_generations=2,
                          per_device_train_batch_size=2, disable_tqdm=True)
        trainer = GRPOTrainer(
            model=Qwen3ForCausalLM.from_pretrained(INITIAL, dtype=torch.float32), reward_funcs=[model], args=args,
            train_dataset=Dataset.from_list([{"prompt": "t1"}] * 4), processing_class=make_tokenizer(),
            reward_processing_classes=[tokenizer])
        for rows in make_rows():
            prompts = [row["prompt"] for row in rows]
            # As a conversation's completions are where the trainer has generated them: a prompt that ends with the
            # assistant's message gives its words to the completion.
            completions = [row["completion"] for row in rows]
            for i, prompt in enumerate(prompts):
                if isinstance(prompt, list):
                    begun = prompt[-1]["content"] if prompt[-1]["role"] == "assistant" else ""
                    prompts[i] = prompt[:-1] if begun else prompt
                    completions[i] = [{"role": "assistant", "content": begun + completions[i]}]
            inputs = [{"prompt": prompt} for prompt in prompts]
            scores = trainer._calculate_rewards(inputs, prompts, completions, [[0]] * len(rows))[:, 0].tolist()
            written += [row | {"score": score} for row, score in zip(rows, scores, strict=True)]
    (FOLDER / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    for path in FOLDER.iterdir():
        path.chmod(0o644)
    print([row["score"] for row in written])


if __name__ == "__main__":
    main()
