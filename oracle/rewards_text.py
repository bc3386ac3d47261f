"""Writes tests/fixtures/rewards_text.json: the rewards length, xml_format, xml_count, correctness, integer, strict_format, soft_format
and tool_use of completions of our own, and mlx-node's own examples of them.

The rules are those of mlx-node (rewards.rs, rewards.ts), written a second time here. The form is that of rewards.json.

    python oracle/rewards_text.py
"""

import json
import os
import random
import re

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "rewards_text.json")
# What JavaScript's trim takes away.
BLANKS = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))

TEXTS = [
    "", "no tags", "<reasoning>a</reasoning><answer>b</answer>", "<REASONING>a</Reasoning>\n<Answer>b</ANSWER>\n",
    "<reasoning>a</reasoning><answer>b</answer>junk", "<answer>b</answer> \u00a0\u3000x y\U0001f600\u2003\n\ufeff",
    "</answer>abc", "</reasoning><reasoning>", "<reasoning><answer>b</answer>", "<answer>b</answer>c</answer>d",
    "<reasoning>a<answer></reasoning></answer>", "<answer >b</answer>", "<answer>\u00e9</answer>\u00e9\u0085",
    "<answer>b</answer", "<thinking>a</thinking><answer>b</answer>", "<thinking>a</thinking>",
    "<thinking>a<thinking>b</thinking><answer>c</answer>", "<thinking>a</thinking></thinking></answer>",
    "</thinking><thinking><answer><answer></answer></answer>", "<Thinking>a</Thinking><answer>b</answer>",
    "\u65e5\U0001f600" * 12, "\u00e9" * 260, "a\0b</answer>\0c",
] + ["x" * n for n in (1, 49, 50, 51, 499, 500, 501, 777, 1000, 1001, 1500)]

PARTS = ["<answer>", "</answer>", "<reasoning>", "</reasoning>", "<thinking>", "</thinking>", "</ANSWER>", "<", "/", ">",
         " ", "\n", "a", "\u00e9", "\u2003", "\U0001f600", "<x>", "</x>"]


def length(text, min_length=50, max_length=500):
    if len(text) < min_length:
        return len(text) / min_length
    if len(text) > max_length:
        return 1.0 - min((len(text) - max_length) / max_length, 1.0) * 0.5
    return 1.0


def xml_format(text, tags=("thinking", "answer")):
    counts = [(text.count(f"<{tag}>"), text.count(f"</{tag}>")) for tag in tags]
    balanced, unbalanced = sum(a == b > 0 for a, b in counts), sum(a != b for a, b in counts)
    return min(max(balanced / len(tags) - unbalanced * 0.3, 0.0), 1.0)


def xml_count(text):
    low, score = text.lower(), 0.0
    for tag in ("reasoning", "answer"):
        at = low.find(f"<{tag}>")
        score += 0.25 if at >= 0 and low.find(f"</{tag}>", at) >= 0 else 0.0
    end = low.find("</answer>")
    more = text[end + len("</answer>"):].strip(BLANKS) if end >= 0 else ""
    return score - len(more.encode("utf-16-le")) // 2 * 0.001


def parts(text):
    """The answer of <reasoning>..</reasoning><answer>..</answer> or None, and whether the form is loosely or strictly kept."""
    blanks = " \n\r\t\f\v"
    head, opened, rest = text.partition("<reasoning>")
    _, closed, rest = rest.partition("</reasoning>")
    if opened and closed and "<answer>" in rest:
        between, _, rest = rest.partition("<answer>")
        answer, ended, after = rest.partition("</answer>")
        strict = bool(ended) and not (head.strip(blanks) or between.strip(blanks) or after.strip(blanks))
        return answer.strip(BLANKS) if ended else answer.strip(BLANKS) or None, bool(ended), strict
    found = re.search("<answer>(.*?)</answer>", text, re.DOTALL)
    return found and found[1].strip(BLANKS), bool(opened and closed and found), False


def without(text):
    return "".join(c for c in text if c not in BLANKS and c != ",")


def normal(text):
    text = text.strip(BLANKS) if text else ""
    whole = re.fullmatch(r"([-+]?[0-9]+)(\.0+)?", without(text))
    return str(int(whole[1])) if whole else text or None


def correctness(text, answer):
    expected = normal(answer)
    return 2.0 if expected is not None and normal(parts(text)[0]) == expected else 0.0


def integer(text):
    return 0.5 if re.fullmatch(r"[-+]?[0-9]+", without(parts(text)[0] or "")) else 0.0


def soft_format(text):
    return 0.5 if parts(text)[1] else 0.0


def strict_format(text):
    return 0.5 if parts(text)[2] else 0.0


def tool_use(text, tools=("search", "calculate", "code"), optional=False):
    """Of one call in mlx-node's own form."""
    start, end = text.find("<tool_call>"), text.find("</tool_call>")
    if start < 0 and end < 0:
        return 0.5 if optional else 0.0
    if start < 0 or end <= start + len("<tool_call>"):
        return -0.5
    body = text[start + len("<tool_call>"):end]
    name, name_end = body.find("<name>"), body.find("</name>")
    if name < 0 or name_end <= name + 6 or body[name + 6:name_end].strip() not in tools:
        return -0.5
    return 1.0 if "<arguments>" in body and "</arguments>" in body else 0.7


ANSWERS = ["1000", "42", "-7", "+5", "3.0", "3.5", "", " 12 ", "1,234", "yes", "007", "-0", "0", "1e3", "9007199254740993", "3."]
CALLS = [
    "<tool_call><name>search</name><arguments>{\"query\": \"test\"}</arguments></tool_call>", "No tool call here",
    "<tool_call><name>unknown</name></tool_call>", "<tool_call><name>search</name></tool_call>", "<tool_call></tool_call>",
    "</tool_call><tool_call>", "<tool_call><name>code</name>", "</tool_call>", "<tool_call><name></name></tool_call>",
    "<tool_call><name> calculate\n</name><arguments></arguments></tool_call> ok", "<tool_call></name><name>code</tool_call>",
    "so <tool_call>\n<name>code</name>\n<arguments>{}\n</tool_call>", "<tool_call>search</tool_call>", "",
]


def main():
    rng = random.Random(2)
    texts = TEXTS + ["".join(rng.choice(PARTS) for _ in range(rng.randrange(1, 40))) for _ in range(120)]
    cases = []
    for reward, parameters in [
        (length, {}), (length, {"min_length": 5, "max_length": 7}), (length, {"min_length": 20, "max_length": 20}),
        (xml_format, {}), (xml_format, {"tags": ["answer", "reasoning", "x"]}), (xml_format, {"tags": ["answer"]}),
        (xml_count, {}),
    ]:
        rows = [{"completion": text, "value": float(reward(text, **parameters))} for text in texts]
        cases.append({"reward": reward.__name__, "parameters": parameters, "rows": rows})
    forms = ["<reasoning>Compute carefully.</reasoning><answer>%s</answer>", "<reasoning>\nSteps\n</reasoning>\n<answer>\n%s\n</answer>\n",
             "Intro<reasoning>Plan</reasoning><answer>%s</answer>Outro", "<answer>%s</answer>", "<reasoning>a</reasoning><answer>%s",
             "<answer>%s</answer><reasoning>b</reasoning>", "<reasoning>a<answer>%s</answer>", "%s",
             "<reasoning>a</reasoning> so <answer>\u2003%s\u00a0</answer>", "<reasoning></reasoning><answer>1</answer><answer>%s</answer>"]
    stated = ["1,000.0", "42", " 42.00", "- 7", "+5", "3", "3.50", "", "12", "1 234", "Yes", "yes", "7", "0", "-0.0", "1e3", "3.14", "4 2",
              "9007199254740992", "9007199254740993", "3.", "0x10", "\u0663"]
    texts += [form % answer for form in forms for answer in stated]
    for reward in (integer, strict_format, soft_format):
        cases.append({"reward": reward.__name__, "parameters": {}, "rows": [{"completion": t, "value": reward(t)} for t in texts]})
    rows = [{"completion": form % answer, "answer": gold, "value": correctness(form % answer, gold)}
            for form in forms for answer in stated for gold in ANSWERS if gold.strip() and rng.random() < 0.35]
    cases.append({"reward": "correctness", "parameters": {}, "rows": rows})
    for parameters in ({}, {"tools": ["search", "unknown"]}, {"optional": True}):
        cases.append({"reward": "tool_use", "parameters": parameters, "rows": [{"completion": t, "value": tool_use(t, **parameters)} for t in CALLS]})
    with open(OUT, "w") as f:
        f.write('{"format": 1, "cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n")
    print(sum(len(c["rows"]) for c in cases), "values in", len(cases), "cases")


main()
