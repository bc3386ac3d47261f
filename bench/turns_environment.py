"""An environment that answers each turn after a time: turns_environment.py SECONDS TURNS. Thousands of episodes at once, one thread."""

import heapq
import json
import os
import select
import sys
import time

delay, turns = float(sys.argv[1]), int(sys.argv[2])
waiting, held = [], b""


def say(**message):
    sys.stdout.write(json.dumps(message) + "\n")


def answer(m):
    if m["turn"] == turns:
        say(type="end", id=m["id"], reward=len(m["text"]) % 2)
    else:
        say(type="reply", id=m["id"], turn=m["turn"], messages=[{"role": "user", "content": "and then?"}])


serial = 0
while True:
    now = time.monotonic()
    while waiting and waiting[0][0] <= now:
        answer(heapq.heappop(waiting)[2])
    sys.stdout.flush()
    ready = select.select([0], [], [], max(0.0, waiting[0][0] - time.monotonic()) if waiting else None)[0]
    if not ready:
        continue
    read = os.read(0, 1 << 16)
    if not read:
        break
    *lines, held = (held + read).split(b"\n")
    for line in lines:
        m = json.loads(line)
        if m["type"] == "hello":
            say(type="ready", protocol=1, name="turns", concurrency=1 << 20)
        elif m["type"] == "begin":
            say(type="reply", id=m["id"], turn=0)
        elif m["type"] == "finish":
            say(type="end", id=m["id"], reward=0)
        elif m["type"] == "turn":
            serial += 1
            heapq.heappush(waiting, (time.monotonic() + delay, serial, m))
