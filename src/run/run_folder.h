/* A run's folder: config.yaml (resolved), metrics.jsonl (one line per step), completions.jsonl (on request),
 * checkpoints/step-N/, final/, reward.svg; and two files of our own: .cohort.lock, held while a trainer works here, and
 * .cohort.periodic, the steps of the checkpoints that were written by the clock and may be deleted by it.
 *
 * States: closed (zeroed); locked (run_folder_lock); open, either new (run_folder_create, which refuses a folder that
 * holds a run and leaves nothing behind when it fails) or continued (run_folder_open, for resume: metrics of steps
 * after the checkpoint are cut off, so that the file is what one uninterrupted run would have written).
 *
 * Whatever is not finished lies in scratch folders (base/scratch.h). Nothing else in the folder is renamed or removed
 * (invariant I13). */
#ifndef COHORT_RUN_RUN_FOLDER_H
#define COHORT_RUN_RUN_FOLDER_H

#include "base/file.h"

/* The lock file, and what it says that it is (base/lock.h). */
extern const char run_folder_lock_name[], run_folder_lock_what[];

enum run_log_kind { RUN_METRICS, RUN_COMPLETIONS, N_RUN_LOGS };

/* A file of JSON lines that begin {"step": N. */
struct run_log {
    char *path;
    int fd;              /* appending; 0: not open (files are kept above 2) */
    struct text pending; /* lines that could not be written yet */
};
struct run_steps {
    int64_t *at;
    size_t n, capacity;
};
struct run_folder {
    char *path, *checkpoints;
    int lock;              /* 0: none */
    uint64_t place[2];     /* which folder of the machine it is: device and inode, since the lock was taken */
    bool open;             /* created or continued */
    bool lock_unsupported; /* the file system has no locks, so that a second trainer is not refused */
    struct run_log logs[N_RUN_LOGS];
    struct run_steps periodic; /* checkpoints written by the clock, ascending */
    int64_t spared;            /* the step whose checkpoint is never pruned; 0: none */
};
/* Takes the lock; if another trainer holds it, the error names that one. The folder must exist. Then repairs and
 * removes what a crash left in it. */
cohort_status run_folder_lock(struct run_folder *run, const char *path, cohort_error *err);
/* yaml: the content of config.yaml. */
cohort_status run_folder_create(struct run_folder *run, const char *path, const struct text *yaml, cohort_error *err);
/* Locks the folder if it is not locked yet. Keeps the lines of metrics.jsonl and completions.jsonl whose "step" is at
 * most step, and adds those that the checkpoint carries because they could not be written. checkpoint NULL (and step
 * -1): a run without a checkpoint starts again in its folder. */
cohort_status run_folder_open(struct run_folder *run, const char *path, int64_t step, const char *checkpoint,
                              const struct text *yaml, cohort_error *err);
void run_folder_close(struct run_folder *run);
/* Closes it in a child that was forked since: the folder stays locked by the parent. */
void run_folder_leave(struct run_folder *run);

/* Whether the folder is still the one that was locked: one that was removed or moved, or whose disk was unmounted, is an
 * error, before something is written where nobody asked for it. */
cohort_status run_folder_check(const struct run_folder *run, cohort_error *err);

/* Appends lines (with their newlines); afterwards they are in the file, or they wait in pending for the next call and
 * the next checkpoint and no part of them is in the file. */
cohort_status run_folder_log(struct run_folder *run, enum run_log_kind kind, const struct text *lines,
                             cohort_error *err);
/* *lacks: the last line of the file is of this step and has no such field. */
cohort_status run_folder_lacks(const struct run_folder *run, enum run_log_kind kind, int64_t step, const char *field,
                               bool *lacks, cohort_error *err);
/* Adds fields ("a": 1, "b": 2) at the end of the file's last line. Afterwards the file is complete or as it was. */
cohort_status run_folder_extend(struct run_folder *run, enum run_log_kind kind, const struct text *fields,
                                cohort_error *err);
/* Before a checkpoint is committed: tries once more to write what is pending, makes the logs durable, and writes what
 * still cannot be written into the checkpoint (dir/trainer/). */
cohort_status run_folder_carry(struct run_folder *run, const char *dir, cohort_error *err);
/* *out = path of a file or folder in the run. */
cohort_status run_folder_path(const struct run_folder *run, const char *name, char **out, cohort_error *err);
/* Writes a file of the run, which is afterwards complete or as it was. */
cohort_status run_folder_write(const struct run_folder *run, const char *name, const void *bytes, size_t length,
                               cohort_error *err);

/* The steps of a run's checkpoints, ascending; a run without any is fine. odd (may be NULL) gets a line for every entry
 * that only resembles one, like step-007. */
cohort_status run_folder_checkpoints(const char *run_path, struct run_steps *steps, struct text *odd,
                                     cohort_error *err);
void run_steps_free(struct run_steps *steps);
cohort_status run_folder_checkpoint_path(const char *run_path, int64_t step, char **out, cohort_error *err);
/* N of a path that ends in step-N as cohort writes it, else -1. */
int64_t run_folder_step_of(const char *path);

/* Whether the checkpoint of this step was written by the clock alone. */
cohort_status run_folder_note_periodic(struct run_folder *run, int64_t step, bool periodic, cohort_error *err);
/* Removes all but the newest keep checkpoints and the spared one, of those written by the clock or of all. What cannot be removed is a
 * line in notes; a failing status means that nothing could be looked at. */
cohort_status run_folder_prune(struct run_folder *run, int64_t keep, bool only_periodic, struct text *notes,
                               cohort_error *err);
/* Checkpoints of later steps belong to a branch that is abandoned: they are moved into a new folder
 * checkpoints/set-aside-N, the newest first. notes says which and where. */
cohort_status run_folder_set_aside(struct run_folder *run, int64_t step, struct text *notes, cohort_error *err);

#endif
