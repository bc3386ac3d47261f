/* cohort: the program. Picks the command, reads its options, runs it. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

static void print_usage(FILE *to)
{
    fprintf(to, "cohort %s: post-train language models with GRPO\n\nusage: cohort COMMAND [--option value ...]\n\n", cohort_version());
    for (int i = 0; cohort_command_name((cohort_command)i) != NULL; i++)
        fprintf(to, "  %-10s %s\n", cohort_command_name((cohort_command)i), cohort_command_summary((cohort_command)i));
    fprintf(to, "\n'cohort COMMAND --help' explains a command's options. A first run: 'make demo' in the source tree.\n");
}

static int print_help(cohort_command command)
{
    char *text = NULL;
    cohort_error err = {0};
    if (cohort_help(command, &text, &err) != COHORT_OK) {
        fprintf(stderr, "cohort: %s\n", err.message);
        return EXIT_FAILED;
    }
    fputs(text, stdout);
    cohort_free(text);
    return EXIT_OK;
}

static int print_docs(void)
{
    char *text = NULL;
    cohort_error err = {0};
    if (cohort_options_docs(&text, &err) != COHORT_OK) {
        fprintf(stderr, "cohort: %s\n", err.message);
        return EXIT_FAILED;
    }
    fputs(text, stdout);
    cohort_free(text);
    return EXIT_OK;
}

static int run(cohort_options *options)
{
    struct cli_terminal terminal;
    cohort_observer observer;
    cohort_error err = {0};
    cli_terminal_begin(&terminal, &observer);
    cohort_status status = cohort_run(options, &observer, &err);
    cli_terminal_end(&terminal);
    if (status != COHORT_OK)
        fprintf(stderr, "cohort: %s\n", err.message);
    if (terminal.output_failed)
        fprintf(stderr, "cohort: standard output could not be written\n");
    return status == COHORT_ERR_CANCELLED ? EXIT_INTERRUPTED : status == COHORT_OK && !terminal.output_failed ? EXIT_OK : EXIT_FAILED;
}

int main(int argc, char **argv)
{
    cohort_command command = COHORT_INFO;
    cohort_options *options = NULL;
    cohort_error err = {0};
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("cohort %s\n", cohort_version());
        return EXIT_OK;
    }
    if (strcmp(argv[1], "--options-docs") == 0) /* makes docs/OPTIONS.md */
        return print_docs();
    if (!cohort_command_find(argv[1], &command)) {
        fprintf(stderr, "cohort: there is no command '%s'\n\n", argv[1]);
        print_usage(stderr);
        return EXIT_USAGE;
    }
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return print_help(command);
    if (cohort_options_create(&options, command, &err) != COHORT_OK) {
        fprintf(stderr, "cohort: %s\n", err.message);
        return EXIT_FAILED;
    }
    int code = cli_parse(options, argc - 2, argv + 2) ? run(options) : EXIT_USAGE;
    cohort_options_destroy(options);
    return code;
}
