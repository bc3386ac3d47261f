"""Ten steps of torch.optim.AdamW in fp32, with and without weight decay: tests/fixtures/adamw_torch.json.

The betas are the fp32 numbers nearest .9 and .999, as the C interface takes them, and gradients are multiplied by a clipping
factor first. Run: python oracle/adamw_torch.py"""

import json
import pathlib

import numpy as np
import torch


def floats(values):
    return [float("%.9g" % v) for v in np.asarray(values, dtype=np.float32).ravel()]


def run(name, decay, lr, eps, scale, count=19, steps=10):
    random = np.random.default_rng(len(name))
    start = random.normal(0, 0.5, count).astype(np.float32)
    grads = random.normal(0, 1, (steps, count)).astype(np.float32)
    grads *= np.logspace(-6, 2, count, dtype=np.float32)  # tiny and large gradients
    grads[:, 0] = 0
    weight = torch.nn.Parameter(torch.tensor(start))
    betas = (float(np.float32(0.9)), float(np.float32(0.999)))
    optimizer = torch.optim.AdamW(
        [weight], lr=float(np.float32(lr)), betas=betas, eps=float(np.float32(eps)),
        weight_decay=float(np.float32(decay)), foreach=False, fused=False)
    weights = []
    for grad in grads:
        weight.grad = torch.tensor(grad) * np.float32(scale)
        optimizer.step()
        weights.append(floats(weight.detach().numpy()))
    state = optimizer.state[weight]
    return {
        "name": name, "learning_rate": lr, "weight_decay": decay, "eps": eps, "grad_scale": scale,
        "start": floats(start), "grads": [floats(g) for g in grads], "weights": weights,
        "m": floats(state["exp_avg"]), "v": floats(state["exp_avg_sq"]),
    }


if __name__ == "__main__":
    cases = [
        run("plain", 0.0, 1e-3, 1e-8, 1.0),
        run("decay", 0.1, 1e-3, 1e-8, 1.0),
        run("decay, clipped, large eps", 0.01, 3e-2, 1e-3, 0.37),
    ]
    path = pathlib.Path(__file__).parent.parent / "tests/fixtures/adamw_torch.json"
    path.write_text(json.dumps({"cases": cases}) + "\n")
