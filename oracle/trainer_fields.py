"""Writes tests/fixtures/trainer_fields.txt: the fields of TRL's configurations of the trainers beside GRPO and SFT that are not
TrainingArguments' own, with their defaults.

A line is the command, the name, and the default as JSON. docs/TRAINERS.md has a row for each;
tests/house/test_trl_names.sh holds the two and the options together. Written with trl 1.16.0, transformers 5.24.0.

    python oracle/trainer_fields.py
"""

import dataclasses
from pathlib import Path

from transformers import TrainingArguments
from trl import DistillationConfig, DPOConfig, KTOConfig, RewardConfig
from trl.experimental.cpo import CPOConfig
from trl.experimental.orpo import ORPOConfig
from trl_fields import default

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "trainer_fields.txt"
COMMANDS = {"dpo": DPOConfig, "kto": KTOConfig, "orpo": ORPOConfig, "cpo": CPOConfig, "reward": RewardConfig, "distill": DistillationConfig}


def main():
    inherited = {f.name for f in dataclasses.fields(TrainingArguments)}
    lines = ["# Own fields of TRL 1.16.0's trainers: command, name, default. oracle/trainer_fields.py wrote this."]
    for command, config in COMMANDS.items():
        for field in sorted(dataclasses.fields(config), key=lambda f: f.name):
            if field.init and field.name not in inherited:
                lines.append(f"{command} {field.name} {default(field)}")
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
