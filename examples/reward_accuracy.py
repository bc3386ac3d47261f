#!/usr/bin/env python3
"""The accuracy reward as a program: cohort grpo --reward "exec:python3 examples/reward_accuracy.py".

The built-in reward "accuracy" with simpler rules: texts, numbers and units, but no lists, choices, mixed numbers or formulas, and none of the
marks that people put around an answer. Of a plain word or number it says the same. Standard library only.

A batch comes as one JSON object a line; the last has "last_of_batch": true. The answer is one line for each: a number, or null where there is nothing to
compare with. (A program need not wait for the last: one that answers line by line, with flush, is as good. See reward_pool.py for one that is fast.)
"""

import json
import re
import sys

BLANK = " \t\n\r\f\v"
RESPELLED = [  # what has one meaning in several spellings
    ("^{\\circ}", "\u00b0"), ("^\\circ", "\u00b0"), ("{,}", ","), ("\\!", ""), ("\\$", "$"), ("\\%", "%"), ("\\ ", " "), ("\\;", " "), ("\\:", " "),
    ("~", " "), ("\u00a0", " "), ("\u2212", "-"), ("\u202f", " "),
]
COMMANDS = [("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\left", ""), ("\\right", "")]
BOXES = ("\\text{", "\\mathrm{", "\\textbf{")
WRAPPERS = [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`")]
NO_UNITS = set(
    "thousand thousands million millions billion billions trillion trillions hundred hundreds dozen dozens half halves third thirds quarter quarters fourth "
    "fourths fifth fifths sixth sixths eighth eighths tenth tenths hundredth hundredths thousandth thousandths pi tau sqrt mod or and to plus minus times "
    "over squared cubed factorial is not but if sin cos tan log ln exp".split())
ATTACHED = {"%", "\u00b0", "\u00b0C", "\u00b0F", "mm", "cm", "km", "mg", "kg", "ml", "ms", "min"}
SYMBOLS = {"dollar": "$", "usd": "$", "percent": "%", "euro": "\u20ac", "pound": "\u00a3", "degree": "\u00b0"}
PRODUCT = re.compile(r"(?<=[A-Za-z]) ?\* ?(?=[A-Za-z])")  # a*b is ab
DECIMAL = re.compile(r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)?(?:\.[0-9]*)?(?:[eE](?=[-+0-9])([-+]?)([0-9]*))?")


# ---- where the answer is


def boxed(text):
    """The content of the last complete \\boxed{...}, or None."""
    end = len(text)
    while (found := text.rfind("\\boxed", 0, end)) >= 0:
        at = found + len("\\boxed")
        while at < end and text[at] in BLANK:
            at += 1
        start, depth = at, 0
        while at < len(text) and text[start] == "{":
            if text[at] == "\\":
                at += 1  # \{ and \} are characters
            elif text[at] == "{":
                depth += 1
            elif text[at] == "}":
                depth -= 1
                if depth == 0:
                    return text[start + 1:at].strip(BLANK)
            at += 1
        end = found
        text = text[:found]
    return None


def after_hashes(text):
    found = text.rfind("####")
    return None if found < 0 else text[found + 4:].split("\n", 1)[0].strip(BLANK)


def after_answer_is(text):
    found = [m.start() for m in re.finditer("(?=answer is)", text, re.IGNORECASE | re.ASCII)]
    if not found:
        return None
    rest = text[found[-1] + len("answer is"):]
    rest = (rest[1:] if rest.startswith(":") else rest).strip(BLANK)
    return re.split(r"\n|\.(?=[ \t\n\r\f\v])", rest, maxsplit=1)[0].strip(BLANK)


def completion_answer(text):
    before, close, after = text.rpartition("</think>")
    if close:
        text = after if after.strip(BLANK) else before
    for rule in (boxed, after_hashes, after_answer_is):
        answer = rule(text)
        if answer is not None:
            return answer
    return text.strip(BLANK)


def expected_answer(row):
    """The row's answer as text, or None where it has none."""
    if "answer" not in row and "solution" not in row:
        sys.exit("reward_accuracy.py: a row has no column 'answer' (or 'solution'); add it to the data, null where there is none")
    value = row["answer"] if "answer" in row else row["solution"]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        sys.exit("reward_accuracy.py: column 'answer' must be a text, a number or null")
    if not isinstance(value, str):
        return repr(value)
    answer = boxed(value)
    if answer is None:
        answer = after_hashes(value)
    return (value.strip(BLANK) if answer is None else answer) or None


# ---- when two answers are the same


def strip(text):
    again = True
    while again:
        again = False
        text = text.strip(BLANK)
        if len(text) > 1 and text[-1] == "." and text[-2] != ".":
            text, again = text[:-1], True
        if again:
            continue
        for opening, closing in WRAPPERS:
            inner = text[len(opening):-len(closing)]
            if inner and text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing) and closing not in inner:
                text, again = inner, True
                break
    return text


def respell(text):
    out, boxes, at = "", [], 0
    while at < len(text):
        rest = text[at:]
        found = next(((a, b) for a, b in RESPELLED if rest.startswith(a)), None)
        found = found or next(((a, b) for a, b in COMMANDS if rest.startswith(a) and not re.match("[A-Za-z]", rest[len(a):])), None)
        box = next((b for b in BOXES if rest.startswith(b)), None)
        last = out[-1:] or " "
        if found:
            if found[1] != " " or last != " ":
                out += found[1]
            at += len(found[0])
        elif rest.startswith("\\,"):  # between digits it groups them, elsewhere it is a blank
            at += 2
            if not (last in "0123456789" and rest[2:3] in set("0123456789")) and last != " ":
                out += " "
        elif box and len(boxes) < 31:
            boxes.append(True)
            out += "" if last == " " else " "
            at += len(box)
        elif rest[0] in BLANK:
            out += "" if last == " " else " "
            at += 1
        elif rest[0] == "}" and boxes and boxes[-1]:
            boxes.pop()
            at += 1
        else:
            if rest[0] == "{" and len(boxes) < 31:
                boxes.append(False)
            elif rest[0] == "}" and boxes:
                boxes.pop()
            out += rest[0]
            at += 1
    return out


def decimal(text):
    """(value, what follows), or None."""
    match = DECIMAL.match(text)
    whole = match.group()
    if not re.match(r"[0-9]|\.[0-9]", whole):
        return None
    rest = text[match.end():]
    if rest[:1] == "," and rest[1:2].isascii() and rest[1:2].isdigit() and not re.search("[.eE]", whole):
        return None  # 1,23 or 1,2345
    mantissa, exponent = whole, 0
    if match.group(2) is not None:
        if not 1 <= len(match.group(2)) <= 6:
            return None
        mantissa, exponent = re.split("[eE]", whole)[0], int(match.group(1) + match.group(2))
    mantissa = mantissa.replace(",", "")
    whole, _, fraction = mantissa.partition(".")
    if len((whole + fraction).lstrip("0")) > 256:
        return None
    return scaled(int((whole + fraction) or "0"), exponent - len(fraction)), rest


def scaled(digits, exponent):
    """digits * 10^exponent, kept apart: the exponent may have six digits. Zero is (0, 0)."""
    while digits and digits % 10 == 0:
        digits, exponent = digits // 10, exponent + 1
    return (digits, exponent) if digits else (0, 0)


def power(text, value):
    match = re.match(r" ?(?:\\times|\\cdot|\*|x|\u00d7|\u00b7) ?10\^(\{?)([-+]?[0-9]*)", text)
    if not match:
        return value, text
    digits = match.group(2).lstrip("+-")
    rest = text[match.end():]
    if not 1 <= len(digits) <= 6 or (match.group(1) and not rest.startswith("}")):
        return None
    return scaled(value[0], value[1] + int(match.group(2))), rest[len(match.group(1)):]


def argument(text):
    """{decimal} or one digit after \\frac: (negative, value, rest)."""
    text = text[1:] if text.startswith(" ") else text
    if re.match("[0-9]", text):
        return False, (scaled(int(text[0]), 0)), text[1:]
    match = re.match(r"\{ ?([-+]?)", text)
    if not match:
        return None
    found = decimal(text[match.end():])
    if found is None:
        return None
    rest = found[1][1:] if found[1].startswith(" ") else found[1]
    return (match.group(1) == "-", found[0], rest[1:]) if rest.startswith("}") else None


def unit_word(word):
    match = re.match("[A-Za-z](?:[A-Za-z]|/(?=.))*", word, re.DOTALL)
    if not match or match.group().lower() in NO_UNITS:
        return False
    if len(match.group()) == 1 and match.group() not in "mgshlL":
        return False
    return word[match.end():] in ("", "^2", "^3", "\u00b2", "\u00b3")


def unit(text, currency):
    """The unit of a number's rest, or None if it is none."""
    spaced = text.startswith(" ")
    text = text[1:] if spaced else text
    if not text:
        return currency
    if len(text.encode()) >= 48 or (currency and not spaced):
        return None
    good = text in ATTACHED
    if spaced and not good:
        first, blank, second = text.partition(" ")
        good = unit_word(first) and (not blank or unit_word(second))
    return (currency or text) if good else None


def number(text):
    """(negative, (over, exponent), (under, exponent), unit), or None."""
    currency, negative = "", False
    for again in (False, True):
        match = re.match("([$\u20ac\u00a3]) ?", text)
        if match and not currency:
            currency, text = match.group(1), text[match.end():]
        if not again:
            match = re.match("([-+]) ?", text)
            if not match:
                break
            negative, text = match.group(1) == "-", text[match.end():]
    under = (1, 0)
    if text.startswith("\\frac") and not re.match("[A-Za-z]", text[5:]):
        top = argument(text[5:])
        bottom = top and argument(top[2])
        if not bottom:
            return None
        negative ^= top[0] ^ bottom[0]
        over, under, text = top[1], bottom[1], bottom[2]
    else:
        found = decimal(text)
        if found is None:
            return None
        over, text = found
        slash = re.match(" ?/ ?", text)
        found = decimal(text[slash.end():]) if slash else power(text, over)
        if found is None:
            return None
        if slash:
            under, text = found
        else:
            over, text = found
    if under[0] == 0:
        return None
    name = unit(text, currency)
    return None if name is None else (negative and over[0] != 0, over, under, name)


def same_unit(a, b):
    def plain(name):
        name = name[:-1] if len(name.encode()) > 2 and name.endswith("s") else name
        return SYMBOLS.get(name.lower(), name)
    return not a or not b or plain(a) == plain(b)


def same_value(a, b):
    if a[0] != b[0]:
        return False
    (x, p), (xu, pu), (y, q), (yu, qu) = a[1], a[2], b[1], b[2]
    if (xu, pu) == (yu, qu):
        return (x, p) == (y, q)
    if x == 0 or y == 0:
        return x == y
    if len(str(x)) + len(str(yu)) <= 37 and len(str(y)) + len(str(xu)) <= 37:
        return scaled(x * yu, p + qu) == scaled(y * xu, q + pu)
    try:
        left, right = (float(f"{x}e{p}") / float(f"{xu}e{pu}"), float(f"{y}e{q}") / float(f"{yu}e{qu}"))
    except ZeroDivisionError:
        return False
    return abs(left - right) <= 1e-9 * max(abs(left), abs(right)) and abs(left) != float("inf") and abs(right) != float("inf")


def side(text):
    """("x", "5") of "x = 5", ("", text) of anything else."""
    match = re.match(r"([A-Za-z][A-Za-z0-9_]*) ?= ?([^=]+)\Z", text, re.DOTALL)
    return (match.group(1), match.group(2)) if match else ("", text)


def same_text(a, b):
    """Words may differ in the case of their letters, single letters may not: they are names of choices and variables."""
    return a == b or (len(a) > 1 and re.fullmatch("[A-Za-z ]+", a) is not None and a.lower() == b.lower())


def equal(a, b):
    a, b = (PRODUCT.sub("", strip(respell(strip(x)))) for x in (a, b))
    if not a or not b:
        return False
    if same_text(a, b):
        return True
    (left, a), (other, b) = side(a), side(b)
    if left and other and left != other:
        return False
    if same_text(a, b):
        return True
    x, y = number(a), number(b)
    return x is not None and y is not None and same_unit(x[3], y[3]) and same_value(x, y)


def score(row):
    expected = expected_answer(row)
    if expected is None:
        return None
    answer = completion_answer(row["completion"])
    return 1 if answer and equal(answer, expected) else 0


def batches(lines):
    batch = []
    for line in lines:
        batch.append(json.loads(line))
        if batch[-1].get("last_of_batch"):
            yield batch
            batch = []


def main():
    for batch in batches(sys.stdin):
        sys.stdout.write("".join(json.dumps(score(row)) + "\n" for row in batch))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
