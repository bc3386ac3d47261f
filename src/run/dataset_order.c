#include "run/dataset_order.h"

#include "base/rng.h"
#include "run/dataset.h"

#include <string.h>

static const uint64_t WHOLE = (uint64_t)1 << 32; /* a share of 1 */

/* Fisher-Yates; draw j of the stream picks the partner of element j. The modulo of a 64-bit draw is biased by less than
 * 2^-32. */
static size_t partner_of(size_t j, uint64_t seed, enum rng_purpose purpose, uint64_t stream)
{
    const struct rng_block block = rng_philox(seed, purpose, stream, j);
    const uint64_t draw = (uint64_t)block.word[0] << 32 | block.word[1];
    return (size_t)(draw % (j + 1));
}

static void permute(uint32_t *permutation, size_t n, uint64_t seed, uint64_t stream)
{
    for (size_t j = 0; j < n; j++)
        permutation[j] = (uint32_t)j;
    for (size_t j = n; j-- > 1;) {
        const size_t partner = partner_of(j, seed, RNG_SHUFFLE, stream);
        const uint32_t kept = permutation[j];
        permutation[j] = permutation[partner];
        permutation[partner] = kept;
    }
}

/* ---- creation ---- */

static cohort_status share(struct dataset_order *order, const struct dataset_part *parts, cohort_error *err)
{
    double sum = 0.0, before = 0.0;
    uint64_t last = 0;
    for (size_t p = 0; p < order->n_walks; p++)
        sum += parts[p].weight;
    for (size_t p = 0; p < order->n_walks; p++) {
        before += parts[p].weight;
        order->shares[p] = p + 1 == order->n_walks ? WHOLE : (uint64_t)(before / sum * (double)WHOLE);
        if (order->shares[p] < last || order->shares[p] - last < WHOLE / DATASET_BLOCK)
            return error_set(
                err, COHORT_ERR_ARGUMENT,
                "the weight %g of file %zu is less than 1 in %d of all weights; raise it, or leave the file "
                "out",
                parts[p].weight, p + 1, DATASET_BLOCK);
        last = order->shares[p];
    }
    return COHORT_OK;
}

cohort_status dataset_order_create(struct dataset_order *order, const struct dataset_part *parts, size_t n_parts,
                                   uint64_t seed, bool shuffle, cohort_error *err)
{
    *order = (struct dataset_order){.seed = seed, .shuffle = shuffle, .block = UINT64_MAX};
    TRY(mem_alloc(&order->walks, n_parts, sizeof *order->walks, "order of the data set", err));
    order->n_walks = n_parts;
    for (size_t p = 0; p < n_parts; p++) {
        order->walks[p] = (struct dataset_walk){.first = parts[p].first, .n = parts[p].n_rows};
        order->n += parts[p].n_rows;
        if (parts[p].n_rows > UINT32_MAX)
            return error_set(err, COHORT_ERR_UNSUPPORTED, "a data set of %zu rows; at most %lu", parts[p].n_rows,
                             (unsigned long)UINT32_MAX);
        if (parts[p].n_rows == 0)
            return error_set(err, COHORT_ERR_ARGUMENT, "a data set without rows has no order");
    }
    if (n_parts == 1)
        return COHORT_OK;
    TRY(mem_alloc(&order->shares, n_parts, sizeof *order->shares, "order of the data set", err));
    TRY(mem_alloc(&order->choices, DATASET_BLOCK, sizeof *order->choices, "order of the data set", err));
    return share(order, parts, err);
}

void dataset_order_free(struct dataset_order *order)
{
    for (size_t p = 0; p < order->n_walks; p++)
        mem_free(order->walks[p].permutation);
    mem_free(order->walks);
    mem_free(order->shares);
    mem_free(order->choices);
    memset(order, 0, sizeof *order);
}

/* ---- draws ---- */

/* Draws that part p has had before a block. */
static uint64_t had_before(const struct dataset_order *order, size_t p, uint64_t block)
{
    /* block * DATASET_BLOCK * share / 2^32, within 64 bits for blocks below 2^31. */
    const uint64_t to = block * order->shares[p] / (WHOLE / DATASET_BLOCK),
                   from = p == 0 ? 0 : block * order->shares[p - 1] / (WHOLE / DATASET_BLOCK);
    return to - from;
}

static void fill_block(struct dataset_order *order, uint64_t block)
{
    size_t filled = 0;
    for (size_t p = 0; p < order->n_walks; p++) {
        const uint64_t n = had_before(order, p, block + 1) - had_before(order, p, block);
        for (uint64_t k = 0; k < n; k++)
            order->choices[filled++] = (uint16_t)p;
    }
    for (size_t j = DATASET_BLOCK; j-- > 1;) {
        const size_t partner = partner_of(j, order->seed, RNG_MIXTURE, block);
        const uint16_t kept = order->choices[j];
        order->choices[j] = order->choices[partner];
        order->choices[partner] = kept;
    }
    order->block = block;
}

/* The part of draw i, and the number of the draw within that part. */
static cohort_status choose(struct dataset_order *order, uint64_t i, size_t *part, uint64_t *number, cohort_error *err)
{
    const uint64_t block = i / DATASET_BLOCK;
    const size_t within = (size_t)(i % DATASET_BLOCK);
    if (block >= (uint64_t)1 << 31)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "more than 2^41 draws of a mixture");
    if (block != order->block)
        fill_block(order, block);
    *part = order->choices[within];
    *number = had_before(order, *part, block);
    for (size_t j = 0; j < within; j++)
        *number += order->choices[j] == *part;
    return COHORT_OK;
}

cohort_status dataset_order_at(struct dataset_order *order, uint64_t i, size_t *row, uint64_t *epoch, cohort_error *err)
{
    size_t part = 0;
    uint64_t number = i;
    if (order->n_walks == 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "a data set without rows has no order");
    if (order->n_walks > 1)
        TRY(choose(order, i, &part, &number, err));
    struct dataset_walk *walk = &order->walks[part];
    const uint64_t walked = number / walk->n;
    const size_t within = (size_t)(number % walk->n);
    if (epoch != NULL)
        *epoch = walked;
    *row = walk->first + within;
    if (!order->shuffle)
        return COHORT_OK;
    if (walk->permutation == NULL || walk->cached_epoch != walked) {
        if (walk->permutation == NULL)
            TRY(mem_alloc(&walk->permutation, walk->n, sizeof *walk->permutation, "order of the data set", err));
        permute(walk->permutation, walk->n, order->seed, part == 0 ? walked : rng_stream(part, walked));
        walk->cached_epoch = walked;
    }
    *row = walk->first + walk->permutation[within];
    return COHORT_OK;
}
