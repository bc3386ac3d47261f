/* Ranks as the public header has them. */
#include "api/handles.h"

#include <stdio.h>

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

cohort_status cohort_ranks_join(cohort_ranks **out, int32_t rank, int32_t count, int32_t gpu, const char *host,
                                int32_t port, cohort_error *err)
{
    if (out == NULL || host == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_ranks_join: out and host must not be NULL");
    *out = NULL;
    if (count < 2 || rank < 0 || rank >= count || gpu < 0 || port < 1 || port > 65535)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "cohort_ranks_join: rank %d of %d, GPU %d, port %d; expected a rank from 0 to below the "
                         "number of ranks, 2 or more of these, a GPU from 0 on and a port from 1 to 65535",
                         (int)rank, (int)count, (int)gpu, (int)port);
    const struct ranks_place place = {.rank = rank, .count = count, .gpu = gpu, .port = port, .host = host};
    struct cohort_ranks *ranks = NULL;
    TRY(mem_alloc(&ranks, 1, sizeof *ranks, "ranks", err));
    const cohort_status status = ranks_open_line(&ranks->inner, &place, err);
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

/* Which commands several ranks share, by command_list.h. */
static const bool shared[] = {
#define COMMAND(id, name, ranks, ...) [COHORT_##id] = (ranks),
    COMMAND_LIST(COMMAND)
#undef COMMAND
};

cohort_status ranks_allowed(const cohort_options *options, cohort_error *err)
{
    char names[200];
    size_t length = 0;
    if (ranks_count(options_ranks(options->options)) == 1 || shared[options->command])
        return COHORT_OK;
    for (size_t c = 0; c < sizeof shared / sizeof *shared && length < sizeof names; c++)
        if (shared[c])
            length += (size_t)snprintf(names + length, sizeof names - length, "%s%s", length == 0 ? "" : ", ",
                                       cohort_command_name((cohort_command)c));
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "cohort %s runs as one process: start it without mpirun or srun (several ranks share %s)",
                     cohort_command_name(options->command), names);
}
