/* --help of a command and the reference page, from the table. */
#include "run/options_internal.h"

#include <string.h>

enum { WIDTH = 100, HELP_COLUMN = 32 };

static const char *const summaries[] = {
    "generate completions of prompts",
    "log-probs of given sequences, the same numbers that generate prints",
    "turn text into token ids",
    "describe a checkpoint, and the memory a run would take",
    "write a checkpoint with random weights",
    "supervised fine-tuning on a JSONL file",
    "train with group-relative rewards (GRPO)",
    "evaluate a checkpoint with reward functions",
    "run reward functions on a file of completions",
    "measure speed",
};

/* What a command cannot do without, and what its results look like. */
static const char *const usages[] = {
    "--model DIR (--prompt TEXT | --batch FILE.jsonl)",
    "--model DIR --batch FILE.jsonl",
    "--model DIR (--prompt TEXT | --batch FILE.jsonl)",
    "[--model DIR | --preset NAME] [--memory]",
    "(--preset NAME | --config FILE) --tokenizer DIR --out DIR",
    "--model DIR --data FILE.jsonl --out runs/NAME",
    "--model DIR --data FILE.jsonl --reward NAME --out runs/NAME",
    "--model DIR --data FILE.jsonl --reward NAME",
    "--data FILE.jsonl --reward NAME",
    "[--kind NAME]",
};
static const char *const results[] = {
    "Prints the text of --prompt's completion as it comes; of --batch, and with --format jsonl, a "
    "JSON "
    "line for each completion: index, completion_index, prompt, completion, prompt_tokens, tokens, "
    "logprobs, finish_reason (eos, stop, length or cancelled).",
    "Reads JSON lines with prompt_tokens and tokens, as generate prints them, and prints them with "
    "logprobs. Needs no tokenizer files.",
    "Prints an id and its text a line; of --batch, and with --format jsonl, {\"tokens\": [...]}.",
    "Prints what computes here, what the model is, and with --memory what a run of grpo would "
    "take.",
    "Writes config.json, model.safetensors and the tokenizer's files.",
    "The loss is on the completion (of messages: the last one). Writes checkpoints, metrics.jsonl "
    "and "
    "final/ into the run folder. Ctrl-C saves a checkpoint; the same command with --resume goes "
    "on.",
    "Writes checkpoints, metrics.jsonl and final/ into the run folder. Ctrl-C saves a checkpoint; "
    "the "
    "same command with --resume goes on.",
    "Prints the metrics; with --format jsonl every completion with its rewards, then the metrics.",
    "Prints a JSON line a row: index, rewards by name (null: unscorable) and reward, their "
    "weighted "
    "sum.",
    "Prints each measurement beside the limit of this machine.",
};

/* What stands after the flag. */
static const char *placeholder(const struct option_spec *spec)
{
    static const char *const folders[] = {"model", "out", "resume", "tokenizer"};
    static const char *const files[] = {"config", "data", "eval_data", "batch"};
    switch (spec->type) {
    case OPTION_BOOL: return "";
    case OPTION_INT: return " N";
    case OPTION_FLOAT: return " X";
    case OPTION_ENUM: return " NAME";
    case OPTION_LIST: return " A,B,...";
    case OPTION_STRING: break;
    }
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        if (strcmp(spec->name, folders[i]) == 0)
            return " DIR";
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (strcmp(spec->name, files[i]) == 0)
            return " FILE";
    return " TEXT";
}

static cohort_status append_dashed(const char *name, struct text *out, cohort_error *err)
{
    for (; *name != '\0'; name++)
        TRY(text_append(out, *name == '_' ? "-" : name, 1, err));
    return COHORT_OK;
}

/* " [from 1 to 8; default 2]": accepted values where they say more than the type does,
 * and the default. */
static cohort_status append_limits(const struct option_spec *spec, struct text *out, cohort_error *err)
{
    struct text accepted = {0};
    cohort_status status = COHORT_OK;
    bool tells = spec->type == OPTION_INT || spec->type == OPTION_FLOAT || spec->type == OPTION_ENUM ||
                 (spec->type == OPTION_LIST && spec->choices != NULL);
    if (tells)
        TRY_GOTO(options_describe(spec, &accepted, err));
    /* N, X and NAME after the flag have told the type. */
    const char *limits = tells ? accepted.data : "";
    static const char *const kinds[] = {"an integer", "a number", "one of", "a list of"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strncmp(limits, kinds[i], strlen(kinds[i])) == 0)
            limits += strlen(kinds[i]);
    limits += strspn(limits, ", ");
    tells = *limits != '\0';
    if (!tells && spec->fallback == NULL)
        goto cleanup;
    TRY_GOTO(text_printf(out, err, " [%s%s%s%s]", limits, tells && spec->fallback != NULL ? "; " : "",
                         spec->fallback != NULL ? "default " : "", spec->fallback != NULL ? spec->fallback : ""));
cleanup:
    text_free(&accepted);
    return status;
}

/* Appends words from column on, broken before WIDTH, continued at indent. */
static cohort_status append_wrapped(const char *words, size_t column, size_t indent, struct text *out,
                                    cohort_error *err)
{
    bool first = true;
    for (const char *at = words; *at != '\0';) {
        size_t n = strcspn(at, " ");
        if (!first && column + 1 + n > WIDTH) {
            TRY(text_printf(out, err, "\n%*s", (int)indent, ""));
            column = indent;
        } else if (!first) {
            TRY(text_append(out, " ", 1, err));
            column++;
        }
        TRY(text_append(out, at, n, err));
        column += n;
        first = false;
        at += n;
        at += strspn(at, " ");
    }
    return text_append(out, "\n", 1, err);
}

static cohort_status append_option(const struct option_spec *spec, struct text *out, cohort_error *err)
{
    struct text flag = {0}, words = {0};
    cohort_status status = COHORT_OK;
    bool on = spec->type == OPTION_BOOL && spec->fallback != NULL && strcmp(spec->fallback, "true") == 0;
    TRY_GOTO(text_printf(&flag, err, "  --%s", on ? "no-" : ""));
    TRY_GOTO(append_dashed(spec->name, &flag, err));
    TRY_GOTO(text_printf(&flag, err, "%s", placeholder(spec)));
    TRY_GOTO(text_printf(&words, err, "%s%s", on ? "turn off: " : "", spec->help));
    if (spec->type != OPTION_BOOL)
        TRY_GOTO(append_limits(spec, &words, err));
    TRY_GOTO(text_append(out, flag.data, flag.length, err));
    if (flag.length + 2 > HELP_COLUMN)
        TRY_GOTO(text_printf(out, err, "\n%*s", HELP_COLUMN, ""));
    else
        TRY_GOTO(text_printf(out, err, "%*s", HELP_COLUMN - (int)flag.length, ""));
    TRY_GOTO(append_wrapped(words.data, HELP_COLUMN, HELP_COLUMN, out, err));
cleanup:
    text_free(&flag);
    text_free(&words);
    return status;
}

cohort_status options_write_help(enum option_command command, struct text *out, cohort_error *err)
{
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    const char *group = "";
    bool lists = false;
    for (unsigned i = 0; options_command_name(i) != NULL; i++)
        if (command == (enum option_command)(1 << i)) {
            TRY(text_printf(out, err, "cohort %s: %s\n\nUsage: cohort %s %s [OPTIONS]\n\n", options_command_name(i),
                            summaries[i], options_command_name(i), usages[i]));
            TRY(append_wrapped(results[i], 0, 0, out, err));
        }
    for (size_t i = 0; i < count; i++) {
        if ((table[i].commands & (unsigned)command) == 0)
            continue;
        if (strcmp(group, table[i].group) != 0) {
            group = table[i].group;
            TRY(text_printf(out, err, "\n%s\n", group));
        }
        TRY(append_option(&table[i], out, err));
        lists = lists || table[i].type == OPTION_LIST;
    }
    if (!lists)
        return COHORT_OK;
    return text_printf(out, err, "\nA list is given with commas; write \\, for a comma within an item.\n");
}

/* A cell of a Markdown table: '|' would end it. */
static cohort_status append_cell(const char *cell, struct text *out, cohort_error *err)
{
    TRY(text_append(out, " ", 1, err));
    for (; *cell != '\0'; cell++) {
        if (*cell == '|' || *cell == '<')
            TRY(text_append(out, "\\", 1, err));
        TRY(text_append(out, cell, 1, err));
    }
    return text_append(out, " |", 2, err);
}

static cohort_status append_row(const struct option_spec *spec, struct text *out, cohort_error *err)
{
    struct text accepted = {0}, commands = {0}, code = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_append(&commands, "", 0, err));
    for (unsigned i = 0; options_command_name(i) != NULL; i++)
        if ((spec->commands & (1u << i)) != 0)
            TRY_GOTO(text_printf(&commands, err, "%s%s", commands.length > 0 ? ", " : "", options_command_name(i)));
    TRY_GOTO(options_describe(spec, &accepted, err));
    TRY_GOTO(text_printf(&code, err, "`%s`", spec->name));
    TRY_GOTO(text_append(out, "|", 1, err));
    TRY_GOTO(append_cell(code.data, out, err));
    TRY_GOTO(append_cell(accepted.data, out, err));
    TRY_GOTO(append_cell(spec->fallback != NULL ? spec->fallback : "unset", out, err));
    TRY_GOTO(append_cell(spec->help, out, err));
    TRY_GOTO(append_cell(commands.data, out, err));
    TRY_GOTO(text_append(out, "\n", 1, err));
cleanup:
    text_free(&accepted);
    text_free(&commands);
    text_free(&code);
    return status;
}

cohort_status options_write_docs(struct text *out, cohort_error *err)
{
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    const char *group = "";
    TRY(text_printf(out, err,
                    "# Options\n\n"
                    "Every option of every command. As a flag a name has dashes (`--learning-rate "
                    "1e-5`), in a\n"
                    "YAML file underscores (`learning_rate: 1e-5`). A switch is turned on by "
                    "`--name` and off by\n"
                    "`--no-name`; in a file it is `true` or `false`. A list is `--stop A,B` (`\\,` "
                    "stands for a\n"
                    "comma within an item) or a YAML sequence, whose items are taken as they are. "
                    "Flags win over\n"
                    "the file; a list of flags takes the place of the file's. An unknown name is "
                    "an error. Numbers and\n"
                    "truth values of a file are read as PyYAML and TRL read them (`1e-6`, "
                    "`1_000`, `0x10`, `yes`, `Off`);\n"
                    "what YAML 1.1 and 1.2 read differently (`010`, `1:30`) is an error.\n"));
    for (size_t i = 0; i < count; i++) {
        if (strcmp(group, table[i].group) != 0) {
            group = table[i].group;
            TRY(text_printf(out, err,
                            "\n## %s\n\n| Option | Accepted | Default | Meaning | Commands |\n"
                            "|---|---|---|---|---|\n",
                            group));
        }
        TRY(append_row(&table[i], out, err));
    }
    return COHORT_OK;
}
