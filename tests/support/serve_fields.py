"""cohort serve: fields of requests that say how an answer ends and what is told of its tokens, each honoured or refused by its
name. argv: folder of a model whose tokens are bytes."""
import json
import os
import subprocess
import sys

from serve_client import Server, collect, float32

MODEL = sys.argv[1]
CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"
EOS = 258
USER = [{"role": "user", "content": "What is it?"}]


def bits(values):
    return [float32(x) for x in values]


def same(found, expected):
    assert bits(found) == bits(expected), (found, expected)


def modes(s):
    """Log-probs are the model's own at temperature 1, whatever draws; or those of what draws begin with, as generate tells them."""
    fields = {"seed": 3, "max_tokens": 20, "temperature": 0.6, "top_k": 40, "repetition_penalty": 1.2, "n": 2, "return_token_ids": True}
    for mode, temperature in ((None, 1), ("raw", 1), ("raw_logprobs", 1), ("temperature", 0.6)):
        body = {**fields, "prompt": "abc", "logprobs": 3, **({"logprobs_mode": mode} if mode else {})}
        for choice in s.good(PLAIN, body)["choices"]:
            score = s.good("/score", {"prompt_tokens": choice["prompt_token_ids"], "tokens": choice["token_ids"],
                                      "temperature": temperature, "top_logprobs": 3})
            same(choice["logprobs"]["token_logprobs"], score["logprobs"])
            for named, entry in zip(choice["logprobs"]["top_logprobs"], score["content"], strict=True):
                assert sorted(named.values(), reverse=True)[0] == entry["top_logprobs"][0]["logprob"]
    drawn = s.good(PLAIN, {**fields, "prompt": "abc", "logprobs": 0})["choices"]
    assert [c["token_ids"] for c in drawn] == [c["token_ids"] for c in s.good(PLAIN, {**fields, "prompt": "abc"})["choices"]]
    plain = {"prompt": "abc", "seed": 3, "max_tokens": 9, "logprobs": 0}
    values = lambda mode, t: s.good(PLAIN, {**plain, "logprobs_mode": mode, "temperature": t})["choices"][0]["logprobs"]["token_logprobs"]
    assert values("processed", 0.7) == values("temperature", 0.7) != values("raw", 0.7)
    assert values("raw", 1) == values("temperature", 1) and values("raw", 0) == values("temperature", 0)


def streams(s):
    """A stream tells the same log-probs and alternatives as the whole answer."""
    for temperature in (1, 0.7, 0):
        body = {"messages": USER, "seed": 1, "n": 2, "max_tokens": 25, "logprobs": True, "top_logprobs": 4, "temperature": temperature}
        whole = s.good(CHAT, body)["choices"]
        parts = {c["index"]: [] for c in whole}
        for event in s.events(CHAT, body)[:-1]:
            for choice in event["choices"]:
                parts[choice["index"]] += (choice["logprobs"] or {"content": []})["content"]
        for choice in whole:
            assert parts[choice["index"]] == choice["logprobs"]["content"]
            assert all(len(t["top_logprobs"]) == 4 for t in choice["logprobs"]["content"])
    body = {"prompt": "abé", "seed": 2, "max_tokens": 25, "logprobs": 2}
    whole, offsets = s.good(PLAIN, body)["choices"][0]["logprobs"], []
    for event in s.events(PLAIN, body)[:-1]:
        offsets += event["choices"][0]["logprobs"]["text_offset"]
    assert offsets == whole["text_offset"] == sorted(offsets)


def prompts(s):
    """prompt_logprobs, and logprobs with echo: what /score gives for the prompt."""
    for temperature, mode in ((1, "raw"), (0.5, "raw"), (0.5, "temperature")):
        more = {"temperature": temperature, "logprobs_mode": mode, "max_tokens": 4, "seed": 1, "return_token_ids": True}
        asked = s.good(CHAT, {"messages": USER, "n": 2, "prompt_logprobs": 2, **more})
        ids = asked["choices"][0]["prompt_token_ids"]
        score = s.good("/score", {"prompt_tokens": ids[:1], "tokens": ids[1:], "top_logprobs": 2, "temperature": 1 if mode == "raw" else temperature})
        assert asked["prompt_logprobs"][0] is None and len(asked["prompt_logprobs"]) == len(ids)
        for place, entry in zip(asked["prompt_logprobs"][1:], score["content"], strict=True):
            assert place[str(entry["token_id"])]["logprob"] == entry["logprob"]
            for rank, top in enumerate(entry["top_logprobs"]):
                found = place[str(top["token_id"])]
                assert found["logprob"] == top["logprob"] and found["rank"] == rank + 1 and found["decoded_token"] == top["token"]
            assert len(place) in (2, 3)
    both = s.good(PLAIN, {"prompt": ["ab", "xyzé", [104, 105]], "echo": True, "logprobs": 2, "max_tokens": 3, "seed": 5, "return_token_ids": True})
    for choice, text in zip(both["choices"], ("ab", "xyzé", "hi"), strict=True):
        ids, lists = choice["prompt_token_ids"] + choice["token_ids"], choice["logprobs"]
        assert choice["text"].startswith(text)
        assert len(lists["tokens"]) == len(lists["token_logprobs"]) == len(lists["top_logprobs"]) == len(lists["text_offset"]) == len(ids)
        assert lists["token_logprobs"][0] is None and lists["top_logprobs"][0] is None and lists["text_offset"][0] == 0
        assert lists["text_offset"][len(choice["prompt_token_ids"])] == len(text)
        score = s.good("/score", {"prompt_tokens": ids[:1], "tokens": ids[1:]})
        same(lists["token_logprobs"][1:], score["logprobs"])
    one = s.good(PLAIN, {"prompt": [65], "prompt_logprobs": 0, "max_tokens": 1})["choices"][0]
    assert one["prompt_logprobs"] == [None]
    assert "prompt_logprobs" not in s.good(PLAIN, {"prompt": "x", "max_tokens": 1})["choices"][0]


def ends(s):
    """min_tokens, ignore_eos, stop_token_ids and logit_bias."""
    eager = {"prompt": "x", "seed": 4, "max_tokens": 30, "return_token_ids": True, "logit_bias": {str(EOS): 100}}
    first = lambda body: s.good(PLAIN, body)["choices"][0]
    assert first(eager)["token_ids"] == [EOS] and first(eager)["finish_reason"] == "stop"
    held = first({**eager, "min_tokens": 7})
    assert len(held["token_ids"]) == 8 and held["token_ids"].index(EOS) == 7
    free = first({"prompt": "x", "seed": 4, "max_tokens": 30, "return_token_ids": True, "min_tokens": 30, "logit_bias": {}})
    assert len(free["token_ids"]) == 30 and EOS not in free["token_ids"]
    past = first({**eager, "ignore_eos": True, "max_tokens": 5})
    assert past["token_ids"] == [EOS] * 5 and past["finish_reason"] == "length"
    letters = {**eager, "logit_bias": {"97": 100}, "stop_token_ids": [97]}
    assert first(letters)["stop_reason"] == 97 and len(first(letters)["token_ids"]) == 1
    later = first({**letters, "min_tokens": 3})
    assert later["token_ids"].index(97) == 3 and later["stop_reason"] == 97
    assert first({**eager, "logit_bias": {str(i): -100 for i in range(261) if i not in (98, 99)}, "max_tokens": 12})["text"].strip("bc") == ""
    # an answer that repeats itself: every token is 97, so that it is cut at the third
    stuck = {**eager, "logit_bias": {"97": 1000}, "repetition_detection": {"max_pattern_size": 4, "min_count": 3}}
    cut = first(stuck)
    assert cut["token_ids"] == [97] * 3 and cut["finish_reason"] == "stop" and cut["cohort_finish"] == "repetition", cut
    assert len(first({**stuck, "repetition_detection": {"max_pattern_size": 4, "min_pattern_size": 2, "min_count": 3}})["token_ids"]) == 6
    assert first({**stuck, "repetition_detection": {"max_pattern_size": 0}})["finish_reason"] == "length"


def refused(s):
    for path, body, param in (
            (PLAIN, {"prompt": "x", "min_tokens": 9, "max_tokens": 5}, "min_tokens"),
            (PLAIN, {"prompt": "x", "min_tokens": 2, "guided_regex": "a+"}, "min_tokens"),
            (PLAIN, {"prompt": "x", "repetition_detection": {"max_pattern_size": 4}}, "repetition_detection"),
            (PLAIN, {"prompt": "x", "repetition_detection": {"max_pattern_size": 4, "min_count": 2, "min_pattern_size": 5}}, "repetition_detection"),
            (PLAIN, {"prompt": "x", "repetition_detection": {"max_pattern_size": 4, "min_count": 2, "size": 5}}, "size"),
            (PLAIN, {"prompt": "x", "repetition_detection": [4, 2]}, "repetition_detection"),
            (PLAIN, {"prompt": "x", "stream": True, "prompt_logprobs": 1}, "prompt_logprobs"),
            (PLAIN, {"prompt": "x", "stream": True, "echo": True, "logprobs": 1}, "echo"),
            (PLAIN, {"prompt": "x", "prompt_logprobs": 21}, "prompt_logprobs"),
            (PLAIN, {"prompt": "x" * 400, "prompt_logprobs": 1}, "prompt_logprobs"),
            (PLAIN, {"prompt": "x" * 400, "echo": True, "logprobs": 0}, "echo"),
            (PLAIN, {"prompt": "x", "logprobs": 0, "logprobs_mode": "processed", "top_k": 5}, "logprobs_mode"),
            (PLAIN, {"prompt": "x", "logprobs": 0, "logprobs_mode": "processed", "temperature": 0}, "logprobs_mode"),
            (PLAIN, {"prompt": "x", "logprobs": 0, "logprobs_mode": "raw_logits"}, "logprobs_mode"),
            (PLAIN, {"prompt": "x", "logprobs": 21}, "logprobs"), (CHAT, {"messages": USER, "top_logprobs": 2}, "top_logprobs"),
            (PLAIN, {"prompt": "x", "best_of": 2}, "best_of"), (PLAIN, {"prompt": "x", "suffix": "y"}, "suffix")):
        status, _, value = s.post(path, body)
        assert status == 400 and value["error"]["param"] == param, (body, value)


with Server(MODEL, "--max-score", "300") as server:
    for check in (modes, streams, prompts, ends, refused):
        print("==", check.__name__, flush=True)
        check(server)
    assert server.ask("GET", "/health")[2] == {"status": "ok"}
    assert server.end() == 0
