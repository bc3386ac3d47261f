"""Writes tests/fixtures/parquet: Parquet files by pyarrow and pandas, and the rows that pyarrow reads from them as JSON
lines; files that no library writes any more or that are wrong, byte by byte.

    python oracle/parquet_files.py                        the fixtures
    python oracle/parquet_files.py --sweep N SEED READER  N random files (schema, data, options), each read by READER FILE
                                                          ORDER, build/tests/test_parquet, whose rows must be pyarrow's

What a value is in JSON is in src/format/parquet.h; here rows() says the same of pyarrow's scalars.
"""

import datetime
import decimal
import json
import math
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import uuid
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "parquet"
DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}

# ---- the rows that are expected ----


def clock(value, digits):
    seconds, fraction = divmod(value, 10 ** digits)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}" + (f".{fraction:0{digits}}" if fraction else "")


def plain(scalar):
    """A scalar of pyarrow as the JSON value that is expected."""
    kind = scalar.type
    if isinstance(scalar, pa.ExtensionScalar):
        value = scalar.as_py()
        return str(value) if isinstance(value, uuid.UUID) else value
    if not scalar.is_valid:
        return None
    if pa.types.is_dictionary(kind):
        return plain(scalar.value)
    if pa.types.is_map(kind):
        pairs = [(plain(item["key"]), plain(item["value"])) for item in scalar.values]
        return dict(pairs) if pa.types.is_string(kind.key_type) else [list(pair) for pair in pairs]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [plain(item) for item in scalar.values]
    if pa.types.is_struct(kind):
        return {field.name: plain(scalar[i]) for i, field in enumerate(kind)}
    if pa.types.is_floating(kind):
        value = float(scalar.as_py())
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
    if pa.types.is_integer(kind):
        value = scalar.as_py()
        return float(value) if value >= 2 ** 63 else value
    if pa.types.is_decimal(kind):
        return f"{scalar.as_py():.{kind.scale}f}"
    if pa.types.is_date(kind):
        return scalar.as_py().isoformat()
    if pa.types.is_time(kind):
        return clock(scalar.value, DIGITS[kind.unit])
    if pa.types.is_timestamp(kind):
        days, time = divmod(scalar.value, 86400 * 10 ** DIGITS[kind.unit])
        day = (datetime.date(1970, 1, 1) + datetime.timedelta(days=days)).isoformat()
        return f"{day}T{clock(time, DIGITS[kind.unit])}{'Z' if kind.tz else ''}"
    if pa.types.is_duration(kind):
        return scalar.value
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_large_binary(kind):
        try:
            return scalar.as_py().decode("utf-8")
        except UnicodeDecodeError:
            return None
    if isinstance(kind, pa.JsonType):
        value = scalar.as_py()
        return None if value is None else json.loads(value)
    return scalar.as_py()


def rows(path):
    table = pq.read_table(path, use_threads=False)
    if len(table) != pq.read_metadata(path).num_rows:
        raise pa.ArrowException("pyarrow lost rows")  # 26.0.1 does, of maps with required values in version 2 pages
    columns = [(name, table.column(i)) for i, name in enumerate(table.column_names)]
    return [{name: plain(column[row]) for name, column in columns} for row in range(len(table))]


def put_rows(name, expected):
    with open(OUT / name, "w", encoding="utf-8") as out:
        for row in expected:
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")


def put(name, table, **options):
    """Writes a table as NAME.parquet, and NAME.jsonl beside it."""
    pq.write_table(table, OUT / f"{name}.parquet", **{"write_statistics": False, **options})
    put_rows(f"{name}.jsonl", rows(OUT / f"{name}.parquet"))


# ---- files of pyarrow ----

TEXTS = ["", "a", "the same words", "Ünïcödé", "日本語の文", "😀🎉", "tab\tline\n", "nul\0byte", "\"quoted\" \\", "x" * 40]


def nullable(r, values, share=0.3):
    return [None if r.random() < share else value for value in values]


def lists(r, values):
    out, at = [], 0
    while at < len(values):
        n = r.randrange(0, 4)
        out.append(None if r.random() < 0.15 else nullable(r, values[at:at + n], 0.2))
        at += max(n, 1)
    return (out * 3)[:len(values)]


# Encodings by the type of a column; the last word of the column's name says which.
ENCODINGS = {
    "text": (pa.string(), ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "DICTIONARY"]),
    "int": (pa.int32(), ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "DICTIONARY"]),
    "long": (pa.int64(), ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "DICTIONARY"]),
    "bool": (pa.bool_(), ["PLAIN", "RLE"]),
    "float": (pa.float32(), ["PLAIN", "BYTE_STREAM_SPLIT", "DICTIONARY"]),
    "double": (pa.float64(), ["PLAIN", "BYTE_STREAM_SPLIT", "DICTIONARY"]),
    "fixed": (pa.binary(3), ["PLAIN", "BYTE_STREAM_SPLIT", "DELTA_BYTE_ARRAY", "DICTIONARY"]),
}


def values_of(r, kind, n):
    if kind == "text":
        return [r.choice(TEXTS) + r.choice(["", " end", str(r.randrange(9))]) for _ in range(n)]
    if kind in ("int", "long"):
        bits = 31 if kind == "int" else 63
        return [r.choice([0, 1, -1, 2 ** bits - 1, -2 ** bits, r.randrange(-1000, 1000), r.randrange(2 ** bits)]) for _ in range(n)]
    if kind == "bool":
        return [r.random() < 0.5 for _ in range(n)]
    if kind == "fixed":
        return [bytes(r.randrange(97, 123) for _ in range(3)) for _ in range(n)]
    return [float(np.float32(r.choice([0.5, -1.25, r.random() * 1e6, -0.0]))) for _ in range(n)]


def every_encoding():
    """One file for each codec and page version: every type and encoding; required, nullable, in a list."""
    r = random.Random(1)
    n = 14
    fields, columns, encodings, dictionaries = [], [], {}, []
    for kind, (arrow, names) in ENCODINGS.items():
        for encoding in names:
            for shape in ("required", "nullable", "list"):
                if encoding in ("BYTE_STREAM_SPLIT", "DELTA_BYTE_ARRAY") and shape == "required" and kind == "fixed":
                    continue
                name = f"{kind}_{shape}_{encoding}"
                values = values_of(r, kind, n)
                values = values if shape == "required" else nullable(r, values) if shape == "nullable" else lists(r, values)
                fields.append(pa.field(name, pa.list_(arrow) if shape == "list" else arrow, nullable=shape != "required"))
                columns.append(pa.array(values, fields[-1].type))
                path = name + ".list.element" if shape == "list" else name
                if encoding == "DICTIONARY":
                    dictionaries.append(path)
                else:
                    encodings[path] = encoding
    table = pa.table(columns, schema=pa.schema(fields))
    expected = None
    for codec in ("none", "snappy", "gzip", "zstd"):
        for version in (1, 2):
            path = OUT / f"encodings_{codec}_{version}.parquet"
            pq.write_table(table, path, compression=codec, data_page_version=f"{version}.0", use_dictionary=dictionaries,
                           column_encoding=encodings, write_statistics=False, store_schema=False, data_page_size=100,
                           write_batch_size=10, write_page_checksum=version == 2)
            assert expected is None or expected == rows(path)
            expected = rows(path)
    put_rows("encodings.jsonl", expected)


MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def nested():
    r = random.Random(2)

    def message():
        return None if r.random() < 0.1 else {"role": r.choice(["user", "assistant", None]), "content": r.choice(TEXTS)}

    def some(make, most=3, none=0.2):
        return None if r.random() < none else [make() for _ in range(r.randrange(most + 1))]

    def number():
        return r.choice([None, r.randrange(100)])

    kinds = pa.schema([
        ("messages", MESSAGES), ("lists", pa.list_(pa.list_(pa.int32()))),
        pa.field("must", pa.struct([pa.field("id", pa.int32(), nullable=False), ("tags", pa.list_(pa.string()))]), nullable=False),
        ("object", pa.struct([("a", pa.struct([("b", pa.struct([("c", pa.int64())]))])), ("d", pa.list_(pa.float64()))])),
        ("named", pa.map_(pa.string(), pa.int32())), ("numbered", pa.map_(pa.int32(), pa.list_(pa.string()))),
        ("deep", pa.list_(pa.struct([("calls", pa.list_(pa.struct([("name", pa.string()), ("arguments", pa.map_(pa.string(), pa.string()))])))]))),
        ("three", pa.list_(pa.list_(pa.list_(pa.bool_()))))])

    def row():
        return {
            "messages": some(message, 5), "lists": some(lambda: some(number)),
            "must": {"id": r.randrange(9), "tags": some(lambda: r.choice(TEXTS))},
            "object": r.choice([None, {"a": None, "d": []}, {"a": {"b": None}, "d": None}, {"a": {"b": {"c": number()}}, "d": [1.5, None]}]),
            "named": r.choice([None, [], [("one", 1), ("two", None)], [("Ü", 7)]]),
            "numbered": r.choice([None, [], [(1, None), (2, ["x", None])]]),
            "deep": some(lambda: {"calls": some(lambda: {"name": "f", "arguments": [("city", r.choice(TEXTS))]})}),
            "three": some(lambda: some(lambda: some(lambda: r.random() < 0.5)))}

    table = pa.Table.from_pylist([row() for _ in range(36)], schema=kinds)
    for version in (1, 2):
        # Rows of version 1 go on in the next page: a batch is three levels, a page one batch.
        path = OUT / f"nested_{version}.parquet"
        pq.write_table(table, path, data_page_version=f"{version}.0", data_page_size=1, write_batch_size=3, row_group_size=23,
                       compression="zstd", store_schema=False, write_statistics=False)
        put_rows("nested.jsonl", rows(path))


def types():
    limits = {f"{s}int{b}": (0, 2 ** b - 1) if s else (-2 ** (b - 1), 2 ** (b - 1) - 1) for s in ("", "u") for b in (8, 16, 32, 64)}
    columns = {name: pa.array([low, high, 1, None], getattr(pa, name)()) for name, (low, high) in limits.items()}
    columns |= {
        "half": pa.array(np.array([1.5, -2.25, 6e-8, np.inf], np.float16)),
        "float": pa.array([0.1, float("nan"), float("inf"), None], pa.float32()),
        "double": pa.array([0.1, float("nan"), -float("inf"), -0.0], pa.float64()),
        "decimal_4": pa.array([decimal.Decimal("-0.05"), decimal.Decimal("1234567.89"), decimal.Decimal(0), None], pa.decimal128(9, 2)),
        "decimal_8": pa.array([decimal.Decimal("-12345678901.2345"), decimal.Decimal("0.0001"), decimal.Decimal(1), None], pa.decimal128(18, 4)),
        "decimal_16": pa.array([decimal.Decimal(10 ** 38 - 1), decimal.Decimal(1 - 10 ** 38), decimal.Decimal(0), None], pa.decimal128(38, 0)),
        "decimal_32": pa.array([decimal.Decimal(-(10 ** 60)), decimal.Decimal(7), decimal.Decimal(-7), None], pa.decimal256(76, 0)),
        "date": pa.array([datetime.date(1, 1, 1), datetime.date(1970, 1, 1), datetime.date(2024, 2, 29), datetime.date(9999, 12, 31)]),
        "time_ms": pa.array([0, 86399999, 1000, None], pa.time32("ms")), "time_us": pa.array([0, 86399999999, 1, None], pa.time64("us")),
        "time_ns": pa.array([0, 86399999999999, 1, None], pa.time64("ns")),
        "timestamp_ms": pa.array([0, -1, 1709251199999, None], pa.timestamp("ms")),
        "timestamp_us": pa.array([0, -62135596800000000, 253402300799999999, None], pa.timestamp("us")),
        "timestamp_ns": pa.array([0, -1, 1709251199999999999, None], pa.timestamp("ns")),
        "instant": pa.array([0, -1, 1709251199000, None], pa.timestamp("ms", "Europe/Berlin")),
        "duration": pa.array([5, -5, 0, None], pa.duration("us")),
        "binary": pa.array([b"text", b"\xff\xd8\xff", b"", None]), "binary_2": pa.array([b"ab", b"\xff\0", b"\0\0", None], pa.binary(2)),
        "nothing": pa.nulls(4), "category": pa.array(["b", "a", "b", None]).dictionary_encode(),
        "large": pa.array(["x", "", "日本", None], pa.large_string()),
        "uuid": pa.array([uuid.UUID(int=i << 100 | 255).bytes for i in range(4)], pa.binary(16)).cast(pa.uuid()),
        "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}', "null", "[]", None])),
    }
    put("types", pa.table(columns), version="2.6")
    put("int96", pa.table({"t": pa.array([0, 1709251199999999999, -1, None], pa.timestamp("ns"))}), use_deprecated_int96_timestamps=True)


def groups():
    """Row groups of several pages; a dictionary that grows too large and is given up; an empty row group."""
    r = random.Random(3)

    def part(n, start):
        return pa.table({"id": pa.array(range(start, start + n), pa.int64()),
                         "text": pa.array([r.choice(TEXTS) + str(r.randrange(10 ** 6)) for _ in range(n)], pa.string()),
                         "few": pa.array(nullable(r, [r.choice(TEXTS) for _ in range(n)]), pa.string())})

    start = 0
    schema = part(0, 0).schema
    with pq.ParquetWriter(OUT / "groups.parquet", schema, write_statistics=False, data_page_size=300, dictionary_pagesize_limit=500,
                          write_batch_size=20, compression="snappy") as writer:
        for n in (60, 1, 0, 120, 17):
            writer.write_table(part(n, start), row_group_size=max(n, 1))
            start += n
    put_rows("groups.jsonl", rows(OUT / "groups.parquet"))
    put("no_rows", part(0, 0))
    pq.ParquetWriter(OUT / "no_groups.parquet", schema).close()
    put("wide", pa.table({f"column {i}": pa.array([i, None, -i], pa.int32()) for i in range(120)}), compression="none", use_dictionary=False)
    put("unicode", pa.table({"": ["empty name"], "späße": ["ß"], "日本": ["語"], "a.b": ["dot"], "😀": ["🎉"], "sp ace": ["\u2028"]}))
    pd.DataFrame({"prompt": ["a", None, "b"], "n": [1, 2, 3], "x": [1.5, None, 2.0], "when": pd.to_datetime(["2024-02-29", None, "1999-12-31"]),
                  "messages": [[{"role": "user", "content": "x"}], [], None]}).to_parquet(OUT / "pandas.parquet")
    put_rows("pandas.jsonl", rows(OUT / "pandas.parquet"))


# ---- files byte by byte ----

I32, I64, BINARY, LIST, STRUCT, TRUE = 5, 6, 8, 9, 12, 1


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def zigzag(n):
    return varint((n << 1 ^ n >> 63) & 2 ** 64 - 1)


def thrift(*fields):
    """A struct of Thrift's compact protocol of (id, type, value)."""
    out, before = b"", 0
    for number, kind, value in fields:
        if value is None:
            continue
        out += bytes([number - before << 4 | kind])
        before = number
        if kind in (I32, I64):
            out += zigzag(value)
        elif kind == BINARY:
            out += varint(len(value)) + value
        elif kind == LIST:
            of, values = value
            out += bytes([min(len(values), 15) << 4 | of]) + (varint(len(values)) if len(values) > 14 else b"")
            out += b"".join(zigzag(v) if of == I32 else v if of == STRUCT else varint(len(v)) + v for v in values)
        elif kind == STRUCT:
            out += value
    return out + b"\0"


def element(name, kind=None, repetition=0, children=None, converted=None, logical=None, length=None):
    return thrift((1, I32, kind), (2, I32, length), (3, I32, repetition), (4, BINARY, name), (5, I32, children), (6, I32, converted),
                  (10, STRUCT, logical))


def page(values, n, definitions=b"", repetitions=b"", encoding=0, level_encoding=3, unpacked=None, crc=None, kind=0):
    body = repetitions + definitions + values
    head = thrift((1, I32, n), (2, I32, encoding), (3, I32, level_encoding), (4, I32, level_encoding))
    return thrift((1, I32, kind), (2, I32, len(body) if unpacked is None else unpacked), (3, I32, len(body)), (4, I32, crc),
                  (7 if kind == 2 else 5, STRUCT, thrift((1, I32, n), (2, I32, encoding)) if kind == 2 else head)) + body


def rle(levels, width=1):
    body = b"".join(varint(2) + bytes([level]) for level in levels)
    return struct.pack("<I", len(body)) + body


def chunk(pages, kind, n, codec=0, size=None, place=None, path=b"x", extra=(), elsewhere=None):
    return {"pages": pages, "kind": kind, "n": n, "codec": codec, "size": size, "place": place, "path": path, "elsewhere": elsewhere, "extra": extra}


def whole(schema, chunks, n, stated=None, groups=1, extra=(), magic=b"PAR1", end=None):
    out = magic
    columns = []
    for c in chunks:
        place = len(out) if c["place"] is None else c["place"]
        out += c["pages"]
        size = len(c["pages"]) if c["size"] is None else c["size"]
        meta = thrift((1, I32, c["kind"]), (2, LIST, (I32, [0])), (3, LIST, (BINARY, [c["path"]])), (4, I32, c["codec"]), (5, I64, c["n"]),
                      (6, I64, size), (7, I64, size), (9, I64, place))
        columns.append(thrift((1, BINARY, c["elsewhere"]), (2, I64, place), (3, STRUCT, meta), *c["extra"]))
    group = thrift((1, LIST, (STRUCT, columns)), (2, I64, 0), (3, I64, n))
    footer = thrift((1, I32, 1), (2, LIST, (STRUCT, schema)), (3, I64, n * groups if stated is None else stated),
                    (4, LIST, (STRUCT, [group] * groups)), *extra)
    return out + footer + struct.pack("<I", len(footer)) + (magic if end is None else end)


def ints(*values):
    return struct.pack(f"<{len(values)}i", *values)


def texts(*values):
    return b"".join(struct.pack("<I", len(v)) + v for v in values)


def by_hand():
    """Schemas and levels of older writers; pyarrow reads them."""
    files = {
        # LIST with the repeated field itself as element: parquet-avro's old form, and "array" and NAME_tuple groups.
        "two_level": (
            [element(b"schema", children=4),
             element(b"a", repetition=1, children=1, converted=3), element(b"array", 1, 2),
             element(b"b", repetition=1, children=1, converted=3), element(b"array", None, 2, 1), element(b"x", 1, 0),
             element(b"c", repetition=0, children=1, converted=3), element(b"c_tuple", None, 2, 1), element(b"x", 1, 1),
             element(b"d", 1, 2)],
            [chunk(page(ints(1, 2, 3), 5, rle([2, 2, 0, 1, 2]), rle([0, 1, 0, 0, 0])), 1, 5),
             chunk(page(ints(1, 2, 3), 5, rle([2, 2, 0, 1, 2]), rle([0, 1, 0, 0, 0])), 1, 5),
             chunk(page(ints(1, 2), 5, rle([2, 2, 0, 1, 1]), rle([0, 1, 0, 0, 0])), 1, 5),
             chunk(page(ints(4, 5, 6), 5, rle([1, 1, 0, 0, 1]), rle([0, 1, 0, 0, 0])), 1, 5)], 4),
        # Converted types alone, a BINARY without any, a map of the old annotation.
        "converted": (
            [element(b"schema", children=5), element(b"u8", 1, 0, converted=11), element(b"i16", 1, 0, converted=16),
             element(b"s", 6, 0, converted=0), element(b"b", 6, 0),
             element(b"m", repetition=1, children=1, converted=2), element(b"map", None, 2, 2), element(b"key", 6, 0, converted=0), element(b"value", 1, 1)],
            [chunk(page(ints(200, -1), 2), 1, 2), chunk(page(ints(-5, 7), 2), 1, 2), chunk(page(texts(b"one", b"two"), 2), 6, 2),
             chunk(page(texts(b"bytes", b"\xff"), 2), 6, 2), chunk(page(texts(b"k", b"l"), 3, rle([2, 2, 1]), rle([0, 1, 0])), 6, 3),
             chunk(page(ints(9), 3, rle([3, 2, 1]), rle([0, 1, 0])), 1, 3)], 2),
    }
    for name, (schema, chunks, n) in files.items():
        (OUT / f"{name}.parquet").write_bytes(whole(schema, chunks, n))
        put_rows(f"{name}.jsonl", rows(OUT / f"{name}.parquet"))
    # Levels in BIT_PACKED: from the highest bit on, says the format. pyarrow takes them from the lowest, so that these rows are by hand.
    schema = [element(b"schema", children=1), element(b"x", 1, 1)]
    levels = bytes([0b10110000])
    (OUT / "bit_packed.parquet").write_bytes(whole(schema, [chunk(page(ints(1, 2, 3), 5, levels, level_encoding=4), 1, 5)], 5))
    put_rows("bit_packed.jsonl", [{"x": value} for value in (1, None, 2, 3, None)])


def wrong_files():
    """Each must be refused; tests/unit/test_parquet.c has the messages."""
    one = [element(b"schema", children=1), element(b"x", 1, 0)]
    text = [element(b"schema", children=1), element(b"x", 6, 0, converted=0)]
    pair = [element(b"schema", children=1), element(b"s", children=2, repetition=1), element(b"a", 1, 2), element(b"b", 1, 2)]
    good = page(ints(1, 2), 2)
    values = chunk(good, 1, 2)
    deep = [element(b"schema", children=1)] + [element(b"g", repetition=1, children=1)] * 70 + [element(b"x", 1, 0)]
    zeros = zlib.compress(bytes(100000))
    items = [element(b"schema", children=1), element(b"x", repetition=1, children=1, converted=3), element(b"list", None, 2, 1)]
    many, big = (1 << 24) + 1, zlib.compress(texts(b"x" * (1 << 16)))

    def runs(*pairs):
        body = b"".join(varint(count << 1) + bytes([level]) for count, level in pairs)
        return struct.pack("<I", len(body)) + body

    files = {
        "cut_short": whole(one, [values], 2)[:-9], "magic": b"PAR0" + whole(one, [values], 2)[4:], "tiny": b"PAR1",
        "encrypted": whole(one, [values], 2, magic=b"PARE"), "encrypted_columns": whole(one, [values], 2, extra=[(8, STRUCT, thrift())]),
        "encrypted_column": whole(one, [chunk(good, 1, 2, extra=[(8, STRUCT, thrift())])], 2),
        "elsewhere": whole(one, [chunk(good, 1, 2, elsewhere=b"other.parquet")], 2),
        "footer_length": whole(one, [values], 2)[:-8] + struct.pack("<I", 1 << 30) + b"PAR1",
        "footer_text": whole(one, [values], 2, extra=[(6, BINARY, b"")])[:-9] + b"\x7f" + whole(one, [values], 2)[-8:],
        "outside": whole(one, [chunk(good, 1, 2, size=1 << 40)], 2), "negative": whole(one, [chunk(good, 1, 2, size=-1)], 2),
        "overlap": whole([element(b"schema", children=2), element(b"x", 1, 0), element(b"y", 1, 0)], [values, chunk(b"", 1, 2, size=4, place=6)], 2),
        "many_rows": whole(one, [values], 2, stated=3), "many_values": whole(one, [chunk(good, 1, 1 << 50)], 1 << 50),
        "few_values": whole(one, [chunk(good, 1, 3)], 3), "no_columns": whole([element(b"schema")], [], 0),
        "twice": whole([element(b"schema", children=2), element(b"x", 1, 0), element(b"x", 1, 0)], [values, values], 2),
        "deep": whole(deep, [values], 2), "children": whole([element(b"schema", children=9), element(b"x", 1, 0)], [values], 2),
        "kind": whole([element(b"schema", children=1), element(b"x", 17, 0)], [values], 2), "name": whole([element(b"schema", children=1), element(b"\xff", 1, 0)], [values], 2),
        "encoding": whole(one, [chunk(page(ints(1, 2), 2, encoding=6), 1, 2)], 2), "encoding_unknown": whole(one, [chunk(page(ints(1, 2), 2, encoding=77), 1, 2)], 2),
        "short_page": whole(one, [chunk(page(ints(1), 2), 1, 2)], 2), "crc": whole(one, [chunk(page(ints(1, 2), 2, crc=zlib.crc32(ints(1, 2)) - 2 ** 31), 1, 2)], 2),
        "bomb": whole(one, [chunk(page(zeros, 1 << 24, unpacked=1 << 26), 1, 1 << 24, codec=2)], 1 << 24),
        "bomb_snappy": whole(one, [chunk(page(varint(1 << 26) + b"\0\0", 1 << 24, unpacked=1 << 26), 1, 1 << 24, codec=1)], 1 << 24),
        "bomb_zstd": whole(one, [chunk(page(b"\x28\xb5\x2f\xfd", 1 << 26, unpacked=1 << 28), 1, 1 << 26, codec=6)], 1 << 26),
        "unpacked": whole(one, [chunk(page(zlib.compress(ints(1, 2)), 3, unpacked=12), 1, 3, codec=2)], 3),
        "absent": whole([element(b"schema", children=1), element(b"s", repetition=1, children=2), element(b"a", 1, 1), element(b"b", 1, 1)],
                        [chunk(page(b"", 1, rle([0], 2)), 1, 1), chunk(page(b"", 1, rle([1], 2)), 1, 1)], 1),
        "snappy": whole(one, [chunk(page(b"\x08\xff\xff", 2, unpacked=8), 1, 2, codec=1)], 2),
        "zstd": whole(one, [chunk(page(b"nothing", 2, unpacked=8), 1, 2, codec=6)], 2), "gzip": whole(one, [chunk(page(b"nothing", 2, unpacked=8), 1, 2, codec=2)], 2),
        "lz4": whole(one, [chunk(good, 1, 2, codec=7)], 2), "brotli": whole(one, [chunk(good, 1, 2, codec=4)], 2),
        "many_items": whole(items + [element(b"element", 1, 1)], [chunk(page(b"", many, runs((many, 2)), runs((1, 0), (many - 1, 1))), 1, many)], 1),
        "many_bytes": whole(items + [element(b"element", 6, 0, converted=0)],
                            [chunk(page(big, 1, kind=2, unpacked=4 + (1 << 16)) +
                                   page(zlib.compress(runs((1, 0), (4096, 1)) + runs((4097, 2)) + b"\x01" + runs((4097, 0))[4:]), 4097, encoding=8,
                                        unpacked=len(runs((1, 0), (4096, 1)) + runs((4097, 2)) + b"\x01" + runs((4097, 0))[4:])), 6, 4097, codec=2)], 1),
        "utf8": whole(text, [chunk(page(texts(b"good", b"b\xc3d"), 2), 6, 2)], 2),
        "long_text": whole(text, [chunk(page(struct.pack("<I", 1 << 31) + b"x", 1), 6, 1)], 1),
        "dictionary": whole(one, [chunk(page(b"\x01\x04\x00", 2, encoding=8), 1, 2)], 2),
        "index": whole(one, [chunk(page(ints(1, 2), 2, kind=2) + page(b"\x02\x04\x03", 2, encoding=8), 1, 2)], 2),
        "two_dictionaries": whole(one, [chunk(page(ints(1), 1, kind=2) * 2 + good, 1, 2)], 2),
        "level": whole([element(b"schema", children=1), element(b"g", repetition=1, children=1), element(b"h", repetition=1, children=1), element(b"x", 1, 0)],
                       [chunk(page(ints(1, 2), 2, rle([2, 3])), 1, 2)], 2),
        "within": whole([element(b"schema", children=1), element(b"x", 1, 2)], [chunk(page(ints(1, 2), 2, rle([1, 1]), rle([1, 0])), 1, 2)], 1),
        "disagree": whole(pair, [chunk(page(ints(1, 2), 2, rle([2, 2]), rle([0, 1])), 1, 2), chunk(page(b"", 1, rle([0]), rle([0])), 1, 1)], 1),
        "wide_delta": whole(one, [chunk(page(b"\x80\x01\x04\x02\x00\x00\x7f\x00\x00\x00", 2, encoding=5), 1, 2)], 2),
        "prefix": whole(text, [chunk(page(b"\x80\x01\x04\x01\x0a" + b"\x80\x01\x04\x01\x02" + b"x", 1, encoding=7), 6, 1)], 1),
    }
    for name, content in files.items():
        (OUT / f"wrong_{name}.parquet").write_bytes(content)
    maps = pa.array([[("good", 1)], [("a\0b", 2)]], pa.map_(pa.string(), pa.int32()))
    pq.write_table(pa.table({"x": maps}), OUT / "wrong_map_key.parquet", compression="none")


# ---- the sweep ----

SCALARS = [pa.string(), pa.string(), pa.large_string(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
           pa.float32(), pa.float64(), pa.float16(), pa.bool_(), pa.bool_(), pa.date32(), pa.time32("ms"), pa.time64("us"), pa.time64("ns"),
           pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.duration("ms"), pa.decimal128(9, 2), pa.decimal128(38, 10),
           pa.decimal128(5, 0), pa.decimal256(70, 3), pa.binary(), pa.binary(4), pa.null(), pa.dictionary(pa.int32(), pa.string())]
PHYSICAL = {"BOOLEAN": ["PLAIN", "RLE"], "INT96": ["PLAIN"], "BYTE_ARRAY": ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"],
            "INT32": ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"], "INT64": ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"],
            "FLOAT": ["PLAIN", "BYTE_STREAM_SPLIT"], "DOUBLE": ["PLAIN", "BYTE_STREAM_SPLIT"],
            "FIXED_LEN_BYTE_ARRAY": ["PLAIN", "BYTE_STREAM_SPLIT", "DELTA_BYTE_ARRAY"]}


def random_field(r, name, depth, required):
    share = r.random()
    if depth == 0 or share < 0.45:
        kind = r.choice(SCALARS)
    elif share < 0.7:
        kind = r.choice([pa.list_, pa.list_, pa.large_list])(random_field(r, "element", depth - 1, 0.2))
    elif share < 0.9:
        kind = pa.struct([random_field(r, f"f{i}", depth - 1, 0.3) for i in range(r.randrange(1, 4))])
    else:
        kind = pa.map_(r.choice([pa.string(), pa.int32()]), random_field(r, "value", depth - 1, 0.2))
    return pa.field(name, kind, nullable=pa.types.is_null(kind) or r.random() >= required)


def random_value(r, field, none):
    kind = field.type
    if pa.types.is_null(kind) or (field.nullable and r.random() < none):
        return None
    if pa.types.is_dictionary(kind):
        return r.choice(TEXTS)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return " ".join(r.choice(TEXTS) for _ in range(r.randrange(0, 6)))
    if pa.types.is_boolean(kind):
        return r.random() < 0.5
    if pa.types.is_integer(kind):
        bits = kind.bit_width
        low, high = (0, 2 ** bits - 1) if pa.types.is_unsigned_integer(kind) else (-2 ** (bits - 1), 2 ** (bits - 1) - 1)
        return r.choice([low, high, max(low, -1), r.randrange(100), r.randrange(low, high + 1)])
    if pa.types.is_float16(kind):
        return np.float16(r.choice([0, 1.5, -2.25, 65504, 6e-8, math.inf, r.random()]))
    if pa.types.is_floating(kind):
        return r.choice([0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, r.random() * 1e10, 1e-300])
    if pa.types.is_date(kind):
        return datetime.date(r.randrange(1, 10000), r.randrange(1, 13), r.randrange(1, 29))
    if pa.types.is_time(kind):
        return r.randrange(86400 * 10 ** DIGITS[kind.unit])
    if pa.types.is_timestamp(kind):
        low, high = (-9 * 10 ** 9, 9 * 10 ** 9) if kind.unit == "ns" else (-62 * 10 ** 9, 253 * 10 ** 9)  # years 5 and 9987
        return r.choice([0, 1]) * r.randrange(10 ** DIGITS[kind.unit]) + r.randrange(low, high) * 10 ** DIGITS[kind.unit]
    if pa.types.is_duration(kind):
        return r.randrange(-10 ** 12, 10 ** 12)
    if pa.types.is_decimal(kind):
        most = 10 ** kind.precision - 1
        with decimal.localcontext() as context:
            context.prec = 80
            return decimal.Decimal(r.choice([most, -most, 0, r.randrange(-most, most + 1), r.randrange(-99, 99)])).scaleb(-kind.scale)
    if pa.types.is_fixed_size_binary(kind):
        return bytes(r.randrange(256) for _ in range(kind.byte_width))
    if pa.types.is_binary(kind):
        return bytes(r.randrange(256) for _ in range(r.randrange(9)))
    if pa.types.is_struct(kind):
        return {child.name: random_value(r, child, none) for child in kind}
    if pa.types.is_map(kind):
        keys = pa.field("key", kind.key_type, nullable=False)
        return [(key, random_value(r, kind.item_field, none)) for key in sorted({random_value(r, keys, 0) for _ in range(r.randrange(4))})]
    return [random_value(r, kind.value_field, none) for _ in range(r.choice([0, 1, 2, r.randrange(20)]))]


def random_file(r, path):
    """Writes a random file; returns what it was written with."""
    schema = pa.schema([random_field(r, f"c{i}", 3, 0.2) for i in range(r.randrange(1, 5))])
    n, none = r.choice([0, 1, 5, 50, r.randrange(400)]), r.choice([0, 0.1, 0.5, 1])
    table = pa.Table.from_pylist([{field.name: random_value(r, field, none) for field in schema} for _ in range(n)], schema=schema)
    options = {"compression": r.choice(["none", "snappy", "gzip", "zstd"]), "data_page_version": r.choice(["1.0", "2.0"]),
               "version": r.choice(["2.4", "2.6"]), "row_group_size": r.choice([1, 7, 100, 10000]), "data_page_size": r.choice([1, 64, 500, 1 << 20]),
               "write_batch_size": r.choice([1, 3, 50, 1024]), "dictionary_pagesize_limit": r.choice([1, 40, 1 << 20]),
               "write_page_index": r.random() < 0.3, "write_page_checksum": r.random() < 0.5, "use_compliant_nested_type": r.random() < 0.7,
               "max_rows_per_page": r.choice([1, 5, 100, 20000]), "use_dictionary": r.random() < 0.5,
               "coerce_timestamps": r.choice([None, None, "us"]), "allow_truncated_timestamps": True}
    pq.write_table(table, path, **options)
    if not options["use_dictionary"]:
        leaves = pq.ParquetFile(path).schema
        leaves = [leaves.column(i) for i in range(len(leaves.names))]
        options["column_encoding"] = {leaf.path: r.choice(PHYSICAL[leaf.physical_type]) for leaf in leaves}
        pq.write_table(table, path, **options)
    return schema, options


def compare(r, reader, path, expected, written):
    """Reads a file with the reader in some order; the number of its rows, if they are those expected."""
    order = r.choice(["ascending", "descending", "scattered"])
    places = {"ascending": list(range(len(expected))), "descending": list(range(len(expected)))[::-1],
              "scattered": [(i * 7919 + 13) % len(expected) for i in range(len(expected))]}[order]
    result = subprocess.run([reader, path, order], capture_output=True)
    lines = [json.dumps(json.loads(line)) for line in result.stdout.decode("utf-8").split("\n")[:-1]]
    wanted = [json.dumps(expected[i]) for i in places]
    if result.returncode != 0 or lines != wanted:
        print(f"{path.name}, {order}: {result.stderr.decode()[-2000:]}", *written, sep="\n")
        print(*next(((line, want) for line, want in zip(lines, wanted) if line != want), ()), sep="\n")
        sys.exit(1)
    return len(expected)


def sweep(n, seed, reader):
    n_rows = n_left_out = 0
    with tempfile.TemporaryDirectory() as folder:
        for k in range(n):
            r = random.Random(seed * 1000003 + k)
            path = pathlib.Path(folder) / f"{seed}_{k}.parquet"
            try:
                written = random_file(r, path)
                expected = rows(path)
            except (OSError, pa.ArrowException):  # pyarrow does not write all that it takes, nor read all that it writes
                n_left_out += 1
                continue
            n_rows += compare(r, reader, path, expected, written)
            path.unlink()
    print(f"{n - n_left_out} files, {n_rows} rows: equal; {n_left_out} files that pyarrow does not write or read itself")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--sweep"]:
        sweep(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        OUT.mkdir(parents=True, exist_ok=True)
        for make in (every_encoding, nested, types, groups, by_hand, wrong_files):
            make()
