/* cohort watch, the view: what the thread that reads hands to the thread that draws.
 *
 * The reader (watch_reader.c) alone holds stores and connections. It makes a new snapshot of a run where something has
 * changed and puts it in the place of the old one under the mutex, under which everything is drawn (watch_draw.c); keys
 * never wait for a database. Texts of a snapshot may be given to a terminal as they are (cohort_shown). */
#ifndef COHORT_CLI_WATCH_H
#define COHORT_CLI_WATCH_H

#include "cli.h"

#include <pthread.h>

enum { WATCH_RUNS = 8, WATCH_POINTS = 200, WATCH_SAMPLES = 60, WATCH_EVENTS = 500, WATCH_ANSWER = 200 };

/* One metric over the last steps, ascending. */
struct watch_curve {
    char *metric, *label;
    bool indented, share; /* a reward function; a number between 0 and 1 of which 0 and 1 are the bounds */
    size_t n;
    int64_t *steps;
    double *values;
};

struct watch_event {
    int64_t step;
    double time;
    char *kind, *rule, *severity, *text;
};

struct watch_sample {
    int64_t step, group, index, tokens;
    double reward;
    char *finish;
    char *prompt, *text; /* as they were recorded: lines are made where they are shown (watch_lines) */
    size_t prompt_length, text_length;
    char *line;    /* the beginning of the text */
    char *rewards; /* "correct 1, format 0" */
};

struct watch_snapshot {
    char *problem; /* why nothing could be read; NULL: it could */
    char *model, *command, *status, *message, *config, *device;
    int64_t step, steps, saved_step; /* saved_step -1: none */
    double epoch, updated, saved_at;
    struct watch_curve *curves; /* those of the table */
    size_t n_curves;
    double step_time;                                    /* median of the last 20; NaN: unknown */
    double rollout_rate, train_rate;                     /* tokens a second; NaN: unknown */
    double rollout, reward, reference, train, step_last; /* seconds of the last step; NaN: unknown */
    struct watch_event *events;                          /* the newest last */
    size_t n_events, n_warnings;
    struct watch_sample *samples; /* as asked for */
    size_t n_samples;
    struct watch_sample *first; /* best and worst of the last step, for the run's page; NULL: none */
    size_t n_first;
};

/* Where the trainer is, if it can be asked. */
struct watch_live {
    bool there;
    char phase[24], unit[24];
    int64_t step, steps, done, total, ended, begun, saved_step;
    double per_second, seconds, memory;
    bool paused, pausing, saving;
};

enum watch_order { WATCH_LATEST, WATCH_BEST, WATCH_WORST, N_WATCH_ORDERS };

/* What is asked of the reader. */
struct watch_query {
    enum watch_order order;
    int64_t step;    /* -1: the last recorded; -2: all */
    int finish;      /* index of watch_finishes; 0: any */
    char search[80]; /* "": any text */
    bool shown;      /* samples are looked at now */
};
extern const char *const watch_finishes[];
enum { N_WATCH_FINISHES = 4 };

struct watch_run {
    char *name; /* as it was given */
    char *folder;
    struct watch_snapshot *snapshot; /* NULL: not read yet */
    struct watch_live live;
    unsigned answered; /* the number of the query that the samples answer */
};

struct watch {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct watch_run runs[WATCH_RUNS];
    size_t n;
    bool read_only, frozen, ending;
    double pause;    /* seconds between two looks */
    unsigned serial; /* raised with every change that is to be drawn */
    struct watch_query query;
    unsigned asked_query;
    size_t current; /* the run that is looked at */
    /* A request to the trainer of a run, and its answer. */
    bool asked;
    size_t asked_run;
    cohort_live_request request;
    char answer[WATCH_ANSWER];
    double answered_at;
};

/* ---- watch_reader.c ---- */
void *watch_reader(void *watch);
void watch_snapshot_free(struct watch_snapshot *snapshot);

/* ---- watch_text.c ---- */

/* Lines of a text, each as it may be shown. */
struct watch_lines {
    char **at;
    size_t n, room;
};
void watch_lines_add(struct watch_lines *lines, const char *text, size_t length);
void watch_lines_free(struct watch_lines *lines);
/* "13 h 32 m"; "-" for what is no time. */
void watch_duration(double seconds, char out[24]);
/* A number in at most so many characters. */
void watch_number(double value, char *out, size_t size);
/* Whether the last 50 values rise or fall (Mann and Kendall, beyond two standard errors): "up", "down", "flat"; "": too few. */
const char *watch_trend(const struct watch_curve *curve);
double watch_now(void);  /* monotonic */
double watch_time(void); /* seconds since 1970 */

/* ---- watch_draw.c ---- */

enum watch_tab { WATCH_TAB_RUN, WATCH_TAB_SAMPLES, WATCH_TAB_LOG, WATCH_TAB_CONFIG, WATCH_TAB_WARNINGS, N_WATCH_TABS };
/* What the person who looks has chosen; of the drawing thread alone. */
struct watch_look {
    enum watch_tab tab;
    bool ascii, colour, help, whole; /* whole: the selected sample's text fills the screen */
    size_t selected[N_WATCH_TABS], top[N_WATCH_TABS], whole_top;
    bool at_end[N_WATCH_TABS]; /* the last row is selected, and stays so when rows come */
    int prompt;                /* a line is typed: '/' or 'g'; 0: none */
    char typed[80], found[80];
    /* What was drawn, which keys move within. */
    size_t rows, page;
    int columns;
    int cursor_y, cursor_x;
};
void watch_draw(const struct watch *watch, struct watch_look *look);
/* The rows of a tab of lists, made anew for each drawing and each search. */
void watch_rows(const struct watch *watch, const struct watch_look *look, struct watch_lines *rows);

#endif
