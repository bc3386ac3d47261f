"""cohort serve with adapters by name: each answers as cohort generate with --adapter does, alone and in company of the others and
of the model itself, with the same bits; streams, log-probs, /score and prompts that others share too. argv: folder of a model, a
folder of another adapter of it for --adapter, then NAME=DIR of adapters."""
import concurrent.futures
import json
import os
import random
import subprocess
import sys

from serve_client import Server, collect, float32

MODEL, OWN, PAIRS = sys.argv[1], sys.argv[2], sys.argv[3:]
FOLDERS = dict(pair.split("=", 1) for pair in PAIRS)
CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"
BASE = os.path.basename(MODEL)
PROMPTS = ["What is it?", "x", "one two three " * 12, "one two three " * 12 + "four"]


def generated(prompt, folder, tokens):
    wears = ["--adapter", folder] if folder else []
    out = subprocess.run([os.environ["COHORT"], "generate", "--model", MODEL, *wears, "--prompt", prompt, "--format", "jsonl", "--seed", "7",
                          "--n", "2", "--max-tokens", str(tokens), "--no-chat"], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def asking(name, prompt, tokens):
    return {"model": name, "prompt": prompt, "seed": 7, "n": 2, "max_tokens": tokens, "logprobs": 0, "return_token_ids": True}


def check(answer, rows, name):
    assert answer["model"] == name
    for choice, row in zip(answer["choices"], rows, strict=True):
        assert choice["token_ids"] == row["tokens"], (name, choice, row)
        assert [float32(x) for x in choice["logprobs"]["token_logprobs"]] == [float32(x) for x in row["logprobs"]]


def exact(s, base_wears):
    folders = {BASE: base_wears, **FOLDERS}
    cases = [(name, prompt, 4 + 9 * i) for i, prompt in enumerate(PROMPTS) for name in folders]
    expected = [generated(prompt, folders[name], tokens) for name, prompt, tokens in cases]
    assert len({str(rows[0]["tokens"]) for rows in expected[-len(folders):]}) == len(folders), "the adapters differ"
    for case, rows in zip(cases, expected):
        check(s.good(PLAIN, asking(*case)), rows, case[0])
    order = list(range(len(cases))) * 3
    random.Random(1).shuffle(order)
    with concurrent.futures.ThreadPoolExecutor(len(order)) as pool:
        answers = list(pool.map(lambda i: s.good(PLAIN, asking(*cases[i])), order))
    for i, answer in zip(order, answers):
        check(answer, expected[i], cases[i][0])
    for case, rows in zip(cases, expected):
        score = s.good("/score", {"model": case[0], "prompt_tokens": rows[0]["prompt_tokens"], "tokens": rows[0]["tokens"]})
        assert score["model"] == case[0]
        assert [float32(x) for x in score["logprobs"]] == [float32(x) for x in rows[0]["logprobs"]]
    name = list(FOLDERS)[0]
    body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "seed": 1, "max_tokens": 12, "prompt_logprobs": 0}
    whole = s.good(CHAT, body)
    assert collect(s.events(CHAT, {k: v for k, v in body.items() if k != "prompt_logprobs"}))[0]["content"] == whole["choices"][0]["message"]["content"]
    assert whole["prompt_logprobs"] != s.good(CHAT, {**body, "model": BASE})["prompt_logprobs"]


with Server(MODEL, "--admin", "--lora-modules", ",".join(PAIRS)) as server:
    listed = server.ask("GET", "/v1/models")[2]["data"]
    assert [m["id"] for m in listed] == [BASE, *FOLDERS] and all(m["parent"] == BASE for m in listed[1:])
    assert server.ask("GET", "/v1/models/" + list(FOLDERS)[0])[2]["parent"] == BASE
    assert server.post(PLAIN, {"model": "none", "prompt": "x"})[0] == 404
    assert server.post("/v1/weights", {"folder": MODEL})[0] == 400
    exact(server, None)
    server.wait_metric("kv_pages_used", 0)
    assert server.end() == 0
with Server(MODEL, "--adapter", OWN, "--decode-concurrency", "3", "--lora-modules", ",".join(PAIRS)) as server:
    exact(server, OWN)
    assert server.end() == 0
for pairs, word in ((["x"], "NAME=VALUE"), (["x=/nowhere"], "/nowhere"), ([BASE + "=" + OWN], BASE), (["a=" + OWN, "a=" + OWN], "another adapter")):
    refused = subprocess.run([os.environ["COHORT"], "serve", "--model", MODEL, "--port", "0", "--lora-modules", ",".join(pairs)], capture_output=True, text=True)
    assert refused.returncode in (1, 2) and word in refused.stderr, refused
