"""cohort: post-training of language models with GRPO and its family. TRL's trainers over one engine, without torch.

    from cohort import GRPOConfig, GRPOTrainer

    trainer = GRPOTrainer(model="path/to/model", reward_funcs=my_reward, train_dataset=rows, args=GRPOConfig(output_dir="runs/first"))
    trainer.train()
"""

from __future__ import annotations

import os
from typing import Any, Union

from . import rewards
from ._library import (
    ArgumentError, Error, FileError, FormatError, InternalError, NumericError, OutOfMemoryError, RewardError, StateError, Stopped, UnsupportedError,
    version,
)
from ._run import output_of
from .callbacks import TrainerCallback, TrainerControl, TrainerState
from .model import Completion, Model, Token
from .trainer import (
    CPOConfig, CPOTrainer, DPOConfig, DPOTrainer, DistillationConfig, DistillationTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer, ORPOConfig,
    ORPOTrainer, RLOOConfig, RLOOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer, TrainOutput,
)

__version__ = version()


def init(out: Union[str, "os.PathLike[str]"], **options: Any) -> None:
    """Makes a model with random weights in the folder out: options are those of `cohort init` (preset, tokenizer, seed, dtype ...)."""
    output_of("init", {**options, "out": out})


__all__ = [
    "ArgumentError", "CPOConfig", "CPOTrainer", "Completion", "DPOConfig", "DPOTrainer", "DistillationConfig", "DistillationTrainer", "KTOConfig", "KTOTrainer", "ORPOConfig", "ORPOTrainer",
    "RLOOConfig", "RLOOTrainer", "RewardConfig", "RewardTrainer", "Error", "FileError", "FormatError", "GRPOConfig", "GRPOTrainer", "InternalError", "Model", "NumericError",
    "OutOfMemoryError", "RewardError", "SFTConfig", "SFTTrainer", "StateError", "Stopped", "Token", "TrainOutput", "TrainerCallback",
    "TrainerControl", "TrainerState", "UnsupportedError", "init", "rewards", "version",
]
