"""The page of cohort serve in a headless Chromium: a talk, a token's alternatives, going on from one of them. argv: folder of a model,
a folder for pictures, or "", and of an adapter, or none: then the same is asked of it."""
import os
import sys

from browser import Browser
from serve_client import Server

MODEL, PICTURES = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 and sys.argv[2] else None
ADAPTER = sys.argv[3] if len(sys.argv) > 3 else None
WORDS = os.environ.get("WORDS", "Hello there")


def picture(browser, name):
    if PICTURES:
        browser.picture(os.path.join(PICTURES, name + ".png"))


def own(fields):
    return {**fields, "model": "adapter"} if ADAPTER else fields


with Server(MODEL, *(["--lora-modules", "adapter=" + ADAPTER] if ADAPTER else [])) as s:
    browser = Browser()
    try:
        browser.go("http://127.0.0.1:%d/" % s.port)
        browser.until("document.getElementById('model').textContent !== '...'")
        browser.value("document.getElementById('max_tokens').value = 40; document.getElementById('seed').value = 3; "
                      "document.getElementById('words').focus(); 1")
        browser.type(WORDS)
        if ADAPTER:
            browser.until("document.getElementById('which').length === 2")
            browser.value("document.getElementById('which').value = 'adapter'")
        else:
            assert browser.value("document.getElementById('which').hidden")
        picture(browser, "page-1-before")
        browser.point("#send", click=True)
        browser.until("talk.length === 2 && talk[1].finish !== undefined && !going")
        entry = browser.value("({ids: talk[1].tokens.map(t => t.id), values: talk[1].tokens.map(t => t.logprob), prompt: talk[1].prompt, text: talk[1].text})")
        same = s.good("/v1/chat/completions", own({"messages": [{"role": "user", "content": WORDS}], "seed": 3, "max_tokens": 40,
                                               "temperature": 1, "logprobs": True, "return_token_ids": True}))["choices"][0]
        assert entry["ids"] == same["token_ids"] and entry["prompt"] == same["prompt_token_ids"]
        assert entry["text"] == same["message"]["content"]
        browser.point(".token[data-at='4']")
        browser.until("document.querySelectorAll('#tip tr').length === 8")
        picture(browser, "page-2-alternatives")
        top = s.good("/score", own({"prompt_tokens": entry["prompt"], "tokens": entry["ids"], "top_logprobs": 8}))["content"][4]["top_logprobs"]
        shown = browser.value("[...document.querySelectorAll('#tip tr')].map(r => r.cells[1].textContent)")
        assert shown == ["%.4f" % t["logprob"] for t in top], (shown, top)
        browser.point("#tip tr:nth-child(2)", click=True)
        browser.until("!going && talk[1].finish !== ''")
        after = browser.value("({ids: talk[1].tokens.map(t => t.id), finish: talk[1].finish})")
        assert after["ids"][:4] == entry["ids"][:4] and after["ids"][4] == top[1]["token_id"] and len(after["ids"]) > 5, after
        rest = s.good("/v1/completions", own({"prompt": entry["prompt"] + after["ids"][:5], "seed": 3, "max_tokens": 40, "temperature": 1,
                                              "return_token_ids": True}))["choices"][0]["token_ids"]
        assert after["ids"][5:] == rest, "what follows is the model's own answer to the tokens before"
        picture(browser, "page-3-resampled")
        browser.value("document.getElementById('words').focus(); 1")
        browser.type("And then?")
        browser.point("#send", click=True)
        browser.until("talk.length >= 4")
        assert browser.value("talk.length") == 4, browser.value("talk[talk.length - 1].text")
        browser.until("talk.length === 4 && talk[3].finish !== undefined && !going")
        picture(browser, "page-4-second")
        assert not browser.complaints, browser.complaints
    finally:
        browser.close()
    assert s.ask("GET", "/health")[2] == {"status": "ok"}
print("the page works")
