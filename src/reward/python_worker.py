"""What a reward python:FILE:FUNCTION runs: TRL's calling convention over JSON lines. It is built into cohort; standard library only.

    python3 -c THIS FILE FUNCTION

The first line of the input asks for the function's name. Then a line comes for each row, the last of a batch with "last_of_batch": true and the
"trainer_state"; a line is answered for each row, or one {"error": ...} for the batch. What the function prints goes to standard error.
"""

import asyncio
import importlib.util
import inspect
import json
import math
import os
import sys
import traceback

TRAINER_STATE = {  # what transformers.TrainerState has, where the run does not say otherwise
    "epoch": 0.0, "global_step": 0, "max_steps": 0, "logging_steps": 1, "eval_steps": 0, "save_steps": 0, "train_batch_size": None,
    "num_train_epochs": 0, "num_input_tokens_seen": 0, "total_flos": 0, "best_metric": None, "best_global_step": None,
    "best_model_checkpoint": None, "is_local_process_zero": True, "is_world_process_zero": True, "is_hyper_param_search": False,
    "trial_name": None, "trial_params": None,
}


class TrainerState:
    def __init__(self, values):
        self.__dict__.update(TRAINER_STATE, log_history=[], stateful_callbacks={})
        self.__dict__.update(values)


class Refused(Exception):
    """A mistake that is described in words; no traceback belongs to it."""


def take_streams():
    """The protocol gets descriptors of its own: print(), programs that the function starts and C libraries write to standard error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return requests, answers


def place_of(error, path):
    """File and line within the user's file, and the chain to where the error was raised."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return "%s:%d: %s" % (error.filename, error.lineno, (error.text or "").strip())
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != "<string>" and "importlib" not in f.filename]
    own = [i for i, f in enumerate(frames) if os.path.abspath(f.filename) == path]
    shown = frames[own[-1]:] if own else frames
    if len(shown) > 3:
        shown = [shown[0]] + shown[-2:]
    return "; then ".join("%s:%d in %s: %s" % (f.filename, f.lineno, f.name, (f.line or "").strip()[:120]) for f in shown)


def describe(error, path):
    if isinstance(error, Refused):
        return str(error)
    text = "%s: %s" % (type(error).__name__, str(error)[:400])
    place = place_of(error, path)
    if isinstance(error, ModuleNotFoundError):
        text += " (the interpreter is %s; --python names another, an active virtual environment counts)" % sys.executable
    if isinstance(error, TypeError) and not place:
        text += "; the function is called as TRL does: (prompts, completions, completion_ids, trainer_state, log_extra, log_metric, **columns):" \
            " give it **kwargs for what it does not use"
    return text + (" at " + place if place else "")


def load(path, name):
    folder = os.path.dirname(path)
    sys.path.insert(0, folder)
    sys.argv = [path]
    stem = os.path.splitext(os.path.basename(path))[0]
    if not os.path.isfile(path):
        raise Refused("there is no file '%s'; write python:FILE.py:FUNCTION" % path)
    spec = importlib.util.spec_from_file_location(stem, path)
    if spec is None:
        raise Refused("'%s' is no Python file; expected a name that ends in .py" % path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    spec.loader.exec_module(module)
    value = module
    for part in name.split("."):
        if not hasattr(value, part):
            there = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_") and getattr(v, "__module__", None) == stem]
            raise Refused("'%s' has no '%s'; it has %s" % (path, name, ", ".join(there[:20]) or "no functions"))
        value = getattr(value, part)
    if not callable(value) or inspect.isclass(value):
        raise Refused("'%s' of '%s' is no function, but %s" % (name, path, type(value).__name__))
    return value


def is_async(function):
    inner = function
    while hasattr(inner, "func"):  # functools.partial
        inner = inner.func
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(inner, "__call__", None))


def number(value, row, name):
    """A float, which may be NaN, or None."""
    if value is None:
        return None
    if isinstance(value, (str, bytes)):
        raise Refused("'%s' returned %r for row %d; expected a number, or None where a row cannot be scored" % (name, value, row + 1))
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise Refused("'%s' returned a %s for row %d; expected a number, or None where a row cannot be scored"
                      % (name, type(value).__name__, row + 1)) from None
    if math.isinf(value):
        raise Refused("'%s' returned an infinite reward for row %d; expected a finite number, or None where a row cannot be scored" % (name, row + 1))
    return value


def is_list(value):
    """Rewards of tokens. A tensor of one element is a number, as it is for TRL."""
    if isinstance(value, (list, tuple)):
        return True
    shape = getattr(value, "shape", None)
    return shape is not None and len(shape) == 1 and shape[0] != 1


def reward(value, row, name, given):
    """A number or None, or a list of them for the tokens of the given row."""
    n_tokens = len(given["tokens"])
    if not is_list(value):
        return number(value, row, name)
    value = value.tolist() if hasattr(value, "tolist") else list(value)
    if n_tokens == 0 and given["completion"]:
        raise Refused("'%s' returned a list of %d numbers for row %d, rewards of tokens, whose ids are not known; give them in the column"
                      " \"completion_ids\", or return one number" % (name, len(value), row + 1))
    if len(value) != n_tokens:
        raise Refused("'%s' returned a list of %d numbers for row %d, whose completion has %d tokens; expected one for each token (None where"
                      " there is none), or one number" % (name, len(value), row + 1, n_tokens))
    return [number(v, row, name) for v in value]


def null(value):
    """NaN is null, as in TRL."""
    if isinstance(value, list):
        return [null(v) for v in value]
    return None if value is None or math.isnan(value) else value


def has_nan(value):
    return any(has_nan(v) for v in value) if isinstance(value, list) else value is not None and math.isnan(value)


def plain(value):
    """As JSON has it; numbers of numpy and torch become Python's, other things their text."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    return str(value)


def prompt_of(row):
    """The prompt as the data set has it: a list of messages, or text."""
    columns = row["columns"]
    for key in ("prompt", "messages"):
        if columns.get(key):
            return columns[key]
    return row["prompt"]


def is_conversation(prompt):
    return isinstance(prompt, list) and len(prompt) > 0 and isinstance(prompt[0], dict) and "role" in prompt[0]


def message_of(row):
    """The completion as a message: with tools taken apart, as TRL does, else its text."""
    message = {"role": "assistant", "content": row["completion"]}
    parsed = row.get("parsed")
    if not parsed or not row["columns"].get("tools") or any("error" in call for call in parsed["tool_calls"]):
        return message  # of calls of which one is malformed TRL makes plain text
    message["content"] = parsed["content"]
    if parsed["thinking"]:
        message["reasoning_content"] = parsed["thinking"]
    if parsed["tool_calls"]:
        message["tool_calls"] = [dict({"id": call["id"]} if "id" in call else {}, type="function",
                                      function={"name": call["name"], "arguments": call["arguments"]}) for call in parsed["tool_calls"]]
    return message


def messages_of(row):
    """A completion as messages: of several turns all of them, those of tools too."""
    if not row.get("episode"):
        return [message_of(row)]
    return [{k: v for k, v in message.items() if k != "failed"} for message in row["episode"]["messages"]]


class Environment:
    """What is left of an environment's object: its public attributes, as JSON has them."""

    def __init__(self, state):
        self.__dict__.update(state)


def names(function, parameter):
    """Whether the function has a parameter of that name. What TRL does not give is given by name alone, for **kwargs may be handed on."""
    try:
        return parameter in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


warned = []  # that NaN was returned: once is enough


def score(function, name, rows, state, loop):
    metrics, extra = {}, {}
    prompts = [prompt_of(row) for row in rows]
    completions = [messages_of(row) if is_conversation(prompt) else row["completion"] for row, prompt in zip(rows, prompts)]
    keys = {key: None for row in rows for key in row["columns"] if key not in ("prompt", "completion", "completion_ids")}
    columns = {key: [row["columns"].get(key) for row in rows] for key in keys}

    def log_metric(name, value):
        metrics.setdefault(str(name), []).append(plain(float(value)))

    def log_extra(column, values):
        extra.setdefault(str(column), []).extend(values)

    if "parsed" not in columns and names(function, "parsed"):
        columns["parsed"] = [row.get("parsed") for row in rows]
    if any((row.get("episode") or {}).get("state") is not None for row in rows):
        columns["environments"] = [row["episode"].get("object") or Environment(row["episode"].get("state") or {}) for row in rows]
    columns.update(trainer_state=TrainerState(state), log_extra=log_extra, log_metric=log_metric)
    result = function(prompts=prompts, completions=completions, completion_ids=[row["tokens"] for row in rows], **columns)
    if inspect.isawaitable(result):
        result = loop.run_until_complete(result)
    try:
        result = list(result)
    except TypeError:
        raise Refused("'%s' returned %s; expected a list of %d numbers, one for each completion"
                      % (name, "nothing" if result is None else "a " + type(result).__name__, len(rows))) from None
    if len(result) != len(rows):
        raise Refused("'%s' returned %d rewards for %d completions; expected one for each, None where one cannot be scored"
                      % (name, len(result), len(rows)))
    numbers = [reward(value, i, name, rows[i]) for i, value in enumerate(result)]
    answers = [{"reward": null(value)} for value in numbers]
    if not warned and has_nan(numbers):
        warned.append(True)
        answers[0]["warning"] = "it returned nan, which is taken for None as in TRL: the row counts as one that cannot be scored; return None" \
            " where that is meant"
    for column, values in extra.items():
        if len(values) != len(rows):
            raise Refused("'%s' gave log_extra('%s', ...) %d values for %d completions; expected one for each"
                          % (name, column, len(values), len(rows)))
        for answer, value in zip(answers, values):
            answer.setdefault("extra", {})[column] = plain(value)
    if metrics:
        answers[0]["metrics"] = metrics
    return answers


def main():
    requests, answers = take_streams()
    path, wanted = os.path.abspath(sys.argv[1]), sys.argv[2]
    requests.readline()
    try:
        function = load(path, wanted)
        name = getattr(function, "__name__", None) or wanted.split(".")[-1]
        loop = asyncio.new_event_loop() if is_async(function) else None
        if loop is not None:
            asyncio.set_event_loop(loop)
        said = [{"name": name}]
    except BaseException as error:  # SystemExit of a file that ends the program, too
        said, function = [{"error": describe(error, path)}], None
    rows = []
    while True:
        answers.write("".join(json.dumps(answer) + "\n" for answer in said).encode())
        answers.flush()
        if function is None:
            return
        said, rows = [], []
        for line in requests:
            rows.append(json.loads(line))
            if rows[-1].get("last_of_batch"):
                break
        else:
            return
        try:
            said = score(function, name, rows, rows[-1]["trainer_state"], loop)
        except KeyboardInterrupt:
            return
        except BaseException as error:
            said = [{"error": describe(error, path)}]


if __name__ == "__main__":  # the Python package calls score itself
    main()
