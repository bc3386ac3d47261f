/* Filters over one value: text, numbers, JSON. Those over sequences are in jinja_list_filter.c. */
#include "text/jinja_internal.h"

#include "base/number.h"

#include <math.h>
#include <string.h>

/* An argument as a whole number, or value where it was not given. */
static cohort_status integer_or(struct jinja_call *call, size_t at, int64_t value, int64_t *out)
{
    *out = value;
    if (call->arg[at].kind == KIND_ABSENT)
        return COHORT_OK;
    return jinja_as_int(call->run, &call->arg[at], "an argument of a filter", out);
}

static bool is_given(const struct jinja_value *value) { return value->kind != KIND_ABSENT && value->kind != KIND_NONE; }

/* ---- text ---- */

static cohort_status filter_trim(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *string = NULL, *characters = NULL;
    TRY(jinja_to_string(call->run, &call->self, &string));
    if (is_given(&call->arg[0])) {
        if (call->arg[0].kind != KIND_STRING)
            return jinja_fail(call->run, "trim wants characters as a string");
        characters = call->arg[0].u.string;
    }
    return jinja_string_strip(call->run, string, characters, true, true, out);
}

static cohort_status change_case(struct jinja_call *call, enum jinja_case how, struct jinja_value *out)
{
    const struct jinja_string *string = NULL;
    TRY(jinja_to_string(call->run, &call->self, &string));
    return jinja_string_case(call->run, string, how, out);
}

static cohort_status filter_upper(struct jinja_call *call, struct jinja_value *out)
{
    return change_case(call, CASE_UPPER, out);
}

static cohort_status filter_lower(struct jinja_call *call, struct jinja_value *out)
{
    return change_case(call, CASE_LOWER, out);
}

static cohort_status filter_capitalize(struct jinja_call *call, struct jinja_value *out)
{
    return change_case(call, CASE_CAPITALIZE, out);
}

static cohort_status filter_title(struct jinja_call *call, struct jinja_value *out)
{
    return change_case(call, CASE_WORDS, out);
}

static cohort_status filter_string(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *string = NULL;
    TRY(jinja_to_string(call->run, &call->self, &string));
    *out = jinja_string_value(string);
    return COHORT_OK;
}

static cohort_status filter_safe(struct jinja_call *call, struct jinja_value *out)
{
    TRY(filter_string(call, out));
    return jinja_string_safe(call->run, out);
}

static cohort_status filter_forceescape(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *string = NULL;
    TRY(jinja_to_string(call->run, &call->self, &string));
    return jinja_string_escape(call->run, string, out);
}

static cohort_status filter_escape(struct jinja_call *call, struct jinja_value *out)
{
    *out = call->self;
    if (call->self.kind == KIND_STRING && call->self.u.string->safe)
        return COHORT_OK;
    return filter_forceescape(call, out);
}

static cohort_status filter_replace(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *string = NULL, *from = NULL, *to = NULL;
    int64_t limit = -1;
    TRY(jinja_to_string(call->run, &call->self, &string));
    TRY(jinja_to_string(call->run, &call->arg[0], &from));
    TRY(jinja_to_string(call->run, &call->arg[1], &to));
    if (is_given(&call->arg[2]))
        TRY(integer_or(call, 2, -1, &limit));
    return jinja_string_replace(call->run, string, from, to, limit, out);
}

/* What indent puts before a line. */
static cohort_status indentation(struct jinja_call *call, const struct jinja_string **out)
{
    struct jinja_value made;
    int64_t width = 0;
    if (call->arg[0].kind == KIND_STRING) {
        *out = call->arg[0].u.string;
        return COHORT_OK;
    }
    TRY(integer_or(call, 0, 4, &width));
    struct jinja_value blank, times = jinja_int(width);
    TRY(jinja_string_literal(call->run, " ", 1, JINJA_TEMPLATE, &blank));
    TRY(jinja_operate(call->run, OP_MUL, &blank, &times, &made));
    *out = made.u.string;
    return COHORT_OK;
}

static cohort_status filter_indent(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_run *run = call->run;
    const struct jinja_string *string = NULL, *indent = NULL;
    const bool first = jinja_truth(&call->arg[1]), blank = jinja_truth(&call->arg[2]);
    struct jinja_value lines, newline, ended;
    struct jinja_builder builder;
    if (call->self.kind != KIND_STRING)
        return jinja_fail(run, "indent wants a string, not a %s", jinja_type_name(&call->self));
    TRY(indentation(call, &indent));
    TRY(jinja_string_literal(run, "\n", 1, JINJA_TEMPLATE, &newline));
    TRY(jinja_string_concat(run, call->self.u.string, newline.u.string, &ended)); /* as jinja2 does for its lines */
    TRY(jinja_string_lines(run, ended.u.string, false, &lines));
    jinja_build(&builder, run);
    for (size_t i = 0; i < lines.u.list->count; i++) {
        string = lines.u.list->items[i].u.string;
        if (i > 0)
            TRY(jinja_build_bytes(&builder, "\n", 1, JINJA_TEMPLATE));
        if (i == 0 ? first : blank || string->length > 0)
            TRY(jinja_build_string(&builder, indent));
        TRY(jinja_build_string(&builder, string));
    }
    TRY(jinja_build_end(&builder, out));
    return call->self.u.string->safe ? jinja_string_safe(run, out) : COHORT_OK;
}

static cohort_status filter_center(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_string *string = NULL;
    int64_t width = 80;
    TRY(jinja_to_string(call->run, &call->self, &string));
    TRY(integer_or(call, 0, 80, &width));
    return jinja_string_pad(call->run, string, width, " ", PAD_BOTH, out);
}

static cohort_status filter_truncate(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_run *run = call->run;
    int64_t length = 255, leeway = 5;
    struct jinja_value end;
    TRY(integer_or(call, 0, 255, &length));
    if (is_given(&call->arg[3]))
        TRY(integer_or(call, 3, 5, &leeway));
    end = call->arg[2];
    if (end.kind == KIND_ABSENT)
        TRY(jinja_string_literal(run, "...", 3, JINJA_TEMPLATE, &end));
    if (call->self.kind != KIND_STRING || end.kind != KIND_STRING)
        return jinja_fail(run, "truncate wants strings");
    const struct jinja_string *string = call->self.u.string;
    const int64_t keep = length - (int64_t)jinja_characters(end.u.string);
    if (keep < 0 || leeway < 0)
        return jinja_fail(run, "truncate wants a length of at least that of its end");
    *out = call->self;
    if ((int64_t)jinja_characters(string) <= length || (int64_t)jinja_characters(string) - length <= leeway)
        return COHORT_OK;
    size_t to = jinja_character_at(string, (size_t)keep);
    if (!jinja_truth(&call->arg[1])) {
        size_t space = to;
        while (space > 0 && string->bytes[space - 1] != ' ')
            space--;
        to = space > 0 ? space - 1 : to;
    }
    struct jinja_value part;
    TRY(jinja_string_part(run, string, 0, to, &part));
    return jinja_string_concat(run, part.u.string, end.u.string, out);
}

static cohort_status filter_format(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_run *run = call->run;
    const struct jinja_string *string = NULL;
    struct jinja_value values;
    if (call->args->n_named > 0)
        return jinja_fail(run, "format takes no named arguments here");
    TRY(jinja_to_string(run, &call->self, &string));
    TRY(jinja_list_new(run, SHAPE_TUPLE, call->args->count, &values));
    for (size_t i = 0; i < call->args->count; i++)
        values.u.list->items[i] = call->args->values[i];
    return jinja_format(run, string, &values, out);
}

/* ---- JSON ---- */

static cohort_status json_separators(struct jinja_call *call, struct jinja_json_form *form)
{
    struct jinja_value value;
    struct jinja_list *list = NULL;
    if (is_given(&call->arg[2])) {
        TRY(jinja_iterate(call->run, &call->arg[2], &list));
        if (list->count != 2 || list->items[0].kind != KIND_STRING || list->items[1].kind != KIND_STRING)
            return jinja_fail(call->run, "the separators of tojson are two strings");
        form->item_separator = list->items[0].u.string;
        form->key_separator = list->items[1].u.string;
        return COHORT_OK;
    }
    TRY(jinja_string_literal(call->run, ", ", form->indent == NULL ? 2 : 1, JINJA_TEMPLATE, &value));
    form->item_separator = value.u.string;
    TRY(jinja_string_literal(call->run, ": ", 2, JINJA_TEMPLATE, &value));
    form->key_separator = value.u.string;
    return COHORT_OK;
}

static cohort_status filter_tojson(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_json_form form = {.ascii = jinja_truth(&call->arg[0]), .sort = jinja_truth(&call->arg[3])};
    struct jinja_value blank, times, indent = call->arg[1];
    if (is_given(&indent)) {
        if (indent.kind != KIND_STRING) {
            int64_t width = 0;
            TRY(jinja_as_int(call->run, &indent, "the indent of tojson", &width));
            times = jinja_int(width);
            TRY(jinja_string_literal(call->run, " ", 1, JINJA_TEMPLATE, &blank));
            TRY(jinja_operate(call->run, OP_MUL, &blank, &times, &indent));
        }
        form.indent = indent.u.string;
    }
    TRY(json_separators(call, &form));
    return jinja_to_json(call->run, &call->self, &form, out);
}

/* ---- numbers ---- */

/* string without white space around it and underscores within; false: it is too long for a number. */
static bool number_text(const struct jinja_string *string, char *text, size_t size, size_t *length)
{
    size_t from = 0, to = string->length;
    while (from < to && jinja_is_space((unsigned char)string->bytes[from]))
        from++;
    while (from < to && jinja_is_space((unsigned char)string->bytes[to - 1]))
        to--;
    *length = 0;
    for (size_t i = from; i < to; i++) {
        if (string->bytes[i] == '_' && i > from && i + 1 < to && string->bytes[i - 1] != '_' &&
            string->bytes[i + 1] != '_')
            continue;
        if (*length + 1 >= size)
            return false;
        text[(*length)++] = string->bytes[i];
    }
    text[*length] = '\0';
    return true;
}

/* Python's float(string). */
static bool read_real(const struct jinja_string *string, double *out)
{
    char text[256];
    size_t length = 0;
    if (!number_text(string, text, sizeof text, &length))
        return false;
    const char *word = text + (text[0] == '+' || text[0] == '-');
    const double sign = text[0] == '-' ? -1.0 : 1.0;
    if (ascii_same(word, "inf") || ascii_same(word, "infinity")) {
        *out = sign * (double)INFINITY;
        return true;
    }
    if (ascii_same(word, "nan")) {
        *out = (double)NAN;
        return true;
    }
    return number_read(text, length, out);
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'Z' ? c - 'A' + 10 : 99;
}

/* Python's int(string, base). */
static bool read_integer(const struct jinja_string *string, int64_t base, int64_t *out)
{
    char text[128];
    size_t length = 0, at = 0;
    if (!number_text(string, text, sizeof text, &length))
        return false;
    const bool negative = text[0] == '-';
    at += text[0] == '+' || text[0] == '-';
    if (text[at] == '0' && text[at + 1] != '\0') {
        const char mark = (char)(text[at + 1] | 0x20);
        if ((mark == 'x' && base == 16) || (mark == 'o' && base == 8) || (mark == 'b' && base == 2))
            at += 2;
    }
    *out = 0;
    if (at == length)
        return false;
    for (; at < length; at++) {
        const int digit = digit_of(text[at]);
        if (digit >= base || __builtin_mul_overflow(*out, base, out) ||
            __builtin_add_overflow(*out, (int64_t)(negative ? -digit : digit), out))
            return false;
    }
    return true;
}

static bool real_to_integer(double real, int64_t *out)
{
    if (isnan(real) || real < -0x1p63 || real >= 0x1p63)
        return false;
    *out = (int64_t)real;
    return true;
}

static cohort_status filter_int(struct jinja_call *call, struct jinja_value *out)
{
    int64_t base = 10, integer = 0;
    double real = 0.0;
    bool read = false;
    TRY(integer_or(call, 1, 10, &base));
    if (base < 2 || base > 36)
        return jinja_fail(call->run, "int wants a base of 2 to 36");
    switch (call->self.kind) {
    case KIND_UNDEFINED: return jinja_fail_undefined(call->run, &call->self);
    case KIND_INT: integer = call->self.u.integer, read = true; break;
    case KIND_BOOL: integer = call->self.u.boolean, read = true; break;
    case KIND_FLOAT: read = real_to_integer(call->self.u.real, &integer); break;
    case KIND_STRING:
        read = read_integer(call->self.u.string, base, &integer) ||
               (read_real(call->self.u.string, &real) && real_to_integer(real, &integer));
        break;
    default: break;
    }
    *out = read ? jinja_int(integer) : call->arg[0].kind == KIND_ABSENT ? jinja_int(0) : call->arg[0];
    return COHORT_OK;
}

static cohort_status filter_float(struct jinja_call *call, struct jinja_value *out)
{
    double real = 0.0;
    bool read = true;
    switch (call->self.kind) {
    case KIND_UNDEFINED: return jinja_fail_undefined(call->run, &call->self);
    case KIND_INT: real = (double)call->self.u.integer; break;
    case KIND_BOOL: real = (double)call->self.u.boolean; break;
    case KIND_FLOAT: real = call->self.u.real; break;
    case KIND_STRING: read = read_real(call->self.u.string, &real); break;
    default: read = false;
    }
    *out = read || call->arg[0].kind == KIND_ABSENT
               ? (struct jinja_value){.kind = KIND_FLOAT, .u.real = read ? real : 0.0}
               : call->arg[0];
    return COHORT_OK;
}

static cohort_status filter_abs(struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_value zero = jinja_int(0), self = call->self;
    *out = self;
    if (self.kind == KIND_FLOAT) {
        out->u.real = fabs(self.u.real);
        return COHORT_OK;
    }
    int64_t integer = 0;
    TRY(jinja_as_int(call->run, &self, "what abs is applied to", &integer));
    *out = jinja_int(integer);
    return integer < 0 ? jinja_operate(call->run, OP_SUB, &zero, &self, out) : COHORT_OK;
}

static cohort_status filter_round(struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_run *run = call->run;
    const struct jinja_value *self = &call->self, *method = &call->arg[1];
    int64_t precision = 0;
    char text[400];
    TRY(integer_or(call, 0, 0, &precision));
    if (self->kind != KIND_FLOAT && self->kind != KIND_INT && self->kind != KIND_BOOL)
        return self->kind == KIND_UNDEFINED ? jinja_fail_undefined(run, self) : jinja_fail(run, "round wants a number");
    if (precision < 0 || precision > 60)
        return jinja_fail(run, "round wants a precision of 0 to 60");
    const bool ceiling =
        method->kind == KIND_STRING && method->u.string->length == 4 && memcmp(method->u.string->bytes, "ceil", 4) == 0;
    const bool floored = method->kind == KIND_STRING && method->u.string->length == 5 &&
                         memcmp(method->u.string->bytes, "floor", 5) == 0;
    double real = self->kind == KIND_FLOAT ? self->u.real
                  : self->kind == KIND_INT ? (double)self->u.integer
                                           : (double)self->u.boolean;
    if (ceiling || floored) {
        const double scale = pow(10.0, (double)precision);
        real = (ceiling ? ceil(real * scale) : floor(real * scale)) / scale;
    } else if (method->kind != KIND_ABSENT && (method->kind != KIND_STRING || method->u.string->length != 6 ||
                                               memcmp(method->u.string->bytes, "common", 6) != 0)) {
        return jinja_fail(run, "round knows the methods common, ceil and floor");
    } else if (self->kind != KIND_FLOAT) { /* an integer stays one */
        *out = self->kind == KIND_INT ? *self : jinja_int(self->u.boolean);
        return COHORT_OK;
    } else if (isfinite(real)) {
        number_format(text, sizeof text, "%.*f", (int)precision, real);
        const double exact = real;
        if (!number_read(text, strlen(text), &real))
            real = exact;
    }
    *out = (struct jinja_value){.kind = KIND_FLOAT, .u.real = real};
    return COHORT_OK;
}

const struct jinja_builtin jinja_text_filters[] = {
    {.name = "trim", .parameters = "chars", .run = filter_trim},
    {.name = "upper", .parameters = "", .run = filter_upper},
    {.name = "lower", .parameters = "", .run = filter_lower},
    {.name = "capitalize", .parameters = "", .run = filter_capitalize},
    {.name = "title", .parameters = "", .run = filter_title},
    {.name = "string", .parameters = "", .run = filter_string},
    {.name = "safe", .parameters = "", .run = filter_safe},
    {.name = "escape", .parameters = "", .run = filter_escape},
    {.name = "e", .parameters = "", .run = filter_escape},
    {.name = "forceescape", .parameters = "", .run = filter_forceescape},
    {.name = "replace", .parameters = "old new count", .required = 2, .run = filter_replace},
    {.name = "indent", .parameters = "width first blank", .run = filter_indent},
    {.name = "center", .parameters = "width", .run = filter_center},
    {.name = "truncate", .parameters = "length killwords end leeway", .run = filter_truncate},
    {.name = "format", .run = filter_format},
    {.name = "tojson", .parameters = "ensure_ascii indent separators sort_keys", .run = filter_tojson},
    {.name = "int", .parameters = "default base", .run = filter_int},
    {.name = "float", .parameters = "default", .run = filter_float},
    {.name = "abs", .parameters = "", .run = filter_abs},
    {.name = "round", .parameters = "precision method", .run = filter_round},
    {.name = NULL}};

static const struct jinja_builtin *find_in(const struct jinja_builtin *table, const char *name)
{
    for (; table->name != NULL; table++)
        if (strcmp(table->name, name) == 0)
            return table;
    return NULL;
}

const struct jinja_builtin *jinja_find_filter(const char *name)
{
    const struct jinja_builtin *found = find_in(jinja_text_filters, name);
    return found != NULL ? found : find_in(jinja_list_filters, name);
}

const struct jinja_builtin *jinja_find_test(const char *name) { return find_in(jinja_test_table, name); }

const struct jinja_builtin *jinja_find_method(const char *name) { return find_in(jinja_methods, name); }
