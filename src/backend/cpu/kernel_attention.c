/* Causal attention over segments, forward. Work is cut into items of (block of queries, kv head);
 * an item walks the chunks ascending and, within a chunk, its queries in order, so consecutive
 * queries whose chunk lies in the same rows (one prompt's rows in prefill, the heads of one kv
 * head, decoded sequences that share prompt pages) use one gathered copy. Items write disjoint
 * outputs and a query's bits do not depend on its block (I2), so neither the size of a block nor
 * the thread that runs it matters. */
#include "backend/cpu/kernel_attention.h"

/* -DCOHORT_BREAK_ATTENTION=1 is the negative control of the tests: a pass of few queries then walks
 * the chunks in descending order, as a decode kernel of its own might, and
 * tests/invariance/test_invariance must see it. Never in a build that is used. */
#ifndef COHORT_BREAK_ATTENTION
#define COHORT_BREAK_ATTENTION 0
#endif

/* (query, head) pairs in an item, and how many of them leave enough items for many threads. */
enum { BLOCK_PAIRS = 128, FEW_PAIRS = 64 };

struct pair {
    const struct attention_seq *seq;
    int64_t row; /* of q, out */
    int32_t position, head;
};

struct block {
    int32_t n_pairs, n_keys_max, first_key; /* the first that any pair sees */
    struct pair pair[BLOCK_PAIRS];
    bool packed;                                                    /* operands are two bf16 in a word */
    float max[BLOCK_PAIRS], sum[BLOCK_PAIRS], rounded[BLOCK_PAIRS]; /* rounded: the sum of packed weights */
    float score[BLOCK_PAIRS * CHUNK] __attribute__((aligned(64)));
    float q[BLOCK_PAIRS * MAX_HEAD_DIM] __attribute__((aligned(64)));
    float o[BLOCK_PAIRS * MAX_HEAD_DIM] __attribute__((aligned(64)));
    float wide[CHUNK * MAX_HEAD_DIM] __attribute__((aligned(64))); /* of keys or values in 8 bits: [CHUNK][D] act */
    struct chunk_keys keys;                                        /* what k and v hold */
    float k[MAX_HEAD_DIM * CHUNK] __attribute__((aligned(64)));    /* [D][CHUNK]; packed: [D / 2][CHUNK] */
    float v[CHUNK * MAX_HEAD_DIM] __attribute__((aligned(64))); /* [CHUNK][padded D]; packed: [CHUNK / 2][padded D] */
};

/* One step of the online softmax: scores of the keys in range become weights exp(score * scale - max), zero
 * outside of it; max and sum move on. Returns the factor for what was accumulated under the old maximum.
 * The sum takes vectors ascending, then vf_sum's tree. */
static inline float softmax_update(float *score, struct chunk_range range, float scale, float *max, float *sum)
{
    const int32_t n = range.end;
    for (int32_t j = 0; j < range.begin; j++)
        score[j] = -INFINITY;
    for (int32_t j = n; j < CHUNK; j++)
        score[j] = -INFINITY;
    vf top = vf_set(-INFINITY);
    for (int32_t j = 0; j < CHUNK; j += VW) {
        vf s = vf_load(score + j);
        if (j + VW <= n) {
            s = vf_mul(s, vf_set(scale));
            vf_store(score + j, s);
        } else {
            for (int32_t i = j; i < n; i++)
                score[i] = score[i] * scale;
            s = vf_load(score + j);
        }
        top = vf_max(top, s);
    }
    const float chunk_max = vf_max_lane(top);
    const float new_max = chunk_max > *max ? chunk_max : *max;
    const vf shift = vf_set(new_max);
    vf total = vf_zero();
    for (int32_t j = 0; j < CHUNK; j += VW) {
        const vf weight = exp_keep_nan(vf_sub(vf_load(score + j), shift));
        vf_store(score + j, weight);
        total = vf_add(total, weight);
    }
    float lane[VW];
    vf_store(lane, exp_keep_nan(vf_set(*max - new_max)));
    *sum = *sum * lane[0] + vf_sum(total);
    *max = new_max;
    return lane[0];
}

/* The same where products take pairs, for rows begin .. end of the block, whose scores are rows 0 .. of b->score. Maxima are
 * those of score * scale * log2(e). The weights become bf16 in the first half of their row, in order; factors of 1 leave
 * what was accumulated as it is. */
#if defined(__AVX512BF16__)
static inline void softmax_row_packed(float *score, struct chunk_range range, vf scale, float *max, float *old,
                                      float *sum, float *rounded)
{
    const uint64_t lanes = range_lanes(range);
    vf s[CHUNK / VW];
    for (int i = 0; i < CHUNK / VW; i++)
        s[i] = _mm512_mask_mul_ps(vf_set(-INFINITY), (__mmask16)(lanes >> (i * VW)), vf_load(score + i * VW), scale);
    const float chunk_max = vf_max_lane(vf_max(vf_max(s[0], s[1]), vf_max(s[2], s[3])));
    *old = *max;
    *max = chunk_max > *max ? chunk_max : *max;
    const vf shift = vf_set(*max);
    for (int i = 0; i < CHUNK / VW; i++)
        s[i] = exp2_fast(vf_sub(s[i], shift), (__mmask16)(lanes >> (i * VW)));
    *sum = vf_sum(vf_add(vf_add(s[0], s[1]), vf_add(s[2], s[3])));
    const __m512bh low = round_two(s[0], s[1]), high = round_two(s[2], s[3]);
    _mm512_storeu_si512(score, (__m512i)low);
    _mm512_storeu_si512(score + VW, (__m512i)high);
    const __m512bh ones = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    *rounded = vf_sum(_mm512_dpbf16_ps(_mm512_dpbf16_ps(vf_zero(), low, ones), high, ones));
}

static inline void softmax_packed(struct block *b, int32_t begin, int32_t end, const struct chunk_range *ranges,
                                  float scale, int64_t width)
{
    float old[BLOCK_PAIRS + VW], sum[BLOCK_PAIRS + VW], rounded[BLOCK_PAIRS + VW];
    static_assert(CHUNK == 64, "a row of scores is four vectors");
    for (int32_t i = 0; i < end - begin; i++)
        softmax_row_packed(b->score + i * CHUNK, ranges[i], vf_set(scale * LOG2_E), &b->max[begin + i], &old[i],
                           &sum[i], &rounded[i]);
    for (int32_t i = 0; i < end - begin; i += VW) {
        const __mmask16 rows = (__mmask16)(end - begin - i >= VW ? 0xffff : (1u << (end - begin - i)) - 1u);
        const vf max = _mm512_maskz_loadu_ps(rows, b->max + begin + i);
        const vf factor = exp2_fast(vf_sub(_mm512_maskz_loadu_ps(rows, old + i), max), rows);
        const vf all = _mm512_maskz_loadu_ps(rows, b->sum + begin + i),
                 of = _mm512_maskz_loadu_ps(rows, b->rounded + begin + i);
        _mm512_mask_storeu_ps(b->sum + begin + i, rows, vf_fma(all, factor, _mm512_maskz_loadu_ps(rows, sum + i)));
        _mm512_mask_storeu_ps(b->rounded + begin + i, rows,
                              vf_fma(of, factor, _mm512_maskz_loadu_ps(rows, rounded + i)));
        vf_store(old + i, factor);
    }
    for (int32_t i = 0; i < end - begin; i++)
        if (old[i] != 1.0f) {
            float *o = b->o + (begin + i) * width;
            for (int64_t d = 0; d < width; d += VW)
                vf_store(o + d, vf_mul(vf_load(o + d), vf_set(old[i])));
        }
}
#else
static inline void softmax_packed(struct block *b, int32_t begin, int32_t end, const struct chunk_range *ranges,
                                  float scale, int64_t width)
{
    (void)b, (void)begin, (void)end, (void)ranges, (void)scale, (void)width;
}
#endif

static void block_fill(struct block *b, const struct attention_forward *p, int64_t first_query, int32_t n_queries,
                       int32_t first_head, int32_t n_heads)
{
    const int64_t width = padded(p->head_dim);
    int32_t s = 0;
    while (first_query >= p->seqs[s].n_queries)
        first_query -= p->seqs[s++].n_queries;
    b->n_pairs = 0;
    b->packed = is_packed(p->act);
    b->n_keys_max = 0;
    b->first_key = INT32_MAX;
    for (int32_t i = 0; i < n_queries; i++) {
        while (first_query >= p->seqs[s].n_queries) {
            s++;
            first_query = 0;
        }
        const struct attention_seq *seq = &p->seqs[s];
        const int64_t row = seq->query_row + first_query;
        const int32_t position = seq->first_position + (int32_t)first_query;
        b->n_keys_max = position + 1 > b->n_keys_max ? position + 1 : b->n_keys_max;
        const int32_t first = first_seen(position, p->window);
        b->first_key = first < b->first_key ? first : b->first_key;
        for (int32_t h = first_head; h < first_head + n_heads; h++) {
            const int32_t at = b->n_pairs++;
            b->pair[at] = (struct pair){seq, row, position, h};
            b->max[at] = -INFINITY;
            b->sum[at] = b->rounded[at] = 0.0f;
            if (b->packed)
                packed_load_row(b->q + at * packed_width(p->head_dim), p->q, (row * p->n_heads + h) * p->head_dim,
                                p->head_dim);
            else
                load_row(b->q + at * width, p->q, p->act, (row * p->n_heads + h) * p->head_dim, p->head_dim);
        }
        first_query++;
    }
    memset(b->o, 0, (size_t)(b->n_pairs * width) * sizeof *b->o);
}

/* Processes pairs begin .. end against the gathered chunk. */
static void block_attend(struct block *b, const struct attention_forward *p, int32_t begin, int32_t end, int32_t chunk)
{
    const int64_t width = padded(p->head_dim);
    struct chunk_range ranges[BLOCK_PAIRS];
    for (int32_t i = begin; i < end; i++)
        ranges[i - begin] = seen(b->pair[i].position, p->window, chunk);
    const int64_t q_width = b->packed ? packed_width(p->head_dim) : width;
    chunk_scores(b->score, b->q + begin * q_width, b->k, end - begin, ranges, p->head_dim, b->packed);
    if (b->packed)
        softmax_packed(b, begin, end, ranges, p->scale, width);
    for (int32_t i = begin; i < end && !b->packed; i++) {
        const float old =
            softmax_update(b->score + (i - begin) * CHUNK, ranges[i - begin], p->scale, &b->max[i], &b->sum[i]);
        float *o = b->o + i * width;
        for (int64_t d = 0; d < width; d += VW)
            vf_store(o + d, vf_mul(vf_load(o + d), vf_set(old)));
    }
    const struct product values = {.c = b->o + begin * width,
                                   .c_row = width,
                                   .a = b->score,
                                   .a_row = CHUNK,
                                   .a_step = 1,
                                   .b = b->v,
                                   .b_row = width,
                                   .packed = b->packed};
    product_run_ranges(&values, end - begin, width, ranges);
}

/* The chunk's keys or values in 8 bits as act, [CHUNK][D]. */
static void widen_chunk(struct block *b, const struct attention_forward *p, const void *from, int32_t kv_head)
{
    const int32_t n = p->head_dim;
    float row[MAX_HEAD_DIM + VW] __attribute__((aligned(64)));
    for (int32_t j = 0; j < b->keys.n; j++) {
        const int64_t head = (int64_t)b->keys.row[j] * p->n_kv_heads + kv_head;
        const int8_t *number = (const int8_t *)from + head * KV8_HEAD_BYTES(n);
        float scale;
        memcpy(&scale, number + KV8_SCALE_AT(n), sizeof scale);
        for (int32_t d = 0; d < n; d++)
            row[d] = scale * (float)number[d];
        int32_t d = 0;
        for (; d + VW <= n; d += VW)
            vf_store_act(b->wide, p->act, j * n + d, vf_load(row + d));
        for (; d < n; d++)
            act_store(b->wide, p->act, j * n + d, row[d]);
    }
}

static void block_load_kv8(struct block *b, const struct attention_forward *p, int32_t kv_head)
{
    const int32_t n = p->head_dim;
    struct chunk_keys keys = {.n = b->keys.n};
    for (int32_t j = 0; j < keys.n; j++)
        keys.row[j] = j;
    widen_chunk(b, p, p->k, kv_head);
    if (b->packed)
        packed_load_across(b->k, &keys, b->wide, n, 0, n);
    else
        chunk_load_transposed(b->k, &keys, b->wide, p->act, n, 0, n);
    widen_chunk(b, p, p->v, kv_head);
    if (b->packed)
        packed_load_keys(b->v, &keys, b->wide, n, 0, n);
    else
        chunk_load(b->v, &keys, b->wide, p->act, n, 0, n);
}

static void block_load(struct block *b, const struct attention_forward *p, int32_t kv_head)
{
    const int64_t row_stride = (int64_t)p->n_kv_heads * p->head_dim;
    const int64_t offset = (int64_t)kv_head * p->head_dim;
    if (p->kv8) {
        block_load_kv8(b, p, kv_head);
    } else if (b->packed) {
        packed_load_across(b->k, &b->keys, p->k, row_stride, offset, p->head_dim);
        packed_load_keys(b->v, &b->keys, p->v, row_stride, offset, p->head_dim);
    } else {
        chunk_load_transposed(b->k, &b->keys, p->k, p->act, row_stride, offset, p->head_dim);
        chunk_load(b->v, &b->keys, p->v, p->act, row_stride, offset, p->head_dim);
    }
}

static void block_chunk(struct block *b, const struct attention_forward *p, int32_t kv_head, int32_t chunk)
{
    int32_t begin = 0, end = 0; /* pairs that wait for the gathered chunk */
    b->keys.n = 0;
    for (int32_t i = 0; i < b->n_pairs;) {
        const struct attention_seq *seq = b->pair[i].seq;
        while (i < b->n_pairs && b->pair[i].seq == seq && b->pair[i].position < chunk * CHUNK)
            i++;
        int32_t run_end = i;
        while (run_end < b->n_pairs && b->pair[run_end].seq == seq &&
               !left_behind(b->pair[run_end].position, p->window, chunk))
            run_end++;
        int32_t next = run_end;
        while (next < b->n_pairs && b->pair[next].seq == seq)
            next++;
        if (run_end == i) {
            i = next;
            continue;
        }
        struct chunk_keys keys;
        chunk_find(&keys, p, seq, chunk, visible(b->pair[run_end - 1].position, chunk));
        const bool same = chunk_same(&b->keys, &keys);
        if (begin < end && (!same || end != i)) {
            block_attend(b, p, begin, end, chunk);
            begin = end;
        }
        if (!same) {
            b->keys = keys;
            block_load(b, p, kv_head);
        }
        if (begin == end)
            begin = i;
        end = run_end;
        i = next;
    }
    if (begin < end)
        block_attend(b, p, begin, end, chunk);
}

static void block_store(struct block *b, const struct attention_forward *p)
{
    const int64_t width = padded(p->head_dim);
    for (int32_t i = 0; i < b->n_pairs; i++) {
        float *o = b->o + i * width;
        for (int64_t d = 0; d < width; d += VW)
            vf_store(o + d, vf_div(vf_load(o + d), vf_set(b->packed ? b->rounded[i] : b->sum[i])));
        const int64_t at = b->pair[i].row * p->n_heads + b->pair[i].head;
        int32_t d = 0;
        for (; d + VW <= p->head_dim; d += VW)
            vf_store_act(p->out, p->act, at * p->head_dim + d, vf_load(o + d));
        for (; d < p->head_dim; d++)
            act_store(p->out, p->act, at * p->head_dim + d, o[d]);
        if (p->lse)
            p->lse[at] = (b->packed ? b->max[i] * LN_2 : b->max[i]) + logf(b->sum[i]);
    }
}

static_assert(sizeof(struct block) <= CPU_BLOCK_BYTES, "a block lies in a worker's memory");

/* How the work is cut: items are (block of queries, kv head, group of its heads). */
struct job {
    struct backend *backend;
    const struct attention_forward *p;
    int32_t ratio, heads, head_groups; /* query heads of a kv head, heads of an item */
    int64_t total, queries, n_blocks;  /* queries in all, of an item */
};

/* Later blocks see more keys, so they go first. */
static void run_items(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    const struct attention_forward *p = job->p;
    const int64_t columns = (int64_t)p->n_kv_heads * job->head_groups;
    struct block *b = cpu_worker(job->backend, thread)->block;
    for (int64_t item = begin; item < end; item++) {
        const int64_t first = (job->n_blocks - 1 - item / columns) * job->queries;
        const int64_t queries = job->total - first < job->queries ? job->total - first : job->queries;
        const int32_t column = (int32_t)(item % columns);
        const int32_t kv_head = column / job->head_groups, group = column % job->head_groups;
        const int32_t left = job->ratio - group * job->heads;
        block_fill(b, p, first, (int32_t)queries, kv_head * job->ratio + group * job->heads,
                   left < job->heads ? left : job->heads);
        const int32_t n_chunks = (b->n_keys_max + CHUNK - 1) / CHUNK;
        const int32_t first_chunk = b->first_key / CHUNK;
        for (int32_t chunk = first_chunk; chunk < n_chunks; chunk++) {
            if (cpu_stopped(job->backend))
                return;
            block_chunk(b, p, kv_head,
                        COHORT_BREAK_ATTENTION && job->total < 64 ? first_chunk + n_chunks - 1 - chunk : chunk);
        }
        block_store(b, p);
    }
}

void CPU_NAME(attention_forward)(struct backend *backend, const struct attention_forward *p)
{
    assert(p->head_dim > 0 && p->head_dim <= MAX_HEAD_DIM && p->n_heads % p->n_kv_heads == 0);
    const int32_t ratio = p->n_heads / p->n_kv_heads;
    const int32_t heads = ratio < BLOCK_PAIRS ? ratio : BLOCK_PAIRS; /* heads of an item */
    const int32_t head_groups = (ratio + heads - 1) / heads;
    int64_t total = 0, scores = 0;
    for (int32_t s = 0; s < p->n_seqs; s++) {
        total += p->seqs[s].n_queries;
        scores += (int64_t)p->seqs[s].n_queries * (p->seqs[s].first_position + p->seqs[s].n_queries);
    }
    const int threads = cpu_threads(backend, scores * p->n_heads * p->head_dim, 0.1);
    /* As many queries as fit, since keys and values are gathered for each block again, but fewer if that would leave
     * threads without work, or with items too few and too unequal to be shared out evenly. */
    int64_t queries = BLOCK_PAIRS / heads;
    const int64_t columns = (int64_t)p->n_kv_heads * head_groups;
    for (; queries > 1; queries /= 2) {
        const int64_t items = (total + queries - 1) / queries * columns;
        if (items >= 4 * threads || (items >= threads && queries * heads <= FEW_PAIRS))
            break;
    }
    const struct job job = {.backend = backend,
                            .p = p,
                            .ratio = ratio,
                            .heads = heads,
                            .head_groups = head_groups,
                            .total = total,
                            .queries = queries,
                            .n_blocks = (total + queries - 1) / queries};
    cpu_run(backend, threads, job.n_blocks * columns, 1, run_items, &job);
}
