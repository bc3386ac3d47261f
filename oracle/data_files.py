"""Writes tests/fixtures/data_files/: the same small tables by pandas, datasets and pyarrow in every format that data
sets come in, each beside the rows that these read from it again (rows.jsonl: one JSON object a line; of CSV and TSV every
value as text, as pandas.read_csv(dtype=str, keep_default_na=False) reads it). tests/unit/test_data_files.c compares."""
import gzip
import json
import os
import shutil
import sys

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "tests", "fixtures", "data_files")

ROWS = [
    {"prompt": "ab", "completion": "cd", "n": 1},
    {"prompt": 'quoted "word", comma', "completion": "two\nlines\r\nand a return", "n": -2},
    {"prompt": "héllo 漢字 \U0001f600", "completion": "tab\there", "n": 3},
    {"prompt": "", "completion": " blanks ", "n": 0},
    {"prompt": "[1, {\"a\": \"}\"}]", "completion": "back\\slash \\\"", "n": 5},
    {"prompt": "semi;colon", "completion": "'single'", "n": 6},
]
NESTED = [
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}], "tags": ["a", "b"], "score": 0.5},
    {"messages": [{"role": "user", "content": "two\nlines"}], "tags": [], "score": None},
    {"messages": [], "tags": ["é"], "score": -1e-7},
]


def call(name, at):
    return {"id": "c" + str(at), "type": "function", "function": {"name": name, "arguments": {"at": at}}}


# Content that is null beside calls of tools, as OpenAI's API gives it.
CALLS = [
    {"messages": [{"role": "user", "content": "q1"}, {"role": "assistant", "content": None, "tool_calls": [call("look", 1)]},
                  {"role": "tool", "content": "seen", "tool_call_id": "c1"}, {"role": "assistant", "content": "a1"}]},
    {"messages": [{"role": "user", "content": "q2"}, {"role": "assistant", "content": None, "tool_calls": [call("look", 2), call("go", 3)]}]},
    {"messages": [{"role": "user", "content": "q3"}, {"role": "assistant", "content": "a3"}]},
]


def write(name, text):
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())


def expected(name, rows):
    write(name + ".expected", "".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\n" for r in rows))


def table(name, **how):
    frame = pd.read_csv(os.path.join(OUT, name), dtype=str, keep_default_na=False, **how)
    expected(name, frame.to_dict("records"))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    frame = pd.DataFrame(ROWS)
    frame.to_csv(os.path.join(OUT, "pandas.csv"), index=False)
    table("pandas.csv")
    frame.to_csv(os.path.join(OUT, "index.csv"), lineterminator="\r\n")  # with its index, and CR LF
    table("index.csv")
    frame.to_csv(os.path.join(OUT, "quoted.csv"), index=False, quoting=1, encoding="utf-8-sig")
    table("quoted.csv")
    frame.to_csv(os.path.join(OUT, "pandas.tsv"), sep="\t", index=False)
    table("pandas.tsv", sep="\t")
    write("blank.csv", 'a,b\n\n1,"x ""y"""\r\n,\r\r3,q"q')  # empty lines, all ends of lines, a quote within, no end
    table("blank.csv")
    datasets.Dataset.from_list(ROWS).to_csv(os.path.join(OUT, "datasets.csv"))
    table("datasets.csv")

    frame.to_json(os.path.join(OUT, "pandas.json"), orient="records", indent=2)
    expected("pandas.json", json.load(open(os.path.join(OUT, "pandas.json"))))
    write("compact.json", json.dumps(NESTED, separators=(",", ":")))
    expected("compact.json", NESTED)
    write("empty.json", "[ ]")
    expected("empty.json", [])
    frame.to_json(os.path.join(OUT, "pandas.jsonl"), orient="records", lines=True)
    expected("pandas.jsonl", ROWS)
    datasets.Dataset.from_list(NESTED).to_json(os.path.join(OUT, "datasets.jsonl"))
    expected("datasets.jsonl", NESTED)
    # Objects over several lines, as datasets reads them too.
    write("indented.jsonl", "\n".join(json.dumps(r, ensure_ascii=False, indent=2) for r in NESTED) + "\n")
    expected("indented.jsonl", datasets.load_dataset(
        "json", data_files=os.path.join(OUT, "indented.jsonl"), split="train", cache_dir=os.path.join(OUT, "cache")).to_list())
    shutil.rmtree(os.path.join(OUT, "cache"))
    lines = open(os.path.join(OUT, "pandas.jsonl"), "rb").read()
    half = lines.index(b"\n", len(lines) // 2) + 1
    write("rows.jsonl.gz", gzip.compress(lines[:half], mtime=0) + gzip.compress(lines[half:], mtime=0))  # two members
    expected("rows.jsonl.gz", ROWS)
    text = open(os.path.join(OUT, "pandas.csv"), "rb").read()
    with pa.CompressedOutputStream(os.path.join(OUT, "rows.csv.zst"), "zstd") as packed:
        packed.write(text)
    shutil.copy(os.path.join(OUT, "pandas.csv.expected"), os.path.join(OUT, "rows.csv.zst.expected"))
    pq.write_table(pa.Table.from_pylist(NESTED), os.path.join(OUT, "nested.parquet"))
    expected("nested.parquet", pq.read_table(os.path.join(OUT, "nested.parquet")).to_pylist())
    frame.to_parquet(os.path.join(OUT, "pandas.parquet"), index=False, row_group_size=2)
    expected("pandas.parquet", ROWS)

    # One set in every format that has null: as people write JSON, with keys that are not there, and as a table has it.
    calls = pa.Table.from_pylist(CALLS)
    text = "".join(json.dumps(row) + "\n" for row in CALLS)
    write("calls.jsonl", text)
    expected("calls.jsonl", CALLS)
    write("calls.json", json.dumps(CALLS, indent=1))
    expected("calls.json", CALLS)
    write("calls.jsonl.gz", gzip.compress(text.encode(), mtime=0))
    expected("calls.jsonl.gz", CALLS)
    pq.write_table(calls, os.path.join(OUT, "calls.parquet"))
    expected("calls.parquet", pq.read_table(os.path.join(OUT, "calls.parquet")).to_pylist())
    with pa.ipc.new_file(os.path.join(OUT, "calls.arrow"), calls.schema) as writer:
        writer.write_table(calls)
    expected("calls.arrow", pa.ipc.open_file(os.path.join(OUT, "calls.arrow")).read_all().to_pylist())
    datasets.Dataset.from_list(CALLS).to_json(os.path.join(OUT, "calls_datasets.jsonl"))
    expected("calls_datasets.jsonl", datasets.Dataset.from_list(CALLS).to_list())

    # What datasets finds in folders, as file names: which splits, of which files (tests/unit/test_data_paths.c).
    from datasets.data_files import get_data_patterns, DataFilesDict
    layouts = [
        ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"],
        ["data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl"],
        ["data/train_sft-00000-of-00001.jsonl", "data/test_sft-00000-of-00001.jsonl"],
        ["train.jsonl", "dev.jsonl", "eval.jsonl"],
        ["train/a.jsonl", "train/b.jsonl", "validation/a.jsonl"],
        ["a.jsonl", "b.jsonl", "sub/c.jsonl"],
        ["my_train_file.csv", "my_testing_file.csv"],
        ["gsm-train.jsonl"],
        ["part-1.jsonl", ".hidden.jsonl", "__pycache__/x.jsonl", "README.md", "dataset_info.json"],
        ["trainer.jsonl", "contest.jsonl", "evaluate.jsonl"],
        ["training.data/rows.jsonl", "validation_2/rows.jsonl"],
        ["test.jsonl"],
    ]
    found = []
    for files in layouts:
        root = os.path.join(OUT, "layout")
        shutil.rmtree(root, ignore_errors=True)
        for name in files:
            os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
            open(os.path.join(root, name), "w").write('{"prompt": "x"}\n')
        patterns = get_data_patterns(root)
        dictionary = DataFilesDict.from_patterns(patterns, base_path=root)
        real = os.path.realpath(root)
        found.append({"files": files, "splits": {
            str(split): sorted(os.path.relpath(os.path.realpath(str(f)), real) for f in names)
            for split, names in sorted(dictionary.items(), key=lambda item: str(item[0]))}})
        shutil.rmtree(root)
    write("layouts.json", json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
