/* Guides and their states.
 *
 * A guide owns its tables, its machine (a cache of configurations) and the masks that were made: each belongs to the
 * configuration it was made for, and is counted, because states hold one while others drop it. When machine and masks
 * pass their bound, both forget all but the configurations of the states that live.
 *
 * A state is FREE (before the token that options.after names), GUIDED, ENDED (an EOS was accepted), or FAILED. */
#include "guide/guide.h"

#include "base/json_text.h"
#include "guide/guide_machine.h"
#include "guide/guide_slices.h"

#include <string.h>

enum { BOUND = 64 << 20 }; /* bytes of configurations and masks */

struct mask {
    int32_t uses;
    uint32_t words[];
};

struct guide {
    int32_t uses;
    const struct guide_vocabulary *vocabulary;
    struct grammar_tables tables;
    struct machine machine;
    struct guide_slices slices;
    struct mask **masks; /* by configuration */
    size_t mask_capacity, mask_bytes, bound;
    struct mask *nothing, *free_text, *only_after; /* masks of states that are not GUIDED */
    int32_t *eos_ids;
    int32_t n_eos, after;
    uint32_t *path; /* [depth + 1] configurations along the trie */
    struct guide_state *first;
    struct guide_stats stats;
    cohort_error problem;
};

enum state_phase { PHASE_FREE, PHASE_GUIDED, PHASE_ENDED, PHASE_FAILED };

struct guide_state {
    struct guide *guide;
    enum state_phase phase;
    uint32_t config;
    int32_t n_tokens, max_tokens, close;
    struct mask *mask;    /* in use */
    struct mask *closing; /* of its own, made when it is needed */
    struct guide_state *before, *next;
};

/* ---- Masks ---- */

static cohort_status mask_create(const struct guide *guide, struct mask **out, cohort_error *err)
{
    TRY(mem_alloc(out, 1, sizeof **out + guide->vocabulary->n_words * sizeof(uint32_t), "mask", err));
    (*out)->uses = 1;
    return COHORT_OK;
}

static void mask_drop(struct mask *mask)
{
    if (mask != NULL && --mask->uses == 0)
        mem_free(mask);
}

static void allow(struct mask *mask, int32_t token) { mask->words[token / 32] |= 1u << (token % 32); }

static void allow_eos(const struct guide *guide, struct mask *mask)
{
    for (int32_t i = 0; i < guide->n_eos; i++)
        if (guide->eos_ids[i] >= 0 && guide->eos_ids[i] < guide->vocabulary->size)
            allow(mask, guide->eos_ids[i]);
}

/* What items of the configuration read as tokens. */
static void allow_tokens(const struct guide *guide, uint32_t config, struct mask *mask)
{
    const struct grammar_tables *t = &guide->tables;
    const struct machine_config *c = &guide->machine.configs[config];
    const uint32_t end = LABEL_TOKEN + (uint32_t)guide->vocabulary->size;
    for (uint32_t i = 0; c->tokens && i < c->n; i++) {
        const uint32_t state = guide->machine.items[c->first + i].state;
        for (uint32_t e = t->label_first[state]; e < t->label_first[state + 1]; e++)
            for (uint32_t label = t->labels[e].lo; label <= t->labels[e].hi && label < end; label++)
                allow(mask, (int32_t)(label - LABEL_TOKEN));
    }
}

static cohort_status walk(struct guide *guide, uint32_t config, const struct token_trie *trie, struct mask *mask,
                          cohort_error *err)
{
    struct machine *machine = &guide->machine;
    uint32_t *path = guide->path;
    path[0] = config;
    for (uint32_t i = 0; i < trie->n;) {
        const struct trie_node *node = &trie->nodes[i];
        uint32_t next = machine_known(machine, path[node->depth - 1], node->byte);
        if (next == ROW_UNKNOWN)
            TRY(machine_step(machine, path[node->depth - 1], node->byte, &next, err));
        if (next == CONFIG_DEAD) {
            i = node->next;
            continue;
        }
        if (node->token >= 0)
            allow(mask, node->token);
        path[node->depth] = next;
        i++;
    }
    return COHORT_OK;
}

static cohort_status make_mask(struct guide *guide, uint32_t config, struct mask *mask, cohort_error *err)
{
    const struct guide_vocabulary *v = guide->vocabulary;
    int slice = guide_slice(&guide->slices, &guide->machine, v, config);
    uint32_t chars = 0;
    if (slice != SLICE_ANY)
        TRY(guide_counted(&guide->slices, &guide->machine, config, &chars, err));
    if (chars > 0) {
        slice = SLICE_ANY;
        memcpy(mask->words, v->by_chars + chars * v->n_words, v->n_words * sizeof *mask->words);
    } else if (slice != SLICE_NONE) {
        memcpy(mask->words, v->masks[slice], v->n_words * sizeof *mask->words);
    }
    TRY(walk(guide, config, &v->tries[slice], mask, err));
    allow_tokens(guide, config, mask);
    if (guide->machine.configs[config].accepts)
        allow_eos(guide, mask);
    return COHORT_OK;
}

/* Those of the allowed tokens that are on a shortest way to the end: by its bytes, a token brings the end as much nearer
 * as it is long. tight: of them only those that bring it nearest. */
static cohort_status make_closing(struct guide *guide, uint32_t config, bool tight, struct mask *mask,
                                  cohort_error *err)
{
    const struct guide_vocabulary *v = guide->vocabulary;
    const struct grammar_tables *t = &guide->tables;
    struct machine *machine = &guide->machine;
    uint32_t *path = guide->path, best = DISTANCE_NEVER;
    const struct token_trie *trie = &v->tries[SLICE_NONE];
    const struct machine_config c = machine->configs[config];
    memset(mask->words, 0, v->n_words * sizeof *mask->words);
    if (c.accepts && guide->n_eos > 0) {
        allow_eos(guide, mask);
        return COHORT_OK;
    }
    for (int round = tight ? 0 : 1; round < 2; round++) { /* the first one finds how near it can be brought */
        path[0] = config;
        for (uint32_t i = 0; i < trie->n;) {
            const struct trie_node *node = &trie->nodes[i];
            uint32_t next = 0;
            TRY(machine_step(machine, path[node->depth - 1], node->byte, &next, err));
            if (next == CONFIG_DEAD || machine->configs[next].distance + node->depth != c.distance) {
                i = node->next;
                continue;
            }
            const uint32_t distance = machine->configs[next].distance;
            if (node->token >= 0 && round == 0)
                best = distance < best ? distance : best;
            else if (node->token >= 0 && (!tight || distance <= best))
                allow(mask, node->token);
            path[node->depth] = next;
            i++;
        }
    }
    for (uint32_t i = 0; c.tokens && i < c.n; i++) {
        const uint32_t state = machine->items[c.first + i].state;
        for (uint32_t e = t->label_first[state]; e < t->label_first[state + 1]; e++) {
            uint32_t next = 0;
            if (t->labels[e].lo >= LABEL_RULE)
                continue;
            TRY(machine_token(machine, config, t->labels[e].lo - LABEL_TOKEN, &next, err));
            if (machine->configs[next].distance < c.distance && (!tight || machine->configs[next].distance <= best))
                allow(mask, (int32_t)(t->labels[e].lo - LABEL_TOKEN));
        }
    }
    return COHORT_OK;
}

/* ---- Bounds ---- */

static void forget_masks(struct guide *guide)
{
    for (size_t i = 0; i < guide->mask_capacity; i++) {
        mask_drop(guide->masks[i]);
        guide->masks[i] = NULL;
    }
    guide->mask_bytes = 0;
}

/* Before a mask is made or a token accepted, when no walk is under way. */
static cohort_status keep_bound(struct guide *guide, cohort_error *err)
{
    uint32_t **live = NULL;
    size_t n = 0;
    if (machine_bytes(&guide->machine) + guide->mask_bytes <= guide->bound)
        return COHORT_OK;
    for (const struct guide_state *s = guide->first; s != NULL; s = s->next)
        n++;
    TRY(mem_alloc(&live, n, sizeof(uint32_t *), "guide", err));
    n = 0;
    for (struct guide_state *s = guide->first; s != NULL; s = s->next)
        live[n++] = &s->config;
    forget_masks(guide);
    const cohort_status status = machine_flush(&guide->machine, live, n, err);
    guide->stats.flushes++;
    mem_free(live);
    return status;
}

/* ---- States ---- */

static void fail(struct guide_state *state, const cohort_error *problem)
{
    state->phase = PHASE_FAILED;
    if (state->guide->problem.message[0] == '\0')
        state->guide->problem = *problem;
}

/* The mask of a configuration, made once. */
static cohort_status find_mask(struct guide *guide, uint32_t *config, struct mask **out, cohort_error *err)
{
    guide->stats.masks++;
    if (*config < guide->mask_capacity && guide->masks[*config] != NULL) {
        guide->stats.remembered++;
        *out = guide->masks[*config];
        return COHORT_OK;
    }
    TRY(keep_bound(guide, err)); /* may change *config, which is a living state's */
    TRY(mem_grow(&guide->masks, &guide->mask_capacity, (size_t)*config + 1, sizeof(struct mask *), "mask", err));
    struct mask *mask = NULL;
    TRY(mask_create(guide, &mask, err));
    const cohort_status status = make_mask(guide, *config, mask, err);
    if (status != COHORT_OK) {
        mask_drop(mask);
        return status;
    }
    guide->masks[*config] = mask;
    guide->mask_bytes += sizeof *mask + guide->vocabulary->n_words * sizeof *mask->words;
    *out = mask;
    return COHORT_OK;
}

/* Whether what is left of the length is for closing. */
static bool closes(const struct guide_state *state)
{
    return state->close > 0 && state->max_tokens - state->n_tokens <= state->close;
}

static cohort_status closing_mask(struct guide_state *state, cohort_error *err)
{
    struct guide *guide = state->guide;
    const int64_t left = (int64_t)state->max_tokens - state->n_tokens;
    TRY(keep_bound(guide, err));
    if (state->closing == NULL)
        TRY(mask_create(guide, &state->closing, err));
    const bool tight = (int64_t)guide->machine.configs[state->config].distance + 1 > left;
    return make_closing(guide, state->config, tight, state->closing, err);
}

const uint32_t *guide_mask(struct guide_state *state)
{
    struct guide *guide = state->guide;
    struct mask *mask = guide->nothing;
    cohort_error problem = {0};
    cohort_status status = COHORT_OK;
    if (state->phase == PHASE_FREE) {
        mask = closes(state) ? guide->only_after : guide->free_text;
    } else if (state->phase == PHASE_GUIDED && closes(state)) {
        status = closing_mask(state, &problem);
        mask = state->closing;
    } else if (state->phase == PHASE_GUIDED) {
        status = find_mask(guide, &state->config, &mask, &problem);
    }
    if (status != COHORT_OK) {
        fail(state, &problem);
        mask = guide->nothing;
    }
    mask->uses++;
    mask_drop(state->mask);
    state->mask = mask;
    return mask->words;
}

static bool is_eos(const struct guide *guide, int32_t token)
{
    for (int32_t i = 0; i < guide->n_eos; i++)
        if (guide->eos_ids[i] == token)
            return true;
    return false;
}

/* Where a token leads, as bytes and as such. */
static cohort_status follow(struct guide *guide, uint32_t config, int32_t token, uint32_t *next, cohort_error *err)
{
    size_t length = 0;
    const char *bytes = guide_token_bytes(guide->vocabulary, token, &length);
    uint32_t by_bytes = bytes == NULL ? CONFIG_DEAD : config, as_token = CONFIG_DEAD;
    for (size_t i = 0; i < length && bytes != NULL && by_bytes != CONFIG_DEAD; i++)
        TRY(machine_step(&guide->machine, by_bytes, (unsigned char)bytes[i], &by_bytes, err));
    TRY(machine_token(&guide->machine, config, (uint32_t)token, &as_token, err));
    return machine_union(&guide->machine, by_bytes, as_token, next, err);
}

bool guide_accept(struct guide_state *state, int32_t token)
{
    struct guide *guide = state->guide;
    cohort_error problem = {0};
    uint32_t next = CONFIG_DEAD;
    state->n_tokens++;
    if (token < 0 || token >= guide->vocabulary->size || state->phase >= PHASE_ENDED) {
        state->phase = PHASE_FAILED;
        return false;
    }
    if (state->phase == PHASE_FREE) {
        state->phase = token == guide->after ? PHASE_GUIDED : is_eos(guide, token) ? PHASE_FAILED : PHASE_FREE;
        return state->phase != PHASE_FAILED;
    }
    cohort_status status = keep_bound(guide, &problem);
    if (status == COHORT_OK)
        status = follow(guide, state->config, token, &next, &problem);
    if (status != COHORT_OK) {
        fail(state, &problem);
        return false;
    }
    if (next == CONFIG_DEAD && is_eos(guide, token) && guide->machine.configs[state->config].accepts) {
        state->phase = PHASE_ENDED;
        return true;
    }
    if (next == CONFIG_DEAD)
        state->phase = PHASE_FAILED;
    else
        state->config = next;
    return next != CONFIG_DEAD;
}

bool guide_can_end(const struct guide_state *state)
{
    return state->phase == PHASE_ENDED ||
           (state->phase == PHASE_GUIDED && state->guide->machine.configs[state->config].accepts);
}

bool guide_must_end(const struct guide_state *state)
{
    return state->phase == PHASE_ENDED ||
           (state->phase == PHASE_GUIDED && state->guide->machine.configs[state->config].accepts &&
            state->guide->machine.configs[state->config].n == 0);
}

uint32_t guide_distance(const struct guide_state *state)
{
    return state->phase == PHASE_GUIDED ? state->guide->machine.configs[state->config].distance : 0;
}

bool guide_has_eos(const struct guide_state *state) { return state->guide->n_eos > 0; }

void guide_rewind(struct guide_state *state, int32_t n_tokens)
{
    state->phase = state->guide->after >= 0 ? PHASE_FREE : PHASE_GUIDED;
    state->config = state->guide->machine.start;
    state->n_tokens = n_tokens;
}

cohort_status guide_start(struct guide_state **out, struct guide *guide, int32_t max_tokens, int32_t close,
                          cohort_error *err)
{
    struct guide_state *state = NULL;
    *out = NULL;
    TRY(mem_alloc(&state, 1, sizeof *state, "guide", err));
    *state = (struct guide_state){
        .guide = guide_share(guide), .max_tokens = max_tokens, .close = close, .next = guide->first};
    guide_rewind(state, 0);
    if (guide->first != NULL)
        guide->first->before = state;
    guide->first = state;
    *out = state;
    return COHORT_OK;
}

void guide_stop(struct guide_state *state)
{
    if (state == NULL)
        return;
    if (state->before != NULL)
        state->before->next = state->next;
    else
        state->guide->first = state->next;
    if (state->next != NULL)
        state->next->before = state->before;
    mask_drop(state->mask);
    mask_drop(state->closing);
    guide_release(state->guide);
    mem_free(state);
}

/* ---- Guides ---- */

static cohort_status make_fixed_masks(struct guide *guide, cohort_error *err)
{
    TRY(mask_create(guide, &guide->nothing, err));
    if (guide->after < 0)
        return COHORT_OK;
    TRY(mask_create(guide, &guide->free_text, err));
    TRY(mask_create(guide, &guide->only_after, err));
    allow(guide->only_after, guide->after);
    memset(guide->free_text->words, 0xFF, guide->vocabulary->n_words * sizeof(uint32_t));
    for (int32_t i = 0; i < guide->n_eos; i++)
        if (guide->eos_ids[i] >= 0 && guide->eos_ids[i] < guide->vocabulary->size)
            guide->free_text->words[guide->eos_ids[i] / 32] &= ~(1u << (guide->eos_ids[i] % 32));
    return COHORT_OK;
}

cohort_status guide_of_grammar(struct guide **out, const struct guide_vocabulary *vocabulary,
                               const struct grammar *grammar, const struct guide_options *options, const char *origin,
                               cohort_error *err)
{
    struct guide *guide = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY_GOTO(mem_alloc(&guide, 1, sizeof *guide, "guide", err));
    guide->uses = 1;
    guide->vocabulary = vocabulary;
    guide->bound = BOUND;
    guide->after = options->after;
    guide->n_eos = options->n_eos;
    TRY_GOTO(mem_alloc(&guide->eos_ids, (size_t)options->n_eos, sizeof *guide->eos_ids, "guide", err));
    if (options->n_eos > 0)
        memcpy(guide->eos_ids, options->eos_ids, (size_t)options->n_eos * sizeof *guide->eos_ids);
    TRY_GOTO(mem_alloc(&guide->path, vocabulary->depth + 2, sizeof *guide->path, "guide", err));
    TRY_GOTO(make_fixed_masks(guide, err));
    TRY_GOTO(grammar_compile(&guide->tables, grammar, origin, err));
    TRY_GOTO(guide_slices_open(&guide->slices, &guide->tables, err));
    status = machine_open(&guide->machine, &guide->tables, err);
    if (status != COHORT_OK) {
        error_context(err, "%s", origin);
        goto cleanup;
    }
    *out = guide;
    guide = NULL;
cleanup:
    guide_release(guide);
    return status;
}

struct guide *guide_share(struct guide *guide)
{
    guide->uses++;
    return guide;
}

void guide_release(struct guide *guide)
{
    if (guide == NULL || --guide->uses > 0)
        return;
    if (guide->masks != NULL)
        forget_masks(guide);
    mem_free(guide->masks);
    mask_drop(guide->nothing);
    mask_drop(guide->free_text);
    mask_drop(guide->only_after);
    machine_close(&guide->machine);
    guide_slices_close(&guide->slices);
    grammar_tables_free(&guide->tables);
    mem_free(guide->eos_ids);
    mem_free(guide->path);
    mem_free(guide);
}

const char *guide_problem(const struct guide *guide)
{
    return guide->problem.message[0] != '\0' ? guide->problem.message : NULL;
}

void guide_set_bound(struct guide *guide, size_t bytes) { guide->bound = bytes; }

struct guide_stats guide_stats(const struct guide *guide)
{
    struct guide_stats stats = guide->stats;
    stats.configs = (int64_t)guide->machine.n_configs;
    stats.states = guide->tables.n_states;
    return stats;
}
