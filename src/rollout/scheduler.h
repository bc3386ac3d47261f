/* Who runs: which requests have their prompts computed, which of their completions decode, and what pages they hold.
 *
 * It owns the requests, their sequences, the page pool's bookkeeping, and finished completions until they are polled.
 * It knows nothing of tensors: the step asks it who takes part, and gives it what was drawn.
 *
 * A request goes  waiting -> prefill -> active -> gone.  Its completions (sequences) go  pending -> running -> finished
 * (polled).
 *   waiting -> prefill   admission_run    when there are pages for its prompt
 *   prefill -> active    scheduler_prompt_done
 *                                         when its last prompt token was computed: all its completions draw their first
 *                                         token, unless they have it already
 *   pending -> running   admission_run    when there are a row and the pages of the tokens that it has
 *   running -> finished  finish_sequence  at EOS, a stop string, its length, or engine_cancel
 * Pages are taken as tokens are fed, not for what a completion may come to. Where the pool has too few the youngest is set
 * back (admission.h): its pages are free, its tokens stay, and they are computed again when there are pages for them.
 *   running, ready -> pending             a completion that was set back
 *   prefill, active -> back               a request whose prompt was set back, behind all its completions
 *   back -> prefill      admission_run    as waiting -> prefill, and before any of those
 * Of a request with turns an EOS ends a turn:
 *   running, pending -> waiting           scheduler_take: it keeps the pages that it has, until it is set back, and gives
 *                                         its row back; scheduler_poll_turn hands the turn out
 *   waiting -> ready     scheduler_go_on  with tokens from outside; -> pending if it was set back, -> finished where they
 *                                         leave no room, or at scheduler_end
 *   ready -> running     admission_run    when a row is free, before pending ones; its first step computes what is
 *                                         behind (n_behind)
 *   ... -> gone          scheduler_sweep  when all its completions are finished
 *
 * Invariants: requests are admitted in the order of submission, callers in turns, and keep it: the older one comes first wherever pages and
 * rows are given out, and is set back last; the oldest that can get on always does; running holds a request's sequences
 * side by side.
 *
 * Any number of requests may wait: submission and cancellation take constant time, and nothing that happens in a step
 * looks at those that wait behind the next one. */
#ifndef COHORT_ROLLOUT_SCHEDULER_H
#define COHORT_ROLLOUT_SCHEDULER_H

#include "rollout/drafts.h"
#include "rollout/request_queue.h"

/* Callers are told apart by a hash of so many values: two that have the same share their turns. */
enum { SCHEDULER_CALLERS = 256 };

struct scheduler {
    const struct tokenizer *tokenizer; /* borrowed; NULL: no text */
    struct page_pool pool;
    struct request_list waiting, admitted;      /* not admitted yet; the others, the oldest first */
    int32_t n_queued;                           /* of waiting */
    int64_t turn, last_turn[SCHEDULER_CALLERS]; /* of the request admitted last; of each caller's last one */
    struct request *ended; /* all completions are finished; they are let go at the end of the step */
    /* All requests: id is at id % id_capacity, a power of 2, if it is there; ids first_id .. next_id fit. */
    struct request **by_id;
    size_t id_capacity;
    int64_t first_id, next_id;
    int64_t cancel_first, cancel_end; /* ids between which some are cancelled */
    struct sequence **running;        /* [max_sequences] */
    int32_t n_running, max_sequences, prefill_tokens;
    int32_t kv_pages;                  /* of struct engine_config */
    int32_t n_prefill;                 /* requests in that state */
    struct sequence_list turns, ready; /* waiting and not handed out; going on, in that order */
    int32_t n_waiting;                 /* handed out or not */
    size_t n_unfinished;               /* completions of all requests */
    struct completion_queue finished;
    engine_callback *callback;
    void *callback_context;
    /* Copies the routes of positions begin .. end, whose pages are in list, to to[end - begin, route_width]; 0: they are
     * not kept. */
    void (*fetch_routes)(void *context, const struct page_list *list, int32_t first_chunk, int32_t begin, int32_t end,
                         uint16_t *to);
    void *fetch_context;
    int32_t route_width;
    int64_t generated_tokens, outside_tokens;
    int32_t wears;           /* of the requests that the step in hand computes */
    struct sequence **aside; /* [max_sequences] those that run and wear something else, during a step */
    int32_t n_aside;
    struct drafts drafts;
    int64_t beginning;    /* what the first pages of texts are known behind, for the weights as they are */
    int64_t known_tokens; /* that were not computed because their pages were known */
    int64_t n_set_back, set_back_tokens; /* completions and prompts; tokens whose keys and values were given up */
};
/* With a rotating window: a list's pages at once, those that are seen and those that a step may fill. */
int32_t scheduler_pages_at_once(int32_t kv_pages, int32_t prefill_tokens);
/* windows: of drafts. */
cohort_status scheduler_create(struct scheduler *scheduler, const struct engine_config *config,
                               const struct tokenizer *tokenizer, bool windows, cohort_error *err);
void scheduler_free(struct scheduler *scheduler);

/* Queues a request and gives it an id larger than all before. The scheduler then owns it, except on failure. Reserves
 * all the bookkeeping that the request will need, so that no step has to (invariant I8). */
cohort_status scheduler_add(struct scheduler *scheduler, struct request *request, cohort_error *err);
/* Its completions end at the next scheduler_admit. An unknown id is not an error. */
void scheduler_cancel(struct scheduler *scheduler, int64_t id);

/* Called before a step: ends what was cancelled, sees that all that run have the pages of their next ahead tokens, and
 * admits what fits beside them; of those that go on behind a turn only if open. */
cohort_status scheduler_admit(struct scheduler *scheduler, int32_t ahead, bool open, cohort_error *err);
/* Whether any request is not finished. */
bool scheduler_busy(const struct scheduler *scheduler);
/* Whether nothing can run before a turn that ended is answered. */
bool scheduler_waits(const struct scheduler *scheduler);
/* Whether a running completion has tokens from outside that are not computed. */
bool scheduler_catches_up(const struct scheduler *scheduler);
/* Whether the prompt of any admitted request that wears what the step does is not yet computed to its end. */
bool scheduler_prefills(const struct scheduler *scheduler);
/* Tokens that the step could compute of such prompts and of completions that have tokens behind, at most prefill_tokens: drafts
 * get what they leave. */
int32_t scheduler_due(const struct scheduler *scheduler);
/* Tells the scheduler that the request's prompt is computed. */
void scheduler_prompt_done(struct scheduler *scheduler, struct request *request);
/* Appends a drawn token to its sequence, or ends the sequence if nothing could be drawn; its neighbours continue. */
cohort_status scheduler_take(struct scheduler *scheduler, struct sequence *sequence, const struct sample_row *draw,
                             cohort_error *err);
/* A completion whose turn ended, in the order in which they did; NULL: none that was not handed out. */
struct sequence *scheduler_poll_turn(struct scheduler *scheduler);
/* The waiting completion of that request and index; NULL: it does not wait. */
struct sequence *scheduler_waiting(const struct scheduler *scheduler, int64_t request, int32_t index);
/* A waiting completion goes on behind n tokens, which fit. Where they take all its room it ends by its length. */
cohort_status scheduler_go_on(struct scheduler *scheduler, struct sequence *sequence, const int32_t *tokens, int32_t n,
                              cohort_error *err);
/* A waiting completion becomes n tokens and goes on for ahead of its own (engine_retrace). */
void scheduler_retrace(struct scheduler *scheduler, struct sequence *sequence, const int32_t *tokens, int32_t n,
                       int32_t ahead);
/* A waiting completion ends where it is. */
cohort_status scheduler_end(struct scheduler *scheduler, struct sequence *sequence, cohort_error *err);
/* The routes of the prompt and of all tokens but the last, which is not fed: mem_free them. */
cohort_status scheduler_take_routes(const struct scheduler *scheduler, const struct sequence *sequence,
                                    uint16_t **routes, cohort_error *err);
/* What the requests of the next step wear: of those that have something to compute, the next behind the last step's. */
int32_t scheduler_next_wears(const struct scheduler *scheduler);
/* Between these two running has only those that wear this, and prompts of others are not computed. */
void scheduler_set_aside(struct scheduler *scheduler, int32_t wears);
void scheduler_put_back(struct scheduler *scheduler);
/* Called after a step: removes finished sequences from the running list, keeping its order, and releases finished
 * requests. */
void scheduler_sweep(struct scheduler *scheduler);

#endif
