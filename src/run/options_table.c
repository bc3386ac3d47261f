/* The option table. Names and defaults are TRL's for training and MLX-LM's for generation; where a
 * default is our own the line says so. Order is the order of --help, the docs and config.yaml. */
#include "run/options_internal.h"

#include <float.h>

#define FOR_PLAN    (FOR_INFO | FOR_GRPO) /* sizes of the memory plan */
#define FOR_MODEL   (FOR_GENERATE | FOR_LOGPROBS | FOR_TOKENIZE | FOR_INFO | FOR_SFT | FOR_GRPO | FOR_EVAL | FOR_BENCH)
#define FOR_COMPUTE (FOR_GENERATE | FOR_LOGPROBS | FOR_INFO | FOR_SFT | FOR_GRPO | FOR_EVAL | FOR_BENCH)
#define FOR_SAMPLE  (FOR_GENERATE | FOR_GRPO | FOR_EVAL)
#define FOR_REWARD  (FOR_GRPO | FOR_EVAL | FOR_SCORE)
#define FOR_YAML    (FOR_GENERATE | FOR_SFT | FOR_GRPO | FOR_EVAL | FOR_SCORE)

#define MANY OPTIONS_INT_MAX /* no upper bound worth stating */
/* Counts of tokens and rows: beyond any machine, and sums and products of two of them stay in 64 bits, of one and a
 * context in 32. */
#define COUNT 268435456
#define BIG   DBL_MAX
#define TINY  DBL_MIN /* more than zero */

#define SWITCH(name, fallback, commands, group, help)                                                                  \
    {                                                                                                                  \
        name, OPTION_BOOL, fallback, 0, 0, NULL, commands, group, help, false                                          \
    }
#define INT(name, fallback, low, high, commands, group, help)                                                          \
    {                                                                                                                  \
        name, OPTION_INT, fallback, low, high, NULL, commands, group, help, false                                      \
    }
#define FLOAT(name, fallback, low, high, commands, group, help)                                                        \
    {                                                                                                                  \
        name, OPTION_FLOAT, fallback, low, high, NULL, commands, group, help, false                                    \
    }
/* A number that is used in single precision. */
#define SINGLE(name, fallback, low, high, commands, group, help)                                                       \
    {                                                                                                                  \
        name, OPTION_FLOAT, fallback, low, high, NULL, commands, group, help, true                                     \
    }
#define STRING(name, fallback, commands, group, help)                                                                  \
    {                                                                                                                  \
        name, OPTION_STRING, fallback, 0, 0, NULL, commands, group, help, false                                        \
    }
#define ENUM(name, fallback, choices, commands, group, help)                                                           \
    {                                                                                                                  \
        name, OPTION_ENUM, fallback, 0, 0, choices, commands, group, help, false                                       \
    }
#define LIST(name, choices, commands, group, help)                                                                     \
    {                                                                                                                  \
        name, OPTION_LIST, NULL, 0, 0, choices, commands, group, help, false                                           \
    }

/* clang-format off */
static const struct option_spec table[] = {
    /* Model */
    STRING("model", NULL, FOR_MODEL, "Model",
           "checkpoint folder in Hugging Face layout (config.json, *.safetensors, tokenizer.json)"),
    ENUM("preset", NULL, "qwen3-0.6b|qwen3-1.7b|qwen3-4b|qwen3-8b|qwen3-14b|qwen3-32b|tiny|nano",
         FOR_INIT | FOR_BENCH | FOR_INFO, "Model", "shape of a known model"),
    STRING("config", NULL, FOR_INIT, "Model",
           "config.json with the shape of the model, in place of --preset"),
    STRING("tokenizer", NULL, FOR_INIT, "Model",
           "folder to copy the tokenizer files from, or 'bytes' for a byte-level one"),
    ENUM("dtype", "auto", "auto|bf16|f32", FOR_COMPUTE, "Model",
         "type of weights and activations; auto: config.json's, else the weights'; F16 is computed in f32"),
    ENUM("dtype", "auto", "auto|bf16|f32", FOR_INIT, "Model", "type of the weights; auto: bf16"),

    /* Data */
    STRING("prompt", NULL, FOR_GENERATE | FOR_TOKENIZE, "Data", "prompt text; '-' reads standard input"),
    STRING("batch", NULL, FOR_GENERATE | FOR_TOKENIZE, "Data",
           "JSONL rows with prompt or messages; '-' reads standard input"),
    STRING("batch", NULL, FOR_LOGPROBS, "Data",
           "JSONL rows with prompt_tokens and tokens; '-' reads standard input"),
    STRING("data", NULL, FOR_SFT, "Data",
           "JSONL rows with messages, prompt and completion, or text; '-' reads standard input"),
    STRING("data", NULL, FOR_GRPO | FOR_EVAL, "Data",
           "JSONL rows with prompt or messages, and what rewards read (answer); '-': standard input"),
    STRING("data", NULL, FOR_SCORE, "Data",
           "JSONL rows with completion, and what rewards read (answer, prompt); '-': standard input"),
    STRING("eval_data", NULL, FOR_TRAIN, "Data", "JSONL file of held-out rows to evaluate on"),
    INT("eval_steps", "0", 0, MANY, FOR_TRAIN, "Data",
        "evaluate every N optimizer steps; 0: only before and after"),
    INT("eval_limit", NULL, 1, MANY, FOR_TRAIN | FOR_EVAL, "Data",
        "use the first N held-out rows; unset: all"),
    SWITCH("shuffle_dataset", "true", FOR_TRAIN, "Data",
           "walk the rows in an order drawn from the seed, a new one each epoch"),
    SWITCH("chat", NULL, FOR_GENERATE | FOR_TOKENIZE, "Data",
           "put text prompts through the chat template; unset: only generate --prompt, if there is one"),
    SWITCH("thinking", "true", FOR_SAMPLE | FOR_SFT | FOR_TOKENIZE, "Data",
           "let the model think before it answers (enable_thinking of the chat template)"),
    SWITCH("trust_content", "false", FOR_SAMPLE | FOR_SFT | FOR_TOKENIZE, "Data",
           "read control tokens that stand in messages as such; otherwise they are plain text"),
    LIST("eos_token", NULL, FOR_SAMPLE | FOR_SFT, "Data",
         "tokens or ids that end a text, the first is what sft teaches; unset: all that the model names"),
    INT("max_length", "1024", 1, COUNT, FOR_SFT, "Data",
        "tokens of a row, prompt and completion; longer ones are cut at the end"),

    /* Reward */
    LIST("reward", NULL, FOR_REWARD, "Reward",
         "reward functions: accuracy, regex, format, or exec:PROGRAM (JSON lines in and out)"),
    {"reward_weights", OPTION_LIST, NULL, -BIG, BIG, NULL, FOR_REWARD, "Reward",
     "a weight for each reward, in the same order; unset: 1 each", false},
    STRING("reward_pattern", NULL, FOR_REWARD, "Reward",
           "pattern of the regex reward (PCRE2); unset: the row's column 'pattern'"),
    FLOAT("reward_timeout", "60", 0.001, 86400, FOR_REWARD, "Reward",
          "seconds an exec: program may take for a batch"),

    /* Rollout */
    INT("num_generations", "8", 2, 4096, FOR_PLAN, "Rollout", "completions per prompt (the group)"),
    INT("prompts_per_step", "8", 1, 65536, FOR_PLAN, "Rollout", "prompts of one generation batch"),
    INT("max_completion_length", "512", 1, COUNT, FOR_PLAN | FOR_EVAL, "Rollout",
        "tokens of a completion at most"),
    /* 256 is MLX-LM's default in its API; the 100 of its command line cuts most answers short. */
    INT("max_completion_length", "256", 1, COUNT, FOR_GENERATE, "Rollout",
        "tokens of a completion at most (also --max-tokens)"),
    INT("max_prompt_length", NULL, 1, COUNT, FOR_PLAN | FOR_EVAL, "Rollout",
        "tokens of a prompt at most, a longer one is an error; unset: what the context leaves"),
    INT("n", "1", 1, 65536, FOR_GENERATE | FOR_EVAL, "Rollout", "completions per prompt"),
    /* Sampling as training samples, for every command: MLX-LM's 0 would make generate and grpo differ. */
    SINGLE("temperature", "1.0", 0, 100, FOR_GENERATE | FOR_EVAL, "Rollout",
           "divides the logits; 0 takes the most likely token (its log-prob is that at 1)"),
    SINGLE("temperature", "1.0", 0, 100, FOR_LOGPROBS, "Rollout",
           "divides the logits, as it did in sampling; 0: as 1"),
    SINGLE("temperature", "1.0", 0.01, 100, FOR_GRPO, "Rollout",
           "divides the logits, in sampling and in training alike"),
    INT("top_k", "0", 0, COUNT, FOR_SAMPLE, "Rollout", "keep the k most likely tokens; 0: all"),
    SINGLE("top_p", "1.0", TINY, 1, FOR_SAMPLE, "Rollout",
           "keep the most likely tokens that together reach this probability; 1: all"),
    SINGLE("min_p", "0", 0, 1, FOR_SAMPLE, "Rollout",
           "drop tokens less likely than this share of the most likely one; 0: none"),
    SINGLE("xtc_probability", "0", 0, 1, FOR_SAMPLE, "Rollout",
           "chance of applying XTC (dropping the top choices) at a position"),
    SINGLE("xtc_threshold", "0.1", 0, 0.5, FOR_SAMPLE, "Rollout",
           "XTC drops all tokens above this probability but the least likely of them"),
    SINGLE("repetition_penalty", "1.0", 0.01, 100, FOR_SAMPLE, "Rollout",
           "divides positive logits of recent tokens and multiplies negative ones; 1: off"),
    INT("repetition_context", "20", 1, COUNT, FOR_SAMPLE, "Rollout",
        "tokens that repetition_penalty looks back"),
    SINGLE("presence_penalty", "0", -100, 100, FOR_SAMPLE, "Rollout",
           "subtracted from the logit of each recent token once; 0: off"),
    INT("presence_context", "20", 1, COUNT, FOR_SAMPLE, "Rollout",
        "tokens that presence_penalty looks back"),
    SINGLE("frequency_penalty", "0", -100, 100, FOR_SAMPLE, "Rollout",
           "subtracted from the logit of a recent token for each time it occurred; 0: off"),
    INT("frequency_context", "20", 1, COUNT, FOR_SAMPLE, "Rollout",
        "tokens that frequency_penalty looks back"),
    LIST("logit_bias", OPTIONS_ID_NUMBER, FOR_SAMPLE, "Rollout",
         "numbers added to the logits of token ids, for example 151645:-2.5"),
    SINGLE("eval_temperature", NULL, 0, 100, FOR_GRPO, "Rollout",
           "temperature of held-out evaluation; unset: as temperature"),
    INT("decode_concurrency", "0", 0, 4096, FOR_SAMPLE | FOR_INFO, "Rollout",
        "completions decoded at once; speed and memory, not results; 0: what pays and memory allows"),
    INT("prefill_step_size", "0", 0, 1048576, FOR_GENERATE, "Rollout",
        "prompt tokens computed in one step; sets speed and memory, not results; 0: what pays"),
    LIST("stop", NULL, FOR_SAMPLE, "Rollout", "end a completion at any of these strings"),

    /* Loss */
    ENUM("scale_rewards", "group", "group|batch|none", FOR_GRPO, "Loss",
         "divide advantages by the standard deviation of the group, of the batch, or not"),
    ENUM("loss_type", "dapo", "grpo|bnpo|dr_grpo|dapo", FOR_GRPO, "Loss",
         "how the loss of tokens is averaged"),
    ENUM("importance_sampling_level", "token", "token|sequence", FOR_GRPO, "Loss",
         "ratio new/old of each token, or one for the sequence (GSPO)"),
    FLOAT("epsilon", "0.2", 0, 1, FOR_GRPO, "Loss", "the ratio is clipped below 1 - epsilon"),
    FLOAT("epsilon_high", NULL, 0, 1000, FOR_GRPO, "Loss",
          "the ratio is clipped above 1 + epsilon_high; unset: as epsilon"),
    FLOAT("delta", NULL, 1, 1e6, FOR_GRPO, "Loss",
          "upper bound of the ratio where the advantage is negative (two-sided clip); unset: none"),
    FLOAT("beta", "0.0", 0, 1000, FOR_GRPO | FOR_INFO, "Loss",
          "weight of the KL against the model at the start; 0: no reference model is kept"),
    SWITCH("mask_truncated_completions", "false", FOR_GRPO, "Loss",
           "leave completions that reached max_completion_length out of the loss"),
    INT("num_iterations", "1", 1, 1000, FOR_GRPO, "Loss",
        "optimizer steps on each generation batch"),

    /* Optimizer */
    SINGLE("learning_rate", "2e-5", 0, 10, FOR_SFT, "Optimizer", "peak learning rate of AdamW"),
    SINGLE("learning_rate", "1e-6", 0, 10, FOR_GRPO, "Optimizer", "peak learning rate of AdamW"),
    /* TRL's default is linear; a constant rate makes a step independent of the planned number of steps,
     * so that a run can be extended and the longer run is still the same run. */
    ENUM("lr_scheduler_type", "constant", "constant|linear|cosine", FOR_TRAIN, "Optimizer",
         "course of the learning rate after the warm-up; linear and cosine end at 0"),
    INT("warmup_steps", "0", 0, MANY, FOR_TRAIN, "Optimizer",
        "steps over which the learning rate rises from 0"),
    SINGLE("adam_beta1", "0.9", 0, 0.9999999, FOR_TRAIN, "Optimizer",
           "decay of the mean of the gradient"),
    SINGLE("adam_beta2", "0.999", 0, 0.9999999, FOR_TRAIN, "Optimizer",
           "decay of the mean of the squared gradient"),
    SINGLE("adam_epsilon", "1e-8", TINY, 1, FOR_TRAIN, "Optimizer",
           "added to the root of the squared gradient"),
    SINGLE("weight_decay", "0", 0, 10, FOR_TRAIN, "Optimizer",
           "decoupled weight decay, times the learning rate"),
    FLOAT("max_grad_norm", "1.0", 0, BIG, FOR_TRAIN, "Optimizer",
          "the gradient is scaled down to this norm; 0: no clipping"),
    ENUM("moments_dtype", "f32", "f32|bf16", FOR_TRAIN | FOR_INFO | FOR_BENCH, "Optimizer",
         "AdamW's two moments; bf16 (stochastically rounded) halves their memory"),
    INT("batch_size", "8", 1, 1048576, FOR_SFT, "Optimizer", "rows of one optimizer step"),
    INT("micro_batch_tokens", "0", 0, COUNT, FOR_TRAIN | FOR_INFO | FOR_BENCH | FOR_LOGPROBS, "Optimizer",
        "tokens of one pass: sets memory and speed; 0: 2048 on a CPU, 24576 on a GPU, fewer if wide"),
    ENUM("recompute", "auto", "auto|none|logits|layer", FOR_TRAIN | FOR_INFO | FOR_BENCH, "Optimizer",
         "compute activations again in the backward to save memory; auto: if it must"),

    /* Run */
    STRING("out", NULL, FOR_INIT, "Run", "folder to write the checkpoint into; it must not exist"),
    STRING("out", NULL, FOR_TRAIN, "Run",
           "run folder to write: a new one, or with --resume the one to go on with"),
    STRING("config", NULL, FOR_YAML, "Run",
           "YAML file of options, one 'name: value' a line; flags win over it"),
    INT("steps", NULL, 1, MANY, FOR_TRAIN, "Run",
        "optimizer steps; unset: what epochs come to"),
    INT("epochs", "3", 1, 1000000, FOR_SFT, "Run", "passes over the data, where steps is unset"),
    INT("epochs", "1", 1, 1000000, FOR_GRPO, "Run", "passes over the data, where steps is unset"),
    INT("logging_steps", "10", 1, COUNT, FOR_SFT, "Run",
        "print a line every N optimizer steps; metrics.jsonl has every step"),
    INT("logging_steps", "1", 1, COUNT, FOR_GRPO, "Run",
        "print a line every N optimizer steps; metrics.jsonl has every step"),
    INT("save_steps", "500", 0, MANY, FOR_TRAIN, "Run",
        "write a checkpoint every N optimizer steps; 0: none by steps"),
    FLOAT("save_minutes", "15", 0, 1e6, FOR_TRAIN, "Run",
          "and N minutes after the last one, in at most 3 % of the time; 0: none by the clock"),
    INT("save_total_limit", NULL, 1, MANY, FOR_TRAIN, "Run",
        "keep the newest N checkpoints; unset: all, but of those by the clock two"),
    STRING("resume", NULL, FOR_TRAIN, "Run",
           "go on with the run in --out: 'latest' (or start it), or one of its checkpoint folders"),
    LIST("accept_changed", "data|eval_data|model|reward|tokenizer|template|schedule", FOR_TRAIN, "Run",
         "with --resume: what may differ from what the run read before"),
    SWITCH("log_completions", "false", FOR_GRPO, "Run",
           "write every completion with its rewards into the run folder"),
    INT("seed", "42", 0, OPTIONS_INT_MAX, FOR_SAMPLE | FOR_INIT | FOR_SFT | FOR_BENCH, "Run",
        "all randomness follows from this"),
    ENUM("format", "text", "text|jsonl", FOR_GENERATE | FOR_TOKENIZE | FOR_EVAL | FOR_BENCH, "Run",
         "form of what is printed; with --batch always jsonl"),
    SWITCH("memory", "false", FOR_INFO, "Run", "print the memory plan"),
    SWITCH("verify", "false", FOR_INFO, "Run",
           "read the files of --model against its SHA256SUMS and name those that differ"),
    LIST("kind", "gemm|prefill|decode|train|grpo|exactness", FOR_BENCH, "Run",
         "what to measure; unset: all of them; exactness: what it costs, on a GPU"),
    SWITCH("quick", "false", FOR_BENCH, "Run", "fewer tokens and repetitions: a look, not a measurement"),

    /* Machine */
    INT("threads", "0", 0, 1024, FOR_COMPUTE, "Machine",
        "CPU threads; 0: one for each core"),
    STRING("device", "auto", FOR_COMPUTE, "Machine",
           "where to compute: auto, cpu, cuda or cuda:N (GPU N, from 0); auto: a GPU if there is one"),
    ENUM("isa", "auto", "auto|portable|avx2|avx512|avx512-bf16|amx-bf16", FOR_COMPUTE, "Machine",
         "instruction set of the kernels; auto: the best this CPU has"),
    FLOAT("memory_limit", "0", 0, 1e6, FOR_COMPUTE, "Machine",
          "GB that tensors may take; 0: what the machine has"),
};
/* clang-format on */

const struct option_spec *options_table(size_t *count)
{
    *count = sizeof table / sizeof table[0];
    return table;
}
