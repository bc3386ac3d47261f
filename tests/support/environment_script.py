"""An environment for tests: `python3 environment_script.py MODE [CONCURRENCY] [DELAY]`. It counts: a turn is answered by its number and the
seed, the third ends the episode with a reward. MODE says what goes wrong, in the episode whose begin has row.bad (or in all, without rows)."""

import json
import os
import random
import sys
import threading
import time

mode = sys.argv[1]
concurrency = int(sys.argv[2]) if len(sys.argv) > 2 else 64
delay = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
lock = threading.Lock()
episodes = {}


def say(**message):
    with lock:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def go_wrong(m):
    if mode in ("die-" + m["type"], "die"):
        print("about to die", file=sys.stderr, flush=True)
        os._exit(3)
    if mode == "hang-" + m["type"]:
        time.sleep(3600)
    if mode == "flood":
        while True:
            sys.stdout.write("x" * 100000)
    if mode == "garbage":
        print("hello there", flush=True)
    if mode == "close":
        os.close(1)
        time.sleep(3600)
    if mode == "fork":  # a child keeps the pipe open
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(4)
    if mode == "error":
        say(type="error", id=m["id"], message="the sandbox is gone")
        return True
    if mode == "wrong-turn":
        say(type="reply", id=m["id"], turn=m["turn"] + 5, messages=[{"role": "user", "content": "x"}])
        return True
    if mode == "no-content":
        say(type="reply", id=m["id"], turn=m["turn"], messages=[{"role": "user"}])
        return True
    if mode == "system":
        say(type="reply", id=m["id"], turn=m["turn"], messages=[{"role": "system", "content": "x"}])
        return True
    if mode == "log-flood":
        for _ in range(400):
            say(type="log", message="y" * 50000)
    return False


def handle(m):
    kind = m["type"]
    if delay > 0:
        time.sleep(random.random() * delay)
    if kind == "begin":
        episodes[m["id"]] = m
    begin = episodes.get(m["id"])
    bad = begin is None or begin["row"] is None or begin["row"].get("bad")
    if bad and (kind != "begin" or mode.endswith("-begin")) and mode != "ok" and go_wrong(m):
        return
    if kind == "begin":
        say(type="reply", id=m["id"], turn=0)
    elif kind == "turn":
        if mode == "late":
            say(type="reply", id="nobody", turn=1)
            say(type="end", id="nobody", reward=1)
        if m["turn"] == 3:
            say(type="end", id=m["id"], turn=3, reward=begin["seed"] % 7 + len(m["text"]) % 3, metrics={"turns": 3})
        elif m["calls"]:
            say(type="reply", id=m["id"], turn=m["turn"], reward=0.5,
                messages=[{"role": "tool", "call": c["index"], "name": c["name"], "content": "got " + c["arguments_text"]} for c in m["calls"][::-1]])
        else:
            say(type="reply", id=m["id"], turn=m["turn"], reward=0.25,
                messages=[{"role": "user", "content": "%d after %d <|im_end|>" % (begin["seed"] % 100, m["turn"])}])
    elif kind == "finish":
        say(type="end", id=m["id"], reward=0.125)


for line in sys.stdin:
    m = json.loads(line)
    if m["type"] == "hello":
        if mode == "stderr":
            for _ in range(500):
                sys.stderr.write("z" * 100000 + "\n")
        if mode == "foreign":
            print("a line that is no JSON", flush=True)
        if mode == "no-ready":
            sys.exit(1)
        say(type="ready", protocol=1, name="script", version="1", concurrency=concurrency, tools=[])
    elif m["type"] == "stop":
        break
    elif delay > 0:
        threading.Thread(target=handle, args=(m,)).start()
    else:
        handle(m)
