"""Runs `cohort bench` on the GPU and puts its figures beside the bars of docs/SPEED.md; for scripts/gpu-check.

    python3 bench/gpu_bars.py --cohort build-cuda/cohort --to bench.jsonl --rows bench.rows [--quick]
    python3 bench/gpu_bars.py --compare bench.jsonl peers.jsonl --rows peers.rows
    python3 bench/gpu_bars.py --cards 16 24 --cohort build-cuda-as-86/cohort --to cards.jsonl --rows cards.rows

Rows are tab-separated: PASS, FAIL or - (no bar), name, figure, bar, seconds. The bars are for one H200; on another GPU there are none. What a
memory plan leaves out is no failure: its row says what it would need.
"""
import argparse
import json
import re
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
# name of the call, kind, what the row begins with, label, share of the GPU's memory held at most: KV pages take what there is of use
MEMORY = [("8B", "grpo", "step of 64 prompts x 8", "GRPO step of 512 x 640, memory held", 0.98)]


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


def call(arguments, preset, kinds, limit, more=()):
    """The rows of one call, and what went wrong or None. Kinds of which memory allows nothing are no error here: their rows say so."""
    command = [arguments.cohort, "bench", "--device", "cuda", "--preset", preset, "--kind", ",".join(kinds), "--format", "jsonl", *more]
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
    if problem and "there is not enough memory for any of it" in problem and any("left_out" in row for row in rows):
        problem = None
    return rows, problem


def share(row):
    return f", {100 * row['share_of_limit']:.0f} % of {row['limit']}" if "share_of_limit" in row else ""


def left_out(rows, title, row):
    """Whether memory did not allow the row, which is then said."""
    if row is None or "left_out" not in row:
        return False
    rows.add("SKIP", title, "left out: " + row["left_out"][:110])
    return True


def judge(rows, name, row, label, bar, aim, h200, problem):
    title = f"{name} {label}"
    if left_out(rows, title, row):
        return
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
                if any(left_out(rows, f"{name} {label}", row) for row in (a, b)):
                    continue
                if a is None or b is None:
                    rows.add("FAIL", f"{name} {label}", problem or "no such row in the output")
                else:
                    ratio = a["value"] / b["value"]
                    rows.add("-" if not h200 else "PASS" if ratio >= bar else "FAIL", f"{name} {label}",
                             f"{ratio:.2f} ({number(a['value'])} over {number(b['value'])})", f"> {bar}" if h200 else "")
        for of, kind, begin, label, most in MEMORY:
            if of == name and kind in kinds:
                row = find(measured, kind, begin)
                if left_out(rows, f"{name} {label}", row):
                    continue
                if row is None:
                    rows.add("FAIL", f"{name} {label}", problem or "no such row in the output")
                else:
                    held, most = row["peak_memory_gb"], most * total_memory()
                    rows.add("-" if not h200 else "PASS" if held <= most else "FAIL", f"{name} {label}", f"{held:.1f} GB",
                             f"< {most:.0f} GB" if h200 else "")
        beyond_plan(rows, name, measured, total_memory())
        shown = [begin for of, _, begin, *_ in BARS if of == name] + [b for of, _, top, bottom, *_ in RATIOS if of == name for b in (top, bottom)]
        for row in measured:
            if "left_out" in row:
                continue
            if row["kind"] == "generate" or row["kind"] in kinds and not any(row["what"].startswith(begin) for begin in shown):
                rows.add("-", f"{name} {row['kind']} {row['what'].strip()}", f"{number(row['value'])} {row['unit']}{share(row)}")
        if problem:
            rows.add("FAIL", f"{name} cohort bench {','.join(kinds)}", problem)
    return rows.failed


def beyond_plan(rows, name, measured, memory):
    """What the driver holds beside the memory plan (machine code, recorded steps), for which a twentieth of the GPU is left."""
    over = [(row["peak_memory_gb"] - row["planned_memory_gb"], row) for row in measured if "planned_memory_gb" in row and "peak_memory_gb" in row]
    if not over:
        return
    most, row = max(over, key=lambda pair: pair[0])
    bar = memory / 20
    rows.add("PASS" if most <= bar else "FAIL", f"{name} memory beyond the plan",
             f"{most:.2f} GB ({row['peak_memory_gb']:.2f} held, {row['planned_memory_gb']:.2f} planned: {row['kind']} {row['what'].strip()})", f"< {bar:.1f} GB")


def total_memory():
    """Of the GPU, in GB."""
    told = subprocess.run(["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"], stdout=subprocess.PIPE, text=True, check=False).stdout
    return float(told.split()[0]) * 1.048576e-3 if told.split() else 80.0


# With --cards: what must fit into so many GB, and what must not, in the plan of cohort grpo with moments in bf16.
FITS = {16: ("qwen3-0.6b",), 24: ("qwen3-0.6b",)}
FITS_NOT = {16: ("qwen3-1.7b", "qwen3-8b"), 24: ("qwen3-8b",)}
PLAN = ["--moments-dtype", "bf16", "--max-prompt-length", "128", "--max-completion-length", "512", "--num-generations", "8",
        "--prompts-per-step", "64"]


def plan_of(arguments, preset, limit):
    """The line with the plan, or with the refusal; what is planned and what is there, in GB."""
    told = subprocess.run([arguments.cohort, "info", "--memory", "--device", "cuda", "--preset", preset, "--memory-limit", str(limit), *PLAN],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(told.stdout, flush=True)
    line = told.stdout.strip().splitlines()[-1] if told.stdout.strip() else ""
    return line, told.returncode


def run_cards(arguments):
    """Cards with less memory than this GPU: what fits runs within it, what does not is refused before anything is allocated."""
    rows = Rows(arguments.rows)
    for limit in arguments.cards:
        for preset in FITS[limit]:
            line, code = plan_of(arguments, preset, limit)
            total = re.search(r"in all ([0-9.]+) GB, ([0-9.]+) GB are there", line)
            good = code == 0 and line.startswith("memory plan, GPU 0") and total and float(total[1]) <= float(total[2]) <= limit
            at_once = re.search(r"(\d+) at once", line)
            rows.add("PASS" if good else "FAIL", f"{limit} GB, {preset}: the plan", f"in all {total[1]} GB, {at_once[1]} at once" if good and at_once else line[:110])
        for preset in FITS_NOT[limit]:
            line, code = plan_of(arguments, preset, limit)
            good = code == 0 and "training needs" in line and "GB are there" in line
            rows.add("PASS" if good else "FAIL", f"{limit} GB, {preset}: refused", line[:110])
        start = time.perf_counter()
        measured, problem = call(arguments, "qwen3-0.6b", ("decode", "train", "grpo"), 100,
                                 ("--memory-limit", str(limit), "--moments-dtype", "bf16", "--micro-batch-tokens", "8192", "--quick"))
        with open(arguments.to, "a", encoding="utf-8") as file:
            for row in measured:
                file.write(json.dumps(dict(row, limit=limit)) + "\n")
        if problem:
            rows.add("FAIL", f"{limit} GB, cohort bench", problem)
        beyond_plan(rows, f"{limit} GB", measured, limit)
        for row in measured:
            if row["kind"] == "machine":
                continue
            title = f"{limit} GB, {row['kind']} {row['what'].strip()}"
            if not left_out(rows, title, row):
                fits = row.get("planned_memory_gb", 0) <= limit
                rows.add("PASS" if fits else "FAIL", title, f"{number(row['value'])} {row['unit']}")
        for kind, begin in (("decode", "batch 64,"), ("train", "64 x (128 + 512)"), ("grpo", "step of 64 prompts x 8")):
            row = find(measured, kind, begin)
            if row is None or "left_out" in row:
                rows.add("FAIL", f"{limit} GB, {kind} {begin}", "should fit, and did not run")
        start = time.perf_counter() - start
        # Refused by the shape alone: in seconds, with the reason.
        begun = time.perf_counter()
        told = subprocess.run([arguments.cohort, "bench", "--device", "cuda", "--preset", "qwen3-14b", "--kind", "train", "--memory-limit", str(limit)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        seconds = time.perf_counter() - begun
        good = told.returncode != 0 and "weights take" in told.stdout and seconds < 10
        rows.add("PASS" if good else "FAIL", f"{limit} GB, qwen3-14b: refused at once", f"{seconds:.1f} s: {told.stdout.strip()[-90:]}", "< 10 s", f"{start:.0f}")
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
    parser.add_argument("--cards", nargs="+", type=int, choices=sorted(FITS), metavar="GB")
    parser.add_argument("--compare", nargs=2, metavar=("OURS", "THEIRS"))
    arguments = parser.parse_args()
    run = compare if arguments.compare else run_cards if arguments.cards else run_bars
    sys.exit(1 if run(arguments) else 0)


if __name__ == "__main__":
    main()
