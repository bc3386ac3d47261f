/* Reading weights: every tensor is accounted for before the first byte is converted (I7). */
#include "format/checkpoint.h"

#include "base/json_text.h"
#include "format/checkpoint_convert.h"
#include "format/model_folder.h"
#include "format/weight_parts.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_INDEX_BYTES = 1 << 26,
    LISTED = 3 /* names per complaint in a message */
};

/* ---- the files ---- */

struct shard_set {
    struct safetensors *files;
    size_t n_files, capacity;
    json_t *weight_map; /* tensor name -> file name; NULL for a single file */
    char *index_path;
};

static void shard_set_close(struct shard_set *set)
{
    for (size_t i = 0; i < set->n_files; i++)
        safetensors_close(&set->files[i]);
    mem_free(set->files);
    mem_free(set->index_path);
    json_decref(set->weight_map);
    memset(set, 0, sizeof *set);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static cohort_status open_shard(struct shard_set *set, const char *dir, const char *name, cohort_error *err)
{
    char *path = NULL;
    TRY(mem_grow(&set->files, &set->capacity, set->n_files + 1, sizeof *set->files, "shard list", err));
    TRY(file_join(&path, dir, name, err));
    cohort_status status = safetensors_open(&set->files[set->n_files], path, err);
    if (status == COHORT_OK)
        set->n_files++;
    mem_free(path);
    return status;
}

static cohort_status read_index(struct shard_set *set, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    json_t *index = NULL;
    const char *tensor = NULL;
    json_t *file = NULL;
    TRY_GOTO(json_text_read(&index, set->index_path, MAX_INDEX_BYTES, 0, err));
    set->weight_map = json_incref(json_object_get(index, "weight_map"));
    if (!json_is_object(set->weight_map)) {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: \"weight_map\" is not an object", set->index_path);
        goto cleanup;
    }
    json_object_foreach(set->weight_map, tensor, file)
    {
        const char *name = json_string_value(file);
        if (name == NULL || *name == '\0' || strchr(name, '/') != NULL || *name == '.') {
            status = error_set(err, COHORT_ERR_FORMAT,
                               "%s: weight_map: \"%.200s\" is not mapped to the name of a file in "
                               "this folder",
                               set->index_path, tensor);
            goto cleanup;
        }
    }
cleanup:
    json_decref(index);
    return status;
}

/* Opens every shard that the index names; says which are not there. */
static cohort_status open_shards(struct shard_set *set, const char *dir, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    struct text missing = {0};
    size_t n_missing = 0;
    char *path = NULL;
    bool there = false;
    const char *tensor = NULL;
    json_t *file = NULL;
    json_t *seen = json_object();
    if (seen == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "%s: cannot list the shards", set->index_path);
    json_object_foreach(set->weight_map, tensor, file)
    {
        const char *name = json_string_value(file);
        if (json_object_get(seen, name) != NULL)
            continue;
        if (json_object_set_new(seen, name, json_true()) != 0) {
            status = error_set(err, COHORT_ERR_MEMORY, "%s: cannot list the shards", set->index_path);
            goto cleanup;
        }
        TRY_GOTO(file_join(&path, dir, name, err));
        TRY_GOTO(file_exists(path, &there, err));
        if (there)
            TRY_GOTO(open_shard(set, dir, name, err));
        else if (n_missing++ < LISTED)
            TRY_GOTO(text_printf(&missing, err, "%s%.200s", n_missing > 1 ? ", " : "", name));
        mem_free(path);
        path = NULL;
    }
    if (n_missing > 0)
        status = error_set(err, COHORT_ERR_IO,
                           "%s: %zu of %zu shards that it names are not there (%s%s); copy or "
                           "download them again",
                           set->index_path, n_missing, json_object_size(seen), missing.data,
                           n_missing > LISTED ? ", ..." : "");
cleanup:
    json_decref(seen);
    mem_free(path);
    text_free(&missing);
    return status;
}

/* The index and the shards tell the same story: every tensor in the file that the index says, and
 * in no other. */
static cohort_status check_index(const struct shard_set *set, cohort_error *err)
{
    size_t n_found = 0;
    for (size_t i = 0; i < set->n_files; i++) {
        const struct safetensors *file = &set->files[i];
        const char *name = base_name(file->path);
        for (size_t j = 0; j < file->n_tensors; j++) {
            const char *tensor = file->tensors[j].name;
            const char *mapped = json_string_value(json_object_get(set->weight_map, tensor));
            if (mapped == NULL)
                return error_set(err, COHORT_ERR_FORMAT, "%s: tensor %.200s is not in the index %s", file->path, tensor,
                                 set->index_path);
            if (strcmp(mapped, name) != 0)
                return error_set(err, COHORT_ERR_FORMAT,
                                 "%s: tensor %.200s lies in this file, but the index %s says "
                                 "%.200s",
                                 file->path, tensor, set->index_path, mapped);
            n_found++;
        }
    }
    if (n_found == json_object_size(set->weight_map))
        return COHORT_OK;
    const char *tensor = NULL;
    json_t *mapped = NULL;
    json_object_foreach(set->weight_map, tensor, mapped)
    {
        bool found = false;
        for (size_t i = 0; !found && i < set->n_files; i++)
            found = safetensors_find(&set->files[i], tensor) != NULL;
        if (!found)
            return error_set(err, COHORT_ERR_FORMAT,
                             "%s: %zu tensors of the index are in no file; the first is %.200s, "
                             "expected in %.200s",
                             set->index_path, json_object_size(set->weight_map) - n_found, tensor,
                             json_string_value(mapped));
    }
    return COHORT_OK;
}

/* *single and *indexed: which of the two forms is there. */
static cohort_status find_weights(const char *dir, bool *single, bool *indexed, cohort_error *err)
{
    char *path = NULL;
    cohort_status status = COHORT_OK;
    *single = *indexed = false;
    TRY_GOTO(file_join(&path, dir, "model.safetensors", err));
    TRY_GOTO(file_exists(path, single, err));
    if (!*single) {
        mem_free(path);
        TRY_GOTO(file_join(&path, dir, "model.safetensors.index.json", err));
        TRY_GOTO(file_exists(path, indexed, err));
    }
cleanup:
    mem_free(path);
    return status;
}

cohort_status checkpoint_has_weights(const char *dir, bool *there, cohort_error *err)
{
    bool single = false, indexed = false;
    TRY(find_weights(dir, &single, &indexed, err));
    *there = single || indexed;
    return COHORT_OK;
}

static cohort_status shard_set_open(struct shard_set *set, const char *dir, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    bool single = false, indexed = false;
    memset(set, 0, sizeof *set);
    TRY_GOTO(find_weights(dir, &single, &indexed, err));
    TRY_GOTO(file_join(&set->index_path, dir, "model.safetensors.index.json", err));
    if (single) {
        TRY_GOTO(open_shard(set, dir, "model.safetensors", err));
    } else if (indexed) {
        TRY_GOTO(read_index(set, err));
        TRY_GOTO(open_shards(set, dir, err));
        TRY_GOTO(check_index(set, err));
    } else {
        status = model_folder_refuse(dir, "no model.safetensors and no model.safetensors.index.json", err);
    }
cleanup:
    if (status != COHORT_OK)
        shard_set_close(set);
    return status;
}

/* ---- matching ---- */

/* One kind of complaint: how often, and the first few names. */
struct complaint {
    size_t n;
    struct text names;
};

static cohort_status complain(struct complaint *complaint, const char *text, cohort_error *err)
{
    complaint->n++;
    if (complaint->n > LISTED)
        return complaint->n == LISTED + 1 ? text_printf(&complaint->names, err, ", ...") : COHORT_OK;
    return text_printf(&complaint->names, err, "%s%s", complaint->n > 1 ? ", " : "", text);
}

static void shape_text(char *out, size_t size, int32_t rank, const int64_t *shape)
{
    size_t used = 0;
    out[0] = '\0';
    for (int32_t i = 0; i < rank && used < size; i++) {
        int n = snprintf(out + used, size - used, "%s%" PRId64, i == 0 ? "[" : ", ", shape[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    if (used < size)
        snprintf(out + used, size - used, "%s", rank == 0 ? "[]" : "]");
}

static bool same_shape(const struct param *param, const struct safetensor *tensor)
{
    if (param->rank != tensor->rank)
        return false;
    for (int32_t i = 0; i < param->rank; i++)
        if (param->shape[i] != tensor->shape[i])
            return false;
    return true;
}

struct match {
    const struct param_table *table;
    const struct shard_set *set;
    const char *prefix;                /* of every name in the files, before a param's */
    const char *what;                  /* what the files should hold, for messages */
    const struct safetensor **tensors; /* one per param */
    const struct safetensors **files;  /* where it lies */
    const char *hint;                  /* what an unexpected tensor tells of the file, or NULL */
    bool headers_only;                 /* compare no bytes of tensors */
    struct complaint missing, unexpected, shapes, types;
};

/* The param that a tensor of the files is read for; NULL: none. */
static const struct param *param_of(const struct match *match, const struct safetensor *tensor)
{
    const size_t n = strlen(match->prefix);
    return strncmp(tensor->name, match->prefix, n) == 0 ? param_find(match->table, tensor->name + n) : NULL;
}

static const struct safetensor *find_tensor(const struct shard_set *set, const char *name)
{
    for (size_t i = 0; i < set->n_files; i++) {
        const struct safetensor *tensor = safetensors_find(&set->files[i], name);
        if (tensor != NULL)
            return tensor;
    }
    return NULL;
}

/* A tied model's head, saved all the same, is harmless if it is the embedding. */
static bool is_tied_head(const struct match *match, const struct safetensor *tensor)
{
    if (strcmp(tensor->name, "lm_head.weight") != 0)
        return false;
    const struct safetensor *embed = find_tensor(match->set, "model.embed_tokens.weight");
    return embed != NULL && strcmp(embed->dtype_name, tensor->dtype_name) == 0 && embed->rank == tensor->rank &&
           memcmp(embed->shape, tensor->shape, sizeof embed->shape) == 0 && embed->bytes == tensor->bytes &&
           (match->headers_only || memcmp(embed->data, tensor->data, embed->bytes) == 0);
}

/* The head of a language model that becomes a classifier. */
static bool is_replaced_head(const struct match *match, const struct safetensor *tensor)
{
    bool drawn = false;
    for (int32_t i = 0; i < match->table->n_params; i++)
        drawn = drawn || match->table->params[i].drawn;
    return drawn && strcmp(tensor->name, "lm_head.weight") == 0;
}

/* The frozen head or embedding that PEFT writes beside its adapter. A vocabulary that was resized for the adapter has
 * another number of rows. */
static bool is_adapted_base(const struct match *match, const struct safetensor *tensor)
{
    static const char head[] = "lm_head.base_layer.weight", embedding[] = "model.embed_tokens.base_layer.weight";
    const struct param *b = param_find(match->table, "lm_head.lora_B.weight"),
                       *a = param_find(match->table, "model.embed_tokens.lora_embedding_A"); /* [r, V] */
    const size_t n = strlen(match->prefix);
    if (strncmp(tensor->name, match->prefix, n) != 0 || tensor->rank != 2)
        return false;
    return (b != NULL && strcmp(tensor->name + n, head) == 0 && tensor->shape[0] == b->shape[0]) ||
           (a != NULL && strcmp(tensor->name + n, embedding) == 0 && tensor->shape[0] == a->shape[1]);
}

/* What a tensor's name tells of a file that is no plain checkpoint, or NULL. */
static const char *tensor_hint(const char *name)
{
    static const struct {
        const char *part, *hint;
    } hints[] = {{".lora_", "the tensors are a LoRA adapter's: merge it into its base model with "
                            "cohort merge"},
                 {".scales", "the weights are quantized (MLX-LM writes .scales): use the unquantized "
                             "checkpoint"},
                 {".qweight", "the weights are quantized (GPTQ or AWQ): use the unquantized checkpoint"},
                 {".absmax", "the weights are quantized (bitsandbytes): use the unquantized checkpoint"},
                 {".weight_scale", "the weights are quantized (FP8): use the unquantized checkpoint"},
                 {".base_layer.", "the file was saved with an adapter attached: merge it with peft's "
                                  "merge_and_unload, then save_pretrained"},
                 {"_fsdp_wrapped_module", "the file was saved from within FSDP: save the gathered model "
                                          "with save_pretrained"},
                 {"_orig_mod.", "the file was saved from a compiled model: save it with save_pretrained"}};
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (strstr(name, hints[i].part) != NULL)
            return hints[i].hint;
    return NULL;
}

static cohort_status match_tensor(struct match *match, const struct safetensors *file, const struct safetensor *tensor,
                                  cohort_error *err)
{
    const struct param *param = param_of(match, tensor);
    char text[600];
    char expected[64];
    char found[200];
    if (param == NULL) {
        if (text_ends(tensor->name, ".rotary_emb.inv_freq") || is_replaced_head(match, tensor) ||
            is_tied_head(match, tensor) || is_adapted_base(match, tensor))
            return COHORT_OK;
        if (match->hint == NULL && *match->prefix == '\0')
            match->hint = tensor_hint(tensor->name);
        snprintf(text, sizeof text, "%.200s%s", tensor->name,
                 strcmp(tensor->name, "lm_head.weight") == 0
                     ? " (the config ties it to the embedding, but its bytes differ)"
                     : "");
        return complain(&match->unexpected, text, err);
    }
    size_t row = (size_t)(param - match->table->params);
    match->tensors[row] = tensor;
    match->files[row] = file;
    if (!same_shape(param, tensor)) {
        shape_text(expected, sizeof expected, param->rank, param->shape);
        shape_text(found, sizeof found, tensor->rank, tensor->shape);
        snprintf(text, sizeof text, "%.100s in %.100s: expected %s, found %s", tensor->name, base_name(file->path),
                 expected, found);
        return complain(&match->shapes, text, err);
    }
    if (!tensor->has_dtype) {
        snprintf(text, sizeof text, "%.100s in %.100s: %s", tensor->name, base_name(file->path), tensor->dtype_name);
        return complain(&match->types, text, err);
    }
    return COHORT_OK;
}

static cohort_status add_complaint(struct text *message, const struct complaint *complaint, const char *what,
                                   cohort_error *err)
{
    if (complaint->n == 0)
        return COHORT_OK;
    return text_printf(message, err, "%s%zu %s (%s)", message->length > 0 ? "; " : "", complaint->n, what,
                       complaint->names.data);
}

/* Finds the tensor of every param, or says in one message all that does not fit. */
static cohort_status match_all(struct match *match, const char *dir, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    struct text message = {0};
    for (size_t i = 0; i < match->set->n_files; i++) {
        const struct safetensors *file = &match->set->files[i];
        for (size_t j = 0; j < file->n_tensors; j++)
            TRY_GOTO(match_tensor(match, file, &file->tensors[j], err));
    }
    for (int32_t i = 0; i < match->table->n_params; i++)
        if (match->tensors[i] == NULL && !match->table->params[i].drawn)
            TRY_GOTO(complain(&match->missing, match->table->params[i].name, err));
    TRY_GOTO(add_complaint(&message, &match->shapes, "tensors of the wrong shape", err));
    TRY_GOTO(add_complaint(&message, &match->missing, "missing tensors", err));
    TRY_GOTO(add_complaint(&message, &match->unexpected, "unexpected tensors", err));
    TRY_GOTO(add_complaint(&message, &match->types, "tensors not of type F32, F16 or BF16", err));
    if (message.length > 0) {
        const char *file = match->set->n_files == 1 ? match->set->files[0].path : dir;
        const char *hint = match->hint;
        status = error_set(err, COHORT_ERR_FORMAT, "%s: does not hold the %s: %s%s%s", file, match->what, message.data,
                           hint != NULL ? "; " : "", hint != NULL ? hint : "");
    }
cleanup:
    text_free(&message);
    return status;
}

static void match_free(struct match *match)
{
    mem_free(match->tensors);
    mem_free(match->files);
    text_free(&match->missing.names);
    text_free(&match->unexpected.names);
    text_free(&match->shapes.names);
    text_free(&match->types.names);
}

static const char MODEL[] = "model that config.json describes";

/* Finds every param in the files of an opened set. Free the match, also after an error. */
static cohort_status match_set(const struct shard_set *set, struct match *match, const char *dir, cohort_error *err)
{
    size_t n = (size_t)match->table->n_params;
    match->set = set;
    TRY(mem_alloc(&match->tensors, n, sizeof(const struct safetensor *), "tensor match", err));
    TRY(mem_alloc(&match->files, n, sizeof(const struct safetensors *), "tensor match", err));
    return match_all(match, dir, err);
}

/* Opens the files of a folder too. */
static cohort_status open_and_match(struct shard_set *set, struct match *match, const char *dir, cohort_error *err)
{
    TRY(shard_set_open(set, dir, err));
    return match_set(set, match, dir, err);
}

cohort_status checkpoint_look(const char *dir, const struct param_table *table, struct checkpoint_types *types,
                              cohort_error *err)
{
    struct shard_set set = {0};
    struct match match = {.table = table, .prefix = "", .what = MODEL, .headers_only = true};
    cohort_status status = open_and_match(&set, &match, dir, err);
    if (status == COHORT_OK && types != NULL) {
        memset(types, 0, sizeof *types);
        for (int32_t i = 0; i < table->n_params; i++)
            if (match.tensors[i] != NULL)
                types->n[match.tensors[i]->dtype]++;
    }
    match_free(&match);
    shard_set_close(&set);
    return status;
}

/* ---- hashes ---- */

void weight_files_free(struct weight_files *files)
{
    for (size_t i = 0; i < files->count; i++)
        mem_free(files->files[i].path);
    mem_free(files->files);
    memset(files, 0, sizeof *files);
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(((const struct weight_file *)a)->path, ((const struct weight_file *)b)->path);
}

cohort_status checkpoint_hash(const char *dir, struct weight_files *files, cohort_error *err)
{
    struct shard_set set = {0};
    cohort_status status = COHORT_OK;
    TRY(shard_set_open(&set, dir, err));
    for (size_t i = 0; i < set.n_files && status == COHORT_OK; i++) {
        struct hash hash;
        hash_begin(&hash);
        hash_add(&hash, set.files[i].map.data, set.files[i].map.size);
        status = weight_files_add(files, set.files[i].path, &hash, err);
    }
    shard_set_close(&set);
    if (status != COHORT_OK)
        weight_files_free(files);
    else if (files->count > 1)
        qsort(files->files, files->count, sizeof *files->files, compare_paths);
    return status;
}

/* Reads what was matched. */
static cohort_status read_set(const struct match *match, checkpoint_sink *sink, void *context,
                              struct weight_files *files, struct pool *pool, cohort_error *err)
{
    const struct weight_parts parts = {.table = match->table,
                                       .tensors = match->tensors,
                                       .tensor_files = match->files,
                                       .files = match->set->files,
                                       .n_files = match->set->n_files,
                                       .sink = sink,
                                       .context = context,
                                       .hashes = files,
                                       .pool = pool};
    const cohort_status status = weight_parts_read(&parts, err);
    if (files != NULL && status != COHORT_OK)
        weight_files_free(files);
    else if (files != NULL && files->count > 1)
        qsort(files->files, files->count, sizeof *files->files, compare_paths);
    return status;
}

cohort_status checkpoint_read_hashed(const char *dir, const struct param_table *table, checkpoint_sink *sink,
                                     void *context, struct weight_files *files, struct pool *pool, cohort_error *err)
{
    struct shard_set set = {0};
    struct match match = {.table = table, .prefix = "", .what = MODEL};
    cohort_status status = open_and_match(&set, &match, dir, err);
    if (status == COHORT_OK)
        status = read_set(&match, sink, context, files, pool, err);
    else if (files != NULL)
        weight_files_free(files);
    match_free(&match);
    shard_set_close(&set);
    return status;
}

cohort_status checkpoint_read(const char *dir, const struct param_table *table, checkpoint_sink *sink, void *context,
                              cohort_error *err)
{
    return checkpoint_read_hashed(dir, table, sink, context, NULL, NULL, err);
}

cohort_status checkpoint_read_file(const char *dir, const char *name, const char *prefix, const char *what,
                                   const struct param_table *table, checkpoint_sink *sink, void *context,
                                   struct weight_files *files, cohort_error *err)
{
    struct shard_set set = {0};
    struct match match = {.table = table, .prefix = prefix, .what = what};
    cohort_status status = open_shard(&set, dir, name, err);
    if (status == COHORT_OK)
        status = match_set(&set, &match, dir, err);
    if (status == COHORT_OK)
        status = read_set(&match, sink, context, files, NULL, err);
    match_free(&match);
    shard_set_close(&set);
    return status;
}

/* ---- tensors by demand ---- */

struct checkpoint_source {
    struct shard_set set;
    struct match match;
};

cohort_status checkpoint_source_open(struct checkpoint_source **out, const char *dir, const struct param_table *table,
                                     cohort_error *err)
{
    TRY(mem_alloc(out, 1, sizeof **out, "weights", err));
    (*out)->match = (struct match){.table = table, .prefix = "", .what = MODEL};
    cohort_status status = open_and_match(&(*out)->set, &(*out)->match, dir, err);
    if (status != COHORT_OK) {
        checkpoint_source_close(*out);
        *out = NULL;
    }
    return status;
}

void checkpoint_source_close(struct checkpoint_source *source)
{
    if (source == NULL)
        return;
    match_free(&source->match);
    shard_set_close(&source->set);
    mem_free(source);
}

cohort_status checkpoint_source_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                      cohort_error *err)
{
    const struct match *match = &((const struct checkpoint_source *)context)->match;
    const size_t row = (size_t)(param - match->table->params);
    const struct safetensor *tensor = match->tensors[row];
    const enum dtype want = storage_dtype(param->format);
    if (checkpoint_convert(tensor->dtype, tensor->data + (size_t)first * dtype_bytes(tensor->dtype), count, want, to))
        return COHORT_OK;
    return weight_not_finite(match->files[row], tensor, want, first, count, err);
}
