/* What crosses between GPUs in a step of training, and how fast, beside one plain exchange of as many bytes in the same run:
 *
 *     RANK=0 LOCAL_RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 bench_exchange PRESET [RUNS]
 *
 * on every rank. The gradient of a whole model is summed in as many lanes as ranks (train/lanes.h), its values are gathered (param_shard.h). Rank
 * 0 prints a JSON line for each: the median time, the bytes that a rank sends, and the rate of the plain exchange, in which
 * every rank sends that many to the next one in one message. */
#include "backend/ops.h"
#include "base/clock.h"
#include "base/number.h"
#include "format/model_preset.h"
#include "model/model.h"
#include "model/param_shard.h"
#include "ranks/ranks.h"
#include "train/lanes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RUNS = 101 };

struct job {
    struct ranks *ranks;
    struct backend *backend;
    struct model *model;
    char *plain; /* [2, plain_bytes] out and in */
    size_t plain_bytes;
    int runs;
};

typedef cohort_status measured(struct job *job, cohort_error *err);

static cohort_status reduce(struct job *job, cohort_error *err)
{
    struct param_set *set = job->model->trained;
    struct lanes lanes;
    cohort_status status = COHORT_OK;
    lanes_begin(&lanes, set, job->ranks->count, true);
    for (int32_t m = 0; status == COHORT_OK && m < job->ranks->count; m++)
        status = lanes_count(&lanes, m, err);
    lanes_free(&lanes);
    return status;
}

static cohort_status gather(struct job *job, cohort_error *err)
{
    return param_shard_gather_values(job->model->trained, err);
}

static cohort_status exchange(struct job *job, cohort_error *err)
{
    const int32_t count = job->ranks->count, rank = job->ranks->rank;
    const struct ranks_message out = {(rank + 1) % count, job->plain, job->plain_bytes},
                               in = {(rank + count - 1) % count, job->plain + job->plain_bytes, job->plain_bytes};
    return param_shard_exchange(job->model->trained, &out, 1, &in, 1, err);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The median of the times, in seconds, each from when all are there until this rank has done its part. */
static cohort_status take_time(struct job *job, measured *what, double *seconds, cohort_error *err)
{
    double times[MOST_RUNS];
    for (int i = -2; i < job->runs; i++) { /* two that set up connections */
        TRY(ranks_barrier(job->ranks, err));
        const double begin = clock_seconds();
        TRY(what(job, err));
        job->backend->ops->wait(job->backend);
        TRY(ranks_barrier(job->ranks, err));
        if (i >= 0)
            times[i] = clock_seconds() - begin;
    }
    qsort(times, (size_t)job->runs, sizeof *times, by_value);
    *seconds = times[job->runs / 2];
    return COHORT_OK;
}

static cohort_status measure(struct job *job, const char *name, measured *what, size_t bytes, cohort_error *err)
{
    double ours = 0.0, plain = 0.0;
    job->plain_bytes = bytes;
    TRY(take_time(job, what, &ours, err));
    TRY(take_time(job, exchange, &plain, err));
    if (job->ranks->rank == 0)
        printf("{\"what\": \"%s\", \"ranks\": %d, \"bytes\": %zu, \"ms\": %.3f, \"gb_per_second\": %.2f, "
               "\"plain_gb_per_second\": %.2f, \"share\": %.3f}\n",
               name, (int)job->ranks->count, bytes, ours * 1e3, (double)bytes / ours / 1e9, (double)bytes / plain / 1e9,
               plain / ours);
    return COHORT_OK;
}

static int64_t number_of(const char *name)
{
    const char *text = getenv(name);
    int64_t value = -1;
    return text != NULL && number_read_integer(text, strlen(text), &value) ? value : -1;
}

static cohort_status open_job(struct job *job, int preset, cohort_error *err)
{
    const struct ranks_place place = {.rank = (int32_t)number_of("RANK"),
                                      .count = (int32_t)number_of("WORLD_SIZE"),
                                      .gpu = (int32_t)number_of("LOCAL_RANK"),
                                      .port = (int32_t)number_of("MASTER_PORT"),
                                      .host = getenv("MASTER_ADDR")};
    struct model_config config;
    if (place.rank < 0 || place.count < 2 || place.gpu < 0 || place.port < 1 || place.host == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT describe two ranks or more");
    TRY(ranks_open_line(&job->ranks, &place, err));
    ranks_set_timeout(job->ranks, 60.0);
    TRY(backend_cuda_create(&job->backend, place.gpu, err));
    TRY(ranks_open_device(job->ranks, job->backend->gpu, NULL, err));
    TRY(model_config_preset(&config, NULL, (enum model_preset)preset, 0, err));
    TRY(model_open(&job->model, job->backend, &config, DTYPE_BF16, 0, err));
    struct param_share share = {.ranks = job->ranks,
                                .rank = place.rank,
                                .count = place.count,
                                .lanes = 1,
                                .overlaps = ranks_device(job->ranks)};
    while (share.lanes < share.count)
        share.lanes *= 2;
    lanes_plan(&share);
    param_set_share(job->model->trained, &share);
    TRY(param_set_allocate(job->model->trained, err));
    return param_set_train_begin(job->model->trained, DTYPE_BF16, err);
}

static cohort_status run(struct job *job, int preset, cohort_error *err)
{
    TRY(open_job(job, preset, err));
    const struct param_set *set = job->model->trained;
    const size_t others = (size_t)job->ranks->count - 1, count = (size_t)job->ranks->count;
    const size_t gradient = (size_t)set->training.n_elements * sizeof(float) / count * others;
    TRY(job->backend->ops->alloc(job->backend, &job->plain, 2 * gradient, "messages", err));
    TRY(measure(job, "sum of the gradient", reduce, gradient, err));
    return measure(job, "gathering of values", gather, set->table.bytes / count * others, err);
}

int main(int argc, char **argv)
{
    struct job job = {.runs = 11};
    cohort_error err = {0};
    int64_t runs = 11;
    int preset = 0;
    while (argc > 1 && preset < N_PRESETS && strcmp(model_preset_names[preset], argv[1]) != 0)
        preset++;
    if (argc < 2 || preset == N_PRESETS || (argc > 2 && !number_read_integer(argv[2], strlen(argv[2]), &runs)) ||
        runs < 1 || runs > MOST_RUNS) {
        fprintf(stderr, "usage: bench_exchange PRESET [RUNS, %d at most]\n", MOST_RUNS);
        return 2;
    }
    job.runs = (int)runs;
    const cohort_status status = run(&job, preset, &err);
    if (status != COHORT_OK)
        fprintf(stderr, "bench_exchange: %s\n", err.message);
    if (job.backend != NULL && job.plain != NULL)
        job.backend->ops->free(job.backend, job.plain);
    model_destroy(job.model);
    if (job.backend != NULL) /* it asks the ranks before it waits */
        job.backend->ops->destroy(job.backend);
    if (status != COHORT_OK)
        ranks_fail(job.ranks, status, &err);
    ranks_close(job.ranks, status == COHORT_OK ? 0 : 1);
    return status == COHORT_OK ? 0 : 1;
}
