/* Environments: what answers a model's turns. A program that talks JSON lines over pipes, or a function in C that is given
 * and gives the same lines (docs/ENVIRONMENTS.md has the protocol).
 *
 * Nothing here waits for a program: environment_pump moves lines and looks at clocks, and what came of it is polled. All
 * calls are made by one thread, which decodes in between.
 *
 * It owns its workers (a child process each, or the one function), and the episodes until they end. A worker goes
 * starting -> ready -> (dead -> starting). An episode goes
 *     queued -> beginning -> idle <-> asked -> ended      at the program's reply or end
 *                            idle -> finishing -> ended   when the caller ends it, and the program may still score
 *     beginning, asked, finishing -> stuck -> gone        out of time: lost for the caller at once; its place in the worker
 *                                                         is free again when the program answers
 * An episode is begun when there is something to say to it, unless the program says that it observes: then at once. So
 * programs of few places can serve any number of episodes; those that wait for a place wait with their model's turn. */
#ifndef COHORT_ENVIRONMENT_ENVIRONMENT_H
#define COHORT_ENVIRONMENT_ENVIRONMENT_H

#include "base/memory.h"
#include "base/stop.h"
#include "environment/end_list.h"

#include <jansson.h>

#define END(id, word, lost) ENVIRONMENT_##id,
enum environment_end { ENVIRONMENT_END_LIST(END) ENVIRONMENT_ENDS };
#undef END
const char *environment_end_word(enum environment_end end);
bool environment_end_loses(enum environment_end end);

struct environment;
struct environment_episode;

/* A function in C in place of a program: it gets a line (without its newline, a NUL behind it) and answers by
 * environment_say, now or in a later call. request NULL: nothing is said, for answers that were not there yet. */
typedef cohort_status environment_function(void *context, struct environment *environment, const char *request,
                                           size_t length, cohort_error *err);

/* What an embedding program gives. */
struct environment_binding {
    char *name; /* owned; NULL: there is none */
    environment_function *function;
    void *context;
};

struct environment_options {
    const char *label;      /* in messages; borrowed */
    char *const *arguments; /* of the program, ends with NULL; borrowed. NULL: function */
    environment_function *function;
    void *context;
    int workers;              /* programs */
    double turn_s, episode_s; /* for an answer; for all answers of an episode together; 0: no limit */
    int32_t turns;            /* told to the program; 0: no limit */
    uint64_t seed;            /* told to the program, below 2^53 */
    const char *run;          /* likewise; NULL: none */
    const struct stop *stop;  /* borrowed */
    void (*tell)(void *context, const char *line); /* what a person should read; NULL: nobody */
    void *tell_context;
};
/* The command of python:FILE:CLASS (class), an object for each episode whose methods are tools, or python:FILE, whose
 * functions are, or those that :NAME,NAME names. owned is for mem_free, also after a failure. option: in messages. */
enum { ENVIRONMENT_ARGUMENTS = 9 };
cohort_status environment_python(char *arguments[ENVIRONMENT_ARGUMENTS], char *owned[2], const char *option,
                                 const char *spec, bool class, const char *python, cohort_error *err);

/* Starts the programs and waits until they are ready, at most 60 s. */
cohort_status environment_open(struct environment **out, const struct environment_options *options, cohort_error *err);
void environment_close(struct environment *environment);

/* The schemas of tools that the program has, an array, or NULL. */
const json_t *environment_tools(const struct environment *environment);
/* Whether an episode's prompt may depend on how it began: then its begin is answered before the model is asked. */
bool environment_observes(const struct environment *environment);
/* Episodes that can be in the programs at once. */
int64_t environment_places(const struct environment *environment);
/* Whether it has tools alone: a turn without a call ends an episode. */
bool environment_is_tools(const struct environment *environment);
/* Whether it may give rewards: one with tools alone only if it says so. */
bool environment_rewards(const struct environment *environment);

/* A rollout begins: programs may die anew. */
void environment_new_round(struct environment *environment);

/* What begins an episode: begin's fields but type and id, taken over also after a failure. owner is given back with
 * events. id: of letters, digits and dots; unlike any other. The episode is the environment's; it is valid until the event
 * that ends it was polled. */
cohort_status environment_begin(struct environment *environment, const char *id, json_t *begin, void *owner,
                                struct environment_episode **out, cohort_error *err);
/* The model's turn, from 1: its fields but type and id, taken over also after a failure. n_calls: of its calls. The one
 * before must have been answered. */
cohort_status environment_turn(struct environment *environment, struct environment_episode *episode, json_t *turn,
                               int32_t number, int32_t n_calls, cohort_error *err);
/* The episode is over: what the program answers may have rewards. Once nothing is asked. */
cohort_status environment_finish(struct environment *environment, struct environment_episode *episode,
                                 enum environment_end end, cohort_error *err);
/* The caller wants to hear no more of any episode: a rollout that was given up. */
void environment_abandon(struct environment *environment);

enum environment_event_kind {
    ENVIRONMENT_BEGUN, /* of one that observes */
    ENVIRONMENT_REPLY,
    ENVIRONMENT_ENDED
};
struct environment_event {
    void *owner;
    enum environment_event_kind kind;
    json_t *body; /* what the program said, a new reference; NULL: nothing, where the episode is lost */
    enum environment_end end;
    char why[300]; /* of a lost one */
};
/* In the order in which they came. */
bool environment_poll(struct environment *environment, struct environment_event *event);

/* Moves lines. Waits up to seconds for something to come, if nothing is there. COHORT_ERR_REWARD: the programs died three
 * times in a round; COHORT_ERR_CANCELLED. */
cohort_status environment_pump(struct environment *environment, double seconds, cohort_error *err);

/* A line that a function says. */
cohort_status environment_say(struct environment *environment, const char *line, size_t length, cohort_error *err);

/* Figures of a round, counted since environment_new_round. */
struct environment_figures {
    int64_t late; /* answers of episodes that had ended */
    int64_t deaths;
    int64_t turns; /* turns that were answered, and what that took, in seconds */
    double latency_mean, latency_p50, latency_p99;
};
cohort_status environment_figures(struct environment *environment, struct environment_figures *out, cohort_error *err);

#endif
