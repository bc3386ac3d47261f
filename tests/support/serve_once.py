"""serve_once.py MODEL OUT: cohort serve, three requests, the end. What was answered goes to OUT; a request that was answered with an error
of the server's, or not at all, is said as the program's own messages are, and is status 1. A server that hangs is status 9. It is
started with $PRELOAD as its LD_PRELOAD."""
import http.client
import json
import os
import re
import select
import signal
import subprocess
import sys
import time

SECONDS = 60
environment = dict(os.environ)
if environment.get("PRELOAD"):
    environment["LD_PRELOAD"] = environment["PRELOAD"]


def give_up(process, why):
    process.kill()
    sys.stderr.write(why + "\n")
    sys.exit(9)


def ask(port, path, body):
    """The answer without what differs from one to the next, or the error's text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status != 200:
        try: # what has no memory for its own words is the HTTP library's
            raise ConnectionError(f"{response.status}: {json.loads(text)['error']['message']}")
        except ValueError:
            raise ConnectionError(f"{response.status}: {text!r}") from None
    if not body or not body.get("stream"):
        answer = json.loads(text)
        for name in ("id", "created", "data"):
            answer.pop(name, None)
        return json.dumps(answer)
    if "data: [DONE]" not in text:
        raise ConnectionError("500: a stream without an end")
    found = []
    for line in text.split("\n\n"):
        if line.startswith("data: {"):
            event = json.loads(line[6:])
            if "error" in event:
                raise ConnectionError("500: " + event["error"]["message"])
            found += [choice["delta"].get("content") for choice in event["choices"]]
    return json.dumps("".join(part for part in found if part))


model, path = sys.argv[1:]
process = subprocess.Popen([os.environ["COHORT"], "serve", "--model", model, "--port", "0", "--threads", "1"], stderr=subprocess.PIPE, env=environment)
log, port, until = b"", None, time.monotonic() + SECONDS
while port is None or b"serving " not in log:
    if not select.select([process.stderr], [], [], max(0.0, until - time.monotonic()))[0]:
        give_up(process, "the server does not begin")
    part = os.read(process.stderr.fileno(), 4096)
    if not part:
        break
    log += part
    found = re.search(rb"https?://[^ ]*:([0-9]+)", log)
    port = int(found.group(1)) if found else None
errors, answers = [], []
if port is not None and process.poll() is None:
    said = [{"role": "user", "content": "hi"}]
    for where, body in (("/v1/models", None),
                        ("/v1/chat/completions", {"messages": said, "max_tokens": 4, "seed": 1, "logprobs": True}),
                        ("/v1/chat/completions", {"messages": said, "max_tokens": 4, "seed": 1, "stream": True})):
        try:
            answers.append(ask(port, where, body))
        except TimeoutError:
            give_up(process, "a request is not answered")
        except (OSError, http.client.HTTPException) as error:
            errors.append(f"cohort: {where}: {error}")
    process.send_signal(signal.SIGTERM)
try:
    rest = process.communicate(timeout=SECONDS)[1]
except subprocess.TimeoutExpired:
    give_up(process, "the server does not end")
sys.stderr.buffer.write(log + rest)
if errors:
    sys.stderr.write("\n".join(errors) + "\n")
with open(path, "w", encoding="utf-8") as out:
    out.write("\n".join(answers) + "\n")
code = process.returncode
sys.exit(min(255, 128 - code) if code < 0 else code if code not in (0, 130) else 1 if errors else 0)
