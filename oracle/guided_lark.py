"""Random grammars in Lark's notation, and texts that llguidance takes for members or not.

Writes tests/fixtures/guided_lark.jsonl, a line a grammar: {"grammar", "in": texts, "out": texts}. Terminals begin with characters
of their own and have one length, so that it makes no difference that llguidance's lexer takes the longest terminal; texts
begin with nothing that is ignored, which llguidance does not take at the beginning,
and end with none, which it takes where another terminal could follow.
Deterministic. Written with llguidance 1.9.1.

    python oracle/guided_lark.py [GRAMMARS [SEED [FILE]]]
"""

import json
import random
import sys
from pathlib import Path

from llguidance import LLMatcher, LLTokenizer

FILE = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "guided_lark.jsonl"
TEXTS = 20
# Terminals and what each of them can be.
TERMINALS = [('"a"', ["a"]), ('"b"', ["b"]), ('"c"i', ["c", "C"]), ('"d".."f"', ["d", "e", "f"]), ("/[gh]/", ["g", "h"]),
             ('/i./', ["i1", "iü"]), ("NAME", ["Jo", "Ki"]), ("DIGIT", ["0", "7"]), ('"lm"~2', ["lmlm"]),
             ('"é"', ["é"]), ("UP", ["Q", "R", "S"])]
DEFINITIONS = {"NAME": 'NAME: "Jo" | "Ki"', "DIGIT": "%import common.DIGIT", "UP": 'UP: "Q" | LATER\nLATER: "R".."S"'}


class Grammar:
    """Rules as trees, from which both the notation and texts are made."""

    def __init__(self, random):
        self.random = random
        self.ignores = random.random() < 0.4
        self.n_rules = random.randint(1, 4)
        self.rules = [self.tree(3) for _ in range(self.n_rules)]

    def tree(self, depth, behind=False):
        kind = self.random.choice(["terminal"] * 3 + (["join"] * 3 + ["either"] * 2 + ["repeat"] * 2 if depth > 0 else [])
                                  + (["rule"] if behind else []))
        if kind == "terminal":
            return kind, self.random.randrange(len(TERMINALS))
        if kind == "rule":
            return kind, self.random.randrange(self.n_rules)
        if kind == "repeat":
            least = self.random.randint(0, 2)
            form = self.random.choice(["*", "+", "?", "~", "~~", "[]"])
            bounds = {"*": (0, None), "+": (1, None), "?": (0, 1), "~": (least, least), "~~": (least, least + 2),
                      "[]": (0, 1)}[form]
            return kind, form, bounds, self.tree(depth - 1, behind)
        parts = [self.tree(depth - 1, behind)]
        # What stands behind a terminal may be any rule: it cannot begin with itself.
        if kind == "join":
            parts = [("terminal", self.random.randrange(len(TERMINALS)))]
        parts += [self.tree(depth - 1, behind or kind == "join") for _ in range(self.random.randint(1, 2))]
        return kind, parts

    def notation(self):
        used = set()

        def write(tree):
            kind = tree[0]
            if kind == "terminal":
                used.add(TERMINALS[tree[1]][0])
                return TERMINALS[tree[1]][0]
            if kind == "rule":
                return f"r{tree[1]}"
            if kind == "repeat":
                _, form, (least, most), part = tree
                inner = write(part)
                return {"~": f"({inner})~{least}", "~~": f"({inner}){{{least},{most}}}", "[]": f"[{inner}]"}.get(
                    form, f"({inner}){form}")
            return "(" + (" " if kind == "join" else self.random.choice([" | ", "\n    | "])).join(
                write(p) for p in tree[1]) + ")"

        lines = ["start: r0"] + [f"r{i}: {write(tree)}" for i, tree in enumerate(self.rules)]
        lines += [DEFINITIONS[name] for name in sorted(used) if name in DEFINITIONS]
        return "\n".join(lines + ['%ignore " "'] * self.ignores) + "\n"

    def text(self):
        """A member, where none of it is too deep."""
        out = []

        def put(tree, depth):
            if depth > 40 or len(out) > 60:
                raise RecursionError
            kind = tree[0]
            if kind == "terminal":
                if self.ignores and out and self.random.random() < 0.3:
                    out.append(" ")
                out.append(self.random.choice(TERMINALS[tree[1]][1]))
            elif kind == "rule":
                put(self.rules[tree[1]], depth + 1)
            elif kind == "repeat":
                least, most = tree[2]
                for _ in range(self.random.randint(least, least + 2 if most is None else most)):
                    put(tree[3], depth + 1)
            elif kind == "join":
                for part in tree[1]:
                    put(part, depth + 1)
            else:
                put(self.random.choice(tree[1]), depth + 1)

        put(self.rules[0], 0)
        return "".join(out)

    def changed(self, text):
        """One like it, which may be a member and may not."""
        at, other = self.random.randint(0, len(text)), self.random.choice("abcCdgiJoKi07lmé QRSz")
        return self.random.choice([text[:at] + other + text[at:], text[:at] + text[at + 1:], text[:at] + other + text[at + 1:],
                                   text[:at], text + text[:at]]).strip(" ")


def is_member(tokenizer, grammar, text):
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(grammar), log_level=0)
    if matcher.is_error():
        raise ValueError(matcher.get_error())
    for token in tokenizer.tokenize_bytes(text.encode()):
        if not matcher.consume_token(token) or matcher.is_error():
            return False
    return matcher.is_accepting()


def main(n=110, seed=1, file=FILE):
    draw = random.Random(int(seed))
    tokenizer = LLTokenizer("byte")
    lines, members, others = [], 0, 0
    while len(lines) < int(n):
        grammar = Grammar(draw)
        notation = grammar.notation()
        texts = set()
        for _ in range(4 * TEXTS):
            try:
                text = grammar.text()
            except RecursionError:
                continue
            texts.update([text, grammar.changed(text)])
            if len(texts) >= TEXTS:
                break
        try:
            known = {text: is_member(tokenizer, notation, text) for text in sorted(texts)}
        except ValueError as error:  # without end, as "r0: a r0"
            assert "no possible" in str(error) or "productive" in str(error) or "infinite" in str(error), (notation, error)
            continue
        if len(known) < TEXTS // 2:
            continue
        row = {"grammar": notation, "in": [t for t in known if known[t]], "out": [t for t in known if not known[t]]}
        members, others = members + len(row["in"]), others + len(row["out"])
        lines.append(json.dumps(row, ensure_ascii=False))
    Path(file).write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} grammars, {members} members, {others} others")


if __name__ == "__main__":
    main(*sys.argv[1:])
