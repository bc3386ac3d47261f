/* cohort: the program. Picks the command, reads its options, runs it. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print_usage(FILE *to)
{
    const int columns = cli_columns(fileno(to));
    fprintf(to,
            "cohort %s: post-train language models with GRPO\n\n"
            "    cohort init --preset nano --tokenizer bytes --out nano\n"
            "    cohort grpo --help\n\n"
            "Usage: cohort COMMAND [--option value ...]\n\n",
            cohort_version());
    for (int i = 0; cohort_command_name((cohort_command)i) != NULL; i++) {
        char line[200];
        snprintf(line, sizeof line, "  %-11s %s", cohort_command_name((cohort_command)i),
                 cohort_command_summary((cohort_command)i));
        cli_print_wrapped(to, line, columns);
    }
    fputc('\n', to);
    cli_print_wrapped(
        to, "'cohort COMMAND --help' explains a command's options. A first run: 'make demo' in the source tree.",
        columns);
    cli_print_wrapped(to, "'cohort --completion bash' (or zsh) prints the completion of a shell.", columns);
}

static int printed(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_OK;
    fprintf(stderr, "cohort: standard output could not be written: %s\n", strerror(errno));
    return EXIT_FAILED;
}

/* What the library wrote, or why it could not. */
static int print_text(cohort_status status, char *text, const cohort_error *err)
{
    if (status != COHORT_OK) {
        fprintf(stderr, "cohort: %s\n", err->message);
        return status == COHORT_ERR_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
    }
    fputs(text, stdout);
    cohort_free(text);
    return printed();
}

static int print_help(cohort_command command)
{
    char *text = NULL;
    cohort_error err = {0};
    const int columns = cli_columns(STDOUT_FILENO);
    const cohort_status status = cohort_help_wide(command, columns > 1 ? columns - 1 : 0, &text, &err);
    return print_text(status, text, &err);
}

/* What is made when the program is built: docs/OPTIONS.md, manual pages, completions. */
static bool print_made(int argc, char **argv, int *code)
{
    char *text = NULL;
    cohort_error err = {0};
    cohort_status status = COHORT_OK;
    const char *what = argv[1], *of = argc > 2 ? argv[2] : NULL;
    if (strcmp(what, "--options-docs") == 0)
        status = cohort_options_docs(&text, &err);
    else if (strcmp(what, "--man") == 0)
        status = cohort_man(of, &text, &err);
    else if (strcmp(what, "--completion") == 0)
        status = cohort_shell_completion(of, &text, &err);
    else
        return false;
    *code = print_text(status, text, &err);
    return true;
}

/* Letters that must be changed, added or left out to make b of a. */
static size_t distance(const char *a, const char *b)
{
    enum { LONGEST = 32 };
    size_t row[LONGEST + 1], n = strlen(a), m = strlen(b);
    if (n > LONGEST || m > LONGEST)
        return LONGEST;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

static const char *nearest_command(const char *name)
{
    size_t best = 3; /* two slips at most */
    const char *nearest = NULL;
    for (int i = 0; cohort_command_name((cohort_command)i) != NULL; i++) {
        const char *candidate = cohort_command_name((cohort_command)i);
        size_t d = distance(name, candidate);
        if (d < best && d < strlen(name)) {
            best = d;
            nearest = candidate;
        }
    }
    return nearest;
}

static int no_command(const char *name)
{
    const char *nearest = nearest_command(name);
    if (nearest != NULL) {
        fprintf(stderr,
                "cohort: there is no command '%.80s'; did you mean '%s'? ('cohort help' lists "
                "them)\n",
                name, nearest);
        return EXIT_USAGE;
    }
    fprintf(stderr, "cohort: there is no command '%.80s'\n\n", name);
    print_usage(stderr);
    return EXIT_USAGE;
}

static bool is_help(const char *argument)
{
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0 || strcmp(argument, "help") == 0;
}

static int exit_code(cohort_status status, const struct cli_terminal *terminal, bool training)
{
    if (terminal->output_failed && !training)
        return EXIT_FAILED;
    switch (status) {
    case COHORT_OK: return terminal->input_failed ? EXIT_FAILED : EXIT_OK; /* of which cli_input has told */
    case COHORT_ERR_CANCELLED: return EXIT_INTERRUPTED;
    case COHORT_ERR_DIVERGED: return EXIT_DIVERGED;
    case COHORT_ERR_ARGUMENT: return EXIT_USAGE; /* an option is missing, or its value cannot be used */
    default: return EXIT_FAILED;
    }
}

static int run(cohort_options *options, bool training)
{
    struct cli_terminal terminal;
    cohort_observer observer;
    cohort_error err = {0};
    cohort_stop *stop = NULL; /* lives as long as the process, whose signal handlers trigger it */
    cohort_ranks *ranks = NULL;
    cohort_status status = cohort_stop_create(&stop, &err);
    if (status == COHORT_OK)
        status = cli_ranks_open(&ranks, &err);
    cli_terminal_begin(&terminal, &observer, stop, training);
    if (status == COHORT_OK)
        status = cohort_options_set_stop(options, stop, &err);
    if (status == COHORT_OK)
        status = cohort_options_set_ranks(options, ranks, &err);
    if (status == COHORT_OK)
        status = cohort_run(options, &observer, &err);
    cli_terminal_end(&terminal);
    if (status != COHORT_OK && cohort_ranks_speaks(ranks) &&
        (training || !(status == COHORT_ERR_CANCELLED && terminal.output_failed))) {
        char line[sizeof err.message + 16];
        snprintf(line, sizeof line, "cohort: %s", err.message);
        cli_print_wrapped(stderr, line, cli_columns(STDERR_FILENO));
    }
    if (terminal.output_failed && !terminal.output_closed)
        fprintf(stderr, "cohort: standard output could not be written\n");
    const int code = exit_code(status, &terminal, training);
    (void)cohort_options_set_ranks(options, NULL, NULL);
    cohort_ranks_close(ranks, code);
    return code;
}

/* Descriptors 0 to 2 that the caller has closed (2>&-, some job schedulers) are filled before anything is opened: a
 * file of ours in their place would get what is printed. They are opened the wrong way round, so that using them fails
 * as it would have: what cannot be printed is told. */
static bool fill_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return false;
    return true;
}

static bool trains(cohort_command command)
{
    switch (command) {
    case COHORT_SFT:
    case COHORT_GRPO:
    case COHORT_DPO:
    case COHORT_KTO:
    case COHORT_ORPO:
    case COHORT_CPO:
    case COHORT_REWARD:
    case COHORT_RLOO:
    case COHORT_DISTILL: return true;
    default: return false;
    }
}

int main(int argc, char **argv)
{
    cohort_command command = COHORT_INFO;
    cohort_options *options = NULL;
    cohort_error err = {0};
    if (!fill_standard_descriptors())
        return EXIT_FAILED; /* and nowhere to say why */
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (is_help(argv[1])) {
        if (argc > 2 && !is_help(argv[2])) /* cohort help grpo */
            return cohort_command_find(argv[2], &command) ? print_help(command) : no_command(argv[2]);
        print_usage(stdout);
        return printed();
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("cohort %s\n", cohort_version());
        return printed();
    }
    int made = EXIT_OK;
    if (print_made(argc, argv, &made))
        return made;
    if (!cohort_command_find(argv[1], &command))
        return no_command(argv[1]);
    if (argc == 3 && is_help(argv[2])) /* cohort grpo help */
        return print_help(command);
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return print_help(command);
    if (cohort_options_create(&options, command, &err) != COHORT_OK) {
        fprintf(stderr, "cohort: %s\n", err.message);
        return EXIT_FAILED;
    }
    int code = EXIT_USAGE;
    if (cli_parse(options, cohort_options_bare(options), argc - 2, argv + 2) &&
        !(command == COHORT_WATCH && cli_watch(options, &code)))
        code = run(options, trains(command));
    cohort_options_destroy(options);
    return code;
}
