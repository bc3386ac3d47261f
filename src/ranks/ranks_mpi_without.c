/* In place of ranks_mpi.c in a build without MPI. */
#ifndef COHORT_MPI_FOUND
#include "ranks/ranks.h"

cohort_status ranks_open_mpi(struct ranks **out, int32_t wanted, cohort_error *err)
{
    *out = NULL;
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "this process is one of %d ranks, and this build has no MPI: configure with -DCOHORT_MPI=on "
                     "(Debian: libopenmpi-dev)",
                     (int)wanted);
}
#endif
