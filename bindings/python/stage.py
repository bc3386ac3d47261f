#!/usr/bin/env python3
"""Puts the package together: stage.py LIBRARY FOLDER. The modules beside this file, the library, the workers that cohort has built in,
and the configuration classes, whose arguments come out of the library's option table."""

import importlib.util
import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = os.path.join(HERE, "..", "..", "src")
WORKERS = (("reward/python_worker.py", "_worker.py"), ("environment/tools_worker.py", "_tools_worker.py"))
CLASSES = (("GRPOConfig", "grpo", "GRPO"), ("RLOOConfig", "rloo", "RLOO"), ("SFTConfig", "sft", "supervised fine-tuning"),
           ("DPOConfig", "dpo", "DPO"), ("KTOConfig", "kto", "KTO"), ("ORPOConfig", "orpo", "ORPO"), ("CPOConfig", "cpo", "CPO"),
           ("RewardConfig", "reward", "reward models"), ("DistillationConfig", "distill", "distillation from a teacher"))
# Arguments of a trainer, or places that it chooses.
NOT_ARGUMENTS = {"config", "model", "out", "data", "eval_data", "reward"}
TYPES = {"bool": "bool", "int": "int", "float": "float", "text": "str", "word": "str", "list": "Union[str, Sequence[Any], Mapping[str, Any]]"}


def library_of(folder):
    """_library alone, without the package around it, which needs what is made here."""
    spec = importlib.util.spec_from_file_location("cohort_library", os.path.join(folder, "_library.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["cohort_library"] = module
    spec.loader.exec_module(module)
    return module


def class_text(name, command, what, options):
    shown = [option for option in options if option["name"] not in NOT_ARGUMENTS]
    lines = ["class %s(Config):" % name, '    """Arguments of %s. What is left None has its default: TRL\'s, where the library\'s differs (_config.py).' % what, ""]
    for option in shown:
        words = " [%s]" % ", ".join(option["choices"]) if option["choices"] else ""
        default = "unset" if option["fallback"] is None else option["fallback"]
        lines.append("    %s: %s%s (%s)" % (option["name"], option["help"].replace("\\", "\\\\"), words, default))
    lines += ['    """', "", "    command = %r" % command, "", "    def __init__(", "        self,",
              '        output_dir: "Union[str, os.PathLike[str], None]" = None,', "        *,"]
    lines += ["        %s: Optional[%s] = None," % (option["name"], TYPES[option["type"]]) for option in shown]
    lines += ["        **trl: Any,", "    ) -> None:", "        super().__init__(",
              "            None if output_dir is None else os.fspath(output_dir),"]
    lines += ["            %s=%s," % (option["name"], option["name"]) for option in shown]
    return lines + ["            **trl,", "        )", ""]


def main():
    library, folder = os.path.realpath(sys.argv[1]), os.path.join(sys.argv[2], "cohort")
    os.makedirs(folder, exist_ok=True)
    for name in sorted(os.listdir(os.path.join(HERE, "cohort"))):
        if name.endswith((".py", ".pyi", ".typed")):
            shutil.copyfile(os.path.join(HERE, "cohort", name), os.path.join(folder, name))
    for source, name in WORKERS:
        shutil.copyfile(os.path.join(SOURCES, source), os.path.join(folder, name))
    shutil.copyfile(library, os.path.join(folder, "libcohort.so"))
    module = library_of(folder)
    text = ['"""Made from the option table (stage.py): do not edit."""', "", "from __future__ import annotations", "", "import os",
            "from typing import Any, Mapping, Optional, Sequence, Union", "", "from ._config import Config", "", ""]
    for name, command, what in CLASSES:
        text += class_text(name, command, what, module.options_of(command)) + [""]
    with open(os.path.join(folder, "_configs.py"), "w", encoding="utf-8") as out:
        out.write("\n".join(text).rstrip("\n") + "\n")


main()
