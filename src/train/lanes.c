#include "train/lanes.h"

#include "backend/ops.h"
#include "model/param_shard.h"

#include <assert.h>
#include <string.h>

/* -DCOHORT_BREAK_LANES=1 is the negative control of the tests: a rank begins with its own lane. */
#ifndef COHORT_BREAK_LANES
#define COHORT_BREAK_LANES 0
#endif

/* ---- Which lanes, and what becomes of them ---- */

/* Lanes that the ranks compute at once, each at most one: rank r lane first + r. */
struct turn {
    int32_t first, end;
    bool last; /* of its round */
};

static struct turn turn_of(const struct param_share *share, int32_t lane, int32_t present)
{
    const int32_t first = lane / share->count * share->count, end = first + share->count;
    return (struct turn){.first = first, .end = end < present ? end : present, .last = end >= present};
}

/* Lanes, or what they add up to, of which the last two are neighbours that are added next. */
static bool joins(const struct lane_sum *stack, int32_t depth)
{
    if (depth < 2)
        return false;
    const struct lane_sum *left = &stack[depth - 2], *right = &stack[depth - 1];
    return left->n == right->n && left->first % (2 * left->n) == 0 && right->first == left->first + left->n;
}

/* How a turn changes what waits. */
static int32_t stack_turn(struct lane_sum *stack, int32_t depth, const struct turn *turn)
{
    for (int32_t lane = turn->first; lane < turn->end; lane++) {
        stack[depth++] = (struct lane_sum){lane, 1};
        while (joins(stack, depth))
            stack[--depth - 1].n *= 2;
    }
    return turn->last ? 0 : depth;
}

void lanes_plan(struct param_share *share)
{
    /* Elements. A message between GPUs has to be long to be fast; together what comes at once is to stay small. */
    const int64_t PIECE = 1 << 20, LONG_PIECE = 8 << 20, MOST_ROOM = 64 << 20;
    struct lane_sum stack[LANE_LEVELS + 1];
    int32_t depth = 0;
    share->partials = 0;
    share->parts = share->count < share->lanes ? share->count : share->lanes;
    for (int32_t lane = 0; lane < share->lanes; lane += share->count) {
        const struct turn turn = turn_of(share, lane, share->lanes);
        depth = stack_turn(stack, depth, &turn);
        share->partials = depth > share->partials ? depth : share->partials;
    }
    share->rooms = share->overlaps ? 2 : 1;
    share->piece = share->overlaps ? MOST_ROOM / (share->rooms * share->parts) : PIECE;
    share->piece = share->piece < PIECE ? PIECE : share->piece > LONG_PIECE ? LONG_PIECE : share->piece;
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

static int32_t rank_of(const struct lanes *lanes, int32_t m) { return m % lanes->n % lanes->set->training.share.count; }

bool lanes_mine(const struct lanes *lanes, int32_t m) { return rank_of(lanes, m) == lanes->set->training.share.rank; }

/* The turn of the micro-batch in hand. With one lane, whose gradient adds up over micro-batches, the last one's alone. */
static struct turn turn_in_hand(const struct lanes *lanes)
{
    const int32_t lane = lanes->counted % lanes->n, left = lanes->n_micro - (lanes->counted - lane);
    return turn_of(&lanes->set->training.share, lane, left < lanes->n ? left : lanes->n);
}

static bool is_exchanged(const struct lanes *lanes) { return lanes->n > 1 || lanes->counted + 1 == lanes->n_micro; }

static bool takes_part(const struct lanes *lanes, const struct turn *turn)
{
    return turn->first + lanes->set->training.share.rank < turn->end;
}

/* ---- The gradient of a unit ---- */

static struct param_range piece_of(const struct param_set *set, const struct param_unit *unit, int32_t rank,
                                   int64_t piece)
{
    const int64_t length = param_set_piece(set);
    struct param_range range = param_set_sums(set, rank);
    range.first = range.first > unit->first ? range.first : unit->first;
    range.end = range.end < unit->end ? range.end : unit->end;
    range.first = range.first + piece * length < range.end ? range.first + piece * length : range.end;
    range.end = range.first + length < range.end ? range.first + length : range.end;
    return range;
}

/* Where part r of piece number piece comes to. */
static float *room_of(const struct param_set *set, int64_t piece, int32_t r)
{
    const struct param_share *share = &set->training.share;
    return set->training.pieces + (piece % share->rooms * share->parts + r) * param_set_piece(set);
}

/* Begins to exchange piece number piece of what every rank sums of a unit: each gets its own of all others, that of lane first + r
 * as part r. The gradient stays until that has ended. */
static cohort_status begin_piece(const struct lanes *lanes, const struct turn *turn, const struct param_unit *unit,
                                 int64_t piece, uint64_t *ticket, cohort_error *err)
{
    const struct param_set *set = lanes->set;
    const struct param_share *share = &set->training.share;
    const struct param_range own = piece_of(set, unit, share->rank, piece);
    const size_t bytes = (size_t)(own.end - own.first) * sizeof(float);
    float *gradient = set->training.grad + unit->place - unit->first;
    struct ranks_message *sends = lanes->messages, *receives = NULL;
    size_t n_sends = 0, n_receives = 0;
    for (int32_t r = 0; takes_part(lanes, turn) && r < share->count; r++) {
        const struct param_range theirs = piece_of(set, unit, r, piece);
        if (r != share->rank && theirs.end > theirs.first)
            sends[n_sends++] =
                (struct ranks_message){r, gradient + theirs.first, (size_t)(theirs.end - theirs.first) * sizeof(float)};
    }
    receives = sends + n_sends;
    for (int32_t r = 0; bytes > 0 && turn->first + r < turn->end; r++) {
        float *place = room_of(set, piece, r);
        if (r == share->rank)
            set->backend->ops->copy(set->backend, place, gradient + own.first, bytes);
        else
            receives[n_receives++] = (struct ranks_message){r, place, bytes};
    }
    return param_shard_begin(set, sends, n_sends, receives, n_receives, ticket, err);
}

/* Adds what came of a piece, range of the gradient, to the lanes before by the tree; behind the last lane of a round to the
 * sum. */
static void add_piece(const struct lanes *lanes, const struct turn *turn, int64_t piece, struct param_range range)
{
    struct backend *be = lanes->set->backend;
    const struct param_training *t = &lanes->set->training;
    const struct param_range sums = param_set_sums(lanes->set, t->share.rank);
    const int64_t count = range.end - range.first, offset = range.first - sums.first;
    const size_t bytes = (size_t)count * sizeof(float);
    struct lane_sum stack[LANE_LEVELS + 1];
    float *data[LANE_LEVELS + 1], *waiting[LANE_LEVELS + 1];
    int32_t depth = lanes->depth;
    for (int32_t i = 0; i <= LANE_LEVELS; i++)
        waiting[i] = i < t->share.partials ? t->partials + i * (sums.end - sums.first) + offset : NULL;
    memcpy(stack, lanes->stack, sizeof stack);
    memcpy(data, waiting, sizeof data);
    for (int32_t lane = turn->first; lane < turn->end; lane++) {
        const int32_t r = lane - turn->first,
                      part = COHORT_BREAK_LANES ? (r + t->share.rank) % (turn->end - turn->first) : r;
        stack[depth] = (struct lane_sum){lane, 1};
        data[depth++] = room_of(lanes->set, piece, part);
        for (; joins(stack, depth); depth--) {
            stack[depth - 2].n *= 2;
            be->ops->add(be, &(struct add){count, data[depth - 1], data[depth - 2]});
        }
    }
    for (int32_t i = 0; !turn->last && i < depth; i++)
        if (data[i] != waiting[i])
            be->ops->copy(be, waiting[i], data[i], bytes);
    if (!turn->last)
        return;
    for (; depth > 1; depth--) /* lanes that have no micro-batch are left out */
        be->ops->add(be, &(struct add){count, data[depth - 1], data[depth - 2]});
    if (lanes->summed)
        be->ops->add(be, &(struct add){count, data[0], t->sum + offset});
    else
        be->ops->copy(be, t->sum + offset, data[0], bytes);
}

/* Where there is room, a piece comes while the one before it is added. */
static cohort_status exchange_unit(struct lanes *lanes, const struct param_unit *unit, cohort_error *err)
{
    struct param_set *set = lanes->set;
    const struct param_share *share = &set->training.share;
    const struct turn turn = turn_in_hand(lanes);
    const int64_t length = param_set_piece(set);
    int64_t n_pieces = 0;
    uint64_t tickets[2] = {0};
    if (lanes->messages == NULL)
        TRY(mem_alloc(&lanes->messages, 2 * (size_t)share->count, sizeof *lanes->messages, "lanes", err));
    for (int32_t r = 0; r < share->count; r++) {
        const struct param_range sums = param_set_sums(set, r);
        const int64_t first = sums.first > unit->first ? sums.first : unit->first,
                      end = sums.end < unit->end ? sums.end : unit->end,
                      n = end > first ? (end - first + length - 1) / length : 0;
        n_pieces = n > n_pieces ? n : n_pieces;
    }
    for (int64_t piece = 0, begun = 0; piece < n_pieces; piece++) {
        const struct param_range own = piece_of(set, unit, share->rank, piece);
        for (; begun < n_pieces && begun < piece + share->rooms; begun++)
            TRY(begin_piece(lanes, &turn, unit, begun, &tickets[begun % 2], err));
        TRY(param_shard_end(set, tickets[piece % 2], err));
        if (own.end > own.first)
            add_piece(lanes, &turn, piece, own);
    }
    return COHORT_OK;
}

/* param_take. A failure is kept until the micro-batch is counted: who computes cannot fail. */
static void take_unit(void *context, const struct param_unit *unit)
{
    struct lanes *lanes = context;
    struct param_set *set = lanes->set;
    lanes->taken = true;
    if (!is_exchanged(lanes) || lanes->status != COHORT_OK)
        return;
    lanes->status = exchange_unit(lanes, unit, &lanes->err);
    set->backend->ops->zero(set->backend, set->training.grad + unit->place,
                            (size_t)(unit->end - unit->first) * sizeof(float));
}

void lanes_begin(struct lanes *lanes, struct param_set *set, int32_t n_micro, bool train)
{
    const struct param_share *share = &set->training.share;
    *lanes = (struct lanes){.set = set, .n = train ? share->lanes : share->count, .n_micro = n_micro, .train = train};
    if (train && set->training.sum != NULL) {
        set->training.take = take_unit;
        set->training.take_context = lanes;
    }
}

void lanes_free(struct lanes *lanes)
{
    if (lanes->set != NULL) {
        ranks_texts_free(lanes->set->training.share.ranks, lanes->all);
        lanes->set->training.take = NULL;
    }
    text_free(&lanes->own);
    mem_free(lanes->values);
    mem_free(lanes->lengths);
    mem_free(lanes->messages);
    memset(lanes, 0, sizeof *lanes);
}

/* Behind the backward of a turn. A rank that computed none gives nothing and gets what the others have; one that had nothing to
 * learn from gives zeros. Both take part where layers are brought. */
static void end_turn(struct lanes *lanes, const struct turn *turn)
{
    struct param_set *set = lanes->set;
    if (!takes_part(lanes, turn))
        param_shard_attend(set);
    if (!lanes->train || set->training.sum == NULL)
        return;
    for (int32_t layer = lanes->taken ? -1 : param_set_layers(set); layer >= 0; layer--) {
        if (layer > 0)
            param_shard_need(set, layer);
        param_set_done(set, layer);
    }
    lanes->taken = false;
    if (!is_exchanged(lanes))
        return;
    lanes->depth = stack_turn(lanes->stack, lanes->depth, turn);
    lanes->summed = lanes->summed || turn->last;
}

cohort_status lanes_count(struct lanes *lanes, int32_t m, cohort_error *err)
{
    const struct turn turn = turn_in_hand(lanes);
    assert(m == lanes->counted);
    if (m % lanes->n + 1 == turn.end)
        end_turn(lanes, &turn);
    lanes->counted++;
    if (lanes->status != COHORT_OK && err != NULL)
        *err = lanes->err;
    return lanes->status != COHORT_OK ? lanes->status : param_shard_check(lanes->set, err);
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
