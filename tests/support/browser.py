"""A headless Chromium over its DevTools protocol, of Python's standard library alone."""
import base64
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find():
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    def __init__(self, width=1100, height=760):
        self.folder = tempfile.mkdtemp()
        self.process = subprocess.Popen(
            [find(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0",
             "--user-data-dir=" + self.folder, "--window-size=%d,%d" % (width, height), "--hide-scrollbars", "about:blank"],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        for line in self.process.stderr:
            found = re.search(r"ws://127\.0\.0\.1:(\d+)", line)
            if found:
                break
        with urllib.request.urlopen("http://127.0.0.1:%s/json" % found.group(1)) as answer:
            page = next(t for t in json.load(answer) if t["type"] == "page")
        self.open_socket(int(found.group(1)), page["webSocketDebuggerUrl"])
        self.number = 0
        self.complaints = []
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Log.enable")

    def open_socket(self, port, url):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(60)
        path = url[url.index("/", 6):]
        self.socket.sendall(("GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" %
                             (path, port, base64.b64encode(os.urandom(16)).decode())).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(1)
        assert b" 101 " in answer, answer

    def exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.socket.recv(n - len(data))
            assert piece, "the browser is gone"
            data += piece
        return data

    def receive(self):
        whole = b""
        while True:
            first, length = struct.unpack("!BB", self.exactly(2))
            if length == 126:
                length = struct.unpack("!H", self.exactly(2))[0]
            elif length == 127:
                length = struct.unpack("!Q", self.exactly(8))[0]
            whole += self.exactly(length)
            if first & 0x80:
                return json.loads(whole)

    def call(self, method, **params):
        self.number += 1
        data = json.dumps({"id": self.number, "method": method, "params": params}).encode()
        head = struct.pack("!BB", 0x81, 0x80 | 126) + struct.pack("!H", len(data)) if 125 < len(data) < 65536 else \
            struct.pack("!BB", 0x81, 0x80 | len(data)) if len(data) < 126 else struct.pack("!BBQ", 0x81, 0x80 | 127, len(data))
        self.socket.sendall(head + b"\0\0\0\0" + data)
        while True:
            message = self.receive()
            if message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(message["params"]["exceptionDetails"])
            if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.complaints.append(message["params"]["entry"])
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]

    def go(self, url):
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression, seconds=20):
        begun = time.monotonic()
        while not self.value(expression):
            assert time.monotonic() - begun < seconds, expression
            time.sleep(0.05)

    def point(self, selector, click=False):
        place = self.value("(e => { const r = e.getBoundingClientRect(); return [r.left + Math.min(r.width, 8) / 2, r.top + Math.min(r.height, 16) / 2]; })"
                           "(document.querySelector(%s))" % json.dumps(selector))
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
        if click:
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def picture(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
