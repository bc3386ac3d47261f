"""Writes tests/fixtures/guided_schemas.jsonl: random JSON schemas over all keywords that guided_json enforces, each with documents
and whether they are valid, as jsonschema says. llguidance is asked too, of every schema that it compiles, and where the two
differ is counted: it knows less of patternProperties and of formats.

    python oracle/guided_schemas.py [COUNT [SEED]] > tests/fixtures/guided_schemas.jsonl
    python oracle/guided_schemas.py 300 1 orders > tests/fixtures/guided_orders.jsonl

The second kind is of schemas that say of one object in several places, each with another order of keys.

Documents are written as guided_json writes them: keys in the order of the schema, then others, ", " and ": " between
the parts. A row is {"schema", "docs", "valid": "0110..."}. jsonschema needs rfc3339-validator to look at times.
"""
import decimal
import itertools
import json
import random
import re
import sys

import jsonschema
import llguidance

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
RNG = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
ORDERS = sys.argv[3:] == ["orders"]
MOST_ORDERS = 6
PATTERNS = ["^[a-c]+$", "b", "^a", "c$", "^(ab|c)*$", "^[^x]{1,3}$", "^\\d{2,3}$", "\\w-\\w", "^a?b{2}$", "^é.$"]
FORMATS = {
    "date": ["2024-02-29", "2023-02-29", "2023-13-01", "1999-12-31"],
    "time": ["10:20:30Z", "25:00:00Z", "10:20:30+01:30", "10:20"],
    "date-time": ["2020-01-02T03:04:05Z", "2020-01-02 03:04:05Z", "2020-01-02T03:04:05.25-07:00"],
    "ipv4": ["1.2.3.4", "256.1.1.1", "0.0.0.0", "1.2.3"],
    "ipv6": ["::1", "1:2:3:4:5:6:7:8", "1::2::3", "::ffff:1.2.3.4"],
    "uuid": ["2eb8aa08-aa98-11ea-b4aa-73b441d16380", "2eb8aa08-aa98-11ea-b4aa-73b441d1638"],
    "email": ["joe@example.com", "joe.example.com"],
}
KEYS = ["a", "b", "ab", "é", "x-1", 'q"']
STRINGS = ["", "a", "b", "ab", "abc", "cc", "12", "123", "a-b", "éx", "abb", 'q"', "back\\", "line\n", "\u4f60\u597d", "xyz", "😀"]
# No whole number as 1000.0: a guide writes integers without a fraction, which is a subset (docs/GUIDED.md).
NUMBERS = [0, 1, -1, 2, 3, 5, 7, 10, 12, 15, 100, -3, -10, 0.5, 1.5, 2.25, -0.5, 9.99, 10.01, 0.1, 0.3, 1000]


def pick(*choices):
    return RNG.choice(choices)


def any_value(depth):
    kind = RNG.randrange(9 if depth > 0 else 6)
    if kind == 0:
        return None
    if kind == 1:
        return pick(True, False)
    if kind in (2, 3):
        return RNG.choice(NUMBERS)
    if kind in (4, 5):
        return RNG.choice(STRINGS)
    if kind == 6:
        return [any_value(depth - 1) for _ in range(RNG.randrange(4))]
    return {key: any_value(depth - 1) for key in RNG.sample(KEYS, RNG.randrange(4))}


def number_schema():
    s = {"type": pick("integer", "number")}
    if RNG.random() < 0.7:
        low, high = sorted([RNG.choice(NUMBERS), RNG.choice(NUMBERS)])
        if RNG.random() < 0.7:
            s[pick("minimum", "exclusiveMinimum")] = low
        if RNG.random() < 0.7:
            s[pick("maximum", "exclusiveMaximum")] = high
    if RNG.random() < 0.25:
        s["multipleOf"] = pick(2, 3, 5, 0.5, 0.25, 0.1, 7)
    return s


def string_schema():
    s = {"type": "string"}
    kind = RNG.randrange(5)
    if kind == 0:
        s["pattern"] = RNG.choice(PATTERNS)
    elif kind == 1:
        s["format"] = RNG.choice(list(FORMATS))
    if kind != 1 and RNG.random() < 0.5:
        low, high = sorted([RNG.randrange(5), RNG.randrange(6)])
        if RNG.random() < 0.6:
            s["minLength"] = low
        if RNG.random() < 0.6:
            s["maxLength"] = high
    return s


def array_schema(depth):
    s = {"type": "array"}
    if RNG.random() < 0.3:
        s["prefixItems"] = [schema(depth - 1) for _ in range(1 + RNG.randrange(2))]
    if RNG.random() < 0.7:
        s["items"] = schema(depth - 1) if RNG.random() < 0.9 else False
    low, high = sorted([RNG.randrange(4), RNG.randrange(5)])
    if RNG.random() < 0.4:
        s["minItems"] = low
    if RNG.random() < 0.4:
        s["maxItems"] = high
    return s


def object_schema(depth):
    s = {"type": "object"}
    names = RNG.sample(KEYS, RNG.randrange(4))
    if names:
        s["properties"] = {name: schema(depth - 1) for name in names}
    if RNG.random() < 0.6:
        s["required"] = RNG.sample(names, RNG.randrange(len(names) + 1)) + (["b"] if RNG.random() < 0.1 and "b" not in names else [])
        if not s["required"]:
            del s["required"]
    if RNG.random() < 0.25:
        s["patternProperties"] = {pattern: schema(depth - 1) for pattern in RNG.sample(["^a", "b$", "-"], 1 + RNG.randrange(2))}
    more = RNG.random()
    if more < 0.45:
        s["additionalProperties"] = False
    elif more < 0.65:
        s["additionalProperties"] = schema(depth - 1)
    if RNG.random() < 0.2:
        s["maxProperties"] = RNG.randrange(4)
    if RNG.random() < 0.15:
        s["minProperties"] = RNG.randrange(3)
    return s


def schema(depth):
    kind = RNG.randrange(14 if depth > 0 else 7)
    if kind == 0:
        return pick({}, True, {"type": "null"}, {"type": "boolean"}, {"type": ["string", "null"]}, {"type": ["integer", "array"]})
    if kind == 1:
        return {"enum": [any_value(1) for _ in range(1 + RNG.randrange(3))]}
    if kind == 2:
        return {"const": any_value(1)}
    if kind in (3, 4):
        return number_schema()
    if kind in (5, 6):
        return string_schema()
    if kind in (7, 8):
        return array_schema(depth)
    if kind in (9, 10, 11):
        return object_schema(depth)
    if kind == 12:
        return pick({"anyOf": [schema(depth - 1) for _ in range(2)]}, {"$ref": "#/$defs/r"}, {"$ref": "#/$defs/s"},
                    {"oneOf": [number_schema(), string_schema(), {"type": "null"}][RNG.randrange(2):]},
                    {"oneOf": [{"type": "object", "properties": {"a": {"const": i}, "b": schema(0)}, "required": ["a"]} for i in range(2)]})
    parts = [RNG.choice([number_schema, string_schema])() for _ in range(1)]
    parts = parts + [{k: v for k, v in parts[0].items() if RNG.random() < 0.5}, schema(0)] if RNG.random() < 0.5 else \
        [object_schema(depth - 1), object_schema(depth - 1)]
    return {"allOf": parts} if RNG.random() < 0.6 else {**parts[0], "anyOf": parts[1:] + [schema(0)]}


def shuffled(value):
    """The same value, keys in another order."""
    if isinstance(value, list):
        return [shuffled(x) for x in value]
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in RNG.sample(list(value), len(value))}
    return value


def order_object(depth):
    """A schema of objects of the keys a, b, ab, in any order, of few values, so that several schemas have values in common."""
    values = [{"enum": [0, 1]}, {"const": 1}, {"type": "integer", "maximum": 5}, True]
    s = {"type": "object", "properties": {}}
    for name in RNG.sample(["a", "b", "ab"], 1 + RNG.randrange(3)):
        s["properties"][name] = order_schema(depth - 1) if depth > 0 and RNG.random() < 0.4 else RNG.choice(values)
    if RNG.random() < 0.6:
        s["required"] = RNG.sample(["a", "b", "ab"], 1 + RNG.randrange(2))
    if RNG.random() < 0.4:
        s["additionalProperties"] = pick(False, {"const": 1})
    return s


def order_value(depth):
    if depth > 0 and RNG.random() < 0.3:
        return [order_value(depth - 1) for _ in range(1 + RNG.randrange(2))]
    return {name: order_value(depth - 1) if depth > 0 and RNG.random() < 0.3 else pick(0, 1, 1, 1.5)
            for name in RNG.sample(["a", "b", "ab"], 1 + RNG.randrange(3))}


def order_values(depth):
    values = [order_value(depth) for _ in range(1 + RNG.randrange(3))]
    return values + [shuffled(v) for v in values if RNG.random() < 0.3]


def order_schema(depth):
    kind = RNG.randrange(9 if depth > 0 else 3)
    if kind == 0:
        return {"enum": order_values(1)}
    if kind == 1:
        return {"const": order_value(1)}
    if kind == 2:
        return order_object(0)
    if kind == 3:
        return {"anyOf": [order_schema(depth - 1) for _ in range(2 + RNG.randrange(2))]}
    if kind == 4: # told apart by a property, which stands anywhere
        return {"oneOf": [{"type": "object", "properties": shuffled({"a": {"const": i}, "b": order_schema(0), "ab": True}), "required": ["a"]} for i in range(2)]}
    if kind == 5:
        return {"allOf": [order_object(depth - 1), RNG.choice([{"enum": order_values(1)}, order_object(depth - 1)])][::pick(1, -1)]}
    if kind == 6:
        return {**order_object(depth - 1), "anyOf": [RNG.choice([{"enum": order_values(1)}, order_object(depth - 1), {"required": ["b"]}]) for _ in range(2)]}
    if kind == 7:
        return {"type": "array", "prefixItems": [order_schema(depth - 1)], "items": order_schema(depth - 1), "maxItems": 3}
    return pick(order_object(depth), {"$ref": "#/$defs/r"})


def instance(s, root, depth=4):
    """A document that tries to be valid, and often is."""
    if depth < 0 or not isinstance(s, dict) or RNG.random() < 0.04:
        return any_value(1)
    if "$ref" in s:
        return instance(root["$defs"][s["$ref"].split("/")[-1]], root, depth - 1)
    if "const" in s:
        return s["const"]
    if "enum" in s:
        return RNG.choice(s["enum"])
    for key in ("anyOf", "oneOf"):
        if key in s:
            return instance({**{k: v for k, v in s.items() if k != key}, **{k: v for k, v in (lambda x: x if isinstance(x, dict) else {})(RNG.choice(s[key])).items()}}, root, depth - 1)
    if "allOf" in s:
        both = {}
        for part in s["allOf"]:
            if isinstance(part, dict):
                for k, v in part.items():
                    both[k] = {**both[k], **v} if k in both and isinstance(v, dict) and isinstance(both[k], dict) else v
        return instance(both, root, depth - 1)
    kind = s.get("type")
    kind = RNG.choice(kind) if isinstance(kind, list) else kind
    if kind == "null":
        return None
    if kind == "boolean":
        return pick(True, False)
    if kind in ("integer", "number"):
        numbers = [n for n in NUMBERS if kind == "number" or n == int(n)] + [RNG.randrange(-20, 120)]
        return RNG.choice(numbers) if kind == "number" else int(RNG.choice(numbers))
    if kind == "string":
        return RNG.choice(FORMATS[s["format"]]) if "format" in s else RNG.choice(STRINGS)
    if kind == "array":
        first = s.get("prefixItems", [])
        n = RNG.randrange(s.get("minItems", 0), max(s.get("minItems", 0), s.get("maxItems", 3)) + 1)
        return [instance(first[i] if i < len(first) else s.get("items", {}), root, depth - 1) for i in range(n)]
    if kind == "object":
        out = {}
        for name, part in s.get("properties", {}).items():
            if name in s.get("required", []) or RNG.random() < 0.6:
                out[name] = instance(part, root, depth - 1)
        for name in s.get("required", []):
            if name not in out:
                out[name] = any_value(0)
        if RNG.random() < 0.4:
            name = RNG.choice(KEYS + ["zz", "a1"])
            if name not in out:
                part = s.get("additionalProperties", {})
                for pattern, other in s.get("patternProperties", {}).items():
                    part = other if pattern.strip("^$") in name else part
                out[name] = instance(part, root, depth - 1)
        return out
    return any_value(2)


def resolve(s, root):
    while isinstance(s, dict) and "$ref" in s:
        s = root["$defs"][s["$ref"].split("/")[-1]]
    return s


def together(s, value, root):
    """Lists of the parts of a schema that hold together for a value, in the order in which the guide merges them: one for each choice of
    what the value meets of anyOf and oneOf. Where it meets nothing it is valid in no order, and there is one list without."""
    s = resolve(s, root)
    if not isinstance(s, dict):
        return [[]]
    lists = [[s]]
    for part in s.get("allOf", []):
        lists = [a + b for a in lists for b in together(part, value, root)]
    for key in ("anyOf", "oneOf"):
        met = [part for part in s.get(key, []) if is_valid({"allOf": [part], "$defs": root.get("$defs", {})}, value)]
        if met:
            lists = [a + b for a in lists for part in met for b in together(part, value, root)]
    return lists[:MOST_ORDERS]


def in_orders(value, s, root, depth=6):
    """The value with its keys in each order in which guided_json has it, of many the first ones: properties in order, then what is required
    beside them, then others; what enum or const says as it is written there."""
    out = []
    for parts in together(s, value, root) if depth >= 0 else []:
        fixed = [x for part in parts for x in part.get("enum", []) + ([part["const"]] if "const" in part else [])]
        if isinstance(value, (list, dict)) and fixed:
            first = next(part for part in parts if "enum" in part or "const" in part)
            out += [x for x in first.get("enum", [first.get("const")]) if is_valid({"const": x}, value)] or [value]
        elif isinstance(value, list):
            def item(i, part):
                first = part.get("prefixItems", [])
                return first[i] if i < len(first) else part.get("items", True)
            choices = [in_orders(v, {"allOf": [item(i, part) for part in parts]}, root, depth - 1) for i, v in enumerate(value)]
            out += [list(x) for x in itertools.islice(itertools.product(*choices), MOST_ORDERS)]
        elif isinstance(value, dict):
            names = []
            for part in parts:
                names += [n for n in part.get("properties", {}) if n not in names]
            for part in parts:
                names += [n for n in part.get("required", []) if n not in names]
            keys = [n for n in names if n in value] + [k for k in value if k not in names]
            choices = []
            for k in keys:
                subs = []
                for part in sorted(parts, key=lambda part: k not in part.get("properties", {})):
                    own = [part["properties"][k]] if k in part.get("properties", {}) else []
                    own += [sub for pattern, sub in part.get("patternProperties", {}).items() if re.search(pattern, k)]
                    subs += own or [part.get("additionalProperties", True)]
                choices.append(in_orders(value[k], {"allOf": subs}, root, depth - 1))
            out += [dict(zip(keys, x)) for x in itertools.islice(itertools.product(*choices), MOST_ORDERS)]
        else:
            out.append(value)
    return out[:MOST_ORDERS] or [value]


import rfc3339_validator  # noqa: E402,F401 (without it no time is looked at, and everything is valid)

CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER


def multiple_of(validator, divisor, value, schema):
    """In decimal: 0.3 is a multiple of 0.1."""
    if validator.is_type(value, "number") and decimal.Decimal(repr(value)) % decimal.Decimal(repr(divisor)) != 0:
        yield jsonschema.ValidationError("no multiple")


VALIDATOR = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"multipleOf": multiple_of})


def is_valid(s, value):
    return VALIDATOR(s, format_checker=CHECKER).is_valid(value)


TOKENIZER = llguidance.LLTokenizer("byte")


def guidance(s, docs):
    """What llguidance says of each document; None: it does not compile the schema."""
    options = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
    text = json.dumps({**s, **options} if isinstance(s, dict) else s)
    try:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(text)
        if llguidance.LLMatcher(TOKENIZER, grammar).is_error():
            return None
    except Exception:
        return None
    said = []
    for doc in docs:
        matcher = llguidance.LLMatcher(TOKENIZER, grammar)
        tokens = TOKENIZER.tokenize_str(doc)
        said.append(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())
    return said


def main():
    counts = {"schemas": 0, "documents": 0, "valid": 0, "asked llguidance": 0, "differ": 0}
    while counts["schemas"] < COUNT:
        s = order_schema(3) if ORDERS else schema(3)
        if not isinstance(s, dict):
            continue
        s = dict(s)
        if ORDERS and "$ref" in json.dumps(s):
            s["$defs"] = {"r": order_object(0)}
        elif "$ref" in json.dumps(s):
            s["$defs"] = {"r": {"type": "object", "properties": {"v": number_schema(), "next": {"anyOf": [{"$ref": "#/$defs/r"}, {"type": "null"}]}},
                                "additionalProperties": False}, "s": string_schema()}
        docs = []
        for _ in range(14):
            value = order_value(2) if ORDERS and RNG.random() < 0.3 else instance(s, s)
            for ordered in in_orders(value, s, s):
                doc = json.dumps(ordered, ensure_ascii=False)
                if doc not in docs and len(doc) < 200:
                    docs.append(doc)
        valid = [is_valid(s, json.loads(doc)) for doc in docs]
        said = guidance(s, docs)
        if said is not None:
            counts["asked llguidance"] += 1
            counts["differ"] += sum(a != b for a, b in zip(said, valid))
        # At most eight of each row: both verdicts, where there are both.
        chosen = [i for i in range(len(docs)) if valid[i]][:4] + [i for i in range(len(docs)) if not valid[i]][:4]
        if not chosen:
            continue
        counts["schemas"] += 1
        counts["documents"] += len(chosen)
        counts["valid"] += sum(valid[i] for i in chosen)
        row = {"schema": s, "docs": [docs[i] for i in chosen], "valid": "".join("01"[valid[i]] for i in chosen)}
        print(json.dumps(row, ensure_ascii=False))
    print(counts, file=sys.stderr)


main()
