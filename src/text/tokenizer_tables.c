/* The vocabulary and the merges of tokenizer.json, most of its megabytes. They are read as they stand, without a tree of
 * JSON values: tables_cut finds them and leaves the rest to json_text_parse. What is no JSON here is told by a flag, and
 * the caller has json_text_parse say where it is wrong. */
#include "text/tokenizer_loader.h"

#include "base/json_text.h"

#include <string.h>

struct cursor {
    const char *at, *end;
};

static void skip_space(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t' || *c->at == '\r'))
        c->at++;
}

/* Takes what comes next, if it is wanted. */
static bool take(struct cursor *c, char wanted)
{
    skip_space(c);
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

/* Passes over bytes up to a quote, an escape, or a byte that no text may have, eight at a time: texts here are millions. */
static const char *skip_plain(const char *at, const char *end)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    for (uint64_t eight; end - at >= 8; at += 8) {
        memcpy(&eight, at, 8);
        const uint64_t quotes = eight ^ (ones * '"'), escapes = eight ^ (ones * '\\');
        /* The high bits of bytes that are 0, 0 and below 0x20, and perhaps of bytes above such a one. */
        if (((((quotes - ones) & ~quotes) | ((escapes - ones) & ~escapes) | ((eight - ones * 0x20) & ~eight)) & high) !=
            0)
            break;
    }
    while (at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20)
        at++;
    return at;
}

/* A text with its quotes; *plain: without escapes. */
static bool take_quoted(struct cursor *c, struct json_span *inner, bool *plain)
{
    *plain = true;
    if (!take(c, '"'))
        return false;
    inner->at = c->at;
    for (;; c->at++) {
        c->at = skip_plain(c->at, c->end);
        if (c->at == c->end || (unsigned char)*c->at < 0x20)
            return false;
        if (*c->at == '"')
            break;
        *plain = false;
        if (++c->at == c->end)
            return false;
    }
    inner->length = (size_t)(c->at - inner->at);
    c->at++;
    return true;
}

/* Passes over one value, however deep; whether it is correct is for others to find. */
static bool skip_value(struct cursor *c)
{
    struct json_span text;
    bool plain = false;
    size_t depth = 0;
    skip_space(c);
    const char *begin = c->at;
    while (c->at < c->end) {
        const char byte = *c->at;
        if (byte == '"') {
            if (!take_quoted(c, &text, &plain))
                return false;
        } else if (byte == '{' || byte == '[') {
            depth++;
            c->at++;
        } else if (byte == '}' || byte == ']') {
            if (depth == 0)
                break;
            depth--;
            c->at++;
        } else if (depth == 0 && (byte == ',' || byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r')) {
            break;
        } else {
            c->at++;
            continue;
        }
        if (depth == 0)
            break;
    }
    return c->at > begin && depth == 0;
}

/* ---- finding ---- */

struct cutting {
    struct cursor c;
    const char *copied; /* what stands before is in rest */
    struct text *rest;
    struct table_spans *spans;
    cohort_error *err;
};

/* The value that comes next is one of the tables: it goes to span, and only its brackets into the rest. */
static cohort_status cut(struct cutting *cutting, struct json_span *span, const char *brackets, bool *whole)
{
    struct cursor *c = &cutting->c;
    skip_space(c);
    const char *begin = c->at;
    const bool wanted = c->at < c->end && *c->at == brackets[0] && span->at == NULL;
    *whole = skip_value(c);
    if (!*whole || !wanted)
        return COHORT_OK;
    *span = (struct json_span){begin, (size_t)(c->at - begin)};
    TRY(text_append(cutting->rest, cutting->copied, (size_t)(begin - cutting->copied), cutting->err));
    TRY(text_append(cutting->rest, brackets, 2, cutting->err));
    cutting->copied = c->at;
    return COHORT_OK;
}

static bool names(struct json_span key, const char *name)
{
    return key.length == strlen(name) && memcmp(key.at, name, key.length) == 0;
}

/* The members of an object: those of model when within it, else those of the file. */
static cohort_status cut_object(struct cutting *cutting, bool within, bool *whole)
{
    struct cursor *c = &cutting->c;
    struct json_span key = {0};
    bool plain = false;
    *whole = take(c, '{');
    if (*whole && take(c, '}'))
        return COHORT_OK;
    while (*whole) {
        *whole = take_quoted(c, &key, &plain) && take(c, ':');
        if (!*whole)
            return COHORT_OK;
        skip_space(c);
        if (within && names(key, "vocab"))
            TRY(cut(cutting, &cutting->spans->vocab, "{}", whole));
        else if (within && names(key, "merges"))
            TRY(cut(cutting, &cutting->spans->merges, "[]", whole));
        else if (!within && names(key, "model") && c->at < c->end && *c->at == '{')
            TRY(cut_object(cutting, true, whole)); /* once: no deeper than two */
        else
            *whole = skip_value(c);
        if (*whole && take(c, '}'))
            return COHORT_OK;
        *whole = *whole && take(c, ',');
    }
    return COHORT_OK;
}

cohort_status tables_cut(const char *json, size_t length, struct text *rest, struct table_spans *spans, bool *whole,
                         cohort_error *err)
{
    if (length >= 3 && memcmp(json, "\xef\xbb\xbf", 3) == 0) {
        json += 3;
        length -= 3;
    }
    struct cutting cutting = {.c = {json, json + length}, .copied = json, .rest = rest, .spans = spans, .err = err};
    TRY(cut_object(&cutting, false, whole));
    return *whole ? text_append(rest, cutting.copied, (size_t)(json + length - cutting.copied), err) : COHORT_OK;
}

/* ---- texts ---- */

static bool read_hex(const char *at, const char *end, uint32_t *value)
{
    *value = 0;
    if (end - at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        const char c = at[i];
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0)
            return false;
        *value = *value << 4 | (uint32_t)digit;
    }
    return true;
}

/* Resolves the escapes of a text into out. *right false: they are none of JSON's, or U+0000. */
static cohort_status unescape(struct json_span inner, struct text *out, bool *right, cohort_error *err)
{
    static const char plain[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *at = inner.at, *end = inner.at + inner.length;
    out->length = 0;
    *right = true;
    TRY(mem_grow(&out->data, &out->capacity, inner.length + 1, 1, "a token", err));
    while (at < end) {
        if (*at != '\\') {
            out->data[out->length++] = *at++;
            continue;
        }
        const char kind = at[1];
        at += 2;
        if (kind != 'u') {
            const char *found = strchr(plain, kind);
            *right = kind != '\0' && found != NULL;
            if (!*right)
                return COHORT_OK;
            out->data[out->length++] = meant[found - plain];
            continue;
        }
        uint32_t value = 0, low = 0;
        *right = read_hex(at, end, &value) && value != 0;
        at += 4;
        if (*right && value >= 0xD800 && value < 0xDC00) {
            *right = end - at >= 6 && at[0] == '\\' && at[1] == 'u' && read_hex(at + 2, end, &low) && low >= 0xDC00 &&
                     low < 0xE000;
            at += 6;
            value = 0x10000 + ((value & 0x3FF) << 10) + (low & 0x3FF);
        } else if (value >= 0xDC00 && value < 0xE000) {
            *right = false;
        }
        if (!*right)
            return COHORT_OK;
        out->length += utf8_encode(value, out->data + out->length);
    }
    return COHORT_OK;
}

/* The text that comes next: in place, or without escapes in scratch. */
static cohort_status read_text(struct cursor *c, struct text *scratch, struct json_span *out, bool *right,
                               cohort_error *err)
{
    bool plain = false;
    *right = take_quoted(c, out, &plain);
    if (!*right || plain)
        return COHORT_OK;
    TRY(unescape(*out, scratch, right, err));
    *out = (struct json_span){scratch->data, scratch->length};
    return COHORT_OK;
}

/* ---- tokens ---- */

static size_t table_size(size_t entries)
{
    size_t size = 16;
    while (size < entries + entries / 2)
        size *= 2;
    return size;
}

/* What a key is looked up by. */
struct key {
    const char *at;
    size_t length;
    uint64_t head;
    uint32_t kind; /* the slot's length */
};

/* The slot that has the key, or the free one where it belongs. */
static struct vocab_slot *find_slot(const struct tokenizer *tokenizer, struct key key)
{
    const char *arena = tokenizer->arena.data;
    size_t at = (size_t)tokenizer_key_hash(key.head, key.at, key.length) & tokenizer->vocab_mask;
    for (;; at = (at + 1) & tokenizer->vocab_mask) {
        struct vocab_slot *slot = &tokenizer->vocab[at];
        if (slot->id == 0 ||
            (slot->head == key.head && slot->length == key.kind &&
             (key.length <= 8 || memcmp(arena + tokenizer->entries[slot->id - 1].key, key.at, key.length) == 0)))
            return slot;
    }
}

static struct key make_key(const char *at, size_t length, bool bytes)
{
    return (struct key){at, length, tokenizer_key_head(at, length), (uint32_t)length | (bytes ? KEY_OF_BYTES : 0)};
}

static struct key key_of(const struct tokenizer *tokenizer, int32_t id)
{
    const struct token_entry *entry = &tokenizer->entries[id];
    return make_key(tokenizer->arena.data + entry->key, entry->key_length, (entry->flags & TOKEN_KEY_BYTES) != 0);
}

static void put_slot(struct tokenizer *tokenizer, int32_t id)
{
    const struct key key = key_of(tokenizer, id);
    *find_slot(tokenizer, key) = (struct vocab_slot){key.head, key.kind, id + 1};
}

/* Makes room for wanted tokens. */
static cohort_status reserve(const struct loader *loader, size_t wanted)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    if (tokenizer->vocab != NULL && wanted + wanted / 2 <= tokenizer->vocab_mask + 1)
        return COHORT_OK;
    const size_t slots = table_size(wanted);
    mem_free(tokenizer->vocab);
    tokenizer->vocab = NULL;
    TRY(mem_alloc(&tokenizer->vocab, slots, sizeof *tokenizer->vocab, "vocabulary", loader->err));
    tokenizer->vocab_mask = slots - 1;
    for (int32_t id = 0; id < tokenizer->size; id++)
        if ((tokenizer->entries[id].flags & TOKEN_PRESENT) != 0)
            put_slot(tokenizer, id);
    return COHORT_OK;
}

/* The table of all tokens so far. *right false: two have the same text, and so JSON had equal keys. */
static cohort_status index_tokens(const struct loader *loader, bool *right)
{
    enum { AHEAD = 12 }; /* so that slots are on their way from memory before they are looked at */
    struct tokenizer *tokenizer = loader->tokenizer;
    const size_t slots = table_size(tokenizer->vocab_count);
    TRY(mem_alloc(&tokenizer->vocab, slots, sizeof *tokenizer->vocab, "vocabulary", loader->err));
    tokenizer->vocab_mask = slots - 1;
    for (int32_t id = 0; id < tokenizer->size && *right; id++) {
        if (id + AHEAD < tokenizer->size && (tokenizer->entries[id + AHEAD].flags & TOKEN_PRESENT) != 0) {
            const struct key key = key_of(tokenizer, id + AHEAD);
            const size_t at = (size_t)tokenizer_key_hash(key.head, key.at, key.length) & tokenizer->vocab_mask;
            __builtin_prefetch(&tokenizer->vocab[at], 1);
        }
        if ((tokenizer->entries[id].flags & TOKEN_PRESENT) == 0)
            continue;
        const struct key key = key_of(tokenizer, id);
        struct vocab_slot *slot = find_slot(tokenizer, key);
        *right = slot->id == 0;
        *slot = (struct vocab_slot){key.head, key.kind, id + 1};
    }
    return COHORT_OK;
}

cohort_status tables_id(const struct loader *loader, const json_t *value, const char *token, int32_t *id)
{
    if (!json_is_integer(value))
        return WRONG(loader, "%s: the id of token \"%.80s\": expected an integer, found %s", loader->origin, token,
                     tokenizer_type_name(value));
    const json_int_t number = json_integer_value(value);
    if (number < 0 || number >= TOKENIZER_MAX_IDS)
        return WRONG(loader, "%s: the id of token \"%.80s\": %lld is not in 0..%d", loader->origin, token,
                     (long long)number, TOKENIZER_MAX_IDS - 1);
    *id = (int32_t)number;
    return COHORT_OK;
}

/* Copies a text and its NUL to the arena, which has room. */
static uint32_t to_arena(struct text *arena, const char *text, size_t length)
{
    const size_t at = arena->length;
    memcpy(arena->data + at, text, length);
    arena->data[at + length] = '\0';
    arena->length += length + 1;
    return (uint32_t)at;
}

/* Gives id its text; the table does not know it yet. */
static cohort_status write_token(const struct loader *loader, int32_t id, const char *text, size_t length,
                                 uint32_t flags)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    struct text *arena = &tokenizer->arena;
    char bytes[TOKENIZER_KEY_BYTES];
    size_t n = 0;
    const bool as_bytes = tokenizer->byte_units && byte_level_bytes(text, length, bytes, &n);
    if (id >= tokenizer->size) {
        TRY(mem_grow(&tokenizer->entries, &tokenizer->entry_capacity, (size_t)id + 1, sizeof *tokenizer->entries,
                     "tokens", loader->err));
        tokenizer->size = id + 1;
    }
    TRY(mem_grow(&arena->data, &arena->capacity, arena->length + length + n + 2, 1, "tokens", loader->err));
    struct token_entry *entry = &tokenizer->entries[id];
    entry->text = entry->key = to_arena(arena, text, length);
    entry->text_length = entry->key_length = (uint32_t)length;
    if (as_bytes && (n != length || memcmp(text, bytes, n) != 0)) {
        entry->key = to_arena(arena, bytes, n);
        entry->key_length = (uint32_t)n;
    }
    entry->flags = flags | TOKEN_PRESENT | (as_bytes ? TOKEN_KEY_BYTES : 0u);
    tokenizer->vocab_count++;
    return COHORT_OK;
}

cohort_status tables_add(const struct loader *loader, int32_t id, const char *text, size_t length, uint32_t flags)
{
    TRY(reserve(loader, loader->tokenizer->vocab_count + 1));
    TRY(write_token(loader, id, text, length, flags));
    put_slot(loader->tokenizer, id);
    return COHORT_OK;
}

/* The id that comes next: a plain whole number, or whatever else json_text_parse makes of it. */
static cohort_status read_id(const struct loader *loader, struct cursor *c, struct json_span token, int32_t *id,
                             bool *right)
{
    skip_space(c);
    struct cursor value = *c;
    int32_t number = 0;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9' && c->at - value.at < 8)
        number = number * 10 + (*c->at++ - '0');
    const bool zeros = c->at - value.at > 1 && *value.at == '0';
    if (c->at > value.at && c->at < c->end && !zeros && number < TOKENIZER_MAX_IDS &&
        (*c->at == ',' || *c->at == '}' || *c->at == ' ' || *c->at == '\n' || *c->at == '\r' || *c->at == '\t')) {
        *id = number;
        return COHORT_OK;
    }
    json_t *json = NULL;
    char shown[81] = {0};
    memcpy(shown, token.at, token.length < 80 ? token.length : 80);
    *c = value;
    *right = skip_value(c);
    if (!*right)
        return COHORT_OK;
    cohort_status status =
        json_text_parse(&json, value.at, (size_t)(c->at - value.at), loader->origin, 1, JSON_TEXT_ANY, loader->err);
    *right = status != COHORT_ERR_FORMAT;
    if (status == COHORT_OK)
        status = tables_id(loader, json, shown, id);
    json_decref(json);
    return *right ? status : COHORT_OK;
}

static cohort_status read_vocab(const struct loader *loader, struct cursor *c, struct text *scratch, bool *right)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    *right = take(c, '{');
    if (*right && take(c, '}'))
        return COHORT_OK;
    while (*right) {
        struct json_span token = {0};
        int32_t id = 0;
        TRY(read_text(c, scratch, &token, right, loader->err));
        *right = *right && take(c, ':');
        if (!*right)
            return COHORT_OK;
        TRY(read_id(loader, c, token, &id, right));
        if (!*right)
            return COHORT_OK;
        if (id < tokenizer->size && (tokenizer->entries[id].flags & TOKEN_PRESENT) != 0)
            return WRONG(loader, "%s: model.vocab: tokens \"%.80s\" and \"%.*s\" have the same id %d", loader->origin,
                         tokenizer->arena.data + tokenizer->entries[id].text,
                         token.length > 80 ? 80 : (int)token.length, token.at, (int)id);
        TRY(write_token(loader, id, token.at, token.length, TOKEN_BASE));
        if (take(c, '}'))
            return COHORT_OK;
        *right = take(c, ',');
    }
    return COHORT_OK;
}

cohort_status tables_vocab(const struct loader *loader, struct json_span span, bool *broken)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    struct cursor c = {span.at, span.at + span.length};
    struct text scratch = {0};
    bool right = utf8_check(span.at, span.length) == span.length;
    cohort_status status = COHORT_OK;
    *broken = false;
    /* About as many as there are: an entry of a large vocabulary has 18 bytes and more. */
    TRY(mem_grow(&tokenizer->entries, &tokenizer->entry_capacity, span.length / 18 + 1, sizeof *tokenizer->entries,
                 "tokens", loader->err));
    TRY(mem_grow(&tokenizer->arena.data, &tokenizer->arena.capacity, span.length + 1, 1, "tokens", loader->err));
    if (right)
        status = read_vocab(loader, &c, &scratch, &right);
    if (right && status == COHORT_OK)
        status = index_tokens(loader, &right);
    *broken = status == COHORT_OK && !right;
    text_free(&scratch);
    return status;
}

/* ---- merges ---- */

/* The two halves of a merge, as "a b" or ["a", "b"]. *there false: it is neither. */
static cohort_status read_merge(struct cursor *c, struct text scratch[2], struct json_span part[2], bool *there,
                                bool *right, cohort_error *err)
{
    *there = false;
    skip_space(c);
    struct cursor begin = *c;
    if (take(c, '[')) {
        skip_space(c);
        for (int k = 0; k < 2 && c->at < c->end && *c->at == '"'; k++) {
            TRY(read_text(c, &scratch[k], &part[k], right, err));
            if (!*right)
                return COHORT_OK;
            *there = k == 1 ? take(c, ']') : false;
            if (k == 0 && !take(c, ','))
                break;
            skip_space(c);
        }
    } else if (c->at < c->end && *c->at == '"') {
        TRY(read_text(c, &scratch[0], &part[0], right, err));
        const char *space = *right ? memchr(part[0].at, ' ', part[0].length) : NULL;
        if (space != NULL) {
            part[1].at = space + 1;
            part[1].length = part[0].length - (size_t)(space - part[0].at) - 1;
            part[0].length = (size_t)(space - part[0].at);
            *there = memchr(part[1].at, ' ', part[1].length) == NULL;
        }
    }
    if (!*there && *right) {
        *c = begin;
        *right = skip_value(c);
    }
    return COHORT_OK;
}

/* Of equal pairs the last counts. */
static void store_merge(struct tokenizer *tokenizer, uint64_t key, uint32_t rank)
{
    const uint64_t hash = tokenizer_merge_hash(key), bit = hash >> (64 - MERGE_FILTER_BITS);
    size_t at = (size_t)(hash >> 24) & tokenizer->merge_mask;
    while (tokenizer->merges[at] != MERGE_EMPTY && tokenizer->merges[at] >> MERGE_RANK_BITS != key)
        at = (at + 1) & tokenizer->merge_mask;
    tokenizer->merges[at] = key << MERGE_RANK_BITS | rank;
    tokenizer->merge_filter[bit / 64] |= (uint64_t)1 << bit % 64;
}

/* Whether token id is the two halves together. */
static bool is_joined(const struct tokenizer *tokenizer, int32_t id, const struct json_span part[2])
{
    if (id >= tokenizer->size || tokenizer->entries[id].text_length != part[0].length + part[1].length)
        return false;
    const char *text = tokenizer->arena.data + tokenizer->entries[id].text;
    return (tokenizer->entries[id].flags & TOKEN_PRESENT) != 0 && memcmp(text, part[0].at, part[0].length) == 0 &&
           memcmp(text + part[0].length, part[1].at, part[1].length) == 0;
}

/* One merge of the list. *last: the token of the one before it, as ids mostly follow merges. */
static cohort_status add_merge(const struct loader *loader, size_t index, const struct json_span part[2],
                               struct text *joined, int32_t *last, uint64_t *key)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    struct json_span texts[3] = {part[0], part[1], {0}};
    int32_t ids[3];
    for (int k = 0; k < 3; k++) {
        if (k == 2 && is_joined(tokenizer, *last + 1, part)) {
            ids[2] = *last + 1;
            break;
        }
        if (k == 2) {
            joined->length = 0;
            TRY(text_append(joined, part[0].at, part[0].length, loader->err));
            TRY(text_append(joined, part[1].at, part[1].length, loader->err));
            texts[2] = (struct json_span){joined->data, joined->length};
        }
        ids[k] = tokenizer_find_text(tokenizer, texts[k].at, texts[k].length);
        if (ids[k] < 0)
            return WRONG(loader, "%s: model.merges[%zu]: token \"%.*s\" is not in model.vocab", loader->origin, index,
                         texts[k].length > 80 ? 80 : (int)texts[k].length, texts[k].at);
    }
    *last = ids[2];
    if (index >= MERGE_NEVER)
        return REFUSE(loader, "%s: model.merges: more than %d are not supported", loader->origin, (int)MERGE_NEVER);
    TRY(mem_grow(&tokenizer->merged, &tokenizer->merged_capacity, index + 1, sizeof *tokenizer->merged, "merges",
                 loader->err));
    tokenizer->merged[index] = ids[2];
    *key = (uint64_t)(uint32_t)ids[0] << MERGE_ID_BITS | (uint32_t)ids[1];
    return COHORT_OK;
}

/* The table of count merges, of which keys are the pairs. */
static cohort_status index_merges(const struct loader *loader, const uint64_t *keys, size_t count)
{
    enum { AHEAD = 12 };
    struct tokenizer *tokenizer = loader->tokenizer;
    const size_t slots = table_size(count);
    TRY(mem_alloc(&tokenizer->merge_filter, (1u << MERGE_FILTER_BITS) / 64, sizeof(uint64_t), "merges", loader->err));
    TRY(mem_alloc(&tokenizer->merges, slots, sizeof *tokenizer->merges, "merges", loader->err));
    memset(tokenizer->merges, 0xFF, slots * sizeof *tokenizer->merges); /* MERGE_EMPTY */
    tokenizer->merge_mask = slots - 1;
    for (size_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            __builtin_prefetch(
                &tokenizer->merges[(size_t)(tokenizer_merge_hash(keys[i + AHEAD]) >> 24) & tokenizer->merge_mask], 1);
        store_merge(tokenizer, keys[i], (uint32_t)i);
    }
    return COHORT_OK;
}

cohort_status tables_merges(const struct loader *loader, struct json_span span, bool *broken)
{
    struct cursor c = {span.at, span.at + span.length};
    struct text scratch[2] = {{0}}, joined = {0};
    bool right = utf8_check(span.at, span.length) == span.length && take(&c, '[');
    cohort_status status = COHORT_OK;
    int32_t last = -1;
    uint64_t *keys = NULL;
    size_t count = 0, capacity = 0;
    bool more = right && !take(&c, ']');
    for (; more && right; count++) {
        struct json_span part[2] = {{0}};
        bool there = false;
        TRY_GOTO(read_merge(&c, scratch, part, &there, &right, loader->err));
        if (!right)
            break;
        if (!there) {
            status = WRONG(loader, "%s: model.merges[%zu]: expected \"a b\" or [\"a\", \"b\"]", loader->origin, count);
            goto cleanup;
        }
        TRY_GOTO(mem_grow(&keys, &capacity, count + 1, sizeof *keys, "merges", loader->err));
        TRY_GOTO(add_merge(loader, count, part, &joined, &last, &keys[count]));
        more = !take(&c, ']');
        right = !more || take(&c, ',');
    }
    if (right)
        TRY_GOTO(index_merges(loader, keys, count));
cleanup:
    mem_free(keys);
    *broken = status == COHORT_OK && !right;
    text_free(&scratch[0]);
    text_free(&scratch[1]);
    text_free(&joined);
    return status;
}
