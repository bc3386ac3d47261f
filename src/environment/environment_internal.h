/* Shared by the files of environments. */
#ifndef COHORT_ENVIRONMENT_INTERNAL_H
#define COHORT_ENVIRONMENT_INTERNAL_H

#include "base/child.h"
#include "environment/environment.h"

enum {
    LINE_LIMIT = 8 << 20, /* bytes of one line of a program */
    LOG_LIMIT = 1 << 20,  /* bytes of its log in a second */
    FOREIGN_LINES = 64,   /* that are no JSON, before it is ready */
    MOST_DEATHS = 3,      /* in a round */
    ID_SIZE = 64
};

enum episode_state { QUEUED, BEGINNING, IDLE, ASKED, FINISHING };

struct environment_episode {
    char id[ID_SIZE];
    void *owner;
    enum episode_state state;
    struct worker *worker; /* NULL: it has no place */
    bool over, polled;     /* it ended, and its owner knows */
    bool stuck;            /* over, and its place is not free before the program answers */
    json_t *begin, *next;  /* to be said; NULL: said, nothing */
    bool finishes;         /* next is a finish */
    enum environment_end end;
    int32_t turn, n_calls;  /* that was asked */
    double asked_at, spent; /* of the clock; seconds of all answers */
    double deadline;
    struct environment_episode *previous, *next_one; /* of all, in the order of their begin */
};

struct worker {
    struct environment *environment;
    int index;
    struct child child;
    bool runs, ready;
    double deadline; /* of ready, while it starts */
    int32_t places, taken, stuck;
    int32_t foreign;
    struct text out;  /* to be written */
    size_t sent;      /* of out */
    double log_since; /* second in which log_bytes were said */
    size_t log_bytes;
};

struct pushed {
    struct environment_event event;
    struct environment_episode *episode;
};

struct environment {
    struct environment_options options;
    struct worker *workers; /* [options.workers] */
    json_t *tools;
    bool observes, is_tools, rewards;
    struct environment_episode *first, *last;
    struct pushed *events; /* [n_events] from n_polled on */
    size_t n_events, n_polled, event_room;
    double *latencies;
    size_t n_latencies, latency_room;
    int64_t late, deaths;
    char failure[1000]; /* it cannot go on; empty: it can */
    bool opened;        /* every program was ready once */
    bool in_function;
};

/* A line that a worker said. False: why[size] says what is wrong, and it must die. */
bool environment_line(struct worker *worker, const char *line, size_t length, char *why, size_t size);
/* An event for the owner; with ENVIRONMENT_ENDED the episode is over. body: taken over. False: out of memory. */
bool environment_push(struct environment *environment, struct environment_episode *episode,
                      enum environment_event_kind kind, json_t *body, enum environment_end end, const char *why);
/* The program answered an episode that was stuck: its place is free. */
void environment_unstick(struct environment *environment, struct environment_episode *episode);
void environment_tell(const struct environment *environment, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
