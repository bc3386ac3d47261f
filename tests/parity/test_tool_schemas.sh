#!/usr/bin/env bash
# The schemas of Python functions that are tools, byte for byte those of transformers' get_json_schema (oracle/tools_transformers.py); what it
# refuses is refused, with the function's name.
set -euo pipefail
command -v python3 >/dev/null || { echo "no python3"; exit 0; }
python3 - "$SOURCE" <<'PYTHON'
import json, subprocess, sys
source = sys.argv[1]
schemas = json.load(open(source + "/tests/fixtures/tool_schemas.json"))["schemas"]
functions, failed = source + "/tests/support/tool_functions.py", 0
def ready(names):
    hello = '{"type":"hello","protocol":[1]}\n{"type":"stop"}\n'
    done = subprocess.run([sys.executable, source + "/src/environment/tools_worker.py", functions, names], input=hello, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[0])
good = [n for n, s in schemas.items() if s is not None]
said = ready(",".join(good))
for name, tool in zip(good, said["tools"]):
    if json.dumps(tool) != schemas[name]:
        print("%s:\n  %s, expected\n  %s" % (name, json.dumps(tool), schemas[name]))
        failed += 1
for name, schema in schemas.items():
    if schema is not None:
        continue
    said = ready(name)
    if said["type"] != "error" or name not in said["message"]:
        print("%s: %r, expected a refusal that names it" % (name, said))
        failed += 1
assert len(good) >= 30 and len(schemas) >= 40, (len(good), len(schemas))
print("%d schemas, %d refusals" % (len(good), len(schemas) - len(good)))
sys.exit(failed > 0)
PYTHON
