#include "run/data_paths.h"

#include "base/absent.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/number.h"
#include "run/data_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 16, MAX_FILES = 1 << 20 };

/* ---- the files of a folder ---- */

struct folder_file {
    char *path;
    const char *name;    /* within path: relative to the folder */
    const char *split;   /* within path, or a literal */
    size_t split_length; /* 0: none */
};

struct folder {
    const char *root;
    struct folder_file *files;
    size_t n, capacity;
    size_t n_saved; /* of the files, those of datasets.save_to_disk */
    bool model;     /* a checkpoint's */
};

static bool is_passed_over(const char *name)
{
    static const char *const others[] = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json",
                                         "state.json"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(name, others[i]) == 0)
            return true;
    /* What dataset.map leaves beside the files of a set. */
    if (strncmp(name, "cache-", 6) == 0 && data_file_named(name) == &data_format_arrow)
        return true;
    return data_file_named(name) == NULL;
}

/* Adds a file. path becomes the folder's. */
static cohort_status add_file(struct folder *folder, char **path, cohort_error *err)
{
    if (folder->n == MAX_FILES)
        return error_set(err, COHORT_ERR_IO, "%s: more than %d data files", folder->root, MAX_FILES);
    TRY(mem_grow(&folder->files, &folder->capacity, folder->n + 1, sizeof *folder->files, "data files", err));
    const char *within = *path + strlen(folder->root);
    folder->files[folder->n++] =
        (struct folder_file){.path = *path, .name = within + strspn(within, "/"), .split = "train", .split_length = 5};
    *path = NULL;
    return COHORT_OK;
}

/* Of a folder that datasets.save_to_disk wrote, the files that its state.json (at state) names: others that lie there
 * are leavings. *saved: it is such a folder. */
static cohort_status take_saved(struct folder *folder, const char *parent, const char *state, bool *saved,
                                cohort_error *err)
{
    enum { STATE_BYTES = 1 << 26 };
    json_t *json = NULL;
    char *path = NULL;
    cohort_status status = COHORT_OK;
    TRY(json_text_read(&json, state, STATE_BYTES, JSON_TEXT_REPEATED, err));
    const json_t *files = json_object_get(json, "_data_files"), *indices = json_object_get(json, "_indices_data_files");
    *saved = json_is_array(files);
    if (*saved && json_array_size(indices) > 0)
        TRY_GOTO(error_set(err, COHORT_ERR_UNSUPPORTED,
                           "%s: was saved with indices beside its rows, by an old version of datasets; load it with "
                           "datasets.load_from_disk and write it again with save_to_disk",
                           state));
    for (size_t i = 0; *saved && i < json_array_size(files); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(files, i), "filename"));
        enum file_kind kind = FILE_ABSENT;
        if (name == NULL || strchr(name, '/') != NULL)
            TRY_GOTO(error_set(err, COHORT_ERR_FORMAT, "%s: _data_files[%zu]: expected the name of a file beside it",
                               state, i));
        TRY_GOTO(file_join(&path, parent, name, err));
        TRY_GOTO(file_look(path, &kind, err));
        if (kind != FILE_FILE)
            TRY_GOTO(error_set(err, COHORT_ERR_IO, "%s: names %s, which is not beside it; get the whole folder", state,
                               name));
        TRY_GOTO(add_file(folder, &path, err));
        folder->n_saved++;
    }
cleanup:
    mem_free(path);
    json_decref(json);
    return status;
}

static cohort_status look_into(struct folder *folder, const char *path, int depth, cohort_error *err);

static cohort_status take_entry(struct folder *folder, const char *parent, const char *name, int depth,
                                cohort_error *err)
{
    char *path = NULL;
    enum file_kind kind = FILE_ABSENT;
    cohort_status status = COHORT_OK;
    if (name[0] == '.')
        return COHORT_OK;
    TRY(file_join(&path, parent, name, err));
    TRY_GOTO(file_look(path, &kind, err));
    folder->model = folder->model || strcmp(name, "tokenizer.json") == 0 || strcmp(name, "model.safetensors") == 0;
    if (kind == FILE_FOLDER && strncmp(name, "__", 2) != 0) {
        if (depth == MAX_DEPTH)
            status = error_set(err, COHORT_ERR_IO, "%s: more than %d folders within another", path, MAX_DEPTH);
        else
            status = look_into(folder, path, depth + 1, err);
    } else if (kind == FILE_FILE && !is_passed_over(name)) {
        status = add_file(folder, &path, err);
    }
cleanup:
    mem_free(path);
    return status;
}

static cohort_status look_into(struct folder *folder, const char *path, int depth, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    const char *name = NULL;
    char *state = NULL;
    bool there = false;
    TRY(file_join(&state, path, "state.json", err));
    status = file_exists(state, &there, err);
    if (status == COHORT_OK && there)
        status = take_saved(folder, path, state, &there, err);
    mem_free(state);
    if (status != COHORT_OK || there)
        return status;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return error_set(err, COHORT_ERR_IO, "%s: cannot open the folder", path);
    while (status == COHORT_OK && (name = file_next_entry(dir, path, &status, err)) != NULL)
        status = take_entry(folder, path, name, depth, err);
    closedir(dir);
    return status;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct folder_file *)a)->path, ((const struct folder_file *)b)->path);
}

/* ---- splits ---- */

static bool is_mark(char c) { return c != '\0' && strchr("-._ 0123456789", c) != NULL; }

/* The split that a part of a path is called by, or NULL. A folder may end with the word, a file goes on. */
static const char *called(const char *name, size_t length, bool folder)
{
    static const struct {
        const char *word, *split;
    } words[] = {{"train", "train"},      {"training", "train"}, {"validation", "validation"},
                 {"valid", "validation"}, {"dev", "validation"}, {"val", "validation"},
                 {"test", "test"},        {"testing", "test"},   {"eval", "test"},
                 {"evaluation", "test"}};
    for (size_t w = 0; w < sizeof words / sizeof *words; w++) {
        const size_t n = strlen(words[w].word);
        for (size_t i = 0; i + n <= length; i++)
            if (strncmp(name + i, words[w].word, n) == 0 && (i == 0 || is_mark(name[i - 1])) &&
                (i + n == length ? folder : is_mark(name[i + n])))
                return words[w].split;
    }
    return NULL;
}

static const char *base_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash == NULL ? name : slash + 1;
}

static const char *split_of_folders(const char *name)
{
    for (const char *slash = strchr(name, '/'); slash != NULL; slash = strchr(name, '/')) {
        const char *split = called(name, (size_t)(slash - name), true);
        if (split != NULL)
            return split;
        name = slash + 1;
    }
    return NULL;
}

/* The length of NAME in NAME-00000-of-00002..., 0 where a name is not like that. */
static size_t sharded(const char *name)
{
    const char *of = strstr(name, "-of-");
    if (of == NULL || of - name < 7 || strspn(of - 5, "0123456789") != 5 || of[-6] != '-' ||
        strspn(of + 4, "0123456789") < 5)
        return 0;
    return (size_t)(of - 6 - name);
}

static bool has_split(const struct folder_file *file, const char *name, size_t length)
{
    return file->split_length == length && strncmp(file->split, name, length) == 0;
}

static void set_split(struct folder_file *file, const char *split)
{
    file->split = split == NULL ? "" : split;
    file->split_length = split == NULL ? 0 : strlen(split);
}

/* The folder that the file is in, if that is not the root. */
static void set_split_of_parent(struct folder_file *file)
{
    const char *base = base_of(file->name), *from = base - 1;
    if (base == file->name)
        return;
    while (from > file->name && from[-1] != '/')
        from--;
    file->split = from;
    file->split_length = (size_t)(base - 1 - from);
}

/* Says of each file which split it is of. *together: files of a split lie in one folder, because several folders are
 * several data sets (the configurations of a set on the Hub). */
static void find_splits(struct folder *folder, bool *together)
{
    size_t n_data = 0, n_sharded = 0, n_folders = 0, n_files = 0;
    if (folder->n_saved > 0 && folder->n_saved == folder->n) { /* each split of a saved set is a folder of its name */
        *together = true;
        for (size_t i = 0; i < folder->n; i++)
            set_split_of_parent(&folder->files[i]);
        return;
    }
    for (size_t i = 0; i < folder->n; i++) {
        const char *name = folder->files[i].name;
        n_data += strncmp(name, "data/", 5) == 0 && strchr(name + 5, '/') == NULL && sharded(name + 5) > 0;
        n_sharded += sharded(base_of(name)) > 0;
        n_folders += split_of_folders(name) != NULL;
        n_files += called(base_of(name), strlen(base_of(name)), false) != NULL;
    }
    *together = n_data == 0 && (n_sharded == folder->n || n_folders == 0) && (n_sharded == folder->n || n_files > 0);
    for (size_t i = 0; i < folder->n; i++) {
        struct folder_file *file = &folder->files[i];
        const char *base = base_of(file->name);
        if (n_data > 0 || n_sharded == folder->n) {
            const bool taken = n_data == 0 || (strncmp(file->name, "data/", 5) == 0 && base == file->name + 5);
            file->split = base;
            file->split_length = taken ? sharded(base) : 0;
        } else if (n_folders > 0) {
            set_split(file, split_of_folders(file->name));
        } else if (n_files > 0) {
            set_split(file, called(base, strlen(base), false));
        }
    }
}

enum { MAX_SPLITS = 256 };

/* "train (2 files), test (1 file)" */
static cohort_status list_splits(const struct folder *folder, size_t *n, struct text *out, cohort_error *err)
{
    struct {
        const struct folder_file *first;
        size_t count;
    } *splits = NULL;
    cohort_status status = COHORT_OK;
    *n = 0;
    TRY(mem_alloc(&splits, MAX_SPLITS, sizeof *splits, "splits", err));
    TRY_GOTO(text_append(out, "", 0, err));
    for (size_t i = 0; i < folder->n; i++) {
        const struct folder_file *file = &folder->files[i];
        size_t s = 0;
        if (file->split_length == 0)
            continue;
        while (s < *n && !has_split(splits[s].first, file->split, file->split_length))
            s++;
        if (s == MAX_SPLITS) {
            status = error_set(err, COHORT_ERR_IO, "%s: more than %d splits", folder->root, MAX_SPLITS);
            goto cleanup;
        }
        if (s == *n)
            splits[(*n)++].first = file;
        splits[s].count++;
    }
    for (size_t s = 0; s < *n; s++)
        TRY_GOTO(text_printf(out, err, "%s%.*s (%zu file%s)", s == 0 ? "" : ", ", (int)splits[s].first->split_length,
                             splits[s].first->split, splits[s].count, splits[s].count == 1 ? "" : "s"));
cleanup:
    mem_free(splits);
    return status;
}

static cohort_status add_path(struct data_item *item, const char *path, cohort_error *err)
{
    TRY(mem_grow(&item->paths, &item->capacity, item->n_paths + 1, sizeof *item->paths, "data files", err));
    if (path != NULL)
        TRY(mem_strdup(&item->paths[item->n_paths], path, strlen(path), err));
    item->n_paths++;
    return COHORT_OK;
}

/* Of files that are called NAME-00000-of-00002 and so on, all must be there: a download that was cut off is half a set. */
static cohort_status check_complete(const struct folder *folder, const char *split, size_t length, cohort_error *err)
{
    size_t n = 0, wanted = 0;
    const char *of = NULL;
    for (size_t i = 0; i < folder->n; i++) {
        const struct folder_file *file = &folder->files[i];
        if (!has_split(file, split, length))
            continue;
        const char *base = base_of(file->name);
        if (sharded(base) == 0)
            return COHORT_OK;
        of = strstr(base, "-of-") + 4;
        const size_t stated = strtoul(of, NULL, 10);
        if (n++ > 0 && stated != wanted)
            return COHORT_OK; /* several sets: their readers know which is which */
        wanted = stated;
    }
    if (n >= wanted)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_IO,
                     "%s: has %zu of the %zu files of '%.*s' (...-of-%.5s): get the others, or name the files that are "
                     "meant, with commas",
                     folder->root, n, wanted, (int)length, split, of);
}

/* Takes the files of a split. */
static cohort_status take_split(struct data_item *item, const struct folder *folder, const char *split, size_t length,
                                bool together, cohort_error *err)
{
    const struct folder_file *first = NULL;
    TRY(check_complete(folder, split, length, err));
    for (size_t i = 0; i < folder->n; i++) {
        const struct folder_file *file = &folder->files[i];
        if (!has_split(file, split, length))
            continue;
        first = first == NULL ? file : first;
        const size_t a = (size_t)(base_of(first->path) - first->path), b = (size_t)(base_of(file->path) - file->path);
        if (together && (a != b || strncmp(first->path, file->path, a) != 0))
            return error_set(
                err, COHORT_ERR_ARGUMENT,
                "%s: the files of '%.*s' lie in several folders, %.*s and %.*s: several data sets; give one "
                "of the folders, or several with a comma",
                folder->root, (int)length, split, (int)a, first->path, (int)b, file->path);
        if (data_file_named(first->path) != data_file_named(file->path))
            return error_set(
                err, COHORT_ERR_ARGUMENT,
                "%s: holds files of several formats, %s and %s; give the files that are meant, with commas",
                folder->root, first->name, file->name);
        TRY(add_path(item, file->path, err));
    }
    return COHORT_OK;
}

static cohort_status pick_split(struct data_item *item, struct folder *folder, const char *split, struct text *notes,
                                cohort_error *err)
{
    struct text list = {0};
    size_t n_splits = 0, length = split == NULL ? 0 : strlen(split);
    bool together = false;
    cohort_status status = COHORT_OK;
    find_splits(folder, &together);
    TRY_GOTO(list_splits(folder, &n_splits, &list, err));
    if (split == NULL && n_splits > 1) {
        status = error_set(err, COHORT_ERR_ARGUMENT, "%s: has the splits %s: name one, for example %s:%.*s",
                           folder->root, list.data, folder->root, (int)strcspn(list.data, " "), list.data);
        goto cleanup;
    }
    for (size_t i = 0; split == NULL && i < folder->n; i++)
        if (folder->files[i].split_length > 0) {
            split = folder->files[i].split;
            length = folder->files[i].split_length;
        }
    if (split != NULL)
        TRY_GOTO(take_split(item, folder, split, length, together, err));
    if (item->n_paths == 0) {
        status = error_set(err, COHORT_ERR_ARGUMENT, "%s: has no split '%.*s', but %s", folder->root, (int)length,
                           split == NULL ? "" : split, list.data);
        goto cleanup;
    }
    status = text_printf(notes, err, "note: %.300s: %zu file%s of the split '%.*s'\n", folder->root, item->n_paths,
                         item->n_paths == 1 ? "" : "s", (int)length, split);
cleanup:
    text_free(&list);
    return status;
}

static cohort_status take_folder(struct data_item *item, const char *root, const char *split, struct text *notes,
                                 cohort_error *err)
{
    struct folder folder = {.root = root};
    cohort_status status = COHORT_OK;
    TRY_GOTO(look_into(&folder, root, 0, err));
    if (folder.model)
        status = error_set(err, COHORT_ERR_IO, "%s: is a folder with a model's files, expected data files", root);
    else if (folder.n == 0)
        status =
            error_set(err, COHORT_ERR_IO,
                      "%s: a folder without data files (.jsonl, .json, .csv, .tsv, .parquet, .arrow, the first four "
                      "also packed as .gz or .zst)",
                      root);
    if (status != COHORT_OK)
        goto cleanup;
    qsort(folder.files, folder.n, sizeof *folder.files, by_path);
    status = pick_split(item, &folder, split, notes, err);
cleanup:
    for (size_t i = 0; i < folder.n; i++)
        mem_free(folder.files[i].path);
    mem_free(folder.files);
    return status;
}

/* ---- items ---- */

/* What an item without a weight names. */
static cohort_status take_named(struct data_item *item, char *name, struct text *notes, cohort_error *err)
{
    enum file_kind kind = FILE_ABSENT;
    if (strcmp(name, "-") == 0)
        return add_path(item, NULL, err);
    TRY(file_look(name, &kind, err));
    if (kind == FILE_FOLDER)
        return take_folder(item, name, NULL, notes, err);
    char *colon = strrchr(name, ':');
    if (kind == FILE_ABSENT && colon == NULL)
        TRY(absent_explain(name, ABSENT_DATA, err));
    if (kind == FILE_FILE || colon == NULL)
        return add_path(item, name, err);
    *colon = '\0';
    TRY(file_look(name, &kind, err));
    if (kind == FILE_FOLDER)
        return take_folder(item, name, colon + 1, notes, err);
    if (kind == FILE_FILE)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "%s: what stands behind it, ':%.80s', is no weight: a number above 0", name, colon + 1);
    *colon = ':';
    TRY(absent_explain(name, ABSENT_DATA, err));
    return add_path(item, name, err);
}

static cohort_status take_item(struct data_paths *paths, char *name, struct text *notes, cohort_error *err)
{
    enum file_kind kind = FILE_ABSENT;
    double weight = 0.0;
    TRY(mem_grow(&paths->items, &paths->capacity, paths->n_items + 1, sizeof *paths->items, "data", err));
    struct data_item *item = &paths->items[paths->n_items++];
    if (*name == '\0')
        return error_set(err, COHORT_ERR_ARGUMENT, "--data: a file's name is empty between two commas");
    char *colon = strrchr(name, ':');
    if (colon == NULL || !number_read(colon + 1, strlen(colon + 1), &weight))
        return take_named(item, name, notes, err);
    TRY(file_look(name, &kind, err));
    if (kind != FILE_ABSENT)
        return take_named(item, name, notes, err);
    if (!(weight > 0.0) || !isfinite(weight))
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: the weight must be above 0", name);
    *colon = '\0';
    item->weight = weight;
    return take_named(item, name, notes, err);
}

static cohort_status check_weights(const struct data_paths *paths, cohort_error *err)
{
    for (size_t i = 1; i < paths->n_items; i++)
        if ((paths->items[i].weight > 0.0) != (paths->items[0].weight > 0.0))
            return error_set(
                err, COHORT_ERR_ARGUMENT,
                "--data: some files have a weight and some have none; give each one (FILE:0.5,FILE:0.5), or "
                "none, and they are read one behind the other");
    if (paths->n_items == 1) /* nothing to weigh it against */
        paths->items[0].weight = 0.0;
    return COHORT_OK;
}

cohort_status data_paths_find(struct data_paths *paths, const char *spec, struct text *notes, cohort_error *err)
{
    enum file_kind kind = FILE_ABSENT;
    struct text item = {0};
    cohort_status status = COHORT_OK;
    memset(paths, 0, sizeof *paths);
    TRY(file_look(spec, &kind, err));
    if (kind != FILE_ABSENT) {
        TRY_GOTO(text_append(&item, spec, strlen(spec), err));
        TRY_GOTO(mem_grow(&paths->items, &paths->capacity, 1, sizeof *paths->items, "data", err));
        paths->n_items = 1;
        status = take_named(&paths->items[0], item.data, notes, err);
        goto cleanup;
    }
    for (const char *at = spec;; at++) {
        TRY_GOTO(text_append(&item, "", 0, err));
        if (*at == '\0' || *at == ',') {
            TRY_GOTO(take_item(paths, item.data, notes, err));
            item.length = 0;
            if (*at == '\0')
                break;
        } else {
            at += *at == '\\' && at[1] == ',';
            TRY_GOTO(text_append(&item, at, 1, err));
        }
    }
    status = check_weights(paths, err);
cleanup:
    text_free(&item);
    return status;
}

void data_paths_free(struct data_paths *paths)
{
    for (size_t i = 0; i < paths->n_items; i++) {
        for (size_t k = 0; k < paths->items[i].n_paths; k++)
            mem_free(paths->items[i].paths[k]);
        mem_free(paths->items[i].paths);
    }
    mem_free(paths->items);
    memset(paths, 0, sizeof *paths);
}
