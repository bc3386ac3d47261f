/* What a run reads, by hash (invariant I11): the list that a checkpoint keeps in trainer/inputs.json, so that a resumed
 * run is the same run or names what differs.
 *
 * An input is a file (SHA-256 of its bytes, as sha256sum prints it) or a text. Those of one kind have an order: they
 * are compared one by one, by hash and not by path, because a file that was moved is the same file. */
#ifndef COHORT_RECIPE_RUN_INPUTS_H
#define COHORT_RECIPE_RUN_INPUTS_H

#include "base/hash.h"
#include "run/input_kind.h"

/* The words of --accept-changed: "data", "eval_data", ... */
const char *input_kind_name(enum input_kind kind);

struct run_input {
    enum input_kind kind;
    char *path;
    char sha256[HASH_HEX];
};

/* A difference that was accepted on resuming. */
struct run_change {
    int64_t step; /* it holds from the step after this one on */
    enum input_kind kind;
    char *what;
};

struct run_inputs {
    struct run_input *items;
    size_t count, capacity;
    bool read[INPUT_KINDS]; /* whether this run looked at inputs of that kind at all */
    char schedule[32];      /* its type, such as "linear"; empty where the number of steps has no say */
    int64_t steps;          /* of that schedule */
    struct run_change *changes;
    size_t n_changes, change_capacity;
};
void run_inputs_free(struct run_inputs *inputs);

/* Adds an input whose hash is known. */
cohort_status run_inputs_add(struct run_inputs *inputs, enum input_kind kind, const char *path, const char *sha256,
                             cohort_error *err);
/* Adds a text; path says where it comes from. */
cohort_status run_inputs_add_text(struct run_inputs *inputs, enum input_kind kind, const char *path, const char *text,
                                  size_t length, cohort_error *err);
/* Adds a file, which is hashed here. */
cohort_status run_inputs_add_file(struct run_inputs *inputs, enum input_kind kind, const char *path, cohort_error *err);
/* Adds every regular file that a word of a shell command names: words are split as the shell does for blanks, quotes
 * and operators, a word with blanks in it (sh -c '...') once more, and what stands behind a = in a word counts too.
 * This is best effort: nothing is expanded. */
cohort_status run_inputs_add_command(struct run_inputs *inputs, enum input_kind kind, const char *command,
                                     cohort_error *err);

/* The content of inputs.json: a function of the list alone, without clock or machine. */
cohort_status run_inputs_write(const struct run_inputs *inputs, struct text *out, cohort_error *err);
/* inputs must be empty; path is used in messages too. */
cohort_status run_inputs_read(struct run_inputs *inputs, const char *path, cohort_error *err);

/* Says how now differs from before, kind by kind: differs[kind] is empty where nothing differs, where before has no
 * such input, or where now did not look. */
cohort_status run_inputs_compare(const struct run_inputs *before, const struct run_inputs *now,
                                 struct text differs[INPUT_KINDS], cohort_error *err);
/* Copies from before to now what now did not look at, the paths of what is the same, and the changes that were accepted
 * earlier. */
cohort_status run_inputs_inherit(struct run_inputs *now, const struct run_inputs *before, cohort_error *err);
cohort_status run_inputs_note_change(struct run_inputs *inputs, int64_t step, enum input_kind kind, const char *what,
                                     cohort_error *err);

#endif
