"""Writes tests/fixtures/yaml_scalars.json: what a YAML file of options means to TRL.

Each row is a scalar as it stands in the file and the value that a field of type int, float and bool gets: PyYAML's safe_load
resolves the scalar, then argparse's set_defaults (as TrlParser has it) hands strings to the type of the field
(transformers.hf_argparser.string_to_bool for bool) and takes other values as they are. null: an error, or a value that is not of
the field's type (8.0 for an int), or not finite, or an integer for a bool that is not written 0 or 1.

    python oracle/yaml_scalars.py
"""

import argparse
import itertools
import json
import math
import pathlib

import yaml
from transformers.hf_argparser import string_to_bool

WORDS = ["yes", "no", "true", "false", "on", "off", "y", "n", "t", "f", "null", "none", "auto", "maybe", "oN", "oFF", "tRuE", "nO"]
NUMBERS = """0 1 -1 +1 +5 -0 +0 00 01 07 007 08 09 010 -010 +017 0o7 0o17 0O7 0x10 0X10 0xff 0xFF 0x_f 0x -0x10 +0x1 0xg 0b1 0b101 -0b11
 0b_1 0b 0B1 0b2 1_000 1__0 1_ _1 0_ 0_7 0_8 09_1 0_0 1_000_000 -1_0 +1_0 2e 1e 1e3 1E3 1e+3 1e-3 1e-6 1E-6 1.e3 1.e+3 1.e-3 1.0e3 1.0e+3
 1.5e-7 1.5E-7 .5 -.5 +.5 .5e3 .5e+3 .5e-3 -.5e-3 5. -5. +5. 5.e-1 5.0 0.1 00.5 01.5 010.5 1_0.5 1_.5 1._5 1.5_ 1.5_0 1_0e5 1__0e5 1_e5 1e1_0
 ._5 .5_ .5_5 -.5_5 1_000.000_1 1_000.0e-3 8.0 1e0 1.5 0.0 -0.0 +0.0 1:30 -1:30 1:60 0:30 01:30 1:30:00 1:2:3 190:20:30.15 1:30.5 1:30. 0:1.5
 0:0.5 1:5 12:30 1: :30 1:30:60 .inf -.inf +.inf .Inf .INF .iNf inf -inf Infinity nan .nan .NaN .NAN NaN +.nan 1e400 -1e400 1e-400
 9007199254740992 123456789012345678901234567890 2001-01-01 2001-01-01T00:00:00 1.2.3 1,5 1_0 10% 1/2 0.1f 1d 1e5.5 --1 ++1 +-1 - + . .e5 e5 =""".split()


def spellings():
    for word in WORDS:
        for form in dict.fromkeys([word, word.lower(), word.upper(), word.capitalize()]):
            yield form
            yield json.dumps(form)
            yield f"'{form}'"
    for number in NUMBERS:
        yield number
        yield json.dumps(number)
        yield f"'{number}'"
    yield from ('" 5 "', "' 1e-6'", '"5\\n"', '"\\t5"', '"5 5"', '""', '" "', '"1_000"', "5 # five", "1e-6  # small", "!!float 1", "!!int '3'", "!!str 1")
    for sign, digit, point, exponent in itertools.product(["", "-", "+"], ["1", "0", "12", "1_2", "_1"], ["", ".", ".5", ".5_", "._5"],
                                                          ["", "e5", "e-5", "E+05", "e", "e+", "e1_0"]):
        yield sign + digit + point + exponent


def taken(value, kind, text):
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--field", type=string_to_bool if kind is bool else kind)
    parser.set_defaults(field=value)
    try:
        value = parser.parse_args([]).field
    except (argparse.ArgumentError, argparse.ArgumentTypeError, SystemExit):
        return None
    if kind is bool:
        return bool(value) if isinstance(value, bool) or text in ('0', '1') else None
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
        return None
    if kind is float:
        try:
            value = float(value)
        except OverflowError:
            return None
        return value if math.isfinite(value) else None
    return value if abs(value) <= 2**53 else None


rows = []
for text in dict.fromkeys(spellings()):
    try:
        value = yaml.safe_load(f"field: {text}\n")["field"]
    except (yaml.YAMLError, ValueError, TypeError):
        rows.append({"text": text, "error": True, "int": None, "float": None, "bool": None})
        continue
    if value is None or isinstance(value, dict):
        continue  # null is told apart from a value, and "1: " is no scalar
    rows.append({"text": text, "is": type(value).__name__, "int": taken(value, int, text), "float": taken(value, float, text), "bool": taken(value, bool, text)})
path = pathlib.Path(__file__).parent.parent / "tests/fixtures/yaml_scalars.json"
path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
print(len(rows), "scalars")
