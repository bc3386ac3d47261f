/* Episodes of several turns: what the model says goes to an environment, what that answers becomes tokens behind it.
 *
 * Owns the environment, and what is said in the episodes of the rollout in hand until it is attached to their completions
 * (completion.episode). Nothing is ever rendered again: an answer's tokens are those of what the chat template writes
 * behind the end of a turn (chat_turn_render), and what stands in it is content (I12). */
#ifndef COHORT_RECIPE_EPISODES_H
#define COHORT_RECIPE_EPISODES_H

#include "environment/environment.h"
#include "recipe/overlong_list.h"
#include "recipe/scoring.h"
#include "recipe/turn_rewards_list.h"

#define MODE(id, word) TURN_REWARDS_##id,
enum turn_rewards { TURN_REWARDS_LIST(MODE) };
#undef MODE
#define MODE(id, word) OVERLONG_##id,
enum overlong { OVERLONG_LIST(MODE) };
#undef MODE

struct live_episode;

struct episodes {
    struct environment *environment; /* NULL: there are no turns */
    struct ranks *ranks;             /* each of which has an environment of its own; NULL: one */
    struct session *session;         /* borrowed */
    struct row_style style;
    const cohort_observer *observer; /* borrowed */
    struct text said;                /* what programs of another rank than 0 say to people, until that one tells it */
    int32_t max_turns;               /* of the model; 0: no limit */
    int32_t max_iterations;          /* of calling tools; -1: no limit */
    bool per_turn;                   /* rewards of turns stand at their tokens */
    bool cuts;                       /* words of answers that do not fit are cut */
    uint64_t seed;
    struct rollout_turns hooks;
    struct reward *reward; /* "environment"; NULL: it gives none */
    char *label;
    struct text command; /* of the program, which arguments has */
    char *arguments[ENVIRONMENT_ARGUMENTS];
    char *owned[2]; /* of arguments */
    /* The rollout in hand. */
    struct live_episode *list; /* [n_prompts * n] */
    bool *mine;                /* [n_prompts] those of this rank: the others' are not begun here */
    int32_t n_prompts, n;
    int64_t waiting, waited;         /* sequences that waited, summed over looks; and that were there */
    struct engine_stats first, last; /* at the first look and at the last */
    int64_t serial;
    bool warned;
};

/* Starts the environment that the options name, or the one that an embedding program bound (NULL: none), if there is one. Options used: those of the group "Environment". */
cohort_status episodes_open(struct episodes *episodes, struct session *session, const struct options *options,
                            const struct environment_binding *bound, const cohort_observer *observer, const char *run,
                            cohort_error *err);
void episodes_close(struct episodes *episodes);
/* scoring_open with the rewards of the options, the environment's, and those of extra (NULL: none), in this order. */
cohort_status episodes_scoring(const struct episodes *episodes, struct scoring *scoring, const struct options *options,
                               const struct reward_list *extra, cohort_error *err);

/* What a rollout is told of. */
struct episodes_start {
    const struct prompt_batch *batch;
    struct prompt *prompts; /* [n_prompts] of batch; an observation changes them. NULL: it may not */
    int32_t n_prompts, n;
    uint64_t batch_index;
    const uint64_t *ids;     /* [n_prompts] that key the draws */
    const int32_t *expected; /* [n_prompts] lengths, as the rollout is told them */
    int64_t step;            /* of the run; of an evaluation without one 0 */
    bool eval;
};
/* Begins the episodes of a rollout, which follows; with ranks those of the prompts that this one draws of. */
cohort_status episodes_start(struct episodes *episodes, const struct episodes_start *start, cohort_error *err);
/* Behind it: figures go to log. completions[n_prompts * n]: what came of it. */
cohort_status episodes_end(struct episodes *episodes, const struct completion *completions, struct reward_log *log,
                           cohort_error *err);
/* In its place, where the rollout failed. */
void episodes_abandon(struct episodes *episodes);

#endif
