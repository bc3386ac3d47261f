/* In place of the view, in a build without ncursesw. */
#include "cli.h"

#include <stdio.h>
#include <unistd.h>

bool cli_watch(const cohort_options *options, int *code)
{
    (void)options;
    (void)code;
    if (isatty(STDOUT_FILENO) == 1)
        fprintf(stderr,
                "cohort: this build has no terminal view (it was made without ncursesw, which scripts/install-deps "
                "installs); lines in its place\n");
    return false;
}
