/* cohort data: what a data set is to the other commands. */
#include "command/command.h"
#include "recipe/data_survey.h"
#include "recipe/end_of_text.h"
#include "recipe/json_rows.h"

#include <string.h>

enum { BARS = 40, BUCKETS = 12, SHOWN_BYTES = 4000 };

/* ---- what the model's folder says ---- */

/* Only the tokenizer is opened, and config.json is read for what bounds rows. */
static cohort_status open_tokenizer(struct session *session, const char *dir, const char *chat_template,
                                    int32_t *context, cohort_error *err)
{
    struct model_config config = {0};
    char *path = NULL;
    bool there = false;
    session->dir = dir;
    session->turn_end = -1;
    TRY(tokenizer_load(&session->tokenizer, dir, err));
    TRY(chat_template_open(&session->chat, session->tokenizer, chat_template, err));
    TRY(end_of_text_unknown(session->tokenizer, dir, &session->notes, err));
    session->text_end = tokenizer_eos(session->tokenizer);
    TRY(file_join(&path, dir, "config.json", err));
    cohort_status status = file_exists(path, &there, err);
    mem_free(path);
    if (status != COHORT_OK || !there)
        return status;
    TRY(model_config_load(&config, NULL, dir, err));
    *context = config.max_positions;
    if (session->text_end < 0 && config.n_eos > 0) /* as end_of_text_open settles it */
        session->text_end = config.eos_ids[0];
    return COHORT_OK;
}

/* ---- lengths ---- */

/* Lengths from from up to before to. */
struct bucket {
    int32_t from, to;
    size_t n;
};

static int32_t length_at(const struct data_survey *s, double share)
{
    return s->lengths[(size_t)(share * (double)(s->n_lengths - 1) + 0.5)];
}

/* Equal steps of 1, 2 or 5 times a power of ten, as few as cover all. lengths are sorted. */
static size_t fill_buckets(const struct data_survey *s, struct bucket buckets[BUCKETS])
{
    static const int64_t factors[] = {1, 2, 5};
    const int64_t longest = s->lengths[s->n_lengths - 1];
    int64_t step = 1, power = 1;
    size_t n = 0, at = 0;
    for (int i = 0; longest / step >= BUCKETS; i++) {
        step = power * factors[i % 3];
        power *= i % 3 == 2 ? 10 : 1;
    }
    for (int64_t from = 0; from <= longest; from += step, n++) {
        const int64_t to = from + step;
        buckets[n] = (struct bucket){.from = (int32_t)from, .to = to > INT32_MAX ? INT32_MAX : (int32_t)to};
        for (; at < s->n_lengths && s->lengths[at] < to; at++)
            buckets[n].n++;
    }
    return n;
}

static cohort_status print_lengths(const struct data_survey *s, struct text *out, cohort_error *err)
{
    struct bucket buckets[BUCKETS];
    size_t most = 1;
    if (s->n_lengths == 0)
        return COHORT_OK;
    TRY(text_printf(out, err, "\n%s of a %s: shortest %d, median %d, 95 %% up to %d, longest %d\n",
                    s->in_tokens ? "tokens" : "characters", s->teaches ? "row" : "prompt", (int)s->lengths[0],
                    (int)length_at(s, 0.5), (int)length_at(s, 0.95), (int)s->lengths[s->n_lengths - 1]));
    const size_t n = fill_buckets(s, buckets);
    for (size_t i = 0; i < n; i++)
        most = buckets[i].n > most ? buckets[i].n : most;
    for (size_t i = 0; i < n; i++) {
        static const char bar[] = "########################################";
        const size_t width = (buckets[i].n * BARS + most - 1) / most;
        TRY(text_printf(out, err, "%9d to %-9d %-*.*s %zu\n", (int)buckets[i].from, (int)buckets[i].to - 1, BARS,
                        (int)width, bar, buckets[i].n));
    }
    return COHORT_OK;
}

/* ---- as text ---- */

static cohort_status print_example(const struct data_survey *s, const struct survey_example *example, struct text *out,
                                   cohort_error *err)
{
    const struct text *text = &example->text;
    const size_t shown = text->length < SHOWN_BYTES ? text->length : SHOWN_BYTES;
    const size_t learned = example->learned < shown ? example->learned : shown;
    char place[DATA_PLACE];
    dataset_place(&s->data, example->row, place);
    TRY(text_printf(out, err, "\n--- %s\n", place));
    TRY(text_append_shown(out, text->data, learned, err));
    if (learned < shown) {
        TRY(text_printf(out, err, "[[learned: "));
        TRY(text_append_shown(out, text->data + learned, shown - learned, err));
        TRY(text_printf(out, err, "]]"));
    }
    return text_printf(out, err, shown < text->length ? " ... and %zu bytes more\n" : "\n", text->length - shown);
}

/* The type that the file says itself, or NULL. */
static const char *declared_type(const struct data_survey *s, const char *column)
{
    const struct data_file *file = &s->data.files[0].data;
    const char *name = NULL, *type = NULL;
    for (size_t i = 0; file->format->column != NULL && file->format->column(file, i, &name, &type); i++)
        if (strcmp(name, column) == 0)
            return type;
    return NULL;
}

static cohort_status print_column(const struct data_survey *s, const struct survey_column *column, struct text *out,
                                  cohort_error *err)
{
    const char *type = declared_type(s, column->name), *between = "";
    size_t present = 0;
    TRY(text_printf(out, err, "  "));
    TRY(text_append_shown(out, column->name, strlen(column->name), err));
    TRY(text_printf(out, err, ": "));
    if (type != NULL)
        TRY(text_printf(out, err, "%.200s", type));
    for (int t = 0; t < SURVEY_TYPES; t++) {
        present += t == SURVEY_NULL ? 0 : column->counts[t];
        if (type != NULL || t == SURVEY_NULL || column->counts[t] == 0)
            continue;
        TRY(text_printf(out, err, "%s%s", between, survey_type_name((enum survey_type)t)));
        between = " or ";
    }
    if (present < s->n_counted)
        TRY(text_printf(out, err, "%s%zu of %zu rows without it", present == 0 && type == NULL ? "" : ", ",
                        s->n_counted - present, s->n_counted));
    return text_append(out, "\n", 1, err);
}

static cohort_status print_columns(const struct data_survey *s, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, "\ncolumns\n"));
    for (size_t c = 0; c < s->n_columns; c++)
        TRY(print_column(s, &s->columns[c], out, err));
    return s->more_columns ? text_printf(out, err, "  ... and more than %d others\n", SURVEY_COLUMNS) : COHORT_OK;
}

/* Which column is rendered first, and how it came to be. */
static cohort_status print_prompt(const struct data_survey *s, struct text *out, cohort_error *err)
{
    const char *form = data_form_columns(&s->data.files[0].form);
    TRY(text_printf(out, err, "prompt    "));
    if (s->prompt == NULL)
        return text_printf(out, err, "none\n");
    TRY(text_printf(out, err, "the column \"%s\"", s->prompt));
    if (form != NULL)
        TRY(text_printf(out, err, ", made of %s", form));
    for (size_t i = 0; i < s->data.columns.n; i++)
        if ((s->data.files[0].form.renames >> i & 1) != 0 && strcmp(s->data.columns.items[i].to, s->prompt) == 0)
            TRY(text_printf(out, err, ", which --columns says is \"%.80s\"", s->data.columns.items[i].from));
    return text_append(out, "\n", 1, err);
}

static const char *use_of(const struct data_survey *s)
{
    return s->teaches && s->asks ? "sft learns the completion; grpo, eval and generate ask the prompt"
           : s->teaches          ? "sft learns from the rows"
           : s->asks             ? "grpo, eval and generate ask the prompt"
                                 : "none: no prompt, messages or text; name the columns, as in --columns prompt=NAME";
}

static cohort_status print_survey(const struct data_survey *s, struct text *out, cohort_error *err)
{
    const struct dataset *data = &s->data;
    TRY(text_printf(out, err, "rows      %zu\nSHA-256   %s\n", data->n_rows, data->sha256));
    TRY(print_prompt(s, out, err));
    TRY(text_printf(out, err, "use       %s\nfiles\n", use_of(s)));
    for (size_t f = 0, p = 0; f < data->n_files; f++) {
        const struct dataset_file *file = &data->files[f];
        while (p + 1 < data->n_parts && data->parts[p + 1].first <= file->first && file->n_rows > 0)
            p++;
        TRY(text_printf(out, err, "  %s: %s%s%s, %zu rows", file->data.bytes.path, file->data.format->name,
                        file->data.bytes.packing == NULL ? "" : " in ",
                        file->data.bytes.packing == NULL ? "" : file->data.bytes.packing, file->n_rows));
        TRY(data->n_parts > 1 ? text_printf(out, err, ", weight %g\n", data->parts[p].weight)
                              : text_append(out, "\n", 1, err));
    }
    TRY(print_columns(s, out, err));
    TRY(print_lengths(s, out, err));
    for (size_t i = 0; i < s->n_examples; i++)
        TRY(print_example(s, &s->examples[i], out, err));
    const size_t n = s->n_cut + s->n_dropped + s->n_refused;
    if (n == 0)
        return text_printf(out, err, "\nno row would be cut or refused\n");
    TRY(text_printf(out, err, "\n%zu rows would be cut, %zu left out, %zu refused\n", s->n_cut, s->n_dropped,
                    s->n_refused));
    for (size_t i = 0; i < s->n_faults; i++) {
        TRY(text_append(out, "  ", 2, err));
        TRY(text_append_shown(out, s->faults[i].what, strlen(s->faults[i].what), err));
        TRY(text_append(out, "\n", 1, err));
    }
    return n > s->n_faults ? text_printf(out, err, "  ... and %zu more\n", n - s->n_faults) : COHORT_OK;
}

/* ---- as JSON lines ---- */

static cohort_status write_string(const char *key, const char *bytes, size_t length, struct text *out,
                                  cohort_error *err)
{
    TRY(text_printf(out, err, "\"%s\": ", key));
    return json_string_write(bytes, length, out, err);
}

static cohort_status write_set(const struct data_survey *s, struct text *out, cohort_error *err)
{
    const struct dataset *data = &s->data;
    TRY(text_append(out, "{", 1, err));
    TRY(write_string("path", data->path, strlen(data->path), out, err));
    TRY(text_printf(out, err,
                    ", \"rows\": %zu, \"sha256\": \"%s\", \"learned\": %s, \"asked\": %s, \"cut\": %zu, \"left_out\": "
                    "%zu, \"refused\": %zu}\n",
                    data->n_rows, data->sha256, s->teaches ? "true" : "false", s->asks ? "true" : "false", s->n_cut,
                    s->n_dropped, s->n_refused));
    for (size_t f = 0; f < data->n_files; f++) {
        const struct data_file *file = &data->files[f].data;
        TRY(text_append(out, "{", 1, err));
        TRY(write_string("file", file->bytes.path, strlen(file->bytes.path), out, err));
        TRY(text_printf(out, err, ", \"format\": \"%s\", \"rows\": %zu}\n", file->format->name, data->files[f].n_rows));
    }
    for (size_t c = 0; c < s->n_columns; c++) {
        const char *between = "";
        TRY(text_append(out, "{", 1, err));
        TRY(write_string("column", s->columns[c].name, strlen(s->columns[c].name), out, err));
        TRY(text_printf(out, err, ", \"types\": {"));
        for (int type = 0; type < SURVEY_TYPES; type++)
            if (s->columns[c].counts[type] > 0) {
                TRY(text_printf(out, err, "%s\"%s\": %zu", between, survey_type_name((enum survey_type)type),
                                s->columns[c].counts[type]));
                between = ", ";
            }
        TRY(text_printf(out, err, "}}\n"));
    }
    return COHORT_OK;
}

static cohort_status write_survey(const struct data_survey *s, struct text *out, cohort_error *err)
{
    struct bucket buckets[BUCKETS];
    TRY(write_set(s, out, err));
    const size_t n = s->n_lengths == 0 ? 0 : fill_buckets(s, buckets);
    for (size_t i = 0; i < n; i++)
        TRY(text_printf(out, err, "{\"length_from\": %d, \"length_to\": %d, \"unit\": \"%s\", \"rows\": %zu}\n",
                        (int)buckets[i].from, (int)buckets[i].to - 1, s->in_tokens ? "tokens" : "characters",
                        buckets[i].n));
    for (size_t i = 0; i < s->n_examples; i++) {
        const struct survey_example *example = &s->examples[i];
        TRY(text_printf(out, err, "{\"example\": %zu, ", example->row));
        TRY(write_string("context", example->text.data, example->learned, out, err));
        TRY(text_append(out, ", ", 2, err));
        TRY(write_string("learned", example->text.data + example->learned, example->text.length - example->learned, out,
                         err));
        TRY(text_append(out, "}\n", 2, err));
    }
    for (size_t i = 0; i < s->n_faults; i++) {
        TRY(text_append(out, "{", 1, err));
        TRY(write_string("fault", s->faults[i].what, strlen(s->faults[i].what), out, err));
        TRY(text_append(out, "}\n", 2, err));
    }
    return COHORT_OK;
}

/* A set of which no row is good is an error, for who runs this in a script. */
static cohort_status check_use(const struct data_survey *s, cohort_error *err)
{
    const size_t n = s->data.n_rows;
    if (s->n_refused + s->n_dropped < n)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_FORMAT, "%s: of %zu row%s %zu would be refused and %zu left out: none is good",
                     s->data.path, n, n == 1 ? "" : "s", s->n_refused, s->n_dropped);
}

cohort_status command_data(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                           cohort_error *err)
{
    (void)extra;
    const char *dir = options_string(options, OPTION_MODEL);
    struct session session = {0}; /* a tokenizer alone: no weights are read */
    struct data_survey survey = {0};
    struct text out = {0};
    int32_t context = INT32_MAX;
    cohort_status status = COHORT_OK;
    if (options_string(options, OPTION_DATA) == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "no data given: cohort data FILE");
    if (dir != NULL)
        TRY_GOTO(open_tokenizer(&session, dir, options_string(options, OPTION_CHAT_TEMPLATE), &context, err));
    observer_notes(observer, &session.notes);
    const int64_t length = options_int(options, OPTION_MAX_LENGTH),
                  prompt = options_int_or(options, OPTION_MAX_PROMPT_LENGTH, context - 1);
    TRY_GOTO(data_survey_make(&survey, dir == NULL ? NULL : &session, (int32_t)(length < context ? length : context),
                              (int32_t)(prompt < context - 1 ? prompt : context - 1), options, observer, err));
    if (dir != NULL)
        TRY_GOTO(row_tell_template(&session, survey.teaches, observer, err));
    TRY_GOTO(json_rows_asked(options) ? write_survey(&survey, &out, err) : print_survey(&survey, &out, err));
    observer_output(observer, &out);
    status = check_use(&survey, err);
cleanup:
    text_free(&out);
    data_survey_free(&survey);
    chat_template_close(session.chat);
    tokenizer_destroy(session.tokenizer);
    text_free(&session.notes);
    return status;
}
