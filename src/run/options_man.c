/* Manual pages from the option table, one a command and one of the program, as git has them: a page of all options of all
 * commands would be too long to find anything in. */
#include "run/options_internal.h"

#include <string.h>

/* A line of text: what roff would take for a request, an escape or a hyphen is written so that it is none. */
static cohort_status append_roff(const char *text, struct text *out, cohort_error *err)
{
    if (*text == '.' || *text == '\'')
        TRY(text_append(out, "\\&", 2, err));
    for (; *text != '\0'; text++) {
        if (*text == '\\')
            TRY(text_append(out, "\\e", 2, err));
        else if (*text == '-')
            TRY(text_append(out, "\\-", 2, err));
        else
            TRY(text_append(out, text, 1, err));
    }
    return COHORT_OK;
}

static cohort_status line(const char *before, const char *text, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, "%s", before));
    TRY(append_roff(text, out, err));
    return text_append(out, "\n", 1, err);
}

static cohort_status append_examples(const struct command_text *command, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, ".EX\n"));
    for (size_t i = 0; i < 2; i++)
        TRY(line("", command->examples[i], out, err));
    return text_printf(out, err, ".EE\n");
}

static cohort_status append_option(const struct option_spec *spec, struct text *out, cohort_error *err)
{
    struct text flag = {0}, meaning = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(options_append_flag(spec, &flag, err));
    TRY_GOTO(options_append_meaning(spec, &meaning, err));
    TRY_GOTO(text_printf(out, err, ".TP\n\\fB"));
    TRY_GOTO(append_roff(flag.data, out, err));
    TRY_GOTO(text_printf(out, err, "\\fR\n"));
    TRY_GOTO(line("", meaning.data, out, err));
cleanup:
    text_free(&flag);
    text_free(&meaning);
    return status;
}

static const char exits[] =
    ".SH EXIT STATUS\n"
    ".TP\n\\fB0\\fR\nDone.\n"
    ".TP\n\\fB1\\fR\nIt failed; standard error says why. A run that trains has saved what can be resumed.\n"
    ".TP\n\\fB2\\fR\nAn option is wrong or missing.\n"
    ".TP\n\\fB3\\fR\nThe run will not recover, and \\fB\\-\\-stop\\-on diverged\\fR ended it.\n"
    ".TP\n\\fB130\\fR\nStopped on request; a run that trains has saved a checkpoint.\n";

static cohort_status write_command(enum command which, struct text *out, cohort_error *err)
{
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    const struct command_text *command = options_command_text(which);
    const char *group = "";
    struct text upper = {0};
    cohort_status status = COHORT_OK;
    for (const char *at = command->name; *at != '\0'; at++) {
        const char letter = *at >= 'a' && *at <= 'z' ? (char)(*at - 'a' + 'A') : *at;
        TRY_GOTO(text_append(&upper, &letter, 1, err));
    }
    TRY_GOTO(text_printf(out, err, ".TH COHORT\\-%s 1 \"\" \"cohort " COHORT_VERSION "\" \"cohort\"\n.SH NAME\n",
                         upper.data));
    TRY_GOTO(text_printf(out, err, "cohort\\-%s \\- ", command->name));
    TRY_GOTO(line("", command->title, out, err));
    TRY_GOTO(text_printf(out, err, ".SH SYNOPSIS\n\\fBcohort %s\\fR ", command->name));
    TRY_GOTO(append_roff(command->usage, out, err));
    TRY_GOTO(text_printf(out, err, " [OPTIONS]\n.SH EXAMPLES\n"));
    TRY_GOTO(append_examples(command, out, err));
    TRY_GOTO(line(".SH DESCRIPTION\n", command->result, out, err));
    TRY_GOTO(text_printf(out, err,
                         ".PP\nAs a flag a name has dashes, in a YAML file underscores. A list is given with commas; "
                         "\\e, is a comma within an item.\n.SH OPTIONS\n"));
    for (size_t i = 0; i < count; i++) {
        if ((table[i].commands & (1u << which)) == 0)
            continue;
        if (strcmp(group, table[i].group) != 0) {
            group = table[i].group;
            TRY_GOTO(line(".SS ", group, out, err));
        }
        TRY_GOTO(append_option(&table[i], out, err));
    }
    TRY_GOTO(text_printf(out, err, "%s.SH SEE ALSO\n\\fBcohort\\fR(1)\n", exits));
cleanup:
    text_free(&upper);
    return status;
}

static cohort_status write_program(struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err,
                    ".TH COHORT 1 \"\" \"cohort " COHORT_VERSION "\" \"cohort\"\n.SH NAME\n"
                    "cohort \\- post\\-train language models with GRPO\n.SH SYNOPSIS\n"
                    "\\fBcohort\\fR COMMAND [OPTIONS]\n.SH EXAMPLES\n"));
    TRY(append_examples(options_command_text(COMMAND_GRPO), out, err));
    TRY(text_printf(out, err,
                    ".SH DESCRIPTION\nEach command has a page of its own, \\fBcohort\\-COMMAND\\fR(1), and a "
                    "\\fB\\-\\-help\\fR. \\fBcohort \\-\\-completion bash\\fR (or zsh) prints the completion of the "
                    "shell.\n.SH COMMANDS\n"));
    for (int i = 0; i < N_COMMANDS; i++) {
        const struct command_text *command = options_command_text((enum command)i);
        TRY(text_printf(out, err, ".TP\n\\fB%s\\fR\n", command->name));
        TRY(line("", command->summary, out, err));
    }
    TRY(text_printf(out, err, "%s.SH SEE ALSO\n", exits));
    for (int i = 0; i < N_COMMANDS; i++)
        TRY(text_printf(out, err, "\\fBcohort\\-%s\\fR(1)%s\n", options_command_text((enum command)i)->name,
                        i + 1 < N_COMMANDS ? "," : ""));
    return COHORT_OK;
}

cohort_status options_write_man(unsigned command, struct text *out, cohort_error *err)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (command == 1u << i)
            return write_command((enum command)i, out, err);
    return write_program(out, err);
}
