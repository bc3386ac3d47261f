#!/usr/bin/env python3
"""Sends a run to Weights & Biases while it goes on:

    cohort grpo --config grpo.yaml --report-to 'exec:python3 examples/report_wandb.py'

cohort writes JSON lines to this program's standard input: {"start": {"run", "command", "step", "config"}}, then a line for each step as
in metrics.jsonl, at the end {"end": {"status"}}. Trackio has the same calls: REPORT=trackio takes it in place of wandb; REPORT=print
shows what would be sent.
"""
import importlib
import json
import os
import sys

service = os.environ.get("REPORT", "wandb")
tracker = None if service == "print" else importlib.import_module(service)
for line in sys.stdin:
    message = json.loads(line)
    if "start" in message:
        start = message["start"]
        name = os.path.basename(os.path.normpath(start["run"]))
        config = dict(row.split(": ", 1) for row in start["config"].splitlines() if ": " in row)
        print(f"run {name} from step {start['step']}: {len(config)} options")
        if tracker:
            more = {"id": name, "resume": "allow"} if service == "wandb" else {}
            tracker.init(project=os.environ.get("PROJECT", "cohort"), name=name, config=config, **more)
    elif "end" in message:
        print(f"end: {message['end']['status']}")
    else:
        metrics = {name: value for name, value in message.items() if value is not None}
        step = int(metrics.pop("step"))
        if tracker:
            tracker.log(metrics, step=step)
        else:
            print(f"step {step}: {metrics.get('reward', metrics.get('loss'))}", flush=True)
if tracker:
    tracker.finish()
