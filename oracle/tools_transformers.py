"""Writes tests/fixtures/tool_schemas.json: what transformers' get_json_schema makes of the functions of tests/support/tool_functions.py, as
text, for the order of keys counts; null where it refuses."""

import importlib.util
import inspect
import json
import os

import transformers
from transformers.utils import get_json_schema

here = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location("tool_functions", here + "/../tests/support/tool_functions.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
out = {}
for name, function in vars(module).items():
    if not inspect.isfunction(function) or name.startswith("_"):
        continue
    try:
        out[name] = json.dumps(get_json_schema(function))
    except Exception as error:
        print(name, "is refused:", type(error).__name__)
        out[name] = None
with open(here + "/../tests/fixtures/tool_schemas.json", "w") as file:
    json.dump({"transformers": transformers.__version__, "schemas": out}, file, indent=1)
    file.write("\n")
