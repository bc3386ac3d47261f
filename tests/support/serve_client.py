"""A client of cohort serve for tests, of Python's standard library alone: the server's life, requests, streams, raw bytes."""
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time


class Server:
    def __init__(self, model, *options, env=None):
        self.log = []
        self.process = subprocess.Popen(
            [os.environ["COHORT"], "serve", "--model", model, "--port", "0", *options],
            stderr=subprocess.PIPE, text=True, env=env)
        self.port = None
        for line in self.process.stderr:
            self.log.append(line)
            found = re.match(r"(listening|serving .*) at https?://.*:(\d+)", line.replace("listening at", "listening at"))
            if found:
                self.port = int(found.group(2))
            if line.startswith("serving "):
                break
        assert self.port, "".join(self.log)

    def end(self, how=signal.SIGTERM, seconds=60):
        self.process.send_signal(how)
        rest = self.process.communicate(timeout=seconds)[1]
        self.log.append(rest)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def connect(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, what came: JSON as a value, else text)"""
        connection = self.connect()
        try:
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            given = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, data, {**given, **(headers or {})})
            answer = connection.getresponse()
            text = answer.read().decode()
            kind = answer.headers.get("Content-Type", "")
            return answer.status, answer.headers, json.loads(text) if kind.startswith("application/json") and text else text
        finally:
            connection.close()

    def post(self, path, body, headers=None):
        return self.ask("POST", path, body, headers)

    def good(self, path, body):
        status, _, value = self.post(path, body)
        assert status == 200, (status, str(value)[:600], str(body)[:600])
        return value

    def events(self, path, body, limit=None):
        """The data of a stream's events; [DONE] must be the last."""
        connection = self.connect()
        try:
            connection.request("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            found = []
            name = None
            for line in answer:
                line = line.decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line[7:]
                if line.startswith("data: ") and line != "data: [DONE]":
                    assert name is None or json.loads(line[6:])["type"] == name
                if line.startswith("data: "):
                    found.append(line[6:] if line == "data: [DONE]" else json.loads(line[6:]))
                if limit is not None and len(found) >= limit:
                    break
            return found
        finally:
            connection.close()

    def metric(self, name):
        _, _, text = self.ask("GET", "/metrics")
        found = re.search(r"^cohort_%s (\S+)$" % re.escape(name), text, re.M)
        return float(found.group(1)) if found else 0.0

    def wait_metric(self, name, value, seconds=60.0):
        begun = time.monotonic()
        while self.metric(name) != value:
            assert time.monotonic() - begun < seconds, (name, self.metric(name), value)
            time.sleep(0.005)
        return time.monotonic() - begun

    def raw(self, data, seconds=10.0, chunk=None, pause=0.0):
        """What comes back for these bytes until the connection is closed, or nothing more comes for a while."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as s:
            got = b""
            try:
                for i in range(0, len(data), chunk or len(data) or 1):
                    s.sendall(data[i:i + (chunk or len(data))])
                    time.sleep(pause)
                while True:
                    piece = s.recv(65536)
                    if not piece:
                        return got
                    got += piece
                    s.settimeout(0.3)
            except (TimeoutError, ConnectionError, socket.timeout):
                return got


def float32(x):
    return struct.pack("<f", x)


def collect(events):
    """Choices of a stream of chat completions, put together: index -> (content, thinking, calls, finish, token ids, log-probs)"""
    choices = {}
    assert events[-1] == "[DONE]", events[-1]
    for event in events[:-1]:
        for choice in event["choices"]:
            at = choices.setdefault(choice["index"], {"content": "", "thinking": "", "calls": [], "finish": None, "ids": [],
                                                      "logprobs": [], "stop": None})
            assert at["finish"] is None, "nothing follows the finish"
            delta = choice.get("delta", {"content": choice.get("text")})
            at["content"] += delta.get("content") or ""
            at["thinking"] += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls", []):
                if call["index"] == len(at["calls"]):
                    at["calls"].append({"name": call["function"]["name"], "arguments": "", "id": call["id"]})
                at["calls"][call["index"]]["arguments"] += call["function"].get("arguments", "")
            at["ids"] += choice.get("token_ids", [])
            if choice.get("logprobs"):
                at["logprobs"] += [t["logprob"] for t in choice["logprobs"]["content"]] if "content" in choice["logprobs"] \
                    else choice["logprobs"]["token_logprobs"]
            at["finish"] = choice["finish_reason"]
            at["stop"] = choice.get("stop_reason")
    return choices
