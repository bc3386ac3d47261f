"""cohort.h in ctypes: the structs, the functions, and errors as exceptions. Nothing else of the package knows C."""

from __future__ import annotations

import ctypes
import os
from ctypes import (
    CFUNCTYPE, POINTER, Structure, byref, c_bool, c_char, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p,
    sizeof,
)
from typing import Any, Callable, Optional, cast


class Error(Exception):
    """What a call of the library failed with. `status` is its name in cohort.h, such as "COHORT_ERR_FORMAT"."""

    status = "COHORT_ERR_INTERNAL"


class ArgumentError(Error, ValueError):
    """A value that cannot be used."""

    status = "COHORT_ERR_ARGUMENT"


class FileError(Error, OSError):
    """A file or a pipe could not be read or written."""

    status = "COHORT_ERR_IO"


class FormatError(Error, ValueError):
    """A file was read, and its content is wrong."""

    status = "COHORT_ERR_FORMAT"


class UnsupportedError(Error, NotImplementedError):
    """Valid, but not something that this version does."""

    status = "COHORT_ERR_UNSUPPORTED"


class OutOfMemoryError(Error, MemoryError):
    """Memory could not be had, or the plan of memory does not fit."""

    status = "COHORT_ERR_MEMORY"


class StateError(Error, RuntimeError):
    """A call in the wrong order, or a run folder in the wrong state."""

    status = "COHORT_ERR_STATE"


class RewardError(Error, RuntimeError):
    """A reward died, hung or answered garbage."""

    status = "COHORT_ERR_REWARD"


class NumericError(Error, ArithmeticError):
    """NaN or infinity where training cannot go on."""

    status = "COHORT_ERR_NUMERIC"


class Stopped(Error):
    """Stopped on request; what was saved is whole."""

    status = "COHORT_ERR_CANCELLED"


class InternalError(Error):
    """A mistake of the library."""


# In the order of enum cohort_status.
ERRORS: tuple[type[Error], ...] = (
    Error, ArgumentError, FileError, FormatError, UnsupportedError, OutOfMemoryError, StateError, RewardError, NumericError, Stopped, InternalError,
)
CANCELLED = 9


class ErrorStruct(Structure):
    _fields_ = [("size", c_size_t), ("status", c_int), ("message", c_char * 1200)]


class Progress(Structure):
    _fields_ = [
        ("size", c_size_t), ("phase", c_char_p), ("step", c_int64), ("steps", c_int64), ("done", c_int64), ("total", c_int64), ("unit", c_char_p),
        ("per_second", c_double),
    ]


class Metric(Structure):
    _fields_ = [("name", c_char_p), ("value", c_double)]


class Metrics(Structure):
    _fields_ = [("size", c_size_t), ("items", POINTER(Metric)), ("count", c_size_t)]


OUTPUT: Callable[..., Any] = CFUNCTYPE(None, c_void_p, POINTER(c_char), c_size_t)
MESSAGE: Callable[..., Any] = CFUNCTYPE(None, c_void_p, c_char_p)
PROGRESS: Callable[..., Any] = CFUNCTYPE(c_bool, c_void_p, POINTER(Progress))
METRICS: Callable[..., Any] = CFUNCTYPE(None, c_void_p, POINTER(Metrics))


class Observer(Structure):
    _fields_ = cast(Any, [("size", c_size_t), ("context", c_void_p), ("output", OUTPUT), ("message", MESSAGE), ("progress", PROGRESS),
                          ("metrics", METRICS)])


class Option(Structure):
    _fields_ = [
        ("size", c_size_t), ("name", c_char_p), ("group", c_char_p), ("help", c_char_p), ("fallback", c_char_p), ("type", c_char_p),
        ("choices", POINTER(c_char_p)), ("n_choices", c_size_t), ("names", POINTER(c_char_p)), ("n_names", c_size_t),
    ]


VISIT_OPTION: Callable[..., Any] = CFUNCTYPE(c_bool, c_void_p, POINTER(Option))


class RewardRow(Structure):
    _fields_ = [
        ("size", c_size_t), ("row_json", c_char_p), ("prompt", POINTER(c_char)), ("completion", POINTER(c_char)), ("tokens", POINTER(c_int32)),
        ("n_tokens", c_int32), ("finish_reason", c_char_p), ("prompt_index", c_int64), ("completion_index", c_int32), ("prompt_length", c_size_t),
        ("completion_length", c_size_t), ("parsed_json", c_char_p), ("parsed_length", c_size_t), ("log", c_void_p),
        ("episode_json", c_char_p),
    ]


REWARD: Callable[..., Any] = CFUNCTYPE(c_int, c_void_p, POINTER(POINTER(RewardRow)), c_size_t, POINTER(c_double), POINTER(ErrorStruct))
TOKEN_REWARD: Callable[..., Any] = CFUNCTYPE(c_int, c_void_p, POINTER(POINTER(RewardRow)), c_size_t, POINTER(POINTER(c_double)), POINTER(ErrorStruct))
ENVIRONMENT: Callable[..., Any] = CFUNCTYPE(c_int, c_void_p, c_void_p, POINTER(c_char), c_size_t, POINTER(ErrorStruct))


class Request(Structure):
    _fields_ = [
        ("size", c_size_t), ("prompt", POINTER(c_int32)), ("n_prompt", c_size_t), ("n", c_int32), ("max_tokens", c_int32), ("seed", c_uint64),
        ("stream", c_uint64), ("temperature", c_float), ("top_p", c_float), ("min_p", c_float), ("top_k", c_int32), ("repetition_penalty", c_float),
        ("presence_penalty", c_float), ("frequency_penalty", c_float), ("stop", POINTER(c_char_p)), ("n_stop", c_size_t),
        ("prompt_embeddings", POINTER(c_float)), ("prompt_width", c_size_t),
    ]


class CompletionStruct(Structure):
    _fields_ = [
        ("size", c_size_t), ("request", c_int64), ("index", c_int32), ("tokens", POINTER(c_int32)), ("logprobs", POINTER(c_float)),
        ("n_tokens", c_size_t), ("text", POINTER(c_char)), ("finish_reason", c_char_p), ("text_length", c_size_t),
    ]


TOKEN: Callable[..., Any] = CFUNCTYPE(None, c_void_p, c_int64, c_int32, c_int32, c_float, POINTER(c_char), c_size_t, c_char_p)

_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "cohort_version": (c_char_p, []),
    "cohort_free": (None, [c_void_p]),
    "cohort_command_find": (c_bool, [c_char_p, POINTER(c_int)]),
    "cohort_observer_init_sized": (None, [POINTER(Observer), c_size_t]),
    "cohort_stop_create": (c_int, [POINTER(c_void_p), POINTER(ErrorStruct)]),
    "cohort_stop_destroy": (None, [c_void_p]),
    "cohort_stop_trigger": (None, [c_void_p]),
    "cohort_stop_reset": (None, [c_void_p]),
    "cohort_options_create": (c_int, [POINTER(c_void_p), c_int, POINTER(ErrorStruct)]),
    "cohort_options_destroy": (None, [c_void_p]),
    "cohort_options_set": (c_int, [c_void_p, c_char_p, c_char_p, c_char_p, POINTER(ErrorStruct)]),
    "cohort_options_has": (c_bool, [c_void_p, c_char_p]),
    "cohort_options_list": (c_int, [c_int, VISIT_OPTION, c_void_p, POINTER(ErrorStruct)]),
    "cohort_options_explain": (c_int, [c_void_p, c_char_p, POINTER(c_void_p), POINTER(c_bool), POINTER(ErrorStruct)]),
    "cohort_options_add_reward": (c_int, [c_void_p, c_char_p, REWARD, c_void_p, POINTER(ErrorStruct)]),
    "cohort_options_add_token_reward": (c_int, [c_void_p, c_char_p, TOKEN_REWARD, c_void_p, POINTER(ErrorStruct)]),
    "cohort_options_set_environment": (c_int, [c_void_p, c_char_p, ENVIRONMENT, c_void_p, POINTER(ErrorStruct)]),
    "cohort_environment_answer": (c_int, [c_void_p, c_char_p, c_size_t, POINTER(ErrorStruct)]),
    "cohort_reward_log_metric": (c_int, [c_void_p, c_char_p, c_double, POINTER(ErrorStruct)]),
    "cohort_reward_log_extra": (c_int, [c_void_p, c_char_p, c_char_p, POINTER(ErrorStruct)]),
    "cohort_options_set_stop": (c_int, [c_void_p, c_void_p, POINTER(ErrorStruct)]),
    "cohort_run": (c_int, [c_void_p, POINTER(Observer), POINTER(ErrorStruct)]),
    "cohort_model_open": (c_int, [POINTER(c_void_p), c_void_p, c_int32, POINTER(ErrorStruct)]),
    "cohort_model_close": (None, [c_void_p]),
    "cohort_model_notes": (c_char_p, [c_void_p]),
    "cohort_model_width": (c_size_t, [c_void_p]),
    "cohort_embed": (c_int, [c_void_p, POINTER(c_int32), c_size_t, POINTER(c_float), POINTER(ErrorStruct)]),
    "cohort_encode": (c_int, [c_void_p, c_char_p, POINTER(POINTER(c_int32)), POINTER(c_size_t), POINTER(ErrorStruct)]),
    "cohort_decode": (c_int, [c_void_p, POINTER(c_int32), c_size_t, POINTER(c_void_p), POINTER(c_size_t), POINTER(ErrorStruct)]),
    "cohort_chat_encode": (c_int, [c_void_p, c_char_p, c_bool, POINTER(POINTER(c_int32)), POINTER(c_size_t), POINTER(ErrorStruct)]),
    "cohort_chat_prompt": (c_int, [c_void_p, c_char_p, c_bool, POINTER(c_void_p), POINTER(c_size_t), POINTER(ErrorStruct)]),
    "cohort_request_init_sized": (None, [POINTER(Request), c_size_t]),
    "cohort_completion_init_sized": (None, [POINTER(CompletionStruct), c_size_t]),
    "cohort_completion_free": (None, [POINTER(CompletionStruct)]),
    "cohort_on_token": (None, [c_void_p, TOKEN, c_void_p]),
    "cohort_prompt_stream": (c_uint64, [POINTER(c_int32), c_size_t, c_uint64]),
    "cohort_submit": (c_int, [c_void_p, POINTER(Request), POINTER(c_int64), POINTER(ErrorStruct)]),
    "cohort_step": (c_int, [c_void_p, POINTER(c_bool), POINTER(ErrorStruct)]),
    "cohort_poll": (c_int, [c_void_p, POINTER(CompletionStruct), POINTER(c_bool), POINTER(ErrorStruct)]),
    "cohort_cancel": (None, [c_void_p, c_int64]),
}


def _load() -> ctypes.CDLL:
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libcohort.so")
    try:
        library = ctypes.CDLL(own if os.path.exists(own) else "libcohort.so")
    except OSError as error:
        raise ImportError(
            "cohort: the library libcohort.so could not be loaded (%s); install the wheel, or build it with `make python` and put build/python on"
            " PYTHONPATH" % error
        ) from None
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ImportError("cohort: %s has no %s: it is older than this package; install both from one version" % (library._name, name)) from None
        function.restype, function.argtypes = result, arguments
    return library


lib = _load()
_process = os.getpid()


def check_process() -> None:
    """A child that was forked has a copy of the library's threads' memory and none of its threads."""
    if os.getpid() != _process:
        raise StateError(
            "cohort was loaded before this process was forked; use the 'spawn' start method of multiprocessing, or import cohort in the child alone"
        )


def error_struct() -> ErrorStruct:
    return ErrorStruct(size=sizeof(ErrorStruct))


def error_of(err: ErrorStruct, status: int) -> Error:
    message = err.message.decode("utf-8", "replace")
    error = ERRORS[status] if 0 < status < len(ERRORS) else InternalError
    made = error(message)
    made.status = error.status
    return made


def check(status: int, err: ErrorStruct) -> None:
    if status != 0:
        raise error_of(err, status)


def call(name: str, *arguments: Any) -> None:
    """Calls the function with a cohort_error behind the arguments; raises what it failed with."""
    err = error_struct()
    check(getattr(lib, name)(*arguments, byref(err)), err)


def taken_text(block: c_void_p, length: Optional[int] = None) -> str:
    """The text of a block that the caller has to free."""
    if not block.value:
        return ""
    data = ctypes.string_at(block.value) if length is None else ctypes.string_at(block.value, length)
    lib.cohort_free(block)
    return data.decode("utf-8", "replace")


def text_at(pointer: Any, length: int) -> str:
    return ctypes.string_at(pointer, length).decode("utf-8", "replace") if length else ""


def command_of(name: str) -> int:
    command = c_int(0)
    if not lib.cohort_command_find(name.encode(), byref(command)):
        raise UnsupportedError("this version of the library has no command '%s'" % name)
    return command.value


def version() -> str:
    """Version of the library."""
    return str(lib.cohort_version().decode())


class Stop:
    """A request to stop, which any thread may make."""

    def __init__(self) -> None:
        self.handle = c_void_p()
        call("cohort_stop_create", byref(self.handle))

    def trigger(self) -> None:
        lib.cohort_stop_trigger(self.handle)

    def reset(self) -> None:
        lib.cohort_stop_reset(self.handle)

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            lib.cohort_stop_destroy(self.handle)
            self.handle = c_void_p()


class Options:
    """The options of one command."""

    def __init__(self, command: str) -> None:
        check_process()
        self.command = command
        self.handle = c_void_p()
        self.kept: list[Any] = []  # what C points at
        call("cohort_options_create", byref(self.handle), command_of(command))

    def set(self, name: str, value: Any, origin: Optional[str] = None) -> None:
        call("cohort_options_set", self.handle, name.encode(), as_text(value).encode(), (origin or name).encode())

    def has(self, name: str) -> bool:
        return bool(lib.cohort_options_has(self.handle, name.encode()))

    def explain(self, name: str) -> tuple[str, bool]:
        """What a name that the command does not have is, and whether a run is the same without it."""
        text, needless = c_void_p(), c_bool(False)
        call("cohort_options_explain", self.handle, name.encode(), byref(text), byref(needless))
        return taken_text(text), needless.value

    def set_stop(self, stop: Stop) -> None:
        self.kept.append(stop)
        call("cohort_options_set_stop", self.handle, stop.handle)

    def close(self) -> None:
        if self.handle:
            lib.cohort_options_destroy(self.handle)
            self.handle = c_void_p()

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.close()


def as_text(value: Any) -> str:
    """A value as an option's text: lists with commas, True as true."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return ",".join("%s=%s" % (key, as_text(item)) for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return ",".join(as_text(item).replace(",", "\\,") for item in value)
    return os.fspath(value) if isinstance(value, os.PathLike) else str(getattr(value, "value", value))


def options_of(command: str) -> list[dict[str, Any]]:
    """Every option of a command: name, group, help, fallback (None: unset), type, choices, names."""
    found: list[dict[str, Any]] = []

    @VISIT_OPTION
    def visit(_context: Any, option: Any) -> bool:
        row = option.contents
        found.append({
            "name": row.name.decode(), "group": row.group.decode(), "help": row.help.decode(),
            "fallback": None if row.fallback is None else row.fallback.decode(), "type": row.type.decode(),
            "choices": [row.choices[i].decode() for i in range(row.n_choices)], "names": [row.names[i].decode() for i in range(row.n_names)],
        })
        return True

    call("cohort_options_list", command_of(command), visit, None)
    return found
