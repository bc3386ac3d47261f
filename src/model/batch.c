#include "backend/expert_ops.h"
#include "backend/ops.h"
#include "model/decoder.h"

#include <assert.h>
#include <string.h>

cohort_status batch_reserve(struct batch *batch, size_t tokens, size_t seqs, size_t spans, cohort_error *err)
{
    size_t capacity = batch->token_capacity;
    TRY(mem_grow(&batch->token, &capacity, tokens, sizeof *batch->token, "batch tokens", err));
    capacity = batch->token_capacity;
    TRY(mem_grow(&batch->position, &capacity, tokens, sizeof *batch->position, "batch positions", err));
    capacity = batch->token_capacity;
    TRY(mem_grow(&batch->key_position, &capacity, tokens, sizeof *batch->key_position, "batch positions", err));
    capacity = batch->token_capacity;
    TRY(mem_grow(&batch->kv_row, &capacity, tokens, sizeof *batch->kv_row, "batch rows", err));
    batch->token_capacity = capacity;
    TRY(mem_grow(&batch->vectors, &batch->vectors_capacity, seqs, sizeof *batch->vectors, "batch vectors", err));
    TRY(mem_grow(&batch->seqs, &batch->seq_capacity, seqs, sizeof *batch->seqs, "batch sequences", err));
    return mem_grow(&batch->spans, &batch->span_capacity, spans, sizeof *batch->spans, "batch spans", err);
}

void batch_clear(struct batch *batch)
{
    batch->n_tokens = batch->n_seqs = batch->n_spans = batch->n_trees = batch->n_vectors = 0;
    batch->noise = NULL;
    batch->shifted = false;
}

cohort_status batch_add_routes(struct batch *batch, int32_t n, int32_t count, const uint16_t *routes, int32_t width,
                               cohort_error *err)
{
    const size_t end = (size_t)batch->n_tokens, first = end - (size_t)n, row = (size_t)width;
    batch->route_width = width;
    TRY(mem_grow(&batch->count, &batch->count_capacity, end, sizeof *batch->count, "batch rows", err));
    TRY(mem_grow(&batch->routes, &batch->route_capacity, end * row, sizeof *batch->routes, "routes", err));
    for (size_t i = first; i < end; i++) {
        batch->count[i] = count;
        if (routes == NULL)
            batch->routes[i * row] = ROUTE_UNKNOWN;
    }
    if (routes != NULL)
        memcpy(batch->routes + first * row, routes, (size_t)n * row * sizeof *routes);
    return COHORT_OK;
}

void batch_free(struct batch *batch)
{
    mem_free(batch->token);
    mem_free(batch->position);
    mem_free(batch->key_position);
    mem_free(batch->kv_row);
    mem_free(batch->vectors);
    mem_free(batch->seqs);
    mem_free(batch->spans);
    mem_free(batch->count);
    mem_free(batch->routes);
    memset(batch, 0, sizeof *batch);
}

void batch_add_seq(struct batch *batch, const int32_t *tokens, int32_t n, int32_t first_position, int32_t tree)
{
    assert((size_t)(batch->n_tokens + n) <= batch->token_capacity && (size_t)batch->n_seqs < batch->seq_capacity);
    struct attention_seq *seq = &batch->seqs[batch->n_seqs++];
    *seq = (struct attention_seq){.query_row = batch->n_tokens,
                                  .n_queries = n,
                                  .first_position = first_position,
                                  .span_begin = batch->n_spans,
                                  .tree = tree};
    for (int32_t i = 0; i < n; i++) {
        batch->token[batch->n_tokens + i] = tokens[i];
        batch->position[batch->n_tokens + i] = batch->key_position[batch->n_tokens + i] = first_position + i;
    }
    batch->n_tokens += n;
    if (tree >= batch->n_trees)
        batch->n_trees = tree + 1;
}

void batch_shift(struct batch *batch, int32_t left_out)
{
    struct attention_seq *seq = &batch->seqs[batch->n_seqs - 1];
    seq->first_position -= left_out;
    for (int32_t i = 0; i < seq->n_queries; i++)
        batch->key_position[seq->query_row + i] -= left_out;
    batch->shifted = batch->shifted || left_out > 0;
}

void batch_add_span(struct batch *batch, int32_t position, int32_t row, int32_t length)
{
    if (length <= 0)
        return;
    assert((size_t)batch->n_spans < batch->span_capacity && batch->n_seqs > 0);
    batch->spans[batch->n_spans++] = (struct attention_span){.position = position, .row = row, .length = length};
    batch->seqs[batch->n_seqs - 1].n_spans++;
}

void batch_add_vectors(struct batch *batch, int32_t row, int32_t n, const float *values)
{
    assert((size_t)batch->n_vectors < batch->vectors_capacity);
    batch->vectors[batch->n_vectors++] = (struct batch_vectors){row, n, values};
}
