#include "model/token_masks.h"

#include "backend/backend.h"
#include "base/memory.h"

#include <assert.h>
#include <string.h>

static uint64_t hash_of(const uint32_t *bits, int64_t words)
{
    uint64_t hash = 0x9E3779B97F4A7C15u;
    for (int64_t i = 0; i < words; i++) {
        hash = (hash ^ bits[i]) * 0xD6E8FEB86659FD93u;
        hash ^= hash >> 32;
    }
    return hash;
}

static uint32_t *row_of(const struct token_masks *m, int32_t index) { return m->bits + index * m->words; }

/* The slot of a mask with these bits, or the empty one where it belongs. */
static size_t slot_of(const struct token_masks *m, const uint32_t *bits)
{
    size_t slot = (size_t)hash_of(bits, m->words) & (m->n_slots - 1);
    while (m->slots[slot] != 0 && memcmp(row_of(m, m->slots[slot] - 1), bits, (size_t)m->words * sizeof *bits) != 0)
        slot = (slot + 1) & (m->n_slots - 1);
    return slot;
}

/* Room for one mask more, in the table and in its slots, which stay at most half full. */
static cohort_status grow(struct token_masks *m, cohort_error *err)
{
    TRY(mem_grow(&m->bits, &m->capacity, ((size_t)m->n + 1) * (size_t)m->words, sizeof *m->bits, "masks", err));
    if (2 * ((size_t)m->n + 1) <= m->n_slots)
        return COHORT_OK;
    const size_t n = m->n_slots == 0 ? 64 : 2 * m->n_slots;
    int32_t *slots = NULL;
    TRY(mem_alloc(&slots, n, sizeof *slots, "masks", err));
    mem_free(m->slots);
    m->slots = slots;
    m->n_slots = n;
    for (int32_t i = 0; i < m->n; i++)
        m->slots[slot_of(m, row_of(m, i))] = i + 1;
    return COHORT_OK;
}

cohort_status token_masks_add(struct token_masks *m, const uint32_t *bits, int64_t n_ids, int64_t vocab, int32_t *index,
                              cohort_error *err)
{
    const int64_t given = allowed_words(n_ids);
    assert(n_ids > 0 && n_ids <= vocab && (m->n == 0 || m->words == allowed_words(vocab)));
    m->words = allowed_words(vocab);
    TRY(grow(m, err));
    uint32_t *row = row_of(m, m->n); /* the new one, unless it is known */
    memset(row, 0, (size_t)m->words * sizeof *row);
    memcpy(row, bits, (size_t)given * sizeof *row);
    if (n_ids % 32 != 0)
        row[given - 1] &= (1u << (n_ids % 32)) - 1;
    const size_t slot = slot_of(m, row);
    if (m->slots[slot] == 0)
        m->slots[slot] = ++m->n;
    *index = m->slots[slot] - 1;
    return COHORT_OK;
}

void token_masks_clear(struct token_masks *m)
{
    if (m->n > 0)
        memset(m->slots, 0, m->n_slots * sizeof *m->slots);
    m->n = 0;
}

void token_masks_free(struct token_masks *m)
{
    mem_free(m->bits);
    mem_free(m->slots);
    memset(m, 0, sizeof *m);
}
