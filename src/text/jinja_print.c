/* Values as text, as Python's str, repr and json.dumps write them, and printf-style formatting. */
#include "text/jinja_internal.h"

#include "base/number.h"

#include <math.h>
#include <string.h>
#include <utf8proc.h>

static cohort_status build_text(struct jinja_builder *builder, const char *text, uint8_t tag)
{
    return jinja_build_bytes(builder, text, strlen(text), tag);
}

/* Python's repr of a float: the shortest digits that read back to it, with a point or an exponent. */
enum { REAL_BYTES = NUMBER_BYTES + 4 };
static void write_real(double real, bool json, char out[REAL_BYTES])
{
    if (isnan(real) || isinf(real)) {
        strcpy(out, isnan(real) ? (json ? "NaN" : "nan")
                    : real > 0  ? (json ? "Infinity" : "inf")
                                : (json ? "-Infinity" : "-inf"));
        return;
    }
    if (real != 0.0 && (fabs(real) < 1e-4 || fabs(real) >= 1e16)) { /* with an exponent */
        double back = 0.0;
        for (int digits = 0; digits < 17 && (digits == 0 || back != real); digits++) {
            number_format(out, REAL_BYTES, "%.*e", digits, real);
            (void)number_read(out, strlen(out), &back);
        }
        return;
    }
    number_write_double(real, out);
    if (strchr(out, '.') == NULL)
        strcat(out, ".0");
}

static void write_integer(int64_t integer, char out[REAL_BYTES])
{
    char digits[24];
    size_t n = 0, at = 0;
    uint64_t rest = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
    do
        digits[n++] = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (integer < 0)
        out[at++] = '-';
    while (n > 0)
        out[at++] = digits[--n];
    out[at] = '\0';
}

/* A backslash, the letter kind and digits hexadecimal digits of c. */
static cohort_status build_hex(struct jinja_builder *builder, char kind, size_t digits, uint32_t c, uint8_t tag)
{
    char text[10] = {'\\', kind};
    for (size_t i = 0; i < digits; i++)
        text[2 + i] = "0123456789abcdef"[c >> (4 * (digits - 1 - i)) & 15];
    return jinja_build_bytes(builder, text, 2 + digits, tag);
}

/* A backslash and letter. */
static cohort_status build_escape(struct jinja_builder *builder, char letter, uint8_t tag)
{
    const char text[2] = {'\\', letter};
    TRY(jinja_step(builder->run, 1));
    return jinja_build_bytes(builder, text, 2, tag);
}

/* ---- str and repr ---- */

static bool is_printable(uint32_t c)
{
    if (c < 0x7f)
        return c >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

static cohort_status repr_string(struct jinja_builder *builder, const struct jinja_string *string)
{
    const bool single =
        memchr(string->bytes, '\'', string->length) == NULL || memchr(string->bytes, '"', string->length) != NULL;
    const uint32_t quote = single ? '\'' : '"';
    TRY(jinja_step(builder->run, string->length / 8));
    TRY(jinja_build_character(builder, quote, jinja_tag_at(string, 0)));
    for (size_t at = 0; at < string->length;) {
        uint32_t c = 0;
        const size_t n = utf8_decode(string->bytes + at, &c);
        const uint8_t tag = jinja_tag_at(string, at);
        if (c == quote || c == '\\')
            TRY(build_escape(builder, (char)c, tag));
        else if (c == '\n' || c == '\r' || c == '\t')
            TRY(build_escape(builder, c == '\n' ? 'n' : c == '\r' ? 'r' : 't', tag));
        else if (!is_printable(c))
            TRY(build_hex(builder,
                          c < 0x100     ? 'x'
                          : c < 0x10000 ? 'u'
                                        : 'U',
                          c < 0x100     ? 2
                          : c < 0x10000 ? 4
                                        : 8,
                          c, tag));
        else
            TRY(jinja_build_bytes(builder, string->bytes + at, n, tag));
        at += n;
    }
    return jinja_build_character(builder, quote, jinja_tag_at(string, 0));
}

static cohort_status repr(struct jinja_builder *builder, const struct jinja_value *value, uint8_t tag);

static cohort_status repr_list(struct jinja_builder *builder, struct jinja_list *list)
{
    static const char *const opening[] = {"[", "(", "", "dict_items([", "dict_keys([", "dict_values(["},
                             *const closing[] = {"]", ")", "", "])", "])", "])"};
    const enum jinja_shape shape = list->shape;
    TRY(jinja_items(builder->run, list));
    if (shape == SHAPE_ITERATOR)
        return jinja_fail(builder->run,
                          "a generator is printed: '|list' makes a list of what map, select or reject gives");
    if (shape == SHAPE_RANGE)
        return jinja_fail(builder->run, "a range is printed: '|list' makes a list of it");
    TRY(build_text(builder, opening[shape], list->tag));
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0)
            TRY(build_text(builder, ", ", list->tag));
        TRY(repr(builder, &list->items[i], list->tag));
    }
    if (shape == SHAPE_TUPLE && list->count == 1)
        TRY(build_text(builder, ",", list->tag));
    return build_text(builder, closing[shape], list->tag);
}

static cohort_status repr_dict(struct jinja_builder *builder, const struct jinja_dict *dict)
{
    struct jinja_entry *entries = NULL;
    const size_t n = jinja_dict_count(dict);
    TRY(jinja_dict_entries(builder->run, dict, &entries));
    TRY(build_text(builder, "{", dict->tag));
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            TRY(build_text(builder, ", ", dict->tag));
        TRY(repr(builder, &entries[i].key, dict->tag));
        TRY(build_text(builder, ": ", dict->tag));
        TRY(repr(builder, &entries[i].value, dict->tag));
    }
    return build_text(builder, "}", dict->tag);
}

/* tag is that of what value lies in. */
static cohort_status repr(struct jinja_builder *builder, const struct jinja_value *value, uint8_t tag)
{
    char number[REAL_BYTES];
    struct jinja_run *run = builder->run;
    TRY(jinja_enter(run));
    switch (value->kind) {
    case KIND_NONE: TRY(build_text(builder, "None", tag)); break;
    case KIND_BOOL: TRY(build_text(builder, value->u.boolean ? "True" : "False", tag)); break;
    case KIND_INT:
        write_integer(value->u.integer, number);
        TRY(build_text(builder, number, tag));
        break;
    case KIND_FLOAT:
        write_real(value->u.real, false, number);
        TRY(build_text(builder, number, tag));
        break;
    case KIND_STRING:
        if (value->u.string->safe)
            TRY(build_text(builder, "Markup(", tag));
        TRY(repr_string(builder, value->u.string));
        if (value->u.string->safe)
            TRY(build_text(builder, ")", tag));
        break;
    case KIND_LIST: TRY(repr_list(builder, value->u.list)); break;
    case KIND_DICT: TRY(repr_dict(builder, value->u.dict)); break;
    case KIND_UNDEFINED: TRY(build_text(builder, "Undefined", tag)); break;
    default: return jinja_fail(run, "a %s cannot be printed", jinja_type_name(value));
    }
    run->depth++;
    return COHORT_OK;
}

cohort_status jinja_to_string(struct jinja_run *run, const struct jinja_value *value, const struct jinja_string **out)
{
    struct jinja_builder builder;
    struct jinja_value made;
    if (value->kind == KIND_STRING) {
        *out = value->u.string;
        return COHORT_OK;
    }
    jinja_build(&builder, run);
    if (value->kind != KIND_UNDEFINED && value->kind != KIND_ABSENT)
        TRY(repr(&builder, value, JINJA_TEMPLATE));
    TRY(jinja_build_end(&builder, &made));
    *out = made.u.string;
    return COHORT_OK;
}

/* ---- JSON ---- */

static cohort_status emit_value(struct jinja_builder *builder, const struct jinja_value *value,
                                const struct jinja_json_form *form, size_t level, uint8_t tag);

static cohort_status emit_escape(struct jinja_builder *builder, uint32_t c, uint8_t tag)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    const char *found = c > 0 && c < 0x80 ? strchr(from, (int)c) : NULL;
    if (found != NULL)
        return build_escape(builder, to[found - from], tag);
    TRY(jinja_step(builder->run, 1));
    if (c < 0x10000)
        return build_hex(builder, 'u', 4, c, tag);
    TRY(build_hex(builder, 'u', 4, 0xd800 + ((c - 0x10000) >> 10), tag));
    return build_hex(builder, 'u', 4, 0xdc00 + ((c - 0x10000) & 0x3ff), tag);
}

static cohort_status emit_string(struct jinja_builder *builder, const struct jinja_string *string, bool ascii,
                                 uint8_t outer)
{
    const uint8_t tag = string->length > 0 ? jinja_tag_at(string, 0) : outer;
    size_t from = 0;
    TRY(jinja_step(builder->run, string->length / 32));
    TRY(jinja_build_character(builder, '"', tag));
    for (size_t at = 0; at < string->length;) {
        const unsigned char byte = (unsigned char)string->bytes[at];
        if (byte >= 0x20 && byte != '"' && byte != '\\' && (byte < 0x7f || !ascii)) {
            at++;
            continue;
        }
        uint32_t c = 0;
        const size_t n = utf8_decode(string->bytes + at, &c);
        TRY(jinja_build_part(builder, string, from, at));
        TRY(emit_escape(builder, c, jinja_tag_at(string, at)));
        at += n;
        from = at;
    }
    TRY(jinja_build_part(builder, string, from, string->length));
    return jinja_build_character(builder, '"', string->length > 0 ? jinja_tag_at(string, string->length - 1) : outer);
}

static cohort_status emit_break(struct jinja_builder *builder, const struct jinja_json_form *form, size_t level,
                                uint8_t tag)
{
    if (form->indent == NULL)
        return COHORT_OK;
    TRY(build_text(builder, "\n", tag));
    for (size_t i = 0; i < level; i++)
        TRY(jinja_build_bytes(builder, form->indent->bytes, form->indent->length, tag));
    return COHORT_OK;
}

static cohort_status emit_list(struct jinja_builder *builder, struct jinja_list *list,
                               const struct jinja_json_form *form, size_t level, uint8_t outer)
{
    const uint8_t tag = list->tag != 0 ? list->tag : outer;
    if (list->shape > SHAPE_TUPLE)
        return jinja_fail(builder->run, "a %s cannot be written as JSON",
                          jinja_type_name(&(struct jinja_value){.kind = KIND_LIST, .u.list = list}));
    TRY(jinja_items(builder->run, list));
    TRY(build_text(builder, "[", tag));
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0)
            TRY(jinja_build_bytes(builder, form->item_separator->bytes, form->item_separator->length, tag));
        TRY(emit_break(builder, form, level + 1, tag));
        TRY(emit_value(builder, &list->items[i], form, level + 1, tag));
    }
    if (list->count > 0)
        TRY(emit_break(builder, form, level, tag));
    return build_text(builder, "]", tag);
}

static cohort_status emit_key(struct jinja_builder *builder, const struct jinja_value *key,
                              const struct jinja_json_form *form, uint8_t tag)
{
    if (key->kind == KIND_STRING)
        return emit_string(builder, key->u.string, form->ascii, tag);
    if (key->kind != KIND_INT && key->kind != KIND_FLOAT && key->kind != KIND_BOOL && key->kind != KIND_NONE)
        return jinja_fail(builder->run, "a %s cannot be a key in JSON", jinja_type_name(key));
    TRY(build_text(builder, "\"", tag));
    TRY(emit_value(builder, key, form, 0, tag));
    return build_text(builder, "\"", tag);
}

static cohort_status emit_dict(struct jinja_builder *builder, const struct jinja_dict *dict,
                               const struct jinja_json_form *form, size_t level, uint8_t outer)
{
    struct jinja_entry *entries = NULL;
    const size_t n = jinja_dict_count(dict);
    const uint8_t tag = dict->tag != 0 ? dict->tag : outer;
    TRY(jinja_dict_entries(builder->run, dict, &entries));
    if (form->sort)
        TRY(jinja_sort_entries(builder->run, entries, n));
    TRY(build_text(builder, "{", tag));
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            TRY(jinja_build_bytes(builder, form->item_separator->bytes, form->item_separator->length, tag));
        TRY(emit_break(builder, form, level + 1, tag));
        TRY(emit_key(builder, &entries[i].key, form, tag));
        TRY(jinja_build_bytes(builder, form->key_separator->bytes, form->key_separator->length, tag));
        TRY(emit_value(builder, &entries[i].value, form, level + 1, tag));
    }
    if (n > 0)
        TRY(emit_break(builder, form, level, tag));
    return build_text(builder, "}", tag);
}

static cohort_status emit_value(struct jinja_builder *builder, const struct jinja_value *value,
                                const struct jinja_json_form *form, size_t level, uint8_t tag)
{
    char number[REAL_BYTES];
    struct jinja_run *run = builder->run;
    TRY(jinja_enter(run));
    switch (value->kind) {
    case KIND_NONE: TRY(build_text(builder, "null", tag)); break;
    case KIND_BOOL: TRY(build_text(builder, value->u.boolean ? "true" : "false", tag)); break;
    case KIND_INT:
        write_integer(value->u.integer, number);
        TRY(build_text(builder, number, tag));
        break;
    case KIND_FLOAT:
        write_real(value->u.real, true, number);
        TRY(build_text(builder, number, tag));
        break;
    case KIND_STRING: TRY(emit_string(builder, value->u.string, form->ascii, tag)); break;
    case KIND_LIST: TRY(emit_list(builder, value->u.list, form, level, tag)); break;
    case KIND_DICT: TRY(emit_dict(builder, value->u.dict, form, level, tag)); break;
    case KIND_UNDEFINED: return jinja_fail_undefined(run, value);
    default: return jinja_fail(run, "a %s cannot be written as JSON", jinja_type_name(value));
    }
    run->depth++;
    return COHORT_OK;
}

cohort_status jinja_to_json(struct jinja_run *run, const struct jinja_value *value, const struct jinja_json_form *form,
                            struct jinja_value *out)
{
    struct jinja_builder builder;
    jinja_build(&builder, run);
    TRY(emit_value(&builder, value, form, 0, JINJA_TEMPLATE));
    return jinja_build_end(&builder, out);
}

/* ---- printf-style formatting ---- */

struct formatting {
    struct jinja_builder *builder;
    struct jinja_list *values; /* NULL: one value */
    const struct jinja_value *value;
    size_t next;
};

static cohort_status next_value(struct formatting *f, const struct jinja_value **out)
{
    const size_t count = f->values != NULL ? f->values->count : 1;
    if (f->next >= count)
        return jinja_fail(f->builder->run, "too few values for a format");
    *out = f->values != NULL ? &f->values->items[f->next] : f->value;
    f->next++;
    return COHORT_OK;
}

/* What may stand between % and the conversion's letter. */
static bool is_format_flag(char c) { return c != '\0' && strchr("-+ #0123456789.", c) != NULL; }

/* %[flags][width][.precision]conversion of numbers: spec is that text, for snprintf. */
static cohort_status format_number(struct formatting *f, const char *flags, char conversion,
                                   const struct jinja_value *value, uint8_t tag)
{
    char spec[32], text[400];
    struct jinja_run *run = f->builder->run;
    if (value->kind == KIND_UNDEFINED)
        return jinja_fail_undefined(run, value);
    if (value->kind != KIND_INT && value->kind != KIND_FLOAT && value->kind != KIND_BOOL)
        return jinja_fail(run, "%%%c wants a number, not a %s", conversion, jinja_type_name(value));
    const bool integer = strchr("dixX", conversion) != NULL;
    const double real = value->kind == KIND_FLOAT ? value->u.real
                        : value->kind == KIND_INT ? (double)value->u.integer
                                                  : (double)value->u.boolean;
    number_format(spec, sizeof spec, "%%%s%s%c", flags, integer ? "ll" : "", conversion == 'i' ? 'd' : conversion);
    if (integer && value->kind == KIND_FLOAT && (isnan(real) || fabs(real) >= 0x1p63))
        return jinja_fail(run, "a number is too large for %%%c", conversion);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* made above, of checked parts */
    if (integer)
        number_format(text, sizeof text, spec,
                      value->kind == KIND_FLOAT ? (long long)value->u.real
                      : value->kind == KIND_INT ? (long long)value->u.integer
                                                : (long long)value->u.boolean);
    else
        number_format(text, sizeof text, spec, real);
#pragma GCC diagnostic pop
    return build_text(f->builder, text, tag);
}

/* %[flags][width]s, and r. The width counts characters. */
static cohort_status format_text(struct formatting *f, const char *flags, const struct jinja_string *string,
                                 uint8_t tag)
{
    bool left = false;
    size_t width = 0, length = string->length, n = jinja_characters(string);
    for (; *flags != '\0' && *flags != '.'; flags++) {
        if (*flags == '-')
            left = true;
        else if (*flags >= '0' && *flags <= '9')
            width = width * 10 + (size_t)(*flags - '0');
    }
    if (*flags == '.') {
        size_t most = 0;
        for (flags++; *flags != '\0'; flags++)
            most = most * 10 + (size_t)(*flags - '0');
        if (n > most) {
            n = most;
            length = jinja_character_at(string, most);
        }
    }
    for (size_t i = n; !left && i < width; i++)
        TRY(build_text(f->builder, " ", tag));
    TRY(jinja_build_part(f->builder, string, 0, length));
    for (size_t i = n; left && i < width; i++)
        TRY(build_text(f->builder, " ", tag));
    return COHORT_OK;
}

/* Strings that formatting needs are made before the format is built: a builder tolerates no other. */
static cohort_status format_strings(struct jinja_run *run, const struct jinja_string *format, struct formatting *f)
{
    struct jinja_value list;
    size_t n = f->values != NULL ? f->values->count : 1, next = 0;
    TRY(jinja_list_new(run, SHAPE_TUPLE, n, &list));
    for (size_t i = 0; i < n; i++)
        list.u.list->items[i] = f->values != NULL ? f->values->items[i] : *f->value;
    for (size_t at = 0; at + 1 < format->length; at++) {
        if (format->bytes[at] != '%')
            continue;
        at++;
        while (at < format->length && is_format_flag(format->bytes[at]))
            at++;
        if (at >= format->length || format->bytes[at] == '%')
            continue;
        const bool is_repr = format->bytes[at] == 'r';
        if ((format->bytes[at] == 's' || is_repr) && next < n) {
            struct jinja_value *item = &list.u.list->items[next];
            struct jinja_builder builder;
            const struct jinja_string *string = NULL;
            if (is_repr) {
                jinja_build(&builder, run);
                TRY(repr(&builder, item, JINJA_TEMPLATE));
                TRY(jinja_build_end(&builder, item));
            } else {
                TRY(jinja_to_string(run, item, &string));
                *item = jinja_string_value(string);
            }
        }
        next++;
    }
    f->values = list.u.list;
    return COHORT_OK;
}

/* One conversion; at is behind the %. Moves at behind it. */
static cohort_status format_one(struct formatting *f, const struct jinja_string *format, size_t *at)
{
    char flags[16];
    size_t n = 0;
    const uint8_t tag = jinja_tag_at(format, *at - 1);
    const struct jinja_value *value = NULL;
    while (*at < format->length && is_format_flag(format->bytes[*at]) && n < sizeof flags - 1)
        flags[n++] = format->bytes[(*at)++];
    flags[n] = '\0';
    const size_t signs = strspn(flags, "-+ #0"), width = strspn(flags + signs, "0123456789");
    const char *rest = flags + signs + width;
    const size_t precision = *rest == '.' ? strspn(rest + 1, "0123456789") : 0;
    if (*at >= format->length || signs > 5 || width > 3 || precision > 2 || strlen(rest) != precision + (*rest == '.'))
        return jinja_fail(f->builder->run, "a format ends behind '%%', or its width or precision is none or too large");
    const char conversion = format->bytes[(*at)++];
    if (conversion == '%')
        return build_text(f->builder, "%", tag);
    if (conversion == '\0' || strchr("srdixXeEfFgG", conversion) == NULL)
        return jinja_fail(f->builder->run, "formats know %%s, %%r, %%d, %%i, %%x, %%e, %%f and %%g, not '%%%c'",
                          conversion >= 0x20 && conversion < 0x7f ? conversion : '?');
    TRY(next_value(f, &value));
    if (conversion == 's' || conversion == 'r')
        return format_text(f, flags, value->u.string, tag);
    return format_number(f, flags, conversion, value, tag);
}

cohort_status jinja_format(struct jinja_run *run, const struct jinja_string *format, const struct jinja_value *values,
                           struct jinja_value *out)
{
    struct jinja_builder builder;
    struct formatting f = {.builder = &builder, .value = values};
    size_t from = 0;
    if (values->kind == KIND_LIST && values->u.list->shape == SHAPE_TUPLE)
        f.values = values->u.list;
    TRY(format_strings(run, format, &f));
    jinja_build(&builder, run);
    for (size_t at = 0; at < format->length;) {
        if (format->bytes[at] != '%') {
            at++;
            continue;
        }
        TRY(jinja_build_part(&builder, format, from, at));
        at++;
        TRY(format_one(&f, format, &at));
        from = at;
    }
    TRY(jinja_build_part(&builder, format, from, format->length));
    const bool indexed = values->kind == KIND_DICT || values->kind == KIND_UNDEFINED ||
                         (values->kind == KIND_LIST && values->u.list->shape != SHAPE_TUPLE);
    if (f.next < f.values->count && !indexed) /* as in Python, which takes what has an index for a dict */
        return jinja_fail(run, "more values than a format has places");
    return jinja_build_end(&builder, out);
}
