"""A checkpoint for generation."""

from __future__ import annotations

import ctypes
import json
import operator
import os
import tempfile
from array import array
from ctypes import byref, c_bool, c_char_p, c_float, c_int32, c_int64, c_size_t, c_void_p, sizeof
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

from . import _library as c
from ._run import output_of

Messages = List[dict]  # type: ignore[type-arg]
Prompt = Union[str, Messages, Sequence[int]]


def _numbers(kind: str, pointer: Any, count: int) -> Any:
    """A copy of C's numbers: an array of numpy where numpy is there, else of Python's array."""
    data = ctypes.string_at(pointer, 4 * count) if count else b""
    try:
        import numpy
    except ImportError:
        values = array(kind)
        values.frombytes(data)
        return values
    return numpy.frombuffer(data, dtype=numpy.int32 if kind == "i" else numpy.float32)


def _listed(ids: Any, what: str = "ids", expected: str = "token ids") -> List[int]:
    try:
        return [operator.index(token) for token in ids]
    except TypeError:
        kind = type(ids).__name__
        if isinstance(ids, (list, tuple)):
            kind += " of " + ", ".join(sorted({type(item).__name__ for item in ids}))
        raise TypeError("%s is a %s; expected %s" % (what, kind, expected)) from None


@dataclass
class Completion:
    """What was generated.

    text: without special tokens and stop string. tokens: ids, [n], the end-of-text token included. logprobs: [n], of each token at the sampling
    temperature, of the unfiltered and unpenalised distribution. finish_reason: "eos", "stop", "length" or "cancelled". index: which completion of
    its prompt it is.
    """

    text: str
    tokens: Any
    logprobs: Any
    finish_reason: str
    index: int

    def __str__(self) -> str:
        return self.text


@dataclass
class Token:
    """One token as it is drawn: the text that became certain with it, its id (-1: none could be drawn) and log-prob, and why the completion
    ended ("" until it does)."""

    text: str
    id: int
    logprob: float
    finish_reason: str
    index: int


class Model:
    """A loaded model with its tokenizer.

    >>> import cohort, tempfile
    >>> folder = tempfile.mkdtemp() + "/nano"
    >>> cohort.init(folder, preset="nano", tokenizer="bytes", seed=1)
    >>> with cohort.Model.load(folder, device="cpu") as model:
    ...     answer = model.generate("Once upon", max_tokens=4, seed=1)
    ...     len(answer.tokens) == len(answer.logprobs) <= 4
    True

    One thread at a time may use a model; two models in two threads run side by side.
    """

    def __init__(self, handle: c_void_p, options: c.Options, folder: str, given: "dict[str, Any]") -> None:
        self._handle, self._options, self.folder, self._given = handle, options, folder, given
        streams: Dict[int, List[Token]] = {}

        @c.TOKEN
        def on_token(_context: Any, request: int, index: int, token: int, logprob: float, text: Any, length: int, reason: bytes) -> None:
            if request in streams:
                streams[request].append(Token(c.text_at(text, length), token, logprob, reason.decode(), index))

        self._streams, self._on_token = streams, on_token  # what was drawn of each stream under way, and not handed out yet

    @classmethod
    def load(cls, folder: Union[str, "os.PathLike[str]"], max_context: int = 0, **options: Any) -> "Model":
        """Opens a checkpoint folder as published (config.json, *.safetensors, tokenizer.json).

        max_context: tokens of prompt and completion together, for which memory is taken; 0: the model's own. options: those of `cohort generate`
        that say how it is computed: device, dtype, threads, memory_limit, adapter ...
        """
        made = c.Options("generate")
        folder = os.fspath(folder)
        made.set("model", folder)
        for name, value in options.items():
            made.set(name, value)
        handle = c_void_p()
        c.call("cohort_model_open", byref(handle), made.handle, max_context)
        return cls(handle, made, folder, options)

    def close(self) -> None:
        """Frees the memory; the model cannot be used any more."""
        if getattr(self, "_handle", None):
            c.lib.cohort_model_close(self._handle)
            self._handle = c_void_p()

    __del__ = close

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_exception: Any) -> None:
        self.close()

    def _open(self) -> c_void_p:
        c.check_process()
        if not self._handle:
            raise c.StateError("this model was closed")
        return self._handle

    @property
    def notes(self) -> str:
        """Lines about how the model was read that you might not expect, such as values that were rounded."""
        return str((c.lib.cohort_model_notes(self._open()) or b"").decode())

    @property
    def width(self) -> int:
        """hidden_size of config.json: elements of a row of the embedding."""
        return int(c.lib.cohort_model_width(self._open()))

    def encode(self, text: str) -> List[int]:
        """Ids of text; added tokens in it become their ids, and no BOS is put before it."""
        if not isinstance(text, str):
            raise TypeError("text is a %s; expected a str" % type(text).__name__)
        ids, count = ctypes.POINTER(c_int32)(), c_size_t()
        c.call("cohort_encode", self._open(), text.encode(), byref(ids), byref(count))
        return self._taken(ids, count)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens are left out."""
        ids = _listed(ids)
        text, length = c_void_p(), c_size_t()
        c.call("cohort_decode", self._open(), (c_int32 * len(ids))(*ids), len(ids), byref(text), byref(length))
        return c.taken_text(text, length.value)

    def chat_ids(self, messages: Messages, thinking: bool = True) -> List[int]:
        """Ids of the prompt that the chat template makes of messages, in which their content stays content."""
        ids, count = ctypes.POINTER(c_int32)(), c_size_t()
        c.call("cohort_chat_encode", self._open(), json.dumps(messages).encode(), thinking, byref(ids), byref(count))
        return self._taken(ids, count)

    def chat_prompt(self, messages: Messages, thinking: bool = True) -> str:
        """The same as text, for people to read."""
        text, length = c_void_p(), c_size_t()
        c.call("cohort_chat_prompt", self._open(), json.dumps(messages).encode(), thinking, byref(text), byref(length))
        return c.taken_text(text, length.value)

    def embed(self, ids: Sequence[int]) -> Any:
        """The embedding's rows of ids, [len(ids), width] in float32."""
        ids = _listed(ids)
        out = (c_float * (len(ids) * self.width))()
        c.call("cohort_embed", self._open(), (c_int32 * len(ids))(*ids), len(ids), out)
        rows = _numbers("f", out, len(out))
        return rows.reshape(len(ids), self.width) if hasattr(rows, "reshape") else rows

    @staticmethod
    def _taken(ids: Any, count: c_size_t) -> List[int]:
        taken = list(ids[: count.value]) if count.value else []
        c.lib.cohort_free(ctypes.cast(ids, c_void_p))
        return taken

    def _ids(self, prompt: Prompt, thinking: bool) -> List[int]:
        if isinstance(prompt, str):
            return self.encode(prompt)
        if isinstance(prompt, (list, tuple)) and prompt and isinstance(prompt[0], dict):
            return self.chat_ids(list(prompt), thinking)
        return _listed(prompt, "prompt", "a str, a list of messages such as {'role': 'user', 'content': ...}, or token ids")

    def _submit(self, ids: List[int], before: int, n: int, max_tokens: int, seed: int, stop: Sequence[str], sampling: "dict[str, Any]") -> int:
        request = c.Request()
        c.lib.cohort_request_init_sized(byref(request), sizeof(request))
        stops = (c_char_p * max(1, len(stop)))(*[text.encode() for text in stop])
        request.prompt, request.n_prompt = (c_int32 * max(1, len(ids)))(*ids), len(ids)
        request.n, request.max_tokens, request.seed = n, max_tokens, seed
        request.stream = c.lib.cohort_prompt_stream(request.prompt, len(ids), before)
        request.stop, request.n_stop = stops, len(stop)
        for name, value in sampling.items():
            if name not in ("temperature", "top_p", "min_p", "top_k", "repetition_penalty", "presence_penalty", "frequency_penalty"):
                raise TypeError("generate() has no argument %r; there are temperature, top_p, top_k, min_p, repetition_penalty, presence_penalty,"
                                " frequency_penalty, max_tokens, n, seed and stop" % name)
            setattr(request, name, value)
        number = c_int64()
        c.call("cohort_submit", self._open(), byref(request), byref(number))
        return number.value

    def _polled(self) -> Optional["tuple[int, Completion]"]:
        made, found = c.CompletionStruct(), c_bool(False)
        c.lib.cohort_completion_init_sized(byref(made), sizeof(made))
        c.call("cohort_poll", self._open(), byref(made), byref(found))
        if not found.value:
            return None
        n = int(made.n_tokens)
        completion = Completion(c.text_at(made.text, made.text_length), _numbers("i", made.tokens, n), _numbers("f", made.logprobs, n),
                                made.finish_reason.decode(), int(made.index))
        number = int(made.request)
        c.lib.cohort_completion_free(byref(made))
        return number, completion

    def _drop(self, numbers: Sequence[int]) -> None:
        """Ends requests, and takes out what there is of them. Streams go on when they are asked."""
        for number in numbers:
            c.lib.cohort_cancel(self._open(), number)
        busy = c_bool(True)
        c.call("cohort_step", self._open(), byref(busy))
        while busy.value and not self._streams:
            c.call("cohort_step", self._open(), byref(busy))
        while self._polled() is not None:
            pass

    def generate(self, prompt: Union[Prompt, List[Prompt]], n: int = 1, max_tokens: int = 256, seed: int = 0, stop: Sequence[str] = (),
                 thinking: bool = True, **sampling: Any) -> Any:
        """Completions of a prompt: text, ids, or a list of messages (through the chat template); or of a list of texts or conversations.

        n: completions of each prompt, which is computed once for all of them. temperature (1.0; 0 takes the likeliest token), top_p, top_k, min_p,
        repetition_penalty, presence_penalty, frequency_penalty. The draws are those of `cohort generate`: a function of seed, the prompt's ids (and how
        many before it were the same) and the completion's index.
        Returns a Completion, with n > 1 a list of n; of a list of prompts a list of these.
        """
        several = isinstance(prompt, list) and len(prompt) > 0 and (isinstance(prompt[0], str) or isinstance(prompt[0], (list, tuple)))
        prompts: List[Any] = list(prompt) if several else [prompt]
        numbers: List[int] = []
        found: "dict[int, List[Completion]]" = {}
        seen: "dict[tuple[int, ...], int]" = {}
        try:
            for ids in [self._ids(one, thinking) for one in prompts]:
                before = seen.get(tuple(ids), 0)
                seen[tuple(ids)] = before + 1
                numbers.append(self._submit(ids, before, n, max_tokens, seed, stop, sampling))
            busy = c_bool(True)
            while busy.value:
                c.call("cohort_step", self._open(), byref(busy))
            while True:
                polled = self._polled()
                if polled is None:
                    break
                found.setdefault(polled[0], []).append(polled[1])
        except BaseException:
            self._drop(numbers)
            raise
        groups = [sorted(found[number], key=lambda made: made.index) for number in numbers]
        shaped = [group if n > 1 else group[0] for group in groups]
        return shaped if several else shaped[0]

    def stream(self, prompt: Prompt, n: int = 1, max_tokens: int = 256, seed: int = 0, stop: Sequence[str] = (), thinking: bool = True,
               **sampling: Any) -> Iterator[Token]:
        """The same, a token at a time, as it is drawn. What is not taken to its end is cancelled. Several streams of a model, and calls of generate()
        between their tokens, do not disturb each other."""
        number = self._submit(self._ids(prompt, thinking), 0, n, max_tokens, seed, stop, sampling)
        tokens = self._streams[number] = []
        c.lib.cohort_on_token(self._open(), self._on_token, None)
        busy, left = c_bool(True), n
        try:
            while left > 0 and (busy.value or tokens):
                if not tokens:
                    c.call("cohort_step", self._open(), byref(busy))
                while tokens:
                    left -= tokens[0].finish_reason != ""
                    yield tokens.pop(0)
        finally:
            del self._streams[number]
            if self._handle:
                if not self._streams:
                    c.lib.cohort_on_token(self._handle, c.TOKEN(), None)
                self._drop([number])

    def chat(self, messages: Messages, **options: Any) -> Completion:
        """The assistant's next turn; append {"role": "assistant", "content": answer.text} to go on."""
        answer: Completion = self.generate(messages, **options)
        return answer

    def logprobs(self, prompt: Prompt, completion: Sequence[int], temperature: float = 1.0, thinking: bool = True) -> Any:
        """Log-probs of the ids of a completion after a prompt, [len(completion)]: those that generation gave, bit for bit."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "rows.jsonl")
            with open(path, "w") as rows:
                json.dump({"prompt_tokens": self._ids(prompt, thinking), "tokens": [int(token) for token in completion]}, rows)
            written = output_of("logprobs", {**self._given, "model": self.folder, "batch": path, "temperature": temperature})
        values = json.loads(written)["logprobs"]
        return _numbers("f", (c_float * len(values))(*values), len(values))
