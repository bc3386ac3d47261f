/* Values of options for one command: parsing, checking, typed reads.
 *
 * An `options` owns one value for each row of the table that its command knows. A value starts as its default (or
 * unset), and is replaced whole by options_set (flags) or options_read_yaml (files); a file never replaces a flag. A
 * text that does not parse leaves the value as it was. */
#include "base/number.h"
#include "run/options_internal.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define COMMAND_NAME(id, name, ...) #name,
static const char *const command_names[] = {COMMAND_LIST(COMMAND_NAME)};

const char *options_command_name(enum command command) { return command_names[command]; }

unsigned options_command(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(command_names[i], name) == 0)
            return 1u << i;
    return 0;
}

static char plain(char c) { return c == '-' ? '_' : c; }

bool options_same_name(const char *a, const char *b)
{
    for (; *a != '\0' && plain(*a) == plain(*b); a++, b++)
        ;
    return *a == '\0' && *b == '\0';
}

struct option_value *options_find(const struct options *options, const char *name)
{
    size_t n_aliases = 0;
    const struct option_alias *aliases = options_aliases(&n_aliases);
    for (size_t i = 0; i < n_aliases; i++)
        if (options_same_name(aliases[i].name, name))
            return options->by_id[aliases[i].id];
    for (size_t i = 0; i < options->n_values; i++)
        if (options_same_name(options->values[i].spec->name, name))
            return &options->values[i];
    const struct option_synonym *synonym = options_synonym(name);
    return synonym == NULL ? NULL : options->by_id[synonym->id];
}

const struct option_spec *options_row(unsigned commands, const char *name, size_t length)
{
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    for (size_t i = 0; i < count; i++)
        if ((table[i].commands & commands) != 0 && strncmp(table[i].name, name, length) == 0 &&
            table[i].name[length] == '\0')
            return &table[i];
    return NULL;
}

/* Levenshtein distance, at most limit + 1. Names longer than the row are far from all. */
static size_t name_distance(const char *a, const char *b, size_t limit)
{
    size_t row[64];
    size_t n = strlen(a), m = strlen(b);
    if (m >= sizeof row / sizeof row[0] || n >= sizeof row / sizeof row[0])
        return limit + 1;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (plain(a[i - 1]) != plain(b[j - 1]));
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

/* All names with ", " between them. */
#define NAME_BYTES(id, name, ...) +sizeof #name + 1
enum { OWNERS_BYTES = COMMAND_LIST(NAME_BYTES) };

/* The commands that know the name: "info, grpo". */
static const char *owners(const struct option_spec *table, size_t count, const char *name, char list[OWNERS_BYTES])
{
    list[0] = '\0';
    for (int c = 0; c < N_COMMANDS; c++)
        for (size_t i = 0; i < count; i++)
            if (options_same_name(table[i].name, name) && (table[i].commands & (1u << c)) != 0) {
                strcat(list, list[0] == '\0' ? "" : ", ");
                strcat(list, options_command_name((enum command)c));
                break;
            }
    return list;
}

/* Writes what the hint says for this command: the first target that it knows, or else which commands have one. */
static cohort_status tell_hint(const struct options *options, const struct option_hint *hint, const char *command,
                               const char *name, const char *origin, cohort_error *err)
{
    char target[64] = "", first[64] = "", other[64], list[OWNERS_BYTES];
    for (const char *at = hint->targets; at != NULL && *at != '\0' && target[0] == '\0';) {
        int n = (int)strcspn(at, "|");
        char *to = first[0] == '\0' ? first : other;
        snprintf(to, sizeof target, "%.*s", n, at);
        if (options_find(options, to) != NULL)
            snprintf(target, sizeof target, "%.*s", n, at);
        at += n;
        at += *at == '|';
    }
    const char *more = hint->says == NULL ? "" : hint->says;
    const char *stop = hint->says == NULL ? "" : "; ";
    if (target[0] != '\0')
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: %s has no option '%.80s': it is called '%s' here%s%s", origin,
                         command, name, target, stop, more);
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    if (first[0] != '\0')
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "%s: %s has no option '%.80s', called '%s' here (an option of %s)%s%s; "
                         "leave it out",
                         origin, command, name, first, owners(table, count, first, list), stop, more);
    return error_set(err, COHORT_ERR_ARGUMENT, "%s: %s has no option '%.80s': %s", origin, command, name, more);
}

cohort_status options_unknown(const struct options *options, const char *name, const char *origin, cohort_error *err)
{
    const char *command = "cohort";
    char list[OWNERS_BYTES];
    for (int i = 0; i < N_COMMANDS; i++)
        if (options->command == (enum option_command)(1 << i))
            command = options_command_name((enum command)i);
    /* A hint also says what an option of other commands is called in this one. */
    const struct option_hint *hint = options_hint(name);
    if (hint != NULL)
        return tell_hint(options, hint, command, name, origin, err);
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot != NULL && i < count; i++)
        if (options_same_name(table[i].name, dot + 1))
            return error_set(err, COHORT_ERR_ARGUMENT, "%s: options have no groups here: it is called '%s'", origin,
                             table[i].name);
    for (size_t i = 0; i < count; i++)
        if (options_same_name(table[i].name, name))
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "%s: '%s' is not an option of %s (it is one of %s); leave it out", origin, table[i].name,
                             command, owners(table, count, name, list));
    /* A difference of one or two letters, or of a third of a long name, is taken for a typing error. */
    size_t limit = strlen(name) / 3 < 2 ? 2 : strlen(name) / 3;
    size_t best = limit + 1;
    const char *nearest = NULL;
    for (size_t i = 0; i < options->n_values; i++) {
        size_t distance = name_distance(name, options->values[i].spec->name, limit);
        if (distance < best && distance < strlen(name)) {
            best = distance;
            nearest = options->values[i].spec->name;
        }
    }
    if (nearest != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: %s has no option '%.80s'; did you mean '%s'?", origin, command,
                         name, nearest);
    return error_set(err, COHORT_ERR_ARGUMENT, "%s: %s has no option '%.80s'; `cohort %s --help` lists them", origin,
                     command, name, command);
}

void options_value_clear(struct option_value *value)
{
    const struct option_spec *spec = value->spec;
    for (size_t i = 0; i < value->n_items; i++)
        mem_free(value->items[i]);
    mem_free(value->items);
    mem_free(value->text);
    memset(value, 0, sizeof *value);
    value->spec = spec;
}

void options_take(struct option_value *value, struct option_value *parsed, bool by_flag)
{
    options_value_clear(value);
    *value = *parsed;
    value->given = true;
    value->by_flag = by_flag;
    memset(parsed, 0, sizeof *parsed);
    parsed->spec = value->spec;
}

/* Index of text among choices, or -1. */
static int choice_index(const char *const *choices, const char *text, size_t length)
{
    for (int i = 0; choices[i] != NULL; i++)
        if (strlen(choices[i]) == length && memcmp(choices[i], text, length) == 0)
            return i;
    return -1;
}

static cohort_status describe_range(const struct option_spec *spec, struct text *out, cohort_error *err)
{
    bool integer = spec->type == OPTION_TYPE_INT;
    bool has_low = integer ? spec->minimum > -OPTIONS_INT_MAX : spec->minimum > -DBL_MAX;
    bool has_high = integer ? spec->maximum < OPTIONS_INT_MAX : spec->maximum < DBL_MAX;
    struct text low = {0}, high = {0};
    cohort_status status = COHORT_OK;
    if (integer) {
        TRY_GOTO(text_printf(&low, err, "%lld", (long long)spec->minimum));
        TRY_GOTO(text_printf(&high, err, "%lld", (long long)spec->maximum));
    } else {
        TRY_GOTO(options_print_number(spec->minimum, &low, err));
        TRY_GOTO(options_print_number(spec->maximum, &high, err));
        /* "0.0" reads worse than "0" in a sentence. */
        for (int side = 0; side < 2; side++) {
            struct text *bound = side == 0 ? &low : &high;
            if (bound->length > 2 && strcmp(bound->data + bound->length - 2, ".0") == 0)
                bound->data[bound->length -= 2] = '\0';
        }
    }
    if (!integer && spec->minimum == DBL_MIN)
        status =
            has_high ? text_printf(out, err, " above 0, at most %s", high.data) : text_printf(out, err, " above 0");
    else if (has_low && has_high)
        status = text_printf(out, err, " from %s to %s", low.data, high.data);
    else if (has_low)
        status = text_printf(out, err, ", %s or more", low.data);
    else if (has_high)
        status = text_printf(out, err, ", %s or less", high.data);
cleanup:
    text_free(&low);
    text_free(&high);
    return status;
}

bool options_list_of_numbers(const struct option_spec *spec)
{
    return spec->type == OPTION_TYPE_LIST && spec->minimum < spec->maximum;
}

static cohort_status describe_choices(const char *const *choices, struct text *out, cohort_error *err)
{
    for (size_t i = 0; choices[i] != NULL; i++)
        TRY(text_printf(out, err, "%s%s", i == 0 ? "" : ", ", choices[i]));
    return COHORT_OK;
}

cohort_status options_describe(const struct option_spec *spec, struct text *out, cohort_error *err)
{
    switch (spec->type) {
    case OPTION_TYPE_BOOL: return text_printf(out, err, "true or false");
    case OPTION_TYPE_INT: TRY(text_printf(out, err, "an integer")); return describe_range(spec, out, err);
    case OPTION_TYPE_FLOAT: TRY(text_printf(out, err, "a number")); return describe_range(spec, out, err);
    case OPTION_TYPE_STRING: return text_printf(out, err, "a text");
    case OPTION_TYPE_ENUM: TRY(text_printf(out, err, "one of ")); break;
    case OPTION_TYPE_LIST:
        if (spec->biases)
            return text_printf(out, err, "a list of ID:NUMBER, such as 151645:-2.5");
        if (spec->pairs)
            return text_printf(out, err, "a list of NAME=VALUE");
        if (options_list_of_numbers(spec))
            return text_printf(out, err, "a list of numbers");
        if (spec->choices == NULL)
            return text_printf(out, err, "a list of texts");
        TRY(text_printf(out, err, "a list of "));
        break;
    }
    return describe_choices(spec->choices, out, err);
}

/* "--epsilon: 3 is not usable for epsilon: expected a number from 0 to 1" */
static cohort_status bad_value(const struct option_spec *spec, const char *text, const char *origin, cohort_error *err)
{
    struct text accepted = {0};
    cohort_status status = options_describe(spec, &accepted, err);
    if (status == COHORT_OK) {
        const char *hint = options_value_hint(spec->id, text);
        status = error_set(err, COHORT_ERR_ARGUMENT, "%s: %s cannot be '%.80s%s'%s%s: expected %s", origin, spec->name,
                           text, strlen(text) > 80 ? "..." : "", hint == NULL ? "" : ", ", hint == NULL ? "" : hint,
                           accepted.data);
    }
    text_free(&accepted);
    return status;
}

/* Whether the number means the same in single precision: there is none between 0 and 1.2e-38 there, which would turn a
 * filter off or make 1/temperature infinite. */
static bool fits_single(double number) { return number == 0.0 || isnormal((float)number); }

static cohort_status not_single(const struct option_spec *spec, const char *text, const char *origin, cohort_error *err)
{
    return error_set(err, COHORT_ERR_ARGUMENT,
                     "%s: %s cannot be '%.80s': it is used in single precision, which has numbers "
                     "from 1.2e-38 to 3.4e38, and 0",
                     origin, spec->name, text);
}

static bool id_and_number(const char *item, size_t length, double *number)
{
    const char *colon = memchr(item, ':', length);
    if (colon == NULL || colon == item || colon - item > 10)
        return false;
    int64_t id = 0;
    for (const char *c = item; c < colon; c++) {
        if (*c < '0' || *c > '9')
            return false;
        id = id * 10 + (*c - '0');
    }
    return id <= INT32_MAX && number_read(colon + 1, length - (size_t)(colon + 1 - item), number);
}

cohort_status options_add_item(struct option_value *parsed, const char *item, size_t length, const char *origin,
                               cohort_error *err)
{
    const struct option_spec *spec = parsed->spec;
    double number = 0;
    if (length == 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: %s has an empty item (item %zu)", origin, spec->name,
                         parsed->n_items + 1);
    TRY(mem_grow(&parsed->items, &parsed->items_capacity, parsed->n_items + 1, sizeof *parsed->items, "list", err));
    char **slot = &parsed->items[parsed->n_items];
    TRY(mem_strdup(slot, item, length, err));
    parsed->n_items++;
    bool good = true;
    if (options_list_of_numbers(spec))
        good = number_read(item, length, &number) && number >= spec->minimum && number <= spec->maximum;
    else if (spec->biases)
        good = id_and_number(item, length, &number);
    else if (spec->pairs)
        good = item[0] != '=' && memchr(item, '=', length) != NULL;
    else if (spec->choices != NULL)
        good = choice_index(spec->choices, item, length) >= 0;
    if (!good)
        return bad_value(spec, *slot, origin, err);
    return spec->biases && !fits_single(number) ? not_single(spec, *slot, origin, err) : COHORT_OK;
}

static cohort_status parse_list(struct option_value *parsed, const char *text, const char *origin, cohort_error *err)
{
    struct text item = {0};
    cohort_status status = COHORT_OK;
    parsed->has_value = true;
    if (*text == '\0')
        return COHORT_OK; /* the empty list */
    TRY(text_append(&item, "", 0, err));
    for (const char *at = text;; at++) {
        if (at[0] == '\\' && at[1] == ',') {
            at++;
            TRY_GOTO(text_append(&item, ",", 1, err));
        } else if (*at == ',' || *at == '\0') {
            TRY_GOTO(options_add_item(parsed, item.data, item.length, origin, err));
            item.length = 0;
            if (*at == '\0')
                break;
        } else {
            TRY_GOTO(text_append(&item, at, 1, err));
        }
    }
cleanup:
    text_free(&item);
    return status;
}

cohort_status options_parse(struct option_value *parsed, const char *text, const char *origin, cohort_error *err)
{
    const struct option_spec *spec = parsed->spec;
    bool good = true;
    switch (spec->type) {
    case OPTION_TYPE_BOOL: good = options_read_bool(text, &parsed->boolean); break;
    case OPTION_TYPE_INT:
        good = number_read_integer(text, strlen(text), &parsed->integer) && parsed->integer >= (int64_t)spec->minimum &&
               parsed->integer <= (int64_t)spec->maximum;
        break;
    case OPTION_TYPE_FLOAT:
        good = number_read(text, strlen(text), &parsed->number) && parsed->number >= spec->minimum &&
               parsed->number <= spec->maximum;
        break;
    case OPTION_TYPE_STRING: good = true; break;
    case OPTION_TYPE_ENUM:
        parsed->choice = choice_index(spec->choices, text, strlen(text));
        good = parsed->choice >= 0;
        break;
    case OPTION_TYPE_LIST: return parse_list(parsed, text, origin, err);
    }
    if (!good)
        return bad_value(spec, text, origin, err);
    if (spec->single && !fits_single(parsed->number))
        return not_single(spec, text, origin, err);
    if (spec->type == OPTION_TYPE_STRING && *text == '\0')
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: %s is empty; leave it out to keep it unset", origin,
                         spec->name);
    TRY(mem_strdup(&parsed->text, text, strlen(text), err));
    parsed->has_value = true;
    return COHORT_OK;
}

cohort_status options_create(struct options **out, enum option_command command, cohort_error *err)
{
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    struct options *options = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY(mem_alloc(&options, 1, sizeof *options, "options", err));
    options->command = command;
    TRY_GOTO(mem_alloc(&options->values, count, sizeof *options->values, "options", err));
    for (size_t i = 0; i < count; i++) {
        if ((table[i].commands & (unsigned)command) == 0)
            continue;
        struct option_value *value = &options->values[options->n_values++];
        value->spec = &table[i];
        options->by_id[table[i].id] = value;
        if (table[i].fallback != NULL)
            TRY_GOTO(options_parse(value, table[i].fallback, "option table", err));
    }
    *out = options;
    options = NULL;
cleanup:
    options_destroy(options);
    return status;
}

void options_destroy(struct options *options)
{
    if (options == NULL)
        return;
    for (size_t i = 0; i < options->n_values; i++)
        options_value_clear(&options->values[i]);
    mem_free(options->values);
    mem_free(options);
}

cohort_status options_set(struct options *options, const char *name, const char *value, const char *origin,
                          cohort_error *err)
{
    struct option_value *slot = options_find(options, name);
    if (slot == NULL)
        return options_unknown(options, name, origin, err);
    struct option_value parsed = {.spec = slot->spec, .synonym = options_synonym(name)};
    char buffer[SYNONYM_BYTES];
    if (slot->by_flag && slot->synonym != parsed.synonym && slot->spec->type != OPTION_TYPE_LIST)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: %.80s was given as %s too; keep one of them", origin,
                         slot->spec->name, slot->synonym == NULL ? slot->spec->name : slot->synonym->name);
    if (parsed.synonym != NULL)
        value = options_synonym_value(parsed.synonym, slot->spec, value, buffer);
    if (value == NULL)
        return COHORT_OK;
    cohort_status status = options_parse(&parsed, value, origin, err);
    /* "--reward accuracy --reward format" means both. */
    bool add = slot->spec->type == OPTION_TYPE_LIST && slot->by_flag && parsed.n_items > 0;
    for (size_t i = 0; add && status == COHORT_OK && i < parsed.n_items; i++)
        status = options_add_item(slot, parsed.items[i], strlen(parsed.items[i]), origin, err);
    if (status == COHORT_OK && !add)
        options_take(slot, &parsed, true);
    options_value_clear(&parsed);
    return status;
}

cohort_status options_suggest(struct options *options, const char *name, const char *value, const char *origin,
                              cohort_error *err)
{
    struct option_value *slot = options_find(options, name);
    assert(slot != NULL);
    if (slot->given)
        return COHORT_OK;
    struct option_value parsed = {.spec = slot->spec};
    const cohort_status status = options_parse(&parsed, value, origin, err);
    if (status == COHORT_OK) {
        options_take(slot, &parsed, false);
        slot->given = false;
    }
    options_value_clear(&parsed);
    return status;
}

static const struct option_value *need(const struct options *options, enum option_id id)
{
    const struct option_value *value = options->by_id[id];
    assert(value != NULL && "the command has no such option");
    return value;
}

static const struct option_value *need_type(const struct options *options, enum option_id id, enum option_type type,
                                            bool must_be_set)
{
    const struct option_value *value = need(options, id);
    assert(value->spec->type == type);
    assert((value->has_value || !must_be_set) && "ask options_is_set first");
    (void)type;
    (void)must_be_set;
    return value;
}

bool options_is_set(const struct options *options, enum option_id id) { return need(options, id)->has_value; }

bool options_was_given(const struct options *options, const char *name)
{
    const struct option_value *value = options_find(options, name);
    return value != NULL && value->given;
}

bool options_given(const struct options *options, enum option_id id) { return need(options, id)->given; }

bool options_bool(const struct options *options, enum option_id id)
{
    return need_type(options, id, OPTION_TYPE_BOOL, true)->boolean;
}

int64_t options_int(const struct options *options, enum option_id id)
{
    return need_type(options, id, OPTION_TYPE_INT, true)->integer;
}

double options_float(const struct options *options, enum option_id id)
{
    return need_type(options, id, OPTION_TYPE_FLOAT, true)->number;
}

bool options_bool_or(const struct options *options, enum option_id id, bool otherwise)
{
    return options_is_set(options, id) ? options_bool(options, id) : otherwise;
}

int64_t options_int_or(const struct options *options, enum option_id id, int64_t otherwise)
{
    return options_is_set(options, id) ? options_int(options, id) : otherwise;
}

double options_float_or(const struct options *options, enum option_id id, double otherwise)
{
    return options_is_set(options, id) ? options_float(options, id) : otherwise;
}

const char *options_string(const struct options *options, enum option_id id)
{
    return need_type(options, id, OPTION_TYPE_STRING, false)->text;
}

int options_choice(const struct options *options, enum option_id id)
{
    const struct option_value *value = need_type(options, id, OPTION_TYPE_ENUM, false);
    return value->has_value ? value->choice : -1;
}

const char *options_choice_word(const struct options *options, enum option_id id)
{
    return need_type(options, id, OPTION_TYPE_ENUM, false)->text;
}

size_t options_list_count(const struct options *options, enum option_id id)
{
    return need_type(options, id, OPTION_TYPE_LIST, false)->n_items;
}

const char *options_list_item(const struct options *options, enum option_id id, size_t i)
{
    const struct option_value *value = need_type(options, id, OPTION_TYPE_LIST, false);
    assert(i < value->n_items);
    return value->items[i];
}

double options_list_number(const struct options *options, enum option_id id, size_t i)
{
    const char *item = options_list_item(options, id, i);
    double value = (double)NAN;
    const bool read = number_read(item, strlen(item), &value);
    assert(read); /* it was checked when it was set */
    (void)read;
    return value;
}

int options_list_choice(const struct options *options, enum option_id id, size_t i)
{
    const char *item = options_list_item(options, id, i);
    return choice_index(options->by_id[id]->spec->choices, item, strlen(item));
}

bool options_has(const struct options *options, const char *name) { return options_find(options, name) != NULL; }

bool options_is_switch(const struct options *options, const char *name)
{
    const struct option_value *value = options_find(options, name);
    return value != NULL && value->spec->type == OPTION_TYPE_BOOL;
}

const char *options_bare(enum option_command command)
{
    switch (command) {
    case FOR_GENERATE: return "prompt";
    case FOR_PERPLEXITY:
    case FOR_DATA: return "data";
    case FOR_INFO: return "model";
    case FOR_RUNS: return "action";
    case FOR_REPORT:
    case FOR_WATCH:
    case FOR_PLOT: return "run";
    case FOR_FORK: return "from";
    default: return NULL;
    }
}

const char *options_alone(const struct options *options, const char *name)
{
    const struct option_value *value = options_find(options, name);
    return value == NULL ? NULL : value->spec->type == OPTION_TYPE_BOOL ? "true" : value->spec->alone;
}

void options_set_stop(struct options *options, const struct stop *stop) { options->stop = stop; }

const struct stop *options_stop(const struct options *options) { return options->stop; }

void options_set_ranks(struct options *options, struct ranks *ranks) { options->ranks = ranks; }

struct ranks *options_ranks(const struct options *options) { return options->ranks; }
