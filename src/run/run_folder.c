#include "run/run_folder.h"

#include "base/lock.h"
#include "base/scratch.h"
#include "format/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char run_folder_lock_name[] = ".cohort.lock";
const char run_folder_lock_what[] = "run lock";
static const char *const log_names[N_RUN_LOGS] = {"metrics.jsonl", "completions.jsonl"};
/* In a checkpoint. */
static const char *const carried_names[N_RUN_LOGS] = {"trainer/unwritten-metrics.jsonl",
                                                      "trainer/unwritten-completions.jsonl"};

static cohort_status io_error(cohort_error *err, const char *path, const char *doing)
{
    int code = errno;
    return error_set(err, COHORT_ERR_IO, "%s: cannot %s: %s%s", path, doing, strerror(code),
                     code == ENOSPC ? "; free some space and try again" : "");
}

cohort_status run_folder_path(const struct run_folder *run, const char *name, char **out, cohort_error *err)
{
    return file_join(out, run->path, name, err);
}

cohort_status run_folder_write(const struct run_folder *run, const char *name, const void *bytes, size_t length,
                               cohort_error *err)
{
    struct scratch scratch = {0};
    char *temporary = NULL, *path = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(run_folder_path(run, name, &path, err));
    TRY_GOTO(scratch_open(&scratch, run->path, err));
    TRY_GOTO(file_join(&temporary, scratch.path, "file", err));
    TRY_GOTO(file_write_by(temporary, path, bytes, length, err));
cleanup:
    scratch_close(&scratch);
    mem_free(temporary);
    mem_free(path);
    return status;
}

/* ---- the lock ---- */

static cohort_status held(const char *folder, int fd, cohort_error *err)
{
    struct lock_holder holder = {.pid = 0};
    /* The owner holds the lock a moment before its name is in the file. */
    for (int i = 0; i < 50 && holder.pid <= 0; i++) {
        if (i > 0)
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        (void)lock_read_holder(fd, run_folder_lock_what, &holder);
    }
    if (holder.pid <= 0)
        return error_set(err, COHORT_ERR_STATE,
                         "%s: another trainer works in this folder (it does not say which); wait "
                         "for it to end, or choose another --out",
                         folder);
    if (holder.here && !holder.alive)
        return error_set(err, COHORT_ERR_STATE,
                         "%s: process %ld on %s held this folder since %s and has ended, but a "
                         "process that it started still has its lock open; end that one",
                         folder, holder.pid, holder.host, holder.since);
    return error_set(err, COHORT_ERR_STATE,
                     "%s: process %ld on %s has been training in this folder since %s; wait for it "
                     "to end or stop it (kill %ld: it saves a checkpoint), or choose another --out",
                     folder, holder.pid, holder.host, holder.since, holder.pid);
}

/* Whether fd is still the file of that name: a failed creation removes its lock file. */
static bool is_named(int fd, const char *path)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* *made: the lock file was not there. */
static cohort_status take_lock(struct run_folder *run, bool *made, cohort_error *err)
{
    char *path = NULL;
    struct lock_holder holder;
    enum lock_result result = LOCK_HELD;
    int fd = -1;
    cohort_status status = COHORT_OK;
    *made = false;
    TRY(run_folder_path(run, run_folder_lock_name, &path, err));
    for (bool again = true; again;) {
        fd = file_open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
        *made = fd >= 0;
        if (fd < 0 && errno == EEXIST)
            fd = file_open(path, O_RDWR | O_NOFOLLOW);
        struct stat st;
        again = fd < 0 && errno == ENOENT && stat(run->path, &st) == 0 && S_ISDIR(st.st_mode);
        if (again)
            continue;
        if (fd < 0) {
            status = io_error(err, path, "open");
            goto cleanup;
        }
        if (!lock_read_holder(fd, run_folder_lock_what, &holder)) {
            status = error_set(err, COHORT_ERR_STATE, "%s: is not a lock file of cohort's; give it another name", path);
            goto cleanup;
        }
        TRY_GOTO(lock_take(fd, path, &result, err));
        if (result == LOCK_HELD) {
            *made = false;
            status = held(run->path, fd, err);
            goto cleanup;
        }
        again = !is_named(fd, path);
        if (again) {
            lock_release(fd);
            close(fd);
            fd = -1;
        }
    }
    run->lock_unsupported = result == LOCK_UNSUPPORTED;
    TRY_GOTO(lock_write_holder(fd, path, run_folder_lock_what, err));
    run->lock = fd;
    fd = -1;
cleanup:
    if (fd >= 0) {
        lock_release(fd);
        close(fd);
    }
    mem_free(path);
    return status;
}

/* Sets the paths; nothing on disk is touched. */
static cohort_status begin(struct run_folder *run, const char *path, cohort_error *err)
{
    memset(run, 0, sizeof *run);
    TRY(mem_strdup(&run->path, path, strlen(path), err));
    TRY(run_folder_path(run, "checkpoints", &run->checkpoints, err));
    for (int i = 0; i < N_RUN_LOGS; i++)
        TRY(run_folder_path(run, log_names[i], &run->logs[i].path, err));
    return COHORT_OK;
}

static cohort_status lock_folder(struct run_folder *run, const char *path, bool *made, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    *made = false;
    TRY_GOTO(begin(run, path, err));
    TRY_GOTO(take_lock(run, made, err));
    TRY_GOTO(scratch_recover(run->checkpoints, err));
    TRY_GOTO(scratch_recover(run->path, err));
cleanup:
    if (status != COHORT_OK)
        run_folder_close(run);
    return status;
}

cohort_status run_folder_lock(struct run_folder *run, const char *path, cohort_error *err)
{
    bool made = false;
    return lock_folder(run, path, &made, err);
}

void run_folder_leave(struct run_folder *run)
{
    if (run->lock > 0)
        close(run->lock);
    run->lock = 0;
    run_folder_close(run);
}

void run_folder_close(struct run_folder *run)
{
    for (int i = 0; i < N_RUN_LOGS; i++) {
        if (run->logs[i].fd > 0)
            close(run->logs[i].fd);
        mem_free(run->logs[i].path);
        text_free(&run->logs[i].pending);
    }
    if (run->lock > 0) {
        /* Nobody holds the lock any more, so the file must name nobody. It is released explicitly, not only by closing,
         * because a fork of the host may have the description open. */
        if (ftruncate(run->lock, 0) != 0) {
            /* The file then names a process that has ended. */
        }
        lock_release(run->lock);
        close(run->lock);
    }
    run_steps_free(&run->periodic);
    mem_free(run->path);
    mem_free(run->checkpoints);
    memset(run, 0, sizeof *run);
}

/* ---- logs ---- */

static cohort_status open_log(struct run_log *log, cohort_error *err)
{
    int fd = file_open(log->path, O_WRONLY | O_CREAT | O_APPEND);
    if (fd < 0)
        return io_error(err, log->path, "open");
    log->fd = fd;
    return COHORT_OK;
}

/* Writes all of pending, or nothing. */
static cohort_status flush_log(struct run_log *log, cohort_error *err)
{
    struct stat st;
    if (log->pending.length == 0)
        return COHORT_OK;
    if (log->fd == 0)
        TRY(open_log(log, err));
    if (fstat(log->fd, &st) != 0)
        return io_error(err, log->path, "stat");
    cohort_status status = file_write_all(log->fd, log->path, log->pending.data, log->pending.length, err);
    if (status == COHORT_OK)
        log->pending.length = 0;
    else if (ftruncate(log->fd, st.st_size) != 0) /* half a line; resuming drops it */
        error_context(err, "%s holds half a line", log->path);
    return status;
}

cohort_status run_folder_log(struct run_folder *run, enum run_log_kind kind, const struct text *lines,
                             cohort_error *err)
{
    struct run_log *log = &run->logs[kind];
    TRY(text_append(&log->pending, lines->data, lines->length, err));
    cohort_status status = flush_log(log, err);
    if (status != COHORT_OK)
        error_context(err, "its lines are kept for the next checkpoint");
    return status;
}

cohort_status run_folder_carry(struct run_folder *run, const char *dir, cohort_error *err)
{
    for (int i = 0; i < N_RUN_LOGS; i++) {
        struct run_log *log = &run->logs[i];
        (void)flush_log(log, NULL);
        if (log->fd > 0 && fsync(log->fd) != 0 && errno != EINVAL)
            return io_error(err, log->path, "fsync");
        if (log->pending.length == 0)
            continue;
        char *path = NULL;
        TRY(file_join(&path, dir, carried_names[i], err));
        cohort_status status = file_write_atomic(path, log->pending.data, log->pending.length, err);
        mem_free(path);
        TRY(status);
    }
    return COHORT_OK;
}

/* N of a line that begins {"step": N, or -1 for one that does not. */
static int64_t step_of_line(const char *line)
{
    static const char *const parts[] = {"{", "\"step\"", ":"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        line += strspn(line, " \t");
        size_t n = strlen(parts[i]);
        if (strncmp(line, parts[i], n) != 0)
            return -1;
        line += n;
    }
    line += strspn(line, " \t");
    int64_t step = 0;
    size_t digits = strspn(line, "0123456789");
    if (digits == 0 || digits > 18 || strchr(",} \t", line[digits]) == NULL)
        return -1;
    for (size_t i = 0; i < digits; i++)
        step = step * 10 + (line[i] - '0');
    return step;
}

/* Appends to kept the lines of content up to step: not those of later steps, nor a last line that was cut short, nor one
 * with zeros, which a power cut leaves where bytes were not on the disk yet. Lines that we cannot read are kept. *last: the highest step kept; *dropped: something was left out or mended. */
static cohort_status keep_lines(const struct text *content, int64_t step, struct text *kept, int64_t *last,
                                bool *dropped, cohort_error *err)
{
    for (const char *line = content->data; line < content->data + content->length;) {
        const char *end = memchr(line, '\n', (size_t)(content->data + content->length - line));
        const char *stop = end == NULL ? content->data + content->length : end;
        int64_t at = step_of_line(line);
        bool whole =
            (end != NULL || (stop > line && stop[-1] == '}')) && memchr(line, '\0', (size_t)(stop - line)) == NULL;
        if (whole && at <= step) {
            TRY(text_append(kept, line, (size_t)(stop - line), err));
            TRY(text_append(kept, "\n", 1, err));
            *last = at > *last ? at : *last;
            *dropped = *dropped || end == NULL;
        } else {
            *dropped = true;
        }
        line = stop + 1;
    }
    return COHORT_OK;
}

/* Sets *there; only "no such file" means that it does not exist. */
static cohort_status read_if_there(const char *path, struct text *content, bool *there, cohort_error *err)
{
    struct stat st;
    *there = lstat(path, &st) == 0;
    if (!*there)
        return errno == ENOENT || errno == ENOTDIR ? COHORT_OK : io_error(err, path, "stat");
    return file_read(path, 0, content, err);
}

/* Finds the first byte of the last line and the end of it, before the newline. */
static const char *last_line(const struct text *content, const char **end)
{
    const char *begin = content->data;
    *end = content->data + content->length;
    while (*end > begin && (*end)[-1] == '\n')
        --*end;
    const char *newline = memrchr(begin, '\n', (size_t)(*end - begin));
    return newline == NULL ? begin : newline + 1;
}

cohort_status run_folder_lacks(const struct run_folder *run, enum run_log_kind kind, int64_t step, const char *field,
                               bool *lacks, cohort_error *err)
{
    struct text content = {0}, name = {0};
    bool there = false;
    cohort_status status = COHORT_OK;
    *lacks = false;
    TRY_GOTO(text_append(&content, "", 0, err));
    TRY_GOTO(read_if_there(run->logs[kind].path, &content, &there, err));
    TRY_GOTO(text_printf(&name, err, "\"%s\":", field));
    const char *end = NULL, *line = last_line(&content, &end);
    *lacks =
        end > line && step_of_line(line) == step && memmem(line, (size_t)(end - line), name.data, name.length) == NULL;
cleanup:
    text_free(&content);
    text_free(&name);
    return status;
}

cohort_status run_folder_extend(struct run_folder *run, enum run_log_kind kind, const struct text *fields,
                                cohort_error *err)
{
    struct run_log *log = &run->logs[kind];
    struct text content = {0}, extended = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_read(log->path, 0, &content, err));
    const char *end = NULL;
    last_line(&content, &end);
    if (end == content.data || end[-1] != '}') {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: its last line does not end in }", log->path);
        goto cleanup;
    }
    TRY_GOTO(text_append(&extended, content.data, (size_t)(end - 1 - content.data), err));
    TRY_GOTO(text_append(&extended, ", ", 2, err));
    TRY_GOTO(text_append(&extended, fields->data, fields->length, err));
    TRY_GOTO(text_append(&extended, "}\n", 2, err));
    TRY_GOTO(run_folder_write(run, log_names[kind], extended.data, extended.length, err));
    if (log->fd > 0) /* it belongs to the file that was replaced */
        close(log->fd);
    log->fd = 0;
cleanup:
    text_free(&content);
    text_free(&extended);
    return status;
}

/* What one uninterrupted run would have written up to step. */
static cohort_status rewind_log(struct run_folder *run, enum run_log_kind kind, int64_t step, const char *checkpoint,
                                cohort_error *err)
{
    struct text before = {0}, carried = {0}, kept = {0};
    char *path = NULL;
    bool there = false, has_carried = false, changed = false;
    int64_t last = -1, written = -1;
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_append(&before, "", 0, err));
    TRY_GOTO(text_append(&kept, "", 0, err));
    TRY_GOTO(read_if_there(run->logs[kind].path, &before, &there, err));
    TRY_GOTO(keep_lines(&before, step, &kept, &last, &changed, err));
    written = last;
    if (checkpoint != NULL) {
        TRY_GOTO(file_join(&path, checkpoint, carried_names[kind], err));
        TRY_GOTO(read_if_there(path, &carried, &has_carried, err));
    }
    for (const char *line = has_carried ? carried.data : ""; *line != '\0';) {
        size_t length = strcspn(line, "\n") + 1;
        if (length > (size_t)(carried.data + carried.length - line))
            break;
        if (step_of_line(line) > written) { /* not added by an earlier resume */
            TRY_GOTO(text_append(&kept, line, length, err));
            changed = true;
        }
        line += length;
    }
    if (changed)
        TRY_GOTO(run_folder_write(run, log_names[kind], kept.data, kept.length, err));
cleanup:
    mem_free(path);
    text_free(&before);
    text_free(&carried);
    text_free(&kept);
    return status;
}

/* ---- creating and continuing ---- */

static const char periodic_name[] = ".cohort.periodic";

static cohort_status already(const char *path, const char *sign, cohort_error *err)
{
    return error_set(err, COHORT_ERR_STATE,
                     "%s: already holds a run (%s); continue it with --resume, remove it, or choose "
                     "another --out",
                     path, sign);
}

static cohort_status refuse_run(const struct run_folder *run, cohort_error *err)
{
    static const char *const signs[] = {"metrics.jsonl", "final", "config.yaml", "run.db"};
    struct run_steps steps = {0};
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        char *sign = NULL;
        struct stat st;
        TRY(run_folder_path(run, signs[i], &sign, err));
        bool absent = lstat(sign, &st) != 0 && (errno == ENOENT || errno == ENOTDIR);
        mem_free(sign);
        if (!absent)
            return already(run->path, signs[i], err);
    }
    TRY(run_folder_checkpoints(run->path, &steps, NULL, err));
    size_t n = steps.n;
    run_steps_free(&steps);
    return n > 0 ? already(run->path, "checkpoints", err) : COHORT_OK;
}

/* Removes what a creation that failed has made. */
static void undo(const struct run_folder *run, bool made_folder, bool made_checkpoints, bool made_lock, bool made_files)
{
    static const char *const files[] = {"config.yaml", "metrics.jsonl"};
    char *path = NULL;
    for (size_t i = 0; made_files && i < sizeof files / sizeof *files; i++) {
        if (run_folder_path(run, files[i], &path, NULL) == COHORT_OK)
            unlink(path);
        mem_free(path);
        path = NULL;
    }
    if (made_checkpoints)
        rmdir(run->checkpoints);
    if (made_lock && run_folder_path(run, run_folder_lock_name, &path, NULL) == COHORT_OK)
        unlink(path);
    mem_free(path);
    if (made_folder)
        rmdir(run->path);
}

cohort_status run_folder_create(struct run_folder *run, const char *path, const struct text *yaml, cohort_error *err)
{
    struct stat st;
    cohort_status status = COHORT_OK;
    bool made_lock = false, made_files = false, made_checkpoints = false;
    bool made_folder = stat(path, &st) != 0 && errno == ENOENT;
    memset(run, 0, sizeof *run);
    TRY(file_make_dirs(path, err));
    /* Whoever has the lock creates the run; the other leaves everything as it is. */
    status = lock_folder(run, path, &made_lock, err);
    if (status != COHORT_OK) {
        if (made_folder)
            rmdir(path); /* if it is empty */
        return status;
    }
    TRY_GOTO(refuse_run(run, err));
    made_files = true;
    /* config.yaml comes last: it says that there is a run. */
    made_checkpoints = stat(run->checkpoints, &st) != 0 && errno == ENOENT;
    TRY_GOTO(file_make_dirs(run->checkpoints, err));
    TRY_GOTO(run_folder_write(run, "config.yaml", yaml->data, yaml->length, err));
    TRY_GOTO(open_log(&run->logs[RUN_METRICS], err));
    run->open = true;
cleanup:
    if (status != COHORT_OK) {
        undo(run, made_folder, made_checkpoints, made_lock, made_files);
        run_folder_close(run);
    }
    return status;
}

static cohort_status read_periodic(struct run_folder *run, cohort_error *err);

cohort_status run_folder_open(struct run_folder *run, const char *path, int64_t step, const char *checkpoint,
                              const struct text *yaml, cohort_error *err)
{
    if (run->path == NULL) {
        TRY(file_make_dirs(path, err));
        TRY(run_folder_lock(run, path, err));
    }
    TRY(file_make_dirs(run->checkpoints, err));
    for (int i = 0; i < N_RUN_LOGS; i++)
        TRY(rewind_log(run, (enum run_log_kind)i, step, checkpoint, err));
    TRY(read_periodic(run, err));
    TRY(open_log(&run->logs[RUN_METRICS], err));
    TRY(run_folder_write(run, "config.yaml", yaml->data, yaml->length, err));
    run->open = true;
    return COHORT_OK;
}

/* ---- checkpoints ---- */

void run_steps_free(struct run_steps *steps)
{
    mem_free(steps->at);
    memset(steps, 0, sizeof *steps);
}

static cohort_status add_step(struct run_steps *steps, int64_t step, cohort_error *err)
{
    TRY(mem_grow(&steps->at, &steps->capacity, steps->n + 1, sizeof *steps->at, "checkpoints", err));
    steps->at[steps->n++] = step;
    return COHORT_OK;
}

/* N of "step-N" as we write it, -1 for another name: a number has one form. */
static int64_t step_of(const char *name)
{
    int64_t step = 0;
    if (strncmp(name, "step-", 5) != 0)
        return -1;
    const char *digits = name + 5;
    size_t n = strspn(digits, "0123456789");
    if (n == 0 || n > 18 || digits[n] != '\0' || (digits[0] == '0' && n > 1))
        return -1;
    for (size_t i = 0; i < n; i++)
        step = step * 10 + (digits[i] - '0');
    return step;
}

int64_t run_folder_step_of(const char *path)
{
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    char name[32];
    if (end - begin >= sizeof name)
        return -1;
    memcpy(name, path + begin, end - begin);
    name[end - begin] = '\0';
    return step_of(name);
}

static int ascending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

cohort_status run_folder_checkpoints(const char *run_path, struct run_steps *steps, struct text *odd, cohort_error *err)
{
    char *checkpoints = NULL;
    const char *name = NULL;
    cohort_status status = COHORT_OK;
    memset(steps, 0, sizeof *steps);
    TRY(file_join(&checkpoints, run_path, "checkpoints", err));
    DIR *dir = opendir(checkpoints);
    if (dir == NULL && errno != ENOENT && errno != ENOTDIR)
        status = io_error(err, checkpoints, "open the folder");
    while (dir != NULL && status == COHORT_OK && (name = file_next_entry(dir, checkpoints, &status, err)) != NULL) {
        int64_t step = step_of(name);
        if (step >= 0)
            status = add_step(steps, step, err);
        else if (odd != NULL && strncmp(name, "step", 4) == 0)
            status = text_printf(odd, err, "%s/%s\n", checkpoints, name);
    }
    if (dir != NULL)
        closedir(dir);
    mem_free(checkpoints);
    if (status != COHORT_OK)
        run_steps_free(steps);
    else if (steps->n > 0)
        qsort(steps->at, steps->n, sizeof *steps->at, ascending);
    return status;
}

cohort_status run_folder_checkpoint_path(const char *run_path, int64_t step, char **out, cohort_error *err)
{
    struct text text = {0};
    TRY(text_printf(&text, err, "%s/checkpoints/step-%lld", run_path, (long long)step));
    *out = text.data;
    return COHORT_OK;
}

/* If the journal cannot be read, no checkpoint counts as written by the clock, and none is deleted. */
static cohort_status read_periodic(struct run_folder *run, cohort_error *err)
{
    char *path = NULL;
    struct text content = {0};
    bool there = false;
    cohort_status status = COHORT_OK;
    run->periodic.n = 0;
    TRY_GOTO(run_folder_path(run, periodic_name, &path, err));
    TRY_GOTO(read_if_there(path, &content, &there, err));
    for (const char *line = there ? content.data : ""; *line != '\0';) {
        char name[32];
        size_t length = strcspn(line, "\n");
        if (length < sizeof name) {
            memcpy(name, line, length);
            name[length] = '\0';
            if (step_of(name) >= 0)
                TRY_GOTO(add_step(&run->periodic, step_of(name), err));
        }
        line += length + (line[length] == '\n');
    }
    if (run->periodic.n > 0)
        qsort(run->periodic.at, run->periodic.n, sizeof *run->periodic.at, ascending);
cleanup:
    mem_free(path);
    text_free(&content);
    return status;
}

static bool holds(const struct run_steps *steps, int64_t step)
{
    for (size_t i = 0; i < steps->n; i++)
        if (steps->at[i] == step)
            return true;
    return false;
}

static void drop_step(struct run_steps *steps, int64_t step)
{
    size_t kept = 0;
    for (size_t i = 0; i < steps->n; i++)
        if (steps->at[i] != step)
            steps->at[kept++] = steps->at[i];
    steps->n = kept;
}

static cohort_status write_periodic(const struct run_folder *run, cohort_error *err)
{
    struct text text = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_append(&text, "", 0, err));
    for (size_t i = 0; i < run->periodic.n; i++)
        TRY_GOTO(text_printf(&text, err, "step-%lld\n", (long long)run->periodic.at[i]));
    TRY_GOTO(run_folder_write(run, periodic_name, text.data, text.length, err));
cleanup:
    text_free(&text);
    return status;
}

cohort_status run_folder_note_periodic(struct run_folder *run, int64_t step, bool periodic, cohort_error *err)
{
    if (holds(&run->periodic, step) == periodic)
        return COHORT_OK;
    if (periodic)
        TRY(add_step(&run->periodic, step, err));
    else
        drop_step(&run->periodic, step);
    return write_periodic(run, err);
}

/* Removes one checkpoint; a failure becomes a note. */
static cohort_status prune_one(const struct run_folder *run, int64_t step, bool *gone, struct text *notes,
                               cohort_error *err)
{
    char *path = NULL, *stranger = NULL;
    cohort_error why = {0};
    *gone = false;
    TRY(run_folder_checkpoint_path(run->path, step, &path, err));
    cohort_status status = checkpoint_folder_remove(path, &stranger, &why);
    if (status != COHORT_OK)
        status = text_printf(notes, err, "note: an old checkpoint was not removed: %s\n", why.message);
    else if (stranger != NULL)
        status =
            text_printf(notes, err, "note: %s was not removed: %s in it is not the checkpoint's\n", path, stranger);
    else
        *gone = true;
    mem_free(stranger);
    mem_free(path);
    return status;
}

cohort_status run_folder_prune(struct run_folder *run, int64_t keep, bool only_periodic, struct text *notes,
                               cohort_error *err)
{
    struct run_steps steps = {0};
    cohort_status status = COHORT_OK;
    int64_t seen = 0;
    bool changed = false;
    TRY(run_folder_checkpoints(run->path, &steps, NULL, err));
    for (size_t i = steps.n; i-- > 0;) {
        bool gone = false;
        if (only_periodic && !holds(&run->periodic, steps.at[i]))
            continue;
        if (seen++ < keep || steps.at[i] == run->spared)
            continue;
        TRY_GOTO(prune_one(run, steps.at[i], &gone, notes, err));
        if (gone && holds(&run->periodic, steps.at[i])) {
            drop_step(&run->periodic, steps.at[i]);
            changed = true;
        }
    }
    if (changed)
        TRY_GOTO(write_periodic(run, err));
cleanup:
    run_steps_free(&steps);
    return status;
}

/* *out = a new folder checkpoints/set-aside-N. */
static cohort_status make_aside(const struct run_folder *run, char **out, cohort_error *err)
{
    for (int n = 1; n < 100000; n++) {
        struct text text = {0};
        TRY(text_printf(&text, err, "%s/set-aside-%d", run->checkpoints, n));
        if (mkdir(text.data, 0777) == 0) {
            *out = text.data;
            return COHORT_OK;
        }
        cohort_status status = errno == EEXIST ? COHORT_OK : io_error(err, text.data, "create the folder");
        text_free(&text);
        TRY(status);
    }
    return error_set(err, COHORT_ERR_STATE, "%s: too many folders set-aside-N", run->checkpoints);
}

cohort_status run_folder_set_aside(struct run_folder *run, int64_t step, struct text *notes, cohort_error *err)
{
    struct run_steps steps = {0};
    char *aside = NULL, *from = NULL, *to = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(run_folder_checkpoints(run->path, &steps, NULL, err));
    /* The newest is moved first: if this stops half-way, the newest that is left still agrees with metrics.jsonl. */
    for (size_t i = steps.n; i-- > 0 && steps.at[i] > step;) {
        char name[40];
        snprintf(name, sizeof name, "step-%lld", (long long)steps.at[i]);
        if (aside == NULL) {
            TRY_GOTO(make_aside(run, &aside, err));
            TRY_GOTO(text_printf(notes, err,
                                 "note: later checkpoints are of a branch that this run leaves; "
                                 "moved to %s:",
                                 aside));
        }
        TRY_GOTO(file_join(&from, run->checkpoints, name, err));
        TRY_GOTO(file_join(&to, aside, name, err));
        if (rename(from, to) != 0) {
            status = io_error(err, from, "move it aside");
            goto cleanup;
        }
        TRY_GOTO(text_printf(notes, err, " %s", name));
        mem_free(from);
        mem_free(to);
        from = to = NULL;
    }
    if (aside != NULL) {
        TRY_GOTO(file_sync_dir(aside, err));
        TRY_GOTO(file_sync_dir(run->checkpoints, err));
        TRY_GOTO(text_append(notes, "\n", 1, err));
    }
cleanup:
    run_steps_free(&steps);
    mem_free(aside);
    mem_free(from);
    mem_free(to);
    return status;
}
