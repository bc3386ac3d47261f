#include "train/lanes.h"

#include "backend/ops.h"
#include "model/param_shard.h"

#include <assert.h>
#include <string.h>

/* -DCOHORT_BREAK_LANES=1 is the negative control of the tests: what ranks have is added in the order of ranks. */
#ifndef COHORT_BREAK_LANES
#define COHORT_BREAK_LANES 0
#endif

/* ---- Which lanes, and what becomes of them ---- */

static int32_t first_lane(int32_t lanes, int32_t rank, int32_t count)
{
    return (int32_t)((int64_t)rank * lanes / count);
}

static int32_t owner_of(int32_t lanes, int32_t lane, int32_t count)
{
    int32_t rank = 0;
    while (first_lane(lanes, rank + 1, count) <= lane)
        rank++;
    return rank;
}

/* Puts a lane on the stack and joins it with its neighbours: one call for each. Returns whether two were joined. */
static bool join(struct lane_sum *stack, int32_t *depth)
{
    if (*depth < 2)
        return false;
    struct lane_sum *left = &stack[*depth - 2];
    const struct lane_sum *right = &stack[*depth - 1];
    if (left->n != right->n || left->first % (2 * left->n) != 0 || right->first != left->first + left->n)
        return false;
    left->n *= 2;
    (*depth)--;
    return true;
}

/* What rank has of the first present lanes, added up as far as it goes; *waiting: how many gradients wait at once
 * beside the one that is computed. */
static int32_t sums_of(const struct param_share *share, int32_t rank, int32_t present,
                       struct lane_sum stack[LANE_LEVELS + 1], int32_t *waiting)
{
    const int32_t end = first_lane(share->lanes, rank + 1, share->count);
    int32_t depth = 0;
    *waiting = 0;
    for (int32_t lane = first_lane(share->lanes, rank, share->count); lane < end && lane < present; lane++) {
        *waiting = depth > *waiting ? depth : *waiting;
        stack[depth++] = (struct lane_sum){lane, 1};
        while (join(stack, &depth)) {
        }
    }
    return depth;
}

void lanes_plan(struct param_share *share)
{
    struct lane_sum stack[LANE_LEVELS + 1];
    share->partials = share->parts = 0;
    for (int32_t present = 1; present <= share->lanes; present++) {
        int32_t parts = 0;
        for (int32_t r = 0; r < share->count; r++) {
            int32_t waiting = 0;
            parts += sums_of(share, r, present, stack, &waiting);
            if (r == share->rank)
                share->partials = waiting > share->partials ? waiting : share->partials;
        }
        share->parts = parts > share->parts ? parts : share->parts;
    }
}

cohort_status lanes_split(const struct param_set *set, struct packing *packing, const struct tree *trees,
                          int32_t n_trees, int64_t max_tokens, int64_t max_completions, cohort_error *err)
{
    const int32_t K = set->training.share.lanes;
    TRY(packing_split(packing, trees, n_trees, max_tokens, max_completions, err));
    if (K == 1)
        return COHORT_OK;
    /* The fewest tokens with which there are no more rounds, and no tree is cut that was whole. */
    const int32_t wanted = (packing->n_micro + K - 1) / K * K, slices = packing->n_slices;
    int64_t too_few = 0, enough = max_tokens;
    while (enough - too_few > 1 + max_tokens / 256) {
        const int64_t tokens = too_few + (enough - too_few) / 2;
        if (packing_split(packing, trees, n_trees, tokens, max_completions, NULL) == COHORT_OK &&
            packing->n_micro <= wanted && (!packing->whole || packing->n_slices == slices))
            enough = tokens;
        else
            too_few = tokens;
    }
    return packing_split(packing, trees, n_trees, enough, max_completions, err);
}

/* ---- A step ---- */

void lanes_begin(struct lanes *lanes, struct param_set *set, int32_t n_micro, bool train)
{
    const struct param_share *share = &set->training.share;
    *lanes = (struct lanes){.set = set, .n = train ? share->lanes : share->count, .n_micro = n_micro, .train = train};
}

void lanes_free(struct lanes *lanes)
{
    if (lanes->set != NULL)
        ranks_texts_free(lanes->set->training.share.ranks, lanes->all);
    text_free(&lanes->own);
    mem_free(lanes->values);
    mem_free(lanes->lengths);
    memset(lanes, 0, sizeof *lanes);
}

static int32_t rank_of(const struct lanes *lanes, int32_t m)
{
    return owner_of(lanes->n, m % lanes->n, lanes->set->training.share.count);
}

bool lanes_mine(const struct lanes *lanes, int32_t m) { return rank_of(lanes, m) == lanes->set->training.share.rank; }

/* The gradient that waits at a place of the stack. */
static float *waiting_at(const struct lanes *lanes, int32_t place)
{
    const struct param_training *t = &lanes->set->training;
    assert(place < t->share.partials);
    return t->partials + (int64_t)place * t->n_elements;
}

/* Takes the gradient of a lane in: added to those of its neighbours. The last one of this rank in the round stays where it is,
 * others make room for the next. */
static void take_lane(struct lanes *lanes, int32_t lane, bool last)
{
    struct backend *be = lanes->set->backend;
    const struct param_training *t = &lanes->set->training;
    const size_t bytes = (size_t)t->n_elements * sizeof(float);
    lanes->stack[lanes->depth++] = (struct lane_sum){lane, 1};
    while (join(lanes->stack, &lanes->depth))
        be->ops->add(be, &(struct add){t->n_elements, waiting_at(lanes, lanes->depth - 1), t->grad});
    if (last)
        return;
    be->ops->copy(be, waiting_at(lanes, lanes->depth - 1), t->grad, bytes);
    be->ops->zero(be, t->grad, bytes);
}

/* Part of what a rank has of a gradient, where it lies here. */
struct lane_part {
    struct lane_sum of;
    float *data;
};

/* The sum of lanes first .. first + n - 1 by the tree, in place of one of its parts; NULL: none of them is there. */
static float *add_parts(struct backend *be, const struct lane_part *parts, int32_t n_parts, int32_t first, int32_t n,
                        int64_t count)
{
    for (int32_t i = 0; i < n_parts; i++)
        if (parts[i].of.first == first && parts[i].of.n == n)
            return parts[i].data;
    if (n == 1)
        return NULL;
    float *left = add_parts(be, parts, n_parts, first, n / 2, count),
          *right = add_parts(be, parts, n_parts, first + n / 2, n / 2, count);
    if (left == NULL || right == NULL)
        return left == NULL ? right : left;
    be->ops->add(be, &(struct add){count, right, left});
    return left;
}

static float *add_in_turn(struct backend *be, const struct lane_part *parts, int32_t n_parts, int64_t count)
{
    for (int32_t i = 1; i < n_parts; i++)
        be->ops->add(be, &(struct add){count, parts[i].data, parts[0].data});
    return parts[0].data;
}

/* What the ranks have of a round. */
struct round {
    struct lane_sum (*sums)[LANE_LEVELS + 1]; /* [count] */
    int32_t *n;                               /* [count] */
    struct ranks_message *messages;
    struct lane_part *parts;
};

static void round_free(struct round *round)
{
    mem_free(round->sums);
    mem_free(round->n);
    mem_free(round->messages);
    mem_free(round->parts);
}

static cohort_status round_make(struct round *round, const struct param_share *share, int32_t present,
                                cohort_error *err)
{
    const size_t count = (size_t)share->count;
    TRY(mem_alloc(&round->sums, count, sizeof *round->sums, "lanes", err));
    TRY(mem_alloc(&round->n, count, sizeof *round->n, "lanes", err));
    TRY(mem_alloc(&round->parts, (size_t)share->parts, sizeof *round->parts, "lanes", err));
    TRY(mem_alloc(&round->messages, (size_t)share->parts + count * (LANE_LEVELS + 1), sizeof *round->messages, "lanes",
                  err));
    for (int32_t r = 0; r < share->count; r++) {
        int32_t waiting = 0;
        round->n[r] = sums_of(share, r, present, round->sums[r], &waiting);
    }
    return COHORT_OK;
}

/* The gradient of this rank's sum number i of n. */
static float *own_sum(const struct lanes *lanes, int32_t i, int32_t n)
{
    return i + 1 == n ? lanes->set->training.grad : waiting_at(lanes, i);
}

static struct param_range piece_of(const struct param_set *set, int32_t rank, int64_t piece)
{
    const int64_t length = param_set_piece(set);
    struct param_range range = param_set_sums(set, rank);
    range.first = range.first + piece * length < range.end ? range.first + piece * length : range.end;
    range.end = range.first + length < range.end ? range.first + length : range.end;
    return range;
}

/* Piece number piece of what every rank sums: each gets its own of all others. Returns in *n_parts how many parts of ours there
 * are now. */
static cohort_status exchange_piece(const struct lanes *lanes, const struct round *round, int64_t piece,
                                    int32_t *n_parts, cohort_error *err)
{
    const struct param_set *set = lanes->set;
    const struct param_share *share = &set->training.share;
    const struct param_range own = piece_of(set, share->rank, piece);
    const size_t bytes = (size_t)(own.end - own.first) * sizeof(float);
    struct ranks_message *sends = round->messages, *receives = NULL;
    size_t n_sends = 0, n_receives = 0;
    *n_parts = 0;
    for (int32_t r = 0; r < share->count; r++) {
        const struct param_range theirs = piece_of(set, r, piece);
        for (int32_t i = 0; r != share->rank && theirs.end > theirs.first && i < round->n[share->rank]; i++)
            sends[n_sends++] = (struct ranks_message){r, own_sum(lanes, i, round->n[share->rank]) + theirs.first,
                                                      (size_t)(theirs.end - theirs.first) * sizeof(float)};
    }
    receives = sends + n_sends;
    for (int32_t r = 0; bytes > 0 && r < share->count; r++)
        for (int32_t i = 0; i < round->n[r]; i++) {
            float *place = set->training.pieces + *n_parts * param_set_piece(set);
            round->parts[(*n_parts)++] = (struct lane_part){round->sums[r][i], place};
            if (r == share->rank)
                set->backend->ops->copy(set->backend, place, own_sum(lanes, i, round->n[r]) + own.first, bytes);
            else
                receives[n_receives++] = (struct ranks_message){r, place, bytes};
        }
    return param_shard_exchange(set, sends, n_sends, receives, n_receives, err);
}

/* Adds the sum of a round. */
static cohort_status end_round(struct lanes *lanes, int32_t present, cohort_error *err)
{
    struct param_set *set = lanes->set;
    struct backend *be = set->backend;
    const struct param_training *t = &set->training;
    struct round round = {0};
    int64_t longest = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(round_make(&round, &t->share, present, err));
    for (int32_t r = 0; r < t->share.count; r++) {
        const struct param_range range = param_set_sums(set, r);
        longest = range.end - range.first > longest ? range.end - range.first : longest;
    }
    const int64_t n_pieces = (longest + param_set_piece(set) - 1) / param_set_piece(set);
    for (int64_t piece = 0; piece < n_pieces; piece++) {
        const struct param_range own = piece_of(set, t->share.rank, piece);
        const int64_t count = own.end - own.first;
        int32_t n = 0;
        TRY_GOTO(exchange_piece(lanes, &round, piece, &n, err));
        if (count == 0)
            continue;
        float *to = t->sum + (own.first - param_set_sums(set, t->share.rank).first);
        const float *added = COHORT_BREAK_LANES ? add_in_turn(be, round.parts, n, count)
                                                : add_parts(be, round.parts, n, 0, t->share.lanes, count);
        if (lanes->summed)
            be->ops->add(be, &(struct add){count, added, to});
        else
            be->ops->copy(be, to, added, (size_t)count * sizeof *to);
    }
    be->ops->zero(be, t->grad, (size_t)t->n_elements * sizeof(float));
    lanes->summed = true;
    lanes->depth = 0;
cleanup:
    round_free(&round);
    return status;
}

cohort_status lanes_count(struct lanes *lanes, int32_t m, cohort_error *err)
{
    const struct param_training *t = &lanes->set->training;
    const int32_t K = lanes->n, lane = m % K, left = lanes->n_micro - (m - lane), present = left < K ? left : K;
    const bool ends = m + 1 == lanes->n_micro || (K > 1 && lane + 1 == K);
    if (!lanes->train || t->sum == NULL)
        return COHORT_OK;
    if (K > 1 && lanes_mine(lanes, m)) {
        const int32_t end = first_lane(K, t->share.rank + 1, t->share.count);
        take_lane(lanes, lane, lane + 1 == end || lane + 1 == present);
    }
    return ends ? end_round(lanes, K == 1 ? 1 : present, err) : COHORT_OK;
}

/* ---- What came of micro-batches ---- */

bool lanes_shared(const struct lanes *lanes) { return lanes->set->training.share.count > 1; }

cohort_status lanes_keep_begin(struct lanes *lanes, cohort_error *err)
{
    const uint64_t nothing = 0;
    lanes->begun = lanes->own.length;
    return text_append(&lanes->own, (const char *)&nothing, sizeof nothing, err);
}

cohort_status lanes_keep(struct lanes *lanes, const void *bytes, size_t n, cohort_error *err)
{
    uint64_t length = 0;
    TRY(text_append(&lanes->own, bytes, n, err));
    memcpy(&length, lanes->own.data + lanes->begun, sizeof length);
    length += n;
    memcpy(lanes->own.data + lanes->begun, &length, sizeof length);
    return COHORT_OK;
}

cohort_status lanes_share(struct lanes *lanes, cohort_error *err)
{
    const struct param_share *share = &lanes->set->training.share;
    size_t *at = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&at, (size_t)share->count, sizeof *at, "micro-batches", err));
    TRY_GOTO(mem_alloc(&lanes->values, (size_t)lanes->n_micro, sizeof(char *), "micro-batches", err));
    TRY_GOTO(mem_alloc(&lanes->lengths, (size_t)lanes->n_micro, sizeof *lanes->lengths, "micro-batches", err));
    TRY_GOTO(ranks_gather_texts(share->ranks, &lanes->own, &lanes->all, err));
    for (int32_t m = 0; m < lanes->n_micro; m++) {
        const int32_t rank = rank_of(lanes, m);
        const struct text *text = &lanes->all[rank];
        uint64_t length = 0;
        if (text->length - at[rank] >= sizeof length)
            memcpy(&length, text->data + at[rank], sizeof length);
        if (text->length - at[rank] < sizeof length || length > text->length - at[rank] - sizeof length) {
            status = error_set(err, COHORT_ERR_INTERNAL, "rank %d did not compute micro-batch %d", (int)rank, (int)m);
            goto cleanup;
        }
        lanes->values[m] = text->data + at[rank] + sizeof length;
        lanes->lengths[m] = (size_t)length;
        at[rank] += sizeof length + (size_t)length;
    }
cleanup:
    mem_free(at);
    return status;
}

cohort_status lanes_take(struct lanes *lanes, int32_t m, void *bytes, size_t n, cohort_error *err)
{
    if (lanes->lengths[m] < n)
        return error_set(err, COHORT_ERR_INTERNAL, "micro-batch %d has another form on another rank", (int)m);
    memcpy(bytes, lanes->values[m], n);
    lanes->values[m] += n;
    lanes->lengths[m] -= n;
    return COHORT_OK;
}

/* What a forward gives: [outputs], of a sequence classifier [outputs, labels]; NULL: this runner does not give it. */
enum { N_GIVEN = 7 };
struct given {
    void *at[N_GIVEN];
    size_t bytes;
};

static struct given given_of(const struct tree_runner *runner)
{
    _Static_assert(sizeof *runner->logp == sizeof *runner->top, "one size");
    const size_t width = runner->scores != NULL ? (size_t)runner->score.labels : 1;
    return (struct given){
        .at = {runner->logp, runner->entropy, runner->mean, runner->lse, runner->squares, runner->top, runner->scores},
        .bytes = (size_t)runner->packed.outputs.count * width * sizeof *runner->logp};
}

cohort_status lanes_keep_outputs(struct lanes *lanes, const struct tree_runner *runner, cohort_error *err)
{
    const struct given given = given_of(runner);
    TRY(lanes_keep_begin(lanes, err));
    for (int i = 0; i < N_GIVEN; i++)
        if (given.at[i] != NULL)
            TRY(lanes_keep(lanes, given.at[i], given.bytes, err));
    return COHORT_OK;
}

cohort_status lanes_take_outputs(struct lanes *lanes, int32_t m, struct tree_runner *runner, cohort_error *err)
{
    const struct given given = given_of(runner);
    for (int i = 0; i < N_GIVEN; i++)
        if (given.at[i] != NULL)
            TRY(lanes_take(lanes, m, given.at[i], given.bytes, err));
    return COHORT_OK;
}
