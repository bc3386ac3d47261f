/* Requests and their completions as the engine keeps them.
 *
 * A request owns copies of everything that was asked, its prompt's pages and its sequences; a sequence owns its tokens
 * so far, their log-probs and entropies, and its text. Only the scheduler changes their states. A sequence's history is
 * its prompt followed by what was drawn and, between turns, what came from outside, always as ids (invariant I4): text
 * is made from it and never read back. */
#ifndef COHORT_ROLLOUT_SEQUENCE_H
#define COHORT_ROLLOUT_SEQUENCE_H

#include "rollout/engine.h"
#include "rollout/pages.h"

/* PENDING: it has no row and no pages, for the first time or because it was set back. WAITING: its turn ended and its
 * answer is not there. READY: it goes on as soon as there is a row for it. These two have no row, and hold their pages
 * (unless they are set back, after which READY is PENDING). */
enum sequence_state { SEQUENCE_PENDING, SEQUENCE_RUNNING, SEQUENCE_WAITING, SEQUENCE_READY, SEQUENCE_FINISHED };

/* One completion. */
struct sequence {
    struct request *request;
    int32_t index; /* of the draw's stream */
    enum sequence_state state;
    int32_t *history;      /* prompt, then output: [n_prompt + max_tokens] */
    float *logp, *entropy; /* [max_tokens] */
    float *kept;           /* [max_tokens] with a constraint, else NULL */
    bool *sampled;         /* [max_tokens] of a request with turns; else NULL */
    int32_t *top_ids;      /* [max_tokens, n_top] of a request that asks for them */
    float *top_logp;       /* likewise */
    int32_t n_tokens;      /* output so far, what came from outside included */
    int32_t turn_begin;    /* output before the turn in hand */
    int32_t n_behind; /* tokens ahead of the last one whose keys and values are not computed: a turn's EOS and what came
                          from outside behind it, or, set back, all of them */
    int32_t n_in_step;      /* rows that the step in hand computes */
    int32_t n_drafted;      /* tokens behind its last one in history that are not its own: drafts (drafts.h) */
    int32_t n_verified;     /* of them, in the step in hand, those that were drawn; -1: it draws no more */
    int32_t pause_at;       /* with so many tokens a turn ends too; 0: never */
    bool turned;            /* its last token ended a turn, and nothing came behind it */
    struct sequence *next;  /* in the scheduler's list of turns that ended, or of those that go on */
    struct page_list pages; /* positions n_prompt on */
    const struct constraint *constraint; /* the request's; NULL: none */
    struct token_stream stream;
    struct text text;
    size_t emitted; /* bytes of text already given to the callback */
    enum finish_reason finish_reason;
    uint16_t *routes; /* as of its completion, where it waits and was set back; else NULL */
};

/* BACK: it was admitted, and its prompt has no pages any more. */
enum request_state { REQUEST_WAITING, REQUEST_BACK, REQUEST_PREFILL, REQUEST_ACTIVE };

struct request {
    int64_t id;
    enum request_state state;
    struct engine_request ask;    /* with our copies of what it points to */
    struct sampling_params early; /* of draws before min_tokens: what ends a completion is forbidden */
    int32_t *early_id;
    float *early_bias;
    float *prompt_logp; /* [n_prompt], where it is asked for */
    int64_t turn;       /* its place among those that wait (scheduler_add) */
    int32_t *prompt, *xtc_special, *bias_id;
    float *bias, *vectors;
    int32_t *eos_ids; /* [n_eos + n_stop_ids] */
    char **stop;
    struct constraint *constraints; /* [n] or NULL */
    int32_t max_tokens;             /* clipped to the context */
    int32_t step_tokens; /* with a rotating window: of a text that is computed again at once, at most; else 0 */
    uint64_t scope;      /* of its prompt: what drafts are known behind */
    int32_t n_prefilled, n_in_step; /* prompt tokens computed; those of them that the step in hand computes */
    struct page_list pages;         /* positions 0 .. n_prompt */
    struct sequence *sequences;     /* [n] */
    int32_t n_unfinished;           /* of its sequences */
    int32_t first_pending;          /* sequences before it are not pending */
    bool begun;                     /* its completions have their first tokens */
    bool all_logits;                /* those of the prompt's tokens are wanted too, so that all of it is computed */
    bool apart;                     /* it shares no pages with other requests */
    int32_t n_known;                /* of its prompt's chunks, the first so many are known pages (prefix.h) */
    int64_t known;                  /* the name of the last of them */
    bool cancelled;
    struct request *previous, *next; /* in the scheduler's list of its state */
};

/* Makes a deep copy; max_tokens is already clipped to the context. */
cohort_status request_create(struct request **out, const struct engine_request *ask, int32_t max_tokens,
                             cohort_error *err);
void request_destroy(struct request *request);

/* The ids below this may be drawn, of a vocabulary of this size. */
int32_t request_choosable(const struct request *request, int32_t vocab);
bool request_is_eos(const struct request *request, int32_t token);
/* The temperature of the log-probs that are reported, and whether a draw reports them at another one. */
float request_logp_temperature(const struct request *request);
bool request_logp_apart(const struct request *request);
/* Draws that the host must see one by one. */
bool request_watched(const struct request *request);
/* The sequence's next draw, from row logits_row: keyed by seed, stream, index and position (invariant I3). Points into
 * the sequence. */
struct sample_row sequence_draw(const struct sequence *sequence, int32_t logits_row);
/* Takes a drawn token: appends and decodes it, looks for EOS, stop strings, the end of a constraint and the maximum
 * length, and sets finish_reason. */
cohort_status sequence_append(struct sequence *sequence, const struct tokenizer *tokenizer,
                              const struct sample_row *draw, cohort_error *err);
/* What came from outside: n tokens that fit behind what there is. */
cohort_status sequence_go_on(struct sequence *sequence, const struct tokenizer *tokenizer, const int32_t *tokens,
                             int32_t n, cohort_error *err);
/* Its tokens become these n, and it may draw ahead more before it pauses. Keys and values of those that it had before, and
 * begins with still, stay. */
void sequence_retrace(struct sequence *sequence, const int32_t *tokens, int32_t n, int32_t ahead);
/* It holds no pages and wants them: all its tokens but the last are behind. */
void sequence_pending(struct sequence *sequence);
/* How many pages of its own it needs for its last token and, as far as its length allows, the ahead - 1 behind it. */
int32_t sequence_pages(const struct sequence *sequence, int32_t ahead);
/* The text that became certain since the last call: *length bytes inside sequence->text. */
const char *sequence_new_text(struct sequence *sequence, size_t *length);

#endif
