"""Reading a Parquet file of GSM8K-like rows on one thread: ours, every row as a JSON object, and pyarrow, to a table of
columns, to batches of columns that are dropped again, and to rows (to_pylist), in turn in one run.

    python bench/peers/peer_parquet.py --reader build/tests/test_parquet [--rows 260000] [--rounds 5]

Prints one JSON object a line: the file, seconds of each (medians over the rounds, of the processor's time, so that a
busy neighbour counts for little), and how many of ours go into pyarrow's. The file lies in the page cache.
"""
import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq

PYARROW = """
import sys, time
import pyarrow as pa, pyarrow.parquet as pq
pa.set_cpu_count(1)
pa.set_io_thread_count(1)
start = time.process_time()
file = pq.ParquetFile(sys.argv[1])
n = file.read(use_threads=False).num_rows if sys.argv[2] == "table" else 0
if sys.argv[2] != "table":
    for batch in file.iter_batches(use_threads=False):
        n += len(batch.to_pylist()) if sys.argv[2] == "rows" else batch.num_rows
print(n, time.process_time() - start)
"""


def rows(n):
    r = random.Random(1)
    words = ["".join(r.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(r.randrange(2, 10))) for _ in range(5000)]
    base = [(" ".join(r.choice(words) for _ in range(r.randrange(25, 70))),
             " ".join(r.choice(words) for _ in range(r.randrange(30, 90))) + f"\n#### {r.randrange(10 ** 5)}") for _ in range(20000)]
    return [{"question": f"{i} {base[i % 20000][0]}", "answer": f"{base[i % 20000][1]}{i}"} for i in range(n)]


def seconds(command, n):
    read, took = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(read) == n
    return float(took)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--reader", required=True)
    parser.add_argument("--rows", type=int, default=260000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    data = rows(args.rows)
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    flat = pa.Table.from_pylist(data)
    chat = pa.table({"messages": pa.array([[{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
                                           for row in data], kind)})
    with tempfile.TemporaryDirectory() as folder:
        for name, table, codec in [("flat", flat, "snappy"), ("flat", flat, "zstd"), ("flat", flat, "gzip"), ("flat", flat, "none"), ("messages", chat, "snappy"),
                                   ("messages", chat, "zstd")]:
            path = pathlib.Path(folder) / "x.parquet"
            pq.write_table(table, path, compression=codec)
            sides = ("table", "batches", "rows")
            commands = {"ours": [args.reader, path, "time"]} | {side: [sys.executable, "-c", PYARROW, path, side] for side in sides}
            took = {side: [] for side in commands}
            for _ in range(args.rounds):
                for side, command in commands.items():
                    took[side].append(seconds(command, args.rows))
            middle = {side: statistics.median(values) for side, values in took.items()}
            line = {"file": f"{name}, {codec}", "text_mb": round(table.nbytes / 1e6), "file_mb": round(path.stat().st_size / 1e6),
                    "ours_s": round(middle["ours"], 3)}
            for side in sides:
                line[f"{side}_s"] = round(middle[side], 3)
                line[f"speed_of_{side}"] = round(statistics.median(a / b for a, b in zip(took[side], took["ours"])), 2)
            print(json.dumps(line), flush=True)


main()
