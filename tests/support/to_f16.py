"""to_f16.py FROM TO [NAME=VALUE]: a copy of an F32 checkpoint of one file in F16; NAME: a tensor all of whose elements
become VALUE. to_f16.py FILE: prints its tensors, each with its type and the hash of its bytes."""
import hashlib
import json
import shutil
import struct
import sys


def read(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]) for name, entry in header.items()}


if len(sys.argv) == 2:
    for name, (dtype, _, values) in sorted(read(sys.argv[1]).items()):
        print(name, dtype, hashlib.sha256(values).hexdigest())
    sys.exit()
source, target, *changes = sys.argv[1:]
changed = dict(change.split("=") for change in changes)
shutil.copytree(source, target)
written, parts, place = {}, [], 0
for name, (dtype, shape, values) in read(f"{source}/model.safetensors").items():
    assert dtype == "F32", name
    n = len(values) // 4
    numbers = struct.unpack(f"<{n}f", values) if name not in changed else [float(changed[name])] * n
    parts.append(struct.pack(f"<{n}e", *numbers))
    written[name] = {"dtype": "F16", "shape": shape, "data_offsets": [place, place + 2 * n]}
    place += 2 * n
text = json.dumps(written).encode()
text += b" " * (-len(text) % 8)
with open(f"{target}/model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))
with open(f"{source}/config.json") as file:
    config = json.load(file)
config.pop("dtype", None)
config["torch_dtype"] = "float16"
with open(f"{target}/config.json", "w") as file:
    json.dump(config, file, indent=2)
