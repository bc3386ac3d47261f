"""What transformers renders from the chat templates of the released TRL package, as hashes.

  chat_templates.py [--templates DIR] [--against PROGRAM]

Writes tests/fixtures/jinja/conversations.jsonl (40 conversations of our own, with the other variables of a template)
and tests/fixtures/jinja/trl_templates.json: for each template of the installed trl package (or of DIR) the SHA-256 of
its file and, for each conversation without and with a generation prompt, the first 12 digits of the SHA-256 of what
render_jinja_template gives: the text, a NUL byte, and the bytes that are marked by {% generation %} as "from-to,".
"error" stands where it raises. Nothing of the templates themselves is written. With --against, PROGRAM
(build/tests/test_jinja) renders them too, and what differs is shown.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import transformers.utils.chat_template_utils as chat

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "jinja"
NOW = 1764378000  # strftime_now's time, seconds since 1970

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'Gets the weather of a place.\nIt says <nothing> about "tomorrow" & later.',
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "A town, e.g. Zürich"},
                "unit": {
                    "type": "string",
                    "enum": ["celsius", "fahrenheit"],
                    "description": "The unit",
                    "default": "celsius",
                },
                "days": {"type": "integer", "description": "How many days"},
            },
            "required": ["place"],
        },
        "return": {"type": "string", "description": "What the sky does"},
    },
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Searches.",
        "parameters": {
            "type": "object",
            "properties": {
                "queries": {"type": "array", "items": {"type": "string"}, "description": "What to look for"},
                "filters": {
                    "type": "object",
                    "description": "Narrows the search",
                    "properties": {
                        "site": {"type": "string", "description": "A site", "nullable": True},
                        "weight": {"type": "number", "description": "A weight", "default": 0.5},
                        "deep": {"type": "boolean", "description": "Deep?"},
                    },
                    "required": ["site"],
                },
                "mode": {"type": ["string", "null"], "description": "A mode"},
                "either": {
                    "oneOf": [{"type": "string", "description": "one"}, {"type": "integer"}],
                    "description": "Either",
                },
                "grid": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            },
            "required": ["queries", "filters"],
            "additionalProperties": False,
        },
    },
}
PLAIN = {
    "type": "function",
    "function": {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}},
}
BARE = {
    "name": "roll",
    "description": "Rolls dice.",
    "parameters": {"type": "object", "properties": {"sides": {"type": "integer"}}, "required": ["sides"]},
}


def user(content, **more):
    return {"role": "user", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def tool(content, **more):
    return {"role": "tool", "content": content, **more}


def call(name, arguments, **more):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


def text(*parts):
    return [{"type": "text", "text": part} for part in parts]


def conversations():
    weather = call("get_weather", {"place": 'Zürich "centre"', "days": 2})
    search = call(
        "search",
        {"queries": ["a", "b\n'c'"], "filters": {"site": None, "weight": 1e-05, "deep": True}, "n": 12345678901},
    )
    unicode = "Ĝis la revido! 你好，世界 🦙👩‍👩‍👧 e\u0301 \u00a0\u2028 שלום <|im_end|> </s> <|eot_id|> &amp; \\n"
    story = "\n\n".join(f"Paragraph {i}: " + "the same words again and again, " * (i % 5 + 1) for i in range(60))
    yield {"messages": [user("Hi")]}
    yield {"messages": [user("Hi"), assistant("Hello.")]}
    yield {"messages": [system("Be brief."), user("Hi")]}
    yield {"messages": [system("Be brief."), user("Hi"), assistant("Hello."), user("And now?")]}
    yield {"messages": [system("Be brief."), user("Hi"), assistant("Hello."), user("And now?"), assistant("Bye.")]}
    yield {"messages": [user("  spaces \n"), assistant("\n\n answer with edges \n"), user("\tmore\t")]}
    yield {"messages": [system(""), user(""), assistant("")]}
    yield {"messages": []}
    yield {"messages": [assistant("I speak first.")]}
    yield {"messages": [user(unicode), assistant(unicode)]}
    yield {"messages": [system(unicode), user("Hi"), assistant("<think>\nHm.\n</think>\n\n" + unicode)]}
    yield {"messages": [user(story), assistant(story[:1000]), user("Shorter.")]}
    yield {"messages": [m for i in range(20) for m in (user(f"Question {i}?"), assistant(f"Answer {i}."))]}
    yield {"messages": [user("2+2?"), assistant("4", reasoning_content="Two and two."), user("3+3?")]}
    yield {
        "messages": [
            user("2+2?"),
            assistant("4", reasoning_content="Two and two."),
            user("3+3?"),
            assistant("6", reasoning_content="\nThree, twice.\n"),
        ]
    }
    yield {
        "messages": [
            user("2+2?"),
            assistant("<think>\nTwo and two.\n</think>\n\n4"),
            user("3+3?"),
            assistant("<think>Three.</think>6"),
        ]
    }
    yield {"messages": [user("2+2?"), assistant("<think>\nunfinished")], "enable_thinking": True}
    yield {"messages": [user("2+2?")], "enable_thinking": False}
    yield {
        "messages": [user("2+2?"), assistant("4", reasoning_content="Two."), user("5?")],
        "enable_thinking": True,
        "preserve_thinking": True,
        "reasoning_effort": "high",
    }
    yield {"messages": [user("Weather?")], "tools": [WEATHER]}
    yield {"messages": [system("Use tools."), user("Weather?")], "tools": [WEATHER, SEARCH, PLAIN]}
    yield {"messages": [user("Weather?"), assistant("", tool_calls=[weather])], "tools": [WEATHER]}
    yield {
        "messages": [
            user("Weather?"),
            assistant("I look.", tool_calls=[weather]),
            tool("sunny", name="get_weather"),
            assistant("It is sunny."),
        ],
        "tools": [WEATHER],
    }
    yield {
        "messages": [
            system("Use tools."),
            user("Both?"),
            assistant("", tool_calls=[weather, search]),
            tool("sunny"),
            tool('{"found": 3}'),
            assistant("Sunny, and 3."),
            user("Thanks"),
        ],
        "tools": [WEATHER, SEARCH],
    }
    yield {
        "messages": [
            user("Both?"),
            assistant("", reasoning_content="I need both.", tool_calls=[weather]),
            tool("sunny"),
            assistant("", reasoning_content="One more.", tool_calls=[search]),
            tool("3"),
            assistant("Done.", reasoning_content="All there."),
        ],
        "tools": [WEATHER, SEARCH],
    }
    yield {
        "messages": [user("Weather?"), {"role": "assistant", "tool_calls": [weather]}, tool("sunny")],
        "tools": [WEATHER],
    }
    yield {
        "messages": [
            user("Weather?"),
            assistant("", tool_calls=[{"id": "call_1", **weather}]),
            tool("sunny", tool_call_id="call_1", name="get_weather"),
            assistant("Sunny."),
        ],
        "tools": [WEATHER],
    }
    yield {
        "messages": [
            user("Weather?"),
            assistant("", tool_calls=[call("get_weather", '{"place": "Bern"}')]),
            tool({"sky": "blue", "t": 20.5, "wind": None}),
        ],
        "tools": [WEATHER],
    }
    yield {
        "messages": [user("Weather?"), assistant("", tool_calls=[{"name": "now", "arguments": {}}]), tool("12:00")],
        "tools": [PLAIN],
    }
    yield {
        "messages": [user("Roll"), assistant("", tool_calls=[call("roll", {"sides": 6})]), tool("4")],
        "tools": [BARE],
    }
    yield {"messages": [user(text("Hi ", "there")), assistant(text("Hello."))]}
    yield {
        "messages": [
            system(text("Be brief.")),
            user([{"type": "image"}, {"type": "text", "text": "What is it?"}]),
            assistant("A llama."),
        ]
    }
    yield {
        "messages": [
            user(
                [
                    {"type": "image", "image": "x.png"},
                    {"type": "text", "text": "One"},
                    {"type": "image_url", "image_url": {"url": "y"}},
                    {"type": "video"},
                    {"type": "audio"},
                ]
            ),
            assistant(text("Two")),
            user("Three"),
        ],
        "add_vision_id": True,
    }
    yield {"messages": [user("Hi"), user("Twice"), assistant("Yes"), assistant("Twice too")]}
    yield {"messages": [user("Hi"), system("In the middle."), assistant("Ok")]}
    yield {
        "messages": [{"role": "developer", "content": "Be terse."}, user("Hi"), assistant("Ok.")],
        "reasoning_effort": "low",
        "model_identity": "You are a llama.",
        "builtin_tools": ["browser", "python"],
    }
    yield {"messages": [{"role": "critic", "content": "What role is this?"}, user("Hi")]}
    yield {"messages": [user("Hi"), assistant("Sure, I")], "bos_token": "", "eos_token": "<eos>"}
    yield {
        "messages": [
            system("Be brief."),
            user("Q"),
            assistant("A", reasoning_content=""),
            user("R"),
            assistant("B", reasoning_content="x</think>y"),
        ],
        "date_string": "1 Jan 2025",
        "tools_in_user_message": False,
        "tools": [WEATHER],
    }
    yield {
        "messages": [
            user("Find"),
            assistant("", tool_calls=[search, search]),
            tool("a"),
            tool("b"),
            user("Stop."),
            assistant("", reasoning_content="Again?", tool_calls=[weather]),
        ],
        "tools": [SEARCH, WEATHER],
        "documents": [{"title": "T", "text": "Body"}],
    }


def variables(row):
    """All that the template sees but add_generation_prompt, with messages as apply_chat_template leaves them."""
    messages = chat._alias_reasoning_fields(chat._normalize_chat_messages(row["messages"]))
    plain = {
        "tools": None,
        "documents": None,
        "bos_token": "<bos>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
    return {**plain, **row, "messages": messages}


def byte_spans(rendered, spans):
    """Spans of characters as spans of bytes; those that adjoin are one."""
    out = []
    for start, end in spans:
        at = [len(rendered[:start].encode()), len(rendered[:end].encode())]
        if at[0] == at[1]:
            continue
        if out and out[-1][1] >= at[0]:
            out[-1][1] = max(out[-1][1], at[1])
        else:
            out.append(at)
    return out


def render(template, row, prompt):
    values = dict(row)
    messages, tools, documents = values.pop("messages"), values.pop("tools"), values.pop("documents")
    try:
        texts, spans = chat.render_jinja_template(
            [messages],
            tools=tools,
            documents=documents,
            chat_template=template,
            return_assistant_tokens_mask=True,
            add_generation_prompt=prompt,
            **values,
        )
    except Exception as error:
        return None, [], repr(error)
    return texts[0], byte_spans(texts[0], spans[0]), ""


def digest(rendered, spans):
    if rendered is None:
        return "error"
    marks = "".join(f"{start}-{end}," for start, end in spans)
    return hashlib.sha256(rendered.encode() + b"\0" + marks.encode()).hexdigest()[:12]


class Frozen(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.fromtimestamp(NOW, timezone.utc).replace(tzinfo=None)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--templates", type=Path)
    parser.add_argument("--against")
    options = parser.parse_args()
    chat.datetime = Frozen
    if options.templates is None:
        assert importlib.metadata.version("trl") == "1.16.0"
        options.templates = Path(importlib.util.find_spec("trl").origin).parent
    rows = [variables(row) for row in conversations()]
    assert len(rows) == 40
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (OUT / "conversations.jsonl").write_text(lines)
    result, differing = {}, 0
    for path in sorted(options.templates.rglob("*.jinja"), key=lambda p: p.name):
        source = path.read_bytes()
        template = source.decode()
        seen = [render(template, row, prompt) for row in rows for prompt in (False, True)]
        result[path.name] = {
            "sha256": hashlib.sha256(source).hexdigest(),
            "renderings": " ".join(digest(text, spans) for text, spans, _ in seen),
        }
        if options.against:
            ours = subprocess.run(
                [options.against, "--show", path, OUT / "conversations.jsonl", str(NOW)],
                text=True,
                capture_output=True,
                check=True,
            ).stdout.split("\n")[:-1]
            for i, ((text, spans, why), line) in enumerate(zip(seen, ours, strict=True)):
                mine = json.loads(line)
                if mine.get("text") != text or mine.get("generation", []) != spans:
                    differing += 1
                    print(
                        f"{path.name}: conversation {i // 2}, prompt {i % 2}: theirs {text!r} {spans} {why}\n  ours {mine}"
                    )
    head = {
        "trl": "1.16.0",
        "transformers": importlib.metadata.version("transformers"),
        "now": NOW,
        "templates": result,
    }
    if options.against:
        print(f"{len(result)} templates, {len(rows) * 2} renderings each: {differing} differ")
        sys.exit(differing > 0)
    (OUT / "trl_templates.json").write_text(json.dumps(head, indent=1) + "\n")


main()
