"""Loads a checkpoint that cohort saved with transformers and prints its logits, in float32 on the CPU.

    python oracle/check_saved.py DIR "5 17 3"      # tokens as one argument or several

Prints "tensors N parameters M tied yes|no", then one line per position: the V logits with 9 digits,
so that a float32 reads back exactly. A missing or unexpected tensor is an error (exit 1, on stderr), as
is a token outside the vocabulary. Written with torch 2.15.0, transformers 5.23.0.
"""

import sys

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging


def main():
    if len(sys.argv) < 3:
        raise SystemExit("usage: check_saved.py DIR TOKEN...")
    try:
        tokens = [int(t) for argument in sys.argv[2:] for t in argument.replace(",", " ").split()]
    except ValueError as error:
        raise SystemExit(f"check_saved: {error}; tokens are integers") from None
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            sys.argv[1], dtype=torch.float32, attn_implementation="eager", local_files_only=True,
            output_loading_info=True)
    except Exception as error:  # whatever transformers refuses, the caller needs its text
        raise SystemExit(f"check_saved: {sys.argv[1]}: {error}") from None
    wrong = {key: sorted(map(str, value)) for key, value in info.items() if value}
    if wrong:
        raise SystemExit(f"check_saved: {sys.argv[1]}: {wrong}")
    vocab = model.config.vocab_size
    if not tokens or not all(0 <= t < vocab for t in tokens):
        raise SystemExit(f"check_saved: expected at least one token, each from 0 to {vocab - 1}")
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    parameters = list(model.parameters())
    tied = "yes" if model.config.tie_word_embeddings else "no"
    print(f"tensors {len(parameters)} parameters {sum(p.numel() for p in parameters)} tied {tied}")
    for row in logits:
        print(" ".join(f"{x:.9g}" for x in row.tolist()))


if __name__ == "__main__":
    main()
