/* The ranks of a job, as who started the processes says it in the environment: Open MPI's mpirun, srun, torchrun. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A count that a launcher has set; 0: it has not. */
static long count_in(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    const long value = text == NULL ? 0 : strtol(text, &end, 10);
    return text == NULL || end == text || *end != '\0' || value < 0 || value > 1 << 20 ? 0 : value;
}

/* torchrun's variables, which scripts set by hand too: no MPI is there. */
static cohort_status join_by_variables(cohort_ranks **out, long count, cohort_error *err)
{
    static const char *const names[] = {"LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]) == NULL) {
            err->status = COHORT_ERR_ARGUMENT;
            snprintf(err->message, sizeof err->message,
                     "WORLD_SIZE says that this process is one of %ld ranks, and %s is not set (docs/RANKS.md)", count,
                     names[i]);
            return COHORT_ERR_ARGUMENT;
        }
    /* torchrun may listen at the port itself, for which it says so: then the next one is ours. */
    const char *taken = getenv("TORCHELASTIC_USE_AGENT_STORE");
    const long port = count_in("MASTER_PORT") + (taken != NULL && strcmp(taken, "True") == 0 ? 1 : 0);
    return cohort_ranks_join(out, (int32_t)count_in("RANK"), (int32_t)count, (int32_t)count_in("LOCAL_RANK"),
                             getenv("MASTER_ADDR"), (int32_t)port, err);
}

cohort_status cli_ranks_open(cohort_ranks **out, cohort_error *err)
{
    /* SLURM_NTASKS is there in a batch script too, which is no task of a step. */
    const bool step = getenv("SLURM_STEP_ID") != NULL && getenv("SLURM_PROCID") != NULL;
    const long mpi = count_in("OMPI_COMM_WORLD_SIZE"), slurm = step ? count_in("SLURM_NTASKS") : 0,
               torch = count_in("WORLD_SIZE");
    *out = NULL;
    if (mpi > 1)
        return cohort_ranks_open(out, (int32_t)mpi, err);
    if (mpi == 0 && slurm > 1)
        return cohort_ranks_open(out, (int32_t)slurm, err);
    if (mpi == 0 && slurm <= 1 && torch > 1 && getenv("RANK") != NULL)
        return join_by_variables(out, torch, err);
    return COHORT_OK;
}
