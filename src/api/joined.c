/* Ranks as the public header has them. */
#include "api/handles.h"

struct cohort_ranks {
    struct ranks *inner;
};

cohort_status cohort_ranks_open(cohort_ranks **out, int32_t count, cohort_error *err)
{
    if (out == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_ranks_open: out must not be NULL");
    *out = NULL;
    if (count < 1)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_ranks_open: count is %d; expected 1 or more", (int)count);
    struct cohort_ranks *ranks = NULL;
    TRY(mem_alloc(&ranks, 1, sizeof *ranks, "ranks", err));
    const cohort_status status = ranks_open_mpi(&ranks->inner, count, err);
    if (status != COHORT_OK)
        mem_free(ranks);
    else
        *out = ranks;
    return status;
}

bool cohort_ranks_speaks(const cohort_ranks *ranks) { return ranks == NULL || ranks_speaks(ranks->inner); }

void cohort_ranks_close(cohort_ranks *ranks, int exit_code)
{
    if (ranks == NULL)
        return;
    ranks_close(ranks->inner, exit_code);
    mem_free(ranks);
}

cohort_status cohort_options_set_ranks(cohort_options *options, cohort_ranks *ranks, cohort_error *err)
{
    if (options == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_options_set_ranks: options must not be NULL");
    TRY(options_check_free(options, "cohort_options_set_ranks", err));
    options_set_ranks(options->options, ranks == NULL ? NULL : ranks->inner);
    return COHORT_OK;
}

cohort_status ranks_allowed(const cohort_options *options, cohort_error *err)
{
    const struct ranks *ranks = options_ranks(options->options);
    if (ranks_count(ranks) == 1 || options->command == COHORT_SFT || options->command == COHORT_GRPO ||
        options->command == COHORT_RLOO)
        return COHORT_OK;
    return error_set(
        err, COHORT_ERR_UNSUPPORTED,
        "cohort %s runs as one process: start it without mpirun or srun (sft, grpo and rloo share their work "
        "among ranks)",
        cohort_command_name(options->command));
}
