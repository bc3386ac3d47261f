"""Replays tests/fixtures/grpo_steps/ without TRL, from what the files say and nothing else.

Group advantages, loss, clipping and AdamW are written out here; every sequence runs alone and unpadded.
If this agrees with TRL's weights and metrics, the files hold all that a trainer needs to do the same,
and the differences printed are what another order of rounding costs.
Written with torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, on the CPU.

    python oracle/grpo_replay_check.py
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import Qwen3ForCausalLM
from transformers.utils import logging as transformers_logging

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "grpo_steps"


def load(folder):
    return Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def scores(model, prompt, completion, temperature):
    logits = model(input_ids=torch.tensor([prompt + completion]), use_cache=False).logits[0]
    logps = torch.log_softmax(logits[len(prompt) - 1:-1] / temperature, dim=-1)
    return logps.gather(1, torch.tensor(completion)[:, None])[:, 0], -(logps.exp() * logps).sum(-1).detach()


def group_advantages(rewards, n):
    """(r - mean) / (std + 1e-4) in each group; std divides by n - 1; null is left out and gets 0."""
    out = []
    for start in range(0, len(rewards), n):
        group = rewards[start:start + n]
        known = torch.tensor([r for r in group if r is not None])
        out += [0.0 if r is None else ((r - known.mean()) / (known.std() + 1e-4)).item() for r in group]
    return out


class Run:
    def __init__(self, name, script):
        self.name, self.script = name, script
        self.expected = json.loads((FOLDER / f"{name}.json").read_text())
        self.s = self.expected["settings"]
        self.model = load(FOLDER / script["initial"])
        self.reference = load(FOLDER / script["initial"]) if self.s["beta"] else None
        self.worst = {}
        self.nearest_gate = float("inf")

    def note(self, key, value, expected):
        self.worst[key] = max(self.worst.get(key, 0.0), abs(value - expected))

    def step(self, index, moments):
        s, n = self.s, self.script["num_generations"]
        round_index, first = divmod(index, s["num_iterations"])
        batch, seen = self.script["rounds"][round_index], self.expected["rounds"][round_index]
        rows = [(batch["prompts"][i // n], completion) for i, completion in enumerate(batch["completions"])]
        advantages = group_advantages(batch["rewards"], n)
        for a, b in zip(advantages, seen["advantages"], strict=True):
            self.note("advantage", a, b)
        if first == 0:
            with torch.no_grad():
                self.old = [scores(self.model, p, c, s["temperature"])[0] for p, c in rows]
        n_tokens = sum(len(c) for _, c in rows)
        loss, sums = torch.zeros(()), dict(entropy=0.0, kl=0.0, low=0.0, high=0.0)
        for i, (prompt, completion) in enumerate(rows):
            logp, entropy = scores(self.model, prompt, completion, s["temperature"])
            ratio, a = torch.exp(logp - self.old[i]), advantages[i]
            low, high = 1 - s["epsilon"], 1 + s["epsilon_high"]
            token_loss = -torch.min(ratio * a, ratio.clamp(low, high) * a)
            if a:
                self.nearest_gate = min(self.nearest_gate, (ratio - (high if a > 0 else low)).abs().min().item())
            if "old_per_token_logps" in seen and first == 0:
                self.note("old_logp", 0.0,
                          (self.old[i] - torch.tensor(seen["old_per_token_logps"][i])).abs().max().item())
            if self.reference is not None:
                with torch.no_grad():
                    ref_logp = scores(self.reference, prompt, completion, s["temperature"])[0]
                self.note("ref_logp", 0.0,
                          (ref_logp - torch.tensor(seen["ref_per_token_logps"][i])).abs().max().item())
                delta = ref_logp - logp
                kl = delta.exp() - delta - 1
                kl = kl * ratio if s["use_bias_correction_kl"] else kl
                token_loss = token_loss + s["beta"] * kl
                sums["kl"] += kl.sum().item()
            weight = 1 / n_tokens if s["loss_type"] == "dapo" else 1 / (len(completion) * len(rows))
            loss = loss + token_loss.sum() * weight
            sums["entropy"] += entropy.sum().item()
            sums["low"] += (ratio < low).sum().item() if a < 0 else 0
            sums["high"] += (ratio > high).sum().item() if a > 0 else 0
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.sqrt(sum(p.grad.square().sum() for p in self.model.parameters()))
        logged = self.expected["steps"][index]
        self.note("loss", loss.item(), logged["loss"])
        self.note("grad_norm", norm.item(), logged["grad_norm"])
        self.note("entropy", sums["entropy"] / n_tokens, logged["entropy"])
        self.note("clip", sums["low"] / n_tokens, logged["clip_ratio/low_mean"])
        self.note("clip", sums["high"] / n_tokens, logged["clip_ratio/high_mean"])
        if self.reference is not None:
            self.note("kl", sums["kl"] / n_tokens, logged["kl"])
        self.adamw(index + 1, min(1.0, s["max_grad_norm"] / (norm.item() + 1e-6)), moments)

    def adamw(self, t, scale, moments):
        s = self.s
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                g = p.grad * scale
                m, v = moments.setdefault(name, (torch.zeros_like(p), torch.zeros_like(p)))
                m.mul_(s["adam_beta1"]).add_((1 - s["adam_beta1"]) * g)
                v.mul_(s["adam_beta2"]).add_((1 - s["adam_beta2"]) * g * g)
                p.mul_(1 - s["learning_rate"] * s["weight_decay"])
                m_hat, v_hat = m / (1 - s["adam_beta1"] ** t), v / (1 - s["adam_beta2"] ** t)
                p.sub_(s["learning_rate"] * m_hat / (v_hat.sqrt() + s["adam_epsilon"]))

    def weights(self, label):
        saved = load_file(FOLDER / f"{self.name}.{label}.safetensors")
        mine = dict(self.model.named_parameters())
        assert mine.keys() == saved.keys()
        diff = torch.cat([(mine[k].detach() - saved[k]).flatten() for k in saved]).abs()
        self.worst[f"weights_{label}"] = diff.max().item()
        self.worst[f"weights_{label}_rms"] = diff.square().mean().sqrt().item()

    def check(self):
        moments = {}
        for index in range(self.s["max_steps"]):
            self.step(index, moments)
            if index == 0:
                self.weights("step1")
        self.weights("final")
        print(f"{self.name}: " + ", ".join(f"{k} {v:.1e}" for k, v in self.worst.items())
              + f"; nearest ratio to its clip bound {self.nearest_gate:.1e}")
        # Of a weight whose first gradients are near AdamW's epsilon (1e-8) rounding decides how far it
        # moves: a few differ by some 1e-5, so the rms is the sharper measure.
        limits = dict(loss=5e-6, grad_norm=2e-4, entropy=5e-6, kl=2e-4, clip=1e-6, advantage=1e-6, old_logp=5e-5,
                      ref_logp=5e-5, weights_step1=1e-4, weights_final=1e-4, weights_step1_rms=1e-6,
                      weights_final_rms=1e-6)
        return all(v < limits[k] for k, v in self.worst.items())


def main():
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    script = json.loads((FOLDER / "script.json").read_text())
    names = sorted(p.stem for p in FOLDER.glob("*.json") if p.stem != "script")
    if not all([Run(name, script).check() for name in names]):
        raise SystemExit("grpo_replay_check: the replay does not agree with TRL")


if __name__ == "__main__":
    main()
