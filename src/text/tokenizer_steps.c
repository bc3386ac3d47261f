/* Normaliser, pre-tokenizer, post-processor and decoder of tokenizer.json as steps. Whatever would change ids or text
 * and is not done here is refused by name (I7). */
#include "text/tokenizer_loader.h"

#include <string.h>

static cohort_status bad_type(const struct loader *loader, const char *place, const char *type)
{
    return REFUSE(loader, "%s: %s \"%.80s\" is not supported; docs/TOKENIZERS.md has the list", loader->origin, place,
                  type);
}

/* The parts of a Sequence; NULL with an error where they are no list, or nested too deep. */
static const json_t *sequence_parts(const struct loader *loader, const json_t *component, const char *place,
                                    const char *key, int depth)
{
    enum { DEEPEST = 8 };
    const json_t *parts = json_object_get(component, key);
    if (!json_is_array(parts))
        WRONG(loader, "%s: %s Sequence.%s: expected an array, found %s", loader->origin, place, key,
              tokenizer_type_name(parts));
    else if (depth >= DEEPEST)
        WRONG(loader, "%s: %s: more than %d Sequences within each other", loader->origin, place, DEEPEST);
    else
        return parts;
    return NULL;
}

/* A pattern {"String": ...} or {"Regex": ...}. *text is its text. */
static cohort_status read_pattern(const struct loader *loader, const json_t *object, const char *place,
                                  pcre2_code **code, const char **text, size_t *length, bool *literal)
{
    const json_t *pattern = json_object_get(object, "pattern"), *regex = json_object_get(pattern, "Regex"),
                 *string = json_object_get(pattern, "String");
    const json_t *value = regex != NULL ? regex : string;
    if (!json_is_string(value))
        return REFUSE(loader, "%s: %s: expected pattern {\"Regex\": \"...\"} or {\"String\": \"...\"}", loader->origin,
                      place);
    *literal = regex == NULL;
    *text = json_string_value(value);
    *length = json_string_length(value);
    if (*literal && *length == 0)
        return REFUSE(loader, "%s: %s: the pattern is empty, which is not supported", loader->origin, place);
    return regex_compile(code, *text, *length, *literal, loader->origin, place, loader->err);
}

/* ---- normaliser ---- */

static cohort_status read_normal(const struct loader *loader, const json_t *normalizer, const char *type,
                                 struct normal_step *step)
{
    static const struct {
        const char *type;
        enum normal_kind kind;
        enum normal_form form;
    } plain[] = {
        {"NFC", NORMAL_FORM, FORM_NFC},      {"NFD", NORMAL_FORM, FORM_NFD},
        {"NFKC", NORMAL_FORM, FORM_NFKC},    {"NFKD", NORMAL_FORM, FORM_NFKD},
        {"Lowercase", NORMAL_LOWERCASE, 0},  {"StripAccents", NORMAL_STRIP_ACCENTS, 0},
        {"ByteLevel", NORMAL_BYTE_LEVEL, 0},
    };
    const char *text = NULL;
    size_t length = 0;
    bool literal = false;
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (strcmp(type, plain[i].type) != 0)
            continue;
        step->kind = plain[i].kind;
        step->form = plain[i].form;
        return COHORT_OK;
    }
    if (strcmp(type, "Strip") == 0) {
        step->kind = NORMAL_STRIP;
        TRY(loader_flag(loader, normalizer, "normalizer Strip", "strip_left", false, &step->left));
        return loader_flag(loader, normalizer, "normalizer Strip", "strip_right", false, &step->right);
    }
    if (strcmp(type, "Prepend") == 0) {
        step->kind = NORMAL_PREPEND;
        return loader_text(loader, normalizer, "normalizer Prepend", "prepend", &step->content);
    }
    if (strcmp(type, "Replace") != 0)
        return bad_type(loader, "normalizer", type);
    step->kind = NORMAL_REPLACE;
    TRY(loader_text(loader, normalizer, "normalizer Replace", "content", &step->content));
    return read_pattern(loader, normalizer, "normalizer Replace", &step->pattern, &text, &length, &literal);
}

cohort_status loader_normalizer(const struct loader *loader, const json_t *normalizer, int depth)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    if (normalizer == NULL || json_is_null(normalizer))
        return COHORT_OK;
    const char *type = loader_type(loader, normalizer, "normalizer");
    if (type == NULL)
        return COHORT_ERR_FORMAT;
    if (strcmp(type, "Sequence") == 0) {
        const json_t *parts = sequence_parts(loader, normalizer, "normalizer", "normalizers", depth);
        if (parts == NULL)
            return COHORT_ERR_FORMAT;
        for (size_t i = 0; i < json_array_size(parts); i++)
            TRY(loader_normalizer(loader, json_array_get(parts, i), depth + 1));
        return COHORT_OK;
    }
    if (tokenizer->n_normal == TOKENIZER_MAX_STEPS)
        return WRONG(loader, "%s: normalizer: more than %d steps", loader->origin, TOKENIZER_MAX_STEPS);
    TRY(mem_grow(&tokenizer->normal_steps, &tokenizer->normal_capacity, tokenizer->n_normal + 1,
                 sizeof *tokenizer->normal_steps, "steps of the normalizer", loader->err));
    struct normal_step *step = &tokenizer->normal_steps[tokenizer->n_normal++];
    TRY(read_normal(loader, normalizer, type, step));
    if (step->kind == NORMAL_FORM && step->form == FORM_NFC && tokenizer->tables.nfc == NULL) {
        TRY(mem_alloc(&tokenizer->tables.nfc, CHAR_TABLED, 1, "table of characters", loader->err));
        nfc_table_fill(tokenizer->tables.nfc);
    }
    return COHORT_OK;
}

/* ---- pre-tokenizer ---- */

static cohort_status add_piece(const struct loader *loader, enum piece_kind kind, struct piece_step **step)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    if (tokenizer->n_pieces + 1 >= TOKENIZER_MAX_STEPS) /* one more is that of tokenizer_load.c */
        return WRONG(loader, "%s: pre_tokenizer: more than %d steps", loader->origin, TOKENIZER_MAX_STEPS - 1);
    TRY(mem_grow(&tokenizer->piece_steps, &tokenizer->piece_capacity, tokenizer->n_pieces + 1,
                 sizeof *tokenizer->piece_steps, "steps of the pre-tokenizer", loader->err));
    *step = &tokenizer->piece_steps[tokenizer->n_pieces++];
    (*step)->kind = kind;
    if (tokenizer->tables.classes != NULL)
        return COHORT_OK;
    TRY(mem_alloc(&tokenizer->tables.classes, CHAR_TABLED, 1, "table of characters", loader->err));
    for (uint32_t c = 0; c < CHAR_TABLED; c++)
        tokenizer->tables.classes[c] = (unsigned char)char_classes(c);
    return COHORT_OK;
}

static cohort_status read_behavior(const struct loader *loader, const json_t *object, const char *place,
                                   enum split_behavior *behavior)
{
    static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"};
    const char *name = json_string_value(json_object_get(object, "behavior"));
    for (size_t i = 0; name != NULL && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            *behavior = (enum split_behavior)i;
            return COHORT_OK;
        }
    }
    return REFUSE(loader, "%s: pre_tokenizer %s with behavior \"%.80s\" is not supported", loader->origin, place,
                  name == NULL ? "" : name);
}

static cohort_status add_split(const struct loader *loader, const json_t *split)
{
    struct piece_step *step = NULL;
    const char *text = NULL;
    size_t length = 0;
    bool literal = false;
    TRY(add_piece(loader, PIECE_REGEX, &step));
    TRY(read_behavior(loader, split, "Split", &step->behavior));
    TRY(loader_flag(loader, split, "pre_tokenizer Split", "invert", false, &step->invert));
    TRY(read_pattern(loader, split, "pre_tokenizer Split", &step->pattern, &text, &length, &literal));
    step->known = literal ? SPLIT_REGEX : known_split_find(text, length);
    return COHORT_OK;
}

static cohort_status add_byte_level(const struct loader *loader, const json_t *part)
{
    static const char place[] = "pre_tokenizer ByteLevel";
    struct piece_step *step = NULL;
    bool prefix = false, use_regex = false;
    for (size_t i = 0; i < loader->tokenizer->n_pieces; i++) /* each would double the text */
        if (loader->tokenizer->piece_steps[i].kind == PIECE_BYTE_LEVEL)
            return REFUSE(loader, "%s: pre_tokenizer: a second ByteLevel is not supported", loader->origin);
    TRY(loader_flag(loader, part, place, "add_prefix_space", true, &prefix));
    TRY(loader_flag(loader, part, place, "use_regex", true, &use_regex));
    if (prefix) {
        TRY(add_piece(loader, PIECE_PREPEND, &step));
        TRY(text_append(&step->content, " ", 1, loader->err));
    }
    if (use_regex) {
        const char *pattern = known_split_pattern(SPLIT_GPT2);
        TRY(add_piece(loader, PIECE_REGEX, &step));
        step->known = SPLIT_GPT2;
        TRY(regex_compile(&step->pattern, pattern, strlen(pattern), false, loader->origin, place, loader->err));
    }
    return add_piece(loader, PIECE_BYTE_LEVEL, &step);
}

/* A text of one character at key. */
static cohort_status read_character(const struct loader *loader, const json_t *object, const char *place,
                                    const char *key, struct text *out)
{
    uint32_t code_point = 0;
    TRY(loader_text(loader, object, place, key, out));
    if (out->length == 0 || utf8_decode(out->data, &code_point) != out->length)
        return WRONG(loader, "%s: %s.%s: expected one character", loader->origin, place, key);
    return COHORT_OK;
}

enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

/* prepend_scheme, or add_prefix_space of older files. */
static cohort_status read_scheme(const struct loader *loader, const json_t *object, const char *place,
                                 enum prepend_scheme *scheme)
{
    static const char *const names[] = {"always", "first", "never"};
    const json_t *value = json_object_get(object, "prepend_scheme");
    bool prefix = true;
    TRY(loader_flag(loader, object, place, "add_prefix_space", true, &prefix));
    *scheme = prefix ? PREPEND_ALWAYS : PREPEND_NEVER;
    if (value == NULL)
        return COHORT_OK;
    for (size_t i = 0; json_is_string(value) && i < 3; i++) {
        if (strcmp(json_string_value(value), names[i]) == 0) {
            *scheme = (enum prepend_scheme)i;
            return COHORT_OK;
        }
    }
    return WRONG(loader, "%s: %s.prepend_scheme: expected \"always\", \"first\" or \"never\"", loader->origin, place);
}

static cohort_status add_metaspace(const struct loader *loader, const json_t *part)
{
    static const char place[] = "pre_tokenizer Metaspace";
    struct piece_step *step = NULL;
    struct text replacement = {0};
    enum prepend_scheme scheme = PREPEND_ALWAYS;
    bool split = true;
    cohort_status status = COHORT_OK;
    TRY_GOTO(read_character(loader, part, place, "replacement", &replacement));
    TRY_GOTO(read_scheme(loader, part, place, &scheme));
    TRY_GOTO(loader_flag(loader, part, place, "split", true, &split));
    TRY_GOTO(add_piece(loader, PIECE_SPACES, &step));
    TRY_GOTO(text_append(&step->content, replacement.data, replacement.length, loader->err));
    if (scheme != PREPEND_NEVER) {
        TRY_GOTO(add_piece(loader, PIECE_PREPEND, &step));
        TRY_GOTO(text_append(&step->content, replacement.data, replacement.length, loader->err));
        step->first_only = scheme == PREPEND_FIRST;
    }
    if (split) {
        TRY_GOTO(add_piece(loader, PIECE_CHARACTER, &step));
        TRY_GOTO(text_append(&step->content, replacement.data, replacement.length, loader->err));
        step->behavior = SPLIT_MERGED_WITH_NEXT;
    }
cleanup:
    text_free(&replacement);
    return status;
}

/* The pre-tokenizers that cut at characters of some classes. */
static cohort_status add_classes(const struct loader *loader, const json_t *part, const char *type)
{
    struct piece_step *step = NULL;
    bool individual = false;
    TRY(add_piece(loader, PIECE_CLASS, &step));
    if (strcmp(type, "WhitespaceSplit") == 0) {
        step->classes = CHAR_SPACE;
        step->behavior = SPLIT_REMOVED;
        return COHORT_OK;
    }
    if (strcmp(type, "Digits") == 0) {
        step->classes = CHAR_DIGIT;
        TRY(loader_flag(loader, part, "pre_tokenizer Digits", "individual_digits", false, &individual));
        step->behavior = individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
        return COHORT_OK;
    }
    step->classes = CHAR_PUNCT;
    return json_object_get(part, "behavior") == NULL ? COHORT_OK
                                                     : read_behavior(loader, part, "Punctuation", &step->behavior);
}

static cohort_status add_pre_tokenizer(const struct loader *loader, const json_t *pre, const char *type)
{
    struct piece_step *step = NULL;
    if (strcmp(type, "ByteLevel") == 0)
        return add_byte_level(loader, pre);
    if (strcmp(type, "Split") == 0)
        return add_split(loader, pre);
    if (strcmp(type, "Metaspace") == 0)
        return add_metaspace(loader, pre);
    if (strcmp(type, "WhitespaceSplit") == 0 || strcmp(type, "Digits") == 0 || strcmp(type, "Punctuation") == 0)
        return add_classes(loader, pre, type);
    if (strcmp(type, "Whitespace") == 0) {
        TRY(add_piece(loader, PIECE_WORDS, &step));
        step->behavior = SPLIT_REMOVED;
        step->invert = true;
        return COHORT_OK;
    }
    if (strcmp(type, "CharDelimiterSplit") != 0)
        return bad_type(loader, "pre_tokenizer", type);
    TRY(add_piece(loader, PIECE_CHARACTER, &step));
    step->behavior = SPLIT_REMOVED;
    return read_character(loader, pre, "pre_tokenizer CharDelimiterSplit", "delimiter", &step->content);
}

cohort_status loader_pre_tokenizer(const struct loader *loader, const json_t *pre, int depth)
{
    if (pre == NULL || json_is_null(pre))
        return COHORT_OK;
    const char *type = loader_type(loader, pre, "pre_tokenizer");
    if (type == NULL)
        return COHORT_ERR_FORMAT;
    if (strcmp(type, "Sequence") != 0)
        return add_pre_tokenizer(loader, pre, type);
    const json_t *parts = sequence_parts(loader, pre, "pre_tokenizer", "pretokenizers", depth);
    if (parts == NULL)
        return COHORT_ERR_FORMAT;
    for (size_t i = 0; i < json_array_size(parts); i++)
        TRY(loader_pre_tokenizer(loader, json_array_get(parts, i), depth + 1));
    return COHORT_OK;
}

/* ---- post-processor ---- */

static cohort_status push_special(const struct loader *loader, const json_t *component, const json_t *item,
                                  struct token_list *out)
{
    const char *name = json_string_value(json_object_get(item, "id"));
    const json_t *special = name == NULL ? NULL : json_object_get(json_object_get(component, "special_tokens"), name);
    const json_t *ids = json_object_get(special, "ids");
    if (!json_is_array(ids) || json_array_size(ids) == 0)
        return WRONG(loader, "%s: post_processor TemplateProcessing: special_tokens has no ids for \"%.80s\"",
                     loader->origin, name == NULL ? "" : name);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        int32_t id = 0;
        TRY(tables_id(loader, json_array_get(ids, i), name, &id));
        if (id >= loader->tokenizer->size || (loader->tokenizer->entries[id].flags & TOKEN_PRESENT) == 0)
            return WRONG(loader, "%s: post_processor TemplateProcessing: \"%.80s\" has id %d, which is no token",
                         loader->origin, name, (int)id);
        TRY(token_list_push(out, id, loader->err));
    }
    return COHORT_OK;
}

/* single: special tokens, the text, special tokens. */
static cohort_status read_template(const struct loader *loader, const json_t *component)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    const json_t *single = json_object_get(component, "single");
    bool behind = false;
    if (!json_is_array(single))
        return WRONG(loader, "%s: post_processor TemplateProcessing.single: expected an array, found %s",
                     loader->origin, tokenizer_type_name(single));
    if (tokenizer->prefix.count + tokenizer->suffix.count > 0)
        return REFUSE(loader, "%s: post_processor: two TemplateProcessings that add tokens are not supported",
                      loader->origin);
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i), *special = json_object_get(item, "SpecialToken");
        if (special != NULL) {
            TRY(push_special(loader, component, special, behind ? &tokenizer->suffix : &tokenizer->prefix));
            continue;
        }
        const char *id = json_string_value(json_object_get(json_object_get(item, "Sequence"), "id"));
        if (id == NULL || strcmp(id, "A") != 0 || behind)
            return REFUSE(loader, "%s: post_processor TemplateProcessing.single: expected the sequence A once",
                          loader->origin);
        behind = true;
    }
    return behind ? COHORT_OK
                  : REFUSE(loader, "%s: post_processor TemplateProcessing.single: expected the sequence A once",
                           loader->origin);
}

cohort_status loader_post_processor(const struct loader *loader, const json_t *component, int depth)
{
    if (component == NULL || json_is_null(component))
        return COHORT_OK;
    const char *type = loader_type(loader, component, "post_processor");
    if (type == NULL)
        return COHORT_ERR_FORMAT;
    if (strcmp(type, "ByteLevel") == 0) /* says where tokens lie in a text, which nobody asks */
        return COHORT_OK;
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(loader, component);
    if (strcmp(type, "Sequence") != 0)
        return bad_type(loader, "post_processor", type);
    const json_t *parts = sequence_parts(loader, component, "post_processor", "processors", depth);
    if (parts == NULL)
        return COHORT_ERR_FORMAT;
    for (size_t i = 0; i < json_array_size(parts); i++)
        TRY(loader_post_processor(loader, json_array_get(parts, i), depth + 1));
    return COHORT_OK;
}

/* ---- decoder ---- */

static cohort_status read_count(const struct loader *loader, const json_t *object, const char *key, size_t *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > 1000)
        return WRONG(loader, "%s: decoder Strip.%s: expected a number from 0 to 1000", loader->origin, key);
    *out = (size_t)json_integer_value(value);
    return COHORT_OK;
}

/* Behind Fuse there is one text, of which the start is stripped as it comes. */
static cohort_status strip_whole(const struct loader *loader, const json_t *part)
{
    struct decoder *decoder = &loader->tokenizer->decoder;
    size_t stop = 0;
    if (decoder->strip.length > 0)
        return REFUSE(loader, "%s: decoder: a second Strip behind Fuse is not supported", loader->origin);
    TRY(read_character(loader, part, "decoder Strip", "content", &decoder->strip));
    TRY(read_count(loader, part, "start", &decoder->n_strip));
    TRY(read_count(loader, part, "stop", &stop));
    return stop == 0
               ? COHORT_OK
               : REFUSE(loader, "%s: decoder Strip.stop behind Fuse is not supported: expected 0", loader->origin);
}

static cohort_status read_decode(const struct loader *loader, const json_t *part, const char *type,
                                 struct decode_step *step)
{
    const char *text = NULL;
    size_t length = 0;
    bool literal = false;
    enum prepend_scheme scheme = PREPEND_ALWAYS;
    if (strcmp(type, "Replace") == 0) {
        step->kind = DECODE_REPLACE;
        TRY(loader_text(loader, part, "decoder Replace", "content", &step->content));
        return read_pattern(loader, part, "decoder Replace", &step->pattern, &text, &length, &literal);
    }
    if (strcmp(type, "Metaspace") == 0) {
        step->kind = DECODE_METASPACE;
        TRY(read_character(loader, part, "decoder Metaspace", "replacement", &step->content));
        TRY(read_scheme(loader, part, "decoder Metaspace", &scheme));
        step->drop_first = scheme != PREPEND_NEVER;
        return COHORT_OK;
    }
    step->kind = DECODE_STRIP;
    TRY(read_character(loader, part, "decoder Strip", "content", &step->content));
    TRY(read_count(loader, part, "start", &step->start));
    TRY(read_count(loader, part, "stop", &step->stop));
    return COHORT_OK;
}

static cohort_status add_decoder(const struct loader *loader, const json_t *part, const char *type)
{
    struct decoder *decoder = &loader->tokenizer->decoder;
    const bool joined = decoder->byte_level || decoder->byte_fallback || decoder->fused;
    const bool strips = strcmp(type, "Strip") == 0;
    if (strcmp(type, "Fuse") == 0) {
        decoder->fused = true;
        return COHORT_OK;
    }
    if (strips && (decoder->fused || decoder->byte_level))
        return strip_whole(loader, part);
    if (!strips && strcmp(type, "ByteLevel") != 0 && strcmp(type, "ByteFallback") != 0 &&
        strcmp(type, "Replace") != 0 && strcmp(type, "Metaspace") != 0)
        return bad_type(loader, "decoder", type);
    if (joined)
        return REFUSE(loader, "%s: decoder \"%.80s\" behind ByteLevel, ByteFallback or Fuse is not supported",
                      loader->origin, type);
    if (strcmp(type, "ByteLevel") == 0) {
        decoder->byte_level = true;
        return COHORT_OK;
    }
    if (strcmp(type, "ByteFallback") == 0) {
        decoder->byte_fallback = true;
        return COHORT_OK;
    }
    if (decoder->n_steps == TOKENIZER_MAX_STEPS)
        return WRONG(loader, "%s: decoder: more than %d steps", loader->origin, TOKENIZER_MAX_STEPS);
    TRY(mem_grow(&decoder->steps, &decoder->step_capacity, decoder->n_steps + 1, sizeof *decoder->steps,
                 "steps of the decoder", loader->err));
    return read_decode(loader, part, type, &decoder->steps[decoder->n_steps++]);
}

cohort_status loader_decoder(const struct loader *loader, const json_t *decoder, int depth)
{
    const char *type = loader_type(loader, decoder, "decoder");
    if (type == NULL)
        return COHORT_ERR_FORMAT;
    if (strcmp(type, "Sequence") != 0)
        return add_decoder(loader, decoder, type);
    const json_t *parts = sequence_parts(loader, decoder, "decoder", "decoders", depth);
    if (parts == NULL)
        return COHORT_ERR_FORMAT;
    for (size_t i = 0; i < json_array_size(parts); i++)
        TRY(loader_decoder(loader, json_array_get(parts, i), depth + 1));
    return COHORT_OK;
}
