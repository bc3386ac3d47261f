"""Which bytes of a conversation TRL trains: tests/fixtures/chat/masks.json.

Each of TRL's chat templates that has a training variant (trl/chat_templates/NAME_training.jinja) renders the conversations
of tests/fixtures/chat and tests/fixtures/jinja by transformers' render_jinja_template, with the assistant's spans. Kept are
numbers and hashes alone: for each template and conversation null where the variant refuses, else the SHA-256 of the
rendered bytes, its length, and the spans as byte offsets; "same": whether the original renders the same bytes.

    python oracle/chat_masks_trl.py          writes masks.json
"""
import hashlib
import json
from datetime import date
from pathlib import Path

import trl
from transformers.utils.chat_template_utils import render_jinja_template

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures/chat"
ROWS = [FIXTURES / "conversations.jsonl", FIXTURES.parent / "jinja/conversations.jsonl"]
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def rows():
    """The conversations: messages, tools, and settings of the template."""
    for path in ROWS:
        for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n"):
            row = json.loads(line)
            yield {"messages": row.pop("messages"), "tools": row.pop("tools", None),
                   "settings": {k: v for k, v in row.items() if k not in SPECIAL and v is not None}}


def render(template, row, marked):
    # As apply_chat_template does before it renders: keys without a value are left out.
    messages = [{k: v for k, v in m.items() if v is not None} for m in row["messages"]]
    texts, spans = render_jinja_template([messages], tools=row["tools"], chat_template=template,
                                         return_assistant_tokens_mask=marked, add_generation_prompt=False,
                                         **SPECIAL, **row["settings"])
    # Some templates write today's date.
    return texts[0].replace(date.today().isoformat(), "2000-01-01"), spans[0] if marked else []


def main():
    out = {}
    for path in sorted(TEMPLATES.glob("*_training.jinja")):
        name = path.name.removesuffix("_training.jinja")
        variant = path.read_text(encoding="utf-8")
        original = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
        results = []
        for row in rows():
            try:
                text, spans = render(variant, row, True)
            except Exception:  # whatever a template raises
                results.append(None)
                continue
            try:
                same = render(original, row, False)[0] == text
            except Exception:
                same = None
            at = lambda i: len(text[:i].encode())
            results.append({"sha256": hashlib.sha256(text.encode()).hexdigest(), "length": len(text.encode()),
                            "same": same, "spans": [[at(a), at(b)] for a, b in spans]})
        out[name] = results
    lines = ",\n".join(f'"{name}": [\n' + ",\n".join(json.dumps(r) for r in results) + "]" for name, results in out.items())
    (FIXTURES / "masks.json").write_text("{" + lines + "}\n", encoding="utf-8")
    print(len(out), "templates,", sum(r is not None for rs in out.values() for r in rs), "renderings")


if __name__ == "__main__":
    main()
