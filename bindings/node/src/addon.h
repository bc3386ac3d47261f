/* The Node addon: cohort.h for JavaScript, in C over Node-API alone. index.js and lib/ make of it what programs see.
 *
 * Every handle of the library (a model, a run, a trainer, a store) belongs to a thread of its own (struct worker), which alone
 * calls the library with it. JavaScript queues jobs there and gets promises. What the library calls back (rewards, metrics,
 * notes) goes to the JavaScript thread through the one thread-safe function of the environment; where an answer is needed,
 * the worker waits for it.
 *
 * Node-API is called on the JavaScript thread only: functions that take a napi_env run there. Nothing is global, so that
 * the addon can be loaded in every worker_threads thread. */
#ifndef COHORT_NODE_ADDON_H
#define COHORT_NODE_ADDON_H

#define NAPI_VERSION 8
#include <cohort.h>
#include <node_api.h>

#include <pthread.h>

/* ---- Text (addon_text.c) ----------------------------------------------------------------------------------------- */

/* Growing text. After memory ran out it stays empty and says so. Zero-initialise. */
struct addon_text {
    char *data;
    size_t length, room;
    bool failed;
};
void addon_text_free(struct addon_text *text);
void addon_text_add(struct addon_text *text, const char *bytes, size_t length);
void addon_text_say(struct addon_text *text, const char *string);
/* As JSON: a string, null for NULL; a number, null where it is not finite; "name": before a member, with a comma before it
 * unless it is the first of its object. */
void addon_text_json(struct addon_text *text, const char *bytes, size_t length);
void addon_text_string(struct addon_text *text, const char *string);
void addon_text_number(struct addon_text *text, double value);
void addon_text_key(struct addon_text *text, const char *name);

/* ---- Environments and threads (addon.c, worker.c) ---------------------------------------------------------------- */

/* One JavaScript environment: the main thread, or one of worker_threads. */
struct addon {
    napi_env env;
    napi_threadsafe_function calls; /* runs struct message on the JavaScript thread */
    size_t busy;                    /* jobs under way: the process stays while there are any */
    struct worker *workers;
    size_t holders; /* the environment and the workers: freed with the last */
    bool ended;     /* the environment is being torn down */
    napi_ref make_error;
};

/* Something for the JavaScript thread. arrive owns the message; env is NULL where JavaScript can run no more. */
struct message {
    void (*arrive)(napi_env env, struct message *message);
};
/* From any thread. Where the environment is being torn down, message->arrive(NULL) is called at once. */
void post(struct addon *addon, struct message *message);

/* Work for a worker's thread with a promise for its result. The first member of the structs of jobs. */
struct job {
    struct message message;
    struct job *next;
    struct worker *worker;
    void (*work)(struct job *job);
    /* Makes the result; NULL: undefined. */
    napi_value (*result)(napi_env env, struct job *job);
    /* Frees what it holds, but not itself; may be NULL. env is NULL where JavaScript can run no more. */
    void (*release)(napi_env env, struct job *job);
    napi_deferred deferred;
    cohort_status status;
    cohort_error err;
    bool kept;              /* by the worker, which posts it once it is done */
    struct addon_text text; /* of the result, or of an argument */
};

enum worker_kind { WORKER_MODEL, WORKER_RUN, WORKER_TRAINER, WORKER_STORE };

struct worker {
    enum worker_kind kind;
    struct addon *addon;
    struct worker *next;
    size_t holders; /* the JavaScript object and the thread */
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t wake;  /* a job came, an answer came, or it is closing */
    struct job *first, *last;
    bool closing, joined;
    int64_t asked, question; /* question: the number of the one that waits for an answer, 0: none */
    double *answers;
    size_t n_answers;
    bool answered, refused;
    char refusal[400];
    /* The thread's own. */
    cohort_stop *stop;
    cohort_options *options;
    union {
        cohort_model *model;
        cohort_trainer *trainer;
        cohort_store *store;
    } handle;
    struct generation *generations; /* of a model: jobs that have requests in the engine */
    bool busy;                      /* the engine has something to compute */
    /* Of runs and trainers. */
    napi_ref handler;
    struct reward_slot *rewards;
    size_t n_rewards;
    int64_t timeout_ms; /* for an answer of a reward; 0: none */
    bool timed_out, wants_progress;
    char *environment;                          /* its name; NULL: there is none in JavaScript */
    struct environment_line *lines, *lines_end; /* its answers that wait, under lock */
    struct addon_text output;
};

struct reward_slot {
    struct worker *worker;
    size_t index;
    char *name;
    bool tokens;
};

/* Makes a worker with its thread and the JavaScript value that stands for it. Throws and returns NULL on failure. */
struct worker *worker_new(napi_env env, struct addon *addon, enum worker_kind kind, napi_value *handle);
/* The worker of a handle; NULL with an exception if it is none, or of another kind (unless kinds has its bit). */
struct worker *worker_of(napi_env env, napi_value handle, unsigned kinds);
/* Queues the job and returns its promise. job is a block of malloc and zeros; it is freed when its promise is settled. */
napi_value worker_queue(napi_env env, struct worker *worker, struct job *job);
void node_job_fail(struct job *job, cohort_status status, const char *message);
/* Hands a job to the JavaScript thread, done. On the worker's thread. */
void node_job_done(struct job *job);
/* Asks the worker's thread to end: what is queued fails, what is under way is stopped. On the JavaScript thread. */
void worker_close(struct worker *worker);
/* In an environment that is torn down: ends all threads and waits for them. */
void workers_join(struct addon *addon);

/* Tells the handler of a run, and takes text (addon_run.c). */
void worker_tell(struct worker *worker, const char *kind, struct addon_text *text);
/* What answers turns in JavaScript (addon_environment.c). */
struct environment_line;
cohort_status on_environment(void *context, cohort_environment *environment, const char *request, size_t length,
                             cohort_error *err);
napi_value environment_answer(napi_env env, napi_callback_info info);
void environment_lines_free(struct environment_line *line);

/* Of a model's thread (addon_model.c): takes a step of the engine and hands out what is done. */
void model_turn(struct worker *worker);
/* Cancels and fails what there is. */
void model_drop(struct worker *worker, cohort_status status, const char *message);

/* ---- Values (addon.c) -------------------------------------------------------------------------------------------- */

/* Where a call of Node-API fails, that leaves an exception: returns value from the calling function. */
#define OK_OR(value, call)                                                                                             \
    do {                                                                                                               \
        if ((call) != napi_ok) {                                                                                       \
            throw_pending(env, #call);                                                                                 \
            return value;                                                                                              \
        }                                                                                                              \
    } while (0)
void throw_pending(napi_env env, const char *call);
void throw_error(napi_env env, cohort_status status, const char *message);
napi_value make_error(napi_env env, struct addon *addon, cohort_status status, bool timed_out, const char *message);
struct addon *addon_of(napi_env env);
/* Arguments of a call, at most n; false with an exception. */
bool arguments(napi_env env, napi_callback_info info, size_t n, napi_value *values);
/* A string as UTF-8 in a block of malloc, with a NUL behind it; NULL with an exception. length may be NULL. */
char *string_of(napi_env env, napi_value value, size_t *length);
bool number_of(napi_env env, napi_value value, double *number);
/* [name, value, name, value, ...] into options of the command: a list of strings that options_make reads. */
char **strings_of(napi_env env, napi_value array, size_t *count);
void strings_free(char **strings, size_t count);
cohort_status options_make(cohort_options **out, cohort_command command, char *const *pairs, size_t count,
                           cohort_error *err);
/* A copy of numbers as a typed array. */
napi_value typed_array(napi_env env, napi_typedarray_type type, const void *data, size_t count);
napi_value text_value(napi_env env, const char *data, size_t length);
/* The result of a job whose text it is. */
napi_value result_text(napi_env env, struct job *job);
/* [handle, promise] */
napi_value pair(napi_env env, napi_value first, napi_value second);

/* What each file adds to the module. */
bool export_function(napi_env env, napi_value exports, const char *name, napi_callback function);
bool model_exports(napi_env env, napi_value exports);
bool run_exports(napi_env env, napi_value exports);
bool store_exports(napi_env env, napi_value exports);

#endif
