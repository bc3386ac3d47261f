"""Mixed references by TRL's SyncRefModelCallback.

Writes tests/fixtures/reference_sync.json: for several alphas, values of a policy and of a reference in float32 and in
bfloat16, and what the callback makes of the reference, once and again with another policy.
Written with torch 2.15.0, trl 1.16.0, on the CPU.

    python oracle/reference_sync_trl.py
"""

import json
from pathlib import Path

import torch
from trl.trainer.callbacks import SyncRefModelCallback

FIXTURE = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "reference_sync.json"
N = 16


class Values(torch.nn.Module):
    def __init__(self, values, dtype):
        super().__init__()
        self.w = torch.nn.Parameter(values.to(dtype), requires_grad=False)


def main():
    generator = torch.Generator().manual_seed(7)
    cases = []
    for dtype in (torch.float32, torch.bfloat16):
        for alpha in (0.0, 0.3, 0.6, 1.0):
            first, second, reference = (torch.randn(N, generator=generator) * 10.0 ** torch.randint(-4, 3, (N,), generator=generator)
                                        for _ in range(3))
            policy, target = Values(first, dtype), Values(reference, dtype)
            case = dict(type="f32" if dtype == torch.float32 else "bf16", alpha=alpha,
                        reference=target.w.tolist(), policies=[], mixed=[])
            for values in (first, second):
                policy.w.data = values.to(dtype)
                SyncRefModelCallback._sync_target_model(policy, target, alpha)
                case["policies"].append(policy.w.tolist())
                case["mixed"].append(target.w.tolist())
            cases.append(case)
    FIXTURE.write_text(json.dumps(dict(format=1, cases=cases)).replace('{"type"', '\n{"type"') + "\n")


main()
