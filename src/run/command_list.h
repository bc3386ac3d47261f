/* The subcommands, each once. X(ID, name, summary, title, usage, result):
 *   ID       COHORT_ID of cohort.h and FOR_ID of run/options.h
 *   name     what the user types; command_NAME is the function (src/command/command_NAME.c)
 *   summary  its line of `cohort --help`
 *   title    the first line of `cohort NAME --help`
 *   usage    what the command cannot do without
 *   result   what it prints and writes
 * The order is that of enum cohort_command. */
#ifndef COHORT_RUN_COMMAND_LIST_H
#define COHORT_RUN_COMMAND_LIST_H

/* clang-format off */
#define COMMAND_LIST(X)                                                                                                \
    X(GENERATE, generate, "generate text, or JSONL with exact log-probs",                                              \
      "generate completions of prompts",                                                                               \
      "--model DIR (--prompt TEXT | --batch FILE.jsonl)",                                                              \
      "Prints the completion of --prompt as it is generated; with --batch or --format jsonl, one JSON line for each "  \
      "completion: index, completion_index, prompt, completion, prompt_tokens, tokens, logprobs, finish_reason (eos, " \
      "stop, length or cancelled).")                                                                                   \
    X(LOGPROBS, logprobs, "log-probs of given sequences, bit for bit those of generate",                               \
      "log-probs of given sequences, the same numbers that generate prints",                                           \
      "--model DIR --batch FILE.jsonl",                                                                                \
      "Reads JSON lines with prompt_tokens and tokens, as generate prints them, and prints them with logprobs. It "    \
      "needs no tokenizer files.")                                                                                     \
    X(TOKENIZE, tokenize, "token ids of text",                                                                         \
      "turn text into token ids",                                                                                      \
      "--model DIR (--prompt TEXT | --batch FILE.jsonl)",                                                              \
      "Prints one id and its text per line; with --batch or --format jsonl, {\"tokens\": [...]}.")                     \
    X(INFO, info, "what a model is, what it runs on here, and the memory that training takes",                         \
      "describe a checkpoint, and the memory a run would take",                                                        \
      "[--model DIR | --preset NAME] [--memory]",                                                                      \
      "Prints what computes here, what the model is, and with --memory how much memory a run of grpo would take.")     \
    X(INIT, init, "write a random checkpoint",                                                                         \
      "write a checkpoint with random weights",                                                                        \
      "(--preset NAME | --config FILE) --tokenizer DIR --out DIR",                                                     \
      "Writes config.json, model.safetensors and the tokenizer's files.")                                              \
    X(SFT, sft, "supervised fine-tuning on JSONL",                                                                     \
      "supervised fine-tuning on a JSONL file",                                                                        \
      "--model DIR --data FILE.jsonl --out runs/NAME",                                                                 \
      "The loss covers the completion (of messages, the last one). Writes checkpoints, metrics.jsonl and final/ into " \
      "the run folder. Ctrl-C saves a checkpoint; the same command with --resume continues from it.")                  \
    X(GRPO, grpo, "train with rewards (GRPO and its family)",                                                          \
      "train with group-relative rewards (GRPO)",                                                                      \
      "--model DIR --data FILE.jsonl --reward NAME --out runs/NAME",                                                   \
      "Writes checkpoints, metrics.jsonl and final/ into the run folder. Ctrl-C saves a checkpoint; the same command " \
      "with --resume continues from it.")                                                                              \
    X(EVAL, eval, "rewards of a model's completions on a data set",                                                    \
      "evaluate a checkpoint with reward functions",                                                                   \
      "--model DIR --data FILE.jsonl --reward NAME",                                                                   \
      "Prints the metrics; with --format jsonl, every completion with its rewards and then the metrics.")              \
    X(SCORE, score, "rewards of given completions, without a model",                                                   \
      "run reward functions on a file of completions",                                                                 \
      "--data FILE.jsonl --reward NAME",                                                                               \
      "Prints one JSON line per row: index, rewards by name (null: unscorable) and reward, their weighted sum.")       \
    X(BENCH, bench, "measure speed beside this machine's limits",                                                      \
      "measure speed",                                                                                                 \
      "[--kind NAME]",                                                                                                 \
      "Prints each measurement beside the limit of this machine.")
/* clang-format on */

#endif
