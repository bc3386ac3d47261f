#include "format/model_folder.h"

#include "base/absent.h"
#include "base/file.h"
#include "base/json_text.h"

#include <errno.h>
#include <string.h>

static const char expected[] = "expected a Hugging Face checkpoint folder with config.json and model.safetensors";

/* What the entries of a folder tell. Names are copies, NULL if there is none. */
struct clues {
    char *adapter, *gguf, *torch, *partial, *weights;
    char *model; /* a folder with config.json */
    size_t n_entries, n_models;
    bool snapshots, final, checkpoints;
};

static void clues_free(struct clues *clues)
{
    char *const names[] = {clues->adapter, clues->gguf, clues->torch, clues->partial, clues->weights, clues->model};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        mem_free(names[i]);
    memset(clues, 0, sizeof *clues);
}

/* Keeps the first name of a kind. */
static cohort_status keep(char **to, const char *name, cohort_error *err)
{
    return *to != NULL ? COHORT_OK : mem_strdup(to, name, strlen(name), err);
}

static cohort_status look_at_folder(struct clues *clues, const char *path, const char *name, cohort_error *err)
{
    char *inner = NULL, *config = NULL;
    enum file_kind kind = FILE_ABSENT;
    cohort_status status = COHORT_OK;
    clues->snapshots = clues->snapshots || strcmp(name, "snapshots") == 0;
    clues->final = clues->final || strcmp(name, "final") == 0;
    clues->checkpoints = clues->checkpoints || strcmp(name, "checkpoints") == 0;
    TRY_GOTO(file_join(&inner, path, name, err));
    TRY_GOTO(file_join(&config, inner, "config.json", err));
    if (file_look(config, &kind, NULL) == COHORT_OK && kind == FILE_FILE) {
        clues->n_models++;
        TRY_GOTO(keep(&clues->model, name, err));
    }
cleanup:
    mem_free(inner);
    mem_free(config);
    return status;
}

static cohort_status look_at_file(struct clues *clues, const char *name, cohort_error *err)
{
    static const char *const torch[] = {".bin", ".pth", ".pt", ".ckpt"};
    static const char *const partial[] = {".incomplete", ".part", ".crdownload", ".aria2", ".download", ".tmp"};
    if (strcmp(name, "adapter_config.json") == 0)
        TRY(keep(&clues->adapter, name, err));
    if (text_ends(name, ".gguf"))
        TRY(keep(&clues->gguf, name, err));
    if (text_ends(name, ".safetensors") && strncmp(name, "adapter_", 8) != 0)
        TRY(keep(&clues->weights, name, err));
    for (size_t i = 0; i < sizeof torch / sizeof *torch; i++)
        if (text_ends(name, torch[i]) && strcmp(name, "training_args.bin") != 0)
            TRY(keep(&clues->torch, name, err));
    for (size_t i = 0; i < sizeof partial / sizeof *partial; i++)
        if (text_ends(name, partial[i]))
            TRY(keep(&clues->partial, name, err));
    return COHORT_OK;
}

static cohort_status gather(struct clues *clues, const char *path, cohort_error *err)
{
    const char *name = NULL;
    cohort_status status = COHORT_OK;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return error_set(err, COHORT_ERR_IO, "%s: cannot open the folder: %s", path, strerror(errno));
    while ((name = file_next_entry(dir, path, &status, err)) != NULL) {
        char *inner = NULL;
        enum file_kind kind = FILE_ABSENT;
        clues->n_entries++;
        TRY_GOTO(file_join(&inner, path, name, err));
        /* A link to nothing tells nothing. */
        (void)file_look(inner, &kind, NULL);
        mem_free(inner);
        if (kind == FILE_FOLDER)
            TRY_GOTO(look_at_folder(clues, path, name, err));
        else
            TRY_GOTO(look_at_file(clues, name, err));
    }
cleanup:
    closedir(dir);
    return status;
}

static cohort_status refuse_adapter(const char *path, const char *missing, cohort_error *err)
{
    char *config = NULL;
    json_t *json = NULL;
    TRY(file_join(&config, path, "adapter_config.json", err));
    (void)json_text_read(&json, config, 1 << 20, JSON_TEXT_REPEATED, NULL);
    const char *base = json_string_value(json_object_get(json, "base_model_name_or_path"));
    error_set(err, COHORT_ERR_IO,
              "%s: %s: it holds an adapter (adapter_config.json)%s%s, not a model; merge it into "
              "its base model with cohort merge --adapter %s, and give that folder",
              path, missing, base != NULL ? " of " : "", base != NULL ? base : "", path);
    json_decref(json);
    mem_free(config);
    return COHORT_ERR_IO;
}

/* The only folder in path/snapshots, which is where a hub's cache has the model; NULL if it is not one. */
static cohort_status only_snapshot(const char *path, char **name, cohort_error *err)
{
    struct clues clues = {0};
    char *snapshots = NULL;
    TRY(file_join(&snapshots, path, "snapshots", err));
    cohort_status status = gather(&clues, snapshots, err);
    if (status == COHORT_OK && clues.n_models == 1) {
        *name = clues.model;
        clues.model = NULL;
    }
    clues_free(&clues);
    mem_free(snapshots);
    return status;
}

static cohort_status refuse_folder(const char *path, const char *missing, cohort_error *err)
{
    struct clues c = {0};
    char *snapshot = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(gather(&c, path, err));
    if (c.adapter != NULL)
        status = refuse_adapter(path, missing, err);
    else if (c.snapshots) {
        TRY_GOTO(only_snapshot(path, &snapshot, err));
        status = error_set(err, COHORT_ERR_IO,
                           "%s: %s: it is a folder of the Hugging Face cache; give the folder "
                           "inside it, %s/snapshots/%s",
                           path, missing, path, snapshot != NULL ? snapshot : "HASH");
    } else if (c.final && c.checkpoints)
        status = error_set(err, COHORT_ERR_IO,
                           "%s: %s: it is the folder of a run; give its model, %s/final or "
                           "%s/checkpoints/step-N",
                           path, missing, path, path);
    else if (c.gguf != NULL)
        status = error_set(err, COHORT_ERR_IO,
                           "%s: %s: it holds a GGUF file (%s), which this version does not read; "
                           "give the checkpoint in Hugging Face format that it was made from",
                           path, missing, c.gguf);
    else if (c.weights != NULL)
        status = error_set(err, COHORT_ERR_IO,
                           "%s: %s, but there is %s: it was copied or downloaded in part, or renamed; %s", path,
                           missing, c.weights, expected);
    else if (c.torch != NULL)
        status = error_set(err, COHORT_ERR_IO,
                           "%s: %s: its weights are torch's (%s), which are not read because they "
                           "may run any program; load it with transformers and write it with "
                           "save_pretrained",
                           path, missing, c.torch);
    else if (c.partial != NULL)
        status = error_set(err, COHORT_ERR_IO, "%s: %s: a download is not finished (%s); start it again", path, missing,
                           c.partial);
    else if (c.n_models > 0)
        status = error_set(err, COHORT_ERR_IO, "%s: %s: %s a model; give %s/%s", path, missing,
                           c.n_models == 1 ? "a folder inside it holds" : "folders inside it hold", path, c.model);
    else if (c.n_entries == 0)
        status = error_set(err, COHORT_ERR_IO, "%s: %s: the folder is empty; %s", path, missing, expected);
    else
        status = error_set(err, COHORT_ERR_IO, "%s: %s; %s", path, missing, expected);
cleanup:
    clues_free(&c);
    mem_free(snapshot);
    return status;
}

static cohort_status refuse_file(const char *path, cohort_error *err)
{
    struct file_map map = {0};
    const char *found = NULL, *slash = strrchr(path, '/');
    if (file_map_open(&map, path, NULL) == COHORT_OK)
        found = wrong_file(map.data, map.size, WRONG_FILE_JSON);
    file_map_close(&map);
    if (found != NULL)
        return error_set(err, COHORT_ERR_IO, "%s: not a folder but %s", path, found);
    if (text_ends(path, ".safetensors") || text_ends(path, ".json"))
        return error_set(err, COHORT_ERR_IO, "%s: not a folder; give the folder that this file is in, %.*s", path,
                         slash == NULL ? 1 : (int)(slash - path), slash == NULL ? "." : path);
    return error_set(err, COHORT_ERR_IO, "%s: not a folder; %s", path, expected);
}

cohort_status model_folder_refuse(const char *path, const char *missing, cohort_error *err)
{
    enum file_kind kind = FILE_ABSENT;
    TRY(file_look(path, &kind, err));
    switch (kind) {
    case FILE_FOLDER: return refuse_folder(path, missing == NULL ? "no model" : missing, err);
    case FILE_FILE: return refuse_file(path, err);
    case FILE_ABSENT: break;
    }
    TRY(absent_explain(path, ABSENT_MODEL, err));
    return error_set(err, COHORT_ERR_IO, "%s: not a folder: there is nothing of that name; %s", path, expected);
}
