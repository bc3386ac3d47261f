/* A request while the engine works on it, and what has come of it: its choices, the text of each as far as it is certain,
 * and the form in which its client hears of it (struct dialect).
 *
 * A job is made by the I/O thread, handed over once, and from then on the engine thread's alone. */
#ifndef COHORT_SERVE_JOB_H
#define COHORT_SERVE_JOB_H

#include "recipe/row_guide.h"
#include "serve/ask.h"
#include "serve/http.h"
#include "serve/speech.h"

struct job;

/* One completion. */
struct choice {
    struct job *job;
    int32_t index;   /* among all of the job */
    int32_t prompt;  /* whose it is */
    int32_t *tokens; /* [n_tokens] as they were drawn */
    float *logprobs; /* [n_tokens] */
    size_t *ends;    /* [n_tokens] bytes of text with the token */
    int32_t n_tokens;
    size_t token_capacity, logprob_capacity, end_capacity;
    int32_t *top;        /* [n_tokens, top_logprobs] the likeliest ids at each place; NULL: not asked for */
    float *top_logprobs; /* likewise */
    size_t top_capacity, top_logprob_capacity;
    struct token_stream stream;
    struct text text;
    struct speech speech;
    int32_t n_due;     /* tokens whose text is certain */
    int32_t n_said;    /* those of them that were handed out */
    int32_t n_kept;    /* of n_tokens: the others lie behind a stop string */
    int32_t n_thought; /* tokens of thinking */
    bool dirty, ended;
    enum finish_reason finish;
    const char *stop;              /* the string that ended it; NULL: none */
    int32_t stop_id;               /* the id of stop_token_ids that did; -1: none */
    struct text thinking, content; /* what was said */
    json_t *calls;                 /* [{"id", "type", "function"}], NULL: none */
    /* The dialect's own, of a stream. */
    bool begun;
    int block;              /* the last one that was opened */
    enum speech_state open; /* what it has */
    bool is_open;
    size_t item_from; /* bytes of thinking or content before it */
};

/* How a form of requests is answered. Streams: begin, then piece and call as they come, tokens behind each of the
 * engine's steps that brought some, finish for each choice, end; else whole. */
struct dialect {
    const char *prefix; /* of ids: "chatcmpl-" */
    cohort_status (*begin)(struct job *job, cohort_error *err);
    cohort_status (*piece)(struct choice *choice, enum speech_state kind, const char *text, size_t length,
                           cohort_error *err);
    cohort_status (*call)(struct choice *choice, const json_t *call, const char *arguments, size_t length,
                          cohort_error *err);
    cohort_status (*tokens)(struct choice *choice, cohort_error *err);
    cohort_status (*finish)(struct choice *choice, cohort_error *err);
    cohort_status (*end)(struct job *job, cohort_error *err);
    cohort_status (*whole)(struct job *job, json_t **out, cohort_error *err);
    json_t *(*fault)(const struct fault *fault);
    const char *fault_event; /* of a stream that breaks off; NULL: it has no name */
};
extern const struct dialect dialect_chat, dialect_completion, dialect_anthropic, dialect_responses;

/* What is told of a prompt's tokens, behind the first: as struct score has it. */
struct prompt_score {
    float *logprobs;
    int32_t *top;
    float *top_logprobs;
};

struct job {
    struct ask ask;
    const struct dialect *dialect;
    struct http_call *call; /* held */
    const struct tokenizer *tokenizer;
    const char *fingerprint;
    char id[48];
    int64_t created; /* seconds since 1970 */
    uint64_t seed;
    struct choice *choices; /* [n_choices] those of a prompt side by side */
    int32_t n_choices, n_open;
    int64_t *requests;                   /* [ask.n_prompts] of the engine; -1: not submitted */
    struct row_constraints *constraints; /* [ask.n_prompts] */
    struct prompt_score *prompt_scores;  /* [ask.n_prompts] where log-probs of the prompt are asked for */
    size_t n_scored;                     /* of these */
    bool cancelled, failed;
    double arrived, started, first, last; /* by the clock; 0: not yet */
    int64_t said;                         /* events of a stream */
    json_t *note;                         /* the dialect's own */
    struct text head;                     /* likewise: what its events begin with */
    struct text event;                    /* the last one, whose memory the next one takes */
};
/* Takes the ask over, also where it fails. */
cohort_status job_create(struct job **out, struct ask *ask, struct http_call *call, const struct tokenizer *tokenizer,
                         const char *fingerprint, uint64_t seed, cohort_error *err);
void job_destroy(struct job *job);
/* A token was drawn, or the choice ended without one. */
cohort_status job_take(struct choice *choice, const struct engine_event *event, cohort_error *err);
/* Whether the log-probs of some prompt are asked for and not there yet. */
bool job_lacks_scores(const struct job *job);
/* Behind a step of the engine: hands out what became certain; the answer, where it was the last. */
cohort_status job_flush(struct job *job, cohort_error *err);
/* Answers with an error, or breaks a stream off with it. */
void job_fail(struct job *job, const struct fault *fault);

/* ---- For dialects ---- */

/* "stop", "length" or "tool_calls" */
const char *choice_finish(const struct choice *choice);
int64_t job_prompt_tokens(const struct job *job);
int64_t job_drawn_tokens(const struct job *job);
int64_t job_thought_tokens(const struct job *job);
/* A line "data: ..." with a JSON value, which is used up; event (NULL: none) goes before it. */
cohort_status job_event(struct job *job, const char *event, json_t *value, cohort_error *err);
/* Likewise with the job's head, the value, and tail. */
cohort_status job_event_behind_head(struct job *job, json_t *value, const char *tail, cohort_error *err);
/* Appends JSON as answers have it. */
cohort_status job_json(struct text *text, const json_t *value, cohort_error *err);
/* "prefix" and 24 hexadecimal digits: a function of the job and of number. */
void job_name(const struct job *job, const char *prefix, int64_t number, char out[48]);
/* Fills the answer's body with JSON, which is used up. */
void answer_json(struct http_call *call, unsigned status, json_t *value);
void answer_fault(struct http_call *call, const struct fault *fault, json_t *(*form)(const struct fault *fault));

#endif
