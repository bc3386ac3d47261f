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
      "--model DIR (--prompt TEXT | --batch FILE)",                                                                    \
      "Prints the completion of --prompt as it is generated; with --batch or --format jsonl, one JSON line for each "  \
      "completion: index, completion_index, prompt, completion, prompt_tokens, tokens, logprobs, finish_reason (eos, " \
      "stop, length or cancelled).")                                                                                   \
    X(LOGPROBS, logprobs, "log-probs of given sequences, bit for bit those of generate",                               \
      "log-probs of given sequences, the same numbers that generate prints",                                           \
      "--model DIR --batch FILE",                                                                                      \
      "Reads JSON lines with prompt_tokens and tokens, as generate prints them, and prints them with logprobs. Of a "   \
      "sequence classifier it prints the scores, one for each label. It needs no tokenizer files.")                    \
    X(TOKENIZE, tokenize, "token ids of text",                                                                         \
      "turn text into token ids",                                                                                      \
      "--model DIR (--prompt TEXT | --batch FILE)",                                                                    \
      "Prints one id and its text per line; with --batch or --format jsonl, {\"tokens\": [...]}.")                     \
    X(INFO, info, "what a model is, what it runs on here, and the memory that training takes",                         \
      "describe a checkpoint, and the memory a run would take",                                                        \
      "[DIR | --model DIR | --preset NAME] [--memory]",                                                                      \
      "Prints what computes here, what the model is, whether it is supported and what it fits; with --memory how "     \
      "much memory a run of grpo would take.")                                                                         \
    X(INIT, init, "write a random checkpoint",                                                                         \
      "write a checkpoint with random weights",                                                                        \
      "(--preset NAME | --config FILE) --tokenizer DIR --out DIR",                                                     \
      "Writes config.json, model.safetensors and the tokenizer's files.")                                              \
    X(SFT, sft, "supervised fine-tuning",                                                                              \
      "supervised fine-tuning",                                                                                        \
      "--model DIR --data FILE --out runs/NAME",                                                                       \
      "The loss covers the completion (of messages, the last one). Writes checkpoints, metrics.jsonl and final/ into " \
      "the run folder. Ctrl-C saves a checkpoint; the same command with --resume continues from it.")                  \
    X(GRPO, grpo, "train with rewards (GRPO and its family)",                                                          \
      "train with group-relative rewards (GRPO)",                                                                      \
      "--model DIR --data FILE --reward NAME --out runs/NAME",                                                         \
      "Writes checkpoints, metrics.jsonl and final/ into the run folder. Ctrl-C saves a checkpoint; the same command " \
      "with --resume continues from it.")                                                                              \
    X(EVAL, eval, "rewards of a model's completions on a data set",                                                    \
      "evaluate a checkpoint with reward functions",                                                                   \
      "--model DIR --data FILE --reward NAME",                                                                         \
      "Prints the metrics; with --format jsonl, every completion with its rewards and then the metrics.")              \
    X(SCORE, score, "rewards of given completions, without a model",                                                   \
      "run reward functions on a file of completions",                                                                 \
      "--data FILE --reward NAME",                                                                                     \
      "Prints one JSON line per row: index, rewards by name (null: unscorable) and reward, their weighted sum.")       \
    X(BENCH, bench, "measure speed beside this machine's limits",                                                      \
      "measure speed",                                                                                                 \
      "[--kind NAME]",                                                                                                 \
      "Prints each measurement beside the limit of this machine.")                                                     \
    X(DATA, data, "what a data set is: columns, prompts, lengths, what would be refused",                              \
      "describe a data set as the other commands read it",                                                             \
      "FILE [--model DIR]",                                                                                            \
      "Reads all of FILE (a data file, several, or a folder, as --data of other commands: docs/DATA.md) and prints "   \
      "its columns, which of them is the prompt, three examples with what is learned, lengths, and rows that would be "\
      "cut or refused. With --model rows are rendered and encoded; else text is shown as it stands.")                  \
    X(MERGE, merge, "write a model with a LoRA adapter merged into its weights",                                       \
      "merge a LoRA adapter into its base model",                                                                      \
      "--model DIR --adapter DIR --out DIR",                                                                           \
      "Writes a checkpoint as published, for tools that read no adapters. Weights become W + s B A, rounded once; "    \
      "the other files are the base's, and the tokenizer the adapter's if it has one.")                                \
    X(RUNS, runs, "what runs have recorded: list, show, compare, completions, export, sql",                            \
      "list, show NAME, compare A B, completions NAME, export NAME, sql NAME 'SELECT ...'",                            \
      "[ACTION [NAME ...]]",                                                                                           \
      "NAME is a run in --runs, or the path of a run folder; a run that is going on is read as it is. list prints a "  \
      "line for each; show what one is, what it reads by hash, its last metrics and events; compare what differs; "    \
      "completions those that match; export tables as files; sql the rows of one SELECT, read-only.")                   \
    X(FORK, fork, "another run from a checkpoint of one, with other options",                                          \
      "make another run that goes on from a checkpoint of a run",                                                      \
      "RUN[@STEP] --out runs/NEW",                                                                                     \
      "RUN is a run in --runs or the path of a run folder; STEP one of its checkpoints, else the newest. Writes the "  \
      "new run folder with a copy of the checkpoint; sft or grpo with --out and --resume then goes on there, with "    \
      "optimizer and place in the data as they were, and whatever options are given changed.")                         \
    X(REPORT, report, "a page that says what a run learned and how it went",                                           \
      "write a report of a run, or of several beside each other",                                                      \
      "NAME ... [--out FILE.html]",                                                                                    \
      "NAME is a run in --runs, or the path of a run folder; a run that is going on is read as it is. Writes one page "\
      "of HTML that needs nothing else: verdict, curves, warnings, where the time went, samples, configuration.")      \
    X(PLOT, plot, "curves of a run's metrics as SVG",                                                                  \
      "draw metrics of a run",                                                                                         \
      "NAME [--metric reward,eval_reward] [--out FILE.svg]",                                                           \
      "NAME is a run in --runs, or the path of a run folder; a run that is going on is drawn as it is. Names of "      \
      "metrics are those of metrics.jsonl.")                                                                           \
    X(DPO, dpo, "train on pairs of a better and a worse answer (DPO and its family)",                                  \
      "train on pairs of a chosen and a rejected completion (DPO)",                                                    \
      "--model DIR --data FILE --out runs/NAME",                                                                       \
      "Rows have prompt, chosen and rejected, or chosen and rejected that begin alike. Writes checkpoints, "           \
      "metrics.jsonl and final/ into the run folder. Ctrl-C saves a checkpoint; the same command with --resume "       \
      "continues from it.")
/* clang-format on */

#endif
