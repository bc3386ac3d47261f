"""What transformers and mistral-common read in completions: tests/fixtures/chat/responses.jsonl.

Completions of our own, in the forms of Qwen3 (Hermes), Qwen3.5 (XML) and Llama 3, are parsed by transformers with TRL's
response templates and the tools' schemas; calls in the forms of Mistral's tokenizers v2, v3, v7 and v11 are written by
mistral-common, and its own decoder must read them back. The first line has the
tools; a row: form, text, in_thinking (the prompt opened the thinking), and thinking, content, calls as they read them.

    python oracle/responses.py
"""
import ast
import itertools
import json
import tempfile
from pathlib import Path

import mistral_common
import trl
from mistral_common.experimental import tools as mistral_tools
from mistral_common.protocol.instruct.messages import AssistantMessage
from mistral_common.protocol.instruct.tool_calls import FunctionCall, ToolCall
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from transformers.utils.chat_parsing import parse_response

OUT = Path(__file__).resolve().parent.parent / "tests/fixtures/chat/responses.jsonl"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {
    "i": {"type": "integer"}, "n": {"type": "number"}, "s": {"type": "string"}, "b": {"type": "boolean"},
    "o": {"type": "object"}, "a": {"type": "array"}, "m": {"type": ["integer", "string"]},
    "u": {"anyOf": [{"type": "boolean"}, {"type": "array"}]}, "z": {"type": "integer", "nullable": True}}}}}]
ARGUMENTS = [{}, {"i": 7}, {"s": "x y"}, {"n": 2.5, "b": True}, {"o": {"k": [1, None, "é"]}, "a": [1, "2"]},
             {"s": "line\nline"}, {"s": "quote \" and \\ and <b>"}, {"i": -3, "s": "你好 👋"}, {"m": 4, "u": False, "z": None}]
THINKING = [None, "hm", "first\n\nsecond", "a < b && c"]
CONTENT = ["", "Let me see.", "One.\nTwo.", "naïve ½"]


def response_templates():
    """TRL's dictionaries, without the module's imports (torch)."""
    names = {"_SUPPORTS_PARSE_RESPONSE_TOOLS": True}
    source = (Path(trl.__file__).parent / "chat_template_utils.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and node.targets[0].id in (
                "_XML_INLINE_VALUE_PARSER", "qwen3_template", "qwen3_5_template", "llama3_template"):
            exec(compile(ast.Module([node], []), "trl", "exec"), names)
    return names


def xml_value(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write_call(form, name, arguments):
    if form == "hermes":
        return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments, ensure_ascii=False)}}}\n</tool_call>'
    if form == "xml":
        inner = "".join(f"<parameter={k}>\n{xml_value(v)}\n</parameter>\n" for k, v in arguments.items())
        return f"<tool_call>\n<function={name}>\n{inner}</function>\n</tool_call>"
    return f'{{"name": "{name}", "parameters": {json.dumps(arguments, ensure_ascii=False)}}}'


def transformers_rows():
    templates = response_templates()
    parts = {"hermes": (templates["qwen3_template"], "<|im_start|>assistant\n", "<|im_end|>"),
             "xml": (templates["qwen3_5_template"], "<|im_start|>assistant\n", "<|im_end|>"),
             "llama": (templates["llama3_template"], "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>")}
    for form, (template, header, end) in parts.items():
        for number, (thinking, content, n_calls) in enumerate(itertools.product(THINKING, CONTENT, (0, 1, 2))):
            if form == "llama" and (n_calls == 2 or thinking is not None):
                continue
            calls = [write_call(form, "f", ARGUMENTS[(number + k) % len(ARGUMENTS)]) for k in range(n_calls)]
            in_thinking = thinking is not None and number % 2 == 1
            text = "" if thinking is None else f"{'' if in_thinking else '<think>'}\n{thinking}\n</think>\n\n"
            text += content + ("\n" if content and calls else "") + "\n".join(calls)
            prefix = header + ("<think>" if in_thinking else "")
            found = parse_response(text + end, template, prefix=prefix, tools=TOOLS)
            yield {"form": form, "text": text, "in_thinking": in_thinking,
                   "thinking": found.get("reasoning_content") or "", "content": found.get("content") or "",
                   "calls": [call["function"] for call in found.get("tool_calls", [])]}


def spell(instruct, ids):
    """The text of ids, control tokens by their names."""
    tokenizer, out = instruct.tokenizer, ""
    for special, group in itertools.groupby(ids, key=tokenizer.is_special):
        group = list(group)
        out += "".join(map(tokenizer.id_to_piece, group)) if special else tokenizer.decode(group)
    return out


def mistral_v11():
    """A v11 tokenizer: none is in the package, so that of v3 under another version and with the tokens of v11."""
    source = Path(mistral_common.__file__).parent / "data/tekken_240911.json"
    content = json.loads(source.read_text(encoding="utf-8"))
    content["config"]["version"] = "v11"
    names = [token["token_str"] for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS] + ["[ARGS]", "[CALL_ID]"]
    content["special_tokens"] = [{"rank": rank, "token_str": name, "is_control": True} for rank, name in enumerate(names)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tekken.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return MistralTokenizer.from_file(str(path))


def mistral_rows():
    tokenizers = {"v2": MistralTokenizer.v2(), "v3": MistralTokenizer.v3(), "v7": MistralTokenizer.v7(),
                  "v11": mistral_v11()}
    for version, tokenizer in tokenizers.items():
        instruct = tokenizer.instruct_tokenizer
        for number, content in enumerate(("", "Let me see.")):
            if content and version in ("v2", "v3"):
                continue  # there a message has content or calls
            for n_calls in (1, 2):
                calls = [ToolCall(id=f"call{number}{k:04d}", function=FunctionCall(name="f", arguments=json.dumps(a)))
                         for k, a in enumerate(ARGUMENTS[:n_calls] + ARGUMENTS[-n_calls:])]
                message = AssistantMessage(content=content or None, tool_calls=calls)
                ids = instruct.encode_assistant_message(message, False)[:-1]
                split = ids.index(instruct.TOOL_CALLS)
                if version == "v11":
                    groups = mistral_tools._split_content_and_tool_calls(ids, instruct.TOOL_CALLS)[1]
                    decode = mistral_tools._decode_tool_call_v11_with_call_id if instruct.CALL_ID in ids else mistral_tools._decode_tool_call_v11
                    read = [decode(group[1:], instruct.tokenizer) for group in groups]
                else:
                    read = mistral_tools._decode_tool_calls_v2_up_to_v7(ids[split:], instruct.tokenizer)
                yield {"form": "mistral", "text": spell(instruct, ids), "in_thinking": False, "thinking": "",
                       "content": content,
                       "calls": [{"name": c.function.name, "arguments": json.loads(c.function.arguments)} for c in read]}


def main():
    rows = [{"tools": TOOLS}] + list(transformers_rows()) + list(mistral_rows())
    OUT.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(len(rows) - 1, "completions")


if __name__ == "__main__":
    main()
