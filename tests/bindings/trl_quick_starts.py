"""The quick starts and reward examples of TRL's documentation (1.16) with the import, the model's path and the data set changed: data sets of the
same form are made here. Run by tests/slow/test_python_clients.sh; MODEL is the folder of a small model."""

import asyncio
import os
import re
import shutil
import tempfile

from datasets import Dataset
from peft import AutoPeftModelForCausalLM, LoraConfig
from transformers import AutoModelForCausalLM

import cohort
from cohort import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer
from cohort.rewards import accuracy_reward

MODEL = os.environ["MODEL"]
os.chdir(tempfile.mkdtemp())


def deepmath():  # trl-lib/DeepMath-103K
    return Dataset.from_list([{"prompt": [{"role": "user", "content": "What is %d + 1?" % i}], "solution": str(i + 1)} for i in range(6)])


def capybara():  # trl-lib/Capybara
    return Dataset.from_list([{"source": "x", "messages": [{"role": "user", "content": "hi %d" % i}, {"role": "assistant", "content": "hello"}]}
                              for i in range(6)])


def short(name, config=GRPOConfig, **more):
    return config(output_dir=name, max_steps=2, logging_steps=1, **({"max_completion_length": 8} if config is GRPOConfig else {}), **more)


def grpo_quick_start():
    trainer = GRPOTrainer(model=MODEL, reward_funcs=accuracy_reward, train_dataset=deepmath(), args=short("grpo"))
    trainer.train()
    assert len(trainer.state.log_history) == 2 and "rewards/accuracy/mean" in trainer.state.log_history[0]
    AutoModelForCausalLM.from_pretrained("grpo/final")


def reward_longer_completions():
    def reward_func(completion_ids, **kwargs):
        return [float(len(ids)) for ids in completion_ids]

    trainer = GRPOTrainer(model=MODEL, reward_funcs=reward_func, train_dataset=deepmath(), args=short("longer"))
    trainer.train()
    assert trainer.state.log_history[-1]["reward"] > 1


def reward_a_format():
    def format_reward_func(completions, **kwargs):
        pattern = r"^<think>.*?</think><answer>.*?</answer>$"
        completion_contents = [completion[0]["content"] for completion in completions]
        matches = [re.match(pattern, content) for content in completion_contents]
        return [1.0 if match else 0.0 for match in matches]

    GRPOTrainer(model=MODEL, reward_funcs=format_reward_func, train_dataset=deepmath(), args=short("format")).train()


def reward_by_reference():
    def reward_func(completions, ground_truth, **kwargs):
        matches = [re.search(r"\\boxed\{(.*?)\}", completion) for completion in completions]
        contents = [match.group(1) if match else "" for match in matches]
        return [1.0 if c == gt else 0.0 for c, gt in zip(contents, ground_truth)]

    rows = Dataset.from_list([{"prompt": "Solve %d" % i, "ground_truth": str(i)} for i in range(4)])
    GRPOTrainer(model=MODEL, reward_funcs=reward_func, train_dataset=rows, args=short("reference")).train()


def several_tasks():
    def math_reward_func(prompts, completions, task, **kwargs):
        return [1.0 if t == "math" else None for t in task]

    def coding_reward_func(prompts, completions, task, **kwargs):
        return [0.5 if t == "coding" else None for t in task]

    rows = Dataset.from_list([{"prompt": "p%d" % i, "task": "math" if i % 2 else "coding"} for i in range(4)])
    trainer = GRPOTrainer(model=MODEL, reward_funcs=[math_reward_func, coding_reward_func], train_dataset=rows, args=short("tasks"))
    trainer.train()
    assert {row["reward"] for row in trainer.state.log_history} <= {0.5, 0.75, 1.0}


def asynchronous():
    async def async_reward_func(prompts, completions, **kwargs):
        await asyncio.sleep(0.01)
        return [1.0] * len(prompts)

    GRPOTrainer(model=MODEL, reward_funcs=async_reward_func, train_dataset=deepmath(), args=short("async")).train()


def grpo_with_peft():
    def reward_func(completions, log_metric, **kwargs):
        log_metric("length", len(completions[0][0]["content"]))
        return [float(len(set(completion[0]["content"]))) for completion in completions]

    trainer = GRPOTrainer(model=MODEL, reward_funcs=reward_func, train_dataset=deepmath(), args=short("lora", learning_rate=1e-3),
                          peft_config=LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    trainer.train()
    assert "length" in trainer.state.log_history[-1]
    AutoPeftModelForCausalLM.from_pretrained("lora/final")


def sft_quick_start():
    trainer = SFTTrainer(model=MODEL, train_dataset=capybara(), args=short("sft", SFTConfig))
    trainer.train()
    trainer.save_model("sft-model")
    AutoModelForCausalLM.from_pretrained("sft-model")


def sft_with_packing_and_peft():
    rows = Dataset.from_list([{"prompt": "The sky is", "completion": " blue."}] * 8)
    SFTTrainer(model=MODEL, train_dataset=rows, args=short("packed", SFTConfig, packing=True), peft_config=LoraConfig()).train()


def sft_of_a_loaded_model():
    model = AutoModelForCausalLM.from_pretrained(MODEL)

    class Tokenizer:  # its folder's files, as save_pretrained of transformers leaves them
        chat_template = None

        def save_pretrained(self, folder):
            for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
                if os.path.exists(os.path.join(MODEL, name)):
                    with open(os.path.join(MODEL, name), "rb") as source, open(os.path.join(folder, name), "wb") as out:
                        out.write(source.read())

    trainer = SFTTrainer(model=model, processing_class=Tokenizer(), train_dataset=capybara(), args=short("loaded", SFTConfig))
    trainer.train()
    assert trainer.state.global_step == 2


def ultrafeedback():  # trl-lib/ultrafeedback_binarized
    return Dataset.from_list([{"chosen": [{"role": "user", "content": "hi %d" % i}, {"role": "assistant", "content": "hello"}],
                               "rejected": [{"role": "user", "content": "hi %d" % i}, {"role": "assistant", "content": "go away"}],
                               "score_chosen": 6.0, "score_rejected": 4.0} for i in range(6)])


def dpo_quick_start():
    trainer = cohort.DPOTrainer(model=MODEL, train_dataset=ultrafeedback(), args=short("dpo", cohort.DPOConfig))
    trainer.train()
    assert "rewards/margins" in trainer.state.log_history[-1]


def rloo_quick_start():
    trainer = cohort.RLOOTrainer(model=MODEL, reward_funcs=accuracy_reward, train_dataset=deepmath(),
                                 args=short("rloo", cohort.RLOOConfig, max_completion_length=8))
    trainer.train()
    assert len(trainer.state.log_history) == 2


def agent_training():  # tools, sync and async
    def multiply(a: int, b: int) -> int:
        """
        Multiplies two integers.

        Args:
            a: The first integer.
            b: The second integer.

        Returns:
            The product of the two integers.
        """
        return a * b

    async def async_add(a: int, b: int) -> int:
        """
        Asynchronously adds two integers.

        Args:
            a: The first integer.
            b: The second integer.

        Returns:
            The sum of the two integers.
        """
        return a + b

    model = os.path.abspath("with-tools")  # a model whose template shows tools
    shutil.copytree(MODEL, model)
    shutil.copyfile(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "tool-use", "template.jinja"),
                    os.path.join(model, "chat_template.jinja"))
    trainer = GRPOTrainer(model=model, tools=[multiply, async_add], reward_funcs=accuracy_reward, train_dataset=deepmath(), args=short("agent"))
    trainer.train()
    assert trainer.state.log_history[-1]["tools/call_frequency"] == 0  # of a model that has learned nothing yet


for example in (agent_training, dpo_quick_start, rloo_quick_start, grpo_quick_start, reward_longer_completions, reward_a_format, reward_by_reference, several_tasks, asynchronous, grpo_with_peft,
                sft_quick_start, sft_with_packing_and_peft, sft_of_a_loaded_model):
    example()
    print("ran %s" % example.__name__)
print("ran all with cohort %s" % cohort.__version__)
