/* What attention does for a batch, decided on the host: where each sequence's keys lie, chunk by chunk, and the list of
 * items that blocks take (cuda_internal.h). None of it changes a result: what an item computes for a row is the same in
 * any list.
 *
 * Owns s->attention and the memory behind it. An ordinary batch and a window of decoding have memory of their own:
 * recorded steps hold the addresses of the latter. A plan is valid until the next prepare; when one cannot be made, the
 * plan is empty and the error noted. */
#include "backend/cuda/cuda_internal.h"
#include "backend/ops.h"
#include "backend/sampling.h"
#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* The most bytes that partial results of an ordinary batch may take; beyond that, rows are not divided. */
    PARTIAL_BYTES_MAX = 256 << 20,
    ALIGNMENT = 256
};

/* A block of memory being laid out: offsets are the same on the host and on the device. */
static size_t take(size_t *at, size_t count, size_t size)
{
    const size_t offset = *at;
    *at = (offset + count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return offset;
}

/* What is uploaded. */
struct layout {
    size_t n_items, seqs, chunks, items, key_items, split_base, bytes;
};

static struct layout layout_of(size_t seqs, size_t chunks, size_t items, size_t key_items, size_t tokens)
{
    struct layout layout;
    size_t at = 0;
    layout.n_items = take(&at, 1, sizeof(int32_t));
    layout.seqs = take(&at, seqs, sizeof(struct cuda_seq));
    layout.chunks = take(&at, chunks, sizeof(struct cuda_chunk));
    layout.items = take(&at, items, sizeof(struct cuda_item));
    layout.key_items = take(&at, key_items, sizeof(struct cuda_key_item));
    layout.split_base = take(&at, tokens, sizeof(int32_t));
    layout.bytes = at;
    return layout;
}

/* The lists, on the host. */
struct lists {
    int32_t *n_items;
    struct cuda_seq *seqs;
    struct cuda_chunk *chunks;
    struct cuda_item *items;
    struct cuda_key_item *key_items;
    int32_t *split_base;
    int32_t n_chunks, n_key_items;
};

static struct lists lists_at(void *memory, const struct layout *layout)
{
    char *at = memory;
    return (struct lists){.n_items = (int32_t *)(void *)(at + layout->n_items),
                          .seqs = (struct cuda_seq *)(void *)(at + layout->seqs),
                          .chunks = (struct cuda_chunk *)(void *)(at + layout->chunks),
                          .items = (struct cuda_item *)(void *)(at + layout->items),
                          .key_items = (struct cuda_key_item *)(void *)(at + layout->key_items),
                          .split_base = (int32_t *)(void *)(at + layout->split_base)};
}

static bool host_grow(struct backend *backend, size_t bytes)
{
    struct cuda_state *s = cuda_state_of(backend);
    if (mem_grow(&s->plan, &s->plan_bytes, bytes, 1, "attention plan", NULL) == COHORT_OK)
        return true;
    cuda_note(backend, "attention plan", cudaErrorMemoryAllocation);
    return false;
}

static int32_t chunks_of(int32_t n_keys) { return (n_keys + ATTENTION_CHUNK - 1) / ATTENTION_CHUNK; }

/* Its sequence must already be in the list. */
static void add_item(struct lists *lists, struct cuda_item item)
{
    const struct cuda_seq *seq = &lists->seqs[item.seq];
    const int32_t first = item.split_begin * (CUDA_SPLIT / ATTENTION_CHUNK);
    item.boundary = seq->boundary;
    item.n_keys = seq->n_keys;
    for (int32_t c = 0; item.partial && c < CUDA_SPLIT / ATTENTION_CHUNK; c++)
        if (first + c < chunks_of(seq->n_keys))
            item.chunks[c] = lists->chunks[seq->chunk_begin + first + c];
    lists->items[(*lists->n_items)++] = item;
}

static int32_t splits_of(int32_t position) { return position / CUDA_SPLIT + 1; }

/* Queries of a tile of rows. */
static int32_t tile_queries(int32_t n_heads, int32_t n_kv_heads, int32_t rows)
{
    const int32_t ratio = n_heads / n_kv_heads;
    return ratio < rows ? rows / ratio : 1;
}

static size_t partial_row_bytes(int32_t n_heads, int32_t head_dim)
{
    return (size_t)n_heads * (size_t)(head_dim + 2) * sizeof(float);
}

/* partial_o, _m, _l for rows split rows and arrived for tokens, in memory of
 * partial_row_bytes * rows + tokens * n_kv_heads * 4. */
static void set_partial(struct cuda_attention *plan, void *memory, size_t rows, int32_t n_heads, int32_t head_dim)
{
    const size_t count = rows * (size_t)n_heads;
    plan->partial_o = memory;
    plan->partial_m = plan->partial_o + count * (size_t)head_dim;
    plan->partial_l = plan->partial_m + count;
    plan->arrived = (int32_t *)(void *)(plan->partial_l + count);
}

static void zero_arrived(struct backend *backend, size_t tokens, int32_t n_kv_heads)
{
    const struct cuda_state *s = cuda_state_of(backend);
    cuda_note(backend, "attention plan",
              cudaMemsetAsync(s->attention.arrived, 0, tokens * (size_t)n_kv_heads * sizeof(int32_t), s->stream));
}

/* ---- an ordinary batch ---- */

/* The row of the key at position, -1 if no span has it. */
static int32_t key_row(const struct attention_batch *b, const struct attention_seq *seq, int32_t position)
{
    for (int32_t i = seq->span_begin; i < seq->span_begin + seq->n_spans; i++) {
        const struct attention_span *span = &b->spans[i];
        if (position >= span->position && position < span->position + span->length)
            return span->row + position - span->position;
    }
    return -1;
}

static void build_seq(const struct attention_batch *b, int32_t index, struct lists *lists)
{
    const struct attention_seq *from = &b->seqs[index];
    struct cuda_seq *seq = &lists->seqs[index];
    *seq = (struct cuda_seq){.query_row = from->query_row,
                             .n_queries = from->n_queries,
                             .first_position = from->first_position,
                             .chunk_begin = lists->n_chunks,
                             .n_keys = from->first_position + from->n_queries};
    const struct attention_span *span = b->spans + from->span_begin;
    const struct attention_span *const end = span + from->n_spans;
    bool divided = false;
    for (int32_t c = 0; c < chunks_of(seq->n_keys); c++) {
        const int32_t start = c * ATTENTION_CHUNK;
        const int32_t behind = start + ATTENTION_CHUNK < seq->n_keys ? start + ATTENTION_CHUNK : seq->n_keys;
        while (span < end && span->position + span->length <= start)
            span++;
        assert(span < end && span->position <= start);
        struct cuda_chunk chunk;
        chunk.low = chunk.high = span->row - span->position + start;
        /* Spans that begin in the chunk: none, or they go on where the last ended, but for one. */
        for (const struct attention_span *next = span + 1; next < end && next->position < behind; next++) {
            const int32_t base = next->row - next->position + start;
            if (base == chunk.high)
                continue;
            assert(!divided);
            divided = true;
            seq->boundary = next->position;
            chunk.high = base;
        }
        lists->chunks[lists->n_chunks++] = chunk;
    }
}

/* Whether sequence other sees the keys that seq itself wrote. */
static bool sees(const struct attention_batch *b, const struct attention_seq *other, const struct attention_seq *seq)
{
    const int32_t last = seq->n_queries - 1;
    return key_row(b, other, seq->first_position) == seq->query_row &&
           key_row(b, other, seq->first_position + last) == seq->query_row + last;
}

/* Queries of seq at positions of chunk or behind it. */
static int64_t queries_from(const struct attention_seq *seq, int32_t chunk)
{
    const int32_t before = chunk * ATTENTION_CHUNK - seq->first_position;
    return before <= 0 ? seq->n_queries : before < seq->n_queries ? seq->n_queries - before : 0;
}

static void build_key_items(const struct attention_batch *b, int32_t index, struct lists *lists)
{
    const struct attention_seq *seq = &b->seqs[index];
    if (seq->n_queries == 0)
        return;
    int32_t end = index + 1;
    while (end < b->n_seqs && b->seqs[end].tree == seq->tree && sees(b, &b->seqs[end], seq))
        end++;
    for (int32_t i = end; i < b->n_seqs && b->seqs[i].tree == seq->tree; i++)
        assert(!sees(b, &b->seqs[i], seq));
    const int32_t last = (seq->first_position + seq->n_queries - 1) / ATTENTION_CHUNK;
    for (int32_t c = seq->first_position / ATTENTION_CHUNK; c <= last; c++)
        lists->key_items[lists->n_key_items++] = (struct cuda_key_item){index, c, index, end};
}

/* Longest first, so that the last blocks to finish are short ones; otherwise in order. */
struct weighed {
    int64_t weight;
    int32_t index;
};

static int heavier(const void *a, const void *b)
{
    const struct weighed *x = a, *y = b;
    return x->weight != y->weight ? (x->weight < y->weight ? 1 : -1) : (x->index > y->index) - (x->index < y->index);
}

/* Puts count elements of size bytes into the order of their weights. */
static void order(void *elements, size_t size, struct weighed *weights, int32_t count, char *room)
{
    qsort(weights, (size_t)count, sizeof *weights, heavier);
    memcpy(room, elements, (size_t)count * size);
    for (int32_t i = 0; i < count; i++)
        memcpy((char *)elements + (size_t)i * size, room + (size_t)weights[i].index * size, size);
}

struct counts {
    size_t chunks, tiles, divided_tiles, key_chunks, split_rows;
};

static struct counts count(const struct attention_batch *b)
{
    struct counts n = {0};
    const int32_t queries = tile_queries(b->n_heads, b->n_kv_heads, CUDA_TILE);
    for (int32_t i = 0; i < b->n_seqs; i++) {
        const struct attention_seq *seq = &b->seqs[i];
        const int32_t behind = seq->first_position + seq->n_queries;
        n.chunks += (size_t)chunks_of(behind);
        for (int32_t q = 0; q < seq->n_queries; q += queries) {
            const int32_t last = q + queries < seq->n_queries ? q + queries : seq->n_queries;
            n.tiles++;
            n.divided_tiles += (size_t)splits_of(seq->first_position + last - 1);
        }
        for (int32_t q = 0; q < seq->n_queries; q++)
            n.split_rows += (size_t)splits_of(seq->first_position + q);
        if (b->backward && seq->n_queries > 0)
            n.key_chunks += (size_t)(chunks_of(behind) - seq->first_position / ATTENTION_CHUNK);
    }
    return n;
}

static bool has_few_rows(const struct attention_batch *b)
{
    for (int32_t i = 0; i < b->n_seqs; i++)
        if ((int64_t)b->seqs[i].n_queries * (b->n_heads / b->n_kv_heads) > CUDA_FEW_ROWS)
            return false;
    return true;
}

static void build_items(const struct attention_batch *b, bool partial, struct lists *lists)
{
    const int32_t queries = tile_queries(b->n_heads, b->n_kv_heads, CUDA_TILE);
    int32_t split_row = 0;
    for (int32_t i = 0; i < b->n_seqs; i++) {
        const struct attention_seq *seq = &b->seqs[i];
        for (int32_t q = 0; q < seq->n_queries; q += queries) {
            const int32_t n = seq->n_queries - q < queries ? seq->n_queries - q : queries;
            const int32_t n_splits = splits_of(seq->first_position + q + n - 1);
            struct cuda_item item = {.query_row = seq->query_row + q, .n_queries = n, .seq = i, .split_end = n_splits};
            if (!partial)
                add_item(lists, item);
            for (int32_t split = 0; partial && split < n_splits; split++) {
                item.split_begin = split;
                item.split_end = split + 1;
                item.partial = 1;
                add_item(lists, item);
            }
        }
        for (int32_t q = 0; partial && q < seq->n_queries; q++) {
            lists->split_base[seq->query_row + q] = split_row;
            split_row += splits_of(seq->first_position + q);
        }
    }
}

static void order_items(const struct attention_batch *b, struct lists *lists, struct weighed *weights, char *room)
{
    const int32_t n_items = *lists->n_items;
    for (int32_t i = 0; i < n_items; i++) {
        const struct cuda_item *item = &lists->items[i];
        const struct attention_seq *seq = &b->seqs[item->seq];
        weights[i].weight = seq->first_position + (item->query_row - seq->query_row) + item->n_queries;
        weights[i].index = i;
    }
    order(lists->items, sizeof *lists->items, weights, n_items, room);
    for (int32_t i = 0; i < lists->n_key_items; i++) {
        const struct cuda_key_item *item = &lists->key_items[i];
        weights[i] = (struct weighed){0, i};
        for (int32_t seq = item->seq_begin; seq < item->seq_end; seq++)
            weights[i].weight += queries_from(&b->seqs[seq], item->chunk);
    }
    order(lists->key_items, sizeof *lists->key_items, weights, lists->n_key_items, room);
}

void cuda_attention_prepare(struct backend *backend, const struct attention_batch *b)
{
    struct cuda_state *s = cuda_state_of(backend);
    memset(&s->attention, 0, sizeof s->attention);
    if (b->n_tokens == 0 || b->n_seqs == 0)
        return;
    assert(b->n_heads % b->n_kv_heads == 0);
    const struct counts n = count(b);
    /* With too few tiles for the machine, rows are divided among blocks by splits. The backward takes tiles with all
     * their splits. */
    const size_t partial_bytes = n.split_rows * partial_row_bytes(b->n_heads, b->head_dim);
    const bool partial = !b->backward && n.divided_tiles > n.tiles &&
                         n.tiles * (size_t)b->n_kv_heads < 2 * (size_t)s->multiprocessors &&
                         partial_bytes <= PARTIAL_BYTES_MAX;
    const size_t n_items = partial ? n.divided_tiles : n.tiles;
    const size_t n_tokens = (size_t)b->n_tokens;
    assert(n_items * (size_t)b->n_kv_heads <= INT32_MAX && n.split_rows <= INT32_MAX);
    const struct layout layout = layout_of((size_t)b->n_seqs, n.chunks, n_items, n.key_chunks, partial ? n_tokens : 0);

    /* Behind the lists: weights and room to bring either list into their order. */
    const size_t most = n_items > n.key_chunks ? n_items : n.key_chunks;
    size_t bytes = layout.bytes;
    const size_t weights = take(&bytes, most, sizeof(struct weighed));
    const size_t room = take(&bytes, most, sizeof(struct cuda_item));
    if (!host_grow(backend, bytes) || !cuda_grow(backend, &s->attention_memory, &s->attention_bytes, layout.bytes))
        return;
    struct lists lists = lists_at(s->plan, &layout);
    *lists.n_items = 0;
    for (int32_t i = 0; i < b->n_seqs; i++) {
        build_seq(b, i, &lists);
        if (b->backward)
            build_key_items(b, i, &lists);
    }
    build_items(b, partial, &lists);
    assert((size_t)lists.n_chunks == n.chunks && (size_t)*lists.n_items == n_items &&
           (size_t)lists.n_key_items == n.key_chunks);
    if (!partial)
        order_items(b, &lists, (struct weighed *)(void *)((char *)s->plan + weights), (char *)s->plan + room);

    struct cuda_attention plan = {.max_items = (int32_t)n_items,
                                  .n_key_items = lists.n_key_items,
                                  .n_tokens = b->n_tokens,
                                  .n_seqs = b->n_seqs,
                                  .partial = partial,
                                  .few = partial && has_few_rows(b)};
    if (partial) {
        const size_t arrived = n_tokens * (size_t)b->n_kv_heads * sizeof(int32_t);
        if (!cuda_grow(backend, &s->partial_memory, &s->partial_bytes, partial_bytes + arrived))
            return;
        set_partial(&plan, s->partial_memory, n.split_rows, b->n_heads, b->head_dim);
    }
    const struct lists there = lists_at(s->attention_memory, &layout);
    plan.n_items = there.n_items;
    plan.seqs = there.seqs;
    plan.chunks = there.chunks;
    plan.items = there.items;
    plan.key_items = there.key_items;
    plan.split_base = partial ? there.split_base : NULL;
    s->attention = plan;
    cuda_upload(backend, s->attention_memory, s->plan, layout.bytes);
    if (partial)
        zero_arrived(backend, n_tokens, b->n_kv_heads);
}

/* ---- a window of decoding ---- */

/* The positions that a slot may reach: those fed, and the one after them. */
static int32_t slot_keys(const struct decode_load *load, const struct decode_slot *slot)
{
    return slot->position + load->steps + 1;
}

static int32_t page_base(const struct decode_slot *slot, int32_t chunk, bool own)
{
    const int32_t first_own = slot->n_prompt / ATTENTION_CHUNK;
    if (!own)
        return slot->prompt_page[chunk] * ATTENTION_CHUNK;
    /* A slot that stops within the window may have no page for later positions: what it computes there is ignored, but
     * must be read from somewhere. */
    return chunk - first_own < slot->n_own_pages ? slot->own_page[chunk - first_own] * ATTENTION_CHUNK : 0;
}

static void build_slot(const struct decode_load *load, int32_t index, struct lists *lists)
{
    const struct decode_slot *slot = &load->slots[index];
    const int32_t n_keys = slot_keys(load, slot), prompt = slot->n_prompt;
    lists->seqs[index] = (struct cuda_seq){.query_row = index,
                                           .n_queries = 1,
                                           .first_position = slot->position,
                                           .boundary = prompt,
                                           .chunk_begin = lists->n_chunks,
                                           .n_keys = n_keys};
    for (int32_t c = 0; c < chunks_of(n_keys); c++) {
        const int32_t start = c * ATTENTION_CHUNK;
        const int32_t low = page_base(slot, c, start >= prompt);
        const int32_t high = page_base(slot, c, start + ATTENTION_CHUNK > prompt);
        lists->chunks[lists->n_chunks++] = (struct cuda_chunk){low, high};
    }
}

static struct cuda_item slot_item(int32_t first, int32_t n, int32_t split)
{
    return (struct cuda_item){
        .query_row = first, .n_queries = n, .seq = first, .split_begin = split, .split_end = split + 1, .partial = 1};
}

/* Splits that lie wholly in a prompt that several slots share. */
static int32_t shared_splits(const struct decode_load *load, int32_t index)
{
    const struct decode_slot *slot = &load->slots[index];
    const bool company =
        (index > 0 && slot[-1].tree == slot->tree) || (index + 1 < load->n_slots && slot[1].tree == slot->tree);
    return company ? slot->n_prompt / CUDA_SPLIT : 0;
}

static struct counts count_slots(const struct decode_load *load)
{
    struct counts n = {0};
    for (int32_t i = 0; i < load->n_slots; i++) {
        const int32_t n_keys = slot_keys(load, &load->slots[i]);
        n.chunks += (size_t)chunks_of(n_keys);
        n.split_rows += (size_t)splits_of(n_keys - 1);
    }
    n.divided_tiles = n.split_rows; /* at most: shared splits are fewer */
    return n;
}

/* Chunks of a split that the slot's first step has something to do in. */
static int32_t slot_work(const struct decode_slot *slot, int32_t split)
{
    const int32_t n = chunks_of(slot->position + 1) - split * (CUDA_SPLIT / ATTENTION_CHUNK);
    return n < 0 ? 0 : n < CUDA_SPLIT / ATTENTION_CHUNK ? n : CUDA_SPLIT / ATTENTION_CHUNK;
}

/* Items of few rows: with more, every block would hold the state of rows that decoding seldom has, and keys that
 * several items share come from the second-level cache. Longest first: a block takes every grid-th item, so all get as
 * many long ones, and empty ones come last. */
static void build_slot_items(const struct decode_load *load, struct lists *lists)
{
    const int32_t queries = tile_queries(load->n_heads, load->n_kv_heads, CUDA_FEW_ROWS);
    for (int32_t first = 0, n; first < load->n_slots; first += n) {
        const struct decode_slot *slot = &load->slots[first];
        n = 1;
        while (n < queries && first + n < load->n_slots && slot[n].tree == slot->tree) {
            assert(slot[n].n_prompt == slot->n_prompt);
            n++;
        }
        for (int32_t split = 0; split < shared_splits(load, first); split++)
            add_item(lists, slot_item(first, n, split));
    }
    int32_t split_row = 0;
    for (int32_t i = 0; i < load->n_slots; i++) {
        lists->split_base[i] = split_row;
        split_row += splits_of(slot_keys(load, &load->slots[i]) - 1);
    }
    for (int32_t work = CUDA_SPLIT / ATTENTION_CHUNK; work >= 0; work--)
        for (int32_t i = 0; i < load->n_slots; i++) {
            const struct decode_slot *slot = &load->slots[i];
            const int32_t n_splits = splits_of(slot_keys(load, slot) - 1);
            for (int32_t split = shared_splits(load, i); split < n_splits; split++)
                if (slot_work(slot, split) == work)
                    add_item(lists, slot_item(i, 1, split));
        }
    for (int32_t i = load->n_slots; i < load->n_rows; i++)
        lists->split_base[i] = 0;
}

static int64_t roomier(int64_t have, size_t need)
{
    const int64_t wanted = (int64_t)(need + need / 4);
    return have >= (int64_t)need ? have : wanted;
}

/* Makes the window's memory large enough. If it is already, nothing moves. */
static bool decode_reserve(struct backend *backend, const struct decode_load *load, const struct counts *n,
                           struct layout *layout)
{
    struct cuda_decode_plan *d = &cuda_state_of(backend)->decode_plan;
    const bool same = d->n_heads == load->n_heads && d->n_kv_heads == load->n_kv_heads && d->head_dim == load->head_dim;
    const bool fits = d->memory != NULL && same && d->rows >= load->n_rows && d->chunks >= (int64_t)n->chunks &&
                      d->items >= (int64_t)n->divided_tiles && d->split_rows >= (int64_t)n->split_rows;
    if (!fits) {
        cuda_free(backend, d->memory);
        *d = (struct cuda_decode_plan){.rows = roomier(d->rows, (size_t)load->n_rows),
                                       .chunks = roomier(d->chunks, n->chunks),
                                       .items = roomier(d->items, n->divided_tiles),
                                       .split_rows = roomier(d->split_rows, n->split_rows),
                                       .n_heads = load->n_heads,
                                       .n_kv_heads = load->n_kv_heads,
                                       .head_dim = load->head_dim};
    }
    assert(d->items * load->n_kv_heads <= INT32_MAX && d->split_rows <= INT32_MAX);
    *layout = layout_of((size_t)d->rows, (size_t)d->chunks, (size_t)d->items, 0, (size_t)d->rows);
    const size_t partial = (size_t)d->split_rows * partial_row_bytes(load->n_heads, load->head_dim) +
                           (size_t)d->rows * (size_t)load->n_kv_heads * sizeof(int32_t);
    return fits || cuda_grow(backend, &d->memory, &d->bytes, layout->bytes + partial);
}

bool cuda_attention_prepare_decode(struct backend *backend, const struct decode_load *load)
{
    struct cuda_state *s = cuda_state_of(backend);
    memset(&s->attention, 0, sizeof s->attention);
    if (load->n_rows == 0)
        return true;
    assert(load->n_heads % load->n_kv_heads == 0 && load->n_slots <= load->n_rows);
    const struct counts n = count_slots(load);
    struct layout layout;
    if (!decode_reserve(backend, load, &n, &layout) || !host_grow(backend, layout.bytes))
        return false;
    struct lists lists = lists_at(s->plan, &layout);
    *lists.n_items = 0;
    for (int32_t i = 0; i < load->n_slots; i++)
        build_slot(load, i, &lists);
    build_slot_items(load, &lists);
    assert((size_t)lists.n_chunks == n.chunks && (size_t)*lists.n_items <= n.divided_tiles);

    const struct cuda_decode_plan *d = &s->decode_plan;
    const struct lists there = lists_at(d->memory, &layout);
    s->attention = (struct cuda_attention){.seqs = there.seqs,
                                           .chunks = there.chunks,
                                           .items = there.items,
                                           .n_items = there.n_items,
                                           .max_items = d->items > 0 ? (int32_t)d->items : 1,
                                           .n_tokens = load->n_rows,
                                           .n_seqs = load->n_slots,
                                           .partial = true,
                                           .recorded = true,
                                           .few = load->n_heads / load->n_kv_heads <= CUDA_FEW_ROWS,
                                           .split_base = there.split_base};
    set_partial(&s->attention, (char *)d->memory + layout.bytes, (size_t)d->split_rows, load->n_heads, load->head_dim);
    cuda_upload(backend, d->memory, s->plan, layout.bytes);
    zero_arrived(backend, (size_t)load->n_rows, load->n_kv_heads);
    return true;
}

/* ---- what all of this takes at most ---- */

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static size_t up(size_t a, size_t b) { return (a + b - 1) / b; }

/* Lists of a batch of so many sequences and tokens. A step of the rollout has the decoding ones and prompts, of which
 * but one begins at position 0. */
static size_t batch_lists(const struct backend_load *load, size_t seqs, size_t tokens, bool train)
{
    const size_t of_longest = (size_t)chunks_of(load->context);
    const size_t queries = (size_t)tile_queries(load->n_heads, load->n_kv_heads, CUDA_TILE);
    const size_t tiles = up(tokens, queries) + seqs;
    return layout_of(seqs, seqs * of_longest, tiles, train ? up(tokens, ATTENTION_CHUNK) + 2 * seqs : 0, 0).bytes;
}

/* An ordinary batch with too few tiles for the machine, whose rows are divided. */
static void divided_batch(const struct backend *backend, const struct backend_load *load, size_t *lists,
                          size_t *partial)
{
    const struct cuda_state *s = cuda_state_of(backend);
    const size_t tiles = up(2 * (size_t)s->multiprocessors, (size_t)load->n_kv_heads);
    const size_t splits = (size_t)splits_of(load->context);
    const size_t queries = (size_t)tile_queries(load->n_heads, load->n_kv_heads, CUDA_TILE);
    const size_t row = partial_row_bytes(load->n_heads, load->head_dim);
    const size_t rows = tiles * queries * splits * row;
    *lists = layout_of(tiles, tiles * (size_t)chunks_of(load->context), tiles * splits, 0, tiles * queries).bytes;
    *partial = (rows < PARTIAL_BYTES_MAX ? rows : PARTIAL_BYTES_MAX) +
               tiles * queries * (size_t)load->n_kv_heads * sizeof(int32_t);
}

/* A window's plan, with the room that decode_reserve adds (roomier). */
static size_t window_bytes(const struct backend_load *load)
{
    const int32_t keys = load->context + DECODE_STEPS_MOST + 1;
    const size_t n = (size_t)load->sequences;
    const size_t rows = n + n / 4, chunks = rows * (size_t)chunks_of(keys) + 1;
    const size_t split_rows = rows * (size_t)splits_of(keys) + 1;
    return layout_of(rows, chunks, split_rows, 0, rows).bytes +
           split_rows * partial_row_bytes(load->n_heads, load->head_dim) +
           rows * (size_t)load->n_kv_heads * sizeof(int32_t);
}

size_t cuda_attention_working_bytes(const struct backend *backend, const struct backend_load *load)
{
    size_t lists = 0, partial = 0, window = 0;
    divided_batch(backend, load, &lists, &partial);
    if (load->sequences > 0) {
        const size_t prompts = (size_t)load->prompts, tokens = (size_t)load->step_tokens;
        const size_t seqs = (size_t)load->sequences + (prompts < tokens ? prompts : tokens);
        lists = larger(lists, batch_lists(load, seqs, (size_t)load->sequences + tokens, false));
        window = window_bytes(load);
    }
    if (load->train_tokens > 0) {
        const size_t tokens = (size_t)load->train_tokens, seqs = (size_t)load->train_sequences;
        lists = larger(lists, batch_lists(load, seqs < tokens ? seqs : tokens, tokens, true));
    }
    return cuda_grown_bytes(lists) + cuda_grown_bytes(partial) + cuda_grown_bytes(window);
}

void cuda_attention_destroy(struct backend *backend)
{
    struct cuda_state *s = cuda_state_of(backend);
    cuda_free(backend, s->attention_memory);
    cuda_free(backend, s->partial_memory);
    cuda_free(backend, s->decode_plan.memory);
    mem_free(s->plan);
    s->attention_memory = s->partial_memory = s->plan = NULL;
    s->attention_bytes = s->partial_bytes = s->plan_bytes = 0;
    memset(&s->decode_plan, 0, sizeof s->decode_plan);
    memset(&s->attention, 0, sizeof s->attention);
}
