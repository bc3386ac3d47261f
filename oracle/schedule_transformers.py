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
# Every type of 100 steps with sets of parameters; the warm-up as TrainingArguments takes it.
WARMUPS = [0, 10, 0.075, 1.5]
PARAMETERS = [
    ("constant_with_warmup", {}),
    ("linear", {}),
    ("cosine", {}),
    ("cosine", {"num_cycles": 1.5}),
    ("cosine_with_restarts", {}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("polynomial", {}),
    ("polynomial", {"power": 2.5, "lr_end": 1e-5}),
    ("polynomial", {"power": 0}),
    ("inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 40}),
    ("cosine_with_min_lr", {"min_lr": 1e-5}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1, "num_cycles": 2.25}),
    ("cosine_warmup_with_min_lr", {"min_lr": 1e-5}),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.2, "warmup_lr_rate": 0.25, "num_cycles": 1}),
    ("warmup_stable_decay", {"num_decay_steps": 25}),
    ("warmup_stable_decay", {"num_decay_steps": 90, "min_lr_ratio": 0.1, "num_cycles": 2}),
    ("warmup_stable_decay", {"num_decay_steps": 20, "num_stable_steps": 30, "min_lr_ratio": 0.05}),
    ("warmup_stable_decay", {"num_decay_steps": 0, "num_stable_steps": 30}),
] + [
    ("warmup_stable_decay", {"num_decay_steps": 33, "warmup_type": rise, "decay_type": fall, "min_lr_ratio": 0.1})
    for rise, fall in (("cosine", "linear"), ("1-sqrt", "1-sqrt"), ("linear", "cosine"))
]


def rates(name, base, warmup, total, parameters=None):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    scheduler = transformers.get_scheduler(
        name, optimizer, num_warmup_steps=warmup, num_training_steps=total,
        scheduler_specific_kwargs=parameters,
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
    for kind, parameters in PARAMETERS:
        for warmup in WARMUPS:
            arguments = transformers.TrainingArguments(output_dir="unused", warmup_steps=warmup, use_cpu=True)
            values = rates(kind, 3e-4, arguments.get_warmup_steps(100), 100, parameters)
            kwargs = [f"{name}={value}" for name, value in parameters.items()]
            case = dict(type=kind, base=3e-4, warmup=warmup, total=100, kwargs=kwargs)
            cases.append(case | dict(steps=list(range(100)), rates=values))
    source = f"transformers {transformers.__version__} get_scheduler, oracle/schedule_transformers.py"
    with open(OUT, "w") as f:
        f.write('{"source": %s,\n"cases": [\n' % json.dumps(source))
        f.write(",\n".join(json.dumps(c) for c in cases) + "]}\n")
    print(len(cases), "cases,", os.path.getsize(OUT), "bytes")


if __name__ == "__main__":
    main()
