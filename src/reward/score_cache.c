#include "reward/score_cache.h"

#include "base/json_text.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    struct score_key key; /* sha256[0] is NUL: free */
    double score;
};

/* Open addressing by the first digits of the hash; at most half of the places are taken. */
struct score_cache {
    struct entry *entries; /* [places] */
    size_t places, count;  /* places: a power of two */
};

cohort_status score_key(struct score_key *key, const struct reward_row *row, cohort_error *err)
{
    struct text json = {0};
    struct hash hash;
    TRY(json_text_write(row->data, JSON_COMPACT | JSON_SORT_KEYS, &json, err));
    hash_begin(&hash);
    hash_add_text(&hash, json.data, json.length);
    text_free(&json);
    hash_add_text(&hash, row->prompt, row->prompt_length);
    hash_add_text(&hash, row->completion, row->completion_length);
    hash_add_text(&hash, row->n_tokens > 0 ? (const char *)row->tokens : "",
                  (size_t)row->n_tokens * sizeof *row->tokens);
    hash_add_text(&hash, row->finish_reason, strlen(row->finish_reason));
    hash_end(&hash, key->sha256);
    return COHORT_OK;
}

cohort_status score_cache_create(struct score_cache **out, cohort_error *err)
{
    struct score_cache *cache = NULL;
    *out = NULL;
    TRY(mem_alloc(&cache, 1, sizeof *cache, "reward cache", err));
    cache->places = 1024;
    cohort_status status = mem_alloc(&cache->entries, cache->places, sizeof *cache->entries, "reward cache", err);
    if (status != COHORT_OK)
        mem_free(cache);
    else
        *out = cache;
    return status;
}

void score_cache_destroy(struct score_cache *cache)
{
    if (cache == NULL)
        return;
    mem_free(cache->entries);
    mem_free(cache);
}

/* The key's place, or the free one where it belongs. */
static struct entry *find(const struct score_cache *cache, const struct score_key *key)
{
    char digits[17];
    memcpy(digits, key->sha256, 16);
    digits[16] = '\0';
    for (size_t i = (size_t)strtoull(digits, NULL, 16);; i++) {
        struct entry *entry = &cache->entries[i & (cache->places - 1)];
        if (entry->key.sha256[0] == '\0' || memcmp(entry->key.sha256, key->sha256, HASH_HEX) == 0)
            return entry;
    }
}

bool score_cache_get(const struct score_cache *cache, const struct score_key *key, double *score)
{
    const struct entry *entry = find(cache, key);
    if (entry->key.sha256[0] == '\0')
        return false;
    *score = entry->score;
    return true;
}

static cohort_status grow(struct score_cache *cache, cohort_error *err)
{
    struct score_cache larger = {.places = 2 * cache->places, .count = cache->count};
    TRY(mem_alloc(&larger.entries, larger.places, sizeof *larger.entries, "reward cache", err));
    for (size_t i = 0; i < cache->places; i++)
        if (cache->entries[i].key.sha256[0] != '\0')
            *find(&larger, &cache->entries[i].key) = cache->entries[i];
    mem_free(cache->entries);
    *cache = larger;
    return COHORT_OK;
}

cohort_status score_cache_put(struct score_cache *cache, const struct score_key *key, double score, cohort_error *err)
{
    if (cache->count == SCORE_CACHE_MOST) {
        memset(cache->entries, 0, cache->places * sizeof *cache->entries);
        cache->count = 0;
    }
    if (2 * (cache->count + 1) > cache->places)
        TRY(grow(cache, err));
    struct entry *entry = find(cache, key);
    cache->count += entry->key.sha256[0] == '\0';
    entry->key = *key;
    entry->score = score;
    return COHORT_OK;
}
