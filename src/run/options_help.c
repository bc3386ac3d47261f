/* --help of a command and the reference page, from the table. */
#include "run/options_internal.h"

#include <string.h>

enum { WIDTH = 100, HELP_COLUMN = 32 };

static const struct {
    const char *title, *usage, *result;
} commands[] = {
#define COMMAND(id, name, summary, title_, usage_, result_) {.title = title_, .usage = usage_, .result = result_},
    COMMAND_LIST(COMMAND)
#undef COMMAND
};

/* What is shown after the flag. */
static const char *placeholder(const struct option_spec *spec)
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

static cohort_status append_dashed(const char *name, struct text *out, cohort_error *err)
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
        TRY(text_printf(out, err, " (also --"));
        TRY(append_dashed(aliases[i].name, out, err));
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
    bool on = spec->type == OPTION_TYPE_BOOL && spec->fallback != NULL && strcmp(spec->fallback, "true") == 0;
    TRY_GOTO(text_printf(&flag, err, "  --%s", on ? "no-" : ""));
    TRY_GOTO(append_dashed(spec->name, &flag, err));
    if (spec->type != OPTION_TYPE_BOOL)
        TRY_GOTO(text_printf(&flag, err, spec->alone != NULL ? " [%s]" : " %s", placeholder(spec)));
    TRY_GOTO(text_printf(&words, err, "%s%s", on ? "turn off: " : "", spec->help));
    TRY_GOTO(append_aliases(spec, &words, err));
    if (spec->type != OPTION_TYPE_BOOL)
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
    for (int i = 0; i < N_COMMANDS; i++)
        if (command == (enum option_command)(1 << i)) {
            const char *name = options_command_name((enum command)i);
            TRY(text_printf(out, err, "cohort %s: %s\n\nUsage: cohort %s %s [OPTIONS]\n\n", name, commands[i].title,
                            name, commands[i].usage));
            TRY(append_wrapped(commands[i].result, 0, 0, out, err));
        }
    for (size_t i = 0; i < count; i++) {
        if ((table[i].commands & (unsigned)command) == 0)
            continue;
        if (strcmp(group, table[i].group) != 0) {
            group = table[i].group;
            TRY(text_printf(out, err, "\n%s\n", group));
        }
        TRY(append_option(&table[i], out, err));
        lists = lists || table[i].type == OPTION_TYPE_LIST;
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
