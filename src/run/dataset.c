#include "run/dataset.h"

#include "base/json_text.h"
#include "run/data_paths.h"

#include <stdio.h>
#include <string.h>

/* ---- opening ---- */

/* A data set that is being opened. */
struct opening {
    struct dataset *set;
    const struct dataset_request *request;
    struct data_room room;
    struct hash hash;
};

/* The columns of a file's rows, by its first one. */
static cohort_status look_at_columns(struct dataset *set, struct dataset_file *file, cohort_error *err)
{
    json_t *first = NULL;
    if (file->n_rows == 0)
        return COHORT_OK;
    TRY(file->data.format->row(&file->data, 0, &first, err));
    const cohort_status status =
        data_form_find(&file->form, &set->columns, first, file->data.bytes.path, &set->notes, err);
    json_decref(first);
    return status;
}

static cohort_status open_file(struct opening *o, const char *path, struct dataset_part *part, cohort_error *err)
{
    struct dataset *set = o->set;
    const size_t limit = o->request->limit;
    TRY(mem_grow(&set->files, &set->file_capacity, set->n_files + 1, sizeof *set->files, "data files", err));
    struct dataset_file *file = &set->files[set->n_files++];
    TRY(data_file_open(&file->data, path, &o->room, &o->hash, o->request->stop, &set->notes, err));
    const size_t left = limit == 0 ? SIZE_MAX : limit - part->n_rows;
    file->first = set->n_rows;
    file->n_rows = file->data.n_rows < left ? file->data.n_rows : left;
    set->n_rows += file->n_rows;
    part->n_rows += file->n_rows;
    TRY(look_at_columns(set, file, err));
    data_file_rest(&file->data);
    return COHORT_OK;
}

static cohort_status open_item(struct opening *o, const struct data_item *item, cohort_error *err)
{
    struct dataset *set = o->set;
    if (item->weight > 0.0 || set->n_parts == 0) {
        TRY(mem_grow(&set->parts, &set->part_capacity, set->n_parts + 1, sizeof *set->parts, "data", err));
        set->parts[set->n_parts++] = (struct dataset_part){.first = set->n_rows, .weight = item->weight};
    }
    struct dataset_part *part = &set->parts[set->n_parts - 1];
    for (size_t i = 0; i < item->n_paths; i++)
        TRY(open_file(o, item->paths[i], part, err));
    if (item->weight > 0.0 && part->n_rows == 0)
        return error_set(err, COHORT_ERR_FORMAT, "%s: has no rows, and a weight", item->paths[0]);
    if (item->weight > 0.0)
        hash_add(&o->hash, &item->weight, sizeof item->weight);
    return COHORT_OK;
}

static cohort_status refuse_empty(const struct dataset *set, const char *name, cohort_error *err)
{
    const struct data_file *file = set->n_files == 1 ? &set->files[0].data : NULL;
    return error_set(err, COHORT_ERR_FORMAT, "%s: %s; expected %s", name,
                     file != NULL && file->bytes.size <= file->mark ? "the file is empty" : "has no rows",
                     file != NULL && file->format != &data_format_jsonl ? "at least one" : "one JSON object a line");
}

cohort_status dataset_open(struct dataset *set, const struct dataset_request *request, cohort_error *err)
{
    struct opening opening = {.set = set, .request = request, .room = {.memory = DATA_MEMORY_BYTES}};
    struct data_paths paths = {0};
    const char *name = strcmp(request->spec, "-") == 0 ? "standard input" : request->spec;
    cohort_status status = COHORT_OK;
    memset(set, 0, sizeof *set);
    hash_begin(&opening.hash);
    TRY_GOTO(mem_strdup(&set->path, name, strlen(name), err));
    set->columns.recognise = request->recognise;
    TRY_GOTO(data_columns_parse(&set->columns, request->columns, request->n_columns, err));
    TRY_GOTO(data_paths_find(&paths, request->spec, &set->notes, err));
    set->columns.several = paths.n_items > 1 || paths.items[0].n_paths > 1;
    for (size_t i = 0; i < paths.n_items; i++)
        TRY_GOTO(open_item(&opening, &paths.items[i], err));
    hash_end(&opening.hash, set->sha256);
    if (set->n_rows == 0)
        status = refuse_empty(set, name, err);
    else
        status = data_columns_check(&set->columns, name, err);
cleanup:
    data_paths_free(&paths);
    if (status != COHORT_OK)
        dataset_free(set);
    return status;
}

void dataset_free(struct dataset *set)
{
    for (size_t i = 0; i < set->n_files; i++)
        data_file_close(&set->files[i].data);
    for (size_t i = 0; set->given != NULL && i < set->n_rows; i++)
        json_decref(set->given[i]);
    mem_free(set->files);
    mem_free(set->parts);
    mem_free(set->given);
    mem_free(set->path);
    json_decref(set->lost);
    text_free(&set->notes);
    data_columns_free(&set->columns);
    memset(set, 0, sizeof *set);
}

/* ---- rows ---- */

static const char given_name[] = "rows";

cohort_status dataset_add(struct dataset *set, const char *row, size_t length, cohort_error *err)
{
    const long long number = (long long)set->n_rows + 1;
    json_t *json = NULL;
    cohort_status status =
        json_text_parse(&json, row, length, given_name, number, JSON_TEXT_NUL | JSON_TEXT_NAN_NULL, err);
    if (status == COHORT_ERR_FORMAT)
        return error_set(err, status, "%s; expected one JSON object a line", err == NULL ? "" : err->message);
    TRY(status);
    if (!json_is_object(json))
        status = error_set(err, COHORT_ERR_FORMAT, "%s:%lld:1: an array; expected one JSON object a line", given_name,
                           number);
    else
        status = mem_grow(&set->given, &set->given_capacity, set->n_rows + 1, sizeof(json_t *), "rows", err);
    if (status != COHORT_OK) {
        json_decref(json);
        return status;
    }
    set->given[set->n_rows++] = json;
    return COHORT_OK;
}

/* The file that row i is in. */
static size_t file_of(const struct dataset *set, size_t i)
{
    size_t low = 0, high = set->n_files - 1; /* the last file that begins at i or before it */
    while (low < high) {
        const size_t middle = high - (high - low) / 2;
        if (set->files[middle].first <= i)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Puts file f first in the list of those that are awake; the last goes to rest where there are too many. */
static void wake(struct dataset *set, size_t f)
{
    size_t at = 0;
    while (at < set->n_awake && set->awake[at] != f)
        at++;
    if (at == DATASET_AWAKE)
        data_file_rest(&set->files[set->awake[--at]].data);
    else if (at == set->n_awake)
        set->n_awake++;
    memmove(set->awake + 1, set->awake, at * sizeof *set->awake);
    set->awake[0] = f;
}

/* Says once of each column that bytes in it became null. */
static cohort_status tell_losses(struct dataset *set, struct data_file *file, cohort_error *err)
{
    const char *name = NULL;
    while (file->format->lost != NULL && (name = file->format->lost(file)) != NULL) {
        struct text line = {0};
        if (set->lost == NULL)
            set->lost = json_object();
        if (json_object_get(set->lost, name) != NULL)
            continue;
        if (json_object_set_new(set->lost, name, json_true()) != 0)
            return error_set(err, COHORT_ERR_MEMORY, "%s: out of memory", set->path);
        const cohort_status status = text_printf(
            &line, err, "note: %.300s: column \"%.80s\" holds bytes that are not UTF-8 text; they are read as null",
            file->bytes.path, name);
        if (status == COHORT_OK && set->tell != NULL)
            set->tell(set->tell_context, line.data);
        text_free(&line);
        TRY(status);
    }
    return COHORT_OK;
}

cohort_status dataset_row(struct dataset *set, size_t i, json_t **row, cohort_error *err)
{
    char place[DATA_PLACE];
    *row = NULL;
    if (set->given != NULL) {
        *row = json_incref(set->given[i]);
        return COHORT_OK;
    }
    const size_t f = file_of(set, i);
    struct dataset_file *file = &set->files[f];
    wake(set, f);
    TRY(file->data.format->row(&file->data, i - file->first, row, err));
    dataset_place(set, i, place);
    cohort_status status = data_columns_apply(&set->columns, &file->form, *row, place, err);
    if (status == COHORT_OK)
        status = tell_losses(set, &file->data, err);
    if (status != COHORT_OK) {
        json_decref(*row);
        *row = NULL;
    }
    return status;
}

void dataset_place(const struct dataset *set, size_t i, char place[DATA_PLACE])
{
    if (set->given != NULL) {
        snprintf(place, DATA_PLACE, "%s:%zu", given_name, i + 1);
        return;
    }
    const struct dataset_file *file = &set->files[file_of(set, i)];
    data_file_place(&file->data, i - file->first, place);
}
