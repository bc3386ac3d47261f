/* The rollout engine: requests in, completions with exact log-probs out, by continuous batching over KV pages.
 *
 * This is its public interface. Behind it are the scheduler (scheduler.h: who runs, states of requests and sequences),
 * admission (admission.h: who gets pages and rows, and who gives pages up), the step (step.h: the batch, its run and the draws), the window (window.h: steps that a device takes without the
 * host), sequences (sequence.h), pages (pages.h), and what comes out (completion.h). The engine owns all of them; the
 * buffers come from an arena (engine_plan).
 *
 * Between two calls of engine_step nothing is under way: requests may be submitted and cancelled, completions polled.
 * Pages hold ATTENTION_CHUNK positions. A completion refers to its prompt's pages, the last partial one included: its
 * own pages start at the position behind the prompt, so nothing is copied.
 *
 * Keeps I2 (the batch's composition never reaches a sequence's numbers: decoder), I3 (a draw depends on seed, stream,
 * completion index and position) and I4 (a completion's ids are those that were drawn). */
#ifndef COHORT_ROLLOUT_ENGINE_H
#define COHORT_ROLLOUT_ENGINE_H

#include "backend/sampling.h"
#include "model/arena.h"
#include "model/model.h"
#include "rollout/completion.h"
#include "rollout/constraint.h"
#include "text/tokenizer.h"

struct engine;
struct model_adapter;

/* Changes the logits [n_logits] of the next draw of a completion, behind history [n_history] (its prompt and what it has),
 * before bias, penalties and filters; log-probs and entropies stay those of the model. Called from within engine_step,
 * after a stop a second time with the same. */
typedef void engine_process(void *context, int32_t index, const int32_t *history, int32_t n_history, float *logits,
                            int32_t n_logits);

/* Guesses what comes behind the history of a completion: up to most tokens into guess; returns how many. Called from within
 * engine_step. */
typedef int32_t engine_guess(void *context, int64_t request, int32_t index, const int32_t *history, int32_t n_history,
                             int32_t *guess, int32_t most);

enum { ENGINE_TOP_MOST = 64 };

struct engine_config {
    int32_t max_sequences;  /* completions decoding at once */
    int64_t n_pages;        /* of the pool */
    int32_t prefill_tokens; /* prompt tokens computed in one step, at most */
    int32_t prefill_chunk;  /* of one prompt in one step, at most; 0: no limit of its own */
    int32_t max_context;    /* prompt + completion, tokens */
    int32_t max_waiting;    /* requests that were not begun; 0: any number */
    int32_t draft_tokens;   /* tokens of a completion that a step drafts, at most (drafts.h); 0: none */
    bool kv8;               /* keys and values in 8 bits: log-probs are not those of training */
    int32_t kv_pages; /* a rotating window: a token sees the first page and the last ones, so many together, from 2 on;
                               0: all. Log-probs are not those of training then */
};

/* The most pages that a request with n completions can come to hold. */
int64_t engine_pages(int32_t n_prompt, int32_t max_tokens, int32_t n);
/* The most pages of a prompt, or of a completion, that are held at once by an engine of this configuration. */
int64_t engine_pages_at_once(const struct engine_config *config);
size_t engine_page_bytes(const struct model_config *config, enum dtype act, bool kv8);
/* What engine_plan will take for an engine of this configuration. */
cohort_status engine_buffer_bytes(struct model *model, const struct engine_config *config, size_t *bytes,
                                  cohort_error *err);

struct model *engine_model(const struct engine *engine);
/* model and tokenizer (may be NULL: no text, no stop strings) are borrowed. */
cohort_status engine_create(struct engine **out, struct model *model, const struct tokenizer *tokenizer,
                            const struct engine_config *config, cohort_error *err);
/* Takes the buffers from the arena: called twice, to measure and then to allocate. The pool is empty afterwards. */
cohort_status engine_plan(struct engine *engine, struct arena *arena, cohort_error *err);
void engine_destroy(struct engine *engine);

/* When a completion is ended because it says the same again and again: its last tokens are min_count times in a row one
 * run of min_size to max_size tokens. max_size 0: never. The tokens keep all of them, as does the text. */
struct repeat_limit {
    int32_t max_size, min_size, min_count;
};

/* Everything is copied except the contexts of constraints. */
struct engine_request {
    const int32_t *prompt;
    int32_t n_prompt;     /* at least 1 */
    const float *vectors; /* [n_prompt, width] what the prompt's positions begin with, in place of its ids' rows of the
                             embedding; NULL: these */
    int32_t width;        /* of the model; only asked for with vectors */
    int32_t n;            /* completions */
    int32_t first_index;  /* index of the first of them (0), so that a group can be asked for in parts */
    struct sampling_params sampling;
    uint64_t seed, stream; /* of the draws: stream is what tells prompts (and steps) apart */
    int32_t max_tokens;
    const int32_t *eos_ids;
    int32_t n_eos;
    const char *const *stop; /* strings that end a completion; they are not part of its text */
    int32_t n_stop;
    int32_t n_choosable;                  /* ids >= this are not drawn (0: the whole vocabulary) */
    const struct constraint *constraints; /* [n] one for each completion; NULL: none */
    const int32_t *stop_ids; /* ids that end a completion as a stop string does: its tokens have them, its text not */
    int32_t n_stop_ids;
    int32_t min_tokens;     /* before it has so many, neither an EOS nor one of stop_ids is drawn */
    float logp_temperature; /* of the log-probs that are reported; 0: that of the draws (1 where these are greedy) */
    struct repeat_limit repetition;
    int32_t n_top;    /* with every token the most likely ones, so many, with their log-probs; to ENGINE_TOP_MOST */
    bool prompt_logp; /* the log-probs of the prompt's tokens too */
    engine_process *process; /* NULL: none. Not together with constraints */
    void *process_context;
    int32_t
        wears; /* 0: what the model wears at each step; else the number, from 1, of an adapter of engine_set_adapters */
    uint64_t caller; /* requests of different callers are begun in turns, each as many completions as the others */
    bool turns;    /* an EOS ends a turn: the completion waits for engine_go_on or engine_end. max_tokens is then of all
                   turns and of what comes between them */
    int32_t pause; /* with turns: the first one ends with this token too, less than max_tokens, and engine_retrace may
                      follow; 0: neither */
};

void engine_set_callback(struct engine *engine, engine_callback *callback, void *context);
/* Pages of prompts and completions stay known behind their end, as long as nobody else wants them, and a request that
 * begins with the same tokens does not compute them again; its results are the same bits. While the model's weights are the
 * same: engine_step sees that they changed (model_refresh, model_wear). */
cohort_status engine_keep_prefixes(struct engine *engine, cohort_error *err);
/* No page is known any more: others used the engine's block. Between two steps; what is still in the engine was cancelled. */
void engine_forget(struct engine *engine);
/* Adapters of the model that requests may name, [n] borrowed, NULL among them for none. A step computes requests that wear the
 * same one, and those that do not take turns; they share the pages. Before any request names one. */
cohort_status engine_set_adapters(struct engine *engine, const struct model_adapter *const *adapters, int32_t n,
                                  cohort_error *err);
/* Known pages from outside and to there, of a text for a model that wears nothing; between two steps. How many tokens at its beginning
 * are in known pages; the bytes [engine_page_bytes] of page number chunk of them; and the page behind so many known ones, which is
 * known from then on as if it had been computed. COHORT_ERR_STATE where there is no page for it, or one before it is not known. */
int32_t engine_known(struct engine *engine, const int32_t *tokens, int32_t n);
void engine_fetch_page(struct engine *engine, const int32_t *tokens, int32_t chunk, void *bytes);
cohort_status engine_know_page(struct engine *engine, const int32_t *tokens, int32_t chunk, const void *bytes,
                               cohort_error *err);
/* The seconds by which drafts are found to pay, and of engine_stats: clock_seconds unless this is called. */
typedef double engine_clock(void *context);
void engine_set_clock(struct engine *engine, engine_clock *clock, void *context);
/* Drafts are what guess says, all of it, in place of what was seen before; of draft_tokens above 0. */
void engine_set_guess(struct engine *engine, engine_guess *guess, void *context);
/* Drafts are what another engine generates (draft_model.h), which is nobody else's: of a model with the same vocabulary on the
 * same backend, without a tokenizer. It is borrowed. always: also where that is slower. Of draft_tokens above 0. */
cohort_status engine_set_draft_model(struct engine *engine, struct engine *drafts, bool always, cohort_error *err);
/* Completions come with the routes of their tokens from here on, if the model has experts. Not with a rotating window. */
void engine_keep_routes(struct engine *engine);
/* The elements of a token's routes in completions; 0: they have none. */
int32_t engine_route_width(const struct engine *engine);

/* *id identifies the request's completions. From any thread, as engine_cancel; during a step it is begun after it. Refuses what can never run: a prompt that fills the context, more pages
 * than the pool has, sampling parameters out of range: one bad request fails by itself. COHORT_ERR_STATE where max_waiting wait
 * already. */
cohort_status engine_submit(struct engine *engine, const struct engine_request *request, int64_t *id,
                            cohort_error *err);
/* From any thread. Ends a request's completions where they are (FINISH_CANCELLED); an unknown or finished id is not an error. */
void engine_cancel(struct engine *engine, int64_t id);
/* The id that the next request is going to get. */
int64_t engine_next_id(struct engine *engine);
/* The end of a turn, in a request with turns. The completion holds no row, so that others decode, and its pages until
 * others need them: then what it said is computed again when it goes on. */
struct engine_turn {
    int64_t request;
    int32_t index;
    const int32_t
        *tokens; /* [n_tokens] behind the prompt, the last of them an EOS; until the completion goes on or ends */
    int32_t n_tokens, first; /* those of this turn: first .. n_tokens */
    int32_t room;            /* tokens that still fit */
};
/* Each turn once, in the order in which they ended; false if there is none. */
bool engine_poll_turn(struct engine *engine, struct engine_turn *turn);
/* The completion goes on behind 1 to room tokens from outside, with the draws that it would have had without a pause.
 * Where they take all its room it ends (FINISH_LENGTH). COHORT_ERR_ARGUMENT where it does not wait, or for ids or a
 * number of them that are out of range; it then waits still. */
cohort_status engine_go_on(struct engine *engine, int64_t request, int32_t index, const int32_t *tokens, int32_t n,
                           cohort_error *err);
/* What the completion that waits has becomes these n tokens, of which nothing is computed again that it began with
 * before, and it goes on for at most ahead of its own, when it waits again; n + ahead is less than its longest. Of a
 * request with pause and without a constraint, in an engine without a tokenizer. COHORT_ERR_ARGUMENT as of engine_go_on. */
cohort_status engine_retrace(struct engine *engine, int64_t request, int32_t index, const int32_t *tokens, int32_t n,
                             int32_t ahead, cohort_error *err);
/* The tokens of a completion that waits, until it goes on; returns their number, 0 where it does not wait. */
int32_t engine_waiting_tokens(const struct engine *engine, int64_t request, int32_t index, const int32_t **tokens);
/* The completion ends where it is (FINISH_EOS). */
cohort_status engine_end(struct engine *engine, int64_t request, int32_t index, cohort_error *err);
/* Whether engine_step would do nothing, because all that is left waits for an answer to its turn. */
bool engine_waits(const struct engine *engine);

/* Runs one forward: a token for every running completion and a chunk of prompts; on a backend that decodes without the
 * host, several tokens while no prompt waits. *busy says whether anything is left to do, turns that are not answered
 * included. After COHORT_ERR_CANCELLED (a
 * stop was requested) the engine is as if the step had not begun, except for completions that had already drawn in it:
 * when the stop is withdrawn, the next step continues with the same draws. */
cohort_status engine_step(struct engine *engine, bool *busy, cohort_error *err);
/* Moves one finished completion out (free with completion_free); false if there is none. In the order they finished. */
bool engine_poll(struct engine *engine, struct completion *out);

struct engine_stats {
    int64_t prompt_tokens, generated_tokens, steps;
    int64_t rows; /* tokens that steps computed: of prompts, decoded, drafted, computed again */
    int64_t outside_tokens;
    int64_t pages_used, pages_peak;
    int64_t known_tokens;              /* of prompts and of what was set back, that were there (engine_keep_prefixes) */
    int64_t set_back, set_back_tokens; /* how often pages were given up for older ones, and the tokens in them */
    int64_t drafted, accepted;         /* tokens that were drafted, and those of them that were drawn */
    double seconds, single_seconds;    /* of steps, and of those that were not part of a window */
    int32_t running, waiting;
};
struct engine_stats engine_stats(const struct engine *engine);

#endif
