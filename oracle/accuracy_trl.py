"""Writes tests/fixtures/accuracy_trl.json: completions as models write them, with what TRL's accuracy_reward and
reasoning_accuracy_reward give them, and what is right.

Each completion is an answer in one of FORMS: with a thinking block, without, cut off, with several answers. TRL looks only where
LaTeX stands in \\boxed{} or behind "answer". Where it differs from what is right the case has the reason (why).

    python oracle/accuracy_trl.py
"""

import json
import logging
import os

from trl.rewards import accuracy_reward, reasoning_accuracy_reward

logging.disable(logging.CRITICAL)
OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "accuracy_trl.json")

# (expected, right answer, wrong answer, an answer on the way)
ANSWERS = [
    ("42", "42", "24", "6"), (r"\frac{1}{2}", "0.5", "2", r"\frac{1}{3}"), ("-3", "-3", "3", "5"), (r"2\sqrt{3}", r"\sqrt{12}", r"3\sqrt{2}", "3"),
    ("(1, 2)", "(1,2)", "(2,1)", "1"), ("x = 5", "5", "-5", "7"), (r"\{1, 2\}", r"\{2,1\}", r"\{1\}", "0"), ("[0, 1)", "[0,1)", "[0,1]", "2"),
    (r"x^2+2x+1", r"(x+1)^2", "x^2+1", "x"), (r"50\%", r"50\%", r"5\%", "1"), ("1234", "1,234", "1235", "12"), (r"\text{B}", r"\text{B}", r"\text{C}", "3"),
]

PLAIN = "TRL asks for LaTeX; a number that stands in the text is no answer there"
TAGS = "TRL does not know <answer>"
SEVERAL = "TRL joins boxes within ten characters of one another, and within seventy where a comma or \"or\" stands between, also in prose"

# Name, text (%A the answer, %S one on the way), whether it states the answer, and behind a thinking block; why TRL differs, if it does.
FORMS = [
    ("box", r"Adding up, we get \boxed{%A}.", True, None, None),
    ("box in dollars", r"So the answer is $\boxed{%A}$.", True, None, None),
    ("display", "Hence\n\\[\\boxed{%A}\\]", True, None, None),
    ("final answer", r"Final Answer: The final answer is $%A$. I hope it is correct.", True, None, None),
    ("answer in dollars", r"The answer is $%A$.", True, None, None),
    ("bold answer", "**Answer:** $%A$", True, None, None),
    ("think, box", "<think>\nFirst $%S$, I see.\n</think>\n\nIt is \\boxed{%A}.", True, True, None),
    ("think with a box, box", "<think>\nPerhaps \\boxed{%S}?\n</think>\n\nThe result is \\boxed{%A}.", True, True, None),
    ("think, answer", "<think>\nPerhaps.\n</think>\n\nThe answer is $%A$.", True, True, None),
    ("box, then box", r"At first I had \boxed{%S}, which is wrong since a sign was lost on the way to the end of it. It is \boxed{%A}.", True, None, None),
    ("two thinks", "<think>a</think> \\boxed{%S} <think>no, that was not it at all, I have to begin anew</think> \\boxed{%A}", True, True, SEVERAL),
    ("think without end", "<think>\nPerhaps \\boxed{%A}, or not", True, None, None),
    ("empty think", "<think></think>\\boxed{%A}", True, True, None),
    ("prose around", r"Let us see. The sum of all is $%S$ at the first step. After the second, we have the answer $%A$.", True, None, None),
]

# Whole completions beside them: expected, completion, right, right for reasoning_accuracy, why TRL differs.
OTHERS = [
    ("42", "42", True, False, PLAIN), ("42", "The answer is 42.", True, False, PLAIN), ("42", "#### 42", True, False, PLAIN),
    ("42", "<think>6 times 7</think><answer>42</answer>", True, True, TAGS), ("42", "", False, False, None), ("42", "I do not know.", False, False, None),
    ("42", "<think>It is \\boxed{42}.</think>", True, False, None), ("42", "<think>6 times 7</think> 42", True, True, PLAIN),
    ("42", "\\boxed{41} or \\boxed{42}", False, False, None), ("42", "\\boxed{42}, \\boxed{42}", True, False, None),
    ("41, 42", "\\boxed{41} and \\boxed{42}", True, False, None),
    ("41, 42", "$\\boxed{42}$, $\\boxed{41}$", True, False, None), ("4", "\\boxed{3} no, \\boxed{4}", True, False, SEVERAL),
    ("42", "\\boxed{42", False, False, None), ("42", "\\boxed{}", False, False, None), ("421", "\\boxed{42", False, False, None),
]


def rewards(function, completion, solution):
    return function([[{"role": "assistant", "content": completion}]], [solution])[0]


def main():
    cases = []

    def add(gold, completion, right, reasoned, why, form):
        trl, trl_reasoned = (rewards(f, completion, "$%s$" % gold) for f in (accuracy_reward, reasoning_accuracy_reward))
        differs = trl != float(right) or trl_reasoned != float(reasoned)
        if differs and why is None:
            raise SystemExit(f"{form}: {gold!r} {completion!r}: TRL {trl} {trl_reasoned}, right {right} {reasoned}")
        cases.append({"form": form, "gold": gold, "completion": completion, "trl": trl, "trl_reasoning": trl_reasoned,
                      "right": right, "right_reasoning": reasoned, **({"why": why} if differs else {})})

    for form, text, stated, reasoned, why in FORMS:
        for gold, right, wrong, step in ANSWERS:
            for answer in (right, wrong):
                is_right = stated and answer == right
                add(gold, text.replace("%A", answer).replace("%S", step), is_right, bool(is_right and reasoned), why, form)
    for gold, completion, right, reasoned, why in OTHERS:
        add(gold, completion, right, reasoned, why, "other")
    with open(OUT, "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n")
    print(len(cases), "cases,", sum("why" in case for case in cases), "with a reason")


main()
