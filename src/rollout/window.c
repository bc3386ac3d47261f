#include "rollout/window.h"

#include "backend/sampling.h"
#include "base/memory.h"
#include "base/rng.h"

#include <string.h>

cohort_status decode_window_reserve(struct decode_window *w, int32_t n, cohort_error *err)
{
    size_t tokens = (size_t)n * DECODE_WINDOW;
    TRY(mem_grow(&w->slots, &w->slot_capacity, (size_t)n, sizeof *w->slots, "decoding slots", err));
    TRY(mem_grow(&w->tokens, &w->token_capacity, tokens, sizeof *w->tokens, "decoded tokens", err));
    return mem_grow(&w->logp, &w->logp_capacity, tokens, sizeof *w->logp, "decoded tokens", err);
}

void decode_window_free(struct decode_window *w)
{
    mem_free(w->slots);
    mem_free(w->tokens);
    mem_free(w->logp);
    memset(w, 0, sizeof *w);
}

int32_t decode_rows(int32_t n)
{
    int32_t unit = 1;
    while (n > 8 * unit) /* eight sizes for every doubling beyond 8 */
        unit *= 2;
    return (n + unit - 1) / unit * unit;
}

uint64_t decode_window_key(const struct decode_window *w, const void *buffer, int32_t n, int32_t rows)
{
    bool changes = false;
    for (int32_t i = 0; i < n; i++)
        changes = changes || sampling_changes_logits(w->slots[i].draw.params);
    return rng_stream((uint64_t)(uintptr_t)buffer, (uint64_t)rows << 1 | (uint64_t)changes);
}
