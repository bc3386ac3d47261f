"""What transformers' trainers call back: the same names, arguments and control flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional


@dataclass
class TrainerState:
    """How far a run is. log_history: what was logged, a dict for each time, with "step" and "epoch"."""

    global_step: int = 0
    max_steps: int = 0
    epoch: float = 0.0
    num_train_epochs: float = 0.0
    logging_steps: int = 1
    log_history: List[Dict[str, Any]] = field(default_factory=list)
    best_metric: Optional[float] = None
    best_global_step: Optional[int] = None
    best_model_checkpoint: Optional[str] = None
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    num_input_tokens_seen: int = 0


@dataclass
class TrainerControl:
    """A callback sets should_training_stop: the run saves a checkpoint and ends."""

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False


class TrainerCallback:
    """Override what you want: on_train_begin, on_step_end, on_log, on_evaluate, on_save, on_train_end, each with (args, state, control, **kwargs)."""

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None: ...


EVENTS = ("on_train_begin", "on_step_end", "on_log", "on_evaluate", "on_save", "on_train_end")


class Handlers:
    """The callbacks of a run; ones of transformers' classes serve as well."""

    def __init__(self, callbacks: Optional[List[Any]]) -> None:
        self.callbacks = [callback() if isinstance(callback, type) else callback for callback in callbacks or []]
        for callback in self.callbacks:
            if not any(callable(getattr(callback, event, None)) for event in EVENTS):
                raise TypeError("callbacks has a %s; expected objects or classes with one of %s" % (type(callback).__name__, ", ".join(EVENTS)))

    def call(self, event: str, args: Any, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        for callback in self.callbacks:
            function = getattr(callback, event, None)
            if function is not None:
                function(args, state, control, **more)
