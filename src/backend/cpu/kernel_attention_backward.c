/* Attention, backward, by recomputation from lse (Dao et al., "FlashAttention"): with p = exp(s *
 * scale - lse), delta = sum(dO * O), ds = p * (dO . v - delta) * scale:  dv += p dO, dk += ds q, dq
 * = sum ds k.
 *
 * One thread owns a (tree, kv head), so it alone writes those columns of the tree's rows of dk, dv
 * and dq. A row of dk or dv is an accumulator that is loaded, takes its terms in the stated order
 * (sequences, queries, heads ascending) and is stored; every key row belongs to one absolute
 * position, hence to one chunk, so walking chunks outermost does not change that order. */
#include "backend/cpu/kernel_attention.h"

enum { BLOCK_PAIRS = 64 };

struct work {
    const struct attention_backward *p;
    int32_t kv_head;
    bool packed;                                                /* operands of products are two bf16 in a word */
    struct chunk_keys keys;                                     /* what the chunk's arrays hold; n = 0: nothing */
    float k[CHUNK * MAX_HEAD_DIM] __attribute__((aligned(64))); /* [CHUNK][padded D]; packed: half as many rows */
    float k_transposed[MAX_HEAD_DIM * CHUNK] __attribute__((aligned(64))); /* [D][CHUNK]; packed: half as many rows */
    float v_transposed[MAX_HEAD_DIM * CHUNK] __attribute__((aligned(64)));
    float dk[CHUNK * MAX_HEAD_DIM] __attribute__((aligned(64)));
    float dv[CHUNK * MAX_HEAD_DIM] __attribute__((aligned(64)));
    /* [pairs][padded D]; packed: [pairs][packed_width], and in the second half [pairs / 2][padded D], two rows in one */
    float q[BLOCK_PAIRS * MAX_HEAD_DIM] __attribute__((aligned(64)));
    float d_out[BLOCK_PAIRS * MAX_HEAD_DIM] __attribute__((aligned(64)));
    float dq[BLOCK_PAIRS * MAX_HEAD_DIM] __attribute__((aligned(64)));
    float weight[BLOCK_PAIRS * CHUNK] __attribute__((aligned(64)));
    float d_score[BLOCK_PAIRS * CHUNK] __attribute__((aligned(64)));
    float d_score_rows[BLOCK_PAIRS * CHUNK / 2] __attribute__((aligned(64))); /* packed: [pairs][CHUNK / 2] */
};

enum { SECOND_HALF = BLOCK_PAIRS * MAX_HEAD_DIM / 2 };

/* Moves rows of dk and dv between memory and the chunk's accumulators. */
static void gradient_load(const struct work *w, float *to, const float *from)
{
    const struct attention_forward *f = &w->p->forward;
    for (int32_t j = 0; j < w->keys.n; j++)
        load_row(to + j * padded(f->head_dim), from, DTYPE_F32,
                 ((int64_t)w->keys.row[j] * f->n_kv_heads + w->kv_head) * f->head_dim, f->head_dim);
}

static void gradient_store(const struct work *w, float *to, const float *from)
{
    const struct attention_forward *f = &w->p->forward;
    for (int32_t j = 0; j < w->keys.n; j++)
        memcpy(to + ((int64_t)w->keys.row[j] * f->n_kv_heads + w->kv_head) * f->head_dim,
               from + j * padded(f->head_dim), (size_t)f->head_dim * sizeof *to);
}

static void chunk_flush(struct work *w)
{
    gradient_store(w, w->p->dk, w->dk);
    gradient_store(w, w->p->dv, w->dv);
    w->keys.n = 0;
}

static void chunk_take(struct work *w, const struct chunk_keys *keys)
{
    if (w->keys.n == keys->n && chunk_same(&w->keys, keys))
        return;
    chunk_flush(w);
    const struct attention_forward *f = &w->p->forward;
    const int64_t stride = (int64_t)f->n_kv_heads * f->head_dim, offset = (int64_t)w->kv_head * f->head_dim;
    w->keys = *keys;
    if (w->packed) {
        packed_load_keys(w->k, keys, f->k, stride, offset, f->head_dim);
        packed_load_across(w->k_transposed, keys, f->k, stride, offset, f->head_dim);
        packed_load_across(w->v_transposed, keys, f->v, stride, offset, f->head_dim);
    } else {
        chunk_load(w->k, keys, f->k, f->act, stride, offset, f->head_dim);
        chunk_load_transposed(w->k_transposed, keys, f->k, f->act, stride, offset, f->head_dim);
        chunk_load_transposed(w->v_transposed, keys, f->v, f->act, stride, offset, f->head_dim);
    }
    gradient_load(w, w->dk, w->p->dk);
    gradient_load(w, w->dv, w->p->dv);
}

static float row_dot(const void *a, const void *b, enum dtype act, int64_t at, int32_t n)
{
    vf sum = vf_zero();
    int32_t d = 0;
    for (; d + VW <= n; d += VW)
        sum = vf_fma(vf_load_act(a, act, at + d), vf_load_act(b, act, at + d), sum);
    float total = vf_sum(sum);
    for (; d < n; d++)
        total = total + act_load(a, act, at + d) * act_load(b, act, at + d);
    return total;
}

/* Queries of a sequence, with some heads, against the loaded chunk: what each pair sees, where its rows lie. */
struct block {
    int32_t n_pairs, n_keys;
    struct chunk_range ranges[BLOCK_PAIRS];
    int64_t at[BLOCK_PAIRS]; /* (row, head) of a pair */
};

static void block_load(struct work *w, const struct block *b)
{
    const struct attention_forward *f = &w->p->forward;
    const int64_t width = padded(f->head_dim), half = packed_width(f->head_dim);
    for (int32_t i = 0; i < b->n_pairs; i++) {
        const int64_t from = b->at[i] * f->head_dim;
        if (w->packed) {
            packed_load_row(w->q + i * half, f->q, from, f->head_dim);
            packed_load_row(w->d_out + i * half, w->p->d_out, from, f->head_dim);
        } else {
            load_row(w->q + i * width, f->q, f->act, from, f->head_dim);
            load_row(w->d_out + i * width, w->p->d_out, f->act, from, f->head_dim);
        }
    }
    if (w->packed) {
        packed_load_two(w->q + SECOND_HALF, w->q, b->n_pairs, f->head_dim);
        packed_load_two(w->d_out + SECOND_HALF, w->d_out, b->n_pairs, f->head_dim);
    }
}

/* Scores become weights, products of d_out and values the gradients of scores; 0 where a key is not seen. */
static void block_weights(struct work *w, const struct block *b)
{
    const struct attention_forward *f = &w->p->forward;
    for (int32_t i = 0; i < b->n_pairs; i++) {
        float *weight = w->weight + i * CHUNK, *d_score = w->d_score + i * CHUNK;
        const struct chunk_range range = b->ranges[i];
        const vf lse = vf_set(f->lse[b->at[i]]), scale = vf_set(f->scale);
        const vf delta = vf_set(row_dot(w->p->d_out, f->out, f->act, b->at[i] * f->head_dim, f->head_dim));
        for (int32_t j = range.begin / VW * VW; j < range.end; j += VW) {
            const vf p = exp_keep_nan(vf_sub(vf_mul(vf_load(weight + j), scale), lse));
            vf_store(weight + j, p);
            vf_store(d_score + j, vf_mul(vf_mul(p, vf_sub(vf_load(d_score + j), delta)), scale));
        }
        for (int32_t j = 0; j < range.begin; j++)
            weight[j] = d_score[j] = 0.0f;
        for (int32_t j = range.end; j < b->n_keys; j++)
            weight[j] = d_score[j] = 0.0f;
    }
}

/* The same rounded to bf16, rows 2i and 2i + 1 in one; and rows of gradients with keys in pairs. */
#if defined(__AVX512BF16__)
static void block_weights_packed(struct work *w, const struct block *b)
{
    const struct attention_forward *f = &w->p->forward;
    const vf scale = vf_set(f->scale), scale_2 = vf_set(f->scale * LOG2_E);
    for (int32_t i = 0; i < b->n_pairs; i += 2) {
        __m512i weight[2][2] = {{{0}}}, d_score[2][2] = {{{0}}}; /* [row][half of the keys] */
        for (int32_t row = 0; row < 2 && i + row < b->n_pairs; row++) {
            const float *score = w->weight + (i + row) * CHUNK, *d_weight = w->d_score + (i + row) * CHUNK;
            const int64_t at = b->at[i + row];
            const uint64_t lanes = range_lanes(b->ranges[i + row]);
            const vf lse = vf_set(f->lse[at] * LOG2_E);
            const vf delta = vf_set(row_dot(w->p->d_out, f->out, f->act, at * f->head_dim, f->head_dim));
            vf p[CHUNK / VW], d[CHUNK / VW];
            for (int j = 0; j < CHUNK / VW; j++) {
                const __mmask16 seen = (__mmask16)(lanes >> (j * VW));
                p[j] = exp2_fast(vf_sub(vf_mul(vf_load(score + j * VW), scale_2), lse), seen);
                d[j] = _mm512_maskz_mul_ps(seen, vf_mul(p[j], vf_sub(vf_load(d_weight + j * VW), delta)), scale);
            }
            for (int half = 0; half < 2; half++) {
                weight[row][half] = (__m512i)round_two(p[2 * half], p[2 * half + 1]);
                d_score[row][half] = (__m512i)round_two(d[2 * half], d[2 * half + 1]);
                _mm512_storeu_si512(w->d_score_rows + (i + row) * CHUNK / 2 + half * VW, d_score[row][half]);
            }
        }
        for (int half = 0; half < 2; half++) {
            packed_interleave(weight[0][half], weight[1][half], w->weight + i / 2 * CHUNK + half * 2 * VW, true);
            packed_interleave(d_score[0][half], d_score[1][half], w->d_score + i / 2 * CHUNK + half * 2 * VW, true);
        }
    }
}
#else
static void block_weights_packed(struct work *w, const struct block *b)
{
    (void)w;
    (void)b;
}
#endif

/* Processes queries begin .. end of seq, heads first .. first + n_heads, against the loaded chunk. */
static void block_backward(struct work *w, const struct attention_seq *seq, int32_t begin, int32_t end,
                           int32_t first_head, int32_t n_heads, int32_t chunk)
{
    const struct attention_forward *f = &w->p->forward;
    const int64_t width = padded(f->head_dim);
    const bool packed = w->packed;
    struct block b = {.n_pairs = (end - begin) * n_heads, .n_keys = visible(seq->first_position + end - 1, chunk)};
    for (int32_t i = 0; i < b.n_pairs; i++) {
        const int32_t query = begin + i / n_heads;
        const int32_t position = seq->first_position + query;
        b.ranges[i] = seen(position, f->window, chunk);
        b.at[i] = ((int64_t)seq->query_row + query) * f->n_heads + first_head + i % n_heads;
        if (chunk > first_seen(position, f->window) / CHUNK)
            load_row(w->dq + i * width, w->p->dq, DTYPE_F32, b.at[i] * f->head_dim, f->head_dim);
        else
            memset(w->dq + i * width, 0, (size_t)width * sizeof *w->dq);
    }
    block_load(w, &b);
    chunk_scores(w->weight, w->q, w->k_transposed, b.n_pairs, b.ranges, f->head_dim, packed);
    chunk_scores(w->d_score, w->d_out, w->v_transposed, b.n_pairs, b.ranges, f->head_dim, packed);
    (packed ? block_weights_packed : block_weights)(w, &b);

    const int64_t second = packed ? SECOND_HALF : 0, steps = packed ? (b.n_pairs + 1) / 2 : b.n_pairs;
    struct product rows = {.c = w->dv,
                           .c_row = width,
                           .a = w->weight,
                           .a_row = 1,
                           .a_step = CHUNK,
                           .b = w->d_out + second,
                           .b_row = width,
                           .packed = packed};
    product_run(&rows, b.n_keys, width, steps);
    rows.c = w->dk;
    rows.a = w->d_score;
    rows.b = w->q + second;
    product_run(&rows, b.n_keys, width, steps);
    const struct product queries = {.c = w->dq,
                                    .c_row = width,
                                    .a = packed ? w->d_score_rows : w->d_score,
                                    .a_row = packed ? CHUNK / 2 : CHUNK,
                                    .a_step = 1,
                                    .b = w->k,
                                    .b_row = width,
                                    .packed = packed};
    product_run_ranges(&queries, b.n_pairs, width, b.ranges);
    for (int32_t i = 0; i < b.n_pairs; i++)
        memcpy(w->p->dq + b.at[i] * f->head_dim, w->dq + i * width, (size_t)f->head_dim * sizeof *w->dq);
}

static void seq_backward(struct work *w, const struct attention_seq *seq, int32_t chunk)
{
    const struct attention_forward *f = &w->p->forward;
    const int32_t last = seq->first_position + seq->n_queries - 1;
    const int32_t skipped = chunk * CHUNK > seq->first_position ? chunk * CHUNK - seq->first_position : 0;
    int32_t behind = seq->n_queries; /* the first query that has the chunk behind it */
    while (behind > skipped && left_behind(seq->first_position + behind - 1, f->window, chunk))
        behind--;
    if (skipped >= behind)
        return;
    struct chunk_keys keys;
    chunk_find(&keys, f, seq, chunk, visible(last, chunk));
    chunk_take(w, &keys);
    const int32_t ratio = f->n_heads / f->n_kv_heads;
    const int32_t heads = ratio < BLOCK_PAIRS ? ratio : BLOCK_PAIRS, queries = BLOCK_PAIRS / heads;
    for (int32_t i = skipped; i < behind; i += queries) {
        const int32_t end = behind - i < queries ? behind : i + queries;
        for (int32_t h = 0; h < ratio; h += heads)
            block_backward(w, seq, i, end, w->kv_head * ratio + h, ratio - h < heads ? ratio - h : heads, chunk);
    }
}

/* The sequences of the tree with the given rank: seqs begin .. end. */
static void tree_find(const struct attention_forward *f, int32_t rank, int32_t *begin, int32_t *end)
{
    int32_t s = 0;
    for (;; rank--) {
        *begin = s;
        while (s < f->n_seqs && f->seqs[s].tree == f->seqs[*begin].tree)
            s++;
        *end = s;
        if (rank == 0)
            return;
    }
}

static_assert(sizeof(struct work) <= CPU_BLOCK_BYTES, "work lies in a worker's memory");

struct job {
    struct backend *backend;
    const struct attention_backward *p;
};

/* Item: (tree, kv head). */
static void run_items(const void *context, int64_t first, int64_t last, int thread)
{
    const struct job *job = context;
    const struct attention_forward *f = &job->p->forward;
    struct work *w = cpu_worker(job->backend, thread)->block;
    for (int64_t item = first; item < last; item++) {
        w->p = job->p;
        w->kv_head = (int32_t)(item % f->n_kv_heads);
        w->packed = is_packed(f->act);
        w->keys.n = 0;
        int32_t begin, end, n_keys = 0;
        tree_find(f, (int32_t)(item / f->n_kv_heads), &begin, &end);
        for (int32_t s = begin; s < end; s++) {
            const int32_t length = f->seqs[s].first_position + f->seqs[s].n_queries;
            n_keys = length > n_keys ? length : n_keys;
        }
        for (int32_t chunk = 0; chunk * CHUNK < n_keys; chunk++) {
            for (int32_t s = begin; s < end; s++) {
                if (cpu_stopped(job->backend))
                    return;
                seq_backward(w, &f->seqs[s], chunk);
            }
            chunk_flush(w);
        }
    }
}

void CPU_NAME(attention_backward)(struct backend *backend, const struct attention_backward *p)
{
    const struct attention_forward *f = &p->forward;
    assert(f->head_dim > 0 && f->head_dim <= MAX_HEAD_DIM && f->n_heads % f->n_kv_heads == 0 && f->lse);
    int32_t n_trees = 0;
    int64_t scores = 0;
    for (int32_t s = 0; s < f->n_seqs; s++) {
        n_trees += s == 0 || f->seqs[s].tree != f->seqs[s - 1].tree;
        scores += (int64_t)f->seqs[s].n_queries * (f->seqs[s].first_position + f->seqs[s].n_queries);
    }
    const struct job job = {backend, p};
    cpu_run(backend, cpu_threads(backend, scores * f->n_heads * f->head_dim, 0.2), (int64_t)n_trees * f->n_kv_heads, 1,
            run_items, &job);
}
