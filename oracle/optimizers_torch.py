"""Twenty steps of torch.optim.SGD and Muon and of transformers' Adafactor: tests/fixtures/optimizers.json.

Weights and gradients are numbers of a formula (number below, and in tests/parity/test_optimizers.c), so that the fixture
holds results only. Start weights have 8 significant bits: they are the same in bf16.
Run: python oracle/optimizers_torch.py"""

import json
import pathlib

import numpy as np
import torch
from transformers.optimization import Adafactor

STEPS = 20
MOST = 1000000  # elements of a step


def bits(k):
    h = (np.asarray(k, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(12345)) & np.uint64(0xFFFFFFFF)
    h ^= h >> np.uint64(16)
    h = (h * np.uint64(0x45D9F3B)) & np.uint64(0xFFFFFFFF)
    return h ^ (h >> np.uint64(16))


def start(count):
    return ((bits(np.arange(count)) >> np.uint64(24)).astype(np.float32) / 256 - 0.5).astype(np.float32)


def gradient(step, count):
    h = bits(np.arange(count, dtype=np.uint64) + np.uint64(step * MOST))
    return ((h >> np.uint64(8)).astype(np.float32) / 16777216 - 0.5).astype(np.float32)


def run(word, shape, make, args, lr, decay):
    weight = torch.nn.Parameter(torch.tensor(start(int(np.prod(shape))).reshape(shape)))
    optimizer = make([weight])
    for step in range(1, STEPS + 1):
        weight.grad = torch.tensor(gradient(step, weight.numel()).reshape(shape))
        optimizer.step()
    return {"optim": word, "optim_args": args, "shape": list(shape), "learning_rate": lr, "weight_decay": decay,
            "weights": [float("%.9g" % v) for v in weight.detach().numpy().ravel()]}


def sgd(shape, lr, decay, args, **kwargs):
    return run("sgd", shape, lambda p: torch.optim.SGD(p, lr=lr, weight_decay=decay, foreach=False, **kwargs), args, lr, decay)


def muon(shape, lr, decay, args, **kwargs):
    return run("muon", shape, lambda p: torch.optim.Muon(p, lr=lr, weight_decay=decay, **kwargs), args, lr, decay)


def adafactor(shape, lr, decay, args, **kwargs):
    relative = kwargs.pop("relative_step", False)
    return run("adafactor", shape, lambda p: Adafactor(
        p, lr=None if relative else lr, weight_decay=decay, relative_step=relative,
        scale_parameter=kwargs.pop("scale_parameter", False), **kwargs), args, lr, decay)


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = [
        sgd((5, 7), 0.01, 0.0, []),
        sgd((12, 20), 0.01, 0.1, ["momentum=0.9"], momentum=0.9),
        sgd((40,), 0.01, 0.1, ["momentum=0.9", "dampening=0.5"], momentum=0.9, dampening=0.5),
        sgd((20, 12), 0.01, 0.1, ["momentum=0.9", "nesterov=true"], momentum=0.9, nesterov=True),
        muon((7, 3), 1e-3, 0.1, []),
        muon((12, 20), 5e-4, 0.1, []),
        muon((24, 8), 5e-4, 0.0, ["nesterov=false", "momentum=0.9"], nesterov=False, momentum=0.9),
        muon((16, 32), 5e-4, 0.1, ["adjust_lr_fn=match_rms_adamw"], adjust_lr_fn="match_rms_adamw"),
        muon((32, 16), 5e-4, 0.1, ["adjust_lr_fn=original", "ns_steps=3"], adjust_lr_fn="original", ns_steps=3),
        adafactor((12, 20), 0.01, 0.1, []),
        adafactor((20, 12), 0.01, 0.0, ["beta1=0.9", "clip_threshold=0.5"], beta1=0.9, clip_threshold=0.5),
        adafactor((40,), 0.01, 0.1, ["decay_rate=-0.5"], decay_rate=-0.5),
        adafactor((12, 20), 0.01, 0.1, ["scale_parameter=true"], scale_parameter=True),
        adafactor((7, 9), 0.01, 0.0, ["scale_parameter=true", "relative_step=true"], scale_parameter=True, relative_step=True),
        adafactor((40,), 0.01, 0.1, ["scale_parameter=true", "relative_step=true", "warmup_init=true"], scale_parameter=True,
                  relative_step=True, warmup_init=True),
    ]
    path = pathlib.Path(__file__).parent.parent / "tests/fixtures/optimizers.json"
    path.write_text(json.dumps({"steps": STEPS, "cases": cases}) + "\n")
