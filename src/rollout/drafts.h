/* Speculation: tokens that are likely to come next are fed with a completion's last one, so that one step draws several.
 *
 * A drafted token is only ever a row of the batch. What stands at its place is drawn from the logits there, as without it:
 * the draw at a position depends on seed, stream and position alone (I3), and its logits on the tokens before it alone
 * (I2). Where the draw is the draft, the next row was fed what it had to be, and its draw counts too; where it is not, the
 * rows behind are forgotten, and their keys and values written over. So results are those of a step for each token, bit
 * for bit, whatever is drafted, and nothing here has to be the same twice.
 *
 * Drafts come from what stood behind the last 2, 4, 8 or 16 tokens before, the most of them that are known: in the prompt,
 * in this completion and in the others of the same prompt, also those of requests that are gone (earlier epochs). That is
 * a table of a fixed size, where what is new takes the place of what is old; to a place belongs the token that was seen
 * there and how often. How often such a token was right is counted for every draw, drafted or not. What a row costs is
 * measured (step_cost.h). A token is drafted where that promises more tokens a second. Where steps with drafts nevertheless
 * lose time, that is a debt, of which each step pays a hundredth of its own time; drafts pause until it is paid. What they
 * gain pays debts too, and fades.
 *
 * Or a smaller model drafts (draft_model.h): as many tokens for each completion as promise the most a second, by how many of
 * them were right and by what they cost, their own model's time included. To compute a completion's text so far is an
 * investment: it is made where what is expected to be left of the completion promises more, and when those before have been
 * gained back. Where nothing is promised, because drafts were wrong or none were tried, one
 * completion's are tried for some tokens whenever there is no debt, unless not even right ones would pay. */
#ifndef COHORT_ROLLOUT_DRAFTS_H
#define COHORT_ROLLOUT_DRAFTS_H

#include "rollout/draft_model.h"
#include "rollout/sequence.h"
#include "rollout/step_cost.h"

enum { DRAFT_ORDERS = 4, DRAFT_TRUSTS = 4 };

struct draft_entry {
    uint32_t check; /* 0: empty */
    uint32_t token : 28, trust : 4;
};

struct drafts {
    int32_t most;        /* tokens drafted for one completion; 0: none ever */
    engine_guess *guess; /* NULL: the table guesses */
    void *guess_context;
    struct draft_model *model;    /* owned; NULL: none */
    int32_t *most_each;           /* [max_sequences] of each running completion; with a model */
    double model_right;           /* of its drafts that were tried, the share that was right */
    struct step_cost model_steps; /* of those of a draft, by the number of completions */
    double model_seconds;         /* that it took for the drafts of the step in hand */
    int64_t tried, hit;           /* drafted and accepted when it drafted last */
    int32_t trial;                /* drafts for one completion that are still tried although they promise nothing */
    int32_t idle;                 /* steps since it drafted */
    double invested;              /* seconds in texts that it began with, less what it gained since */
    double length;                /* tokens of completions that ended, on average; 0: none did */
    bool windows;                 /* the device decodes without the host where nothing is drafted */
    struct draft_entry *entries;
    size_t n_entries;                        /* a power of 2 */
    float right[DRAFT_ORDERS][DRAFT_TRUSTS]; /* shares of tokens that were right */
    struct step_cost plain, verifying;       /* verifying only with windows: else steps are of one kind */
    double spent, lost;                      /* seconds: of the last hundred steps; debts, negative: what may be lost */
    int32_t n_decoding;                      /* of the step in hand: completions that draw, drafts beside them */
    int32_t n_drafted;
    int64_t drafted, accepted; /* of all steps */
};
/* What is drafted comes from a model, which is owned from then on. */
cohort_status drafts_use_model(struct drafts *drafts, struct draft_model *model, int32_t max_sequences,
                               cohort_error *err);
/* n_pages: of the pool, which tells how much text there is to remember. */
cohort_status drafts_create(struct drafts *drafts, int32_t most, int64_t n_pages, bool windows, cohort_error *err);
void drafts_free(struct drafts *drafts);

/* Remembers a prompt. */
void drafts_know_prompt(struct drafts *drafts, const struct request *request);
/* Remembers the last n tokens of a completion; drawn: they are the model's. */
void drafts_know(struct drafts *drafts, const struct sequence *sequence, int32_t n, bool drawn);

/* Puts drafts behind the history of running completions (n_drafted), room of them at most; *placed if there are any.
 * vocab: of the completions' model; alone: no prompt is computed in the step, beside which no model drafts. Fails only where a model drafts and fails. */
cohort_status drafts_place(struct drafts *drafts, struct sequence **running, int32_t n_running, int32_t room,
                           int32_t vocab, bool alone, bool *placed, cohort_error *err);
/* A completion is over. */
void drafts_forget(struct drafts *drafts, const struct sequence *sequence);
/* The step in hand is over: rows of them gave so many tokens in so many seconds. */
void drafts_measure(struct drafts *drafts, int32_t rows, int64_t tokens, double seconds);

#endif
