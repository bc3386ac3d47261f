"""Writes tests/fixtures/schedule/transformers.json: learning rates of transformers.get_scheduler.

    python oracle/schedule_transformers.py
"""

import json
import os

import torch
import transformers

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "schedule", "transformers.json")
# (warm-up, total): none, some, one step, all of it.
SHAPES = [(0, 10), (3, 13), (1, 2), (5, 5), (0, 1), (100, 1000)]


def rates(name, base, warmup, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    scheduler = transformers.get_scheduler(
        name, optimizer, num_warmup_steps=warmup, num_training_steps=total
    )
    values = []
    for _ in range(total):
        values.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return values


def main():
    cases = []
    for kind in ("constant", "linear", "cosine"):
        for warmup, total in SHAPES:
            name = "constant_with_warmup" if kind == "constant" and warmup else kind
            for base in (1e-6, 3e-4):
                values = rates(name, base, warmup, total)
                stride = 37 if total > 100 else 1
                steps = list(range(0, total, stride))
                cases.append(
                    dict(type=kind, base=base, warmup=warmup, total=total, steps=steps, rates=[values[i] for i in steps])
                )
    source = f"transformers {transformers.__version__} get_scheduler, oracle/schedule_transformers.py"
    with open(OUT, "w") as f:
        f.write('{"source": %s,\n"cases": [\n' % json.dumps(source))
        f.write(",\n".join(json.dumps(c) for c in cases) + "]}\n")
    print(len(cases), "cases,", os.path.getsize(OUT), "bytes")


if __name__ == "__main__":
    main()
