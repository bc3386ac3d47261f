"""Writes tests/fixtures/json_schema.json: schemas, values, and whether python-jsonschema (Draft 2020-12) finds the values valid.

    python oracle/json_schema_cases.py
"""

import json
import os
import random

from jsonschema import Draft202012Validator

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "json_schema.json")

SCHEMAS = [
    True, False, {}, {"title": "t", "description": "d", "format": "date"},
    *({"type": t} for t in ("null", "boolean", "object", "array", "number", "string", "integer", ["string", "null"], ["integer", "array"])),
    {"enum": [1, "a", None, [1], {"a": 1.0}]}, {"const": {"a": [1, 2.0]}}, {"const": 1}, {"const": False},
    {"minimum": 2, "maximum": 5.5}, {"exclusiveMinimum": 2, "exclusiveMaximum": 5}, {"multipleOf": 3}, {"multipleOf": 0.5},
    {"minLength": 2, "maxLength": 3}, {"pattern": "^a+$"}, {"pattern": "b"}, {"type": "string", "pattern": "^\\d{2}-[A-Z]$"},
    {"items": {"type": "integer"}, "minItems": 1, "maxItems": 3}, {"uniqueItems": True}, {"items": False},
    {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]},
    {"properties": {"a": {"type": "integer"}}, "additionalProperties": False},
    {"properties": {"a": True}, "additionalProperties": {"type": "string"}},
    {"propertyNames": {"maxLength": 1}, "minProperties": 1, "maxProperties": 2},
    {"anyOf": [{"type": "string"}, {"minimum": 3}]}, {"oneOf": [{"type": "integer"}, {"minimum": 3}]},
    {"allOf": [{"minimum": 1}, {"maximum": 4}]}, {"not": {"type": "string"}}, {"not": {}},
    {"$defs": {"p": {"type": "object", "required": ["a"]}}, "items": {"$ref": "#/$defs/p"}, "type": "array"},
    {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"type": "integer"}}, "additionalProperties": False},
    {"definitions": {"x/y": {"const": 1}, "~": {"const": "a"}}, "anyOf": [{"$ref": "#/definitions/x~1y"}, {"$ref": "#/definitions/~0"}]},
    {"allOf": [{"type": "array"}], "anyOf": [{"$ref": "#/allOf/0"}]},
    {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2}},
]
VALUES = [
    None, True, False, 0, 1, 1.0, 2, 3, 4, 5, 5.5, 6, -1, 2.5, 0.3, 1e20, "", "a", "aa", "aaa", "aaaa", "b", "abc", "12-A", "12-a", "\u00e9\U0001f600",
    [], [1], [1, 2, 3], [1, 1.0], [1, "a"], [[1, 2], [3, 4.5]], [[1]], [1, 2, 3, 4], [{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 1.0}], [{}],
    {}, {"a": 1}, {"a": 1.0}, {"a": "x"}, {"b": "x"}, {"a": 1, "b": "x"}, {"a": 1, "b": 2}, {"a": [1, 2]}, {"a": [1.0, 2]}, {"ab": 1},
    {"a": {"a": {}}}, {"a": {"a": {"b": 1}}}, {"a": {"a": {"b": "x"}}}, {"a": {"c": 1}}, {"a": 1, "b": "x", "c": 3},
]


def draw_schema(rng, depth=0):
    schema = {}
    for _ in range(rng.randrange(1, 4)):
        key = rng.choice(["type", "enum", "properties", "items", "minimum", "maximum", "required", "additionalProperties", "minItems", "anyOf",
                          "oneOf", "not", "maxLength", "const", "uniqueItems"])
        if depth > 2 and key in ("properties", "items", "anyOf", "oneOf", "not", "additionalProperties"):
            key = "type"
        schema[key] = {
            "type": lambda: rng.choice(["object", "array", "string", "integer", "number", "null", ["object", "array"], ["integer", "string"]]),
            "enum": lambda: rng.sample(VALUES, 4), "const": lambda: rng.choice(VALUES),
            "properties": lambda: {k: draw_schema(rng, depth + 1) for k in rng.sample("abc", 2)},
            "items": lambda: draw_schema(rng, depth + 1), "additionalProperties": lambda: rng.choice([False, True, draw_schema(rng, depth + 1)]),
            "minimum": lambda: rng.choice([0, 1, 2.5]), "maximum": lambda: rng.choice([1, 3, 5.5]), "required": lambda: rng.sample("abc", 1),
            "minItems": lambda: rng.randrange(3), "maxLength": lambda: rng.randrange(4), "uniqueItems": lambda: rng.random() < 0.5,
            "anyOf": lambda: [draw_schema(rng, depth + 1) for _ in range(2)], "oneOf": lambda: [draw_schema(rng, depth + 1) for _ in range(2)],
            "not": lambda: draw_schema(rng, depth + 1),
        }[key]()
    return schema


def main():
    rng = random.Random(5)
    schemas = SCHEMAS + [draw_schema(rng) for _ in range(60)]
    cases = []
    for schema in schemas:
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(schema)
        values = VALUES if len(cases) < len(SCHEMAS) else rng.sample(VALUES, 20)
        cases.append({"schema": schema, "values": values, "valid": "".join("01"[validator.is_valid(value)] for value in values)})
    with open(OUT, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(sum(len(case["values"]) for case in cases), "verdicts,", sum(case["valid"].count("1") for case in cases), "valid")


main()
