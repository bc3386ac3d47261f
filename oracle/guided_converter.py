"""Writes tests/fixtures/guided_converter.jsonl: schemas of the kinds that users of llama.cpp's converter to grammars rely on (chains of
properties that may be absent, properties that are not named, bounds of integers of any length, references, alternatives, lists and
tuples, formats of texts), written for this project, with documents and whether they are valid, as jsonschema says. Documents are
written as guided_json writes them; a document that must be wrong is said to be by jsonschema too, or has its keys in another order.

    python oracle/guided_converter.py > tests/fixtures/guided_converter.jsonl
"""
import itertools
import json

import jsonschema

INT, STR, NUM, BOOL, NULL = ({"type": t} for t in ("integer", "string", "number", "boolean", "null"))


def obj(properties, required=(), **more):
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {}), **more}


def subsets(keys, value):
    """Objects of all subsets of the keys, in their order."""
    return [{k: value for k in some} for n in range(len(keys) + 1) for some in itertools.combinations(keys, n)]


def around(*numbers):
    found = sorted({n + d for n in numbers for d in (-11, -10, -2, -1, 0, 1, 2, 9, 10, 100)} | {0, -1, 1, 9, 10, -9, -10, 99, 100, 1000, -1000})
    return found


rows = []


def case(schema, *docs):
    rows.append((schema, docs))


# Properties that may be absent, in the order in which they are named.
case(obj({"a": STR}), *subsets("a", "x"), {"a": 1})
case(obj({"a": STR, "b": STR, "c": STR}, additionalProperties=False), *subsets("abc", "x"), {"d": "x"}, {"a": None})
case(obj({"a": STR, "b": STR, "c": STR}, ["b"], additionalProperties=False), *subsets("abc", "x"))
case(obj({"a": STR, "b": STR, "c": STR, "d": STR, "e": STR}, ["a", "b", "d"], additionalProperties=False), *subsets("abcde", ""))
case(obj({"a": STR, "b": STR, "d": STR, "c": STR}, ["a", "b", "c", "d"]), {"a": "", "b": "", "d": "", "c": ""}, {"a": "", "b": "", "d": ""})
case(obj({"b": STR, "c": STR, "a": STR}, ["a", "b"]), {"b": "", "a": ""}, {"b": "", "c": "", "a": ""}, {"c": "", "a": ""})
case(obj({}, additionalProperties=False), {}, {"a": 1})
case(obj({}), {}, {"a": 1}, [])
# Properties that are not named.
case({"type": "object", "additionalProperties": {"type": "array", "items": NUM}}, {}, {"a": []}, {"a": [1, 2.5], "b": [0]}, {"a": 1}, {"a": ["x"]})
case({"type": "object", "additionalProperties": True}, {}, {"a": {"b": [None]}}, 1)
case({"type": "object"}, {}, {"a": 1}, "x")
case({"type": "object", "additionalProperties": False}, {}, {"a": 1})
case(obj({"a": NUM}, ["a"], additionalProperties=STR), {"a": 0}, {"a": 1.5, "b": "x"}, {"a": 1, "b": 2}, {"b": "x"}, {"a": 1, "aa": "x"})
case(obj({"a": NUM}, additionalProperties=NUM), {}, {"a": 1}, {"b": 2}, {"a": 1, "b": 2, "c": 3}, {"a": "x"}, {"b": "x"})
case(obj({"a": NUM, "b": NUM}, ["a"], additionalProperties=NUM), {"a": 1}, {"a": 1, "b": 2}, {"a": 1, "c": 2}, {"a": 1, "b": 2, "c": 3}, {"b": 1},
     {"a": 1, "c": "x"})
case(obj({"also": NUM, "and": NUM}, ["and"], additionalProperties=NUM), {"and": 1}, {"also": 1, "and": 1}, {"and": 1, "a": 1, "al": 1, "andy": 1},
     {"also": 1}, {"and": 1, "also2": "x"})
case(obj({'"': NUM, "\\": NUM, "é": NUM}, additionalProperties=False), *subsets('"\\é', 3), {"e": 3})
# Bounds of integers.
for low, high in ((0, None), (1, None), (3, None), (9, None), (10, None), (25, None), (None, 30), (-5, None), (-123, None), (None, -5), (None, 5), (None, 123),
                  (1, 50), (15, 300), (5, 30), (-123, 42), (-10, 10), (0, 23), (30, 2001), (-1000001, 1000001), (99, 101), (7, 7), (-1, 0)):
    case({"type": "integer", **({"minimum": low} if low is not None else {}), **({"maximum": high} if high is not None else {})},
         *around(*(n for n in (low, high) if n is not None)))
case({"type": "integer", "exclusiveMinimum": 0}, *around(0))
case({"type": "integer", "exclusiveMaximum": 10, "minimum": 8}, *around(8, 10))
# Lists and tuples.
case({"type": "array", "items": STR, "minItems": 2}, [], ["a"], ["a", "b"], ["a", "b", "c"], ["a", 1])
case({"type": "array", "items": STR, "minItems": 1, "maxItems": 1}, [], ["a"], ["a", "b"])
case({"type": "array", "items": STR, "maxItems": 2}, [], ["a"], ["a", "b"], ["a", "b", "c"])
case({"type": "array", "items": NUM, "minItems": 3, "maxItems": 5}, *[[1.5] * n for n in range(7)], [1, 2, "x"])
case({"type": "array", "items": {"type": "integer", "minimum": -12, "maximum": 207}, "minItems": 3, "maxItems": 5}, [-12, 0, 207], [-13, 0, 0], [0, 0, 208], [0, 0])
case({"type": "array", "prefixItems": [STR, NUM], "items": False, "minItems": 2}, ["a", 1], ["a"], [1, "a"], ["a", 1, 2])
case({"type": "array", "prefixItems": [STR]}, [], ["a"], ["a", 1, None], [1])
case({"prefixItems": [STR], "type": "array", "items": INT}, ["a"], ["a", 1, 2], ["a", 1.5])
case({"type": "array"}, [], [1, "a", [None]], {})
# Texts.
case({"type": "string", "minLength": 1}, "", "a", "é", "ab")
case({"type": "string", "minLength": 3, "maxLength": 4}, "ab", "abc", "abcd", "abcde", "äöü", "äöüß", "日本")
case({"type": "string", "pattern": "^abc?d*efg+(hij)?kl$"}, "abefgkl", "abcddefggghijkl", "abekl", "xabefgkl")
case({"type": "string", "pattern": "^(\\([0-9]{1,3}\\))?[0-9]{3}-[0-9]{4}$"}, "(1)123-4567", "123-4567", "(1234)123-4567", "1234567")
case({"type": "string", "pattern": "^\\[\\]\\{\\}\\(\\)\\|\\+\\*\\?$"}, "[]{}()|+*?", "[]")
case({"type": "string", "pattern": "^a|b$"}, "a", "ax", "xb", "xax")
case(STR, "", "any \" \\ \n é", 1)
# Values.
case({"const": "foo"}, "foo", "fo", "foo ")
case({"const": [1, {"a": None}]}, [1, {"a": None}], [1], [1, {"a": 0}])
case({"enum": ["red", "amber", "green", None, 42, ["foo"]]}, "red", "amber", "green", None, 42, ["foo"], "blue", 43, [])
case({"enum": ["\"quoted\"", "back\\slash", "new\nline"]}, "\"quoted\"", "back\\slash", "new\nline", "quoted")
case(BOOL, True, False, 0, "true")
case(NULL, None, 0, "null")
case(NUM, 0, -1.5, 1e9, "1")
case({}, None, 1, "x", [], {"a": [1]})
case({"type": ["array", "null"], "items": {"type": "object", "required": ["x"], "properties": {"x": NUM}}}, None, [], [{"x": 1}], [{}], {})
# References.
case({"$ref": "#/$defs/n", "$defs": {"n": obj({"a": STR}, ["a"], additionalProperties=False)}}, {"a": ""}, {}, {"a": "", "b": 1})
case({"type": "object", "properties": {"a": {"$ref": "#/definitions/foo"}, "b": {"$ref": "#/definitions/foo"}}, "required": ["a", "b"],
      "additionalProperties": False, "definitions": {"foo": obj({"x": INT}, ["x"], additionalProperties=False)}},
     {"a": {"x": 1}, "b": {"x": 2}}, {"a": {"x": 1}}, {"a": {"x": "1"}, "b": {"x": 2}})
case({"$ref": "#/$defs/tree", "$defs": {"tree": obj({"v": INT, "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, ["v"], additionalProperties=False)}},
     {"v": 1}, {"v": 1, "kids": []}, {"v": 1, "kids": [{"v": 2, "kids": [{"v": 3}]}]}, {"v": 1, "kids": [{}]}, {"kids": []})
case(obj({"list": {"$ref": "#/properties/item"}, "item": STR}, additionalProperties=False), {}, {"list": "a", "item": "b"}, {"list": 1})
# Alternatives.
case({"anyOf": [{"$ref": "#/$defs/foo"}, {"$ref": "#/$defs/bar"}], "$defs": {"foo": obj({"a": NUM}), "bar": obj({"b": NUM})}, "type": "object"},
     {}, {"a": 1}, {"b": 1}, {"a": "x"}, {"a": "x", "b": "y"})
case({"anyOf": [INT, {"type": "array", "items": INT}]}, 1, [1], [], "1", ["1"])
case({"anyOf": [obj({"kind": {"const": "a"}, "n": INT}, ["kind", "n"], additionalProperties=False),
                obj({"kind": {"const": "b"}, "s": STR}, ["kind", "s"], additionalProperties=False)]},
     {"kind": "a", "n": 1}, {"kind": "b", "s": ""}, {"kind": "a", "s": ""}, {"kind": "c", "n": 1}, {"kind": "b"})
case({"oneOf": [{"type": "string", "enum": ["x"]}, {"type": "null"}]}, "x", None, "y", 1)
case({"allOf": [{"$ref": "#/$defs/foo"}, {"$ref": "#/$defs/bar"}], "type": "object", "additionalProperties": True,
      "$defs": {"foo": {"properties": {"a": NUM}, "required": ["a"]}, "bar": {"properties": {"b": NUM}, "required": ["b"]}}},
     {"a": 1, "b": 2}, {"a": 1}, {"b": 2}, {"a": "x", "b": 2})
case({"allOf": [obj({"a": STR}, ["a"]), {"anyOf": [{"required": ["b"]}, {"required": ["c"]}], "properties": {"b": INT, "c": INT}}]},
     {"a": "", "b": 1}, {"a": "", "c": 1}, {"a": ""}, {"b": 1})
case({"allOf": [{"enum": ["a", "b", "c"]}, {"enum": ["b", "c", "d"]}]}, "a", "b", "c", "d")
# What nests.
case(obj({"number": obj({"root": NUM}, ["root"], additionalProperties=False)}, ["number"], additionalProperties=False), {"number": {"root": 1}}, {"number": {}}, {})
case({"type": "array", "items": obj({"name": STR, "age": {"type": "integer", "minimum": 0, "maximum": 150}}, ["name", "age"], additionalProperties=False),
      "minItems": 1, "maxItems": 2}, [], [{"name": "a", "age": 150}], [{"name": "a", "age": 151}], [{"name": "a", "age": 0}, {"name": "b", "age": 1}])

for schema, docs in rows:
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)(schema)
    validator.check_schema(schema)
    valid = "".join("1" if validator.is_valid(doc) else "0" for doc in docs)
    assert "1" in valid, schema
    print(json.dumps({"schema": schema, "docs": [json.dumps(doc, ensure_ascii=False) for doc in docs], "valid": valid}, ensure_ascii=False))
