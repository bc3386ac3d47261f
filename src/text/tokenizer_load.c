/* Reading tokenizer.json. Whatever would change ids and is not done here is refused by name (I7).
 */
#include "text/tokenizer_loader.h"

#include "base/json_text.h"

#include <stdlib.h>
#include <string.h>

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

const char *loader_type(const struct loader *loader, const json_t *component, const char *place)
{
    const char *type = json_string_value(json_object_get(component, "type"));
    if (type == NULL)
        WRONG(loader, "%s: %s: expected an object with a \"type\", found %s", loader->origin, place,
              tokenizer_type_name(component));
    return type;
}

cohort_status loader_flag(const struct loader *loader, const json_t *object, const char *place, const char *key,
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

cohort_status loader_text(const struct loader *loader, const json_t *object, const char *place, const char *key,
                          struct text *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value))
        return WRONG(loader, "%s: %s.%s: expected a string, found %s", loader->origin, place, key,
                     tokenizer_type_name(value));
    return text_append(out, json_string_value(value), json_string_length(value), loader->err);
}

/* ---- model ---- */

static cohort_status check_model(const struct loader *loader, const json_t *model)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    struct tokenizer *tokenizer = loader->tokenizer;
    const char *type = loader_type(loader, model, "model");
    if (type == NULL)
        return COHORT_ERR_FORMAT;
    if (strcmp(type, "BPE") != 0)
        return REFUSE(loader, "%s: model.type \"%.80s\" is not supported, only \"BPE\"", loader->origin, type);
    TRY(loader_flag(loader, model, "model", "ignore_merges", false, &tokenizer->ignore_merges));
    TRY(loader_flag(loader, model, "model", "byte_fallback", false, &tokenizer->byte_fallback));
    TRY(loader_flag(loader, model, "model", "fuse_unk", false, &tokenizer->fuse_unk));
    const json_t *dropout = json_object_get(model, "dropout");
    if (dropout != NULL && !json_is_null(dropout) && !(json_is_number(dropout) && json_number_value(dropout) == 0.0))
        return REFUSE(loader, "%s: model.dropout is not supported: set it to null", loader->origin);
    for (size_t i = 0; i < 2; i++) {
        const json_t *affix = json_object_get(model, affixes[i]);
        if (affix != NULL && !json_is_null(affix) && !(json_is_string(affix) && json_string_length(affix) == 0))
            return REFUSE(loader, "%s: model.%s is not supported: expected null or \"\"", loader->origin, affixes[i]);
    }
    return COHORT_OK;
}

/* What BPE begins with: a token for each byte, or <0x..> tokens and the unknown token. */
static cohort_status find_units(const struct loader *loader, const json_t *model)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        tokenizer->fallback_ids[byte] = tokenizer_find_text(tokenizer, text, 6);
        size_t length = utf8_encode(byte_level_char((unsigned char)byte), text);
        tokenizer->byte_ids[byte] = tokenizer_find_text(tokenizer, text, length);
        bool in_utf8 = byte < 0xC0 || (byte > 0xC1 && byte < 0xF5);
        if (tokenizer->byte_units && tokenizer->byte_ids[byte] < 0 && in_utf8)
            return REFUSE(loader,
                          "%s: model.vocab has no token \"%.*s\" for byte 0x%02x: expected a byte-level "
                          "vocabulary with all bytes",
                          loader->origin, (int)length, text, (unsigned)byte);
    }
    const json_t *unk = json_object_get(model, "unk_token");
    tokenizer->unk = -1;
    if (!json_is_string(unk) || tokenizer->byte_units)
        return COHORT_OK;
    tokenizer->unk = tokenizer_find_text(tokenizer, json_string_value(unk), json_string_length(unk));
    return tokenizer->unk >= 0 ? COHORT_OK
                               : WRONG(loader, "%s: model.unk_token: \"%.80s\" is not in model.vocab", loader->origin,
                                       json_string_value(unk));
}

/* json_text_parse knows where a file is no JSON; it is asked when a table turned out to be none. */
static cohort_status say_broken(const struct loader *loader, const char *json, size_t length)
{
    json_t *root = NULL;
    cohort_status status = json_text_parse(&root, json, length, loader->origin, 1, 0, loader->err);
    const char *found = wrong_file(json, length, WRONG_FILE_JSON);
    json_decref(root);
    if (status == COHORT_ERR_FORMAT && found != NULL)
        return WRONG(loader, "%s: %s", loader->origin, found);
    return status != COHORT_OK ? status
                               : WRONG(loader, "%s: model.vocab and model.merges cannot be read", loader->origin);
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

static cohort_status added_flags(const struct loader *loader, const json_t *token, const char *place, bool markup,
                                 uint32_t *flags)
{
    static const struct {
        const char *key;
        uint32_t flag;
    } plain[] = {{"lstrip", TOKEN_LSTRIP}, {"rstrip", TOKEN_RSTRIP}, {"single_word", TOKEN_SINGLE}};
    bool special = false, normalized = false, set = false;
    TRY(loader_flag(loader, token, place, "special", false, &special));
    TRY(loader_flag(loader, token, place, "normalized", !special, &normalized));
    *flags = TOKEN_ADDED | (special ? TOKEN_SPECIAL : 0u) | (normalized ? TOKEN_NORMALIZED : 0u) |
             (special || markup ? 0u : TOKEN_WORD);
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        TRY(loader_flag(loader, token, place, plain[i].key, false, &set));
        *flags |= set ? plain[i].flag : 0u;
    }
    return COHORT_OK;
}

static cohort_status load_added(const struct loader *loader, const json_t *added)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    /* the id that Hugging Face gives to the next new token, whatever the file says */
    int32_t next = (int32_t)tokenizer->vocab_count;
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        const char *content = json_string_value(json_object_get(token, "content"));
        size_t length = json_string_length(json_object_get(token, "content"));
        int32_t id = 0;
        uint32_t flags = 0;
        char place[48];
        snprintf(place, sizeof place, "added_tokens[%zu]", i);
        if (content == NULL || content[0] == '\0')
            return WRONG(loader, "%s: %s: expected an object with a non-empty \"content\"", loader->origin, place);
        TRY(tables_id(loader, json_object_get(token, "id"), content, &id));
        TRY(added_flags(loader, token, place, is_markup(content, length), &flags));
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
        if (id < tokenizer->size && (tokenizer->entries[id].flags & TOKEN_PRESENT) != 0)
            return WRONG(loader, "%s: %s: id %d of \"%.80s\" belongs to another token", loader->origin, place, (int)id,
                         content);
        TRY(tables_add(loader, id, content, length, flags));
        next = id + 1;
    }
    return COHORT_OK;
}

/* No control token comes of merging plain text, though the file may list it among the merges' results: where it counts
 * it is matched before. */
static void drop_control_merges(struct tokenizer *tokenizer)
{
    bool any = false; /* most files have none in their vocabulary */
    for (int32_t id = 0; id < tokenizer->size && !any; id++)
        any = (tokenizer->entries[id].flags & TOKEN_BASE) != 0 && token_is_control(tokenizer, id);
    if (!any)
        return;
    for (size_t i = 0; tokenizer->merges != NULL && i <= tokenizer->merge_mask; i++) {
        const uint64_t slot = tokenizer->merges[i];
        if (slot != MERGE_EMPTY && token_is_control(tokenizer, tokenizer->merged[slot & MERGE_NEVER]))
            tokenizer->merges[i] = slot | MERGE_NEVER;
    }
}

struct added_order {
    struct text content;
    int32_t id;
    int special;
};

static int compare_added(const void *a, const void *b)
{
    const struct added_order *one = a, *other = b;
    const struct text *x = &one->content, *y = &other->content;
    int order = memcmp(x->data, y->data, x->length < y->length ? x->length : y->length);
    if (order == 0)
        order = (x->length > y->length) - (x->length < y->length);
    if (order == 0) /* the same normal form: the first counts, special ones before others */
        order = one->special != other->special ? other->special - one->special : one->id - other->id;
    return order;
}

/* Builds the matcher of the added tokens with (flags & TOKEN_NORMALIZED) == normalized. */
static cohort_status build_set(const struct loader *loader, struct added_set *set, uint32_t normalized)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    struct normal_scratch scratch = {0};
    const struct normal_ends whole = {true, true};
    bool lost = false;
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
        if (normalized != 0)
            TRY_GOTO(
                normalizer_run(tokenizer, content, length, whole, &scratch, &content, &length, &lost, loader->err));
        if (length == 0) {
            status = REFUSE(loader, "%s: added token %d: the normalizer leaves nothing of it, which is not supported",
                            loader->origin, (int)id);
            goto cleanup;
        }
        order[set->count].id = id;
        order[set->count].special = (entry->flags & TOKEN_SPECIAL) != 0;
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
    normal_scratch_free(&scratch);
    mem_free(order);
    return status;
}

/* ---- what follows from the parts ---- */

/* The byte that <0x0A> names, -1: text names none. */
static int named_byte(const struct text *text)
{
    if (text->length != 6 || memcmp(text->data, "<0x", 3) != 0 || text->data[5] != '>')
        return -1;
    char *end = NULL;
    const char digits[3] = {text->data[3], text->data[4], '\0'};
    const long byte = digits[0] == '-' || digits[0] == ' ' ? -1 : strtol(digits, &end, 16);
    return end == digits + 2 ? (int)byte : -1;
}

/* What the decoder reads of a token. */
static cohort_status find_source(const struct loader *loader, struct token_entry *entry, struct normal_scratch *scratch)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    struct text *arena = &tokenizer->arena;
    const struct normal_ends whole = {true, true};
    const char *normal = NULL;
    size_t length = 0;
    bool lost = false;
    entry->source = entry->text;
    entry->source_length = entry->text_length;
    if ((entry->flags & TOKEN_NORMALIZED) == 0 || tokenizer->n_normal == 0)
        return COHORT_OK;
    TRY(normalizer_run(tokenizer, arena->data + entry->text, entry->text_length, whole, scratch, &normal, &length,
                       &lost, loader->err));
    if (length == entry->text_length && memcmp(normal, arena->data + entry->text, length) == 0)
        return COHORT_OK;
    entry->source = (uint32_t)arena->length;
    entry->source_length = (uint32_t)length;
    TRY(text_append(arena, normal, length, loader->err));
    return text_append(arena, "", 1, loader->err);
}

/* What every token decodes to. */
static cohort_status decode_tokens(const struct loader *loader)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    const struct decoder *decoder = &tokenizer->decoder;
    struct text *arena = &tokenizer->arena, text = {0};
    struct normal_scratch scratch = {0};
    const size_t tokens = arena->length;
    cohort_status status = COHORT_OK;
    for (int32_t id = 0; id < tokenizer->size; id++) {
        struct token_entry *entry = &tokenizer->entries[id];
        if ((entry->flags & TOKEN_PRESENT) == 0)
            continue;
        TRY_GOTO(find_source(loader, entry, &scratch));
        entry->bytes = entry->key;
        entry->bytes_length = entry->key_length;
        if (decoder->n_steps == 0 && decoder->byte_level && (entry->flags & TOKEN_KEY_BYTES) != 0 &&
            entry->source == entry->text)
            continue;
        text.length = 0;
        TRY_GOTO(decoder_token(decoder, arena->data + entry->source, entry->source_length, false, &text, loader->err));
        const int byte = decoder->byte_fallback ? named_byte(&text) : -1;
        if (byte >= 0) {
            entry->flags |= TOKEN_BYTE;
            text.data[0] = (char)(unsigned char)byte;
            text.length = 1;
        }
        const size_t start = arena->length;
        if (text.length > TOKENIZER_MAX_BYTES || start - tokens > TOKENIZER_MAX_BYTES - text.length) {
            status = WRONG(loader, "%s: the decoder makes more than %d bytes of the tokens", loader->origin,
                           (int)TOKENIZER_MAX_BYTES);
            goto cleanup;
        }
        TRY_GOTO(text_append(arena, text.data, text.length, loader->err));
        entry->bytes = (uint32_t)start;
        entry->bytes_length = (uint32_t)(arena->length - start);
        TRY_GOTO(text_append(arena, "", 1, loader->err));
    }
cleanup:
    text_free(&text);
    normal_scratch_free(&scratch);
    return status;
}

/* A text without a pre-tokenizer is one long word. Where no token has this character behind another, no merge joins
 * them, and the text can be cut there: the ids are the same, and words are short and known. */
static cohort_status cut_at_word_starts(const struct loader *loader)
{
    static const char mark[] = "\xE2\x96\x81";
    struct tokenizer *tokenizer = loader->tokenizer;
    int32_t own = tokenizer_find_text(tokenizer, mark, 3);
    if (tokenizer->byte_units || own < 0 || (tokenizer->entries[own].flags & TOKEN_BASE) == 0 ||
        token_is_control(tokenizer, own))
        return COHORT_OK;
    for (int32_t id = 0; id < tokenizer->size; id++) {
        const struct token_entry *entry = &tokenizer->entries[id];
        if ((entry->flags & TOKEN_BASE) == 0)
            continue;
        const char *text = tokenizer->arena.data + entry->text;
        for (size_t i = 1; i + 3 <= entry->text_length; i++)
            if (memcmp(text + i, mark, 3) == 0 && (i < 3 || memcmp(text + i - 3, mark, 3) != 0))
                return COHORT_OK;
    }
    TRY(mem_grow(&tokenizer->piece_steps, &tokenizer->piece_capacity, tokenizer->n_pieces + 1,
                 sizeof *tokenizer->piece_steps, "steps of the pre-tokenizer", loader->err));
    struct piece_step *step = &tokenizer->piece_steps[tokenizer->n_pieces++];
    step->kind = PIECE_WORD_STARTS;
    return text_append(&step->content, mark, 3, loader->err);
}

/* Bytes in byte-level characters at the end of the pre-tokenizer are bytes again in BPE: the step is left out. */
static void take_byte_level(struct tokenizer *tokenizer)
{
    if (tokenizer->n_pieces == 0 || tokenizer->piece_steps[tokenizer->n_pieces - 1].kind != PIECE_BYTE_LEVEL)
        return;
    tokenizer->n_pieces--;
    tokenizer->byte_units = true;
}

static cohort_status load_root(const struct loader *loader, const json_t *root, const struct table_spans *spans,
                               bool *broken)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    if (!json_is_object(root))
        return WRONG(loader, "%s: expected an object, found %s", loader->origin, tokenizer_type_name(root));
    const json_t *added = json_object_get(root, "added_tokens"), *model = json_object_get(root, "model");
    if (added != NULL && !json_is_null(added) && !json_is_array(added))
        return WRONG(loader, "%s: added_tokens: expected an array, found %s", loader->origin,
                     tokenizer_type_name(added));
    /* truncation and padding are not read: a length limit belongs to the run, and transformers
     * overrides them too */
    TRY(loader_normalizer(loader, json_object_get(root, "normalizer"), 0));
    TRY(loader_pre_tokenizer(loader, json_object_get(root, "pre_tokenizer"), 0));
    TRY(loader_decoder(loader, json_object_get(root, "decoder"), 0));
    TRY(check_model(loader, model));
    take_byte_level(tokenizer);
    if (spans->vocab.at == NULL)
        return WRONG(loader, "%s: model.vocab: expected an object, found %s", loader->origin,
                     tokenizer_type_name(json_object_get(model, "vocab")));
    if (spans->merges.at == NULL)
        return WRONG(loader, "%s: model.merges: expected an array, found %s", loader->origin,
                     tokenizer_type_name(json_object_get(model, "merges")));
    TRY(tables_vocab(loader, spans->vocab, broken));
    if (*broken)
        return COHORT_OK;
    TRY(find_units(loader, model));
    TRY(tables_merges(loader, spans->merges, broken));
    if (*broken)
        return COHORT_OK;
    TRY(load_added(loader, added));
    TRY(loader_post_processor(loader, json_object_get(root, "post_processor"), 0));
    drop_control_merges(tokenizer);
    TRY(cut_at_word_starts(loader));
    TRY(build_set(loader, &tokenizer->raw, 0));
    TRY(build_set(loader, &tokenizer->normalized, TOKEN_NORMALIZED));
    TRY(decode_tokens(loader));
    return mem_alloc(&tokenizer->whole, (size_t)tokenizer->size, 1, "tokens", loader->err);
}

cohort_status tokenizer_parse(struct tokenizer **out, const char *json, size_t length, const char *origin,
                              cohort_error *err)
{
    struct loader loader = {.origin = origin, .err = err};
    struct table_spans spans = {0};
    struct text rest = {0};
    json_t *root = NULL;
    cohort_status status = COHORT_OK;
    bool whole = false, broken = false;
    *out = NULL;
    if (length > TOKENIZER_MAX_BYTES)
        return WRONG(&loader, "%s: %zu bytes is too large (at most %d)", origin, length, (int)TOKENIZER_MAX_BYTES);
    TRY_GOTO(mem_alloc(&loader.tokenizer, 1, sizeof *loader.tokenizer, "tokenizer", err));
    loader.tokenizer->eos = loader.tokenizer->unk = -1;
    TRY_GOTO(tables_cut(json, length, &rest, &spans, &whole, err));
    if (whole)
        status = json_text_parse(&root, rest.data, rest.length, origin, 1, 0, err);
    if (!whole || status == COHORT_ERR_FORMAT)
        status = say_broken(&loader, json, length); /* with the places of the whole file */
    TRY_GOTO(status);
    TRY_GOTO(load_root(&loader, root, &spans, &broken));
    if (broken)
        TRY_GOTO(say_broken(&loader, json, length));
    *out = loader.tokenizer;
    loader.tokenizer = NULL;
cleanup:
    json_decref(root);
    text_free(&rest);
    tokenizer_destroy(loader.tokenizer);
    return status;
}
