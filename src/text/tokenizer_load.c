/* Reading tokenizer.json. Whatever would change ids and is not done here is refused by name (I7).
 */
#include "text/tokenizer_internal.h"

#include "base/json_text.h"

#include <stdlib.h>
#include <string.h>

struct loader {
    struct tokenizer *tokenizer;
    const char *origin;
    cohort_error *err;
};

#define REFUSE(loader, ...) error_set((loader)->err, COHORT_ERR_UNSUPPORTED, __VA_ARGS__)
#define WRONG(loader, ...)  error_set((loader)->err, COHORT_ERR_FORMAT, __VA_ARGS__)

const char *tokenizer_type_name(const json_t *value)
{
    if (value == NULL)
        return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER:
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: return "null";
    }
    return "something else";
}

/* The "type" of a component, or NULL with an error when there is none. */
static const char *component_type(const struct loader *loader, const json_t *component, const char *place)
{
    const char *type = json_string_value(json_object_get(component, "type"));
    if (type == NULL)
        WRONG(loader, "%s: %s: expected an object with a \"type\", found %s", loader->origin, place,
              tokenizer_type_name(component));
    return type;
}

/* Reads the boolean key of object; absent gives fallback. */
static cohort_status read_flag(const struct loader *loader, const json_t *object, const char *place, const char *key,
                               bool fallback, bool *out)
{
    const json_t *value = json_object_get(object, key);
    *out = fallback;
    if (value == NULL)
        return COHORT_OK;
    if (!json_is_boolean(value))
        return WRONG(loader, "%s: %s.%s: expected true or false, found %s", loader->origin, place, key,
                     tokenizer_type_name(value));
    *out = json_is_true(value);
    return COHORT_OK;
}

static cohort_status refuse_flag(const struct loader *loader, const json_t *object, const char *place, const char *key,
                                 bool fallback)
{
    bool set = false;
    TRY(read_flag(loader, object, place, key, fallback, &set));
    if (set)
        return REFUSE(loader, "%s: %s.%s true is not supported", loader->origin, place, key);
    return COHORT_OK;
}

/* ---- tokens ---- */

/* Appends the bytes that text decodes to: each byte-level character its byte; a text with any other
 * character is itself, as Hugging Face's ByteLevel decoder has it. */
static cohort_status append_decoded(struct text *arena, const char *text, size_t length, cohort_error *err)
{
    size_t start = arena->length;
    for (size_t i = 0; i < length;) {
        uint32_t code_point = 0;
        i += utf8_decode(text + i, &code_point);
        int32_t byte = byte_level_byte(code_point);
        if (byte < 0) {
            arena->length = start;
            return text_append(arena, text, length, err);
        }
        char c = (char)(unsigned char)byte;
        TRY(text_append(arena, &c, 1, err));
    }
    return text_append(arena, "", 0, err);
}

/* Gives id its text. The tables have room. */
static cohort_status add_token(const struct loader *loader, int32_t id, const char *text, size_t length, uint32_t flags)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    struct token_entry *entry = &tokenizer->entries[id];
    struct text *arena = &tokenizer->arena;
    entry->text = (uint32_t)arena->length;
    entry->text_length = (uint32_t)length;
    TRY(text_append(arena, text, length, loader->err));
    TRY(text_append(arena, "", 1, loader->err));
    entry->bytes = (uint32_t)arena->length;
    TRY(append_decoded(arena, text, length, loader->err));
    entry->bytes_length = (uint32_t)(arena->length - entry->bytes);
    TRY(text_append(arena, "", 1, loader->err));
    entry->flags = flags | TOKEN_PRESENT;
    size_t at = (size_t)tokenizer_text_hash(text, length) & tokenizer->vocab_mask;
    while (tokenizer->vocab_slots[at] != 0)
        at = (at + 1) & tokenizer->vocab_mask;
    tokenizer->vocab_slots[at] = id + 1;
    return COHORT_OK;
}

static size_t table_size(size_t entries)
{
    size_t size = 16;
    while (size < entries + entries / 2)
        size *= 2;
    return size;
}

static cohort_status read_id(const struct loader *loader, const json_t *value, const char *token, int32_t *id)
{
    if (!json_is_integer(value))
        return WRONG(loader, "%s: the id of token \"%.80s\": expected an integer, found %s", loader->origin, token,
                     tokenizer_type_name(value));
    json_int_t number = json_integer_value(value);
    if (number < 0 || number >= TOKENIZER_MAX_IDS)
        return WRONG(loader, "%s: the id of token \"%.80s\": %lld is not in 0..%d", loader->origin, token,
                     (long long)number, TOKENIZER_MAX_IDS - 1);
    *id = (int32_t)number;
    return COHORT_OK;
}

/* Finds the highest id and makes the tables. */
static cohort_status size_tables(const struct loader *loader, const json_t *vocab, const json_t *added)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    int32_t highest = -1, id = 0;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)vocab, key, value)
    {
        TRY(read_id(loader, value, key, &id));
        highest = id > highest ? id : highest;
    }
    size_t i = 0;
    json_array_foreach(added, i, value)
    {
        const char *content = json_string_value(json_object_get(value, "content"));
        if (content == NULL || content[0] == '\0')
            return WRONG(loader, "%s: added_tokens[%zu]: expected an object with a non-empty \"content\"",
                         loader->origin, i);
        TRY(read_id(loader, json_object_get(value, "id"), content, &id));
        highest = id > highest ? id : highest;
    }
    tokenizer->size = highest + 1;
    TRY(mem_alloc(&tokenizer->entries, (size_t)tokenizer->size, sizeof *tokenizer->entries, "tokens", loader->err));
    size_t slots = table_size(json_object_size(vocab) + json_array_size(added));
    tokenizer->vocab_mask = slots - 1;
    return mem_alloc(&tokenizer->vocab_slots, slots, sizeof *tokenizer->vocab_slots, "vocabulary", loader->err);
}

static cohort_status load_vocab(const struct loader *loader, const json_t *vocab)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    json_t *object = (json_t *)vocab; /* jansson's iterators are not const */
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        int32_t id = (int32_t)json_integer_value(json_object_iter_value(at));
        if ((tokenizer->entries[id].flags & TOKEN_PRESENT) != 0)
            return WRONG(loader, "%s: model.vocab: tokens \"%.80s\" and \"%.80s\" have the same id %d", loader->origin,
                         tokenizer->arena.data + tokenizer->entries[id].text, key, (int)id);
        TRY(add_token(loader, id, key, json_object_iter_key_len(at), 0));
    }
    for (int byte = 0; byte < 256; byte++) {
        char text[4];
        size_t length = utf8_encode(byte_level_char((unsigned char)byte), text);
        tokenizer->byte_ids[byte] = tokenizer_find_text(tokenizer, text, length);
        bool in_utf8 = byte < 0xC0 || (byte > 0xC1 && byte < 0xF5);
        if (tokenizer->byte_ids[byte] < 0 && in_utf8)
            return REFUSE(loader,
                          "%s: model.vocab has no token \"%.*s\" for byte 0x%02x: expected a byte-level "
                          "vocabulary with all bytes",
                          loader->origin, (int)length, text, (unsigned)byte);
    }
    return COHORT_OK;
}

/* ---- merges ---- */

/* The two halves of a merge, as "a b" or ["a", "b"]. */
struct merge_text {
    const char *part[2];
    size_t length[2];
};

static bool read_merge(const json_t *merge, struct merge_text *out)
{
    if (json_is_array(merge) && json_array_size(merge) == 2) {
        for (size_t k = 0; k < 2; k++) {
            const json_t *part = json_array_get(merge, k);
            out->part[k] = json_string_value(part);
            out->length[k] = json_string_length(part);
        }
        return out->part[0] != NULL && out->part[1] != NULL;
    }
    if (!json_is_string(merge))
        return false;
    const char *text = json_string_value(merge);
    size_t length = json_string_length(merge);
    const char *space = memchr(text, ' ', length);
    if (space == NULL)
        return false;
    out->part[0] = text;
    out->length[0] = (size_t)(space - text);
    out->part[1] = space + 1;
    out->length[1] = length - out->length[0] - 1;
    return memchr(out->part[1], ' ', out->length[1]) == NULL;
}

static void store_merge(struct tokenizer *tokenizer, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = (size_t)tokenizer_merge_hash(key) & tokenizer->merge_mask;
    while (tokenizer->merges[at].key != MERGE_EMPTY && tokenizer->merges[at].key != key)
        at = (at + 1) & tokenizer->merge_mask;
    tokenizer->merges[at] = (struct merge_slot){key, rank, id}; /* of equal pairs the last counts */
}

static cohort_status load_merges(const struct loader *loader, const json_t *merges)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    struct text joined = {0};
    cohort_status status = COHORT_OK;
    size_t slots = table_size(json_array_size(merges));
    TRY(mem_alloc(&tokenizer->merges, slots, sizeof *tokenizer->merges, "merges", loader->err));
    tokenizer->merge_mask = slots - 1;
    for (size_t i = 0; i < slots; i++)
        tokenizer->merges[i].key = MERGE_EMPTY;
    for (size_t i = 0; i < json_array_size(merges); i++) {
        struct merge_text merge = {0};
        if (!read_merge(json_array_get(merges, i), &merge)) {
            status = WRONG(loader, "%s: model.merges[%zu]: expected \"a b\" or [\"a\", \"b\"]", loader->origin, i);
            goto cleanup;
        }
        joined.length = 0;
        TRY_GOTO(text_append(&joined, merge.part[0], merge.length[0], loader->err));
        TRY_GOTO(text_append(&joined, merge.part[1], merge.length[1], loader->err));
        const char *texts[3] = {merge.part[0], merge.part[1], joined.data};
        size_t lengths[3] = {merge.length[0], merge.length[1], joined.length};
        int32_t ids[3];
        for (int k = 0; k < 3; k++) {
            ids[k] = tokenizer_find_text(tokenizer, texts[k], lengths[k]);
            if (ids[k] < 0) {
                int shown = lengths[k] > 80 ? 80 : (int)lengths[k];
                status = WRONG(loader, "%s: model.merges[%zu]: token \"%.*s\" is not in model.vocab", loader->origin, i,
                               shown, texts[k]);
                goto cleanup;
            }
        }
        store_merge(tokenizer, ids[0], ids[1], (uint32_t)i, ids[2]);
    }
cleanup:
    text_free(&joined);
    return status;
}

static cohort_status load_model(const struct loader *loader, const json_t *model, const json_t *added)
{
    const char *type = component_type(loader, model, "model");
    if (type == NULL)
        return COHORT_ERR_FORMAT;
    if (strcmp(type, "BPE") != 0)
        return REFUSE(loader, "%s: model.type \"%.80s\" is not supported, only \"BPE\"", loader->origin, type);
    /* byte_fallback asks for tokens of bytes where a character has none; here every byte has one */
    TRY(read_flag(loader, model, "model", "ignore_merges", false, &loader->tokenizer->ignore_merges));
    const json_t *dropout = json_object_get(model, "dropout");
    if (dropout != NULL && !json_is_null(dropout) && !(json_is_number(dropout) && json_number_value(dropout) == 0.0))
        return REFUSE(loader, "%s: model.dropout is not supported: set it to null", loader->origin);
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *affix = json_object_get(model, affixes[i]);
        if (affix != NULL && !json_is_null(affix) && !(json_is_string(affix) && json_string_length(affix) == 0))
            return REFUSE(loader, "%s: model.%s is not supported: expected null or \"\"", loader->origin, affixes[i]);
    }
    const json_t *vocab = json_object_get(model, "vocab");
    if (!json_is_object(vocab))
        return WRONG(loader, "%s: model.vocab: expected an object, found %s", loader->origin,
                     tokenizer_type_name(vocab));
    const json_t *merges = json_object_get(model, "merges");
    if (!json_is_array(merges))
        return WRONG(loader, "%s: model.merges: expected an array, found %s", loader->origin,
                     tokenizer_type_name(merges));
    TRY(size_tables(loader, vocab, added));
    TRY(load_vocab(loader, vocab));
    return load_merges(loader, merges);
}

/* ---- added tokens ---- */

/* Added tokens are control tokens, but for the words by which people extend a vocabulary. */
static bool is_markup(const char *content, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (content[i] != '\0' && strchr("<>[]{}|", content[i]) != NULL)
            return true;
    return false;
}

static cohort_status load_added(const struct loader *loader, const json_t *added, size_t n_vocab)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    int32_t next = (int32_t)n_vocab; /* the id that Hugging Face gives to the next new token, whatever the file says */
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        const char *content = json_string_value(json_object_get(token, "content"));
        size_t length = json_string_length(json_object_get(token, "content"));
        int32_t id = (int32_t)json_integer_value(json_object_get(token, "id"));
        char place[48];
        snprintf(place, sizeof place, "added_tokens[%zu]", i);
        TRY(refuse_flag(loader, token, place, "single_word", false));
        TRY(refuse_flag(loader, token, place, "lstrip", false));
        TRY(refuse_flag(loader, token, place, "rstrip", false));
        bool special = false, normalized = false;
        TRY(read_flag(loader, token, place, "special", false, &special));
        TRY(read_flag(loader, token, place, "normalized", !special, &normalized));
        uint32_t flags = TOKEN_ADDED | (special ? TOKEN_SPECIAL : 0u) | (normalized ? TOKEN_NORMALIZED : 0u) |
                         (special || is_markup(content, length) ? 0u : TOKEN_WORD);
        int32_t known = tokenizer_find_text(tokenizer, content, length);
        if (known >= 0 && (tokenizer->entries[known].flags & TOKEN_ADDED) != 0)
            return WRONG(loader, "%s: %s: token \"%.80s\" is there twice", loader->origin, place, content);
        int32_t expected = known >= 0 ? known : next;
        if (id != expected)
            return REFUSE(loader,
                          "%s: %s: token \"%.80s\" has id %d; Hugging Face would give it %d (its id in "
                          "model.vocab, or the next free one): correct the id",
                          loader->origin, place, content, (int)id, (int)expected);
        if (known >= 0) {
            tokenizer->entries[id].flags |= flags;
            next = id >= next ? id + 1 : next;
            continue;
        }
        if ((tokenizer->entries[id].flags & TOKEN_PRESENT) != 0)
            return WRONG(loader, "%s: %s: id %d of \"%.80s\" belongs to another token", loader->origin, place, (int)id,
                         content);
        TRY(add_token(loader, id, content, length, flags));
        next = id + 1;
    }
    return COHORT_OK;
}

/* No control token comes of merging plain text, though the file may list it among the merges' results: where it counts
 * it is matched before. */
static void drop_control_merges(struct tokenizer *tokenizer)
{
    for (size_t i = 0; i <= tokenizer->merge_mask; i++) {
        struct merge_slot *slot = &tokenizer->merges[i];
        if (slot->key != MERGE_EMPTY && token_is_control(tokenizer, slot->id))
            slot->rank = MERGE_NEVER;
    }
}

struct added_order {
    struct text content;
    int32_t id;
};

static int compare_added(const void *a, const void *b)
{
    const struct text *x = &((const struct added_order *)a)->content;
    const struct text *y = &((const struct added_order *)b)->content;
    int order = memcmp(x->data, y->data, x->length < y->length ? x->length : y->length);
    return order != 0 ? order : (x->length > y->length) - (x->length < y->length);
}

/* Builds the matcher of the added tokens with (flags & TOKEN_NORMALIZED) == normalized. */
static cohort_status build_set(const struct loader *loader, struct added_set *set, uint32_t normalized)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    struct nfc_buffer nfc = {0};
    struct added_order *order = NULL;
    cohort_status status = COHORT_OK;
    size_t count = 0;
    for (int32_t id = 0; id < tokenizer->size; id++)
        count += (tokenizer->entries[id].flags & TOKEN_ADDED) != 0;
    TRY_GOTO(mem_alloc(&set->contents, count, sizeof *set->contents, "added tokens", loader->err));
    TRY_GOTO(mem_alloc(&set->ids, count, sizeof *set->ids, "added tokens", loader->err));
    TRY_GOTO(mem_alloc(&order, count, sizeof *order, "added tokens", loader->err));
    for (int32_t id = 0; id < tokenizer->size; id++) {
        const struct token_entry *entry = &tokenizer->entries[id];
        if ((entry->flags & TOKEN_ADDED) == 0 || (entry->flags & TOKEN_NORMALIZED) != normalized)
            continue;
        const char *content = tokenizer->arena.data + entry->text;
        size_t length = entry->text_length;
        if (normalized != 0 && tokenizer->nfc)
            TRY_GOTO(nfc_normalize(content, length, &nfc, &content, &length, loader->err));
        order[set->count].id = id;
        /* counted first, so that what is appended is freed on failure */
        struct text *copy = &set->contents[set->count++];
        TRY_GOTO(text_append(copy, content, length, loader->err));
        order[set->count - 1].content = *copy;
        set->first[(unsigned char)content[0]] = true;
    }
    qsort(order, set->count, sizeof *order, compare_added);
    for (size_t i = 0; i < set->count; i++) {
        set->contents[i] = order[i].content;
        set->ids[i] = order[i].id;
    }
cleanup:
    nfc_buffer_free(&nfc);
    mem_free(order);
    return status;
}

/* ---- normaliser, pre-tokenizer, decoder ---- */

static cohort_status load_normalizer(const struct loader *loader, const json_t *normalizer, int depth)
{
    if (normalizer == NULL || json_is_null(normalizer))
        return COHORT_OK;
    const char *type = component_type(loader, normalizer, "normalizer");
    if (type == NULL)
        return COHORT_ERR_FORMAT;
    if (strcmp(type, "NFC") == 0) {
        loader->tokenizer->nfc = true;
        return COHORT_OK;
    }
    const json_t *parts = json_object_get(normalizer, "normalizers");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(parts) || depth > 0)
        return REFUSE(loader, "%s: normalizer \"%.80s\" is not supported: expected null or \"NFC\"", loader->origin,
                      type);
    for (size_t i = 0; i < json_array_size(parts); i++)
        TRY(load_normalizer(loader, json_array_get(parts, i), depth + 1));
    return COHORT_OK;
}

/* A ByteLevel pre-tokenizer: *use_regex says whether it splits with GPT-2's regex. */
static cohort_status load_byte_level(const struct loader *loader, const json_t *part, bool *use_regex)
{
    TRY(refuse_flag(loader, part, "pre_tokenizer ByteLevel", "add_prefix_space", true));
    return read_flag(loader, part, "pre_tokenizer ByteLevel", "use_regex", true, use_regex);
}

static cohort_status load_split(const struct loader *loader, const json_t *split)
{
    const char *behavior = json_string_value(json_object_get(split, "behavior"));
    if (behavior == NULL || strcmp(behavior, "Isolated") != 0)
        return REFUSE(loader, "%s: pre_tokenizer Split with behavior \"%.80s\" is not supported, only \"Isolated\"",
                      loader->origin, behavior == NULL ? "" : behavior);
    TRY(refuse_flag(loader, split, "pre_tokenizer Split", "invert", false));
    const json_t *regex = json_object_get(json_object_get(split, "pattern"), "Regex");
    if (!json_is_string(regex))
        return REFUSE(loader, "%s: pre_tokenizer Split: expected pattern {\"Regex\": \"...\"}", loader->origin);
    return split_compile(&loader->tokenizer->split, json_string_value(regex), json_string_length(regex), loader->origin,
                         loader->err);
}

static cohort_status load_pre_tokenizer(const struct loader *loader, const json_t *pre)
{
    static const char GPT2_SPLIT[] =
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    bool use_regex = false;
    const char *type = component_type(loader, pre, "pre_tokenizer");
    if (type == NULL)
        return COHORT_ERR_FORMAT;
    if (strcmp(type, "ByteLevel") == 0) {
        TRY(load_byte_level(loader, pre, &use_regex));
        if (use_regex)
            return split_compile(&loader->tokenizer->split, GPT2_SPLIT, sizeof GPT2_SPLIT - 1, loader->origin,
                                 loader->err);
    }
    const json_t *parts = json_object_get(pre, "pretokenizers");
    const json_t *split = json_array_get(parts, 0), *bytes = json_array_get(parts, 1);
    const char *first = json_string_value(json_object_get(split, "type"));
    const char *second = json_string_value(json_object_get(bytes, "type"));
    if (strcmp(type, "Sequence") != 0 || json_array_size(parts) != 2 || first == NULL || second == NULL ||
        strcmp(first, "Split") != 0 || strcmp(second, "ByteLevel") != 0)
        return REFUSE(loader,
                      "%s: pre_tokenizer \"%.80s\" is not supported: expected a Sequence of Split "
                      "and ByteLevel, "
                      "or ByteLevel with its regex",
                      loader->origin, type);
    TRY(load_byte_level(loader, bytes, &use_regex));
    if (use_regex)
        return REFUSE(loader, "%s: pre_tokenizer: ByteLevel.use_regex after a Split is not supported", loader->origin);
    return load_split(loader, split);
}

static cohort_status check_decoder(const struct loader *loader, const json_t *component)
{
    const char *type = component_type(loader, component, "decoder");
    if (type == NULL)
        return COHORT_ERR_FORMAT;
    if (strcmp(type, "ByteLevel") != 0)
        return REFUSE(loader, "%s: decoder \"%.80s\" is not supported, only \"ByteLevel\"", loader->origin, type);
    return COHORT_OK;
}

/* Only what adds no tokens around a text: ByteLevel, a template of the text alone, or some of these. */
static cohort_status check_post_processor(const struct loader *loader, const json_t *component, int depth)
{
    if (component == NULL || json_is_null(component))
        return COHORT_OK;
    const char *type = component_type(loader, component, "post_processor");
    if (type == NULL)
        return COHORT_ERR_FORMAT;
    if (strcmp(type, "ByteLevel") == 0)
        return COHORT_OK;
    const json_t *single = json_object_get(component, "single"), *parts = json_object_get(component, "processors");
    if (strcmp(type, "TemplateProcessing") == 0 && json_is_array(single)) {
        for (size_t i = 0; i < json_array_size(single); i++)
            if (json_object_get(json_array_get(single, i), "Sequence") == NULL)
                return REFUSE(loader,
                              "%s: post_processor: a TemplateProcessing that adds special tokens "
                              "to every text is not supported",
                              loader->origin);
        if (json_array_size(single) == 1)
            return COHORT_OK;
    }
    if (strcmp(type, "Sequence") != 0 || !json_is_array(parts) || depth > 0)
        return REFUSE(loader,
                      "%s: post_processor \"%.80s\" is not supported: expected \"ByteLevel\", or a "
                      "\"TemplateProcessing\" that adds nothing",
                      loader->origin, type);
    for (size_t i = 0; i < json_array_size(parts); i++)
        TRY(check_post_processor(loader, json_array_get(parts, i), depth + 1));
    return COHORT_OK;
}

static cohort_status load_root(const struct loader *loader, const json_t *root)
{
    if (!json_is_object(root))
        return WRONG(loader, "%s: expected an object, found %s", loader->origin, tokenizer_type_name(root));
    const json_t *added = json_object_get(root, "added_tokens");
    if (added != NULL && !json_is_null(added) && !json_is_array(added))
        return WRONG(loader, "%s: added_tokens: expected an array, found %s", loader->origin,
                     tokenizer_type_name(added));
    /* truncation and padding are not read: a length limit belongs to the run, and transformers
     * overrides them too */
    TRY(load_normalizer(loader, json_object_get(root, "normalizer"), 0));
    TRY(load_pre_tokenizer(loader, json_object_get(root, "pre_tokenizer")));
    TRY(check_post_processor(loader, json_object_get(root, "post_processor"), 0));
    TRY(check_decoder(loader, json_object_get(root, "decoder")));
    const json_t *model = json_object_get(root, "model");
    TRY(load_model(loader, model, added));
    TRY(load_added(loader, added, json_object_size(json_object_get(model, "vocab"))));
    drop_control_merges(loader->tokenizer);
    TRY(build_set(loader, &loader->tokenizer->raw, 0));
    return build_set(loader, &loader->tokenizer->normalized, TOKEN_NORMALIZED);
}

cohort_status tokenizer_parse(struct tokenizer **out, const char *json, size_t length, const char *origin,
                              cohort_error *err)
{
    struct loader loader = {.origin = origin, .err = err};
    json_t *root = NULL;
    cohort_status status = COHORT_OK;
    const char *found = NULL;
    *out = NULL;
    if (length > TOKENIZER_MAX_BYTES)
        return WRONG(&loader, "%s: %zu bytes is too large (at most %d)", origin, length, (int)TOKENIZER_MAX_BYTES);
    TRY_GOTO(mem_alloc(&loader.tokenizer, 1, sizeof *loader.tokenizer, "tokenizer", err));
    loader.tokenizer->eos = -1;
    status = json_text_parse(&root, json, length, origin, 1, 0, err);
    found = wrong_file(json, length, WRONG_FILE_JSON);
    if (status == COHORT_ERR_FORMAT && found != NULL)
        status = WRONG(&loader, "%s: %s", origin, found);
    TRY_GOTO(status);
    TRY_GOTO(load_root(&loader, root));
    *out = loader.tokenizer;
    loader.tokenizer = NULL;
cleanup:
    json_decref(root);
    tokenizer_destroy(loader.tokenizer);
    return status;
}
