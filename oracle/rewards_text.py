"""Writes tests/fixtures/rewards_text.json: the rewards length, xml_format and xml_count of completions of our own.

The rules are those of mlx-node (rewards.rs, rewards.ts), written a second time here. The form is that of rewards.json.

    python oracle/rewards_text.py
"""

import json
import os
import random

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
    with open(OUT, "w") as f:
        f.write('{"format": 1, "cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n")
    print(sum(len(c["rows"]) for c in cases), "values in", len(cases), "cases")


main()
