"""One step of TRL's SFTTrainer on rows of fixed tokens and labels, in float32, and the bins of TRL's packing (cuts.json:
of the strategies that cut rows).

Writes tests/fixtures/sft/ (see oracle/README.md for the exact format). The model is tests/fixtures/model_tied (write that
first). Everything is TRL's: labels, collator, loss, accumulation; the gradients are those that the optimizer is given.
Deterministic. Written with torch 2.15.0, transformers 5.24.0, trl 1.16.0, datasets 5.2.0, on the CPU.

    python oracle/sft_trl.py
"""

import json
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from grpo_steps_trl import EOS, INITIAL, make_tokenizer
from safetensors.torch import save_file
from transformers import PrinterCallback, Qwen3ForCausalLM, TrainerCallback
from transformers.utils import logging as transformers_logging
from trl import SFTConfig, SFTTrainer, pack_dataset

FOLDER = INITIAL.parent / "sft"
RUNS = {
    "nll": {},
    "dft": dict(loss_type="dft"),
    "smoothing": dict(label_smoothing_factor=0.2),
}
PACKINGS = [(4, [5, 2, 3, 1]), (16, 60), (50, 300), (7, 40), (128, 2300)]  # room, lengths or how many


@torch.no_grad()
def write_rows():
    """Rows of several lengths, every other token the model's likeliest; learned: runs with gaps between them, as of
    turns."""
    model = Qwen3ForCausalLM.from_pretrained(INITIAL, dtype=torch.float32, attn_implementation="eager")
    generator = torch.Generator().manual_seed(77)

    def draw(n, low, high):
        return torch.randint(low, high, (n,), generator=generator).tolist()

    rows = []
    for n in (9, 21, 34, 5, 70, 13):
        learned, on = [], False
        while len(learned) < n:
            learned += [on] * draw(1, 1, 8)[0]
            on = not on
        learned = learned[:n]
        learned[-1] = n % 2 == 1 or not any(learned[1:])
        tokens = draw(n, 0, EOS[0])
        for t in range(2, n, 2):
            tokens[t] = model(torch.tensor([tokens[:t]])).logits[0, -1].argmax().item()
        rows.append({"tokens": tokens, "learned": learned})
    return rows


class Gradients(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.found = {k: v.grad.detach().clone().contiguous() for k, v in model.named_parameters()}


def train(rows, settings, accumulation):
    torch.manual_seed(0)
    model = Qwen3ForCausalLM.from_pretrained(INITIAL, dtype=torch.float32, attn_implementation="eager")
    dataset = Dataset.from_list([{"input_ids": r["tokens"],
                                  "labels": [t if on else -100 for t, on in zip(r["tokens"], r["learned"])]}
                                 for r in rows])
    gradients = Gradients()
    with tempfile.TemporaryDirectory() as scratch:
        args = SFTConfig(
            output_dir=scratch, save_strategy="no", report_to="none", logging_steps=1, disable_tqdm=True, use_cpu=True,
            bf16=False, gradient_checkpointing=False, seed=0, max_steps=1, max_grad_norm=0.0, learning_rate=1e-3,
            optim="adamw_torch", per_device_train_batch_size=len(rows) // accumulation,
            gradient_accumulation_steps=accumulation, eval_strategy="no", per_device_eval_batch_size=len(rows),
            pad_to_multiple_of=None, **settings)
        trainer = SFTTrainer(model=model, args=args, train_dataset=dataset, eval_dataset=dataset,
                             processing_class=make_tokenizer(), callbacks=[gradients])
        trainer.remove_callback(PrinterCallback)
        before = trainer.evaluate()
        trainer.train()
    entry = next(e for e in trainer.state.log_history if "loss" in e)
    figures = {k: entry[k] for k in ("loss", "entropy", "mean_token_accuracy", "grad_norm", "num_tokens")}
    figures |= {k: before[k] for k in ("eval_loss", "eval_entropy", "eval_mean_token_accuracy")}
    return figures, gradients.found


def bins_of(lengths, room):
    rows = Dataset.from_dict({"input_ids": [[i] * n for i, n in enumerate(lengths)]})
    packed = pack_dataset(rows, room, "bfd")
    bins = []
    for ids, sizes in zip(packed["input_ids"], packed["seq_lengths"]):
        at, rows_here = 0, []
        for size in sizes:
            rows_here.append(ids[at])
            at += size
        bins.append(rows_here)
    return bins


def rows_to_cut(generator, n, room):
    """Rows of tokens that tell where they come from, up to four times as long as a bin, some without anything to learn."""
    rows = []
    for i in range(n):
        length = int(torch.randint(1, 4 * room, (1,), generator=generator))
        ids = [(7 * i + j) % 95 for j in range(length)]
        share = float(torch.rand(1, generator=generator))
        kept = (torch.rand(length, generator=generator) < share).tolist()
        rows.append({"input_ids": ids, "labels": [t if k else -100 for t, k in zip(ids, kept)]})
    return rows


def cuts_of(rows, room, strategy):
    """What TRL trains on: bins of pieces with their labels, the first of which its collator masks where positions begin anew.
    Pieces without anything to learn, and bins of such alone, are left out."""
    packed = pack_dataset(Dataset.from_list(rows), room, strategy)
    bins = []
    for k, ids in enumerate(packed["input_ids"]):
        sizes, at, pieces = packed["seq_lengths"][k] if strategy == "bfd_split" else [len(ids)], 0, []
        for size in sizes:
            labels = packed["labels"][k][at : at + size]
            pieces.append({"ids": ids[at : at + size], "learned": [0] + [int(x != -100) for x in labels[1:]]})
            at += size
        pieces = [p for p in pieces if any(p["learned"])]
        bins += [pieces] if pieces else []
    return bins


def write_cuts():
    generator, cuts = torch.Generator().manual_seed(6), []
    for room, n in ((8, 40), (33, 60), (5, 1100)):
        long = rows_to_cut(generator, n, room)
        for strategy in ("bfd_split", "wrapped"):
            bins = cuts_of(long, room, strategy)
            learned = sum(sum(p["learned"]) for b in bins for p in b)
            flags = ["".join("01"[x != -100] for x in row["labels"]) for row in long]  # token j of row i is (7 i + j) mod 95
            if n > 100:  # sizes alone
                bins = [[len(p["ids"]) for p in b] for b in bins]
            else:
                bins = [[{"ids": p["ids"], "learned": "".join(map(str, p["learned"]))} for p in b] for b in bins]
            cuts.append({"room": room, "strategy": strategy, "rows": flags, "bins": bins, "learned": learned})
    (FOLDER / "cuts.json").write_text("[" + ",\n".join(json.dumps(c) for c in cuts) + "]\n")


def main():
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = write_rows()
    runs, tensors = {}, {}
    for name, settings in RUNS.items():
        whole, gradient = train(rows, settings, 1)
        parts, other = train(rows, settings, 3)
        spread = max(((gradient[k] - other[k]).norm() / gradient[k].norm()).item() for k in gradient)
        assert abs(whole["loss"] - parts["loss"]) < 1e-5 * abs(whole["loss"])
        runs[name] = {"settings": settings, "figures": whole, "spread": spread}
        tensors |= {f"{name}.{k}": v for k, v in gradient.items()}
        print(name, whole, "spread of the gradient over accumulation", spread)
    generator = torch.Generator().manual_seed(5)
    packings = []
    for room, lengths in PACKINGS:
        if isinstance(lengths, int):
            lengths = torch.randint(1, room + 1, (lengths,), generator=generator).tolist()
        packings.append({"room": room, "lengths": [min(n, room) for n in lengths], "bins": bins_of(lengths, room)})
    write_cuts()
    document = {"format": 1, "initial": "../model_tied", "rows": rows, "runs": runs, "packings": packings}
    (FOLDER / "cases.json").write_text(json.dumps(document) + "\n")
    save_file(tensors, FOLDER / "gradients.safetensors")
    for path in FOLDER.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    main()
