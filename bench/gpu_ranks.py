"""Runs of one rank and of several, each with a GPU, side by side: the same bits, and how much faster; for scripts/gpu-check --ranks N.

    python3 bench/gpu_ranks.py --cohort build-cuda/cohort --exchange build-cuda/bench/bench_exchange --ranks 2 --to ranks.jsonl --rows ranks.rows --work DIR [--seconds 400]
    python3 bench/gpu_ranks.py ... --small       tiny models, for the emulation: whether it works, no figure means anything

Ranks are started by torchrun's variables (docs/RANKS.md), so that no MPI is needed. A run is ended as soon as the steps that are timed are
done, before it would write 8B weights. Rows are those of gpu_bars.py. What there is no time left for is a row that fails and says so.
"""
import argparse
import hashlib
import json
import math
import os
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import time

from gpu_bars import Rows

GRPO = ["--reward", "python:REWARDS:by_turns", "--seed", "1", "--learning-rate", "1e-6"]
# hidden size, layers, query heads, key/value heads, head size, feed-forward size, vocabulary, tied
SHAPES = {"qwen3-0.6b": (1024, 28, 16, 8, 128, 3072, 151936, True), "qwen3-8b": (4096, 36, 32, 8, 128, 12288, 151936, False), "small": (64, 2, 4, 2, 64, 160, 300, True)}
LORA = ["--use-peft", "--lora-r", "16"]
# name, preset, command with its options, steps, what the row says, the least speed-up with two ranks
TIMED = [
    ("W-A", "qwen3-0.6b", ["grpo", *GRPO, "--prompts-per-step", "64", "--num-generations", "8", "--max-completion-length", "512"], 4, 1.85),
    ("8B training 32 x 640", "qwen3-8b", ["sft", "--batch-size", "32", "--moments-dtype", "bf16", "--learning-rate", "1e-6"], 4, 1.9),
    ("8B LoRA GRPO step 16 x 8", "qwen3-8b", ["grpo", *GRPO, *LORA, "--prompts-per-step", "16", "--num-generations", "8", "--max-completion-length", "512"], 3, 1.85),
]


class Jobs:
    def __init__(self, arguments):
        self.arguments, self.end = arguments, time.monotonic() + arguments.seconds

    def left(self):
        return self.end - time.monotonic()

    def start(self, ranks, command, name):
        """The processes of a job of so many ranks; what they say is in DIR/name.R.log."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        started = []
        for rank in range(ranks):
            environment = dict(os.environ)
            if ranks > 1:
                environment.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            with open(self.path(f"{name}.{rank}.log"), "w", encoding="utf-8") as log:
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return started

    def path(self, name):
        return os.path.join(self.arguments.work, name)

    def metrics(self, name):
        try:
            with open(self.path(f"{name}/metrics.jsonl"), encoding="utf-8") as file:
                return [json.loads(line) for line in file if line.endswith("}\n") and '"step_time"' in line]
        except FileNotFoundError:
            return []

    def run(self, ranks, options, name, steps=None):
        """Runs to the end, or until so many steps are done. Returns what went wrong, or None."""
        return self.finish(self.start(ranks, [self.arguments.cohort, *options, "--out", self.path(name)], name), ranks, name, steps)

    def finish(self, started, ranks, name, steps=None):
        problem = None
        while problem is None:
            if steps is not None and len(self.metrics(name)) >= steps:
                break
            codes = [process.poll() for process in started]
            if all(code == 0 for code in codes):
                break
            if any(code not in (None, 0) for code in codes):
                time.sleep(3)  # the others hear of it, and rank 0 says why
                problem = self.said(name, ranks)
            elif self.left() < 0:
                problem = "no time left"
            time.sleep(0.05)
        for process in started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        return problem

    def said(self, name, ranks):
        for rank in range(ranks):
            with open(self.path(f"{name}.{rank}.log"), encoding="utf-8", errors="replace") as file:
                found = re.findall(r"^(?:cohort|bench_exchange): (.*)", file.read(), re.MULTILINE)
            if found:
                return found[-1][:120]
        return "ended without a word"


def weights(folder):
    digest = hashlib.sha256()
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            with open(os.path.join(folder, name), "rb") as file:
                digest.update(file.read())
    return digest.hexdigest()


def make_data(jobs):
    with open(jobs.path("by_turns.py"), "w", encoding="utf-8") as file:
        file.write("def by_turns(completions, **kwargs):\n    return [float(i % 2) for i in range(len(completions))]\n")
    make_rows(jobs)


def make_rows(jobs):
    """128 bytes a prompt, 512 a completion: a token of the byte-level tokenizer each."""
    prompt_bytes, completion_bytes = (24, 16) if jobs.arguments.small else (128, 512)
    with open(jobs.path("data.jsonl"), "w", encoding="utf-8") as file:
        for i in range(256):
            prompt = f"question {i}: what is {i} + {i * i}? ".ljust(prompt_bytes, "a")[:prompt_bytes]
            file.write(json.dumps({"prompt": prompt, "completion": (f"it is {i + i * i}. " * 64)[:completion_bytes]}) + "\n")


def write_weights(path, shape):
    """Weights of this shape in bf16: a block of normal draws over and over, of a length that no matrix has, and gains of 1."""
    hidden, layers, heads, kv_heads, size, middle, vocabulary, tied = shape
    draw = random.Random(1)
    block = b"".join(struct.pack("<f", draw.gauss(0.0, 0.02))[2:] for _ in range((1 << 19) + 7))
    tensors = [("model.embed_tokens.weight", (vocabulary, hidden)), ("model.norm.weight", (hidden,))]
    tensors += [] if tied else [("lm_head.weight", (vocabulary, hidden))]
    for i in range(layers):
        tensors += [(f"model.layers.{i}.{name}.weight", wide) for name, wide in (
            ("input_layernorm", (hidden,)), ("post_attention_layernorm", (hidden,)), ("self_attn.q_norm", (size,)), ("self_attn.k_norm", (size,)),
            ("self_attn.q_proj", (heads * size, hidden)), ("self_attn.k_proj", (kv_heads * size, hidden)), ("self_attn.v_proj", (kv_heads * size, hidden)),
            ("self_attn.o_proj", (hidden, heads * size)), ("mlp.gate_proj", (middle, hidden)), ("mlp.up_proj", (middle, hidden)), ("mlp.down_proj", (hidden, middle)))]
    header, at = {}, 0
    for name, wide in tensors:
        end = at + 2 * math.prod(wide)
        header[name] = {"dtype": "BF16", "shape": wide, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, wide in tensors:
            left = 2 * math.prod(wide)
            while left > 0:
                part = (b"\x80\x3f" * (left // 2) if len(wide) == 1 else block)[:left]
                file.write(part)
                left -= len(part)


def model(jobs, preset):
    """The folder of random weights of this shape, made where it is not there. With its whole vocabulary and a byte-level tokenizer hardly any
    completion draws the end of text: they are as long as they may be."""
    preset = "small" if jobs.arguments.small else preset
    hidden, layers, heads, kv_heads, size, middle, vocabulary, tied = SHAPES[preset]
    folder = jobs.path(preset)
    if not os.path.isdir(folder):
        subprocess.run([jobs.arguments.cohort, "init", "--preset", "nano", "--tokenizer", "bytes", "--out", folder], check=True, stdout=subprocess.DEVNULL)
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        config.update(vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=size,
                      intermediate_size=middle, tie_word_embeddings=tied, max_position_embeddings=40960, max_window_layers=layers)
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        write_weights(os.path.join(folder, "model.safetensors"), SHAPES[preset])
    return folder


def rewarded(jobs, options):
    """With the reward's file: it gives 0 and 1 in turns, so that every group has something to learn from."""
    return [option.replace("REWARDS", jobs.path("by_turns.py")) for option in options]


def same_bits(jobs, rows):
    """sha256 of final/ after 20 GRPO steps on one rank and on all. The control: with another number of lanes, another order of sums, it differs."""
    started, ranks = time.monotonic(), jobs.arguments.ranks
    prompts, length, steps, tokens = ("4", "4", "2", "70") if jobs.arguments.small else ("8", "64", "20", "1024")
    options = ["grpo", *rewarded(jobs, GRPO[:-1]), "1e-4", "--model", model(jobs, "qwen3-0.6b"), "--data", jobs.path("data.jsonl"), "--device", "cuda", "--prompts-per-step", prompts,
               "--num-generations", "4", "--max-completion-length", length, "--micro-batch-tokens", tokens, "--steps", steps]
    found, problem = {}, None
    for name, count, lanes in (("bits-1", 1, 4), (f"bits-{ranks}", ranks, 4), ("bits-control", ranks, 8)):
        problem = problem or jobs.run(count, [*options, "--gradient-lanes", str(lanes)], name)
        if problem is None:
            found[name] = weights(jobs.path(f"{name}/final"))
    one, several, control = (found.get(name, "") for name in ("bits-1", f"bits-{ranks}", "bits-control"))
    rows.add("PASS" if problem is None and one == several else "FAIL", f"{steps} GRPO steps, 1 and {ranks} ranks", problem or f"sha256 {one[:12]}, {several[:12]}",
             "equal", f"{time.monotonic() - started:.0f}")
    rows.add("PASS" if problem is None and control != one else "FAIL", "the same in 8 lanes in place of 4", problem or f"sha256 {control[:12]}", "another")
    return {"what": "bits", "one": one, "several": several, "control": control}


def exchange(jobs, rows, file):
    """What a step of the 0.6B shape exchanges, beside a plain exchange of as many bytes."""
    started, ranks, small = time.monotonic(), jobs.arguments.ranks, jobs.arguments.small
    problem = jobs.finish(jobs.start(ranks, [jobs.arguments.exchange, "nano" if small else "qwen3-0.6b", "3" if small else "21"], "exchange"), ranks, "exchange")
    with open(jobs.path("exchange.0.log"), encoding="utf-8", errors="replace") as log:
        found = [line for line in log if line.startswith("{")]
    for line in found:
        row = json.loads(line)
        rows.add("-" if small else "PASS" if row["share"] >= 0.8 else "FAIL", f"0.6B {row['what']}, {ranks} ranks",
                 f"{row['gb_per_second']} GB/s, {100 * row['share']:.0f} % of a plain exchange's {row['plain_gb_per_second']}", "> 80 %", f"{time.monotonic() - started:.0f}")
        file.write(line)
    if problem or len(found) < 2:
        rows.add("FAIL", "exchange", problem or "no figures")


def speed_up(jobs, rows, name, preset, command, steps, bar):
    started, ranks, seconds = time.monotonic(), jobs.arguments.ranks, {}
    command = rewarded(jobs, command)
    if jobs.arguments.small:
        for option in ("--prompts-per-step", "--batch-size", "--num-generations", "--max-completion-length"):
            if option in command:
                command[command.index(option) + 1] = "2" if option == "--num-generations" else "4"
    command += ["--model", model(jobs, preset), "--data", jobs.path("data.jsonl"), "--device", "cuda", "--steps", "1000"]
    for count in (1, ranks):
        run = f"{re.sub('[^A-Za-z0-9]', '', name)}-{count}"
        problem = jobs.run(count, command, run, steps)
        if problem:
            rows.add("FAIL", f"{name}, {count} rank{'s' * (count > 1)}", problem, "", f"{time.monotonic() - started:.0f}")
            return None
        seconds[count] = statistics.median(step["step_time"] for step in jobs.metrics(run)[1:steps])  # the first one warms up
    ratio, good = seconds[1] / seconds[ranks], bar * ranks / 2
    rows.add("-" if jobs.arguments.small else "PASS" if ratio >= good else "FAIL", f"{name}, {ranks} ranks over 1", f"{ratio:.2f}x: {seconds[1]:.2f} s, {seconds[ranks]:.2f} s a step",
             f"> {good:.2f}", f"{time.monotonic() - started:.0f}")
    return {"what": name, "ranks": ranks, "seconds_1": seconds[1], "seconds": seconds[ranks], "ratio": ratio}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", required=True)
    parser.add_argument("--exchange", required=True)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--to", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    os.makedirs(arguments.work, exist_ok=True)
    arguments.cohort, arguments.work = os.path.abspath(arguments.cohort), os.path.abspath(arguments.work)
    jobs, rows = Jobs(arguments), Rows(arguments.rows)
    make_data(jobs)
    with open(arguments.to, "a", encoding="utf-8") as file:
        file.write(json.dumps(same_bits(jobs, rows)) + "\n")
        exchange(jobs, rows, file)
        for timed in TIMED:
            measured = speed_up(jobs, rows, *timed)
            if measured:
                file.write(json.dumps(measured) + "\n")
    return 1 if rows.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
