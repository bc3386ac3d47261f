"""What TRL's configurations say, in the library's options."""

from __future__ import annotations

import os
import re
import sys
from typing import Any, Dict, List, Optional, Tuple

from . import _library as c


def say(text: str) -> None:
    print("cohort: " + text, file=sys.stderr, flush=True)


# TRL's and transformers' defaults where the library's differ (trl 1.16, transformers 5.24).
TRAINING_DEFAULTS: Dict[str, Any] = {"lr_scheduler_type": "linear", "num_train_epochs": 3.0, "seed": 42, "logging_steps": 10}
DEFAULTS: Dict[str, Dict[str, Any]] = {
    "grpo": {**TRAINING_DEFAULTS, "per_device_train_batch_size": 8},
    "rloo": {**TRAINING_DEFAULTS, "per_device_train_batch_size": 8},
    "distill": {**TRAINING_DEFAULTS, "per_device_train_batch_size": 8},
    **{command: {**TRAINING_DEFAULTS, "per_device_train_batch_size": 8} for command in ("sft", "dpo", "kto", "orpo", "cpo", "reward")},
}

Values = List[Tuple[str, Any]]


def _strategy(name: str, steps: str) -> Any:
    """When something is done, by a number of steps: what no such number says is refused."""

    def translate(value: Any, given: Dict[str, Any]) -> Values:
        word = str(getattr(value, "value", value))
        if word not in ("no", "steps"):
            raise TypeError("%s=%r is not supported here; give %s='steps' and %s" % (name, word, name, steps))
        if word == "no":
            return [(steps, 0)]
        return [] if steps in given else [(steps, 500)]

    return translate


def _kwargs(value: Any, _given: Dict[str, Any]) -> Values:
    return [(name, item) for name, item in (value or {}).items()]


def _template(value: Any, _given: Dict[str, Any]) -> Values:
    value = dict(value or {})
    thinking = value.pop("enable_thinking", None)
    if value:
        raise TypeError("chat_template_kwargs: only enable_thinking holds for a whole run (option thinking); give %s to the rows, in a column"
                        " chat_template_kwargs" % ", ".join(sorted(value)))
    return [] if thinking is None else [("thinking", bool(thinking))]


def _model_init(value: Any, _given: Dict[str, Any]) -> Values:
    value = dict(value or {})
    dtype = value.pop("dtype", value.pop("torch_dtype", None))
    for name in sorted(value):
        say("model_init_kwargs: %s has no meaning here: the folder is what it is" % name)
    return [] if dtype is None else [("dtype", _dtype(dtype))]


def _teacher_init(value: Any, _given: Dict[str, Any]) -> Values:
    for name in sorted(dict(value or {})):
        say("teacher_model_init_kwargs: %s has no meaning here: the teacher is what its folder is, and computes as the model does (dtype)" % name)
    return []


def _dtype(value: Any) -> str:
    word = str(getattr(value, "value", value)).replace("torch.", "")
    return {"bfloat16": "bf16", "float32": "f32"}.get(word, word)


def _scale(value: Any, _given: Dict[str, Any]) -> Values:
    return [("scale_rewards", {True: "group", False: "none"}.get(value, value) if isinstance(value, bool) else value)]


def _report(value: Any, _given: Dict[str, Any]) -> Values:
    words = [value] if isinstance(value, str) else list(value or [])
    known = [word for word in words if word == "tensorboard" or word.startswith("exec:")]
    for word in words:
        if word not in known and word not in ("none", "all"):
            say("report_to: %s is reached by exec:PROGRAM here (docs/RUN.md); it is left out" % word)
    return [("report_to", known)] if known else []


def _repetition(value: Any, given: Dict[str, Any]) -> Values:
    more: Values = [] if value is None or value == 1 or "repetition_context" in given else [("repetition_context", 268435456)]
    return [("repetition_penalty", value)] + more  # TRL's looks at all tokens


def _cpu(value: Any, _given: Dict[str, Any]) -> Values:
    return [("device", "cpu")] if value else []


def _precision(_value: Any, _given: Dict[str, Any]) -> Values:
    return []


def _checkpointing(value: Any, _given: Dict[str, Any]) -> Values:
    return []


def _whole(name: str, value: Any, advice: str) -> int:
    if float(value) != int(value):
        raise TypeError("%s: %r is not whole; %s" % (name, value, advice))
    return int(value)


def _steps(value: Any, _given: Dict[str, Any]) -> Values:
    steps = -1 if value is None else _whole("max_steps", value, "give a number of steps, or num_train_epochs")
    return [] if steps < 0 else [("steps", steps)]


def _epochs(value: Any, given: Dict[str, Any]) -> Values:
    if given.get("max_steps") is not None and int(given["max_steps"]) > 0 or given.get("steps") is not None:
        return []
    return [("epochs", _whole("num_train_epochs", value, "give max_steps for a part of an epoch"))]


def _weighted_advantages(value: Any, _given: Dict[str, Any]) -> Values:
    return [("scale_rewards", "batch")] if value else []


# TRL's names that stand for something else than one option of the same name.
TRANSLATED: Dict[str, Any] = {
    "eval_strategy": _strategy("eval_strategy", "eval_steps"), "save_strategy": _strategy("save_strategy", "save_steps"), "generation_kwargs": _kwargs,
    "chat_template_kwargs": _template, "model_init_kwargs": _model_init, "teacher_model_init_kwargs": _teacher_init, "scale_rewards": _scale, "report_to": _report,
    "repetition_penalty": _repetition, "use_cpu": _cpu, "no_cuda": _cpu, "bf16": _precision, "fp16": _precision, "tf32": _precision,
    "bf16_full_eval": _precision, "fp16_full_eval": _precision, "gradient_checkpointing": _checkpointing,
    "gradient_checkpointing_kwargs": _checkpointing, "max_steps": _steps, "num_train_epochs": _epochs,
    "warmup_ratio": lambda value, given: [("warmup_steps", value)],  # below 1 it is a share
    "normalize_advantages": _weighted_advantages, "dtype": lambda value, given: [("dtype", _dtype(value))],
    "torch_dtype": lambda value, given: [("dtype", _dtype(value))],
}
# Of these, what is said when they are given.
SAID = {
    "bf16": "weights and activations are of the checkpoint's type (dtype), AdamW's master weights of 32 bits",
    "fp16": "weights and activations are of the checkpoint's type (dtype)", "tf32": "weights and activations are of the checkpoint's type (dtype)",
    "bf16_full_eval": "evaluation computes as training does", "fp16_full_eval": "evaluation computes as training does",
    "gradient_checkpointing": "activations are computed again where memory asks for it (recompute), with the same bits",
    "gradient_checkpointing_kwargs": "activations are computed again where memory asks for it (recompute), with the same bits",
    "remove_unused_columns": "rewards are given every column, and what nothing reads costs nothing",
    "dataset_kwargs": "rows are read as they are (docs/DATA.md)",
}
# Left to Python.
HERE = ("logging_steps", "logging_strategy", "logging_first_step", "disable_tqdm", "remove_unused_columns", "dataset_kwargs")


def _value_of(row: Dict[str, Any]) -> Any:
    """An option's default, which the library has as text."""
    text = row["fallback"]
    if text is None or row["type"] not in ("bool", "int", "float"):
        return text
    return text == "true" if row["type"] == "bool" else int(text) if row["type"] == "int" else float(text)


# Arguments with another name than the library's option, of which messages speak.
NAMED = {"resume": "resume_from_checkpoint", "out": "output_dir", "data": "train_dataset", "eval_data": "eval_dataset", "steps": "max_steps"}


def in_python(command: str, text: str) -> str:
    """A message of the library's with arguments in place of flags."""
    known = {name for row in c.options_of(command) for name in [row["name"], *row["names"]]}

    def argument(flag: "re.Match[str]") -> str:
        name = flag.group(1).replace("-", "_")
        return NAMED.get(name, name) if name in known else flag.group(0)

    return re.sub(r"--([a-z][a-z0-9-]*[a-z0-9])", argument, text) if "--" in text else text


class Config:
    """A configuration: arguments have TRL's names and defaults, or the library's (docs/OPTIONS.md).

    A name that has no meaning here (`use_vllm`, `bf16`) is accepted with one line that says why; one that is not supported is a TypeError that
    says so.
    """

    command = ""
    told: "set[str]" = set()

    def __init__(self, output_dir: Optional[str] = None, **given: Any) -> None:
        self.output_dir = None if output_dir is None else os.fspath(output_dir)
        self.given = {name: value for name, value in given.items() if value is not None}
        options = c.Options(self.command)
        for name in list(self.given):
            if name in TRANSLATED or name in HERE:
                if name in SAID and self.given[name]:
                    self._tell("%s: %s" % (name, SAID[name]))
                continue
            if options.has(name):
                continue
            text, needless = options.explain(name)
            if not needless:
                raise TypeError(text)
            self._tell("%s: %s" % (name, text.split("': ", 1)[-1].replace("; leave it out", "")))
            del self.given[name]
        options.close()
        self.values()  # what is wrong with them is known at once
        self._logging()

    def _logging(self) -> None:
        """Whether what is said of logs can be done."""
        strategy = str(getattr(self.logging_strategy, "value", self.logging_strategy or "steps"))
        if strategy not in ("no", "steps"):
            raise TypeError("logging_strategy=%r is not supported here; give 'steps' and logging_steps" % strategy)
        _whole("logging_steps", self.logging_steps, "give a number of steps")

    def logs_at(self, step: int, steps: int) -> bool:
        """Whether a log is due at this step, so many after the last."""
        strategy = str(getattr(self.logging_strategy, "value", self.logging_strategy or "steps"))
        return strategy != "no" and (steps >= max(1, int(self.logging_steps)) or (step == 1 and bool(self.logging_first_step)))

    def _tell(self, text: str) -> None:
        if text not in Config.told:
            Config.told.add(text)
            say(text)

    def __getattr__(self, name: str) -> Any:
        given = self.__dict__.get("given", {})
        if name in given:
            return given[name]
        if name in DEFAULTS.get(self.command, {}):
            return DEFAULTS[self.command][name]
        if name.startswith("_"):
            raise AttributeError(name)
        for row in c.options_of(self.command):
            if row["name"] == name or name in row["names"]:
                return _value_of(row)
        if name in TRANSLATED or name in HERE:
            return None
        raise AttributeError("%s has no argument %r" % (type(self).__name__, name))

    def __repr__(self) -> str:
        return "%s(%s)" % (type(self).__name__, ", ".join("%s=%r" % item for item in [("output_dir", self.output_dir), *self.given.items()]))

    def values(self) -> Values:
        """The library's options, in order; checked."""
        given = dict(self.given)
        named = {name for name in given}
        for name, value in DEFAULTS.get(self.command, {}).items():
            if name not in named and not self._replaced(name, named):
                given[name] = value
        found: Values = []
        options = c.Options(self.command)
        for name, value in given.items():
            if name in HERE:
                continue
            as_it_is = name not in TRANSLATED or (name == "eval_strategy" and options.has(name))
            found += [(name, value)] if as_it_is else TRANSLATED[name](value, given)
        for name, value in found:
            options.set(name, value, origin=name)
        options.close()
        return found

    def _replaced(self, name: str, named: "set[str]") -> bool:
        """Whether something was given that says what this default would."""
        others = {"num_train_epochs": {"epochs", "steps"}, "per_device_train_batch_size": {"prompts_per_step", "batch_size"},
                  "lr_scheduler_type": set()}
        return bool(others.get(name, set()) & named)
