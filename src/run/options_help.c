/* --help of a command and the reference page, from the table. */
#include "run/options_internal.h"

#include <string.h>

enum { WIDTH = 100, HELP_COLUMN = 32, NARROW = 80, NARROW_COLUMN = 6, LEAST_WIDTH = 20 };

static const struct command_text commands[] = {
#define COMMAND(id, name_, ranks, summary_, title_, usage_, result_, ...)                                              \
    {.name = #name_,                                                                                                   \
     .summary = summary_,                                                                                              \
     .title = title_,                                                                                                  \
     .usage = usage_,                                                                                                  \
     .result = result_,                                                                                                \
     .examples = {__VA_ARGS__}},
    COMMAND_LIST(COMMAND)
#undef COMMAND
};

const struct command_text *options_command_text(enum command command) { return &commands[command]; }

const char *options_placeholder(const struct option_spec *spec)
{
    switch (spec->type) {
    case OPTION_TYPE_BOOL: return "";
    case OPTION_TYPE_INT: return "N";
    case OPTION_TYPE_FLOAT: return "X";
    case OPTION_TYPE_ENUM: return "NAME";
    case OPTION_TYPE_LIST: return "A,B,...";
    case OPTION_TYPE_STRING: break;
    }
    return spec->placeholder;
}

cohort_status options_append_dashed(const char *name, struct text *out, cohort_error *err)
{
    for (; *name != '\0'; name++)
        TRY(text_append(out, *name == '_' ? "-" : name, 1, err));
    return COHORT_OK;
}

/* " (also --max-tokens)" */
static cohort_status append_aliases(const struct option_spec *spec, struct text *out, cohort_error *err)
{
    size_t count = 0;
    const struct option_alias *aliases = options_aliases(&count);
    for (size_t i = 0; i < count; i++) {
        if (aliases[i].id != spec->id)
            continue;
        TRY(text_printf(out, err, aliases[i].name[1] == '\0' ? " (also -" : " (also --"));
        TRY(options_append_dashed(aliases[i].name, out, err));
        TRY(text_printf(out, err, ")"));
    }
    return COHORT_OK;
}

/* " [from 1 to 8; default 2]": accepted values where they say more than the type does,
 * and the default. */
static cohort_status append_limits(const struct option_spec *spec, struct text *out, cohort_error *err)
{
    struct text accepted = {0};
    cohort_status status = COHORT_OK;
    bool tells = spec->type == OPTION_TYPE_INT || spec->type == OPTION_TYPE_FLOAT || spec->type == OPTION_TYPE_ENUM ||
                 (spec->type == OPTION_TYPE_LIST && (spec->choices != NULL || spec->biases || spec->pairs));
    if (tells)
        TRY_GOTO(options_describe(spec, &accepted, err));
    /* N, X and NAME after the flag already tell the type. */
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

cohort_status options_append_meaning(const struct option_spec *spec, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, "%s%s", options_turned_off(spec) ? "turn off: " : "", spec->help));
    TRY(append_aliases(spec, out, err));
    return spec->type == OPTION_TYPE_BOOL ? COHORT_OK : append_limits(spec, out, err);
}

bool options_turned_off(const struct option_spec *spec)
{
    return spec->type == OPTION_TYPE_BOOL && spec->fallback != NULL && strcmp(spec->fallback, "true") == 0;
}

/* Appends words from column on, broken before width, continued at indent. behind stands at the end of a broken line. */
static cohort_status append_words(const char *words, size_t column, size_t indent, size_t width, const char *behind,
                                  struct text *out, cohort_error *err)
{
    bool first = true;
    for (const char *at = words; *at != '\0';) {
        size_t n = strcspn(at, " ");
        const bool last = at[n] == '\0';
        if (!first && column + 1 + n + (last ? 0 : strlen(behind)) > width) {
            TRY(text_printf(out, err, "%s\n%*s", behind, (int)indent, ""));
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

cohort_status options_append_flag(const struct option_spec *spec, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, "--%s", options_turned_off(spec) ? "no-" : ""));
    TRY(options_append_dashed(spec->name, out, err));
    if (spec->type == OPTION_TYPE_BOOL)
        return COHORT_OK;
    return text_printf(out, err, spec->alone != NULL ? " [%s]" : " %s", options_placeholder(spec));
}

static cohort_status append_option(const struct option_spec *spec, size_t width, struct text *out, cohort_error *err)
{
    struct text flag = {0}, words = {0};
    const size_t column = width >= NARROW ? HELP_COLUMN : NARROW_COLUMN;
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_printf(&flag, err, "  "));
    TRY_GOTO(options_append_flag(spec, &flag, err));
    TRY_GOTO(options_append_meaning(spec, &words, err));
    TRY_GOTO(text_append(out, flag.data, flag.length, err));
    if (flag.length + 2 > column)
        TRY_GOTO(text_printf(out, err, "\n%*s", (int)column, ""));
    else
        TRY_GOTO(text_printf(out, err, "%*s", (int)(column - flag.length), ""));
    TRY_GOTO(append_words(words.data, column, column, width, "", out, err));
cleanup:
    text_free(&flag);
    text_free(&words);
    return status;
}

/* What --help begins with: what the command is for, two lines to copy, how it is called. */
static cohort_status append_beginning(const struct command_text *command, size_t width, struct text *out,
                                      cohort_error *err)
{
    struct text line = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_printf(&line, err, "cohort %s: %s", command->name, command->title));
    TRY_GOTO(append_words(line.data, 0, 4, width, "", out, err));
    TRY_GOTO(text_append(out, "\n", 1, err));
    for (size_t i = 0; i < 2; i++) {
        TRY_GOTO(text_append(out, "    ", 4, err));
        TRY_GOTO(append_words(command->examples[i], 4, 8, width, " \\", out, err));
    }
    line.length = 0;
    TRY_GOTO(text_printf(&line, err, "Usage: cohort %s %s [OPTIONS]", command->name, command->usage));
    TRY_GOTO(text_append(out, "\n", 1, err));
    TRY_GOTO(append_words(line.data, 0, 7, width, "", out, err));
    TRY_GOTO(text_append(out, "\n", 1, err));
    TRY_GOTO(append_words(command->result, 0, 0, width, "", out, err));
cleanup:
    text_free(&line);
    return status;
}

cohort_status options_write_help(enum option_command command, int columns, struct text *out, cohort_error *err)
{
    const size_t width = columns <= 0 || columns > WIDTH ? WIDTH
                         : columns < LEAST_WIDTH         ? LEAST_WIDTH
                                                         : (size_t)columns;
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    const char *group = "";
    bool lists = false;
    for (int i = 0; i < N_COMMANDS; i++)
        if (command == (enum option_command)(1 << i))
            TRY(append_beginning(&commands[i], width, out, err));
    for (size_t i = 0; i < count; i++) {
        if ((table[i].commands & (unsigned)command) == 0)
            continue;
        if (strcmp(group, table[i].group) != 0) {
            group = table[i].group;
            TRY(text_printf(out, err, "\n%s\n", group));
        }
        TRY(append_option(&table[i], width, out, err));
        lists = lists || table[i].type == OPTION_TYPE_LIST;
    }
    if (!lists)
        return COHORT_OK;
    TRY(text_append(out, "\n", 1, err));
    return append_words("A list is given with commas; write \\, for a comma within an item.", 0, 0, width, "", out,
                        err);
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
    struct text accepted = {0}, owners = {0}, code = {0}, help = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_append(&owners, "", 0, err));
    for (int i = 0; i < N_COMMANDS; i++)
        if ((spec->commands & (1u << i)) != 0)
            TRY_GOTO(text_printf(&owners, err, "%s%s", owners.length > 0 ? ", " : "",
                                 options_command_name((enum command)i)));
    TRY_GOTO(options_describe(spec, &accepted, err));
    TRY_GOTO(text_printf(&code, err, "`%s`", spec->name));
    TRY_GOTO(text_printf(&help, err, "%s", spec->help));
    TRY_GOTO(append_aliases(spec, &help, err));
    TRY_GOTO(text_append(out, "|", 1, err));
    TRY_GOTO(append_cell(code.data, out, err));
    TRY_GOTO(append_cell(accepted.data, out, err));
    TRY_GOTO(append_cell(spec->fallback != NULL ? spec->fallback : "unset", out, err));
    TRY_GOTO(append_cell(help.data, out, err));
    TRY_GOTO(append_cell(owners.data, out, err));
    TRY_GOTO(text_append(out, "\n", 1, err));
cleanup:
    text_free(&accepted);
    text_free(&owners);
    text_free(&code);
    text_free(&help);
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
