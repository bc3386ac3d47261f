"""Writes tests/fixtures/trl_fields.txt: every field of TRL's GRPOConfig, RLOOConfig and ModelConfig with its default.

A line is NAME, the classes that have the field, and the default as JSON (of the first class; where another has another
one, that too). docs/GRPO.md has a row for each; tests/house/test_trl_names.sh holds the two, the options and the hints
together. Written with trl 1.16.0, transformers 5.24.0.

    python oracle/trl_fields.py
"""

import dataclasses
import json
from pathlib import Path

from transformers import TrainingArguments
from trl import GRPOConfig, ModelConfig, RLOOConfig

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "trl_fields.txt"


def default(field):
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "-"
    try:
        return json.dumps(value)
    except TypeError:
        return json.dumps(str(value))


def main():
    inherited = {f.name for f in dataclasses.fields(TrainingArguments)}
    fields = {}
    for cls in (GRPOConfig, RLOOConfig, ModelConfig):
        for field in dataclasses.fields(cls):
            if field.init:
                fields.setdefault(field.name, {})[cls.__name__] = default(field)
    lines = ["# Fields of TRL 1.16.0: name, classes, defaults. oracle/trl_fields.py wrote this."]
    for name in sorted(fields):
        by_class = fields[name]
        classes = list(by_class) + (["TrainingArguments"] if name in inherited else [])
        lines.append(" ".join([name, ",".join(classes), " ".join(dict.fromkeys(by_class.values()))]))
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
