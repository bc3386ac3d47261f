"""What pyarrow and TensorBoard read of exported runs is what run.db has.

    run_exports.py RUN METRICS.parquet COMPLETIONS.parquet EVENTS_FOLDER
"""
import math
import sqlite3
import sys

import pyarrow.parquet as pq
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run, metrics_file, completions_file, events = sys.argv[1:]
database = sqlite3.connect(f"file:{run}/run.db?mode=ro", uri=True)

table = pq.read_table(metrics_file)
found = {(row["step"], name): value for row in table.to_pylist() for name, value in row.items()
         if name not in ("step", "epoch", "time") and value is not None and not math.isnan(value)}
wanted = {(step, name): value for step, name, value in database.execute("SELECT step, name, value FROM metrics WHERE value IS NOT NULL")}
assert found == wanted, set(found.items()) ^ set(wanted.items())

columns = ["step", "set", "group", "index", "row", "prompt", "completion", "finish_reason", "tokens", "logprob", "reward", "advantage"]
found = [tuple(row[c] for c in columns) for row in pq.read_table(completions_file).to_pylist()]
wanted = database.execute("SELECT {} FROM completions".format(", ".join(f'"{c}"' for c in columns))).fetchall()
assert sorted(found, key=str) == sorted(wanted, key=str)

accumulator = EventAccumulator(events)
accumulator.Reload()
scalars = {(event.step, tag): event.value for tag in accumulator.Tags()["scalars"] for event in accumulator.Scalars(tag)}
every = {(step, name): value for step, name, value in database.execute("SELECT step, name, value FROM metrics")}
assert scalars.keys() == every.keys(), scalars.keys() ^ every.keys()
for key, value in every.items():
    assert math.isnan(scalars[key]) if value is None else math.isclose(scalars[key], value, rel_tol=1e-6), key
print(f"{len(every)} metrics, {len(found)} completions")
