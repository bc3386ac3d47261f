"""Ten GRPO optimizer steps of TRL's GRPOTrainer on scripted completions and rewards, in float32.

Writes tests/fixtures/grpo_steps/ (see oracle/README.md for the exact format). The policy starts as
tests/fixtures/model_tied (write that first). Nothing is sampled: generation is replaced by a script,
everything else is TRL's. Each run is repeated with other padding and another attention kernel, which
changes only the rounding; how far the two drift apart is written beside the result.
Deterministic. Written with torch 2.15.0, transformers 5.23.0, trl 1.16.0, datasets 5.2.0,
tokenizers 0.23.3, safetensors 0.8.0, on the CPU.

    python oracle/grpo_steps_trl.py              # all runs
    python oracle/grpo_steps_trl.py grpo dapo    # some
"""

import copy
import json
import sys
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, PrinterCallback, Qwen3ForCausalLM, TrainerCallback
from transformers.utils import logging as transformers_logging
from trl import GRPOConfig, GRPOTrainer

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
INITIAL = FIXTURES / "model_tied"
FOLDER = FIXTURES / "grpo_steps"
VOCAB = 97
EOS = [95, 96]  # of the checkpoint's generation_config.json; 96 pads too, as in Qwen3
N_STEPS, N_PROMPTS, N_GENERATIONS, MAX_COMPLETION = 10, 2, 4, 24

COMMON = dict(
    loss_type="grpo", beta=0.0, use_bias_correction_kl=False, num_iterations=1, epsilon=0.2, epsilon_high=0.2,
    num_generations=N_GENERATIONS, per_device_train_batch_size=N_PROMPTS * N_GENERATIONS,
    gradient_accumulation_steps=1, steps_per_generation=1,
    max_completion_length=MAX_COMPLETION, temperature=1.0, scale_rewards="group", importance_sampling_level="token",
    mask_truncated_completions=False, pad_to_multiple_of=None,
    learning_rate=1e-2, lr_scheduler_type="constant", warmup_steps=0,
    optim="adamw_torch", adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, weight_decay=0.0, max_grad_norm=1.0,
    max_steps=N_STEPS)

RUNS = {
    "grpo": {},
    "dapo": dict(loss_type="dapo"),
    "kl": dict(beta=0.04),
    # TRL 1.16's default: the KL term times the ratio, which has a gradient even where it is 1.
    "kl_corrected": dict(beta=0.04, use_bias_correction_kl=True, num_iterations=2, learning_rate=3e-3),
    "two_iterations": dict(num_iterations=2, epsilon_high=0.28, learning_rate=3e-3),  # 1e-2 clips most tokens
    # The filter's quantile, an entropy bonus that crosses its target, and completions that the policy has left.
    "entropy": dict(loss_type="dapo", num_iterations=2, learning_rate=3e-3, top_entropy_quantile=0.5,
                    entropy_coef=0.02, use_adaptive_entropy=True, entropy_coef_delta=0.015, entropy_coef_max=0.04,
                    entropy_target=3.47, off_policy_mask_threshold=0.05),
    "sapo": dict(loss_type="sapo", num_iterations=2, learning_rate=3e-3),
    # Only some tokens may be drawn (allowed): log-probs, KL and entropies are of the distribution over these.
    "masked": dict(beta=0.04, num_iterations=2, learning_rate=3e-3, entropy_coef=0.02),
}
MASKED = {"masked"}

# A change of the rounding alone: other padding, another attention kernel.
OTHER_ROUNDING = dict(pad_to_multiple_of=32)


def drawing(seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda n, high: torch.randint(0, high, (n,), generator=generator).tolist()


def draw_completion(draw):
    kind = draw(1, 4)[0]
    if kind == 0:  # truncated: full length, no eos
        return draw(MAX_COMPLETION, EOS[0])
    return draw(draw(1, MAX_COMPLETION)[0], EOS[0]) + [EOS[kind == 3]]


def write_script():
    """One round = one generation batch. The last rounds are not used by a run with several iterations."""
    draw = drawing(2024)
    rounds = []
    for index in range(N_STEPS):
        lengths = [1 + draw(1, 20)[0] for _ in range(N_PROMPTS)]
        if index == 2:
            lengths = [1, 70]
        prompts = [draw(n, EOS[0]) for n in lengths]
        completions = [draw_completion(draw) for _ in range(N_PROMPTS * N_GENERATIONS)]
        rewards = [draw(1, 9)[0] / 8 for _ in completions]
        if index == 1:
            rewards[:4] = [0.5] * 4  # a group that teaches nothing
        if index == 3:
            rewards[5] = None  # unscorable: outside the group's mean, advantage 0
            completions[0] = [EOS[0]]  # nothing but the eos
        if index == 6:
            rewards = [1.0] * 4 + [0.0] * 4  # no group teaches; only AdamW's momentum moves
        rounds.append({"prompts": prompts, "completions": completions, "rewards": rewards})
    return rounds


def make_tokenizer():
    """Words "t0" ... "t96", split at spaces: the scripted prompts go through TRL's own tokenisation."""
    tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCAB)}, unk_token=f"t{EOS[1]}"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=f"t{EOS[0]}", pad_token=f"t{EOS[1]}",
                                   padding_side="left")


class Scripted:
    """What makes a trainer's completions come from the script."""

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        script = self.script[len(self.rounds_seen)]
        expected = [p for p in script["prompts"] for _ in range(N_GENERATIONS)]
        assert prompt_ids == expected, "TRL's batch is not in the script's order"
        return copy.deepcopy(script["completions"]), None

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        lengths = output["completion_mask"].sum(1).tolist()
        seen = {"advantages": output["advantages"].tolist()}
        for key in ("old_per_token_logps", "ref_per_token_logps"):
            if key in output:
                seen[key] = [row[:n].tolist() for row, n in zip(output[key], lengths)]
        self.rounds_seen.append(seen)
        return output


class ScriptedTrainer(Scripted, GRPOTrainer):
    """GRPOTrainer whose completions come from the script."""


def allowed(prompts, completions):
    """[rows, positions, vocabulary]: of every second token, by place, one may be drawn; and what some completion of the
    prompt has there, so that the script stays possible."""
    rows, length = completions.shape
    place, token = torch.arange(length).view(1, -1, 1), torch.arange(VOCAB).view(1, 1, -1)
    may = ((place + token) % 2 == 0).repeat(rows, 1, 1)
    for i in range(rows):
        for j in range(rows):
            if torch.equal(prompts[i], prompts[j]):
                may[i].scatter_(1, completions[j].view(-1, 1), True)
    return may


class MaskedTrainer(ScriptedTrainer):
    """What may not be drawn has no probability: its logits are far below all others."""

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, batch_size=None,
                                           compute_entropy=False, compute_aux_loss=False, **kwargs):
        completions = input_ids[:, -logits_to_keep:]
        may = allowed((input_ids * attention_mask)[:, :-logits_to_keep], completions)
        logits = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, -logits_to_keep - 1:-1]
        logp = (logits / self.temperature).masked_fill(~may, -1e9).log_softmax(-1)
        entropies = -(logp.exp() * logp).sum(-1) if compute_entropy else None
        return logp.gather(-1, completions.unsqueeze(-1)).squeeze(-1), entropies, None


class Snapshot(TrainerCallback):
    def __init__(self):
        self.weights = {}

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step in (1, args.max_steps):
            self.weights[state.global_step] = {
                k: v.detach().clone().contiguous() for k, v in model.named_parameters()}


def train(script, settings, attention="eager", adapter=None, trainer_class=ScriptedTrainer, config_class=GRPOConfig):
    """adapter: None, or the folder of one that trains in place of the model."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM.from_pretrained(INITIAL, dtype=torch.float32, attn_implementation=attention)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    n_steps = settings["max_steps"]
    n_rounds = n_steps // settings["num_iterations"]
    rows = [{"prompt": " ".join(f"t{i}" for i in p)} for r in script[:n_rounds] for p in r["prompts"]]

    def reward(completions, **kwargs):
        return script[len(trainer.rounds_seen)]["rewards"]

    with tempfile.TemporaryDirectory() as scratch:
        args = config_class(
            output_dir=scratch, save_strategy="no", report_to="none", logging_steps=1, disable_tqdm=True, use_cpu=True,
            bf16=False, gradient_checkpointing=False, shuffle_dataset=False, seed=0, **settings)
        snapshot = Snapshot()
        trainer = trainer_class(model=model, reward_funcs=reward, args=args, train_dataset=Dataset.from_list(rows),
                                  processing_class=make_tokenizer(), callbacks=[snapshot])
        trainer.remove_callback(PrinterCallback)
        trainer.script, trainer.rounds_seen = script, []
        trainer.train()
    assert len(trainer.rounds_seen) == n_rounds
    drop = ("step_time", "epoch")
    logs = [{k: v for k, v in entry.items() if k not in drop and not k.startswith("rewards/")}
            for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in logs] == list(range(1, n_steps + 1))
    return logs, trainer.rounds_seen, snapshot.weights


def distance(a, b):
    diff = torch.cat([(a[k] - b[k]).flatten() for k in a])
    return {"max": diff.abs().max().item(), "rms": diff.square().mean().sqrt().item()}


def drift(a, b):
    metrics = {}
    for x, y in zip(a[0], b[0], strict=True):
        assert x.keys() == y.keys()
        for key in x:
            metrics[key] = max(metrics.get(key, 0.0), abs(x[key] - y[key]))
    return {"metrics": {k: v for k, v in metrics.items() if v > 0},
            "weights_step1": distance(a[2][1], b[2][1]), "weights_final": distance(a[2][N_STEPS], b[2][N_STEPS])}


def write_run(name, script):
    settings = {**COMMON, **RUNS[name]}
    trainer = MaskedTrainer if name in MASKED else ScriptedTrainer
    result = train(script, settings, trainer_class=trainer)
    other = train(script, {**settings, **OTHER_ROUNDING}, attention="sdpa", trainer_class=trainer)
    spread = drift(result, other)
    logs, rounds, weights = result
    model = Qwen3ForCausalLM.from_pretrained(INITIAL, dtype=torch.float32)
    moved = distance(weights[N_STEPS], {k: v.detach() for k, v in model.named_parameters()})
    save_file(weights[1], FOLDER / f"{name}.step1.safetensors")
    save_file(weights[N_STEPS], FOLDER / f"{name}.final.safetensors")
    document = {"format": 1, "settings": settings, "rounds": rounds, "steps": logs, "moved": moved, "spread": spread}
    (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    print(f"{name}: moved {moved}, spread step 1 {spread['weights_step1']}, final {spread['weights_final']}")
    print(f"{name}: metrics differ by {spread['metrics']}")


def write_runs(folder, script, names, write_run):
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    folder.mkdir(parents=True, exist_ok=True)
    document = {"format": 1, "initial": "../model_tied", "eos": EOS, "num_generations": N_GENERATIONS, "rounds": script}
    (folder / "script.json").write_text(json.dumps(document) + "\n")
    for name in names:
        write_run(name, script)
    for path in folder.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    write_runs(FOLDER, write_script(), sys.argv[1:] or RUNS, write_run)
