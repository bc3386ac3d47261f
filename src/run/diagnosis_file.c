/* The diagnosis in a checkpoint: trainer/diagnosis.json, without what depends on the clock. NaN is null there. */
#include "run/diagnosis_internal.h"

#include "base/file.h"
#include "base/json_text.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char FILE_NAME[] = "trainer/diagnosis.json";
#define MOST_STEPS    1000000000000ll
#define MOST_IN_A_ROW 1000000000ll

static const char *const column_names[N_KEPT_COLUMNS] = {
#define COLUMN(id, metric) [COLUMN_##id] = metric,
    DIAGNOSIS_COLUMN_LIST(COLUMN)
#undef COLUMN
};

/* The numbers of the state that are neither windows nor marks, each once for writing and reading. */
#define DIAGNOSIS_NUMBERS(X)                                                                                           \
    X(kl_base)                                                                                                         \
    X(best_mean)                                                                                                       \
    X(low10)                                                                                                           \
    X(high10)                                                                                                          \
    X(zero_std_sum)                                                                                                    \
    X(best_eval)                                                                                                       \
    X(last_eval_loss)
/* X(name, type, the most that it can be) */
#define DIAGNOSIS_COUNTS(X)                                                                                            \
    X(steps, int64_t, MOST_STEPS)                                                                                      \
    X(counted, int64_t, MOST_STEPS)                                                                                    \
    X(last, int64_t, MOST_STEPS)                                                                                       \
    X(kl_counted, int64_t, MOST_STEPS)                                                                                 \
    X(evaluations, int64_t, MOST_STEPS)                                                                                \
    X(skips, uint32_t, UINT32_MAX)                                                                                     \
    X(spikes, uint32_t, UINT32_MAX)                                                                                    \
    X(collapsed, int32_t, MOST_IN_A_ROW)                                                                               \
    X(below2, int32_t, MOST_IN_A_ROW)                                                                                  \
    X(below4, int32_t, MOST_IN_A_ROW)                                                                                  \
    X(eval_loss_up, int32_t, MOST_IN_A_ROW)

static json_t *number_json(double x) { return isnan(x) ? json_null() : json_real(x); }

/* Moves a value into an array or object; false: memory could not be had for one of them. */
static bool add(json_t *array, json_t *value) { return json_array_append_new(array, value) == 0; }
static bool set(json_t *object, const char *key, json_t *value) { return json_object_set_new(object, key, value) == 0; }

/* Frees what is not whole. */
static json_t *whole(json_t *json, bool good)
{
    if (!good)
        json_decref(json);
    return good ? json : NULL;
}

static json_t *series_json(const struct diagnosis *d, const struct diagnosis_series *series)
{
    const int32_t n = d->counted < DIAGNOSIS_FRAMES ? (int32_t)d->counted : DIAGNOSIS_FRAMES;
    json_t *array = json_array();
    bool good = array != NULL;
    for (int32_t i = n - 1; good && i >= 0; i--)
        good = add(array, number_json(window_at(series, i)));
    return whole(array, good);
}

static json_t *mark_json(const struct diagnosis_mark *mark)
{
    return json_pack("[i, i]", (int)mark->said, (int)mark->clean);
}

static json_t *function_json(const struct diagnosis *d, const struct diagnosis_function *function)
{
    json_t *json = json_object();
    const bool good =
        json != NULL && set(json, "name", json_string(function->name)) &&
        set(json, "mean", series_json(d, &function->mean)) && set(json, "std", series_json(d, &function->std)) &&
        set(json, "base", number_json(function->base)) && set(json, "low", number_json(function->low)) &&
        set(json, "high", number_json(function->high)) && set(json, "unanswered", mark_json(&function->unanswered)) &&
        set(json, "constant", mark_json(&function->constant));
    return whole(json, good);
}

static json_t *functions_json(const struct diagnosis *d)
{
    json_t *array = json_array();
    bool good = array != NULL;
    for (size_t f = 0; good && f < d->n_functions; f++) /* JSON has no other names: such a function begins anew */
        if (utf8_check(d->functions[f].name, strlen(d->functions[f].name)) == strlen(d->functions[f].name))
            good = add(array, function_json(d, &d->functions[f]));
    return whole(array, good);
}

static json_t *said_json(const struct diagnosis *d)
{
    json_t *array = json_array();
    bool good = array != NULL;
    for (size_t i = 0; good && i < d->n_said; i++) {
        const struct diagnosis_warning *w = &d->said[i];
        good = add(array, json_pack("{s:s, s:s, s:I, s:s}", "rule", w->rule->name, "severity",
                                    diagnosis_severity_name(w->severity), "step", (json_int_t)w->step, "sentence",
                                    w->sentence));
    }
    return whole(array, good);
}

/* A metric that the run has not, as most of GRPO's in sft, is left out. */
static bool is_empty(const struct diagnosis *d, int c)
{
    for (int32_t i = 0; i < DIAGNOSIS_FRAMES; i++)
        if (!isnan(d->columns[c].at[i]))
            return false;
    return isnan(d->base[c]);
}

static json_t *columns_json(const struct diagnosis *d, bool base)
{
    json_t *json = json_object();
    bool good = json != NULL;
    for (int c = 0; good && c < N_KEPT_COLUMNS; c++)
        good = is_empty(d, c) ||
               set(json, column_names[c], base ? number_json(d->base[c]) : series_json(d, &d->columns[c]));
    return whole(json, good);
}

static json_t *marks_json(const struct diagnosis *d)
{
    json_t *json = json_object();
    bool good = json != NULL;
    for (int r = 0; good && r < N_RULES; r++) /* those that spoke */
        good = d->marks[r].said == DIAGNOSIS_NONE ||
               set(json, diagnosis_rule_at((size_t)r)->name, mark_json(&d->marks[r]));
    return whole(json, good);
}

/* NULL: out of memory. */
static json_t *state_json(const struct diagnosis *d)
{
    json_t *json = json_object();
    bool good = json != NULL && set(json, "format", json_integer(1)) && set(json, "columns", columns_json(d, false)) &&
                set(json, "base", columns_json(d, true)) && set(json, "marks", marks_json(d)) &&
                set(json, "functions", functions_json(d)) && set(json, "said", said_json(d));
#define NUMBER(name) good = good && set(json, #name, number_json(d->name));
    DIAGNOSIS_NUMBERS(NUMBER)
#undef NUMBER
#define COUNT(name, type, most) good = good && set(json, #name, json_integer((json_int_t)d->name));
    DIAGNOSIS_COUNTS(COUNT)
#undef COUNT
    return whole(json, good);
}

cohort_status diagnosis_write(const struct diagnosis *d, const char *dir, cohort_error *err)
{
    struct text text = {0};
    char *path = NULL;
    json_t *json = state_json(d);
    cohort_status status = COHORT_OK;
    TRY_GOTO(json_text_write(json, JSON_COMPACT, &text, err)); /* NULL is an error there */
    TRY_GOTO(text_append(&text, "\n", 1, err));
    TRY_GOTO(file_join(&path, dir, FILE_NAME, err));
    TRY_GOTO(file_write_atomic(path, text.data, text.length, err));
cleanup:
    json_decref(json);
    text_free(&text);
    mem_free(path);
    return status;
}

/* ---- Reading: false where a value is not what we write ---- */

static bool read_number(const json_t *value, double *out)
{
    *out = json_is_number(value) ? json_number_value(value) : (double)NAN;
    return json_is_null(value) || (json_is_number(value) && isfinite(*out));
}

static bool read_series(const json_t *array, const struct diagnosis *d, struct diagnosis_series *series)
{
    const size_t n = d->counted < DIAGNOSIS_FRAMES ? (size_t)d->counted : DIAGNOSIS_FRAMES;
    if (!json_is_array(array) || json_array_size(array) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!read_number(json_array_get(array, i), &series->at[DIAGNOSIS_FRAMES - n + i]))
            return false;
    return true;
}

static bool read_mark(const json_t *array, struct diagnosis_mark *mark)
{
    const json_t *said = json_array_get(array, 0), *clean = json_array_get(array, 1);
    const json_int_t s = json_integer_value(said), c = json_integer_value(clean);
    if (!json_is_integer(said) || !json_is_integer(clean) || s < DIAGNOSIS_NONE || s > DIAGNOSIS_FATAL || c < 0 ||
        c > MOST_IN_A_ROW)
        return false;
    *mark = (struct diagnosis_mark){.said = (enum diagnosis_severity)s, .clean = (int32_t)c};
    return true;
}

static bool read_count(const json_t *value, json_int_t most, json_int_t *out)
{
    *out = json_integer_value(value);
    return json_is_integer(value) && *out >= 0 && *out <= most;
}

static bool read_said(const json_t *array, struct diagnosis *d)
{
    if (!json_is_array(array) || json_array_size(array) > DIAGNOSIS_SAID)
        return false;
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *entry = json_array_get(array, i);
        const char *name = json_string_value(json_object_get(entry, "rule")),
                   *severity = json_string_value(json_object_get(entry, "severity")),
                   *sentence = json_string_value(json_object_get(entry, "sentence"));
        struct diagnosis_warning *w = &d->said[i];
        json_int_t step = 0;
        if (name == NULL || severity == NULL || sentence == NULL ||
            !read_count(json_object_get(entry, "step"), MOST_STEPS, &step))
            return false;
        for (size_t r = 0; r < N_RULES; r++)
            if (strcmp(diagnosis_rule_at(r)->name, name) == 0)
                w->rule = diagnosis_rule_at(r);
        for (int s = DIAGNOSIS_NOTE; s <= DIAGNOSIS_FATAL; s++)
            if (strcmp(diagnosis_severity_name((enum diagnosis_severity)s), severity) == 0)
                w->severity = (enum diagnosis_severity)s;
        if (w->rule == NULL || w->severity == DIAGNOSIS_NONE)
            return false;
        w->step = step;
        snprintf(w->sentence, sizeof w->sentence, "%s", sentence);
        d->n_said = i + 1;
    }
    return true;
}

static cohort_status read_functions(const json_t *array, struct diagnosis *d, bool *good, cohort_error *err)
{
    *good = json_is_array(array);
    for (size_t i = 0; *good && i < json_array_size(array); i++) {
        const json_t *entry = json_array_get(array, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        *good = name != NULL && diagnosis_function_of(d, name, strlen(name)) == NULL;
        if (!*good)
            return COHORT_OK;
        TRY(diagnosis_add_function(d, name, strlen(name), err));
        struct diagnosis_function *function = &d->functions[d->n_functions - 1];
        *good = read_series(json_object_get(entry, "mean"), d, &function->mean) &&
                read_series(json_object_get(entry, "std"), d, &function->std) &&
                read_number(json_object_get(entry, "base"), &function->base) &&
                read_number(json_object_get(entry, "low"), &function->low) &&
                read_number(json_object_get(entry, "high"), &function->high) &&
                read_mark(json_object_get(entry, "unanswered"), &function->unanswered) &&
                read_mark(json_object_get(entry, "constant"), &function->constant);
    }
    return COHORT_OK;
}

static bool read_state(const json_t *json, struct diagnosis *d)
{
    const json_t *columns = json_object_get(json, "columns"), *bases = json_object_get(json, "base"),
                 *marks = json_object_get(json, "marks");
    json_int_t count = 0;
#define COUNT(name, type, most)                                                                                        \
    if (!read_count(json_object_get(json, #name), most, &count))                                                       \
        return false;                                                                                                  \
    d->name = (type)count;
    DIAGNOSIS_COUNTS(COUNT)
#undef COUNT
#define NUMBER(name)                                                                                                   \
    if (!read_number(json_object_get(json, #name), &d->name))                                                          \
        return false;
    DIAGNOSIS_NUMBERS(NUMBER)
#undef NUMBER
    if (d->counted > d->steps || d->kl_counted > d->counted)
        return false;
    if (!json_is_object(columns) || !json_is_object(bases) || !json_is_object(marks))
        return false;
    for (int c = 0; c < N_KEPT_COLUMNS; c++) {
        const json_t *column = json_object_get(columns, column_names[c]),
                     *base = json_object_get(bases, column_names[c]);
        if ((column == NULL) != (base == NULL) ||
            (column != NULL && (!read_series(column, d, &d->columns[c]) || !read_number(base, &d->base[c]))))
            return false;
    }
    for (int r = 0; r < N_RULES; r++) {
        const json_t *mark = json_object_get(marks, diagnosis_rule_at((size_t)r)->name);
        if (mark != NULL && !read_mark(mark, &d->marks[r]))
            return false;
    }
    return read_said(json_object_get(json, "said"), d);
}

cohort_status diagnosis_read(struct diagnosis *d, const char *dir, cohort_error *err)
{
    json_t *json = NULL;
    char *path = NULL;
    bool there = false, good = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&path, dir, FILE_NAME, err));
    TRY_GOTO(file_exists(path, &there, err));
    if (!there)
        goto cleanup;
    TRY_GOTO(json_text_read(&json, path, 64u << 20, JSON_TEXT_NUL, err));
    good = json_integer_value(json_object_get(json, "format")) == 1 && read_state(json, d);
    if (good)
        TRY_GOTO(read_functions(json_object_get(json, "functions"), d, &good, err));
    if (!good)
        status =
            error_set(err, COHORT_ERR_FORMAT,
                      "%s: is not what a run writes there (\"format\": 1 and the windows of its rules); the file is "
                      "damaged: resume from another checkpoint, or remove the file: the rules then begin anew",
                      path);
cleanup:
    json_decref(json);
    mem_free(path);
    return status;
}
