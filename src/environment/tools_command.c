/* Functions in Python that a model calls: the interpreter, and the worker's text, which is built in. */
#include "environment/environment.h"

#include "base/child.h"

#include <string.h>

/* src/environment/tools_worker.py, with a NUL behind it. */
static const char worker_text[] = {
#include "environment/tools_worker.inc"
};

cohort_status environment_python(char *arguments[ENVIRONMENT_ARGUMENTS], char *owned[2], const char *option,
                                 const char *spec, bool class, const char *python, cohort_error *err)
{
    static const char start[] = "python:";
    const char *file = spec + strlen(start), *end = strrchr(spec, ':');
    _Static_assert((int)ENVIRONMENT_ARGUMENTS == (int)CHILD_PYTHON_ARGUMENTS, "arguments of an interpreter");
    const bool given = strncmp(spec, start, strlen(start)) == 0 && *file != '\0';
    const bool names = given && end >= file && strchr(end, '/') == NULL;
    struct text text = {0};
    if (!given || (class && !names) || (names && (end == file || end[1] == '\0')))
        return error_set(err, COHORT_ERR_ARGUMENT, "--%s %.200s: expected %s", option, spec,
                         class ? "exec:PROGRAM or python:FILE.py:CLASS"
                               : "python:FILE.py, all its functions, or python:FILE.py:NAME,NAME");
    TRY(mem_strdup(&owned[0], file, names ? (size_t)(end - file) : strlen(file), err));
    TRY(text_printf(&text, err, "%s%s", class ? "class:" : "", names ? end + 1 : ""));
    owned[1] = text.data;
    child_python(arguments, python, worker_text, owned[0], owned[1]);
    return COHORT_OK;
}
