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

static void steps_free(struct tokenizer *tokenizer)
{
    struct decoder *decoder = &tokenizer->decoder;
    for (size_t i = 0; i < tokenizer->n_normal; i++) {
        pcre2_code_free(tokenizer->normal_steps[i].pattern);
        text_free(&tokenizer->normal_steps[i].content);
    }
    for (size_t i = 0; i < tokenizer->n_pieces; i++) {
        pcre2_code_free(tokenizer->piece_steps[i].pattern);
        text_free(&tokenizer->piece_steps[i].content);
    }
    for (size_t i = 0; i < decoder->n_steps; i++) {
        pcre2_code_free(decoder->steps[i].pattern);
        text_free(&decoder->steps[i].content);
    }
    mem_free(tokenizer->normal_steps);
    mem_free(tokenizer->piece_steps);
    mem_free(decoder->steps);
    text_free(&decoder->strip);
}

void tokenizer_destroy(struct tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    steps_free(tokenizer);
    mem_free(tokenizer->entries);
    mem_free((void *)(uintptr_t)tokenizer->whole);
    text_free(&tokenizer->arena);
    mem_free(tokenizer->vocab);
    mem_free(tokenizer->merges);
    mem_free(tokenizer->merged);
    mem_free(tokenizer->merge_filter);
    added_set_free(&tokenizer->raw);
    added_set_free(&tokenizer->normalized);
    mem_free(tokenizer->tables.classes);
    mem_free(tokenizer->tables.nfc);
    token_list_free(&tokenizer->prefix);
    token_list_free(&tokenizer->suffix);
    for (size_t i = 0; i < tokenizer->n_templates; i++) {
        mem_free(tokenizer->templates[i].name);
        mem_free(tokenizer->templates[i].text);
        mem_free(tokenizer->templates[i].origin);
    }
    mem_free(tokenizer->templates);
    json_decref(tokenizer->special);
    mem_free(tokenizer);
}

/* ---- lookup ---- */

uint64_t tokenizer_key_head(const char *key, size_t length)
{
    uint64_t head = 0;
    if (length >= 8) {
        memcpy(&head, key, 8);
    } else if (length >= 4) {
        uint32_t low = 0, high = 0;
        memcpy(&low, key, 4);
        memcpy(&high, key + length - 4, 4);
        head = low | (uint64_t)high << (8 * (length - 4));
    } else if (length > 0) {
        head = (uint64_t)(unsigned char)key[0] | (uint64_t)(unsigned char)key[length / 2] << (8 * (length / 2)) |
               (uint64_t)(unsigned char)key[length - 1] << (8 * (length - 1));
    }
    return head;
}

uint64_t tokenizer_key_hash(uint64_t head, const char *key, size_t length)
{
    uint64_t hash = (head ^ length * 0xff51afd7ed558ccdu) * 0x9e3779b97f4a7c15u;
    while (length > 8) { /* eight bytes at a time, the last eight overlapping */
        size_t step = length < 16 ? length - 8 : 8;
        uint64_t word = 0;
        key += step;
        length -= step;
        memcpy(&word, key, 8);
        hash = ((hash ^ hash >> 32) + word) * 0xc4ceb9fe1a85ec53u;
    }
    return hash ^ hash >> 32;
}

int32_t tokenizer_find_key(const struct tokenizer *tokenizer, const char *key, size_t length, bool byte_level)
{
    if (tokenizer->vocab == NULL || length >= KEY_OF_BYTES)
        return -1;
    const uint64_t head = tokenizer_key_head(key, length);
    const uint32_t kind = (uint32_t)length | (byte_level ? KEY_OF_BYTES : 0);
    size_t at = (size_t)tokenizer_key_hash(head, key, length) & tokenizer->vocab_mask;
    for (;; at = (at + 1) & tokenizer->vocab_mask) {
        const struct vocab_slot *slot = &tokenizer->vocab[at];
        if (slot->id == 0)
            return -1;
        if (slot->head == head && slot->length == kind &&
            (length <= 8 ||
             memcmp(tokenizer->arena.data + tokenizer->entries[slot->id - 1].key + 8, key + 8, length - 8) == 0))
            return slot->id - 1;
    }
}

int32_t tokenizer_find_text(const struct tokenizer *tokenizer, const char *text, size_t length)
{
    char bytes[TOKENIZER_KEY_BYTES];
    size_t n = 0;
    if (!tokenizer->byte_units || !byte_level_bytes(text, length, bytes, &n))
        return tokenizer_find_key(tokenizer, text, length, false);
    return tokenizer_find_key(tokenizer, bytes, n, true);
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

bool tokenizer_is_control(const struct tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && id < tokenizer->size && (tokenizer->entries[id].flags & TOKEN_PRESENT) != 0 &&
           token_is_control(tokenizer, id);
}

const struct tokenizer_template *tokenizer_templates(const struct tokenizer *tokenizer, size_t *count)
{
    *count = tokenizer->n_templates;
    return tokenizer->templates;
}

const json_t *tokenizer_special_tokens(const struct tokenizer *tokenizer) { return tokenizer->special; }
