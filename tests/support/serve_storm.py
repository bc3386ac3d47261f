"""Bad requests, slow readers and cut connections by the thousand: the server answers each as it should, loses nothing, and stays well.
argv: folder of a model, number of bad requests, number of cut connections, seed."""
import copy
import json
import os
import random
import socket
import sys
import threading
import time

from serve_client import Server

MODEL, BAD, CUT, SEED = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
draw = random.Random(SEED)
GOOD = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "temperature": 0.5, "stop": ["a"]}),
    ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 3, "n": 2, "logprobs": 0}),
    ("/v1/messages", {"max_tokens": 4, "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}),
    ("/v1/responses", {"input": "x", "max_output_tokens": 4}),
    ("/score", {"prompt": "x", "tokens": [1, 2, 3], "top_logprobs": 2}),
    ("/tokenize", {"content": "x"}), ("/detokenize", {"tokens": [1, 2]}), ("/apply-template", {"messages": [{"role": "user", "content": "hi"}]}),
    ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "x"}]}),
]
ODD = [None, True, -1, 0, 1.5, 1e300, 2 ** 70, "", "x", "\x00", [], {}, [[]], [None], {"a": {"b": []}}, "\ud7ff", ["a"] * 40, "y" * 5000]


def places(value, path=()):
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], path + (key,))


def bent(body):
    """A good body with something else in one or more of its places."""
    body = json.loads(json.dumps(body))
    for _ in range(draw.randint(1, 3)):
        path = draw.choice(list(places(body))[1:])
        at = body
        try:
            for key in path[:-1]:
                at = at[key]
            if draw.random() < 0.2 and isinstance(at, dict):
                at[draw.choice(["stop", "n", "tools", "response_format", "seed", "logit_bias", "x", "stream_options", "guided_regex"])] = copy.deepcopy(draw.choice(ODD))
            elif isinstance(at, dict) and draw.random() < 0.2:
                del at[path[-1]]
            else:
                at[path[-1]] = copy.deepcopy(draw.choice(ODD))
        except (KeyError, IndexError, TypeError):
            pass
        if not body:
            break
    return body


def bad(s, connection):
    """One bad request; its status. A connection is kept as long as the server keeps it."""
    path, body = draw.choice(GOOD)
    kind = draw.random()
    if kind < 0.75:
        text = json.dumps(bent(body), ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    elif kind < 0.9:
        text = bytearray(json.dumps(body).encode())
        for _ in range(draw.randint(1, 4)):
            text[draw.randrange(len(text))] = draw.randrange(256)
        text = bytes(text)
    else:
        text = draw.randbytes(draw.randint(0, 400))
    connection.request(draw.choice(["POST"] * 20 + ["GET", "PUT", "DELETE"]), draw.choice([path] * 20 + ["/", "/nothing", path + "/"]), text,
                       {"Content-Type": "application/json"} if draw.random() < 0.98 else {"Content-Type": "text/x"})
    answer = connection.getresponse()
    data = answer.read()
    assert answer.status in (200, 400, 404, 405, 413, 415), (answer.status, data[:500], text[:500])
    if answer.status != 200:
        error = json.loads(data)["error"]
        assert error["message"] and error["type"], data
    return answer.status


def storm(s):
    seen = {}
    connection = s.connect()
    for i in range(BAD):
        try:
            status = bad(s, connection)
        except (ConnectionError, OSError):
            connection.close()
            connection = s.connect()
            status = bad(s, connection)
        seen[status] = seen.get(status, 0) + 1
    connection.close()
    print("   %d bad requests: %s" % (BAD, ", ".join("%d x %d" % (n, k) for k, n in sorted(seen.items()))))
    assert seen[400] > BAD / 3


def request_bytes(body):
    return ("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" %
            (len(body), body)).encode()


def cuts(s):
    """Connections that end anywhere: within the request, before the answer, within the stream."""
    for i in range(CUT):
        data = request_bytes(json.dumps({"messages": [{"role": "user", "content": "go"}], "max_tokens": 300, "ignore_eos": True, "seed": i,
                                         "stream": draw.random() < 0.6, "n": draw.randint(1, 3)}))
        with socket.create_connection(("127.0.0.1", s.port)) as c:
            where = draw.random()
            c.sendall(data if where > 0.3 else data[:draw.randrange(len(data))])
            if where > 0.5:
                c.settimeout(0.5)
                try:
                    for _ in range(draw.randint(1, 5)):
                        c.recv(draw.randint(1, 3000))
                except (TimeoutError, socket.timeout):
                    pass
            if draw.random() < 0.3:
                c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset


def slow_readers(s):
    """Streams whose readers read nothing, while others are served."""
    held = []
    for i in range(8):
        c = socket.socket()
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        c.connect(("127.0.0.1", s.port))
        c.sendall(request_bytes(json.dumps({"messages": [{"role": "user", "content": "go"}], "max_tokens": 900, "ignore_eos": True, "n": 4,
                                            "stream": True, "logprobs": True})))
        held.append(c)
    assert s.good("/v1/completions", {"prompt": "x", "max_tokens": 2})["choices"]
    for c in held:
        c.close()


def trickles(s):
    """A request byte by byte, from several at once, while others are served."""
    def one():
        try:
            with socket.create_connection(("127.0.0.1", s.port)) as c:
                for byte in b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" * 4:
                    c.sendall(bytes([byte]))
                    time.sleep(0.01)
        except OSError:
            pass
    threads = [threading.Thread(target=one) for _ in range(8)]
    for t in threads:
        t.start()
    assert s.good("/v1/completions", {"prompt": "x", "max_tokens": 2})["choices"]
    for t in threads:
        t.join()


def held_by(s):
    with open("/proc/%d/status" % s.process.pid) as file:
        memory = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    return memory, len(os.listdir("/proc/%d/fd" % s.process.pid))


def settled(s):
    for name in ("requests_running", "requests_waiting", "kv_pages_used"):
        s.wait_metric(name, 0, 60)
    s.wait_metric("connections", 1, 60)
    assert s.ask("GET", "/health")[2] == {"status": "ok"}


with Server(MODEL, "--read-timeout", "1", "--max-body", "0.1") as server:
    expected = server.good("/v1/completions", {"prompt": "same", "seed": 9, "max_tokens": 20, "return_token_ids": True})["choices"][0]["token_ids"]
    for part in (storm, cuts, slow_readers, trickles):
        part(server)
    settled(server)
    time.sleep(0.2)
    before = held_by(server)
    for part in (storm, cuts):
        part(server)
    settled(server)
    for _ in range(50): # the last connection may still be closing
        after = held_by(server)
        if after[1] <= before[1]:
            break
        time.sleep(0.1)
    print("   resident %d kB, then %d; descriptors %d, then %d" % (before[0], after[0], before[1], after[1]))
    with open(os.environ["COHORT"], "rb") as program:
        keeps = b"__asan_init" in program.read()  # what is freed, for a while
    assert after[1] <= before[1] and (after[0] < before[0] + 8192 or keeps), "nothing is held on to"
    again = server.good("/v1/completions", {"prompt": "same", "seed": 9, "max_tokens": 20, "return_token_ids": True})["choices"][0]["token_ids"]
    assert again == expected
    assert server.end() == 0, "".join(server.log)[-3000:]
    assert "ERROR" not in "".join(server.log), "".join(server.log)[-3000:]
print("the server stood it")
