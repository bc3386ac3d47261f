"""A tool for cohort grpo --tools python:calculator.py: every public function is one."""


def calculate(expression: str) -> int:
    """Multiplies.

    Args:
        expression: Two whole numbers, as in 12*34
    """
    a, b = expression.split("*")
    return int(a) * int(b)
