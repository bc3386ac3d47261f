"""A server as judge: rewards ask one, for tests/cli/test_judge.sh: what it does follows from the text that is to be scored.

Writes its port to the file of the first argument, and to that of the second a JSON line for each request: the words of the completion, the key,
the model, the system's message, how many requests were under way. A third is the PEM file of a certificate and its key, to serve by https.
"""
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()
seen, under_way = {}, 0


class Judge(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, code, body, headers=()):
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def say(self, text):
        self.send(200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode())

    def do_POST(self):
        global under_way
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        completion = asked["messages"][1]["content"].split("Answer to score:\n")[1]
        with lock:
            under_way += 1
            times = seen[completion] = seen.get(completion, 0) + 1
            with open(sys.argv[2], "a", encoding="utf-8") as log:
                print(json.dumps({"completion": completion, "key": self.headers["Authorization"], "model": asked["model"], "path": self.path,
                                  "system": asked["messages"][0]["content"], "user": asked["messages"][1]["content"], "under_way": under_way}), file=log)
        try:
            self.answer(completion, times)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with lock:
                under_way -= 1

    def answer(self, completion, times):
        kind, _, rest = completion.partition(" ")
        if kind == "say":
            self.say(rest)
        elif kind == "slow":
            time.sleep(0.3)
            self.say('{"score": 1}')
        elif kind == "hang":
            time.sleep(3)
        elif kind == "flood":
            self.send(200, b"x" * (6 << 20))
        elif kind == "busy" and times == 1:
            self.send(429, b"slow down", [("Retry-After", "1")])
        elif kind == "busy":
            self.say('{"score": 0.25}')
        elif kind == "fail":
            self.send(500, b"out of order")
        elif kind == "once" and times == 1:
            self.send(503, b"later")
        elif kind == "once":
            self.say("Score: 0.5")
        elif kind == "denied":
            self.send(401, b"who are you")
        elif kind == "broken":
            self.send(200, b'{"choices": [')
        elif kind == "empty":
            self.send(200, b"{}")
        elif kind == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
            self.close_connection = True
        elif kind == "drop":
            self.close_connection = True
        else:
            self.say('{"score": 0.5}')


server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
server.daemon_threads = True
if len(sys.argv) > 3:  # by https: a PEM file of the certificate and its key
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
with open(sys.argv[1], "w", encoding="utf-8") as out:
    print(server.server_address[1], file=out)
server.serve_forever()
