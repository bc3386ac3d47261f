/* Options from and to YAML: one flat mapping of scalars and sequences of scalars. It reads libyaml's events, not its
 * documents, so that every message has the place. Whatever YAML has beyond that (anchors, tags, nesting, several
 * documents) is refused by name, because reading half of it would be worse than refusing it (I7). */
#include "base/file.h"
#include "run/options_internal.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>
#include <yaml.h>

enum { FILE_LIMIT = 1 << 20, PLACE_LIMIT = 400 };

struct reader {
    struct options *options;
    const char *path;
    const char *bytes;
    size_t n_bytes;
    yaml_parser_t parser;
    bool *seen; /* by value of options */
    cohort_error *err;
};

static cohort_status fail(struct reader *reader, yaml_mark_t mark, const char *problem, const char *advice)
{
    return error_set(reader->err, COHORT_ERR_FORMAT, "%s:%zu:%zu: %s%s%s", reader->path, mark.line + 1, mark.column + 1,
                     problem, advice[0] != '\0' ? "; " : "", advice);
}

/* Reports an error of libyaml: its scanner gives marks, its reader of characters only an offset. */
static cohort_status parser_failure(struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    const char *problem = parser->problem != NULL ? parser->problem : "cannot be read";
    yaml_mark_t mark = parser->problem_mark;
    if (parser->error == YAML_MEMORY_ERROR)
        return error_set(reader->err, COHORT_ERR_MEMORY, "%s: out of memory", reader->path);
    if (parser->error == YAML_READER_ERROR) {
        memset(&mark, 0, sizeof mark);
        for (size_t i = 0; i < reader->n_bytes && i < parser->problem_offset; i++) {
            mark.column++;
            if (reader->bytes[i] == '\n') {
                mark.line++;
                mark.column = 0;
            }
        }
    }
    return error_set(reader->err, COHORT_ERR_FORMAT, "%s:%zu:%zu: not YAML: %s%s%s", reader->path, mark.line + 1,
                     mark.column + 1, problem, parser->context != NULL ? " " : "",
                     parser->context != NULL ? parser->context : "");
}

static cohort_status next_event(struct reader *reader, yaml_event_t *event)
{
    if (!yaml_parser_parse(&reader->parser, event))
        return parser_failure(reader);
    return COHORT_OK;
}

static cohort_status refuse_extras(struct reader *reader, const yaml_event_t *event, const yaml_char_t *anchor,
                                   const yaml_char_t *tag)
{
    if (anchor != NULL)
        return fail(reader, event->start_mark, "anchors are not supported", "write the value out");
    if (tag != NULL)
        return fail(reader, event->start_mark, "tags are not supported", "leave the tag out");
    return COHORT_OK;
}

/* Checks that the event is a scalar without anchor, tag or NUL. what: "a name", "a value". */
static cohort_status check_scalar(struct reader *reader, const yaml_event_t *event, const char *expected)
{
    struct text problem = {0};
    cohort_status status = COHORT_OK;
    switch (event->type) {
    case YAML_SCALAR_EVENT: break;
    case YAML_ALIAS_EVENT: return fail(reader, event->start_mark, "aliases are not supported", "write the value out");
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT:
        TRY_GOTO(text_printf(&problem, reader->err, "expected %s, found a %s", expected,
                             event->type == YAML_MAPPING_START_EVENT ? "mapping" : "sequence"));
        status = fail(reader, event->start_mark, problem.data, "options are flat: one 'name: value' a line");
        goto cleanup;
    default: return fail(reader, event->start_mark, "expected a value", "");
    }
    TRY(refuse_extras(reader, event, event->data.scalar.anchor, event->data.scalar.tag));
    if (memchr(event->data.scalar.value, '\0', event->data.scalar.length) != NULL)
        return fail(reader, event->start_mark, "a NUL character is not allowed", "");
cleanup:
    text_free(&problem);
    return status;
}

static bool is_null(const yaml_event_t *event)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    if (event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp((const char *)event->data.scalar.value, words[i]) == 0)
            return true;
    return false;
}

/* The scalar as options_parse takes it: numbers go through what YAML and Python make of them. */
static cohort_status plain_form(struct reader *reader, const struct option_spec *spec, const yaml_event_t *event,
                                const char *place, char number[OPTIONS_NUMBER_BYTES], const char **text)
{
    const bool quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    *text = (const char *)event->data.scalar.value;
    if (spec->type != OPTION_TYPE_INT && spec->type != OPTION_TYPE_FLOAT && !options_list_of_numbers(spec) &&
        !spec->pairs)
        return COHORT_OK;
    /* No number is this long, and a comma separates the items of a list in one scalar. */
    if (event->data.scalar.length >= OPTIONS_NUMBER_BYTES || strchr(*text, ',') != NULL)
        return COHORT_OK;
    const char *reason = options_yaml_number(*text, quoted, number);
    if (reason != NULL)
        return error_set(reader->err, COHORT_ERR_FORMAT, "%s: %s cannot be %.80s, which %s", place, spec->name, *text,
                         reason);
    *text = number;
    return COHORT_OK;
}

static cohort_status read_sequence(struct reader *reader, struct option_value *parsed, const char *place)
{
    for (;;) {
        yaml_event_t event;
        TRY(next_event(reader, &event));
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            parsed->has_value = true;
            return COHORT_OK;
        }
        cohort_status status = check_scalar(reader, &event, "an item");
        if (status == COHORT_OK && is_null(&event))
            status = fail(reader, event.start_mark, "an item of the list is empty", "");
        char number[OPTIONS_NUMBER_BYTES];
        const char *text = NULL;
        if (status == COHORT_OK)
            status = plain_form(reader, parsed->spec, &event, place, number, &text);
        if (status == COHORT_OK)
            status = options_add_item(parsed, text, strlen(text), place, reader->err);
        yaml_event_delete(&event);
        TRY(status);
    }
}

static bool names_data(const struct option_spec *spec)
{
    return spec->id == OPTION_DATA || spec->id == OPTION_EVAL_DATA || spec->id == OPTION_BATCH;
}

/* A list of data files, as one value with commas between them (data_paths.h). */
static cohort_status read_data_files(struct reader *reader, struct option_value *parsed, const char *place)
{
    struct text all = {0};
    cohort_status status = COHORT_OK;
    bool ended = false;
    while (!ended) {
        yaml_event_t event;
        TRY_GOTO(next_event(reader, &event));
        ended = event.type == YAML_SEQUENCE_END_EVENT;
        if (!ended)
            status = check_scalar(reader, &event, "a data file");
        if (!ended && status == COHORT_OK && is_null(&event))
            status = fail(reader, event.start_mark, "an item of the list is empty", "");
        if (!ended && status == COHORT_OK && all.length > 0)
            status = text_append(&all, ",", 1, reader->err);
        for (size_t i = 0; !ended && status == COHORT_OK && i < event.data.scalar.length; i++)
            status = text_printf(&all, reader->err, event.data.scalar.value[i] == ',' ? "\\%c" : "%c",
                                 event.data.scalar.value[i]);
        yaml_event_delete(&event);
        TRY_GOTO(status);
    }
    status = options_parse(parsed, all.data == NULL ? "" : all.data, place, reader->err);
cleanup:
    text_free(&all);
    return status;
}

/* One value of a mapping of parameters, as the item "NAME=VALUE"; null leaves the parameter out. */
static cohort_status read_parameter(struct reader *reader, struct option_value *parsed, const yaml_event_t *key,
                                    const yaml_event_t *value, const char *place)
{
    struct text item = {0};
    char number[OPTIONS_NUMBER_BYTES];
    const char *text = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(check_scalar(reader, key, "the name of a parameter"));
    TRY_GOTO(check_scalar(reader, value, "the value of a parameter"));
    if (is_null(value))
        goto cleanup;
    TRY_GOTO(plain_form(reader, parsed->spec, value, place, number, &text));
    TRY_GOTO(text_printf(&item, reader->err, "%s=%s", (const char *)key->data.scalar.value, text));
    TRY_GOTO(options_add_item(parsed, item.data, item.length, place, reader->err));
cleanup:
    text_free(&item);
    return status;
}

static cohort_status read_parameters(struct reader *reader, struct option_value *parsed, const char *place)
{
    for (;;) {
        yaml_event_t key, value;
        TRY(next_event(reader, &key));
        if (key.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&key);
            parsed->has_value = true;
            return COHORT_OK;
        }
        cohort_status status = next_event(reader, &value);
        if (status == COHORT_OK) {
            status = read_parameter(reader, parsed, &key, &value, place);
            yaml_event_delete(&value);
        }
        yaml_event_delete(&key);
        TRY(status);
    }
}

/* The value of one option. *unset: null, or what is TRL's null, was written where that means "no value". */
static cohort_status read_value(struct reader *reader, struct option_value *parsed, const yaml_event_t *event,
                                const char *place, bool *unset)
{
    const struct option_spec *spec = parsed->spec;
    if (event->type == YAML_SEQUENCE_START_EVENT && spec->type == OPTION_TYPE_LIST) {
        TRY(refuse_extras(reader, event, event->data.sequence_start.anchor, event->data.sequence_start.tag));
        return read_sequence(reader, parsed, place);
    }
    if (event->type == YAML_SEQUENCE_START_EVENT && names_data(spec)) {
        TRY(refuse_extras(reader, event, event->data.sequence_start.anchor, event->data.sequence_start.tag));
        return read_data_files(reader, parsed, place);
    }
    if (event->type == YAML_MAPPING_START_EVENT && spec->pairs) {
        TRY(refuse_extras(reader, event, event->data.mapping_start.anchor, event->data.mapping_start.tag));
        return read_parameters(reader, parsed, place);
    }
    TRY(check_scalar(reader, event, spec->type == OPTION_TYPE_LIST ? "a list" : "a value"));
    if (is_null(event)) {
        if (spec->fallback != NULL)
            return error_set(reader->err, COHORT_ERR_FORMAT,
                             "%s: %s has no value; give one, or leave the line out for the default "
                             "(%s)",
                             place, spec->name, spec->fallback);
        *unset = true;
        return COHORT_OK;
    }
    char number[OPTIONS_NUMBER_BYTES];
    const char *text = NULL;
    TRY(plain_form(reader, spec, event, place, number, &text));
    char buffer[SYNONYM_BYTES];
    if (parsed->synonym != NULL)
        text = options_synonym_value(parsed->synonym, spec, text, buffer);
    *unset = text == NULL;
    return *unset ? COHORT_OK : options_parse(parsed, text, place, reader->err);
}

static cohort_status find_key(struct reader *reader, const yaml_event_t *event, struct option_value **slot)
{
    char place[PLACE_LIMIT];
    const char *name = (const char *)event->data.scalar.value;
    TRY(check_scalar(reader, event, "the name of an option"));
    snprintf(place, sizeof place, "%s:%zu:%zu", reader->path, event->start_mark.line + 1, event->start_mark.column + 1);
    *slot = options_find(reader->options, name);
    if (*slot == NULL) {
        options_unknown(reader->options, name, place, reader->err);
        if (reader->err != NULL)
            reader->err->status = COHORT_ERR_FORMAT;
        return COHORT_ERR_FORMAT;
    }
    if ((*slot)->spec->id == OPTION_CONFIG)
        return fail(reader, event->start_mark, "a file of options cannot name another ('config')",
                    "give --config on the command line");
    size_t index = (size_t)(*slot - reader->options->values);
    if (reader->seen[index]) {
        struct text problem = {0};
        cohort_status status = text_printf(&problem, reader->err, "'%s' is given twice", (*slot)->spec->name);
        if (status == COHORT_OK)
            status = fail(reader, event->start_mark, problem.data, "keep one of the lines");
        text_free(&problem);
        return status;
    }
    reader->seen[index] = true;
    return COHORT_OK;
}

static cohort_status read_pair(struct reader *reader, const yaml_event_t *key)
{
    struct option_value *slot = NULL;
    yaml_event_t event;
    char place[PLACE_LIMIT];
    bool unset = false;
    TRY(find_key(reader, key, &slot));
    TRY(next_event(reader, &event));
    snprintf(place, sizeof place, "%s:%zu:%zu", reader->path, event.start_mark.line + 1, event.start_mark.column + 1);
    struct option_value parsed = {.spec = slot->spec, .synonym = options_synonym((const char *)key->data.scalar.value)};
    cohort_status status = read_value(reader, &parsed, &event, place, &unset);
    if (status == COHORT_ERR_ARGUMENT) {
        status = COHORT_ERR_FORMAT; /* what is wrong is the file */
        if (reader->err != NULL)
            reader->err->status = status;
    }
    if (status == COHORT_OK && !slot->by_flag && !unset)
        options_take(slot, &parsed, false);
    options_value_clear(&parsed);
    yaml_event_delete(&event);
    return status;
}

static cohort_status read_mapping(struct reader *reader)
{
    for (;;) {
        yaml_event_t event;
        TRY(next_event(reader, &event));
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            return COHORT_OK;
        }
        cohort_status status = read_pair(reader, &event);
        yaml_event_delete(&event);
        TRY(status);
    }
}

/* Takes the next event, which must be of this type. */
static cohort_status expect(struct reader *reader, yaml_event_type_t type, const char *problem, const char *advice)
{
    yaml_event_t event;
    TRY(next_event(reader, &event));
    cohort_status status = COHORT_OK;
    if (event.type != type)
        status = fail(reader, event.start_mark, problem, advice);
    else if (type == YAML_MAPPING_START_EVENT)
        status = refuse_extras(reader, &event, event.data.mapping_start.anchor, event.data.mapping_start.tag);
    yaml_event_delete(&event);
    return status;
}

static cohort_status read_stream(struct reader *reader)
{
    static const char advice[] = "write one 'name: value' a line";
    TRY(expect(reader, YAML_STREAM_START_EVENT, "not YAML", ""));
    TRY(expect(reader, YAML_DOCUMENT_START_EVENT, "the file has no options", advice));
    TRY(expect(reader, YAML_MAPPING_START_EVENT, "expected a mapping of options", advice));
    TRY(read_mapping(reader));
    TRY(expect(reader, YAML_DOCUMENT_END_EVENT, "expected the end of the document", ""));
    return expect(reader, YAML_STREAM_END_EVENT, "a second document is not supported", "keep one document in the file");
}

cohort_status options_read_yaml(struct options *options, const char *path, cohort_error *err)
{
    struct text bytes = {0};
    struct reader reader = {.options = options, .path = path, .err = err};
    cohort_status status = COHORT_OK;
    bool started = false;
    TRY_GOTO(file_read(path, FILE_LIMIT, &bytes, err));
    TRY_GOTO(mem_alloc(&reader.seen, options->n_values, sizeof *reader.seen, "options", err));
    if (!yaml_parser_initialize(&reader.parser)) {
        status = error_set(err, COHORT_ERR_MEMORY, "%s: out of memory", path);
        goto cleanup;
    }
    started = true;
    reader.bytes = bytes.data;
    reader.n_bytes = bytes.length;
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)bytes.data, bytes.length);
    status = read_stream(&reader);
cleanup:
    if (started)
        yaml_parser_delete(&reader.parser);
    mem_free(reader.seen);
    text_free(&bytes);
    return status;
}

/* A double-quoted YAML scalar, which can hold any UTF-8 text: characters that YAML would fold,
 * strip or refuse are escaped. */
static cohort_status write_quoted(const char *name, const char *text, struct text *out, cohort_error *err)
{
    TRY(text_append(out, "\"", 1, err));
    for (const char *at = text; *at != '\0';) {
        utf8proc_int32_t code = 0;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)at, -1, &code);
        if (n <= 0)
            return error_set(err, COHORT_ERR_ARGUMENT, "%s: byte %zu of its value is not UTF-8, which YAML cannot hold",
                             name, (size_t)(at - text));
        if (code == '"' || code == '\\')
            TRY(text_printf(out, err, "\\%c", (char)code));
        else if (code == '\n')
            TRY(text_printf(out, err, "\\n"));
        else if (code < 0x20 || (code >= 0x7f && code <= 0x9f))
            TRY(text_printf(out, err, "\\x%02x", (unsigned)code));
        else if (code == 0x2028 || code == 0x2029 || code == 0xfeff || code >= 0xfffe)
            TRY(text_printf(out, err, "\\U%08x", (unsigned)code));
        else
            TRY(text_append(out, at, (size_t)n, err));
        at += n;
    }
    return text_append(out, "\"", 1, err);
}

static cohort_status write_float(const struct option_spec *spec, double number, struct text *out, cohort_error *err)
{
    const size_t begin = out->length;
    TRY(options_print_number(number, out, err));
    if (spec->count && out->length - begin > 2 && strcmp(out->data + out->length - 2, ".0") == 0)
        out->data[out->length -= 2] = '\0';
    return COHORT_OK;
}

/* A value that is no list, as a flag's text is. */
static cohort_status write_plain(const struct option_value *value, struct text *out, cohort_error *err)
{
    switch (value->spec->type) {
    case OPTION_TYPE_BOOL: return text_printf(out, err, value->boolean ? "true" : "false");
    case OPTION_TYPE_INT: return text_printf(out, err, "%lld", (long long)value->integer);
    case OPTION_TYPE_FLOAT: return write_float(value->spec, value->number, out, err);
    default: return text_append(out, value->text, strlen(value->text), err);
    }
}

cohort_status options_write_value(const struct options *options, const char *name, size_t i, struct text *out,
                                  bool *there, cohort_error *err)
{
    const struct option_value *value = options_find(options, name);
    const bool list = value != NULL && value->spec->type == OPTION_TYPE_LIST;
    *there = value != NULL && value->has_value && i < (list ? value->n_items : 1);
    if (!*there)
        return COHORT_OK;
    return list ? text_append(out, value->items[i], strlen(value->items[i]), err) : write_plain(value, out, err);
}

cohort_status options_write_yaml(const struct options *options, struct text *out, cohort_error *err)
{
    for (size_t i = 0; i < options->n_values; i++) {
        const struct option_value *value = &options->values[i];
        const struct option_spec *spec = value->spec;
        if (!value->has_value || spec->resume == RESUME_PLACE)
            continue;
        TRY(text_printf(out, err, "%s: ", spec->name));
        switch (spec->type) {
        case OPTION_TYPE_BOOL:
        case OPTION_TYPE_INT:
        case OPTION_TYPE_FLOAT:
        case OPTION_TYPE_ENUM: TRY(write_plain(value, out, err)); break;
        case OPTION_TYPE_STRING: TRY(write_quoted(spec->name, value->text, out, err)); break;
        case OPTION_TYPE_LIST:
            TRY(text_append(out, "[", 1, err));
            for (size_t item = 0; item < value->n_items; item++) {
                if (item > 0)
                    TRY(text_append(out, ", ", 2, err));
                TRY(write_quoted(spec->name, value->items[item], out, err));
            }
            TRY(text_append(out, "]", 1, err));
            break;
        }
        TRY(text_append(out, "\n", 1, err));
    }
    return COHORT_OK;
}
