"""The run of bindings_program.c, from Python."""

import sys
import time

from cohort import GRPOConfig, GRPOTrainer, TrainerCallback

settings, out, start = sys.argv[1:]
with open(settings) as lines:
    options = dict(line.rstrip("\n").split(": ") for line in lines)
model, data = options.pop("model"), options.pop("data")
steps = int(options.pop("steps"))
times = {}


def distinct(completions, **columns):
    return [float(len(set(text))) for text in completions]


class Clock(TrainerCallback):
    def on_step_end(self, args, state, control, **more):
        times["end"] = (time.process_time() * 1e6, time.monotonic() * 1e6, state.global_step)
        if state.global_step == int(start):
            times["begin"] = times["end"]


GRPOTrainer(model, distinct, GRPOConfig(out, max_steps=steps, logging_steps=1, disable_tqdm=True, **options), data, callbacks=[Clock]).train()
begin, end = times["begin"], times["end"]
print(*("%.1f" % ((end[i] - begin[i]) / (end[2] - begin[2])) for i in (0, 1)))
