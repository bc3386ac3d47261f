"""Writes tests/fixtures/arrow: Arrow files by pyarrow and datasets, and the rows that pyarrow reads from them as JSON lines;
files that are wrong.

    python oracle/arrow_files.py                        the fixtures
    python oracle/arrow_files.py --sweep N SEED READER  N random files (schema, data, options), each read by READER FILE
                                                        ORDER, build/tests/test_arrow, whose rows must be pyarrow's

What a value is in JSON is in src/format/arrow.h.
"""

import json
import pathlib
import random
import shutil
import struct
import sys
import tempfile
import uuid

import datasets
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc

import parquet_files as parquet

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "arrow"
V4, V5 = pa.ipc.MetadataVersion.V4, pa.ipc.MetadataVersion.V5


def plain(scalar):
    """A scalar of pyarrow as the JSON value that is expected."""
    kind = scalar.type
    if isinstance(kind, pa.JsonType) and scalar.is_valid:
        return json.loads(scalar.as_py())
    if isinstance(scalar, pa.ExtensionScalar) or not scalar.is_valid:
        return parquet.plain(scalar)
    if pa.types.is_dictionary(kind):
        return plain(scalar.value)
    if pa.types.is_map(kind):
        pairs = [(plain(item["key"]), plain(item["value"])) for item in scalar.values]
        return dict(pairs) if pa.types.is_string(kind.key_type) else [list(pair) for pair in pairs]
    if pa.types.is_struct(kind):
        return {field.name: plain(scalar[i]) for i, field in enumerate(kind)}
    if kind.num_fields == 1 and hasattr(kind, "value_field"):
        return [plain(item) for item in scalar.values]
    if kind == pa.binary_view():
        return parquet.plain(pa.scalar(scalar.as_py(), pa.binary()))
    return parquet.plain(scalar)


def rows(path):
    content = pathlib.Path(path).read_bytes()
    table = (pa.ipc.open_file if content[:6] == b"ARROW1" else pa.ipc.open_stream)(pa.py_buffer(content)).read_all()
    columns = [(name, table.column(i)) for i, name in enumerate(table.column_names)]
    return [{name: plain(column[row]) for name, column in columns} for row in range(len(table))]


def write(path, batches, framed, **options):
    options = pa.ipc.IpcWriteOptions(**options)
    with (pa.ipc.new_file if framed else pa.ipc.new_stream)(str(path), batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)


def put(name, batches, framed=False, same_as=None, **options):
    write(OUT / f"{name}.arrow", batches, framed, **options)
    if same_as is not None:
        assert rows(OUT / f"{name}.arrow") == rows(OUT / f"{same_as}.arrow")
        return
    with open(OUT / f"{name}.jsonl", "w", encoding="utf-8") as out:
        for row in rows(OUT / f"{name}.arrow"):
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")


def sample(n, seed):
    """A table of n rows with every type."""
    r = random.Random(seed)
    fields = [pa.field(f"c{i}", kind) for i, kind in enumerate(SCALARS)]
    fields += [pa.field(name, kind) for name, kind in [
        ("messages", parquet.MESSAGES), ("large", pa.large_list(pa.list_(pa.int16()))), ("fixed", pa.list_(pa.string(), 2)),
        ("views", pa.list_view(pa.string_view())), ("large_views", pa.large_list_view(pa.int8())), ("map", pa.map_(pa.string(), pa.int32())),
        ("pairs", pa.map_(pa.int32(), pa.list_(pa.bool_()))), ("object", pa.struct([("a", pa.struct([("b", pa.list_(pa.null()))])), ("c", pa.date64())])),
        ("categories", pa.list_(pa.dictionary(pa.int8(), pa.string())))]]
    schema = pa.schema(fields)
    return pa.Table.from_pylist([{field.name: value_of(r, field, 0.25) for field in schema} for _ in range(n)], schema=schema)


def fixtures():
    table = sample(23, 1)
    put("stream", table.to_batches(9))
    put("framed", table.to_batches(9), True, same_as="stream")
    put("zstd", table.to_batches(20), compression="zstd", same_as="stream")
    put("lz4", table.to_batches(4), True, compression="lz4", same_as="stream")
    put("version_4", table.to_batches(30), metadata_version=V4, same_as="stream")
    put("legacy", table.select(["c0", "c6", "messages"]).to_batches(10), use_legacy_format=True, metadata_version=V4)
    put("no_rows", table.slice(0, 0).to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)])
    small = sample(3, 2)  # what fuzzing begins with
    put("small", small.to_batches(2))
    put("small_framed", small.to_batches(2), True, same_as="small")
    put("small_zstd", small.to_batches(2), same_as="small", compression="zstd")
    put("small_lz4", small.to_batches(2), same_as="small", compression="lz4")
    # Dictionaries that are replaced, go on, and are shared.
    parts = [pa.array(values, pa.string()).dictionary_encode() for values in (["a", "b", "a"], ["c", None, "c"], ["c", "d"])]
    put("replaced", [pa.RecordBatch.from_arrays([part], ["x"]) for part in parts])
    index = [pa.array(values, pa.int16()) for values in ([0, 1], [2, 0], [3, None, 1])]
    words = pa.array(["a", "bb", "", "dddd"])
    grown = [pa.DictionaryArray.from_arrays(i, words[:n]) for i, n in zip(index, (2, 3, 4))]
    put("deltas", [pa.RecordBatch.from_arrays([part], ["x"]) for part in grown], emit_dictionary_deltas=True)
    put("framed_deltas", [pa.RecordBatch.from_arrays([part], ["x"]) for part in grown], True, same_as="deltas", emit_dictionary_deltas=True)
    nested = pa.DictionaryArray.from_arrays(pa.array([1, 0, None, 2], pa.uint32()), pa.array([["x", "y"], None, []], pa.list_(pa.string())))
    put("nested", [pa.RecordBatch.from_arrays([nested], ["x"])])
    put("extensions", [pa.RecordBatch.from_arrays([
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([uuid.UUID(int=i << 100 | 255).bytes for i in range(3)], pa.binary(16))),
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}', "[]", None]))], ["uuid", "json"])])
    # A slice: its offsets do not begin at 0, nor its bits at a byte.
    put("sliced", table.slice(5, 11).to_batches())
    pa.feather.write_feather(table.select(["c0", "messages"]), OUT / "default.feather")  # LZ4
    with open(OUT / "default.jsonl", "w", encoding="utf-8") as out:
        for row in rows(OUT / "default.feather"):
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def saved():
    """Folders of datasets: one set of two files, and one with splits, beside what maps leave in them."""
    train = datasets.Dataset.from_list([{"prompt": f"p{i}", "n": i, "turns": [{"role": "user", "content": "é" * i}]} for i in range(7)])
    train.save_to_disk(OUT / "saved", num_shards=2)
    # What dataset.map leaves beside the files of a set that was loaded from there.
    shutil.copy(OUT / "saved" / "data-00000-of-00002.arrow", OUT / "saved" / "cache-0123456789abcdef.arrow")
    datasets.DatasetDict({"train_sft": train.select([2, 0]), "test_sft": train.select([1])}).save_to_disk(OUT / "saved_splits")


def wrong():
    """Each must be refused; tests/unit/test_arrow.c has the messages."""
    one = pa.RecordBatch.from_arrays([pa.array(["good", "text"])], ["x"])
    write(OUT / "good.arrow", [one], False)
    stream = (OUT / "good.arrow").read_bytes()
    write(OUT / "good.arrow", [one], True)
    framed = (OUT / "good.arrow").read_bytes()
    (OUT / "good.arrow").unlink()

    def of(array, **options):
        path = OUT / "wrong.arrow"
        write(path, [pa.RecordBatch.from_arrays([array], ["x"])], False, **options)
        content = path.read_bytes()
        path.unlink()
        return content

    ints = pa.array([1, 2], pa.int32())
    at = stream.index(struct.pack("<iii", 0, 4, 8))
    indices = of(pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array(["a", "b"])))
    last = indices.rindex(struct.pack("<ii", 0, 1))
    packed = of(pa.array(["x" * 500] * 20), compression="zstd")
    place = packed.rindex(b"\x28\xb5\x2f\xfd") - 8
    files = {
        "cut": stream[:-12], "no_end": stream[:-8], "twice": stream + stream, "head": stream[:3], "cut_framed": framed[:-1],
        "footer": framed[:-10] + struct.pack("<i", 1 << 30) + framed[-6:], "metadata": stream[:40] + b"\xff" * 8 + stream[48:],
        "offsets": stream[:at] + struct.pack("<iii", 0, 400, 8) + stream[at + 12:],
        "falling": stream[:at] + struct.pack("<iii", 0, 4, 2) + stream[at + 12:],
        "utf8": stream.replace(b"goodtext", b"good\xfftxt"), "index": indices[:last] + struct.pack("<ii", 0, 7) + indices[last + 8:],
        "union": of(pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [ints])),
        "runs": of(pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array([5]))),
        "interval": of(pa.array([pa.MonthDayNano([1, 2, 3])])), "text": b"\xff\xff\xff\xffnothing at all",
        "bomb": packed[:place] + struct.pack("<q", 1 << 40) + packed[place + 8:], "unpacked": packed[:place] + struct.pack("<q", 9999) + packed[place + 8:],
        "negative": packed[:place] + struct.pack("<q", -5) + packed[place + 8:], "damaged": packed[:place + 12] + b"\xff" * 8 + packed[place + 20:],
        "feather_1": b"FEA1" + bytes(30), "map_key": of(pa.array([[("good", 1)], [("a\0b", 2)]], pa.map_(pa.string(), pa.int32()))),
    }
    schema = pa.schema([])
    with pa.ipc.new_stream(str(OUT / "wrong_no_columns.arrow"), schema):
        pass
    files["no_columns"] = (OUT / "wrong_no_columns.arrow").read_bytes()
    two = pa.RecordBatch.from_arrays([ints, ints], ["x", "x"])
    write(OUT / "wrong_names.arrow", [two], False)
    deep = pa.int8()
    for _ in range(70):
        deep = pa.list_(deep)
    with pa.ipc.new_stream(str(OUT / "wrong_deep.arrow"), pa.schema([("x", deep)])):
        pass
    for name, content in files.items():
        (OUT / f"wrong_{name}.arrow").write_bytes(content)


# ---- the sweep ----

SCALARS = parquet.SCALARS + [pa.string_view(), pa.binary_view(), pa.large_binary(), pa.date64(), pa.time32("s"), pa.timestamp("s"), pa.timestamp("s", "Asia/Tokyo"),
                             pa.duration("s"), pa.decimal32(7, 2), pa.decimal64(15, 4), pa.dictionary(pa.int8(), pa.large_string()), pa.dictionary(pa.uint16(), pa.int64())]


def random_type(r, depth):
    share = r.random()
    if depth == 0 or share < 0.45:
        return r.choice(SCALARS)
    if share < 0.75:
        element = random_field(r, "item", depth - 1)
        kind = r.choice([pa.list_, pa.list_, pa.large_list, pa.list_view, pa.large_list_view, None])
        return pa.list_(element, r.randrange(4)) if kind is None else kind(element)
    if share < 0.9:
        return pa.struct([random_field(r, f"f{i}", depth - 1) for i in range(r.randrange(1, 4))])
    return pa.map_(r.choice([pa.string(), pa.int32()]), random_field(r, "value", depth - 1))


def random_field(r, name, depth):
    kind = random_type(r, depth)
    return pa.field(name, kind, nullable=pa.types.is_null(kind) or r.random() >= 0.2)


def value_of(r, field, none):
    kind = field.type
    if pa.types.is_null(kind) or (field.nullable and r.random() < none):
        return None
    if pa.types.is_dictionary(kind):
        return r.randrange(9) if pa.types.is_integer(kind.value_type) else r.choice(parquet.TEXTS)
    if kind == pa.string_view():
        return r.choice(parquet.TEXTS)
    if kind in (pa.binary_view(), pa.large_binary()):
        return bytes(r.randrange(256) for _ in range(r.choice([3, 12, 13, 40])))
    if pa.types.is_struct(kind):
        return {child.name: value_of(r, child, none) for child in kind}
    if pa.types.is_map(kind):
        keys = {parquet.random_value(r, pa.field("key", kind.key_type, nullable=False), 0) for _ in range(r.randrange(4))}
        return [(key.replace("\0", "") if isinstance(key, str) else key, value_of(r, kind.item_field, none)) for key in sorted(keys)]
    if kind.num_fields == 1:
        n = kind.list_size if pa.types.is_fixed_size_list(kind) else r.choice([0, 1, 2, r.randrange(20)])
        return [value_of(r, kind.value_field, none) for _ in range(n)]
    return parquet.random_value(r, field, none)


def random_file(r, path):
    """Writes a random file; returns what it was written with."""
    schema = pa.schema([random_field(r, f"c{i}", 3) for i in range(r.randrange(1, 5))])
    none = r.choice([0, 0.1, 0.5, 1])
    framed = r.random() < 0.5
    options = {"compression": r.choice([None, "lz4", "zstd"]), "metadata_version": r.choice([V4, V5]), "emit_dictionary_deltas": r.random() < 0.5,
               "unify_dictionaries": framed, "use_legacy_format": not framed and r.random() < 0.2}
    if options["use_legacy_format"]:
        options["metadata_version"] = V4
    if options["metadata_version"] == V4:
        options["compression"] = None  # pyarrow writes it, and does not read it
    parts = [pa.Table.from_pylist([{field.name: value_of(r, field, none) for field in schema} for _ in range(n)], schema=schema)
             for n in r.choice([[0], [1], [5, 0, 9], [r.randrange(300)], [40, 40, 40]])]
    table = pa.concat_tables(parts)
    if r.random() < 0.3 and len(table) > 10:
        table = table.slice(r.randrange(10))
    ipc = pa.ipc.IpcWriteOptions(**options)
    with (pa.ipc.new_file if framed else pa.ipc.new_stream)(str(path), schema, options=ipc) as writer:
        writer.write_table(table, r.choice([1, 7, 1000]))
    return schema, framed, options


def sweep(n, seed, reader):
    n_rows = n_left_out = 0
    with tempfile.TemporaryDirectory() as folder:
        for k in range(n):
            r = random.Random(seed * 1000003 + k)
            path = pathlib.Path(folder) / f"{seed}_{k}.arrow"
            try:
                written = random_file(r, path)
                expected = rows(path)
            except (OSError, pa.ArrowException):  # pyarrow does not write all that it takes, nor read all that it writes
                n_left_out += 1
                continue
            n_rows += parquet.compare(r, reader, path, expected, written)
            path.unlink()
    print(f"{n - n_left_out} files, {n_rows} rows: equal; {n_left_out} files that pyarrow does not write or read itself")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--sweep"]:
        sweep(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        shutil.rmtree(OUT, ignore_errors=True)
        OUT.mkdir(parents=True)
        for make in (fixtures, saved, wrong):
            make()
