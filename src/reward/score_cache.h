/* Scores of rows that were asked before, for rewards that give a row the same score every time. */
#ifndef COHORT_REWARD_SCORE_CACHE_H
#define COHORT_REWARD_SCORE_CACHE_H

#include "base/hash.h"
#include "reward/reward.h"

/* What a score depends on: the data set's row, prompt, completion, ids and why it ended. */
struct score_key {
    char sha256[HASH_HEX];
};
cohort_status score_key(struct score_key *key, const struct reward_row *row, cohort_error *err);

struct score_cache;
cohort_status score_cache_create(struct score_cache **out, cohort_error *err);
/* Accepts NULL. */
void score_cache_destroy(struct score_cache *cache);
bool score_cache_get(const struct score_cache *cache, const struct score_key *key, double *score);
/* A full cache (SCORE_CACHE_MOST scores) is emptied first. */
enum { SCORE_CACHE_MOST = 1 << 18 };
cohort_status score_cache_put(struct score_cache *cache, const struct score_key *key, double score, cohort_error *err);

#endif
