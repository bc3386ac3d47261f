"""The Python package over the library: what a program of TRL's does, and what goes wrong in it. Standard library only; numpy is used where it is
there. COHORT names the program, with which results are compared."""

import array
import asyncio
import doctest
import gc
import hashlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import unittest

import cohort
from cohort import GRPOConfig, GRPOTrainer, Model, SFTConfig, SFTTrainer, rewards

PROGRAM = os.environ["COHORT"]
WORK = tempfile.TemporaryDirectory()
MODEL = os.path.join(WORK.name, "nano")
ROWS = [{"prompt": "count to %d" % i, "answer": str(i)} for i in range(12)]
number = iter(range(10**6))


def setUpModule():
    cohort.init(MODEL, preset="nano", tokenizer="bytes", seed=1)


def tearDownModule():
    WORK.cleanup()


def folder():
    return os.path.join(WORK.name, "run%d" % next(number))


def args(out=None, **more):
    given = dict(max_steps=4, max_completion_length=8, learning_rate=1e-3, save_steps=2, logging_steps=1, disable_tqdm=True, use_cpu=True)
    given.update(more)
    return GRPOConfig(out or folder(), **given)


def distinct(completions, **kwargs):
    return [float(len(set(text))) for text in completions]


def digest(out, name="final/model.safetensors"):
    with open(os.path.join(out, name), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class Generation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = Model.load(MODEL, max_context=256, device="cpu")

    @classmethod
    def tearDownClass(cls):
        cls.model.close()

    def test_as_the_program(self):
        answer = self.model.generate("Once upon", max_tokens=6, seed=5)
        printed = subprocess.run([PROGRAM, "generate", "--model", MODEL, "--prompt", "Once upon", "--no-chat", "--max-tokens", "6", "--seed", "5",
                                  "--device", "cpu", "--format", "jsonl"], capture_output=True, check=True).stdout
        row = json.loads(printed.splitlines()[0])
        self.assertEqual(list(answer.tokens), row["tokens"])
        self.assertEqual(list(array.array("f", answer.logprobs)), list(array.array("f", row["logprobs"])))

    def test_shapes(self):
        several = self.model.generate(["a", "b", "c"], n=2, max_tokens=3, seed=1)
        self.assertEqual([[made.index for made in group] for group in several], [[0, 1]] * 3)
        self.assertEqual(list(self.model.generate("a", max_tokens=3, seed=1).tokens), list(several[0][0].tokens))
        self.assertEqual(len(self.model.generate([[{"role": "user", "content": "hi"}]], max_tokens=2)), 1)
        self.assertEqual(self.model.decode(self.model.encode("h\u00e9llo")), "h\u00e9llo")

    def test_stream_is_generation(self):
        whole = self.model.generate("abc", max_tokens=7, seed=3)
        pieces = list(self.model.stream("abc", max_tokens=7, seed=3))
        self.assertEqual([piece.id for piece in pieces], list(whole.tokens))
        self.assertEqual("".join(piece.text for piece in pieces), whole.text)
        self.assertEqual(pieces[-1].finish_reason, whole.finish_reason)

    def test_a_stream_that_is_left(self):
        for _ in self.model.stream("abc", max_tokens=50, seed=3):
            break
        self.assertEqual(len(self.model.generate("abc", max_tokens=2).tokens), 2)

    def test_streams_side_by_side(self):
        """Each gets its own tokens, whatever is drawn between them, and ends when it has them."""
        alone = [[piece.id for piece in self.model.stream(text, max_tokens=length, seed=3)] for text, length in (("abc", 5), ("xyz", 20))]
        short, long = [self.model.stream(text, max_tokens=length, seed=3) for text, length in (("abc", 5), ("xyz", 20))]
        found = [[next(short).id], [next(long).id]]
        self.assertEqual(len(self.model.generate("other", max_tokens=3).tokens), 3)
        found[0] += [piece.id for piece in short]
        found[1] += [piece.id for piece in long]
        self.assertEqual(found, alone)
        left, kept = [self.model.stream("abc", max_tokens=20, seed=seed) for seed in (1, 3)]
        next(left), next(kept)
        left.close()
        self.assertEqual(len(list(kept)), 19)

    def test_logprobs_are_those_of_generation(self):
        made = self.model.generate("Once", max_tokens=9, seed=2)
        again = self.model.logprobs("Once", list(made.tokens))
        self.assertEqual(list(again), list(made.logprobs))

    def test_a_bad_request(self):
        with self.assertRaises(cohort.ArgumentError) as caught:
            self.model.generate("a", temperature=-1)
        self.assertIn("temperature", str(caught.exception))
        with self.assertRaises(TypeError):
            self.model.generate("a", temperatur=1)
        for ask, said in ((lambda: self.model.generate(3), "prompt is a int; expected a str, a list of messages"),
                          (lambda: self.model.generate(None), "prompt is a NoneType"),
                          (lambda: self.model.generate([1, "b"]), "prompt is a list of int, str"),
                          (lambda: self.model.encode(b"abc"), "text is a bytes; expected a str"), (lambda: self.model.decode("abc"), "ids is a str")):
            with self.assertRaises(TypeError) as wrong:
                ask()
            self.assertIn(said, str(wrong.exception))
        self.assertEqual(len(self.model.generate("a", max_tokens=1).tokens), 1)

    def test_a_missing_folder(self):
        with self.assertRaises(cohort.Error) as caught:
            Model.load(os.path.join(WORK.name, "nowhere"))
        self.assertIn("nowhere", str(caught.exception))

    def test_two_models_in_two_threads(self):
        expected = self.model.generate("thread", max_tokens=20, seed=4)
        found = []

        def work():
            with Model.load(MODEL, max_context=64, device="cpu", threads=1) as model:
                for _ in range(3):
                    found.append(list(model.generate("thread", max_tokens=20, seed=4).tokens))

        threads = [threading.Thread(target=work) for _ in range(2)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        self.assertEqual(found, [list(expected.tokens)] * 6)

    def test_memory_is_flat(self):
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1])

        def cycle(n):
            for _ in range(n):
                with Model.load(MODEL, max_context=64, device="cpu", threads=1) as model:
                    model.generate("a", max_tokens=1)
            gc.collect()

        cycle(50)
        before = resident()
        cycle(1000)
        self.assertLess(resident() - before, 1024)  # pages of 4 KiB: 4 KB of each cycle that stayed would be seen

    def test_a_forked_child_is_told(self):
        pid = os.fork()
        if pid == 0:
            try:
                self.model.generate("a", max_tokens=1)
            except cohort.StateError:
                os._exit(0)
            os._exit(1)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)


class Training(unittest.TestCase):
    def test_the_same_bytes_by_each_kind_of_reward(self):
        """A function here, and a program: the weights are the same."""
        trainer = GRPOTrainer(MODEL, distinct, args(max_steps=10), train_dataset=ROWS)
        result = trainer.train()
        self.assertEqual(result.global_step, 10)
        script = os.path.join(WORK.name, "reward.py")
        with open(script, "w") as file:
            file.write("import json, sys\nfor line in sys.stdin:\n    row = json.loads(line)\n    print(float(len(set(row['completion']))))\n"
                       "    if row.get('last_of_batch'):\n        sys.stdout.flush()\n")
        by_program = GRPOTrainer(MODEL, "exec:%s %s" % (sys.executable, script), args(max_steps=10), train_dataset=ROWS)
        by_program.train()
        self.assertEqual(digest(trainer.output_dir), digest(by_program.output_dir))
        with open(os.path.join(WORK.name, "rewards.py"), "w") as file:
            file.write("def distinct(completions, **kwargs):\n    return [float(len(set(text))) for text in completions]\n")
        out = folder()
        values = [part for name, value in args(out, max_steps=10).values() for part in ("--" + name.replace("_", "-"), cohort._library.as_text(value))]
        subprocess.run([PROGRAM, "grpo", "--model", MODEL, "--data", trainer._files + "/train.jsonl", "--out", out, "--python", sys.executable,
                        "--reward", "python:%s:distinct" % os.path.join(WORK.name, "rewards.py"), "--num-generations-eval", "8", *values],
                       check=True, capture_output=True)
        self.assertEqual(digest(trainer.output_dir), digest(out))

    def test_a_function_that_waits(self):
        async def slow(completions, **kwargs):
            await asyncio.sleep(0)
            return [float(len(set(text))) for text in completions]

        plain = GRPOTrainer(MODEL, distinct, args(), train_dataset=ROWS)
        waiting = GRPOTrainer(MODEL, slow, args(), train_dataset=ROWS)
        plain.train()
        waiting.train()
        self.assertEqual(digest(plain.output_dir), digest(waiting.output_dir))

    def test_what_a_function_is_given(self):
        seen = {}

        def look(prompts, completions, completion_ids, trainer_state, log_metric, log_extra, answer, **columns):
            seen.update(prompts=prompts, completions=completions, ids=completion_ids, step=trainer_state.global_step, answer=answer, columns=columns)
            log_metric("my_metric", 3)
            log_extra("seen", list(range(len(prompts))))
            return [0.5] * len(prompts)

        rows = [{"prompt": [{"role": "user", "content": "q"}], "answer": "1", "level": 2}]
        trainer = GRPOTrainer(MODEL, look, args(max_steps=2, log_completions=True), train_dataset=rows)
        trainer.train()
        with open(os.path.join(trainer.output_dir, "completions.jsonl")) as file:
            self.assertEqual([json.loads(line)["extra"]["seen"] for line in file][:8], list(range(8)))
        with open(os.path.join(trainer.output_dir, "metrics.jsonl")) as file:
            self.assertEqual(json.loads(file.readline())["my_metric"], 3)
        self.assertEqual(seen["prompts"][0], [{"role": "user", "content": "q"}])
        self.assertEqual(seen["completions"][0][0]["role"], "assistant")
        self.assertEqual((seen["answer"], seen["columns"]["level"], seen["step"]), (["1"] * 8, [2] * 8, 1))
        self.assertTrue(all(isinstance(i, int) for i in seen["ids"][0]))
        self.assertEqual(trainer.state.log_history[-1]["my_metric"], 3)

    def test_weights_follow_their_functions(self):
        def one(completions, **kwargs):
            return [1.0] * len(completions)

        trainer = GRPOTrainer(MODEL, [one, rewards.accuracy_reward, distinct], args(max_steps=1, reward_weights=[10, 100, 0]), train_dataset=ROWS)
        trainer.train()
        last = trainer.state.log_history[-1]
        self.assertEqual((last["rewards/one/mean"], last["rewards/accuracy/mean"], last["reward"]), (1.0, 0.0, 10.0))
        self.assertGreater(last["rewards/distinct/mean"], 1)

    def test_none_cannot_be_scored(self):
        def some(completions, **kwargs):
            return [None if i % 2 else 1.0 for i, _ in enumerate(completions)]

        trainer = GRPOTrainer(MODEL, some, args(max_steps=1), train_dataset=ROWS)
        trainer.train()
        self.assertEqual(trainer.state.log_history[-1]["reward"], 1.0)

    def test_an_exception_comes_back(self):
        calls = []

        def broken(completions, **kwargs):
            calls.append(1)
            if len(calls) > 3:
                raise ZeroDivisionError("in step 4")
            return [float(len(set(text))) for text in completions]

        trainer = GRPOTrainer(MODEL, broken, args(save_steps=1), train_dataset=ROWS)
        try:
            trainer.train()
            self.fail("nothing was raised")
        except ZeroDivisionError as error:
            names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        self.assertEqual((names[0], names[-1]), ("test_an_exception_comes_back", "broken"))
        self.assertTrue(os.path.isdir(os.path.join(trainer.output_dir, "checkpoints", "step-3")))
        again = GRPOTrainer(MODEL, distinct, args(trainer.output_dir, save_steps=1), train_dataset=ROWS)
        whole = GRPOTrainer(MODEL, distinct, args(save_steps=1), train_dataset=ROWS)
        again.train(resume_from_checkpoint=True)
        whole.train()
        self.assertEqual(digest(again.output_dir), digest(whole.output_dir))

    def test_a_function_that_hangs(self):
        """Functions run on the thread that called train(): a signal ends one that does not return."""

        def late(signum, frame):
            raise TimeoutError("no answer")

        def hang(completions, trainer_state, **kwargs):
            if trainer_state.global_step == 2:
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                time.sleep(60)
            return [float(len(set(text))) for text in completions]

        before = signal.signal(signal.SIGALRM, late)
        try:
            trainer = GRPOTrainer(MODEL, hang, args(save_steps=1), train_dataset=ROWS)
            with self.assertRaises(TimeoutError):
                trainer.train()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        again = GRPOTrainer(MODEL, distinct, args(trainer.output_dir, save_steps=1), train_dataset=ROWS)
        self.assertEqual(again.train(resume_from_checkpoint=True).global_step, 4)

    def test_a_process_that_ends_in_a_reward(self):
        for how, code in (("sys.exit(7)", 7), ("os._exit(8)", 8), ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL)):
            out = folder()
            program = ("import os, signal, sys, cohort\ndef ends(completions, trainer_state, **more):\n    if trainer_state.global_step == 2:\n        %s\n"
                       "    return [float(len(set(text))) for text in completions]\n"
                       "cohort.GRPOTrainer(%r, ends, cohort.GRPOConfig(%r, max_steps=4, max_completion_length=8, learning_rate=1e-3, save_steps=1,"
                       " logging_steps=1, disable_tqdm=True, use_cpu=True), train_dataset=%r).train()\n" % (how, MODEL, out, ROWS))
            ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
            self.assertEqual(ended.returncode, code, ended.stderr[-400:])
            again = GRPOTrainer(MODEL, distinct, args(out, save_steps=1), train_dataset=ROWS)
            self.assertEqual(again.train(resume_from_checkpoint=True).global_step, 4)

    def test_wrong_answers(self):
        for answer, said in ((lambda completions, **k: [1.0], "1 rewards for 8 completions"), (lambda completions, **k: None, "nothing"),
                             (lambda completions, **k: ["a"] * 8, "expected a number"), (lambda completions, **k: [float("inf")] * 8, "infinite"),
                             (lambda completions, **k: [[1.0]] * 8, "completion")):
            with self.assertRaises(cohort.RewardError) as caught:
                GRPOTrainer(MODEL, answer, args(), train_dataset=ROWS).train()
            self.assertIn(said, str(caught.exception))

    def test_rewards_of_tokens(self):
        @rewards.of_tokens
        def last(completion_ids, **kwargs):
            return [[None] * (len(ids) - 1) + [float(ids[-1])] for ids in completion_ids]

        trainer = GRPOTrainer(MODEL, last, args(max_steps=1), train_dataset=ROWS)
        trainer.train()
        self.assertGreater(trainer.state.log_history[-1]["reward"], 0)

    def test_ctrl_c_saves_and_is_raised(self):
        def slow(completions, trainer_state, **kwargs):
            if trainer_state.global_step == 2:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)
            return [float(len(set(text))) for text in completions]

        trainer = GRPOTrainer(MODEL, slow, args(save_steps=100), train_dataset=ROWS)
        with self.assertRaises(KeyboardInterrupt):
            trainer.train()
        again = GRPOTrainer(MODEL, distinct, args(trainer.output_dir, save_steps=100), train_dataset=ROWS)
        again.train(resume_from_checkpoint=True)
        whole = GRPOTrainer(MODEL, distinct, args(), train_dataset=ROWS)
        whole.train()
        self.assertEqual(digest(again.output_dir), digest(whole.output_dir))

    def test_callbacks(self):
        events = []

        class Watch(cohort.TrainerCallback):
            def on_train_begin(self, args, state, control, **kwargs):
                events.append("begin")

            def on_step_end(self, args, state, control, **kwargs):
                events.append("step %d" % state.global_step)
                control.should_training_stop = state.global_step == 3

            def on_log(self, args, state, control, logs, **kwargs):
                events.append("log %d" % logs["step"])

            def on_save(self, args, state, control, **kwargs):
                events.append("save")

        trainer = GRPOTrainer(MODEL, distinct, args(max_steps=50, save_steps=100), train_dataset=ROWS, callbacks=[Watch])
        trainer.train()
        self.assertEqual(events, ["begin", "step 1", "log 1", "step 2", "log 2", "step 3", "log 3", "save"])
        self.assertEqual([row["step"] for row in trainer.state.log_history], [1, 2, 3])

    def test_in_a_notebook(self):
        """What IPython is given while a run goes on: one table and curve, which grow."""

        class ZMQInteractiveShell: ...

        pages = []

        class Shown:
            def update(self, page):
                pages.append(("again", page))

        def display(page, display_id=False):
            pages.append((display_id, page))
            return Shown()

        ipython, within = types.ModuleType("IPython"), types.ModuleType("IPython.display")
        ipython.get_ipython, within.HTML, within.display = ZMQInteractiveShell, str, display
        sys.modules.update({"IPython": ipython, "IPython.display": within})
        try:
            trainer = GRPOTrainer(MODEL, distinct, args(disable_tqdm=False), train_dataset=ROWS)
            trainer.train()
            trainer.report()
        finally:
            del sys.modules["IPython"], sys.modules["IPython.display"]
        self.assertEqual([how for how, _ in pages], [True, "again", "again", "again", False])
        self.assertNotIn("<svg", pages[0][1])  # a line needs two points
        last = pages[3][1]
        self.assertEqual((last.count("<tr>"), last.count("<svg"), len(re.findall(r"points=\"([^\"]*)", last)[0].split())), (5, 1, 4))
        for row in trainer.state.log_history:
            self.assertIn("<td>%.4g</td>" % row["reward"], last)
        self.assertTrue(pages[4][1].startswith("<!doctype html>"), pages[4][1][:40])

    def test_logs_are_means(self):
        each = GRPOTrainer(MODEL, distinct, args(), train_dataset=ROWS)
        pairs = GRPOTrainer(MODEL, distinct, args(logging_steps=2), train_dataset=ROWS)
        each.train()
        pairs.train()
        steps = [row["reward"] for row in each.state.log_history]
        self.assertEqual([row["reward"] for row in pairs.state.log_history], [(steps[0] + steps[1]) / 2, (steps[2] + steps[3]) / 2])

    def test_when_logs_are_due(self):
        for more, expected in (({"logging_first_step": True, "logging_steps": 3}, [1, 4]), ({"logging_steps": 3}, [3, 4]), ({"logging_strategy": "no"}, [])):
            trainer = GRPOTrainer(MODEL, distinct, args(**more), train_dataset=ROWS)
            trainer.train()
            self.assertEqual([row["step"] for row in trainer.state.log_history], expected)

    def test_messages_name_arguments(self):
        trainer = GRPOTrainer(MODEL, distinct, args(max_steps=1), train_dataset=ROWS)
        with self.assertRaises(cohort.StateError) as caught:
            trainer.report()
        self.assertIn("train() has not begun", str(caught.exception))
        trainer.train()
        with self.assertRaises(cohort.StateError) as caught:
            trainer.train()
        self.assertIn("continue it with resume_from_checkpoint, remove it, or choose another output_dir", str(caught.exception))
        with self.assertRaises(cohort.FormatError) as caught:
            GRPOTrainer(MODEL, distinct, args(), train_dataset=[{"question": "a"}]).train()
        self.assertIn("for example columns prompt=NAME", str(caught.exception))

    def test_data_of_each_kind(self):
        whole = GRPOTrainer(MODEL, distinct, args(max_steps=2), train_dataset=ROWS)
        whole.train()
        path = os.path.join(WORK.name, "rows.jsonl")
        with open(path, "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in ROWS)
        for data in (path, iter(ROWS), tuple(ROWS)):
            trainer = GRPOTrainer(MODEL, distinct, args(max_steps=2), train_dataset=data)
            trainer.train()
            self.assertEqual(digest(trainer.output_dir), digest(whole.output_dir))
        for data, error in (([], ValueError), ([1], TypeError), (7, TypeError), (None, ValueError)):
            with self.assertRaises(error):
                GRPOTrainer(MODEL, distinct, args(), train_dataset=data).train()

    def test_saved_and_loaded(self):
        trainer = GRPOTrainer(MODEL, distinct, args(max_steps=1), train_dataset=ROWS)
        with self.assertRaises(cohort.StateError):
            trainer.save_model()
        trainer.train()
        out = folder()
        trainer.save_model(out)
        with Model.load(out, max_context=64, device="cpu") as model:
            self.assertEqual(len(model.generate("a", max_tokens=2).tokens), 2)
        figures = trainer.evaluate(ROWS[:3])
        self.assertGreater(figures["eval_reward"], 0)
        self.assertTrue(os.path.getsize(trainer.report()) > 1000)

    def test_sft(self):
        rows = [{"messages": [{"role": "user", "content": "say %d" % i}, {"role": "assistant", "content": "it is %d" % i}]} for i in range(8)]
        trainer = SFTTrainer(MODEL, SFTConfig(folder(), max_steps=6, learning_rate=1e-2, logging_steps=1, disable_tqdm=True, use_cpu=True),
                             train_dataset=rows)
        result = trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history]
        self.assertLess(losses[-1], losses[0])
        self.assertAlmostEqual(result.training_loss, sum(losses) / len(losses))
        texts = SFTTrainer(MODEL, SFTConfig(folder(), max_steps=1, disable_tqdm=True), train_dataset=rows, formatting_func=lambda row: "text")
        texts.train()

    def test_preferences(self):
        pairs = [{"prompt": "Is %d even?" % i, "chosen": " yes" if i % 2 == 0 else " no", "rejected": " perhaps"} for i in range(8)]
        marked = [{"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"} for row in pairs for side in ("chosen", "rejected")]
        for trainer, config, rows in ((cohort.DPOTrainer, cohort.DPOConfig, pairs), (cohort.KTOTrainer, cohort.KTOConfig, marked),
                                      (cohort.ORPOTrainer, cohort.ORPOConfig, pairs), (cohort.CPOTrainer, cohort.CPOConfig, pairs)):
            run = trainer(model=MODEL, train_dataset=rows,
                          args=config(folder(), max_steps=8, learning_rate=1e-2, logging_steps=1, disable_tqdm=True, use_cpu=True))
            run.train()
            history = run.state.log_history
            self.assertLess(history[-1]["loss"], history[0]["loss"], trainer.__name__)
            self.assertTrue(any(name.startswith("rewards/") for name in history[0]), trainer.__name__)
        with self.assertRaisesRegex(TypeError, "compares with no reference"):
            cohort.CPOTrainer(model=MODEL, ref_model="another", train_dataset=pairs)
        with self.assertRaisesRegex(TypeError, "compares with no reference"):
            cohort.ORPOTrainer(model=MODEL, ref_model="another", train_dataset=pairs)

    def test_tools(self):
        """A small model that was taught two calls: one is answered, one raises."""
        asked = []

        def double(x: int) -> int:
            """Doubles.

            Args:
                x: A number
            """
            asked.append(x)
            if x == 3:
                raise ValueError("not three")
            return 2 * x

        class Sum:
            def reset(self, answer, **row):
                self.total, self.answer = 0, answer

            def add(self, x: int) -> str:
                """Adds.

                Args:
                    x: A number
                """
                self.total += x
                return "ok"

            def get_reward(self):
                return float(self.total)

        seen = []

        def keep(completions, environments=None, **kwargs):
            seen.append((completions, environments))
            return [1.0] * len(completions)

        taught, rows = self.taught_to_call()
        common = dict(max_steps=1, temperature=0.02, max_completion_length=400, num_generations=2, per_device_train_batch_size=4, learning_rate=1e-9)
        trainer = GRPOTrainer(taught, keep, args(**common), rows, tools=[double])
        trainer.train()
        log = trainer.state.log_history[0]
        self.assertEqual((log["tools/call_frequency"], log["tools/failure_frequency"]), (1.0, 0.5))
        self.assertEqual(sorted(set(asked)), [2, 3])
        said = [[m["content"] for m in completion if m["role"] == "tool"] for completion in seen[0][0]]
        self.assertEqual(sorted(map(str, said)), sorted(map(str, [["4"]] * 2 + [["{'error': 'not three'}"]] * 2)))
        self.assertEqual(trainer.evaluate(rows)["eval_tools/call_frequency"], 1.0)

        taught, rows = self.taught_to_call("add")
        seen.clear()
        trainer = GRPOTrainer(taught, keep, args(reward_weights=[0.5], **common), rows, environment_factory=Sum)
        trainer.train()
        things = seen[0][1]
        self.assertEqual(sorted(thing.total for thing in things), [2, 2, 3, 3])
        self.assertTrue(all(isinstance(thing, Sum) and thing.answer == "a" for thing in things))
        log = trainer.state.log_history[0]
        self.assertEqual((log["rewards/environment/mean"], log["reward"]), (2.5, 3.0))
        self.assertGreater(GRPOTrainer(taught, None, args(**common), rows, environment_factory=Sum).train().global_step, 0)
        for wrong, words in ((dict(tools=[lambda x: x]), "no docstring"), (dict(tools=["double"]), "expected functions"),
                             (dict(environment_factory=object), "no method reset"), (dict(environment_factory=3), "expected a class"),
                             (dict(tools=[double], environment_factory=Sum), "leave one of them out")):
            with self.assertRaisesRegex((TypeError, ValueError), words):
                GRPOTrainer(MODEL, keep, args(), rows, **wrong)

    def taught_to_call(self, name="double"):
        """A model that answers two questions by a call each, and rows that ask them."""
        template = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "tool-use", "template.jinja")
        model = os.path.join(WORK.name, "calls")
        if not os.path.exists(model):
            cohort.init(model, preset="nano", tokenizer="bytes", seed=1)
            with open(template) as source, open(os.path.join(model, "chat_template.jinja"), "w") as target:
                target.write(source.read())
        answers = {"double": ("4", "{'error': 'not three'}"), "add": ("ok", "ok")}[name]
        taught = [{"messages": [
            {"role": "user", "content": text},
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": name, "arguments": {"x": x}}}]},
            {"role": "tool", "name": name, "content": answer}, {"role": "assistant", "content": "ok"},
        ], "tools": [{"type": "function", "function": {"name": name}}]} for text, x, answer in (("p", 2, answers[0]), ("q", 3, answers[1]))]
        out = folder()
        SFTTrainer(model, SFTConfig(out, max_steps=300, per_device_train_batch_size=2, learning_rate=5e-3, assistant_only_loss=True, save_strategy="no",
                                    disable_tqdm=True, use_cpu=True), train_dataset=taught).train()
        return os.path.join(out, "final"), [{"prompt": row["messages"][:1], "answer": "a"} for row in taught]
    def test_reward(self):
        pairs = [{"prompt": "Is %d even?" % i, "chosen": " yes" if i % 2 == 0 else " no", "rejected": " perhaps"} for i in range(8)]
        run = cohort.RewardTrainer(MODEL, cohort.RewardConfig(folder(), max_steps=8, learning_rate=1e-3, logging_steps=1, disable_tqdm=True,
                                                              use_cpu=True, center_rewards_coefficient=0.01), train_dataset=pairs)
        run.train()
        history = run.state.log_history
        self.assertLess(history[-1]["loss"], history[0]["loss"])
        self.assertIn("max_reward", history[0])
        # The trained model rewards, beside a function.
        policy = GRPOTrainer(MODEL, [distinct, run.final], args(max_steps=2, reward_weights=[0.5, 2.0]), train_dataset=ROWS)
        policy.train()
        row = policy.state.log_history[0]
        self.assertAlmostEqual(row["reward"], 0.5 * row["rewards/distinct/mean"] + 2 * row["rewards/final/mean"], places=5)
        with self.assertRaises(TypeError):
            cohort.RewardTrainer(MODEL, train_dataset=pairs, quantization_config={})

    def test_rloo(self):
        run = cohort.RLOOTrainer(MODEL, distinct, cohort.RLOOConfig(folder(), max_steps=2, max_completion_length=8, logging_steps=1, disable_tqdm=True,
                                                                     use_cpu=True), train_dataset=ROWS)
        run.train()
        self.assertEqual(len(run.state.log_history), 2)
        self.assertIn("rewards/distinct/mean", run.state.log_history[0])

    def test_distillation(self):
        teacher, out = os.path.join(WORK.name, "teacher"), folder()
        cohort.init(teacher, preset="nano", tokenizer="bytes", seed=2)
        config = cohort.DistillationConfig(folder(), max_steps=8, max_completion_length=8, beta=0.5, learning_rate=1e-2, logging_steps=1,
                                           disable_tqdm=True, use_cpu=True)
        run = cohort.DistillationTrainer(MODEL, teacher, config, ROWS, ROWS)
        before = run.evaluate()["eval_loss"]
        run.train()
        losses = [row["loss"] for row in run.state.log_history if "loss" in row]
        self.assertLess(losses[-1], losses[0])
        self.assertLess(run.evaluate()["eval_loss"], before)
        values = [part for name, value in config.values() for part in ("--" + name.replace("_", "-"), cohort._library.as_text(value))]
        subprocess.run([PROGRAM, "distill", "--model", MODEL, "--teacher-model", teacher, "--data", run._files + "/train.jsonl", "--out", out, *values],
                       check=True, capture_output=True)
        self.assertEqual(digest(run.output_dir), digest(out))
        measured = cohort.DistillationTrainer(MODEL, args=cohort.DistillationConfig(folder(), max_steps=1, max_completion_length=4, disable_tqdm=True,
                                                                                    use_cpu=True, teacher_model_name_or_path=teacher, logging_steps=1),
                                              train_dataset=ROWS, reward_funcs=distinct)
        measured.train()
        self.assertIn("rewards/distinct/mean", measured.state.log_history[0])
        with self.assertRaisesRegex(ValueError, "teacher_model is missing"):
            cohort.DistillationTrainer(MODEL, train_dataset=ROWS)
        with self.assertRaises(TypeError):
            cohort.DistillationTrainer(MODEL, teacher, train_dataset=ROWS, quantization_config={})

    def test_evaluate(self):
        """What evaluate() says before and after training is what the evaluations of the run said."""
        rows = [{"prompt": "Is %d even?" % i, "completion": " yes" if i % 2 == 0 else " no"} for i in range(6)]
        pairs = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": " perhaps"} for row in rows]
        other = os.path.join(WORK.name, "other")
        cohort.init(other, preset="nano", tokenizer="bytes", seed=5)
        for trainer, config, data, more in (
                (SFTTrainer, SFTConfig, rows, {}), (SFTTrainer, SFTConfig, rows, {"peft_config": {"r": 4}}),
                (cohort.CPOTrainer, cohort.CPOConfig, pairs, {}), (cohort.RewardTrainer, cohort.RewardConfig, pairs, {}),
                (cohort.DPOTrainer, cohort.DPOConfig, pairs, {}), (cohort.DPOTrainer, cohort.DPOConfig, pairs, {"peft_config": {"r": 4}}),
                (cohort.DPOTrainer, cohort.DPOConfig, pairs, {"ref_model": other}), (cohort.KTOTrainer, cohort.KTOConfig, pairs, {})):
            run = trainer(MODEL, args=config(folder(), max_steps=3, learning_rate=1e-2, eval_strategy="steps", eval_steps=3, disable_tqdm=True,
                                             use_cpu=True), train_dataset=data, eval_dataset=data[:3], **more)
            before = run.evaluate()
            run.train()
            after = run.evaluate()
            evaluated = [row for row in run.state.log_history if "eval_loss" in row and row["step"] in (0, 3)]
            self.assertEqual(len(evaluated), 4, trainer.__name__)
            for name, value in before.items():
                self.assertEqual(value, evaluated[1][name], name)
            for name, value in after.items():
                self.assertEqual(value, evaluated[2][name], name)
            self.assertLess(after["eval_loss"], before["eval_loss"])
            self.assertEqual([name for name in os.listdir(run._files) if name.startswith("evaluate-")], [])
        run = cohort.DPOTrainer(MODEL, args=cohort.DPOConfig(folder(), max_steps=1, disable_tqdm=True, use_cpu=True), train_dataset=pairs)
        self.assertAlmostEqual(run.evaluate(pairs)["eval_loss"], math.log(2), places=6)
        run = cohort.DPOTrainer(MODEL, args=cohort.DPOConfig(folder(), max_steps=1, disable_tqdm=True, use_cpu=True, sync_ref_model=True),
                                train_dataset=pairs)
        run.train()
        with self.assertRaisesRegex(cohort.UnsupportedError, "with sync_ref_model"):
            run.evaluate(pairs)
        with self.assertRaises(ValueError):
            SFTTrainer(MODEL, SFTConfig(folder()), train_dataset=rows).evaluate()

    def test_lora(self):
        trainer = GRPOTrainer(MODEL, distinct, args(max_steps=2), train_dataset=ROWS, peft_config={"r": 4, "lora_alpha": 8,
                                                                                              "target_modules": ["q_proj", "v_proj"]})
        trainer.train()
        self.assertTrue(os.path.exists(os.path.join(trainer.output_dir, "final", "adapter_config.json")))


class Arguments(unittest.TestCase):
    def test_names(self):
        with self.assertRaises(TypeError) as caught:
            GRPOConfig(folder(), learning_rat=1)
        self.assertIn("learning_rate", str(caught.exception))
        with self.assertRaises(TypeError):
            GRPOConfig(folder(), load_in_4bit=True)
        with self.assertRaises(cohort.ArgumentError):
            GRPOConfig(folder(), num_generations=1)
        self.assertEqual(GRPOConfig(folder(), use_vllm=True, bf16=True, gradient_checkpointing=True, dataloader_num_workers=4).num_generations, 8)

    def test_defaults_are_trls(self):
        values = dict(GRPOConfig(folder()).values())
        self.assertEqual((values["per_device_train_batch_size"], values["epochs"], values["lr_scheduler_type"], values["seed"]), (8, 3, "linear", 42))
        self.assertNotIn("epochs", dict(GRPOConfig(folder(), max_steps=5).values()))
        self.assertNotIn("steps", dict(GRPOConfig(folder(), max_steps=-1).values()))

    def test_translations(self):
        values = dict(GRPOConfig(folder(), scale_rewards=False, generation_kwargs={"top_k": 7}, save_strategy="no", report_to=["tensorboard", "none"],
                                 chat_template_kwargs={"enable_thinking": False}).values())
        self.assertEqual((values["scale_rewards"], values["top_k"], values["save_steps"], values["report_to"], values["thinking"]),
                         ("none", 7, 0, ["tensorboard"], False))

    def test_strategies(self):
        self.assertIn(("eval_strategy", "epoch"), SFTConfig(folder(), eval_strategy="epoch").values())
        self.assertIn(("eval_steps", 500), GRPOConfig(folder(), eval_strategy="steps").values())
        self.assertNotIn("eval_strategy", dict(GRPOConfig(folder(), eval_strategy="steps", eval_steps=7).values()))
        for wrong in ({"eval_strategy": "epoch"}, {"save_strategy": "epoch"}):  # nothing is left out without a word
            with self.assertRaises(TypeError) as caught:
                GRPOConfig(folder(), **wrong)
            self.assertIn("not supported", str(caught.exception))
        self.assertIn(("warmup_steps", 0.1), GRPOConfig(folder(), warmup_ratio=0.1).values())

    def test_arguments_of_another_kind(self):
        class Trl:  # a configuration of another package
            output_dir = "x"

        for wrong, said in (({"args": {"max_steps": 2}}, "args is a builtins.dict; expected a cohort.GRPOConfig"), ({"args": SFTConfig(folder())}, "SFTConfig"),
                            ({"args": Trl()}, "Trl; expected"), ({"callbacks": [3]}, "callbacks has a int; expected"), ({"peft_config": 3}, "peft_config is a int")):
            with self.assertRaises(TypeError) as caught:
                GRPOTrainer(MODEL, distinct, train_dataset=ROWS, **wrong)
            self.assertIn(said, str(caught.exception))
        for wrong, said in (({"max_steps": 2.5}, "max_steps: 2.5 is not whole"), ({"logging_steps": 0.1}, "logging_steps: 0.1 is not whole"),
                            ({"logging_strategy": "epoch"}, "logging_strategy='epoch' is not supported")):
            with self.assertRaises(TypeError) as caught:
                GRPOConfig(folder(), **wrong)
            self.assertIn(said, str(caught.exception))
        config = GRPOConfig(folder())
        self.assertEqual((config.beta, config.num_generations, config.mask_truncated_completions), (0.0, 8, False))

    def test_trainers(self):
        with self.assertRaises(ValueError):
            GRPOTrainer(MODEL, train_dataset=ROWS)
        with self.assertRaises(TypeError):
            GRPOTrainer(MODEL, 7, train_dataset=ROWS)
        for name in ("./nowhere", "nowhere", "/nowhere/at/all"):
            with self.assertRaises(FileNotFoundError):
                GRPOTrainer(name, distinct, args(), train_dataset=ROWS).train()

    def test_a_model_of_the_hub(self):
        saved = sys.modules.get("huggingface_hub")
        try:
            sys.modules["huggingface_hub"] = None  # as if it were not there
            with self.assertRaises(FileNotFoundError) as caught:
                GRPOTrainer("Qwen/Qwen3-0.6B", distinct, args(), train_dataset=ROWS).train()
            self.assertIn("hf download Qwen/Qwen3-0.6B", str(caught.exception))
            there = types.ModuleType("huggingface_hub")
            there.snapshot_download = lambda name, **kwargs: MODEL
            sys.modules["huggingface_hub"] = there
            trainer = GRPOTrainer("Qwen/Qwen3-0.6B", distinct, args(max_steps=1), train_dataset=ROWS)
            trainer.train()
            self.assertEqual(trainer.state.global_step, 1)
        finally:
            sys.modules.pop("huggingface_hub", None)
            if saved is not None:
                sys.modules["huggingface_hub"] = saved

    def test_lora_settings(self):
        from cohort._data import lora_options

        self.assertEqual(lora_options({"r": 8, "bias": "none", "task_type": "CAUSAL_LM"}), {"use_peft": True, "lora_r": 8})
        for wrong in ({"peft_type": "IA3"}, {"bias": "all"}, {"rank_pattern": {"q": 4}}):
            with self.assertRaises(TypeError):
                lora_options(wrong)


class Rewards(unittest.TestCase):
    def test_called(self):
        self.assertEqual(rewards.accuracy_reward(completions=["It is \\boxed{7}", "It is \\boxed{8}"], solution=["7", "7"]), [1.0, 0.0])
        self.assertEqual(rewards.think_format_reward(completions=["<think>a</think>b", "b"]), [1.0, 0.0])
        punish = rewards.get_soft_overlong_punishment(4, 2)
        self.assertEqual(punish(completions=["", ""], completion_ids=[[1, 2], [1, 2, 3, 4, 5]]), [0.0, -1.0])


def load_tests(loader, tests, pattern):
    for module in (cohort.model, cohort.rewards):
        tests.addTests(doctest.DocTestSuite(module))
    return tests


if __name__ == "__main__":
    unittest.main()
