/* Completion for bash and zsh from the option table: commands, flags, and what comes after a flag: words of choices,
 * folders, files. */
#include "run/options_internal.h"

#include <string.h>

/* A flag as it is typed: --name, or --no-name of a switch that is on. */
static cohort_status append_typed(const struct option_spec *spec, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, "--%s", options_turned_off(spec) ? "no-" : ""));
    return options_append_dashed(spec->name, out, err);
}

static bool takes(const struct option_spec *spec, int command) { return (spec->commands & (1u << command)) != 0; }

static bool is_folder(const struct option_spec *spec)
{
    return spec->type == OPTION_TYPE_STRING && strcmp(options_placeholder(spec), "DIR") == 0;
}

static bool is_file(const struct option_spec *spec)
{
    return spec->type == OPTION_TYPE_STRING && strcmp(options_placeholder(spec), "FILE") == 0;
}

/* ---- bash ---- */

static const char bash_begin[] =
    "# Completion of cohort for bash, made from its option table: source it, or put it where bash-completion looks\n"
    "# (share/bash-completion/completions/cohort).\n"
    "_cohort()\n{\n"
    "    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} flags=\n"
    "    COMPREPLY=()\n"
    "    # --flag=value comes in three words\n"
    "    if [ \"$current\" = = ]; then\n        current=\n    elif [ \"$before\" = = ]; then\n"
    "        before=${COMP_WORDS[COMP_CWORD-2]}\n    fi\n";
static const char bash_end[] =
    "    case $current in\n"
    "    -*) mapfile -t COMPREPLY < <(compgen -W \"$flags --help\" -- \"$current\") ;;\n"
    "    *) mapfile -t COMPREPLY < <(compgen -f -- \"$current\"); compopt -o filenames 2>/dev/null ;;\n"
    "    esac\n}\ncomplete -F _cohort cohort\n";

static cohort_status bash_flags(int command, struct text *out, cohort_error *err)
{
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    TRY(text_printf(out, err, "    %s) flags='", options_command_name((enum command)command)));
    for (size_t i = 0; i < count; i++) {
        if (!takes(&table[i], command))
            continue;
        TRY(append_typed(&table[i], out, err));
        TRY(text_append(out, " ", 1, err));
    }
    return text_printf(out, err, "' ;;\n");
}

/* Rows of one option may differ in what they take: a pattern names command and flag. */
static cohort_status bash_value(const struct option_spec *spec, struct text *out, cohort_error *err)
{
    const bool words = spec->choices != NULL;
    if (!words && !is_folder(spec) && !is_file(spec))
        return COHORT_OK;
    bool first = true;
    TRY(text_printf(out, err, "    "));
    for (int c = 0; c < N_COMMANDS; c++) {
        if (!takes(spec, c))
            continue;
        TRY(text_printf(out, err, "%s'%s --", first ? "" : "|", options_command_name((enum command)c)));
        TRY(options_append_dashed(spec->name, out, err));
        TRY(text_append(out, "'", 1, err));
        first = false;
    }
    if (!words)
        return text_printf(out, err,
                           ") mapfile -t COMPREPLY < <(compgen -%s -- \"$current\"); compopt -o filenames 2>/dev/null; "
                           "return ;;\n",
                           is_folder(spec) ? "d" : "f");
    TRY(text_printf(out, err, ") mapfile -t COMPREPLY < <(compgen -W '"));
    for (size_t i = 0; spec->choices[i] != NULL; i++)
        TRY(text_printf(out, err, "%s%s", i > 0 ? " " : "", spec->choices[i]));
    return text_printf(out, err, "' -- \"$current\"); return ;;\n");
}

cohort_status options_write_bash(struct text *out, cohort_error *err)
{
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    TRY(text_printf(out, err, "%s    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        mapfile -t COMPREPLY < <(compgen -W '",
                    bash_begin));
    for (int c = 0; c < N_COMMANDS; c++)
        TRY(text_printf(out, err, "%s ", options_command_name((enum command)c)));
    TRY(text_printf(out, err,
                    "help --help --version' -- \"$current\")\n        return\n    fi\n    case $command in\n"));
    for (int c = 0; c < N_COMMANDS; c++)
        TRY(bash_flags(c, out, err));
    TRY(text_printf(out, err, "    esac\n    case \"$command $before\" in\n"));
    for (size_t i = 0; i < count; i++)
        TRY(bash_value(&table[i], out, err));
    TRY(text_printf(out, err, "    esac\n"));
    return text_append(out, bash_end, strlen(bash_end), err);
}

/* ---- zsh ---- */

/* Text within single quotes, in a spec of _arguments: brackets and colons are its own. */
static cohort_status append_spec_text(const char *text, struct text *out, cohort_error *err)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            TRY(text_printf(out, err, "'\\''"));
            continue;
        }
        if (strchr("[]:\\", *text) != NULL)
            TRY(text_append(out, "\\", 1, err));
        TRY(text_append(out, text, 1, err));
    }
    return COHORT_OK;
}

static cohort_status zsh_option(const struct option_spec *spec, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, "            '"));
    TRY(append_typed(spec, out, err));
    TRY(text_append(out, "[", 1, err));
    TRY(append_spec_text(spec->help, out, err));
    TRY(text_append(out, "]", 1, err));
    if (spec->type != OPTION_TYPE_BOOL) {
        TRY(text_printf(out, err, ":%s:", options_placeholder(spec)));
        if (spec->choices != NULL) {
            TRY(text_append(out, "(", 1, err));
            for (size_t i = 0; spec->choices[i] != NULL; i++)
                TRY(text_printf(out, err, "%s%s", i > 0 ? " " : "", spec->choices[i]));
            TRY(text_append(out, ")", 1, err));
        } else if (is_folder(spec)) {
            TRY(text_printf(out, err, "_files -/"));
        } else if (is_file(spec)) {
            TRY(text_printf(out, err, "_files"));
        }
    }
    return text_printf(out, err, "' \\\n");
}

cohort_status options_write_zsh(struct text *out, cohort_error *err)
{
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    TRY(text_printf(out, err,
                    "#compdef cohort\n# Completion of cohort for zsh, made from its option table: a file _cohort in a "
                    "folder of $fpath.\n_cohort()\n{\n    local -a commands=(\n"));
    for (int c = 0; c < N_COMMANDS; c++) {
        TRY(text_printf(out, err, "        '%s:", options_command_name((enum command)c)));
        TRY(append_spec_text(options_command_text((enum command)c)->summary, out, err));
        TRY(text_printf(out, err, "'\n"));
    }
    TRY(text_printf(
        out, err,
        "    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n"
        "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $command in\n"));
    for (int c = 0; c < N_COMMANDS; c++) {
        TRY(text_printf(out, err, "    %s)\n        _arguments \\\n", options_command_name((enum command)c)));
        for (size_t i = 0; i < count; i++)
            if (takes(&table[i], c))
                TRY(zsh_option(&table[i], out, err));
        TRY(text_printf(out, err, "            '--help[explain the options]' '*:file:_files' ;;\n"));
    }
    return text_printf(out, err, "    esac\n}\n_cohort \"$@\"\n");
}
