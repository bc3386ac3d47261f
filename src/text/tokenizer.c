/* Lookup in a loaded tokenizer, and its life. */
#include "text/tokenizer_internal.h"

#include <string.h>

void token_list_free(struct token_list *list)
{
    mem_free(list->ids);
    memset(list, 0, sizeof *list);
}

cohort_status token_list_push(struct token_list *list, int32_t id, cohort_error *err)
{
    if (list->count == list->capacity)
        TRY(mem_grow(&list->ids, &list->capacity, list->count + 1, sizeof *list->ids, "token ids", err));
    list->ids[list->count++] = id;
    return COHORT_OK;
}

void content_spans_free(struct content_spans *spans)
{
    mem_free(spans->items);
    memset(spans, 0, sizeof *spans);
}

cohort_status content_spans_push(struct content_spans *spans, size_t from, size_t to, enum content_kind kind,
                                 cohort_error *err)
{
    if (from == to)
        return COHORT_OK;
    TRY(mem_grow(&spans->items, &spans->capacity, spans->count + 1, sizeof *spans->items, "spans of content", err));
    spans->items[spans->count++] = (struct content_span){from, to, kind};
    return COHORT_OK;
}

static void added_set_free(struct added_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        text_free(&set->contents[i]);
    mem_free(set->contents);
    mem_free(set->ids);
}

void tokenizer_destroy(struct tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    mem_free(tokenizer->entries);
    text_free(&tokenizer->arena);
    mem_free(tokenizer->vocab_slots);
    mem_free(tokenizer->merges);
    added_set_free(&tokenizer->raw);
    added_set_free(&tokenizer->normalized);
    pcre2_code_free(tokenizer->split);
    for (size_t i = 0; i < tokenizer->n_templates; i++) {
        mem_free(tokenizer->templates[i].name);
        mem_free(tokenizer->templates[i].text);
        mem_free(tokenizer->templates[i].origin);
    }
    mem_free(tokenizer->templates);
    json_decref(tokenizer->special);
    mem_free(tokenizer);
}

uint64_t tokenizer_text_hash(const char *text, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return hash ^ (hash >> 29);
}

uint64_t tokenizer_merge_hash(uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u;
    return key ^ (key >> 32);
}

int32_t tokenizer_find_text(const struct tokenizer *tokenizer, const char *text, size_t length)
{
    if (tokenizer->vocab_slots == NULL)
        return -1;
    size_t at = (size_t)tokenizer_text_hash(text, length) & tokenizer->vocab_mask;
    for (;; at = (at + 1) & tokenizer->vocab_mask) {
        int32_t id = tokenizer->vocab_slots[at] - 1;
        if (id < 0)
            return -1;
        const struct token_entry *entry = &tokenizer->entries[id];
        if (entry->text_length == length && memcmp(tokenizer->arena.data + entry->text, text, length) == 0)
            return id;
    }
}

const struct merge_slot *tokenizer_find_merge(const struct tokenizer *tokenizer, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = (size_t)tokenizer_merge_hash(key) & tokenizer->merge_mask;
    for (;; at = (at + 1) & tokenizer->merge_mask) {
        const struct merge_slot *slot = &tokenizer->merges[at];
        if (slot->key == key)
            return slot;
        if (slot->key == MERGE_EMPTY)
            return NULL;
    }
}

static const struct token_entry *find_entry(const struct tokenizer *tokenizer, int32_t id)
{
    if (id < 0 || id >= tokenizer->size || (tokenizer->entries[id].flags & TOKEN_PRESENT) == 0)
        return NULL;
    return &tokenizer->entries[id];
}

bool token_is_control(const struct tokenizer *tokenizer, int32_t id)
{
    return (tokenizer->entries[id].flags & (TOKEN_ADDED | TOKEN_WORD)) == TOKEN_ADDED;
}

int32_t tokenizer_size(const struct tokenizer *tokenizer) { return tokenizer->size; }

int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *token)
{
    return tokenizer_find_text(tokenizer, token, strlen(token));
}

const char *tokenizer_bytes(const struct tokenizer *tokenizer, int32_t id, size_t *length)
{
    const struct token_entry *entry = find_entry(tokenizer, id);
    if (entry == NULL) {
        *length = 0;
        return NULL;
    }
    bool added = (entry->flags & TOKEN_ADDED) != 0;
    *length = added ? entry->text_length : entry->bytes_length;
    return tokenizer->arena.data + (added ? entry->text : entry->bytes);
}

const char *tokenizer_text(const struct tokenizer *tokenizer, int32_t id, size_t *length)
{
    const struct token_entry *entry = find_entry(tokenizer, id);
    *length = entry == NULL ? 0 : entry->text_length;
    return entry == NULL ? NULL : tokenizer->arena.data + entry->text;
}

int32_t tokenizer_eos(const struct tokenizer *tokenizer) { return tokenizer->eos; }

bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id)
{
    const struct token_entry *entry = find_entry(tokenizer, id);
    return entry != NULL && (entry->flags & TOKEN_SPECIAL) != 0;
}

const struct tokenizer_template *tokenizer_templates(const struct tokenizer *tokenizer, size_t *count)
{
    *count = tokenizer->n_templates;
    return tokenizer->templates;
}

const json_t *tokenizer_special_tokens(const struct tokenizer *tokenizer) { return tokenizer->special; }
