/* The subcommands, each once. X(ID, name, ranks, summary, title, usage, result, example, example):
 *   ID       COHORT_ID of cohort.h and FOR_ID of run/options.h
 *   name     what the user types; command_NAME is the function (src/command/command_NAME.c)
 *   ranks    whether several ranks share its work (docs/RANKS.md), or it is one process's
 *   summary  its line of `cohort --help`
 *   title    the first line of `cohort NAME --help`
 *   usage    what the command cannot do without
 *   result   what it prints and writes
 *   example  a line to copy, two of them
 * The order is that of enum cohort_command. */
#ifndef COHORT_RUN_COMMAND_LIST_H
#define COHORT_RUN_COMMAND_LIST_H

/* clang-format off */
#define COMMAND_LIST(X)                                                                                                \
    X(GENERATE, generate, true,  "generate text, or JSONL with exact log-probs",                                       \
      "generate completions of prompts",                                                                               \
      "--model DIR (TEXT | --prompt TEXT | --batch FILE)",                                                             \
      "Prints the completion of the prompt as it is generated; with --batch or --format jsonl, one JSON line for each "\
      "completion: index, completion_index, prompt, completion, prompt_tokens, tokens, logprobs, finish_reason (eos, " \
      "stop, length, repetition or cancelled).",                                                                       \
      "cohort generate --model Qwen3-0.6B 'Why is the sky blue?' --temperature 0.6",                                                 \
      "cohort generate --model runs/first/final --batch ask.jsonl --n 4 --seed 7 > sampled.jsonl")                     \
    X(LOGPROBS, logprobs, false, "log-probs of given sequences, bit for bit those of generate",                        \
      "log-probs of given sequences, the same numbers that generate prints",                                           \
      "--model DIR --batch FILE",                                                                                      \
      "Reads JSON lines with prompt_tokens and tokens, as generate prints them, and prints them with logprobs. Of a "  \
      "sequence classifier it prints the scores, one for each label. It needs no tokenizer files.",                    \
      "cohort logprobs --model runs/first/final --batch sampled.jsonl > scored.jsonl",                                 \
      "cohort generate --model Qwen3-0.6B --batch ask.jsonl | cohort logprobs --model Qwen3-0.6B --batch -")           \
    X(TOKENIZE, tokenize, false, "token ids of text",                                                                  \
      "turn text into token ids",                                                                                      \
      "--model DIR (--prompt TEXT | --batch FILE)",                                                                    \
      "Prints one id and its text per line; with --batch or --format jsonl, {\"tokens\": [...]}.",                     \
      "cohort tokenize --model Qwen3-0.6B --prompt 'What is 12 * 7?'",                                                 \
      "cohort tokenize --model Qwen3-0.6B --batch ask.jsonl")                                                          \
    X(INFO, info, false, "what a model is, what it runs on here, and the memory that training takes",                  \
      "describe a checkpoint, and the memory a run would take",                                                        \
      "[DIR | --model DIR | --preset NAME] [--memory]",                                                                \
      "Prints what computes here, what the model is, whether it is supported and what it fits; with --memory how "     \
      "much memory a run of grpo would take.",                                                                         \
      "cohort info --model Qwen3-0.6B",                                                                                \
      "cohort info --preset qwen3-8b --memory --device cuda")                                                          \
    X(INIT, init, false, "write a random checkpoint",                                                                  \
      "write a checkpoint with random weights",                                                                        \
      "(--preset NAME | --config FILE) --tokenizer DIR --out DIR",                                                     \
      "Writes config.json, model.safetensors and the tokenizer's files.",                                              \
      "cohort init --preset nano --tokenizer bytes --out nano",                                                        \
      "cohort init --config config.json --tokenizer Qwen3-0.6B --out empty")                                           \
    X(SFT, sft, true, "supervised fine-tuning",                                                                        \
      "supervised fine-tuning",                                                                                        \
      "--model DIR --data FILE --out runs/NAME",                                                                       \
      "The loss covers the completion (of messages, the last one). Writes checkpoints, metrics.jsonl and final/ into " \
      "the run folder. Ctrl-C saves a checkpoint; the same command with --resume continues from it.",                  \
      "cohort sft --model Qwen3-0.6B --data chats.jsonl --out runs/chats",                                             \
      "cohort sft --model Qwen3-0.6B --data chats.jsonl --use-peft --eval-data held.jsonl --out runs/lora")            \
    X(GRPO, grpo, true, "train with rewards (GRPO and its family)",                                                    \
      "train with group-relative rewards (GRPO)",                                                                      \
      "--model DIR --data FILE --reward NAME --out runs/NAME",                                                         \
      "Writes checkpoints, metrics.jsonl and final/ into the run folder. Ctrl-C saves a checkpoint; the same command " \
      "with --resume continues from it.",                                                                              \
      "cohort grpo --model Qwen3-0.6B --data sums.jsonl --reward accuracy --out runs/sums",                            \
      "cohort grpo --config runs/sums/config.yaml --out runs/sums --resume")                                           \
    X(EVAL, eval, true,  "rewards of a model's completions on a data set",                                             \
      "evaluate a checkpoint with reward functions",                                                                   \
      "--model DIR --data FILE --reward NAME",                                                                         \
      "Prints the metrics; with --format jsonl, every completion with its rewards and then the metrics.",              \
      "cohort eval --model runs/sums/final --data held.jsonl --reward accuracy --n 8",                                 \
      "cohort eval --model Qwen3-0.6B --data gsm8k=a.jsonl,math=b.jsonl --reward accuracy --format jsonl")             \
    X(SCORE, score, false, "rewards of given completions",                                                             \
      "run reward functions on a file of completions",                                                                 \
      "--data FILE --reward NAME",                                                                                     \
      "Prints one JSON line per row: index, rewards by name (null: unscorable) and reward, their weighted sum.",       \
      "cohort score --data answers.jsonl --reward accuracy",                                                           \
      "cohort score --data answers.jsonl --reward python:reward.py:score,format")                                      \
    X(BENCH, bench, false, "measure speed beside this machine's limits",                                               \
      "measure speed",                                                                                                 \
      "[--kind NAME]",                                                                                                 \
      "Prints each measurement beside the limit of this machine.",                                                     \
      "cohort bench --quick",                                                                                          \
      "cohort bench --preset qwen3-0.6b --kind decode,train")                                                          \
    X(DATA, data, false, "what a data set is: columns, prompts, lengths, what would be refused",                       \
      "describe a data set as the other commands read it",                                                             \
      "FILE [--model DIR]",                                                                                            \
      "Reads all of FILE (a data file, several, or a folder, as --data of other commands: docs/DATA.md) and prints "   \
      "its columns, which of them is the prompt, three examples with what is learned, lengths, and rows that would be "\
      "cut or refused. With --model rows are rendered and encoded; else text is shown as it stands.",                  \
      "cohort data chats.jsonl --model Qwen3-0.6B",                                                                    \
      "cohort data train/ --columns prompt=question,answer=final")                                                     \
    X(MERGE, merge, false, "write a model with a LoRA adapter merged into its weights",                                \
      "merge a LoRA adapter into its base model",                                                                      \
      "--model DIR --adapter DIR --out DIR",                                                                           \
      "Writes a checkpoint as published, for tools that read no adapters. Weights become W + s B A, rounded once; "    \
      "the other files are the base's, and the tokenizer the adapter's if it has one.",                                \
      "cohort merge --model Qwen3-0.6B --adapter runs/lora/final --out merged",                                        \
      "cohort merge --adapter runs/lora/final --dtype f32 --out merged")                                               \
    X(RUNS, runs, false, "what runs have recorded: list, show, compare, completions, export, sql",                     \
      "list, show NAME, compare A B, completions NAME, export NAME, sql NAME 'SELECT ...'",                            \
      "[ACTION [NAME ...]]",                                                                                           \
      "NAME is a run in --runs, or the path of a run folder; a run that is going on is read as it is. list prints a "  \
      "line for each; show what one is, what it reads by hash, its last metrics and events; compare what differs; "    \
      "completions those that match; export tables as files; sql the rows of one SELECT, read-only.",                  \
      "cohort runs",                                                                                                   \
      "cohort runs completions first --step 812 --order worst --limit 5")                                              \
    X(FORK, fork, false, "another run from a checkpoint of one, with other options",                                   \
      "make another run that goes on from a checkpoint of a run",                                                      \
      "RUN[@STEP] --out runs/NEW",                                                                                     \
      "RUN is a run in --runs or the path of a run folder; STEP one of its checkpoints, else the newest. Writes the "  \
      "new run folder with a copy of the checkpoint; sft or grpo with --out and --resume then goes on there, with "    \
      "optimizer and place in the data as they were, and whatever options are given changed.",                         \
      "cohort fork first --out runs/second",                                                                           \
      "cohort fork first@400 --out runs/second")                                                                       \
    X(REPORT, report, false, "a page that says what a run learned and how it went",                                    \
      "write a report of a run, or of several beside each other",                                                      \
      "NAME ... [--out FILE.html]",                                                                                    \
      "NAME is a run in --runs, or the path of a run folder; a run that is going on is read as it is. Writes one page "\
      "of HTML that needs nothing else: verdict, curves, warnings, where the time went, samples, configuration.",      \
      "cohort report first",                                                                                           \
      "cohort report first second --out compare.html")                                                                 \
    X(PLOT, plot, false, "curves of a run's metrics as SVG",                                                           \
      "draw metrics of a run",                                                                                         \
      "NAME [--metric reward,eval_reward] [--out FILE.svg]",                                                           \
      "NAME is a run in --runs, or the path of a run folder; a run that is going on is drawn as it is. Names of "      \
      "metrics are those of metrics.jsonl.",                                                                           \
      "cohort plot first",                                                                                             \
      "cohort plot first --metric entropy,grad_norm --out curves.svg")                                                 \
    X(DPO, dpo, true, "train on pairs of a better and a worse answer (DPO and its family)",                            \
      "train on pairs of a chosen and a rejected completion (DPO)",                                                    \
      "--model DIR --data FILE --out runs/NAME",                                                                       \
      "Rows have prompt, chosen and rejected, or chosen and rejected that begin alike. Writes checkpoints, "           \
      "metrics.jsonl and final/ into the run folder. Ctrl-C saves a checkpoint; the same command with --resume "       \
      "continues from it.",                                                                                            \
      "cohort dpo --model model --data pairs.jsonl --out runs/dpo",                                                    \
      "cohort dpo --model model --data pairs.jsonl --out runs/rpo --loss-type sigmoid,sft --loss-weights 1,0.2")       \
    X(KTO, kto, true, "train on answers that are wanted or not (KTO)",                                                 \
      "train on single completions that are wanted or not (KTO)",                                                      \
      "--model DIR --data FILE --out runs/NAME",                                                                       \
      "Rows have prompt, completion and label (true: wanted), or are pairs as dpo takes them, of which each is two "   \
      "rows. Writes checkpoints, metrics.jsonl and final/ into the run folder.",                                       \
      "cohort kto --model model --data answers.jsonl --out runs/kto",                                                  \
      "cohort kto --model model --data answers.jsonl --out runs/kto --undesirable-weight 0.5")                         \
    X(ORPO, orpo, true, "train on pairs without a reference, beside their better answers (ORPO)",                      \
      "train on pairs by their odds, and on the chosen completions (ORPO)",                                            \
      "--model DIR --data FILE --out runs/NAME",                                                                       \
      "Rows are those of dpo. There is no reference model. Writes checkpoints, metrics.jsonl and final/ into the run " \
      "folder.",                                                                                                       \
      "cohort orpo --model model --data pairs.jsonl --out runs/orpo",                                                  \
      "cohort orpo --model model --data pairs.jsonl --out runs/orpo --beta 0.2")                                       \
    X(CPO, cpo, true, "train on pairs without a reference (CPO, SimPO)",                                               \
      "train on pairs by their log-probs alone (CPO, SimPO)",                                                          \
      "--model DIR --data FILE --out runs/NAME",                                                                       \
      "Rows are those of dpo. There is no reference model. Writes checkpoints, metrics.jsonl and final/ into the run " \
      "folder.",                                                                                                       \
      "cohort cpo --model model --data pairs.jsonl --out runs/cpo",                                                    \
      "cohort cpo --model model --data pairs.jsonl --out runs/simpo --loss-type simpo --cpo-alpha 0 --beta 2")         \
    X(RLOO, rloo, true, "train with rewards, each beside the others of its group (RLOO)",                              \
      "train with group rewards as TRL's RLOOTrainer does (RLOO)",                                                     \
      "--model DIR --data FILE --reward NAME --out runs/NAME",                                                         \
      "It is grpo with other defaults: the baseline, the loss and the KL are RLOO's. Writes checkpoints, "             \
      "metrics.jsonl and final/ into the run folder.",                                                                 \
      "cohort rloo --model model --data sums.jsonl --reward accuracy --out runs/rloo",                                 \
      "cohort rloo --model model --data sums.jsonl --reward accuracy --out runs/rloo --num-generations 4")             \
    X(WATCH, watch, false, "look at a run while it goes on, pause it, save it",                                        \
      "look at runs while they go on, or after it",                                                                    \
      "NAME ...",                                                                                                      \
      "NAME is a run in --runs, or the path of a run folder. In a terminal: curves, where the present step is, "       \
      "samples, events, warnings; p pauses the run after its step, r lets it go on, s saves a checkpoint, q leaves "   \
      "and the run goes on, ? lists the keys. In a pipe: a line for each step and event until the run ends.",          \
      "cohort watch first",                                                                                            \
      "cohort watch first second --read-only")                                                                         \
    X(REWARD, reward, true, "train a model that scores answers, on pairs of a better and a worse one",                 \
      "train a reward model: one that gives a whole answer a score",                                                   \
      "--model DIR --data FILE --out runs/NAME",                                                                       \
      "Rows are those of dpo, and may have a margin. A language model becomes a classifier of one label, whose head "  \
      "begins at random; a classifier goes on learning. Writes checkpoints, metrics.jsonl and final/ into the run "    \
      "folder.",                                                                                                       \
      "cohort reward --model model --data pairs.jsonl --out runs/reward",                                              \
      "cohort reward --model model --data pairs.jsonl --out runs/reward --center-rewards-coefficient 0.01")            \
    X(SERVE, serve, false, "serve a model over HTTP, as OpenAI's API does",                                            \
      "serve a model over HTTP",                                                                                       \
      "--model DIR",                                                                                                   \
      "Answers requests of OpenAI's clients (docs/SERVER.md) until it is told to end (Ctrl-C, SIGTERM); what is "      \
      "under way is then finished.",                                                                                   \
      "cohort serve --model Qwen3-0.6B",                                                                               \
      "cohort serve --model runs/first/final --host 0.0.0.0 --port 8000 --api-key KEY")                                \
    X(DISTILL, distill, true, "train on what a teacher makes of the model's own text",                                 \
      "train on a teacher's distributions at what the model sampled (distillation)",                       \
      "--model DIR --teacher-model DIR --data FILE --out runs/NAME",                                                   \
      "The model answers prompts; its loss is the divergence to the teacher's distribution at each of its tokens. "    \
      "Rewards may be given: they are measured, not learned from. Writes checkpoints, metrics.jsonl and final/ into "  \
      "the run folder.",                                                                                               \
      "cohort distill --model small --teacher-model-name-or-path large --data sums.jsonl --out runs/kd",                       \
      "cohort distill --model small --teacher-model-name-or-path large --data sums.jsonl --out runs/kd --beta 0")          \
    X(CHAT, chat, false, "talk with a model",                                                                          \
      "talk with a model at a terminal, or a line at a time through a pipe",                                           \
      "--model DIR",                                                                                                   \
      "Reads a line, prints the answer as it comes, and goes on with the conversation. /help lists what else a line "  \
      "may be: /system, /reset, /save, /quit. Ctrl-C stops an answer, Ctrl-D leaves. In a pipe every line is a turn.", \
      "cohort chat --model Qwen3-0.6B",                                                                                \
      "cohort chat --model runs/first/final --system 'Answer briefly.' --temperature 0")                               \
    X(PERPLEXITY, perplexity, false, "how well a model predicts a text",                                               \
      "perplexity of a text, by windows that slide",                                                                   \
      "FILE --model DIR",                                                                                              \
      "Reads a text file, or the column text of a data file, and prints the perplexity, bits a byte and a token, and " \
      "the mean log-likelihood with its standard error. Every token but a text's first is counted once.",              \
      "cohort perplexity wiki.txt --model Qwen3-0.6B",                                                                 \
      "cohort perplexity held.jsonl --model runs/first/final --window 2048 --stride 512")
/* clang-format on */

#endif
