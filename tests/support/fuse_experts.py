"""fuse_experts.py FROM TO: a copy of a checkpoint of one file whose experts are tensors of their own, with those of a layer
in one (mlp.experts.gate_up_proj, mlp.experts.down_proj)."""
import json
import re
import shutil
import struct
import sys

source, target = sys.argv[1:]
shutil.copytree(source, target)
with open(f"{source}/model.safetensors", "rb") as file:
    header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    data = file.read()
header.pop("__metadata__", None)
tensors, stacks = {}, {}
for name, entry in header.items():
    begin, end = entry["data_offsets"]
    match = re.fullmatch(r"(.*\.mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.weight", name)
    if match is None:
        tensors[name] = (entry["dtype"], entry["shape"], data[begin:end])
    else:
        stack = stacks.setdefault(f"{match[1]}.{'down' if match[3] == 'down' else 'gate_up'}_proj", {})
        stack[int(match[2]), match[3] == "up"] = (entry["dtype"], entry["shape"], data[begin:end])
for name, stack in stacks.items():
    dtype, (rows, columns), _ = next(iter(stack.values()))
    experts = 1 + max(e for e, _ in stack)
    rows *= len(stack) // experts
    tensors[name] = (dtype, [experts, rows, columns], b"".join(stack[key][2] for key in sorted(stack)))
written, place = {}, 0
for name, (dtype, shape, values) in tensors.items():
    written[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + len(values)]}
    place += len(values)
text = json.dumps(written).encode()
text += b" " * (-len(text) % 8)
with open(f"{target}/model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + b"".join(values for _, _, values in tensors.values()))
