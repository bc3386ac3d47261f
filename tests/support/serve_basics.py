"""cohort serve from outside: answers are those of cohort generate, streams are the same as whole answers, everything has a bound and
everything wrong a clear error. argv: folder of a model."""
import concurrent.futures
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from serve_client import Server, collect, float32

MODEL = sys.argv[1]
BEGUN = time.monotonic()
CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"


def say(text):
    print("== %s (%.1f s)" % (text, time.monotonic() - BEGUN), flush=True)


def user(text):
    return [{"role": "user", "content": text}]


def generated(prompt, *options):
    out = subprocess.run([os.environ["COHORT"], "generate", "--model", MODEL, "--prompt", prompt, "--format", "jsonl", *options],
                         check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def same_as_generate(s):
    for prompt, flags, fields in (
            ("What is it?", ["--temperature", "0.8", "--top-k", "50"], {"temperature": 0.8, "top_k": 50}),
            ("hi", ["--min-p", "0.02", "--repetition-penalty", "1.3"], {"min_p": 0.02, "repetition_penalty": 1.3})):
        for chat in (True, False):
            rows = generated(prompt, "--seed", "7", "--n", "3", "--max-tokens", "24", "--chat" if chat else "--no-chat", *flags)
            body = {"seed": 7, "n": 3, "max_tokens": 24, "logprobs": True, "logprobs_mode": "temperature", "return_token_ids": True,
                    **fields}
            answer = s.good(CHAT, {"messages": user(prompt), **body}) if chat else s.good(PLAIN, {"prompt": prompt, **body, "logprobs": 0})
            for row, choice in zip(rows, answer["choices"], strict=True):
                values = [t["logprob"] for t in choice["logprobs"]["content"]] if chat else choice["logprobs"]["token_logprobs"]
                assert choice["prompt_token_ids"] == row["prompt_tokens"]
                assert choice["token_ids"] == row["tokens"], (choice, row)
                assert [float32(x) for x in values] == [float32(x) for x in row["logprobs"]]
                assert (choice["message"]["content"] if chat else choice["text"]) == row["completion"]
                assert choice["finish_reason"] == {"eos": "stop"}.get(row["finish_reason"], row["finish_reason"])


def streams_are_whole(s):
    draw = random.Random(5)
    for i in range(8):
        body = {"messages": user("Say %d" % i), "seed": i, "n": 1 + i % 3, "max_tokens": draw.randint(1, 40), "logprobs": True,
                "return_token_ids": True, "stop": draw.sample(["a", "e", "th", "\n", " ", "zz"], 2) if i % 2 else None}
        whole = s.good(CHAT, body)
        parts = collect(s.events(CHAT, body))
        for choice in whole["choices"]:
            part = parts[choice["index"]]
            assert part["content"] == (choice["message"]["content"] or ""), (part, choice)
            assert part["finish"] == choice["finish_reason"] and part["stop"] == choice.get("stop_reason")
            assert part["ids"] == choice["token_ids"]
            assert part["logprobs"] == [t["logprob"] for t in choice["logprobs"]["content"]]
    usage = s.events(CHAT, {"messages": user("x"), "max_tokens": 3, "seed": 1, "stream_options": {"include_usage": True}})[-2]
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 3


def stop_strings(s):
    """Against a plain computation on the text without any: the model of bytes draws one byte a token."""
    letters = {str(i): -1000 for i in range(261) if i not in range(97, 103)}
    draw = random.Random(11)
    for i in range(30):
        body = {"prompt": "p%d" % i, "seed": i, "max_tokens": 30, "logit_bias": letters, "return_token_ids": True}
        free = s.good(PLAIN, body)["choices"][0]
        text = free["text"]
        stops = ["".join(draw.choices("abcdef", k=draw.randint(1, 4))) for _ in range(draw.randint(1, 4))]
        at, which = min(((text.find(x), -len(x), x) for x in stops if x in text), default=(None, 0, None))[0::2]
        # The engine ends at the first token that completes one: an earlier beginning that would be complete later counts no more.
        first = min((text.find(x) + len(x) for x in stops if x in text), default=None)
        if first is not None:
            done = [(text.find(x), -len(x), x) for x in stops if x in text[:first]]
            at, which = min(done)[0], min(done)[2]
        for stream in (False, True):
            if stream:
                c = collect(s.events(PLAIN, {**body, "stop": stops}))[0]
                got, finish, reason, ids = c["content"], c["finish"], c["stop"], c["ids"]
            else:
                c = s.good(PLAIN, {**body, "stop": stops})["choices"][0]
                got, finish, reason, ids = c["text"], c["finish_reason"], c.get("stop_reason"), c["token_ids"]
            expected = text if at is None else text[:at]
            assert got == expected and reason == which, (text, stops, got, expected, reason, which)
            assert finish == ("length" if at is None else "stop")
            assert ids == free["token_ids"][:len(expected)], "ids belong to the text that is delivered"
    stopped = s.good(PLAIN, {"prompt": "p", "seed": 1, "max_tokens": 30, "stop_token_ids": [97, 98, 99], "logit_bias": letters})
    assert stopped["choices"][0]["stop_reason"] in (97, 98, 99) and stopped["choices"][0]["finish_reason"] == "stop"


def company(s):
    """Sixty-four mixed clients at once: what each gets is what it gets alone."""
    draw = random.Random(3)
    bodies = [{"messages": user("word " * draw.randint(1, 30)), "seed": i, "n": draw.choice([1, 1, 2]), "max_tokens": draw.randint(1, 24),
               "temperature": draw.choice([0, 0.7, 1]), "return_token_ids": True} for i in range(64)]
    ids = lambda answer: [c["token_ids"] for c in answer["choices"]]
    alone = [ids(s.good(CHAT, body)) for body in bodies]
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        together = list(pool.map(lambda body: ids(s.good(CHAT, body)), bodies))
    assert alone == together


def errors(s):
    long = "x" * 3000
    for path, body, status, code, param in (
            (CHAT, {}, 400, "missing_parameter", "messages"),
            (CHAT, b"{", 400, "invalid_json", None), (CHAT, b"[1]", 400, "invalid_json", None), (CHAT, b"", 400, "empty_body", None),
            (CHAT, b'{"a":' * 70 + b"1" + b"}" * 70, 400, "invalid_json", None),
            (CHAT, b'{"messages": "\xff"}', 400, "invalid_json", None),
            (CHAT, {"messages": []}, 400, "invalid_value", "messages"),
            (CHAT, {"messages": user("x"), "model": "other"}, 404, "model_not_found", "model"),
            (CHAT, {"messages": user("x"), "temperatur": 1}, 400, "unknown_parameter", "temperatur"),
            (CHAT, {"messages": user("x"), "temperature": "1"}, 400, "invalid_type", "temperature"),
            (CHAT, {"messages": user("x"), "temperature": -1}, 400, "invalid_value", "temperature"),
            (CHAT, {"messages": user("x"), "top_p": 1.5}, 400, "invalid_value", "top_p"),
            (CHAT, {"messages": user("x"), "n": 0}, 400, "invalid_value", "n"),
            (CHAT, {"messages": user("x"), "n": 1.5}, 400, "invalid_type", "n"),
            (CHAT, {"messages": user("x"), "max_tokens": 0}, 400, "invalid_value", "max_tokens"),
            (CHAT, {"messages": user("x"), "max_tokens": 5000}, 400, "context_length_exceeded", "max_tokens"),
            (CHAT, {"messages": user(long)}, 400, "context_length_exceeded", "messages"),
            (CHAT, {"messages": user("x"), "stop": ""}, 400, "invalid_value", "stop"),
            (CHAT, {"messages": user("x"), "stop": ["a"] * 17}, 400, "invalid_value", "stop"),
            (CHAT, {"messages": user("x"), "logit_bias": {"99999": 1}}, 400, "invalid_value", "logit_bias"),
            (CHAT, {"messages": user("x"), "response_format": {"type": "structural_tag"}}, 400, "unsupported_value", "response_format"),
            (CHAT, {"messages": user("x"), "response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}, 400,
             "invalid_value", "response_format"),
            (CHAT, {"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_value", "messages[0].role"),
            (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, 400, "missing_parameter", "messages[0].tool_call_id"),
            (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]}, 400,
             "unsupported_value", "messages[0].content"),
            (PLAIN, {}, 400, "missing_parameter", "prompt"), (PLAIN, {"prompt": []}, 400, "invalid_value", "prompt"),
            (PLAIN, {"prompt": [1, 999]}, 400, "invalid_value", "prompt"), (PLAIN, {"prompt": ""}, 400, "invalid_value", "prompt"),
            ("/nowhere", {}, 404, "not_found", None)):
        got, _, value = s.post(path, body)
        error = value["error"]
        assert (got, error["code"], error["param"]) == (status, code, param), (body, got, value)
        assert error["type"] and error["message"]
    status, headers, _ = s.ask("GET", CHAT)
    assert status == 405 and headers["Allow"] == "POST"
    assert s.post(CHAT, {"messages": user("x")}, {"Content-Type": "text/plain"})[0] == 415
    assert s.post(CHAT, {"messages": user("x")}, {"Host": "evil.example"})[0] == 403
    assert s.ask("GET", "/v1/models/nothing")[0] == 404
    assert s.ask("GET", "/v1/models/" + s.ask("GET", "/v1/models")[2]["data"][0]["id"])[0] == 200


def honoured(s):
    """response_format and its kin hold."""
    import re
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["a"],
              "additionalProperties": False}
    for i in range(4):
        answer = s.good(CHAT, {"messages": user("x"), "seed": i, "max_tokens": 60,
                               "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}})
        value = json.loads(answer["choices"][0]["message"]["content"])
        assert list(value) == ["a"] and 0 <= value["a"] <= 99
    for field in ({"guided_regex": "[ab]{5}c"}, {"structured_outputs": {"regex": "[ab]{5}c"}}, {"response_format": {"type": "regex", "pattern": "[ab]{5}c"}},
                  {"grammar": 'root ::= [ab]{5} "c"'}):
        text = s.good(CHAT, {"messages": user("x"), "seed": 3, "max_tokens": 40, **field})["choices"][0]["message"]["content"]
        assert re.fullmatch("[ab]{5}c", text), text
    assert s.good(CHAT, {"messages": user("x"), "guided_choice": ["yes", "no"]})["choices"][0]["message"]["content"] in ("yes", "no")


def small_routes(s):
    ids = s.good("/tokenize", {"content": "héllo"})["tokens"]
    assert s.good("/detokenize", {"tokens": ids})["content"] == "héllo"
    prompt = s.good("/apply-template", {"messages": user("<|im_end|>")})["prompt"]
    asked = s.good("/tokenize", {"messages": user("<|im_end|>")})["tokens"]
    assert "<|im_end|>" in prompt and len(asked) > len(s.good("/tokenize", {"prompt": prompt})["tokens"]), "content stays content"
    assert s.ask("HEAD", "/health")[0] == 200


def scoring(s):
    """Given tokens get the log-probs that they were drawn with, bit for bit; alternatives are the likeliest, with theirs."""
    for temperature in (1, 0.7):
        row = generated("score me", "--seed", "5", "--max-tokens", "30", "--temperature", str(temperature))[0]
        value = s.good("/score", {"prompt_tokens": row["prompt_tokens"], "tokens": row["tokens"], "temperature": temperature, "top_logprobs": 20})
        assert [float32(x) for x in value["logprobs"]] == [float32(x) for x in row["logprobs"]]
        for entry in value["content"]:
            top = [t["logprob"] for t in entry["top_logprobs"]]
            assert len(top) == 20 and top == sorted(top, reverse=True) and len({t["token_id"] for t in entry["top_logprobs"]}) == 20
            same = [t["logprob"] for t in entry["top_logprobs"] if t["token_id"] == entry["token_id"]]
            assert same == [entry["logprob"]] if same else entry["logprob"] <= top[-1]
        body = {"messages": user("top"), "seed": 2, "n": 2, "max_tokens": 12, "temperature": temperature, "logprobs": True, "top_logprobs": 5,
                "logprobs_mode": "temperature", "return_token_ids": True}
        for choice in s.good(CHAT, body)["choices"]:
            own = s.good("/score", {"prompt_tokens": choice["prompt_token_ids"], "tokens": choice["token_ids"], "top_logprobs": 5,
                                    "temperature": temperature})["content"]
            for a, b in zip(choice["logprobs"]["content"], own, strict=True):
                assert a["logprob"] == b["logprob"]
                assert [(t["token_id"], t["logprob"]) for t in a["top_logprobs"]] == [(t["token_id"], t["logprob"]) for t in b["top_logprobs"]]
    greedy = s.good(PLAIN, {"prompt": "x", "temperature": 0, "max_tokens": 8, "logprobs": 2})["choices"][0]["logprobs"]
    for value, top in zip(greedy["token_logprobs"], greedy["top_logprobs"], strict=True):
        assert max(top.values()) == value
    for body, code in (({"tokens": [1]}, "missing_parameter"), ({"prompt": "", "tokens": [1]}, "invalid_value"),
                       ({"prompt": "x", "tokens": [1] * 5000}, "context_length_exceeded"), ({"prompt": "x", "tokens": [-1]}, "invalid_value")):
        assert s.post("/score", body)[2]["error"]["code"] == code


def hanging_up(s):
    """A client that goes ends its request, streamed or not, and its pages come back."""
    waited = []
    for name in ("requests_waiting", "requests_running"):  # of earlier requests, whose answers come before they are counted
        s.wait_metric(name, 0)
    before = s.metric("requests_cancelled_total")
    for i in range(12):
        body = json.dumps({"messages": user("go on"), "n": 8, "max_tokens": 900, "ignore_eos": True, "seed": i, "stream": i % 2 == 0})
        with socket.create_connection(("127.0.0.1", s.port)) as c:
            c.sendall(("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" %
                       (CHAT, len(body), body)).encode())
            if i % 2 == 0:
                c.recv(100)
            else:
                s.wait_metric("requests_running", 1)
        begun = time.monotonic()
        s.wait_metric("requests_cancelled_total", before + i + 1)
        waited.append(time.monotonic() - begun)
    for name, value in (("requests_running", 0), ("kv_pages_used", 0), ("connections", 1)):
        s.wait_metric(name, value)
    print("   hung up clients are noticed after %.0f ms at most, %.0f in the middle" % (1e3 * max(waited), 1e3 * sorted(waited)[6]))


def bad_http(s):
    ok = json.dumps({"prompt": "x", "max_tokens": 1})
    good = "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (PLAIN, len(ok), ok)
    last = good.replace("\r\n", "\r\nConnection: close\r\n", 1)  # so that nobody waits for more
    assert s.raw(last.replace("HTTP/1.1", "HTTP/1.0").encode()).startswith(b"HTTP/1.")
    assert s.raw((good + last).encode()).count(b"text_completion") == 2, "pipelined"
    assert s.raw(last.encode(), chunk=7).count(b"text_completion") == 1
    assert s.raw(b"GET / FOO\r\n\r\n")[:12] != b"HTTP/1.1 200"
    many = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"A%d: b\r\n" % i for i in range(100000)) + b"\r\n"
    assert b" 200 " not in s.raw(many) and b" 431 " in s.raw(many[:70000]), "headers have a bound"
    s.raw(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nxx\r\n")
    s.raw(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n")
    s.raw(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n")
    s.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    s.raw(b"\x00" * 1000)
    size = 3 << 20
    assert b" 413 " in s.raw(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (PLAIN.encode(), size) + b"x" * size)
    assert s.ask("GET", "/health")[2] == {"status": "ok"}


def slow_requests(s):
    """A request that trickles in is cut off after --read-timeout, however little was missing."""
    begun = time.monotonic()
    s.raw(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 400, chunk=1, pause=0.02, seconds=20)
    assert time.monotonic() - begun < 15, "a trickling request is cut off"


def full(model):
    with Server(model, "--max-waiting", "2", "--decode-concurrency", "1", "--threads", "1") as s:
        results = []

        def one(i):
            results.append(s.post(CHAT, {"messages": user("x"), "max_tokens": 400, "ignore_eos": True, "seed": i}))

        threads = [threading.Thread(target=one, args=(i,)) for i in range(12)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        statuses = [r[0] for r in results]
        assert 429 in statuses and 200 in statuses and set(statuses) == {200, 429}, statuses
        refused = next(r for r in results if r[0] == 429)
        assert refused[1]["Retry-After"] == "1" and refused[2]["error"]["code"] == "queue_full"


def keys(model):
    with Server(model, "--api-key", "sesame", "--cors", "https://page.example") as s:
        body = {"prompt": "x", "max_tokens": 1}
        assert s.post(PLAIN, body)[0] == 401
        assert s.post(PLAIN, body, {"Authorization": "Bearer sesam"})[2]["error"]["code"] == "invalid_api_key"
        assert s.post(PLAIN, body, {"Authorization": "Bearer sesame"})[0] == 200
        status, headers, _ = s.post(PLAIN, body, {"x-api-key": "sesame"})
        assert status == 200 and headers["Access-Control-Allow-Origin"] == "https://page.example"
        assert s.ask("GET", "/health")[0] == 200 and s.ask("GET", "/metrics")[0] == 401
        assert s.ask("OPTIONS", PLAIN)[0] == 204
    refused = subprocess.run([os.environ["COHORT"], "serve", "--model", model, "--host", "0.0.0.0", "--port", "0"],
                             capture_output=True, text=True)
    assert refused.returncode == 2 and "--without-key" in refused.stderr, refused


def draining(model):
    """Told to end, it takes nothing new, finishes what is under way, and leaves with 0; where the time is up, it is cut off."""
    with Server(model) as s:
        got = []
        t = threading.Thread(target=lambda: got.append(s.post(CHAT, {"messages": user("x"), "max_tokens": 900, "ignore_eos": True, "seed": 1})))
        t.start()
        while s.metric("requests_running") < 1:
            time.sleep(0.002)
        s.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        refused = s.post(CHAT, {"messages": user("y")})[0] if not got else 503
        assert s.process.wait(timeout=60) == 0
        t.join()
        assert got[0][0] == 200 and got[0][2]["usage"]["completion_tokens"] == 900 and refused == 503, (got[0][0], refused)
    with Server(model, "--drain", "0", "--threads", "1") as s:
        t = threading.Thread(target=lambda: got.append(s.post(CHAT, {"messages": user("x"), "n": 32, "max_tokens": 900, "ignore_eos": True})))
        t.start()
        while s.metric("requests_running") < 1:
            time.sleep(0.002)
        assert s.end() == 0
        t.join()
        assert got[-1][0] == 503, got[-1]


def weights(model):
    """Other weights of the same shape, between requests: what is under way ends with the old ones, what comes behind has the new."""
    other = os.path.join(os.path.dirname(model), "other")
    subprocess.run([os.environ["COHORT"], "init", "--preset", "nano", "--tokenizer", "bytes", "--seed", "2", "--out", other], check=True,
                   capture_output=True)
    body = {"prompt": "abc", "seed": 1, "max_tokens": 30, "return_token_ids": True}
    ids = lambda s: s.good(PLAIN, body)["choices"][0]["token_ids"]
    with Server(other) as s:
        theirs = ids(s)
        assert s.post("/v1/weights", {"folder": model})[0] == 403
    with Server(model, "--admin") as s:
        ours = ids(s)
        long = {"prompt": "abc", "seed": 1, "max_tokens": 700, "ignore_eos": True, "return_token_ids": True}
        expected = s.good(PLAIN, long)["choices"][0]["token_ids"]
        got = []
        t = threading.Thread(target=lambda: got.append(s.good(PLAIN, long)))
        t.start()
        while s.metric("requests_running") < 1 and not got:
            time.sleep(0.002)
        status, _, answer = s.post("/v1/weights", {"folder": other})
        assert status == 200 and answer["version"] == 1, answer
        assert ids(s) == theirs != ours
        t.join()
        assert got[0]["choices"][0]["token_ids"] == expected
        assert got[0]["system_fingerprint"] != s.good(PLAIN, body)["system_fingerprint"]
        for folder in ("/nowhere", "/tmp"):
            assert s.post("/v1/weights", {"folder": folder})[0] in (400, 500)
        assert ids(s) == theirs and s.ask("GET", "/health")[0] == 200
        assert s.post("/v1/weights", {"folder": model})[0] == 200 and ids(s) == ours


def failing(model):
    """Where the model is lost every request is told so, and /health; it is lost by weights whose file proves damaged half way."""
    import shutil
    import struct
    damaged = os.path.join(os.path.dirname(model), "damaged")
    shutil.copytree(model, damaged)
    with open(os.path.join(damaged, "model.safetensors"), "r+b") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        name, last = max(((k, v) for k, v in header.items() if k != "__metadata__"), key=lambda kv: kv[1]["data_offsets"][1])
        assert last["dtype"] == "BF16"
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", 0x7FC0))  # NaN
    with Server(model, "--admin") as s:
        status, _, answer = s.post("/v1/weights", {"folder": damaged})
        assert status == 500 and answer["error"]["code"] == "weights_damaged" and name in answer["error"]["message"], answer
        status, _, health = s.ask("GET", "/health")
        assert status == 503 and name in health["error"], health
        begun = time.monotonic()
        status, headers, answer = s.post(CHAT, {"messages": user("x")})
        assert status == 503 and answer["error"]["code"] == "engine_failed" and headers["Retry-After"] and time.monotonic() - begun < 20
        assert s.end() == 1, "a server whose engine has failed does not end well"


def encrypted(model):
    """By https, where there is an openssl to make a certificate."""
    import shutil
    import ssl
    if shutil.which("openssl") is None:
        return
    folder = os.path.dirname(model)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2", "-keyout",
                    os.path.join(folder, "key.pem"), "-out", os.path.join(folder, "cert.pem")], check=True, capture_output=True)
    with Server(model, "--tls-cert", os.path.join(folder, "cert.pem"), "--tls-key", os.path.join(folder, "key.pem")) as s:
        trust = ssl.create_default_context(cafile=os.path.join(folder, "cert.pem"))
        trust.check_hostname = False
        connection = http.client.HTTPSConnection("127.0.0.1", s.port, context=trust, timeout=30)
        connection.request("POST", CHAT, json.dumps({"messages": user("x"), "max_tokens": 3, "stream": True}), {"Content-Type": "application/json"})
        assert connection.getresponse().read().endswith(b"data: [DONE]\n\n")
        connection.close()
        assert s.end() == 0
    wrong = subprocess.run([os.environ["COHORT"], "serve", "--model", model, "--port", "0", "--tls-cert", os.path.join(folder, "cert.pem")],
                           capture_output=True, text=True)
    assert wrong.returncode == 2 and "--tls-key" in wrong.stderr


with Server(MODEL, "--max-body", "1", "--read-timeout", "1") as server:
    for check in (same_as_generate, streams_are_whole, stop_strings, company, errors, honoured, small_routes, scoring, hanging_up, bad_http, slow_requests):
        say(check.__name__)
        check(server)
    assert server.ask("GET", "/health")[2] == {"status": "ok"}
    assert server.end() == 0
for check in (full, keys, draining, weights, failing, encrypted):
    say(check.__name__)
    check(MODEL)
