"""Writes tests/fixtures/estimates.json: pass@k, mean@n, maj@k and their standard errors, by definition.

pass@k of a question is the share, of all choices of k of its completions, that hold one that passes: every choice is
looked at, in exact fractions. maj@k votes in consecutive groups of k. Means and standard errors (sample deviation over
the root of the number) are of the questions' exact numbers, in fractions up to the one square root.

    python oracle/estimates.py
"""

import json
import math
import random
from collections import Counter
from fractions import Fraction
from itertools import combinations
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "estimates.json"


def pass_at(passed, k):
    choices = list(combinations(passed, k))
    return Fraction(sum(any(choice) for choice in choices), len(choices))


def vote(answers):
    """0 is the right answer, -1 none."""
    counts = Counter(a for a in answers if a >= 0)
    if not counts:
        return Fraction(0)
    most = max(counts.values())
    winners = [a for a, n in counts.items() if n == most]
    return Fraction(1, len(winners)) if 0 in winners else Fraction(0)


def maj_at(answers, k):
    groups = [answers[i:i + k] for i in range(0, len(answers) - k + 1, k)]
    return sum(map(vote, groups)) / len(groups)


def over_questions(values):
    n = len(values)
    mean = sum(values) / n
    error = None if n < 2 else math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    return {"n": n, "mean": float(mean), "stderr": error}


def main():
    rng = random.Random(11)
    cases = []
    for index in range(60):
        n, n_questions = rng.choice([1, 2, 3, 5, 8, 12]), rng.choice([1, 2, 7])
        questions = []
        for _ in range(n_questions):
            kinds = rng.choice([1, 2, 3, 6])
            answers = [rng.randrange(-1, kinds) for _ in range(n)]
            names = {-1: -1, 0: 0}  # numbered from 1 in the order of their first place, as the program has them
            for a in answers:
                names.setdefault(a, len(names) - 1)
            questions.append([names[a] for a in answers])
        ks = sorted({1, n, (n + 1) // 2})
        cases.append({
            "questions": questions,
            "pass": {k: over_questions([pass_at([a == 0 for a in q], k) for q in questions]) for k in ks},
            "maj": {k: over_questions([maj_at(q, k) for q in questions]) for k in ks},
            "mean": over_questions([Fraction(q.count(0), n) for q in questions])})
    # Where 1 - C(n - c, k) / C(n, k) by factorials would overflow.
    large = [[n, c, k, float(1 - Fraction(math.comb(n - c, k), math.comb(n, k)))]
             for n, c, k in [(1000, 1, 100), (1000, 10, 100), (65536, 3, 1000), (4096, 4095, 1), (200, 0, 200)]]
    OUT.write_text(json.dumps({"format": 1, "cases": cases, "pass_large": large}) + "\n")


if __name__ == "__main__":
    main()
