"""Our tokenizer beside Hugging Face tokenizers: the same ids, and how fast, one thread each, in turn in one run.

    python bench/peers/peer_tokenizers.py --tokenizer DIR [--cohort build/cohort --compare 100] [--bench build/bench_tokenizer]

DIR has a tokenizer.json. --compare MB: text files of this machine (documentation, headers, sources) up to so many megabytes
are encoded by both, in pieces of some 64 KB, and every id is compared. --bench: both are timed on English, source text and
random words of seven scripts (the program is bench/bench_tokenizer.c; processor time, best of the rounds). Needs the package
tokenizers.
"""

import argparse
import json
import os
import random
import subprocess
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
ROOTS = ["/usr/share/doc", "/usr/include", "/usr/lib/python3", "/usr/lib/python3.11", "/usr/share/perl", "/usr/share/man",
         "/usr/lib/gcc", "/usr/share"]
SCRIPTS = [(0x4E00, 0x9FFF), (0x3040, 0x30FF), (0xAC00, 0xD7A3), (0x400, 0x4FF), (0x620, 0x64A), (0x905, 0x94D), (0xE01, 0xE3A)]


def files_of(roots, suffixes, limit):
    """Whole texts of files that are UTF-8, in the order of their names."""
    total = 0
    for root in roots:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder) / name
                if suffixes and path.suffix not in suffixes or not path.is_file() or path.is_symlink():
                    continue
                try:
                    text = path.read_bytes().decode("utf-8")
                except (OSError, UnicodeDecodeError):
                    continue
                yield text
                total += len(text.encode())
                if total >= limit:
                    return


def pieces(texts, size=65536):
    out = []
    for text in texts:
        lines, length = [], 0
        for line in text.splitlines(keepends=True):
            if length > size:
                out.append("".join(lines))
                lines, length = [], 0
            lines.append(line)
            length += len(line)
        if length:
            out.append("".join(lines))
    return out


def random_scripts(size):
    rng, out, length = random.Random(5), [], 0
    while length < size:
        low, high = rng.choice(SCRIPTS)
        word = "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 12))) + rng.choice("    ，")
        out.append(word)
        length += len(word.encode())
    return "".join(out)


def encode_ours(args, texts):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"prompt": text}) + "\n")
        file.flush()
        run = subprocess.run([args.cohort, "tokenize", "--model", str(args.tokenizer), "--batch", file.name], check=True,
                             capture_output=True)
    return [json.loads(line)["tokens"] for line in run.stdout.splitlines()]


def compare(args, theirs):
    texts, total, wrong = pieces(files_of(ROOTS, None, args.compare * 1e6)), 0, 0
    for first in range(0, len(texts), 500):
        part = texts[first:first + 500]
        for text, ids in zip(part, encode_ours(args, part), strict=True):
            total += len(text.encode())
            if ids != theirs.encode(text).ids:
                wrong += 1
                print("differs:", repr(text[:200]))
    print(f"{len(texts)} pieces, {total / 1e6:.1f} MB, {wrong} differ", flush=True)


def bench(args, theirs):
    from tokenizers import Tokenizer

    names = {"english": "".join(files_of(ROOTS[:1], None, 4e6)), "source": "".join(files_of(ROOTS[1:4], {".h", ".py"}, 4e6)),
             "scripts": random_scripts(2e6)}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in names]
        for path, text in zip(paths, names.values(), strict=True):
            path.write_text(text, encoding="utf-8", newline="")
        for turn in range(args.rounds):
            run = subprocess.run([args.bench, "3", str(args.tokenizer), *map(str, paths)], check=True, capture_output=True)
            lines = [line.split("\t") for line in run.stdout.decode().splitlines()]
            start = time.process_time()
            Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
            print(f"turn {turn}  open: ours {lines[0][1]}, theirs {time.process_time() - start:.4f} s")
            for (name, text), line in zip(names.items(), lines[1:], strict=True):
                best = 0.0
                for _ in range(2):
                    start = time.process_time()
                    count = len(theirs.encode(text, add_special_tokens=False).ids)
                    best = max(best, len(text.encode()) / (time.process_time() - start) / 1e6)
                same = "same count" if f"{count} ids" == line[1] else f"{count} ids, ours {line[1]}"
                print(f"turn {turn}  {name}: ours {line[2]}, theirs {best:.2f} MB/s ({same})", flush=True)


def main():
    from tokenizers import Tokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", default="build/cohort")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--compare", type=float, default=0)
    parser.add_argument("--bench")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    theirs = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    if args.compare:
        compare(args, theirs)
    if args.bench:
        bench(args, theirs)


if __name__ == "__main__":
    main()
