#!/usr/bin/env python3
"""Guess a digit: an environment for cohort grpo (docs/ENVIRONMENTS.md). The model says a digit, hears "+" (mine is higher) or "-" (lower), and has
four turns. The only reward comes at the end: 1 for the digit, less the later."""

import json
import sys

TURNS = 4
secrets = {}


def say(**message):
    print(json.dumps(message), flush=True)


for line in sys.stdin:
    m = json.loads(line)
    if m["type"] == "hello":
        say(type="ready", protocol=1, name="guess", concurrency=4096)
    elif m["type"] == "begin":
        secrets[m["id"]] = m["row"]["secret"]
        say(type="reply", id=m["id"], turn=0)
    elif m["type"] == "turn":
        secret, said = secrets[m["id"]], m["text"].strip()
        if said == str(secret):
            say(type="end", id=m["id"], turn=m["turn"], reward=1.0 - 0.1 * (m["turn"] - 1), metrics={"won": 1, "guesses": m["turn"]})
        elif m["turn"] == TURNS:
            say(type="end", id=m["id"], turn=m["turn"], reward=0, metrics={"won": 0})
        else:
            hint = "?" if len(said) != 1 or not said.isdigit() else "+" if int(said) < secret else "-"
            say(type="reply", id=m["id"], turn=m["turn"], messages=[{"role": "user", "content": hint}])
    elif m["type"] == "finish":
        say(type="end", id=m["id"], reward=0, metrics={"won": 0})
    elif m["type"] == "stop":
        break
