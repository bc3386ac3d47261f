"""llguidance on the schemas and documents of bench_guide: how long a schema with its first mask takes, a mask behind a token, and a
token's acceptance, in the thread's own time; and what it says of the documents, whose verdicts stand beside them.

    bench/peers/peer_guide.py TOKENIZER_DIR tests/fixtures/guided_schemas.jsonl

Needs llguidance, transformers and numpy.
"""

import json
import sys
import time

import llguidance.hf
import llguidance.numpy
import transformers
from llguidance import LLMatcher

WHITE = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}


def now():
    return time.thread_time_ns() * 1e-3


def show(name, times):
    times.sort()
    n = len(times)
    at = [times[n // 2], times[n * 9 // 10], times[n * 99 // 100], times[-1]]
    print(f"{name:28} n {n:6}   mean {sum(times) / n:8.1f}   p50 {at[0]:8.1f}   p90 {at[1]:8.1f}   p99 {at[2]:8.1f}   max {at[3]:9.1f} us")


def main(folder, path):
    plain = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer = llguidance.hf.from_tokenizer(plain)
    bitmask = llguidance.numpy.allocate_token_bitmask(1, tokenizer.vocab_size)
    first, masks, accepted = [], [], []
    counts = {"schemas": 0, "compiled": 0, "documents": 0, "invalid accepted": 0, "valid rejected": 0}
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        counts["schemas"] += 1
        text = json.dumps({**row["schema"], **WHITE})
        before = now()
        try:
            matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(text), log_level=0)
            if matcher.is_error():
                continue
            llguidance.numpy.fill_next_token_bitmask(matcher, bitmask)
        except ValueError:
            continue
        first.append(now() - before)
        counts["compiled"] += 1
        for doc, valid in zip(row["docs"], row["valid"]):
            tokens = plain(doc, add_special_tokens=False).input_ids
            matcher.reset()
            good = True
            for token in tokens:
                before = now()
                good = matcher.consume_token(token) and not matcher.is_error()
                between = now()
                if not good:
                    break
                llguidance.numpy.fill_next_token_bitmask(matcher, bitmask)
                if valid == "1":
                    accepted.append(between - before)
                    masks.append(now() - between)
            good = good and matcher.is_accepting()
            counts["documents"] += 1
            counts["invalid accepted"] += good and valid == "0"
            counts["valid rejected"] += not good and valid == "1"
            if matcher.is_error():  # it is of no more use
                matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(text), log_level=0)
    print(counts)
    show("schema and first mask", first)
    show("mask behind a token", masks)
    show("token accepted", accepted)


main(*sys.argv[1:])
