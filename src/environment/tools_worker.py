"""What tools: python:FILE.py and environment: python:FILE.py:CLASS run: functions that a model calls, over the protocol of
docs/ENVIRONMENTS.md. It is built into cohort; standard library only.

    python3 -c THIS FILE NAMES

NAMES: of functions, with commas; "": those of the file; "class:NAME": the public methods of an object for each episode. Schemas are those of
transformers' get_json_schema, calls and their answers TRL's. What functions print goes to standard error.
"""

import asyncio
import enum
import importlib.util
import inspect
import json
import os
import queue
import re
import sys
import threading
import traceback
import types
import typing

PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null", list: "array", tuple: "array", dict: "object"}
SCALARS = (int, float, str, bool, type(None))
PLACES = 256  # episodes at once
THREADS = 32  # calls at once, those of a turn one after the other


class Refused(Exception):
    """A mistake that is described in words; no traceback belongs to it."""


# ---- schemas ----

def of_values(values, what):
    """An enum: the types of its values, each once."""
    if not values or any(type(v) not in SCALARS for v in values):
        raise Refused("%s has %s; expected numbers, texts, true, false and None" % (what, "no values" if not values else "values that JSON has not"))
    kinds = []
    for v in values:
        if PLAIN[type(v)] not in kinds:
            kinds.append(PLAIN[type(v)])
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": list(values)}


def of_union(arguments, what):
    members = [of_hint(a, what) for a in arguments if a is not type(None)]
    simple = all(set(m) == {"type"} and isinstance(m["type"], str) for m in members)
    if len(members) == 1:
        schema = members[0]
    elif simple:
        kinds = sorted({m["type"] for m in members})
        schema = {"type": kinds[0] if len(kinds) == 1 else kinds}
    else:
        schema = {"anyOf": members}
    if type(None) in arguments:
        schema["nullable"] = True
    return schema


def of_hint(hint, what):
    """The JSON schema of a type hint."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is typing.Any:
        return {}
    if origin is None and isinstance(hint, type) and issubclass(hint, enum.Enum):
        return of_values([member.value for member in hint], "the Enum %s of %s" % (hint.__name__, what))
    if origin is None:
        if hint in PLAIN:
            return {"type": PLAIN[hint]}
        raise Refused("%s has the type hint %r, which is no type of JSON: use int, float, str, bool, Enum, Literal, list, tuple, dict and unions"
                      " of them" % (what, hint))
    if origin is typing.Union or origin is getattr(types, "UnionType", typing.Union):
        return of_union(arguments, what)
    if origin is typing.Literal:
        return of_values(list(arguments), "the Literal of %s" % what)
    if origin is list:
        return dict({"type": "array"}, **({"items": of_hint(arguments[0], what)} if arguments else {}))
    if origin is tuple:
        if len(arguments) == 1 or Ellipsis in arguments:
            raise Refused("%s has the type hint %r: write list[...] for any number of elements" % (what, hint))
        return {"type": "array", "prefixItems": [of_hint(a, what) for a in arguments]}
    if origin is dict:
        return dict({"type": "object"}, **({"additionalProperties": of_hint(arguments[1], what)} if len(arguments) == 2 else {}))
    raise Refused("%s has the type hint %r, which is no type of JSON" % (what, hint))


def sections(doc):
    """A Google docstring as description, lines of Args, and text of Returns (None: there is none)."""
    head, found, at = [], {}, None
    for line in doc.split("\n"):
        title = re.fullmatch(r"\s*(Args|Returns|Raises):\s*", line)
        if title:
            at = title.group(1)
            found.setdefault(at, [])
        elif at is None:
            head.append(line)
        else:
            found[at].append(line)
    returns = "\n".join(found["Returns"]).strip() if "Returns" in found else None
    return "\n".join(head).strip(), found.get("Args", []), returns


def arguments_of(lines):
    """The descriptions of Args by name: what is indented no deeper than the first begins another."""
    described, name = {}, None
    lines = [line for line in lines if line.strip()]
    indent = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
    for line in lines:
        begins = re.match(r"(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)", line.strip()) if len(line) - len(line.lstrip()) <= indent else None
        if begins:
            name = begins.group(1)
            described[name] = [begins.group(2).strip()]
        elif name is not None:
            described[name].append(line.strip())
    return {key: " ".join(part for part in parts if part) for key, parts in described.items()}


def schema_of(function):
    """What transformers' get_json_schema makes of a function."""
    name = function.__name__
    doc = (inspect.getdoc(function) or "").strip()
    if not doc:
        raise Refused("the tool '%s' has no docstring: the model is told by it what the tool is for" % name)
    description, lines, returns = sections(doc)
    described = arguments_of(lines)
    hints, properties, required = typing.get_type_hints(function), {}, []
    for i, parameter in enumerate(inspect.signature(function).parameters.values()):
        if i == 0 and parameter.name in ("self", "cls") and parameter.annotation is inspect.Parameter.empty:
            continue
        if parameter.annotation is inspect.Parameter.empty:
            raise Refused("the argument '%s' of the tool '%s' has no type hint" % (parameter.name, name))
        if parameter.default is inspect.Parameter.empty:
            required.append(parameter.name)
    for key, hint in hints.items():
        if key != "return":
            properties[key] = of_hint(hint, "the argument '%s' of the tool '%s'" % (key, name))
    for key, schema in properties.items():
        if key not in described:
            raise Refused("the docstring of the tool '%s' does not describe its argument '%s'; expected a line '%s: ...' below Args:" % (name, key, key))
        text = described[key]
        choices = re.search(r"\(choices:\s*(.*?)\)\s*$", text, re.IGNORECASE)
        if choices:
            schema["enum"] = [c.strip() if isinstance(c, str) else c for c in json.loads(choices.group(1))]
            text = text[:choices.start()].strip()
        schema["description"] = text
    parameters = dict({"type": "object", "properties": properties}, **({"required": required} if required else {}))
    out = {"name": name, "description": description, "parameters": parameters}
    if "return" in hints:
        try:
            out["return"] = of_hint(hints["return"], "the result of the tool '%s'" % name)
            if returns is not None:
                out["return"]["description"] = returns
        except Refused:
            pass
    return {"type": "function", "function": out}


# ---- the user's file ----

def load(path):
    if not os.path.isfile(path):
        raise Refused("there is no file '%s'; write python:FILE.py" % path)
    sys.path.insert(0, os.path.dirname(path))
    sys.argv = [path]
    stem = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(stem, path)
    if spec is None:
        raise Refused("'%s' is no Python file; expected a name that ends in .py" % path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    spec.loader.exec_module(module)
    return module


def functions_of(module, names):
    """The tools by name: those that are named, else the list 'tools' of the file, else its public functions."""
    if names:
        missing = [n for n in names if not callable(getattr(module, n, None))]
        if missing:
            raise Refused("'%s' has no function '%s'" % (module.__file__, missing[0]))
        listed = [getattr(module, n) for n in names]
    elif isinstance(getattr(module, "tools", None), (list, tuple)):
        listed = list(module.tools)
    else:
        listed = [f for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__ and not n.startswith("_")]
    if not listed:
        raise Refused("'%s' has no tools: functions whose names do not begin with '_', or a list 'tools'" % module.__file__)
    return {f.__name__: f for f in listed}


def methods_of(thing):
    """The tools of an environment, as TRL has them."""
    return {n: f for n, f in inspect.getmembers(thing, inspect.ismethod) if not n.startswith("_") and n not in ("reset", "get_reward")}


# ---- episodes ----

def plain(value):
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def run_loop(loop):
    try:
        loop.run_forever()
    finally:
        loop.close()


class Worker:
    def __init__(self, answers):
        self.answers, self.lock = answers, threading.Lock()
        self.tools, self.schemas, self.make, self.things, self.rewards, self.threads = {}, [], None, {}, False, 0
        self.loop, self.asked = None, queue.SimpleQueue()

    def say(self, **message):
        line = json.dumps(message)
        with self.lock:
            self.answers.write(line.encode() + b"\n")
            self.answers.flush()

    def open(self, path, names):
        module = load(path)
        if names.startswith("class:"):
            make = getattr(module, names[6:], None)
            if not callable(make):
                raise Refused("'%s' has no class '%s'" % (path, names[6:]))
            self.use_factory(make, names[6:])
        else:
            self.use_functions(functions_of(module, [n for n in names.split(",") if n]))
        self.start(os.path.basename(path), THREADS if getattr(module, "THREAD_SAFE", True) else 1)

    def use_functions(self, tools):
        """tools: functions by name."""
        self.tools = tools
        self.schemas = [schema_of(f) for f in tools.values()]

    def use_factory(self, make, name):
        """make: called for each episode; what it returns has reset, tools, and get_reward if it rewards."""
        thing = make()  # a probe, as in TRL
        if not callable(getattr(thing, "reset", None)):
            raise Refused("'%s' has no method reset" % name)
        self.use_functions(methods_of(thing))
        self.make, self.rewards = make, callable(getattr(thing, "get_reward", None))

    def start(self, name, threads):
        for _ in range(threads):
            threading.Thread(target=self.work, daemon=True).start()
        self.threads = threads
        if self.make is not None or any(inspect.iscoroutinefunction(f) for f in self.tools.values()):
            self.loop = asyncio.new_event_loop()
            threading.Thread(target=run_loop, args=(self.loop,), daemon=True).start()
        self.say(type="ready", protocol=1, name=name, tools=self.schemas, tools_only=True, rewards=self.rewards,
                 observes=self.make is not None, concurrency=65536 if self.make is not None else PLACES)

    def stop(self):
        for _ in range(self.threads):
            self.asked.put(None)
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self.loop.stop)
        self.threads, self.loop = 0, None

    def work(self):
        for m in iter(self.asked.get, None):
            self.serve(m)

    def wait(self, value):
        return asyncio.run_coroutine_threadsafe(value, self.loop).result() if inspect.isawaitable(value) else value

    def call(self, tools, call):
        """The answer to a call, and whether it failed. Exceptions are answers."""
        try:
            if call.get("error"):
                raise ValueError(call["error"])
            if call["name"] not in tools:
                raise ValueError("Tool %s not found." % call["name"])
            return str(self.wait(tools[call["name"]](**call["arguments"]))), False
        except Exception as error:
            return str({"error": str(error)}), True

    def begin(self, m):
        observation = {}
        if self.make is not None:
            thing = self.things[m["id"]] = self.make()
            row = {k: v for k, v in m["row"].items()}
            row.setdefault("prompt", m["prompt"])
            said = self.wait(thing.reset(**row))
            if said is not None:
                observation = {"observation": said if isinstance(said, str) else "".join(b.get("text", "") for b in said)}
        self.say(type="reply", id=m["id"], turn=0, **observation)

    def state_of(self, thing, episode):
        """What is left of an object for rewards: its public attributes, as JSON has them."""
        return {k: plain(v) for k, v in vars(thing).items() if not k.startswith("_")}

    def end(self, m):
        thing, more = self.things.pop(m["id"], None), {}
        if thing is not None and self.rewards:
            more["reward"] = self.wait(thing.get_reward())
        if thing is not None:
            more["state"] = self.state_of(thing, m["id"])
            close = getattr(thing, "__exit__", None)
            if callable(close):
                close(None, None, None)
        self.say(type="end", id=m["id"], **more)

    def turn(self, m):
        if not m["calls"]:
            return self.end(m)
        thing = self.things.get(m["id"])
        tools = self.tools if thing is None else methods_of(thing)
        messages = []
        for call in m["calls"]:
            content, failed = self.call(tools, call)
            messages.append(dict({"role": "tool", "call": call["index"], "name": call["name"] or "", "content": content}, **({"failed": True} if failed else {})))
        self.say(type="reply", id=m["id"], turn=m["turn"], messages=messages)

    def serve(self, m):
        try:
            {"begin": self.begin, "turn": self.turn, "finish": self.end}[m["type"]](m)
        except BaseException as error:  # of reset and get_reward, or what ends a program
            self.things.pop(m["id"], None)
            self.say(type="error", id=m["id"], message="%s: %s" % (type(error).__name__, str(error)[:400]))


def take_streams():
    """The protocol gets descriptors of its own: print() and programs that functions start write to standard error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return requests, answers


def main():
    requests, answers = take_streams()
    path, names = os.path.abspath(sys.argv[1]), sys.argv[2]
    worker = Worker(answers)
    for line in requests:
        m = json.loads(line)
        if m["type"] == "hello":
            try:
                worker.open(path, names)
            except BaseException as error:  # SystemExit of a file that ends the program, too
                if not isinstance(error, Refused):
                    traceback.print_exc()
                worker.say(type="error", message=str(error) if isinstance(error, Refused) else "%s: %s" % (type(error).__name__, error))
                return
        elif m["type"] == "stop":
            break
        else:
            worker.asked.put(m)


if __name__ == "__main__":  # the Python package has functions and objects of its own process
    main()
