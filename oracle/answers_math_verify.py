"""Writes tests/fixtures/answers.json: pairs of an expected answer and a completion, and what others say of them.

math_verify: verify(parse("$gold$"), parse(completion)); trl: trl.rewards.accuracy_reward; is_equiv: the comparison of Hendrycks et al.,
"Measuring Mathematical Problem Solving With the MATH Dataset" (written anew here from its published rules), of the answer as it
was put into the completion.

    python oracle/answers_math_verify.py
"""

import json
import logging
import os

from math_verify import parse, verify
from trl.rewards import accuracy_reward

logging.disable(logging.CRITICAL)
OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "answers.json")


# ---- hendrycks is_equiv


def fix_fracs(text):
    parts = text.split("\\frac")
    out = parts[0]
    for part in parts[1:]:
        out += "\\frac"
        if part and part[0] == "{":
            out += part
        elif len(part) < 2:
            return text
        elif part[1] != "{":
            out += "{" + part[0] + "}{" + part[1] + "}" + part[2:]
        else:
            out += "{" + part[0] + "}" + part[1:]
    return out


def fix_slash(text):
    parts = text.split("/")
    if len(parts) != 2:
        return text
    try:
        a, b = int(parts[0]), int(parts[1])
    except ValueError:
        return text
    return "\\frac{%d}{%d}" % (a, b) if text == "%d/%d" % (a, b) else text


def fix_sqrt(text):
    parts = text.split("\\sqrt")
    out = parts[0]
    for part in parts[1:]:
        out += "\\sqrt" + (part if not part or part[0] == "{" else "{" + part[0] + "}" + part[1:])
    return out


def strip_string(text):
    for old, new in [("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", ""),
                     ("^{\\circ}", ""), ("^\\circ", ""), ("\\$", "")]:
        text = text.replace(old, new)
    if "\\text{ " in text:
        text = text.split("\\text{ ")[0]
    text = text.replace("\\%", "").replace("%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text[0] == ".":
        text = "0" + text
    if len(text.split("=")) == 2 and len(text.split("=")[0]) <= 2:
        text = text.split("=")[1]
    text = fix_fracs(fix_sqrt(text).replace(" ", ""))
    return "\\frac{1}{2}" if text == "0.5" else fix_slash(text)


def is_equiv(a, b):
    return strip_string(a) == strip_string(b)


# ---- pairs

# Spellings of one answer, the expected one first. Every one is asked after in the statement that comes next in STATEMENTS.
SAME = r"""
42 | 42. | $42$ | 42.0 | +42 | 042 | \text{42} | \mathbf{42} | 42, | \displaystyle 42 | (42) | x = 42 | x=42 | \boxed{42}
1234 | 1,234 | 1{,}234 | 1\,234 | 1,\!234 | 1234.00 | 1234.
1234567 | 1,234,567 | 1\,234\,567 | 1{,}234{,}567
-7 | - 7 | -7.0 | x=-7
0.5 | .5 | \frac{1}{2} | \frac12 | \dfrac{1}{2} | \tfrac12 | 1/2 | 0.50 | \frac{2}{4} | 50\%
\frac{1}{2} | 1/2 | \dfrac12 | \frac{ 1 }{ 2 } | 0.5 | \left(\frac12\right) | \frac 12
-\frac{3}{4} | \frac{-3}{4} | -3/4 | -0.75 | -\dfrac34 | - \frac{3}{4}
2.5 | 2\frac{1}{2} | 2\frac12 | 2\dfrac{1}{2} | \frac{5}{2} | 5/2 | 2.50
\frac{5}{2} | 2\frac{1}{2} | 2.5 | \frac52
-1\frac{1}{3} | -\frac{4}{3} | -4/3
50 | 50\% | 50\text{ cm} | 50 \text{ dollars} | \$50 | 50^\circ | 50^{\circ} | 50\ \text{cm} | 50~\text{m}
90^\circ | 90 | 90^{\circ} | 90\text{ degrees} | 90\degree
\$3.50 | 3.50 | \$3.5 | 3.5
15\% | 15 | 15 \% | 0.15
1500 | 1.5 \times 10^3 | 1.5 \cdot 10^{3} | 1,500 | 1.5\times10^{3}
0.002 | 2 \times 10^{-3} | \frac{2}{1000} | \frac{1}{500}
(1, 2) | (1,2) | \left(1,2\right) | \left( 1, 2 \right) | (1,\,2) | (1, \ 2) | (1.0, 2) | (1,\! 2)
(3, \frac{\pi}{2}) | \left( 3, \frac{\pi}{2} \right) | (3,\dfrac{\pi}{2}) | (3,\pi/2)
(-\infty, 2] | (-\infty,2] | \left(-\infty,2\right] | \left( -\infty, 2 \right] | x \in (-\infty, 2]
[0, 1) | [0,1) | \left[0,1\right) | [0, 1.0) | x\in[0,1)
\{1, 2, 3\} | \{1,2,3\} | \left\{1,2,3\right\} | \{ 1, 2, 3 \} | \{3,2,1\} | \lbrace 1,2,3\rbrace
1, -2 | 1,-2 | -2, 1 | 1, \ -2 | 1 \text{ and } -2 | x=1, x=-2 | 1, \text{ and } -2 | -2,1
1,2,3 | 1, 2, 3 | 1, 2, \text{ and } 3 | 1,\ 2,\ 3
2\sqrt{3} | 2 \sqrt{3} | 2\sqrt3 | 2\cdot\sqrt{3} | 2\,\sqrt{3} | x=2\sqrt{3}
\sqrt{2} | \sqrt2 | \sqrt 2 | \sqrt{ 2 }
\frac{\sqrt{3}}{2} | \dfrac{\sqrt{3}}{2} | \frac{\sqrt3}{2} | \sqrt{3}/2 | \tfrac{\sqrt{3}}2
\sqrt[3]{2} | \sqrt[3]2 | \sqrt[3]{ 2 }
2\pi | 2 \pi | 2\cdot\pi | 2\,\pi
\frac{\pi}{2} | \dfrac{\pi}{2} | \pi/2 | \frac\pi2 | \frac{\pi}2
\frac{2\pi}{3} | 2\pi/3 | \dfrac{2\pi}{3} | \frac{2 \pi}{3}
x^2 + 2x + 1 | x^2+2x+1 | x^{2}+2x+1 | x^2 + 2 x + 1 | y = x^2+2x+1
y = 2x + 1 | y=2x+1 | 2x+1 | y = 2 x + 1
x^{10} | x^{10} | x^{ 10 }
\frac{x+1}{2} | \dfrac{x+1}{2} | \frac{x + 1}{2} | \tfrac{x+1}2
10^{-3} | 10^{-3} | 10^{ -3 }
E | (E) | \text{E} | \text{(E)} | \textbf{(E)} | \mathrm{E} | \textbf{E} | \mathbf{(E)}
\text{(C)} | C | (C) | \text{C} | \textbf{(C)}
\text{yes} | \text{yes} | \text{ yes} | \mathrm{yes}
\text{east} | \text{east} | \mathrm{east} | \text{ east }
10\text{ cm} | 10 | 10\text{ cm} | 10 \text{ cm} | 10\,\text{cm}
5\text{ cm}^2 | 5 | 5\text{ cm}^2 | 5 \text{ cm}^{2}
\begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix} 1 \\2 \end{pmatrix}
x \le 3 | x\leq 3 | x \leq 3 | x\le3
(-\infty,1)\cup(2,\infty) | (-\infty, 1) \cup (2, \infty) | \left(-\infty,1\right)\cup\left(2,\infty\right)
3+4i | 3 + 4i | 3+4 i
0 | 0.0 | -0 | 0.00 | \frac{0}{5}
101_2 | 101_2 | 101_{2}
9007199254740993 | 9007199254740993 | 9,007,199,254,740,993
1000000 | 10^6 | 1{,}000{,}000 | 1 \times 10^6
\frac{1}{3} | 1/3 | \frac13 | \frac{2}{6}
e^{2x} | e^{2x} | e^{ 2x } | e^{2 x}
\ln 2 | \ln2 | \ln{2} | \ln 2
n! | n!
"""

# Different answers: the expected one first, the others are not it.
OTHER = r"""
\frac{1}{2} | \frac{1}{3} | 1/3 | 2 | \frac{2}{1} | 0.05 | -\frac12 | 12 | 0.2 | (1,2) | 1,2
1234 | 12,34 | 1,23,4 | 123 | 12345 | 1.234 | (1,234)
1/3 | 0.333 | 0.33 | 3 | 0.3333333
42 | 43 | -42 | 4.2 | 24 | 42x | 42!  | 42^2 | 4 2 | 42 \text{ million} | 42, 43 | (4, 2) | 142
2\frac{1}{2} | 1 | 2 | \frac12 | 21/2 | \frac{3}{2} | 2.2
2.5 | 25 | 2\frac{1}{5} | 2\frac13 | 5
-7 | 7 | --7 | +7 | -70
0 | 1 | \emptyset | 10 | O
\frac{1}{2004!} | \frac{1}{2006!} | \frac{1}{2004}
\pm 2021 | 2021 | -2021
12:00 | 1:00 | 2:00
n=2,3,4 | n=1,2,3 | n=2,3 | 2
4 | 4\sqrt{2} | \sqrt{4}+1 | 4\pi | 44 | 4^2
19, 46, \text{ and } 82 | 21, 36, and 82 | 19, 46 | 19
(1, 2) | (2, 1) | (1, 3) | (1, 2, 3) | (12) | [1, 3] | (-1, 2) | 12
[0, 1) | [0, 2) | (0, 2) | [1, 0) | [0, 10)
\{1, 2\} | \{1, 3\} | \{1\} | \{1,2,3\} | (2, 1) | \{12\}
1, 2 | 1 | 2 | 1, 3 | 1, 2, 3 | 3 | 1.2
E | D | (D) | \text{(A)} | F | \text{(D)} | AE
C | (A) \text{ and } (C) | A, C | \text{(B)} | CD
\text{yes} | \text{no} | \text{yesterday}
2\sqrt{3} | 2\sqrt{2} | 3\sqrt{2} | 2\cdot 3 | \sqrt{3} | 23 | 2\sqrt{33} | 2\sqrt[3]{3}
2\pi | \pi | 2 | 2\pi^2 | 3\pi | \frac{2}{\pi} | 2\phi
\frac{\pi}{2} | \frac{\pi}{3} | \frac{2}{\pi} | \pi | 2\pi | \frac{1}{2}
x^2 + 2x + 1 | x^2+2x-1 | x^2+2x | x^{21}+1 | x^3+2x+1 | x2+2x+1
y = 2x + 1 | y = 2x - 1 | y = 2x | 1
5\text{ cm} | 6\text{ cm} | 55
50\% | 5 | 0.05 | 500 | 5000
90^\circ | 9 | 45^\circ | 80
1500 | 1.5 | 1.5 \times 10^2 | 150 | 15
x \le 3 | x \le 4 | x > 3 | x \ge 4
101_2 | 101_3 | 111_2 | 1012
(-\infty, 2] | (-\infty, 3] | (\infty, 2] | [2, -\infty)
3+4i | 3-4i | 4+3i | 7
10^{-3} | 10^{3} | 103 | 10-3
x^{12} | x^1 | x^{1}2+1 | x^{21}
\frac{x+1}{2} | \frac{x-1}{2} | \frac{x}{2}+1
1000000 | 100000 | 10^5 | 10
"""

STATEMENTS = [
    "So we get \\boxed{%s}.",
    "Therefore, the final answer is: $\\boxed{%s}$. I hope it is correct.",
    "<think>Perhaps \\boxed{-999}?</think>\n\nWe have $$\\boxed{%s}$$",
    "Hence \\[\\boxed{%s}\\]",
    "Adding up.\n\n**Final Answer**\n\n$$\\boxed{%s}$$",
]

# Ways to state an answer without \boxed{}; gold, completion.
STATED = r"""
42 | The answer is 42.
42 | The answer is $42$.
42 | the answer is: 42
42 | The final answer is **42**.
42 | **Answer:** 42
42 | **Answer: 42**
42 | Answer: **42**
42 | **Final Answer:** $42$
42 | Final Answer: The final answer is $42$. I hope it is correct.
42 | ### Final Answer\n\n42
42 | **Final Answer**\n\n$$42$$
42 | **Answer**\n\n42
42 | The answer is 42, altogether.
42 | The answer is 42 apples.
42 | The answer is 42 because 6 times 7 is 42.
42 | So the answer is therefore 42.
42 | The answer to the question is 42.
42 | The answer to this problem is $42$, as shown above.
42 | ANSWER: 42
42 | Answer = 42
42 | The answer is $x = 42$.
42 | The answer is 6 * 7 = 42.
42 | Adding up:\n#### 42
42 | Adding up:\n#### 42,
42 | #### $42
42 | We get\n6 * 7\n= 42
42 | Therefore,\n$$x = 42$$
42 | So x = 42.
42 | Thus, the total is **42**.
42 | Thus, the total is $42$.
42 | Thus, the total is \(42\).
42 | <think>6 times 7</think><answer>42</answer>
42 | <think>6 times 7</think>\n<answer> \boxed{42} </answer>
42 | <answer>The answer is 42</answer>
42 | so \fbox{42}
42 | so $\boxed 42$
42 | so $\boxed{\text{42}}$
42 | so $\boxed{x=42}$ where $x$ is it
42 | \boxed{42
43 | The answer is 42.
43 | **Answer:** 42
43 | The answer is 42, not 43.
43 | <think>43</think><answer>42</answer>
43 | Adding up:\n#### 42
43 | We get\n= 42
43 | Thus, the total is $42$.
43 | so \fbox{42}
43 | The answer is 42 because 43 is too large.
1234 | The answer is 1,234.
1234 | The answer is $1,234.
3.5 | The answer is 3.5.
3.5 | The answer is 3.5
E | The answer is (E).
E | The correct answer is E.
E | Answer: E
E | **Answer: (E)**
E | The correct answer is **E**.
E | The answer is option E.
D | The answer is (E).
D | Answer: E
D | The correct answer is **E**.
\frac{1}{2} | The answer is $\frac{1}{2}$.
\frac{1}{2} | The answer is \(\frac12\).
\frac{1}{3} | The answer is $\frac{1}{2}$.
(1, 2) | The answer is $(1,2)$.
(1, 2) | The final answer is $\left(1, 2\right)$.
(1, 2) | The final answer is $\left(1, 3\right)$.
"""


def rows(text):
    for line in text.strip().split("\n"):
        yield [part.strip() for part in line.split(" | ")]


def completion_of(answer, turn):
    statement = STATEMENTS[turn % len(STATEMENTS)]
    answer = answer.removeprefix("$").removesuffix("$") if "$" in answer and "\\$" not in answer else answer
    return statement % answer


def pairs():
    turn = 0
    for gold, *others in [*rows(SAME), *rows(OTHER)]:
        for other in ([gold] if gold else []) + others:
            yield gold, completion_of(other, turn), other
            turn += 1
    for gold, completion in rows(STATED):
        yield gold, completion.replace("\\n", "\n"), None


def main():
    out = []
    for gold, completion, answer in pairs():
        seen = {"gold": gold, "completion": completion}
        seen["math_verify"] = bool(verify(parse("$%s$" % gold), parse(completion)))
        seen["trl"] = accuracy_reward([[{"role": "assistant", "content": completion}]], ["$%s$" % gold])[0]
        seen["is_equiv"] = None if answer is None else is_equiv(gold, answer.strip("$") if not answer.startswith("\\$") else answer)
        out.append(seen)
    with open(OUT, "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(pair, ensure_ascii=False) for pair in out) + "\n]\n")
    print(len(out), "pairs")


if __name__ == "__main__":
    main()
