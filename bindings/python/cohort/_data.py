"""Data sets and models of Python's as the files that the library reads."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Iterable, Optional, Tuple

from ._config import say
from ._worker import plain


def _rows(data: Any, name: str) -> Iterable[Dict[str, Any]]:
    if not hasattr(data, "__iter__"):
        raise TypeError("%s is a %s; expected a datasets.Dataset, a list or iterable of dicts, or the path of a file" % (name, type(data).__name__))
    for i, row in enumerate(data):
        if not isinstance(row, dict):
            raise TypeError("%s: item %d is a %s; expected a dict of columns such as {'prompt': ...}" % (name, i, type(row).__name__))
        yield row


def data_file(data: Any, folder: str, name: str) -> str:
    """The path of a file or folder as it is; anything else is written to folder/name.jsonl, a row a line."""
    if isinstance(data, (str, os.PathLike)):
        return os.fspath(data)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name + ".jsonl")
    scratch, count = "%s.%d" % (path, os.getpid()), 0
    try:
        with open(scratch, "w", encoding="utf-8") as out:
            for row in _rows(data, name):
                out.write(json.dumps(plain(row), ensure_ascii=False) + "\n")
                count += 1
        if count == 0:
            raise ValueError("%s has no rows" % name)
        os.replace(scratch, path)
    finally:
        if os.path.exists(scratch):
            os.remove(scratch)
    return path


def model_folder(model: Any, processing_class: Any, folder: str) -> str:
    """The folder of a checkpoint; a model of transformers is saved to folder/model."""
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
        return path if os.path.exists(path) else _downloaded(path)
    if not hasattr(model, "save_pretrained"):
        raise TypeError("model is a %s; expected the folder of a checkpoint, or a model of transformers" % type(model).__name__)
    path = os.path.join(folder, "model")
    model.save_pretrained(path)
    tokenizer = processing_class
    if tokenizer is None:
        from transformers import AutoTokenizer  # type: ignore[import-not-found, unused-ignore]

        tokenizer = AutoTokenizer.from_pretrained(model.config._name_or_path)
    tokenizer.save_pretrained(path)
    return path


def _downloaded(name: str) -> str:
    """The folder of a model of the Hub's, by huggingface_hub where it is there: from its cache, else from the network."""
    advice = "model %r is no folder on this machine; download it first, for example with `hf download %s --local-dir FOLDER`, and give FOLDER" % (name, name)
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise FileNotFoundError("model %r is no folder on this machine" % name)
    try:
        from huggingface_hub import snapshot_download  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise FileNotFoundError(advice) from None
    try:
        return str(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "LICENSE*"]))
    except Exception as error:
        raise FileNotFoundError("%s (huggingface_hub: %s)" % (advice, str(error).strip().splitlines()[0])) from None


def template_of(processing_class: Any, model: str, folder: str) -> Optional[str]:
    """A file of the chat template that a tokenizer of transformers has and the model folder has not."""
    template = getattr(processing_class, "chat_template", None)
    if not isinstance(template, str) or template == _folder_template(model):
        return None
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "chat_template.jinja")
    with open(path, "w", encoding="utf-8") as out:
        out.write(template)
    return path


def _folder_template(model: str) -> Optional[str]:
    try:
        with open(os.path.join(model, "chat_template.jinja"), encoding="utf-8") as file:
            return file.read()
    except OSError:
        pass
    try:
        with open(os.path.join(model, "tokenizer_config.json"), encoding="utf-8") as file:
            template = json.load(file).get("chat_template")
            return template if isinstance(template, str) else None
    except (OSError, ValueError):
        return None


def lora_options(peft_config: Any) -> Dict[str, Any]:
    """PEFT's LoraConfig, or a dict of its arguments, as options."""
    if not isinstance(peft_config, dict) and not hasattr(peft_config, "to_dict"):
        raise TypeError("peft_config is a %s; expected PEFT's LoraConfig, or a dict of its arguments" % type(peft_config).__name__)
    given = dict(peft_config) if isinstance(peft_config, dict) else peft_config.to_dict()
    kind = str(getattr(given.get("peft_type", "LORA"), "value", given.get("peft_type", "LORA"))).replace("PeftType.", "")
    if kind != "LORA":
        raise TypeError("peft_config is of type %s; LORA alone is supported" % kind)
    known: Tuple[Tuple[str, str], ...] = (
        ("r", "lora_r"), ("lora_alpha", "lora_alpha"), ("lora_dropout", "lora_dropout"), ("target_modules", "lora_target_modules"),
        ("modules_to_save", "lora_modules_to_save"), ("use_rslora", "use_rslora"), ("use_dora", "use_dora"),
        ("target_parameters", "lora_target_parameters"),
    )
    harmless = {"peft_type", "task_type", "inference_mode", "base_model_name_or_path", "auto_mapping", "revision", "peft_version", "runtime_config",
                "megatron_core", "loftq_config", "corda_config", "qalora_group_size", "eva_config", "fan_in_fan_out", "bias", "init_lora_weights"}
    options: Dict[str, Any] = {"use_peft": True}
    for key, name in known:
        value = given.pop(key, None)
        if value is None or value == [] or value == {} or value is False or (key == "lora_dropout" and value == 0):
            continue
        options[name] = sorted(value) if isinstance(value, set) else value
    if given.get("bias", "none") != "none":
        raise TypeError("peft_config: bias=%r is not supported; leave it 'none'" % given["bias"])
    if given.get("init_lora_weights", True) is not True:
        say("peft_config: init_lora_weights=%r is taken as True: A as PEFT initialises it, B zero" % given["init_lora_weights"])
    for key, value in given.items():
        if key not in harmless and value:
            raise TypeError("peft_config: %s=%r is not supported here (docs/LORA.md); leave it out" % (key, value))
    return options
