"""TRL's trainers over the library's commands: one training run is one call of cohort_run."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from typing import Any, Dict, List, Optional, Union

from . import _library as c
from ._config import Config, in_python, say
from ._configs import CPOConfig, DPOConfig, DistillationConfig, GRPOConfig, KTOConfig, ORPOConfig, RLOOConfig, RewardConfig, SFTConfig
from ._data import data_file, lora_options, model_folder, template_of
from ._environment import Environment
from ._rewards import Rewards, name_of
from ._run import Bridge, Collected, Watcher, output_of, run_command
from .callbacks import Handlers, TrainerControl, TrainerState
from .notebook import Display, in_notebook
from .rewards import Builtin


class TrainOutput(tuple):  # type: ignore[type-arg]
    """(global_step, training_loss, metrics), by name too."""

    def __new__(cls, global_step: int, training_loss: float, metrics: Dict[str, Any]) -> "TrainOutput":
        made = super().__new__(cls, (global_step, training_loss, metrics))
        made.global_step, made.training_loss, made.metrics = global_step, training_loss, metrics  # type: ignore[attr-defined]
        return made


class _Log(Watcher):
    """Metrics of steps as TRL logs them: means over logging_steps, of rates and norms the last."""

    LAST = ("step", "epoch", "learning_rate", "grad_norm", "num_tokens")

    def __init__(self, trainer: "Trainer", control: TrainerControl, bridge: Bridge) -> None:
        self.trainer, self.control, self.bridge = trainer, control, bridge
        self.window: List[Dict[str, Any]] = []
        self.losses: List[float] = []
        self.final: Dict[str, Any] = {}
        self.saved: "set[str]" = set()

    def on_message(self, text: str) -> None:
        if text.startswith("step ") and self.trainer.display.notebook:
            return
        if not text.startswith("step "):
            say(in_python(self.trainer.command, text))

    def on_metrics(self, metrics: Dict[str, Optional[float]]) -> None:
        trainer, state = self.trainer, self.trainer.state
        step = int(metrics.get("step") or 0)
        evaluated = {name: value for name, value in metrics.items() if name.startswith("eval_")}
        trained = {name: value for name, value in metrics.items() if not name.startswith("eval_")}
        state.epoch = float(metrics.get("epoch") or state.epoch)
        if len(trained) > 2 and step > 0:
            state.global_step = step
            self.window.append(trained)
            if trained.get("loss") is not None:
                self.losses.append(float(trained["loss"] or 0.0))
            trainer.handlers.call("on_step_end", trainer.args, state, self.control, model=trainer)
            if trainer.args.logs_at(step, len(self.window)):
                self.log(self.mean())
        if evaluated:
            row = {**evaluated, "step": step, "epoch": state.epoch}
            state.log_history.append(row)
            trainer.handlers.call("on_evaluate", trainer.args, state, self.control, metrics=row)
        self.look_for_saves(step)
        if self.control.should_training_stop:
            self.bridge.stop.trigger()

    def look_for_saves(self, step: int) -> None:
        folder = os.path.join(self.trainer.output_dir, "checkpoints")
        found = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if {name for name in found - self.saved if name.startswith("step-")}:
            self.trainer.handlers.call("on_save", self.trainer.args, self.trainer.state, self.control)
        self.saved = found

    def mean(self) -> Dict[str, Any]:
        row: Dict[str, Any] = {}
        for name in {name: None for metrics in self.window for name in metrics}:
            values = [metrics[name] for metrics in self.window if metrics.get(name) is not None]
            if values:
                row[name] = values[-1] if name in self.LAST else sum(values) / len(values)
        row["step"] = int(row["step"])
        self.window = []
        return row

    def log(self, row: Dict[str, Any]) -> None:
        trainer = self.trainer
        trainer.state.log_history.append(row)
        trainer.display.show(trainer.state.log_history)
        trainer.handlers.call("on_log", trainer.args, trainer.state, self.control, logs=dict(row))


# Of a run's options, what an evaluation is not about.
NOT_EVALUATED = ("epochs", "resume", "eval_strategy", "eval_steps", "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
                 "early_stopping_patience", "early_stopping_threshold", "report_to", "save_total_limit", "log_completions")


def _made(folder: str) -> str:
    os.makedirs(folder, exist_ok=True)
    return folder


class _FirstEvaluation(Watcher):
    """Ends a run with its first evaluation."""

    def __init__(self, stop: c.Stop) -> None:
        self.stop = stop
        self.figures: Optional[Dict[str, Any]] = None

    def on_metrics(self, metrics: Dict[str, Optional[float]]) -> None:
        evaluated = {name: value for name, value in metrics.items() if name.startswith("eval_")}
        if evaluated and self.figures is None:
            self.figures = evaluated
            self.stop.trigger()


class Trainer:
    """What the trainers share."""

    command = ""
    config: Any = Config
    compares = False  # with the model as it was before training

    def __init__(self, model: Any, args: Optional[Config] = None, train_dataset: Any = None, eval_dataset: Any = None, processing_class: Any = None,
                 callbacks: Optional[List[Any]] = None, peft_config: Any = None, **unused: Any) -> None:
        for name, value in unused.items():
            if value is None or value == (None, None):
                continue
            raise TypeError("%s has no argument %s here: the model is trained by the library's own optimizer and data order (options optim,"
                            " lr_scheduler_type, seed)" % (type(self).__name__, name))
        if args is not None and (not isinstance(args, Config) or args.command != self.command):
            raise TypeError("args is a %s.%s; expected a cohort.%s, which takes the same arguments" % (type(args).__module__, type(args).__name__,
                                                                                                     self.config.__name__))
        named = os.path.basename(os.fspath(model)) if isinstance(model, (str, os.PathLike)) else "model"
        self.args = args if args is not None else self.config()
        self.output_dir = self.args.output_dir or "%s-%s" % (named, self.command.upper())
        self._files = os.path.join(self.output_dir, "python")
        self.model, self.processing_class, self.peft_config = model, processing_class, peft_config
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.handlers, self.state = Handlers(callbacks), TrainerState()
        self.display = Display(bool(self.args.given.get("disable_tqdm", False)))
        self._folder: Optional[str] = None
        self._lora = {} if peft_config is None else lora_options(peft_config)

    # ---- what differs between trainers

    def add_rewards(self, options: c.Options, bridge: Bridge) -> None: ...

    # ---- training

    def _base(self) -> str:
        if self._folder is None:
            self._folder = model_folder(self.model, self.processing_class, self._files)
        return self._folder

    def _values(self) -> Dict[str, Any]:
        values = dict(self.args.values())
        values.update(self._lora)
        values["model"] = self._base()
        template = template_of(self.processing_class, self._base(), self._files)
        if template is not None:
            values["chat_template"] = template
        return values

    def _eval_value(self) -> Any:
        if isinstance(self.eval_dataset, dict):
            return ["%s=%s" % (name, data_file(data, self._files, "eval-" + name)) for name, data in self.eval_dataset.items()]
        return data_file(self.eval_dataset, self._files, "eval")

    def train(self, resume_from_checkpoint: Union[bool, str, None] = None) -> TrainOutput:
        """Trains to the end; with resume_from_checkpoint (True: the newest, or a folder) goes on from there, with the same bits.

        What a reward or a callback raises ends the run, at the last checkpoint, and is raised here. Ctrl-C saves a checkpoint and raises
        KeyboardInterrupt.
        """
        if self.train_dataset is None:
            raise ValueError("there is no train_dataset; give a datasets.Dataset, a list of dicts, or the path of a file")
        options, stop = c.Options(self.command), c.Stop()
        bridge, control = Bridge(stop), TrainerControl()
        values = self._values()
        values["data"] = data_file(self.train_dataset, self._files, "train")
        if self.eval_dataset is not None and str(self.args.given.get("eval_strategy", "no")) != "no":
            values["eval_data"] = self._eval_value()
        values["out"] = self.output_dir
        resume = resume_from_checkpoint if resume_from_checkpoint is not None else values.pop("resume", None)
        if resume:
            values["resume"] = "latest" if resume is True else os.fspath(resume)
        for name, value in values.items():
            options.set(name, value)
        self.add_rewards(options, bridge)
        log = _Log(self, control, bridge)
        folder = os.path.join(self.output_dir, "checkpoints")
        log.saved = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        self.state.max_steps = int(values.get("steps") or 0)
        self.state.logging_steps = int(self.args.logging_steps)
        self.handlers.call("on_train_begin", self.args, self.state, control)
        try:
            self._run(options, log, stop, bridge)
        except c.Stopped:
            if not control.should_training_stop:
                raise
        except Exception as error:
            if hasattr(error, "add_note") and error is bridge.raised:
                error.add_note("cohort: the run stopped after step %d; its last checkpoint is whole, and train(resume_from_checkpoint=True) goes on"
                               " from it" % self.state.global_step)
            raise
        finally:
            options.close()
            self.close_rewards()
        if log.window and self.args.logs_at(self.state.global_step, int(self.args.logging_steps)):
            log.log(log.mean())
        log.look_for_saves(self.state.global_step)
        self.handlers.call("on_train_end", self.args, self.state, control)
        loss = sum(log.losses) / len(log.losses) if log.losses else 0.0
        return TrainOutput(self.state.global_step, loss, {"train_loss": loss, "epoch": self.state.epoch})

    def _run(self, options: c.Options, watcher: Watcher, stop: c.Stop, bridge: Bridge) -> None:
        try:
            run_command(options, watcher, stop, bridge)
        except c.Error as error:
            if error is not bridge.raised:
                error.args = (in_python(self.command, str(error)),)
            raise

    def close_rewards(self) -> None: ...

    @property
    def final(self) -> str:
        """The folder of the trained model; where training was not done, the model that it would begin with."""
        folder = os.path.join(self.output_dir, "final")
        return folder if os.path.isdir(folder) else self._base()

    def save_model(self, output_dir: Union[str, "os.PathLike[str]", None] = None) -> None:
        """Copies the trained model, as every tool reads it, into output_dir (unset: it stays in final/ of the run folder)."""
        final = os.path.join(self.output_dir, "final")
        if not os.path.isdir(final):
            raise c.StateError("%s has no final/: train() has not come to its end" % self.output_dir)
        if output_dir is None or os.path.abspath(output_dir) == os.path.abspath(final):
            return
        os.makedirs(output_dir, exist_ok=True)
        for name in os.listdir(final):
            shutil.copyfile(os.path.join(final, name), os.path.join(output_dir, name))

    def evaluate(self, eval_dataset: Any = None) -> Dict[str, Any]:
        """Held-out figures of the trained model (before training: of the model itself), under names that begin with "eval_": those that an
        evaluation of train() has."""
        data = eval_dataset if eval_dataset is not None else self.eval_dataset
        if data is None:
            raise ValueError("there is no eval_dataset")
        trained = self.final != self._base()
        if self.compares and trained and self.args.given.get("sync_ref_model"):
            raise c.UnsupportedError("%s.evaluate: with sync_ref_model the reference that held-out figures compare with is gone after training; give"
                                     " eval_dataset and eval_strategy='steps', whose figures stand in state.log_history" % type(self).__name__)
        options, stop, before = c.Options(self.command), c.Stop(), self.eval_dataset
        bridge = Bridge(stop)
        looked = _FirstEvaluation(stop)
        with tempfile.TemporaryDirectory(dir=_made(self._files), prefix="evaluate-") as folder:
            try:
                self.eval_dataset = data
                values = {name: value for name, value in self._values().items() if name not in NOT_EVALUATED}
                given = self._eval_value()
                # A run that ends at the evaluation before its first step: it needs rows to train on, and takes none.
                values.update(eval_data=given, data=given[0].split("=", 1)[1] if isinstance(given, list) else given, out=os.path.join(folder, "run"),
                              steps=1, save_steps=0)
                if self.compares and trained:  # with what the run began with, unless another is named
                    values.setdefault("ref_model", values.get("adapter") or self._base())
                if os.path.exists(os.path.join(self.final, "adapter_config.json")):
                    values = {name: value for name, value in values.items() if name != "use_peft" and not name.startswith("lora_")}
                    values["adapter"] = self.final
                else:
                    values["model"] = self.final
                for name, value in values.items():
                    options.set(name, value)
                self.add_rewards(options, bridge)
                self._run(options, looked, stop, bridge)
            except c.Stopped:
                if looked.figures is None:
                    raise
            finally:
                self.eval_dataset = before
                options.close()
                self.close_rewards()
        figures = looked.figures or {}
        self.state.log_history.append({**figures, "step": self.state.global_step, "epoch": self.state.epoch})
        return figures

    def report(self, path: Union[str, "os.PathLike[str]", None] = None) -> str:
        """Writes the page about this run (unset: report.html in its folder), shows it in a notebook, and returns its path."""
        if not os.path.exists(os.path.join(self.output_dir, "run.db")):
            raise c.StateError("%s has no record of a run: train() has not begun" % self.output_dir)
        target = os.fspath(path) if path is not None else os.path.join(self.output_dir, "report.html")
        options, collected = c.Options("report"), Collected(None)
        options.set("run", self.output_dir)
        options.set("out", target)
        run_command(options, collected)
        options.close()
        if in_notebook():
            from IPython.display import HTML, display  # type: ignore[import-not-found, unused-ignore]

            with open(target, encoding="utf-8") as page:
                display(HTML(page.read()))
        return target


class SFTTrainer(Trainer):
    """Supervised fine-tuning with TRL's arguments.

    train_dataset: rows with messages, prompt and completion, or text: a datasets.Dataset, a list of dicts, or the path of a file (docs/DATA.md).
    """

    command, config = "sft", SFTConfig

    def __init__(self, model: Any, args: Optional[SFTConfig] = None, data_collator: Any = None, train_dataset: Any = None, eval_dataset: Any = None,
                 processing_class: Any = None, compute_loss_func: Any = None, compute_metrics: Any = None, callbacks: Optional[List[Any]] = None,
                 optimizers: Any = (None, None), optimizer_cls_and_kwargs: Any = None, preprocess_logits_for_metrics: Any = None,
                 peft_config: Any = None, formatting_func: Any = None) -> None:
        if formatting_func is not None and train_dataset is not None:
            train_dataset = [{"text": formatting_func(row)} for row in train_dataset]
            eval_dataset = None if eval_dataset is None else [{"text": formatting_func(row)} for row in eval_dataset]
        super().__init__(model, args, train_dataset, eval_dataset, processing_class, callbacks, peft_config, data_collator=data_collator,
                         compute_loss_func=compute_loss_func, compute_metrics=compute_metrics, optimizers=optimizers,
                         optimizer_cls_and_kwargs=optimizer_cls_and_kwargs, preprocess_logits_for_metrics=preprocess_logits_for_metrics)


class GRPOTrainer(Trainer):
    """GRPO with TRL's arguments.

    reward_funcs: functions with TRL's signature, sync or async; names of the library's rewards; functions of cohort.rewards; folders of reward
    models; or a list of these.
    train_dataset: rows with a prompt (text or messages) and the columns that rewards read.
    tools: functions that the model may call; environment_factory: makes an object for each episode, whose public methods are tools, with reset and, if
    it rewards, get_reward (docs/ENVIRONMENTS.md).
    """

    command = "grpo"
    config: Any = GRPOConfig
    rewarded = True  # there is nothing to learn from but rewards

    def __init__(self, model: Any, reward_funcs: Any = None, args: Union[GRPOConfig, RLOOConfig, DistillationConfig, None] = None, train_dataset: Any = None,
                 eval_dataset: Any = None, processing_class: Any = None, reward_processing_classes: Any = None, callbacks: Optional[List[Any]] = None,
                 optimizers: Any = (None, None), peft_config: Any = None, tools: Optional[List[Any]] = None, rollout_func: Any = None,
                 environment_factory: Any = None) -> None:
        super().__init__(model, args, train_dataset, eval_dataset, processing_class, callbacks, peft_config, optimizers=optimizers,
                         rollout_func=rollout_func)
        if tools and environment_factory is not None:
            raise ValueError("tools and environment_factory are both given: an environment has tools of its own, leave one of them out")
        if environment_factory is not None and not callable(environment_factory):
            raise TypeError("environment_factory is a %s; expected a class or a function that makes an object" % type(environment_factory).__name__)
        for tool in tools or []:
            if not callable(tool):
                raise TypeError("tools has a %s; expected functions" % type(tool).__name__)
        self.tools, self.environment_factory = list(tools or []), environment_factory
        environment = self._environment()  # says now what is wrong with them
        self._environment_rewards = environment is not None and environment.rewards
        self._answers: Optional[Environment] = None
        self.reward_funcs: List[Any] = list(reward_funcs) if isinstance(reward_funcs, (list, tuple)) else [] if reward_funcs is None else [reward_funcs]
        if not self.reward_funcs and not self._environment_rewards and self.rewarded:
            raise ValueError("reward_funcs is missing; give a function with TRL's signature, such as lambda completions, **kwargs: [float(len(text))"
                             " for text in completions], or the name of one of the library's (docs/REWARDS.md)")
        for i, reward in enumerate(self.reward_funcs):
            if hasattr(reward, "save_pretrained"):
                raise TypeError("reward_funcs has a model; save it with its tokenizer (save_pretrained), and give the folder")
            if isinstance(reward, (str, os.PathLike)) and os.path.isdir(reward):
                self.reward_funcs[i] = reward = "model:" + os.fspath(reward)
            if not callable(reward) and not isinstance(reward, str):
                raise TypeError("reward_funcs has a %s; expected functions or names" % type(reward).__name__)
        self._rewards: Optional[Rewards] = None

    def _environment(self) -> Optional[Environment]:
        return Environment(self.tools, self.environment_factory) if self.tools or self.environment_factory is not None else None

    def _named(self) -> List[Any]:
        return [reward for reward in self.reward_funcs if isinstance(reward, (str, Builtin))]

    def _called(self) -> List[Any]:
        return [reward for reward in self.reward_funcs if not isinstance(reward, (str, Builtin))]

    def _values(self) -> Dict[str, Any]:
        values = super()._values()
        if self.rewarded:
            values.setdefault("num_generations_eval", values.get("num_generations", 8))
        return self._with_rewards(values)

    def _with_rewards(self, values: Dict[str, Any]) -> Dict[str, Any]:
        """The library scores its own first, then functions: weights follow them."""
        named = self._named()
        for reward in named:
            for name, value in getattr(reward, "options", {}).items():
                values.setdefault(name, value)
        if named:
            values["reward"] = [reward if isinstance(reward, str) else reward.spec for reward in named]
        weights = values.pop("reward_weights", None)
        if weights is not None:
            if len(weights) != len(self.reward_funcs):
                raise ValueError("reward_weights has %d numbers for %d reward_funcs; give one for each" % (len(weights), len(self.reward_funcs)))
            own = [isinstance(reward, (str, Builtin)) for reward in self.reward_funcs]
            values["reward_weights"] = [weight for weight, first in zip(weights, own) if first] + [1.0] * self._environment_rewards + \
                [weight for weight, first in zip(weights, own) if not first]
        return values

    def add_rewards(self, options: c.Options, bridge: Bridge) -> None:
        environment = self._answers = self._environment()
        if environment is not None:
            environment.attach(options, bridge)
        self._rewards = Rewards(bridge, lambda: {
            "global_step": self.state.global_step, "max_steps": self.state.max_steps, "epoch": self.state.epoch,
            "logging_steps": self.state.logging_steps, "log_history": self.state.log_history,
        }, None if environment is None else environment.object_of)
        names: Dict[str, int] = {}
        for function in self._called():
            name = name_of(function)
            names[name] = names.get(name, 0) + 1
            self._rewards.add(options, function, name if names[name] == 1 else "%s_%d" % (name, names[name]))

    def close_rewards(self) -> None:
        if self._rewards is not None:
            self._rewards.close()
        if self._answers is not None:
            self._answers.stop()
            self._answers = None

    def evaluate(self, eval_dataset: Any = None) -> Dict[str, Any]:
        """Mean rewards of completions of the held-out prompts by the trained model (before training: by the model itself)."""
        data = eval_dataset if eval_dataset is not None else self.eval_dataset
        if data is None:
            raise ValueError("there is no eval_dataset")
        options, stop = c.Options("eval"), c.Stop()
        bridge, collected = Bridge(stop), Collected(None)
        values = {name: value for name, value in self._with_rewards(dict(self.args.values())).items() if options.has(name)}
        values.update(model=self.final, data=data_file(data, self._files, "eval"), n=self.args.given.get("num_generations_eval", 1), format="jsonl")
        for name, value in values.items():
            options.set(name, value)
        self.add_rewards(options, bridge)
        try:
            self._run(options, collected, stop, bridge)
        finally:
            options.close()
            self.close_rewards()
        lines = [json.loads(line) for line in collected.output.splitlines() if line.startswith(b"{")]
        figures = {name if name.startswith("eval_") else "eval_" + name: value for name, value in _flat(lines[-1]).items()} if lines else {}
        self.state.log_history.append({**figures, "step": self.state.global_step, "epoch": self.state.epoch})
        return figures


class RLOOTrainer(GRPOTrainer):
    """RLOO with TRL's arguments: as GRPOTrainer, with its own defaults (docs/TRAINERS.md)."""

    command, config = "rloo", RLOOConfig


class DistillationTrainer(GRPOTrainer):
    """On-policy distillation with TRL's arguments: the model learns from a teacher what comes next in what it says itself (docs/TRAINERS.md).

    teacher_model: a folder, or the name of a model of the Hub's, or a model of transformers; it has the model's vocabulary. reward_funcs (not in TRL)
    are measured, and not learned from.
    """

    command, config = "distill", DistillationConfig
    rewarded = False

    def __init__(self, model: Any, teacher_model: Any = None, args: Optional[DistillationConfig] = None, train_dataset: Any = None,
                 eval_dataset: Any = None, processing_class: Any = None, callbacks: Optional[List[Any]] = None, optimizers: Any = (None, None),
                 quantization_config: Any = None, peft_config: Any = None, tools: Optional[List[Any]] = None, reward_funcs: Any = None) -> None:
        if quantization_config is not None:
            raise TypeError("quantization_config is not there: the library does not quantise")
        super().__init__(model, reward_funcs, args, train_dataset, eval_dataset, processing_class, None, callbacks, optimizers, peft_config, tools)
        self.teacher_model = teacher_model if teacher_model is not None else self.args.given.get("teacher_model_name_or_path")
        if self.teacher_model is None:
            raise ValueError("teacher_model is missing; give the folder of a model with the same vocabulary")

    def _values(self) -> Dict[str, Any]:
        values = super()._values()
        values["teacher_model_name_or_path"] = model_folder(self.teacher_model, self.processing_class, os.path.join(self._files, "teacher"))
        return values

    def evaluate(self, eval_dataset: Any = None) -> Dict[str, Any]:
        return Trainer.evaluate(self, eval_dataset)


class PreferenceTrainer(Trainer):
    """What the trainers on preferences share. train_dataset: rows with prompt, chosen and rejected (docs/TRAINERS.md). ref_model (DPO, KTO): what is
    compared with, as model is given; unset: the model as the run begins with it."""

    def __init__(self, model: Any, ref_model: Any = None, args: Optional[Config] = None, data_collator: Any = None, train_dataset: Any = None,
                 eval_dataset: Any = None, processing_class: Any = None, compute_metrics: Any = None, callbacks: Optional[List[Any]] = None,
                 optimizers: Any = (None, None), preprocess_logits_for_metrics: Any = None, peft_config: Any = None) -> None:
        if ref_model is not None and not self.compares:
            raise TypeError("%s compares with no reference; leave ref_model out" % type(self).__name__)
        self.ref_model = None if ref_model is model else ref_model
        super().__init__(model, args, train_dataset, eval_dataset, processing_class, callbacks, peft_config, data_collator=data_collator,
                         compute_metrics=compute_metrics, optimizers=optimizers, preprocess_logits_for_metrics=preprocess_logits_for_metrics)

    def _values(self) -> Dict[str, Any]:
        values = super()._values()
        if self.ref_model is not None:
            values["ref_model"] = model_folder(self.ref_model, self.processing_class, os.path.join(self._files, "reference"))
        return values


class DPOTrainer(PreferenceTrainer):
    """DPO and its family with TRL's arguments."""

    command, config = "dpo", DPOConfig
    compares = True


class KTOTrainer(PreferenceTrainer):
    """KTO with TRL's arguments: rows with prompt, completion and label, or pairs."""

    command, config = "kto", KTOConfig
    compares = True


class ORPOTrainer(PreferenceTrainer):
    """ORPO with TRL's arguments."""

    command, config = "orpo", ORPOConfig


class CPOTrainer(PreferenceTrainer):
    """CPO and SimPO with TRL's arguments."""

    command, config = "cpo", CPOConfig


class RewardTrainer(PreferenceTrainer):
    """Reward models with TRL's arguments: rows as of DPO, which may have a margin (docs/TRAINERS.md).

    The trained model is a reward of GRPOTrainer: reward_funcs=trainer.final.
    """

    command, config = "reward", RewardConfig

    def __init__(self, model: Any, args: Optional[RewardConfig] = None, data_collator: Any = None, train_dataset: Any = None,
                 eval_dataset: Any = None, processing_class: Any = None, compute_metrics: Any = None, callbacks: Optional[List[Any]] = None,
                 optimizers: Any = (None, None), optimizer_cls_and_kwargs: Any = None, preprocess_logits_for_metrics: Any = None,
                 quantization_config: Any = None, peft_config: Any = None) -> None:
        if optimizer_cls_and_kwargs is not None or quantization_config is not None:
            raise TypeError("optimizer_cls_and_kwargs and quantization_config are not there: the library has its own optimizers (optim), and does"
                            " not quantise")
        super().__init__(model, None, args, data_collator, train_dataset, eval_dataset, processing_class, compute_metrics, callbacks, optimizers,
                         preprocess_logits_for_metrics, peft_config)


def _flat(figures: Dict[str, Any], before: str = "") -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            found.update(_flat(value, before + name + "/"))
        else:
            found[before + name] = value
    return found


__all__ = [
    "CPOConfig", "CPOTrainer", "DPOConfig", "DPOTrainer", "DistillationConfig", "DistillationTrainer", "GRPOConfig", "GRPOTrainer", "KTOConfig", "KTOTrainer", "ORPOConfig", "ORPOTrainer", "RLOOConfig",
    "RLOOTrainer", "RewardConfig", "RewardTrainer", "SFTConfig", "SFTTrainer", "TrainOutput", "output_of",
]
