#include "recipe/run_start.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* The names that a run writes into its folder before its first checkpoint: a prefix and, if not NULL, a suffix. */
static const struct {
    const char *prefix, *suffix;
    bool is_sign; /* shows that a run began here; the folder alone may have been made by hand */
} ours[] = {
    {"tensorboard", NULL, true},       {"checkpoints", NULL, false},
    {"config.yaml", NULL, true},       {"metrics.jsonl", NULL, true},
    {"completions.jsonl", NULL, true}, {"reward.svg", NULL, true},
    {"loss.svg", NULL, true},          {"run.db", NULL, true},
    {"run.db-wal", NULL, true},        {"run.db-shm", NULL, true},
    {"run.db-journal", NULL, true},    {"eval-step-", ".jsonl", true},
    {".cohort.lock", NULL, false},     {".cohort.periodic", NULL, false},
    {".cohort.socket", NULL, false},
};

/* Which of our entries the name is, or -1. A temporary file of an interrupted write (file_write_atomic) is one of ours
 * too. */
static int which(const char *name)
{
    size_t length = strlen(name);
    const char *temporary = strstr(name, ".tmp-");
    if (temporary != NULL && temporary[5] != '\0' && strspn(temporary + 5, "0123456789") == strlen(temporary + 5))
        length = (size_t)(temporary - name);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        size_t n = strlen(ours[i].prefix), m = ours[i].suffix == NULL ? 0 : strlen(ours[i].suffix);
        if (length < n + m || strncmp(name, ours[i].prefix, n) != 0)
            continue;
        if (ours[i].suffix == NULL ? length == n
                                   : strncmp(name + length - m, ours[i].suffix, m) == 0 &&
                                         strspn(name + n, "0123456789") == length - n - m)
            return (int)i;
    }
    return -1;
}

struct look {
    bool sign, config, checkpoints, metrics, stepped;
    char *foreign;
};

/* Whether a line of metrics.jsonl is of a step: the evaluation before the first is of step 0. */
static cohort_status look_for_steps(const char *path, bool *stepped, cohort_error *err)
{
    static const char before[] = "{\"step\": 0,";
    struct text content = {0};
    cohort_status status = file_read(path, 0, &content, err);
    for (const char *line = content.data; status == COHORT_OK && line != NULL && *line != '\0' && !*stepped;) {
        *stepped = strncmp(line, before, sizeof before - 1) != 0;
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    text_free(&content);
    return status;
}

/* Looks at the entries of one folder; checkpoints/ must be empty. */
static cohort_status look_into(const char *path, bool within, struct look *look, cohort_error *err)
{
    DIR *dir = opendir(path);
    cohort_status status = COHORT_OK;
    if (dir == NULL)
        return errno == ENOENT ? COHORT_OK
                               : error_set(err, COHORT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    while (status == COHORT_OK) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            if (errno != 0)
                status = error_set(err, COHORT_ERR_IO, "%s: cannot read the folder: %s", path, strerror(errno));
            break;
        }
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        int at = within ? -1 : which(name);
        if (at < 0 && look->foreign == NULL)
            status = mem_strdup(&look->foreign, name, strlen(name), err);
        if (at < 0)
            continue;
        look->sign = look->sign || ours[at].is_sign;
        look->config = look->config || strcmp(name, "config.yaml") == 0;
        look->checkpoints = look->checkpoints || strcmp(name, "checkpoints") == 0;
        if (strcmp(name, "metrics.jsonl") == 0) {
            char *file = NULL;
            struct stat st;
            status = file_join(&file, path, name, err);
            look->metrics = status == COHORT_OK && stat(file, &st) == 0 && st.st_size > 0;
            if (look->metrics)
                status = look_for_steps(file, &look->stepped, err);
            mem_free(file);
        }
    }
    closedir(dir);
    return status;
}

cohort_status run_start_look(const char *path, enum run_start *start, char **foreign, cohort_error *err)
{
    struct look look = {0};
    char *checkpoints = NULL;
    cohort_status status = COHORT_OK;
    *start = RUN_START_NEW;
    *foreign = NULL;
    TRY_GOTO(file_join(&checkpoints, path, "checkpoints", err));
    TRY_GOTO(look_into(path, false, &look, err));
    if (look.foreign == NULL)
        TRY_GOTO(look_into(checkpoints, true, &look, err));
    /* A run creates checkpoints/ first and writes config.yaml before it logs: without them the files are somebody
     * else's. */
    if (look.foreign == NULL && look.sign && (!look.checkpoints || (look.metrics && !look.config)))
        TRY_GOTO(
            mem_strdup(&look.foreign, look.metrics ? "metrics.jsonl" : "config.yaml", look.metrics ? 13 : 11, err));
    *start = look.foreign != NULL ? RUN_START_OTHER
             : !look.sign         ? RUN_START_NEW
             : look.stepped       ? RUN_START_AGAIN
                                  : RUN_START_UNSTEPPED;
    *foreign = look.foreign;
    look.foreign = NULL;
cleanup:
    mem_free(checkpoints);
    mem_free(look.foreign);
    return status;
}
