#include "run/run_folder.h"

#include "base/number_json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

cohort_status run_folder_path(const struct run_folder *run, const char *name, char **out,
                              cohort_error *err)
{
    return file_join(out, run->path, name, err);
}

static cohort_status open_metrics(struct run_folder *run, cohort_error *err)
{
    run->metrics = open(run->metrics_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (run->metrics < 0)
        return error_set(err, COHORT_ERR_IO, "%s: cannot open: %s", run->metrics_path,
                         strerror(errno));
    return COHORT_OK;
}

static cohort_status prepare(struct run_folder *run, const char *path, cohort_error *err)
{
    char *checkpoints = NULL;
    cohort_status status = COHORT_OK;
    *run = (struct run_folder){.metrics = -1};
    TRY(mem_strdup(&run->path, path, strlen(path), err));
    TRY(run_folder_path(run, "metrics.jsonl", &run->metrics_path, err));
    TRY(run_folder_path(run, "checkpoints", &checkpoints, err));
    status = file_make_dirs(checkpoints, err);
    mem_free(checkpoints);
    return status;
}

cohort_status run_folder_create(struct run_folder *run, const char *path, cohort_error *err)
{
    static const char *const signs[] = {"metrics.jsonl", "final", "config.yaml"};
    *run = (struct run_folder){.metrics = -1};
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        char *sign = NULL;
        TRY(file_join(&sign, path, signs[i], err));
        bool there = false;
        cohort_status status = file_exists(sign, &there, err);
        mem_free(sign);
        TRY(status);
        if (there)
            return error_set(err, COHORT_ERR_STATE,
                             "%s: already holds a run (%s); continue it with --resume, remove it, "
                             "or choose another --out",
                             path, signs[i]);
    }
    TRY(prepare(run, path, err));
    return open_metrics(run, err);
}

/* Drops the lines of steps after step, and one that was cut short, from a file of JSON lines; a
 * missing file is none. */
static cohort_status drop_later_lines(const char *path, int64_t step, cohort_error *err)
{
    struct text before = {0}, kept = {0};
    cohort_status status = COHORT_OK;
    bool there = false;
    TRY(file_exists(path, &there, err));
    if (!there)
        return COHORT_OK;
    TRY_GOTO(file_read(path, 0, &before, err));
    TRY_GOTO(text_append(&kept, "", 0, err));
    for (char *line = before.data; line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        size_t length = end == NULL ? strlen(line) : (size_t)(end - line) + 1;
        json_t *json = number_json_load(line, length, JSON_ALLOW_NUL, NULL);
        const json_t *at = json_object_get(json, "step");
        bool keep = end != NULL && json_is_integer(at) && json_integer_value(at) <= step;
        json_decref(json);
        if (keep)
            TRY_GOTO(text_append(&kept, line, length, err));
        line += length;
    }
    TRY_GOTO(file_write_atomic(path, kept.data, kept.length, err));
cleanup:
    text_free(&before);
    text_free(&kept);
    return status;
}

cohort_status run_folder_open(struct run_folder *run, const char *path, int64_t step,
                              cohort_error *err)
{
    char *completions = NULL;
    TRY(prepare(run, path, err));
    TRY(drop_later_lines(run->metrics_path, step, err));
    TRY(run_folder_path(run, "completions.jsonl", &completions, err));
    cohort_status status = drop_later_lines(completions, step, err);
    mem_free(completions);
    TRY(status);
    return open_metrics(run, err);
}

void run_folder_close(struct run_folder *run)
{
    if (run->path != NULL && run->metrics >= 0)
        close(run->metrics);
    mem_free(run->path);
    mem_free(run->metrics_path);
    *run = (struct run_folder){.metrics = -1};
}

cohort_status run_folder_log(struct run_folder *run, const struct text *line, cohort_error *err)
{
    size_t done = 0;
    while (done < line->length) {
        ssize_t n = write(run->metrics, line->data + done, line->length - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set(
                err, COHORT_ERR_IO, "%s: cannot write: %s%s", run->metrics_path, strerror(errno),
                errno == ENOSPC ? "; free some space, then continue with --resume" : "");
        done += (size_t)n;
    }
    return COHORT_OK;
}

/* N of "step-N", or -1. */
static int64_t step_of(const char *name)
{
    char *end = NULL;
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9')
        return -1;
    errno = 0;
    long long step = strtoll(name + 5, &end, 10);
    return *end == '\0' && errno == 0 ? step : -1;
}

/* The newest checkpoint with a step below limit, and how many there are; -1 if none. */
static cohort_status newest(const char *checkpoints, int64_t limit, int64_t *step, int64_t *count,
                            cohort_error *err)
{
    DIR *dir = opendir(checkpoints);
    *step = -1;
    *count = 0;
    if (dir == NULL)
        return errno == ENOENT ? COHORT_OK
                               : error_set(err, COHORT_ERR_IO, "%s: cannot open: %s", checkpoints,
                                           strerror(errno));
    struct dirent *entry = NULL;
    cohort_status status = COHORT_OK;
    while ((status = file_next_entry(dir, checkpoints, &entry, err)) == COHORT_OK &&
           entry != NULL) {
        int64_t at = step_of(entry->d_name);
        *count += at >= 0;
        if (at < limit && at > *step)
            *step = at;
    }
    closedir(dir);
    return status;
}

static cohort_status checkpoint_path(const char *run_path, int64_t step, char **out,
                                     cohort_error *err)
{
    struct text text = {0};
    TRY(text_printf(&text, err, "%s/checkpoints/step-%lld", run_path, (long long)step));
    *out = text.data;
    return COHORT_OK;
}

cohort_status run_folder_latest(const char *run_path, char **out, cohort_error *err)
{
    char *checkpoints = NULL;
    int64_t step = -1, count = 0;
    *out = NULL;
    TRY(file_join(&checkpoints, run_path, "checkpoints", err));
    cohort_status status = newest(checkpoints, INT64_MAX, &step, &count, err);
    mem_free(checkpoints);
    TRY(status);
    return step < 0 ? COHORT_OK : checkpoint_path(run_path, step, out, err);
}

cohort_status run_folder_prune(const struct run_folder *run, int64_t keep, cohort_error *err)
{
    char *checkpoints = NULL;
    int64_t limit = INT64_MAX, step = -1, count = 0;
    TRY(run_folder_path(run, "checkpoints", &checkpoints, err));
    cohort_status status = COHORT_OK;
    for (int64_t seen = 0;; seen++) {
        char *path = NULL;
        TRY_GOTO(newest(checkpoints, limit, &step, &count, err));
        if (step < 0)
            break;
        limit = step;
        if (seen < keep)
            continue;
        TRY_GOTO(checkpoint_path(run->path, step, &path, err));
        status = file_remove_all(path, err);
        mem_free(path);
        if (status != COHORT_OK)
            break;
    }
cleanup:
    mem_free(checkpoints);
    return status;
}
