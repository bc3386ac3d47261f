/* The sets that an evaluation asks, and which completions count as passed.
 *
 * A value of --data (eval) or --eval-data (grpo) is one set without a name, as data_paths.h has it, or several with
 * names:
 *
 *   NAME=ITEM[,ITEM][,NAME=ITEM...]       what follows up to the next NAME= belongs to the set
 *
 * A file that exists is meant whatever stands in its name, as everywhere. */
#ifndef COHORT_RECIPE_EVALUATION_SETS_H
#define COHORT_RECIPE_EVALUATION_SETS_H

#include "recipe/scoring.h"

struct evaluation_set {
    char *name; /* NULL: the value names no sets, and this is all of it */
    char *spec;
    struct prompt_set prompts;
};

struct evaluation_sets {
    struct evaluation_set *items;
    size_t n, capacity;
    size_t n_prompts;
    int32_t longest; /* prompt, in tokens */
};

/* How the sets are loaded: max_tokens of a prompt at most, limit rows of each set (0: all), n completions of each. */
struct evaluation_load {
    const char *spec;
    const struct session *session;
    const struct scoring *scoring;
    const struct options *options;
    const cohort_observer *observer;
    size_t limit;
    int32_t max_tokens, n;
};
/* sets is overwritten; free it also after a failure. Options used: those of prompt_set_load_spec. */
cohort_status evaluation_sets_load(struct evaluation_sets *sets, const struct evaluation_load *load, cohort_error *err);
void evaluation_sets_free(struct evaluation_sets *sets);

/* Names and specs alone, without opening anything but to see what exists. */
cohort_status evaluation_sets_split(struct evaluation_sets *sets, const char *spec, cohort_error *err);

/* When a completion passes: its reward number `reward` is at least `threshold`. */
struct evaluation_judge {
    int32_t reward; /* of the scoring's */
    double threshold;
    bool votes; /* that reward judges answers, so that completions can vote */
    int32_t *k; /* [n_k] of pass@k and maj@k, rising; owned */
    size_t n_k;
};
/* Options used: pass_reward, pass_threshold, eval_k. n: completions of each prompt. judge is overwritten. */
cohort_status evaluation_judge_open(struct evaluation_judge *judge, const struct scoring *scoring, int32_t n,
                                    const struct options *options, cohort_error *err);
void evaluation_judge_close(struct evaluation_judge *judge);

#endif
