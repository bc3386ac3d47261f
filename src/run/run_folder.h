/* A run's folder: config.yaml (resolved), metrics.jsonl (a line a step), checkpoints/step-N/,
 * final/, reward.svg.
 *
 * States: new (created by run_folder_create, which refuses a folder that holds a run) or continued
 * (run_folder_open, for resume: metrics of steps behind the checkpoint are cut off, so that the
 * file is what one uninterrupted run would have written). */
#ifndef COHORT_RUN_RUN_FOLDER_H
#define COHORT_RUN_RUN_FOLDER_H

#include "base/file.h"

struct run_folder {
    char *path;
    char *metrics_path;
    int metrics; /* file descriptor, appending */
};
cohort_status run_folder_create(struct run_folder *run, const char *path, cohort_error *err);
/* Keeps the lines of metrics.jsonl and completions.jsonl whose "step" is at most step. */
cohort_status run_folder_open(struct run_folder *run, const char *path, int64_t step,
                              cohort_error *err);
void run_folder_close(struct run_folder *run);

/* Appends one line (with its newline) to metrics.jsonl; it is on disk afterwards as far as the
 * system says. */
cohort_status run_folder_log(struct run_folder *run, const struct text *line, cohort_error *err);
/* *out = path of a file or folder in the run. */
cohort_status run_folder_path(const struct run_folder *run, const char *name, char **out,
                              cohort_error *err);

/* Newest complete checkpoint of a run: *out its path, or NULL if there is none. */
cohort_status run_folder_latest(const char *run_path, char **out, cohort_error *err);
/* Removes all but the newest keep checkpoints. */
cohort_status run_folder_prune(const struct run_folder *run, int64_t keep, cohort_error *err);

/* Draws one metric against steps, read from metrics.jsonl, as an SVG with axes into the run folder.
 * Nothing to draw is no error. */
cohort_status run_plot(const struct run_folder *run, const char *metric, const char *eval_metric,
                       const char *title, const char *file_name, cohort_error *err);

#endif
