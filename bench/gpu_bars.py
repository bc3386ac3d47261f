"""Runs `cohort bench` on the GPU and puts its figures beside the bars of docs/SPEED.md; for scripts/gpu-check.

    python3 bench/gpu_bars.py --cohort build-cuda/cohort --to bench.jsonl --rows bench.rows [--quick]
    python3 bench/gpu_bars.py --compare bench.jsonl peers.jsonl --rows peers.rows

Rows are tab-separated: PASS, FAIL or - (no bar), name, figure, bar, seconds. The bars are for one H200; on another GPU there are none.
"""
import argparse
import json
import subprocess
import sys
import time

# The calls: name, preset, kinds, seconds at most.
CALLS = [
    ("0.6B", "qwen3-0.6b", ("decode", "train", "grpo", "exactness"), 170),
    ("8B", "qwen3-8b", ("decode", "train", "grpo"), 150),
]

# name of the call, kind, what the row begins with, label, bar (tokens a second at least; seconds at most where negative), the figure aimed at
BARS = [
    ("0.6B", "decode", "batch 1, prompt 128,", "decode, batch 1", 1200, 2800),
    ("0.6B", "decode", "batch 256, prompt 128,", "decode, batch 256", 40000, 60000),
    ("0.6B", "train", "64 x (128 + 512)", "training 64 x (128 + 512)", 100000, 120000),
    ("0.6B", "grpo", "step of 64 prompts x 8", "GRPO step 64 x 8, P 128, C 512", -9.0, -6.2),
    ("8B", "decode", "batch 256, prompt 128,", "decode, batch 256", 14000, 21000),
    ("8B", "train", "32 x (128 + 512)", "training 32 x (128 + 512)", 9500, 11500),
]
# name of the call, kind, row of the numerator, row of the denominator, label, bar
RATIOS = [
    ("0.6B", "decode", "batch 256, 16 share each prompt of 1024", "batch 256, prompt 1024,", "shared over unshared, decode", 1.8),
    ("0.6B", "train", "64 x (1024 + 512), prompts shared", "64 x (1024 + 512), recompute", "shared over unshared, training", 1.5),
    ("0.6B", "exactness", "exact, batch 256", "free, batch 256", "exact over free products, decode", 0.92),
    ("0.6B", "exactness", "exact, 64 x (128 + 512)", "free, 64 x (128 + 512)", "exact over free products, training", 0.92),
]
# name of the call, kind, what the row begins with, label, gigabytes held at most
MEMORY = [("8B", "grpo", "step of 64 prompts x 8", "GRPO step of 512 x 640, memory held", 130.0)]


class Rows:
    def __init__(self, path):
        self.path, self.failed = path, False

    def add(self, status, name, figure, bar="", seconds=""):
        self.failed |= status == "FAIL"
        line = "\t".join(str(field).replace("\t", " ") for field in (status, name, figure, bar, seconds))
        print(line, flush=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def find(measured, kind, begin):
    for row in measured:
        if row["kind"] == kind and row["what"].startswith(begin):
            return row
    return None


def read_jsonl(path):
    found = []
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.startswith("{"):
                    found.append(json.loads(line))
    except OSError:
        pass
    return found


def call(arguments, preset, kinds, limit):
    """The rows of one call, and what went wrong or None."""
    command = [arguments.cohort, "bench", "--device", "cuda", "--preset", preset, "--kind", ",".join(kinds), "--format", "jsonl"]
    if arguments.quick:
        command.append("--quick")
    print("$", *command, flush=True)
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit, check=False)
        out, errors, problem = run.stdout, run.stderr, None if run.returncode == 0 else f"exit code {run.returncode}"
    except subprocess.TimeoutExpired as expired:
        out, errors = (part.decode() if isinstance(part, bytes) else part or "" for part in (expired.stdout, expired.stderr))
        problem = f"not done in {limit} s"
    print(out, errors, sep="\n", flush=True)
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{") and line.endswith("}")]
    if problem and errors.strip():
        problem += ": " + errors.strip().splitlines()[-1]
    return rows, problem


def share(row):
    return f", {100 * row['share_of_limit']:.0f} % of {row['limit']}" if "share_of_limit" in row else ""


def judge(rows, name, row, label, bar, aim, h200, problem):
    title = f"{name} {label}"
    if row is None:
        rows.add("FAIL", title, problem or "no such row in the output")
        return
    good = row["value"] <= -bar if bar < 0 else row["value"] >= bar
    rows.add("-" if not h200 else "PASS" if good else "FAIL", title, f"{number(row['value'])} {row['unit']}{share(row)}",
             f"{'<' if bar < 0 else '>'} {number(abs(bar))} ({number(abs(aim))})" if h200 else "")


def run_bars(arguments):
    rows = Rows(arguments.rows)
    gpu = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], stdout=subprocess.PIPE, text=True, check=False).stdout
    h200 = "H200" in gpu
    for name, preset, kinds, limit in CALLS:
        start = time.perf_counter()
        measured, problem = call(arguments, preset, kinds, limit)
        with open(arguments.to, "a", encoding="utf-8") as file:
            for row in measured:
                file.write(json.dumps(dict(row, model=preset)) + "\n")
        machine = find_machine(measured)
        if machine:
            rows.add("-", f"{name} limits beside {', '.join(kinds)}", machine, "", f"{time.perf_counter() - start:.0f}")
        for of, kind, begin, label, bar, aim in BARS:
            if of == name and kind in kinds:
                judge(rows, name, find(measured, kind, begin), label, bar, aim, h200, problem)
        for of, kind, top, bottom, label, bar in RATIOS:
            if of == name and kind in kinds:
                a, b = find(measured, kind, top), find(measured, kind, bottom)
                if a is None or b is None:
                    rows.add("FAIL", f"{name} {label}", problem or "no such row in the output")
                else:
                    ratio = a["value"] / b["value"]
                    rows.add("-" if not h200 else "PASS" if ratio >= bar else "FAIL", f"{name} {label}",
                             f"{ratio:.2f} ({number(a['value'])} over {number(b['value'])})", f"> {bar}" if h200 else "")
        for of, kind, begin, label, most in MEMORY:
            if of == name and kind in kinds:
                row = find(measured, kind, begin)
                if row is None:
                    rows.add("FAIL", f"{name} {label}", problem or "no such row in the output")
                else:
                    held = row["peak_memory_gb"]
                    rows.add("-" if not h200 else "PASS" if held <= most else "FAIL", f"{name} {label}", f"{held:.1f} GB",
                             f"< {most:.0f} GB" if h200 else "")
        shown = [begin for of, _, begin, *_ in BARS if of == name] + [b for of, _, top, bottom, *_ in RATIOS if of == name for b in (top, bottom)]
        for row in measured:
            if row["kind"] == "generate" or row["kind"] in kinds and not any(row["what"].startswith(begin) for begin in shown):
                rows.add("-", f"{name} {row['kind']} {row['what'].strip()}", f"{number(row['value'])} {row['unit']}{share(row)}")
        if problem:
            rows.add("FAIL", f"{name} cohort bench {','.join(kinds)}", problem)
    return rows.failed


def find_machine(measured):
    for row in measured:
        if row["kind"] == "machine":
            return f"memory {row['read_gb_per_second'] / 1000:.2f} TB/s, products {row['product_gflops'] / 1000:.0f} TFLOP/s"
    return None


def compare(arguments):
    """Each line of a peer, with how many times as fast ours is."""
    rows = Rows(arguments.rows)
    ours, theirs = (read_jsonl(path) for path in arguments.compare)
    for row in theirs:
        begin = row["what"].split(" new")[0].rsplit(",", 1)[0] + "," if row["kind"] == "decode" else row["what"].split(",")[0]
        kind = "generate" if row["kind"] == "decode" else row["kind"]  # theirs counts the prompts' time
        mine = find([r for r in ours if r.get("model") == row["model"]], kind, begin)
        ratio = f", ours {mine['value'] / row['value']:.1f}x" if mine else ""
        rows.add("-", f"{row['peer']} {row['model'].replace('qwen3-', '')} {row['kind']}", f"{row['what']}: {number(row['value'])} tok/s{ratio}")
    return not theirs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", default="build-cuda/cohort")
    parser.add_argument("--to", default="bench.jsonl")
    parser.add_argument("--rows", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--compare", nargs=2, metavar=("OURS", "THEIRS"))
    arguments = parser.parse_args()
    sys.exit(1 if (compare(arguments) if arguments.compare else run_bars(arguments)) else 0)


if __name__ == "__main__":
    main()
