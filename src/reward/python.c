/* python:FILE:FUNCTION as a command: which interpreter, and the worker's text, which is built in. */
#include "base/child.h"
#include "reward/reward_internal.h"

#include <string.h>

/* src/reward/python_worker.py, with a NUL behind it. */
static const char worker_text[] = {
#include "reward/python_worker.inc"
};

cohort_status reward_python_command(struct reward_command *command, const char *spec, const char *python, char **name,
                                    cohort_error *err)
{
    const char *file = spec + strlen("python:"), *function = strrchr(file, ':');
    if (function == NULL || function == file || function[1] == '\0' || strchr(function, '/') != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward '%.200s' names no function; write python:FILE.py:FUNCTION, for example "
                         "python:rewards.py:accuracy_reward",
                         spec);
    TRY(mem_strdup(name, function + 1, strlen(function + 1), err));
    TRY(mem_strdup(&command->owned[0], file, (size_t)(function - file), err));
    TRY(mem_strdup(&command->owned[1], function + 1, strlen(function + 1), err));
    child_python(command->arguments, python, worker_text, command->owned[0], command->owned[1]);
    command->form = REWARD_PYTHON;
    command->label = spec;
    return COHORT_OK;
}

void reward_command_free(struct reward_command *command)
{
    for (size_t i = 0; i < sizeof command->owned / sizeof command->owned[0]; i++)
        mem_free(command->owned[i]);
}
