/* The ranks of a job, as who started the processes says it in the environment: Open MPI's mpirun, srun, torchrun. */
#include "cli.h"

#include <stdlib.h>

/* A count that a launcher has set; 0: it has not. */
static long count_in(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    const long value = text == NULL ? 0 : strtol(text, &end, 10);
    return text == NULL || end == text || *end != '\0' || value < 0 || value > 1 << 20 ? 0 : value;
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
    if (mpi == 0 && torch > 1 && getenv("RANK") != NULL)
        return cohort_ranks_open(out, (int32_t)torch, err);
    return COHORT_OK;
}
