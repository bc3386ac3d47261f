"""Compares what cohort tokenize renders with transformers' render_jinja_template, byte for byte: TRL's 72 chat templates and
those that mistral-common generates for its tokenizers v1 to v15, on the conversations of tests/fixtures/chat and jinja, as
prompts with thinking left open and off, and gone on with. Prints what differs and, at the end, how many were compared:
"named" is what cohort refuses by name and transformers leaves out without a word (tools, roles, images). Writes nothing.

    python oracle/check_chat_templates.py build/cohort
"""
import json
import re
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import trl
from mistral_common.integrations.chat_templates.chat_templates import generate_chat_template
from mistral_common.tokens.tokenizers.base import TokenizerVersion
from transformers.utils.chat_template_utils import render_jinja_template

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def templates():
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        yield path.stem, path.read_text(encoding="utf-8")
    for version in ("v1", "v2", "v3", "v7", "v11", "v13", "v15"):
        efforts = ("none", "high") if version == "v15" else None
        yield f"mistral {version}", generate_chat_template(
            version in ("v1", "v2"), TokenizerVersion(version), False, False, version == "v13", None, False, True, None, efforts,
            efforts and "none")


def prompts():
    """A row for cohort, and what apply_chat_template would be called with."""
    lines = [line for name in ("chat", "jinja")
             for line in (FIXTURES / name / "conversations.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")]
    for line in lines:
        found = json.loads(line)
        row = {key: found[key] for key in ("messages", "tools") if found.get(key)}
        row["chat_template_kwargs"] = {key: value for key, value in found.items()
                                       if key not in SPECIAL and key not in ("messages", "tools") and value is not None}
        if not row.get("messages"):
            continue
        for message in row["messages"]:  # Mistral's templates want ids
            for number, call in enumerate(message.get("tool_calls") or []):
                call["id"] = f"abcdefgh{number}"
            if message["role"] == "tool":
                message["tool_call_id"] = "abcdefgh0"
        settings, answered = row["chat_template_kwargs"], row["messages"][-1]["role"] == "assistant"
        asked = dict(row)
        while asked["messages"] and asked["messages"][-1]["role"] == "assistant":
            asked["messages"] = asked["messages"][:-1]
        if asked["messages"]:
            yield asked, {"add_generation_prompt": True, **settings}
            off = {**settings, "enable_thinking": False}
            yield dict(asked, chat_template_kwargs=off), {"add_generation_prompt": True, **off}
        if answered and row["messages"][-1].get("content"):
            yield row, {"continue_final_message": True, **settings}


def expected(template, row, settings):
    try:
        messages = [{key: value for key, value in message.items() if value is not None} for message in row["messages"]]
        return render_jinja_template([messages], tools=row.get("tools"), chat_template=template, **SPECIAL, **settings)[0][0]
    except Exception:  # whatever a template raises
        return None


class Program:
    def __init__(self, path, folder):
        self.path, self.folder = path, folder
        subprocess.run([path, "init", "--preset", "nano", "--tokenizer", "bytes", "--out", folder / "made"], check=True,
                       capture_output=True)
        (folder / "model").mkdir()
        (folder / "model/tokenizer.json").write_bytes((folder / "made/tokenizer.json").read_bytes())
        (folder / "model/tokenizer_config.json").write_text(json.dumps(SPECIAL), encoding="utf-8")
        added = json.loads((folder / "made/tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
        self.names = {token["id"]: token["content"].encode() for token in added}

    def render(self, template, rows):
        """A text for each row, or the message with which it is refused (which ends a call)."""
        (self.folder / "template.jinja").write_text(template, encoding="utf-8")
        out, todo = [None] * len(rows), list(range(len(rows)))
        while todo:
            (self.folder / "rows.jsonl").write_text("".join(json.dumps(rows[i]) + "\n" for i in todo), encoding="utf-8")
            done = subprocess.run([self.path, "tokenize", "--model", self.folder / "model", "--batch", self.folder / "rows.jsonl",
                                   "--chat-template", self.folder / "template.jinja"], capture_output=True, text=True)
            if done.returncode == 0:
                for i, line in zip(todo, done.stdout.splitlines()):
                    ids = json.loads(line)["tokens"]
                    out[i] = b"".join(self.names.get(token, bytes([token & 255])) for token in ids).decode()
                break
            at = int(re.search(r"rows\.jsonl:(\d+)", done.stderr).group(1)) - 1
            out[todo[at]] = (done.stderr,)
            del todo[at]
        return out


def main():
    counts = dict.fromkeys(("same", "refused by both", "named", "refused", "differ"), 0)
    with tempfile.TemporaryDirectory() as folder:
        program, all_prompts, n = Program(sys.argv[1], Path(folder)), list(prompts()), 0
        for n, (name, template) in enumerate(templates(), 1):
            found = program.render(template, [row for row, _ in all_prompts])
            for (row, settings), ours in zip(all_prompts, found):
                theirs = expected(template, row, settings)
                if isinstance(ours, tuple):
                    named = re.search("not supported|leaves .* out", ours[0])
                    kind = "refused by both" if theirs is None else "named" if named else "refused"
                else:
                    # The byte tokenizer normalises to NFC.
                    kind = "same" if theirs and ours == unicodedata.normalize("NFC", theirs) else "differ"
                counts[kind] += 1
                if kind in ("refused", "differ"):
                    print(name, kind, json.dumps(row)[:200], ours, theirs, sep="\n  ")
        print(n, "templates:", ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    return counts["refused"] + counts["differ"] > 0


if __name__ == "__main__":
    sys.exit(main())
