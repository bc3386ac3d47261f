/* Writing weights, tokenizer files and initial weights. */
#include "format/checkpoint.h"

#include "base/json_text.h"
#include "base/number.h"
#include "base/pool.h"
#include "base/rng.h"
#include "format/checkpoint_convert.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const size_t default_shard_bytes = 5000000000u;

/* ---- weights ---- */

/* One tensor of the file being written. */
struct writing {
    const struct param *param;
    checkpoint_fetch *fetch;
    void *context;
};

static cohort_status read_writing(void *context, size_t offset, size_t length, void *to, cohort_error *err)
{
    const struct writing *writing = context;
    size_t size = storage_bytes(writing->param->format, 1);
    return writing->fetch(writing->context, writing->param, (int64_t)(offset / size), (int64_t)(length / size), to,
                          err);
}

static size_t param_bytes(const struct param *param) { return storage_bytes(param->format, param->count); }

/* shard_of[i] is the shard of params[i]; returns the number of shards. A tensor larger than the
 * limit has a shard to itself. */
static size_t assign_shards(const struct param_table *table, size_t limit, size_t *shard_of)
{
    size_t shard = 0;
    size_t used = 0;
    for (int32_t i = 0; i < table->n_params; i++) {
        size_t bytes = param_bytes(&table->params[i]);
        if (used > 0 && (bytes > limit || used > limit - bytes)) {
            shard++;
            used = 0;
        }
        shard_of[i] = shard;
        used += bytes;
    }
    return shard + 1;
}

static void shard_name(char *out, size_t size, size_t shard, size_t n_shards)
{
    if (n_shards == 1)
        snprintf(out, size, "model.safetensors");
    else
        snprintf(out, size, "model-%05zu-of-%05zu.safetensors", shard + 1, n_shards);
}

static cohort_status write_index(const char *dir, const struct param_table *table, const size_t *shard_of,
                                 size_t n_shards, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    char *path = NULL;
    struct text text = {0};
    json_t *map = json_object();
    bool built = map != NULL;
    size_t total = 0;
    for (int32_t i = 0; built && i < table->n_params; i++) {
        char name[64];
        shard_name(name, sizeof name, shard_of[i], n_shards);
        total += param_bytes(&table->params[i]);
        built = json_object_set_new(map, table->params[i].name, json_string(name)) == 0;
    }
    json_t *index = json_pack("{s:{s:I, s:I}, s:O}", "metadata", "total_parameters", (json_int_t)table->n_weights,
                              "total_size", (json_int_t)total, "weight_map", map);
    if (!built) {
        status = error_set(err, COHORT_ERR_MEMORY, "%s: cannot build the index of the shards", dir);
        goto cleanup;
    }
    TRY_GOTO(json_text_write(index, JSON_INDENT(2) | JSON_SORT_KEYS, &text, err));
    TRY_GOTO(text_append(&text, "\n", 1, err));
    TRY_GOTO(file_join(&path, dir, "model.safetensors.index.json", err));
    TRY_GOTO(file_write_atomic(path, text.data, text.length, err));
cleanup:
    json_decref(map);
    json_decref(index);
    text_free(&text);
    mem_free(path);
    return status;
}

static void remove_in(const char *dir, const char *name)
{
    char *path = NULL;
    if (file_join(&path, dir, name, NULL) == COHORT_OK)
        unlink(path);
    mem_free(path);
}

static cohort_status write_shard(const char *dir, const char *name, struct writing *writings,
                                 struct safetensors_source *sources, size_t n_sources, struct manifest *manifest,
                                 cohort_error *err)
{
    char *path = NULL, hex[HASH_HEX];
    for (size_t i = 0; i < n_sources; i++) {
        const struct param *param = writings[i].param;
        sources[i] = (struct safetensors_source){.name = param->name,
                                                 .dtype_name = dtype_name(storage_dtype(param->format)),
                                                 .rank = param->rank,
                                                 .bytes = param_bytes(param),
                                                 .read = read_writing,
                                                 .context = &writings[i]};
        for (int32_t axis = 0; axis < param->rank; axis++)
            sources[i].shape[axis] = param->shape[axis];
    }
    TRY(file_join(&path, dir, name, err));
    cohort_status status = safetensors_write(path, sources, n_sources, hex, err);
    mem_free(path);
    TRY(status);
    return manifest == NULL ? COHORT_OK : manifest_add(manifest, name, hex, err);
}

cohort_status checkpoint_write_weights(const char *dir, const struct param_table *table, size_t max_shard_bytes,
                                       checkpoint_fetch *fetch, void *context, struct manifest *manifest,
                                       cohort_error *err)
{
    cohort_status status = COHORT_OK;
    size_t n = (size_t)table->n_params;
    size_t limit = max_shard_bytes != 0 ? max_shard_bytes : default_shard_bytes;
    size_t *shard_of = NULL;
    struct writing *writings = NULL;
    struct safetensors_source *sources = NULL;
    size_t n_shards = 0;
    size_t shard = 0;
    char name[64];
    TRY_GOTO(mem_alloc(&shard_of, n, sizeof *shard_of, "shards", err));
    TRY_GOTO(mem_alloc(&writings, n, sizeof *writings, "tensors to write", err));
    TRY_GOTO(mem_alloc(&sources, n, sizeof *sources, "tensors to write", err));
    n_shards = assign_shards(table, limit, shard_of);
    for (size_t next = 0; shard < n_shards; shard++) {
        size_t n_sources = 0;
        for (; next < n && shard_of[next] == shard; next++)
            writings[n_sources++] = (struct writing){&table->params[next], fetch, context};
        shard_name(name, sizeof name, shard, n_shards);
        TRY_GOTO(write_shard(dir, name, writings, sources, n_sources, manifest, err));
    }
    if (n_shards > 1)
        TRY_GOTO(write_index(dir, table, shard_of, n_shards, err));
    /* Weights of an earlier save in the other form would be a second truth; readers take the single
     * file first. */
    remove_in(dir, n_shards > 1 ? "model.safetensors" : "model.safetensors.index.json");
cleanup:
    /* safetensors_write removed the shard that failed; the whole ones before it are of no use
     * either. */
    for (size_t i = 0; status != COHORT_OK && i < shard; i++) {
        shard_name(name, sizeof name, i, n_shards);
        remove_in(dir, name);
    }
    mem_free(sources);
    mem_free(writings);
    mem_free(shard_of);
    return status;
}

/* A table in F32 on its way to one in F16. */
struct narrowing {
    const struct param_table *from;
    struct param_table to;
    checkpoint_fetch *fetch;
    void *context;
    float *room; /* [NARROWED] */
};
enum { NARROWED = 1 << 16 };

static cohort_status fetch_narrowed(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                    cohort_error *err)
{
    const struct narrowing *n = context;
    const struct param *wide = n->from->params + (param - n->to.params);
    for (int64_t done = 0, part; done < count; done += part) {
        part = count - done < NARROWED ? count - done : NARROWED;
        TRY(n->fetch(n->context, wide, first + done, part, n->room, err));
        uint16_t *half = (uint16_t *)to + done;
        if (checkpoint_convert(DTYPE_F32, (const unsigned char *)n->room, part, DTYPE_F16, half))
            continue;
        int64_t i = 0;
        while ((half[i] & 0x7c00u) != 0x7c00u)
            i++;
        return error_set(err, COHORT_ERR_NUMERIC,
                         "%s: element %lld is %g, which F16 does not hold (beyond 65504), and the model is written in "
                         "F16 as it was read; go on with --dtype f32, which writes F32",
                         param->name, (long long)(first + done + i), (double)n->room[i]);
    }
    return COHORT_OK;
}

cohort_status checkpoint_write_weights_f16(const char *dir, const struct param_table *table, checkpoint_fetch *fetch,
                                           void *context, struct manifest *manifest, cohort_error *err)
{
    struct narrowing n = {.from = table, .fetch = fetch, .context = context};
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&n.room, NARROWED, sizeof *n.room, "a part of a tensor", err));
    TRY_GOTO(mem_alloc(&n.to.params, (size_t)table->n_params, sizeof *n.to.params, "tensors to write", err));
    for (; n.to.n_params < table->n_params; n.to.n_params++) {
        assert(table->params[n.to.n_params].format == STORAGE_F32);
        n.to.params[n.to.n_params] = table->params[n.to.n_params];
        n.to.params[n.to.n_params].format = STORAGE_F16;
    }
    param_table_layout(&n.to);
    status = checkpoint_write_weights(dir, &n.to, 0, fetch_narrowed, &n, manifest, err);
cleanup:
    mem_free(n.room);
    mem_free(n.to.params);
    return status;
}

/* ---- tokenizer ---- */

/* *there: whether the folder has it. Only "no such file" is an absence; a link that leads nowhere is a file that
 * somebody wanted there. */
static cohort_status read_if_there(const char *path, struct text *text, bool *there, cohort_error *err)
{
    struct stat st;
    *there = lstat(path, &st) == 0;
    if (!*there)
        return errno == ENOENT ? COHORT_OK
                               : error_set(err, COHORT_ERR_IO, "%s: cannot stat: %s", path, strerror(errno));
    return file_read(path, 0, text, err);
}

static const char TEMPLATE_FILE[] = "chat_template.jinja", TEMPLATE_FOLDER[] = "chat_templates";

/* A file's place in files. */
static cohort_status add_file(struct tokenizer_files *files, const char *name, struct tokenizer_file **out,
                              cohort_error *err)
{
    TRY(mem_grow(&files->items, &files->capacity, files->count + 1, sizeof *files->items, "tokenizer files", err));
    *out = &files->items[files->count];
    TRY(mem_strdup(&(*out)->name, name, strlen(name), err));
    files->count++;
    return COHORT_OK;
}

static cohort_status add_if_there(struct tokenizer_files *files, const char *dir, const char *name, cohort_error *err)
{
    struct tokenizer_file *file = NULL;
    struct text content = {0};
    char *path = NULL;
    bool there = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&path, dir, name, err));
    TRY_GOTO(read_if_there(path, &content, &there, err));
    if (!there)
        goto cleanup;
    TRY_GOTO(add_file(files, name, &file, err));
    file->content = content;
    memset(&content, 0, sizeof content);
cleanup:
    mem_free(path);
    text_free(&content);
    return status;
}

static cohort_status add_templates(struct tokenizer_files *files, const char *dir, cohort_error *err)
{
    static const char suffix[] = ".jinja";
    const size_t n = sizeof suffix - 1;
    enum file_kind kind = FILE_ABSENT;
    char *path = NULL, *name = NULL;
    DIR *stream = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&path, dir, TEMPLATE_FOLDER, err));
    TRY_GOTO(file_look(path, &kind, err));
    if (kind != FILE_FOLDER)
        goto cleanup;
    stream = opendir(path);
    if (stream == NULL) {
        status = error_set(err, COHORT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
        goto cleanup;
    }
    for (const char *entry; (entry = file_next_entry(stream, path, &status, err)) != NULL;) {
        if (strlen(entry) <= n || strcmp(entry + strlen(entry) - n, suffix) != 0)
            continue;
        TRY_GOTO(file_join(&name, TEMPLATE_FOLDER, entry, err));
        TRY_GOTO(add_if_there(files, dir, name, err));
        mem_free(name);
        name = NULL;
    }
cleanup:
    if (stream != NULL)
        closedir(stream);
    mem_free(path);
    mem_free(name);
    return status;
}

cohort_status checkpoint_read_tokenizer(struct tokenizer_files *files, const char *dir, cohort_error *err)
{
    static const char *const names[] = {"tokenizer.json",    "tokenizer_config.json",   "vocab.json", "merges.txt",
                                        "added_tokens.json", "special_tokens_map.json", TEMPLATE_FILE};
    cohort_status status = COHORT_OK;
    memset(files, 0, sizeof *files);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        TRY_GOTO(add_if_there(files, dir, names[i], err));
    status = add_templates(files, dir, err);
cleanup:
    if (status != COHORT_OK)
        tokenizer_files_free(files);
    return status;
}

/* What goes with a model wherever it goes. */
static bool is_document(const char *name)
{
    static const char *const begins[] = {"licen", "copying", "notice", "use_policy"};
    static const char *const names[] = {"preprocessor_config.json", "processor_config.json"};
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (strlen(name) >= strlen(begins[i]) && ascii_same_bytes(name, begins[i], strlen(begins[i])))
            return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

cohort_status checkpoint_read_documents(struct tokenizer_files *files, const char *dir, cohort_error *err)
{
    const off_t most = 1 << 20;
    char *path = NULL;
    struct stat st;
    DIR *stream = opendir(dir);
    cohort_status status = COHORT_OK;
    if (stream == NULL)
        return error_set(err, COHORT_ERR_IO, "%s: cannot open: %s", dir, strerror(errno));
    for (const char *entry; (entry = file_next_entry(stream, dir, &status, err)) != NULL;) {
        if (!is_document(entry))
            continue;
        TRY_GOTO(file_join(&path, dir, entry, err));
        const bool taken = stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= most;
        mem_free(path);
        path = NULL;
        if (taken)
            TRY_GOTO(add_if_there(files, dir, entry, err));
    }
cleanup:
    closedir(stream);
    mem_free(path);
    return status;
}

static bool is_template(const char *name)
{
    return strcmp(name, TEMPLATE_FILE) == 0 || strncmp(name, TEMPLATE_FOLDER, strlen(TEMPLATE_FOLDER)) == 0;
}

cohort_status checkpoint_set_template(struct tokenizer_files *files, const char *text, size_t length, cohort_error *err)
{
    struct tokenizer_file *file = NULL;
    size_t kept = 0;
    for (size_t i = 0; i < files->count; i++) {
        if (is_template(files->items[i].name)) {
            mem_free(files->items[i].name);
            text_free(&files->items[i].content);
        } else {
            files->items[kept++] = files->items[i];
        }
    }
    memset(files->items + kept, 0, (files->count - kept) * sizeof *files->items);
    files->count = kept;
    TRY(add_file(files, TEMPLATE_FILE, &file, err));
    return text_append(&file->content, text, length, err);
}

cohort_status checkpoint_write_tokenizer(const struct tokenizer_files *files, const char *dir, cohort_error *err)
{
    for (size_t i = 0; i < files->count; i++) {
        const struct tokenizer_file *file = &files->items[i];
        char *path = NULL;
        cohort_status status = COHORT_OK;
        if (strchr(file->name, '/') != NULL) {
            TRY(file_join(&path, dir, TEMPLATE_FOLDER, err));
            status = file_make_dirs(path, err);
            mem_free(path);
            path = NULL;
        }
        if (status == COHORT_OK)
            status = file_join(&path, dir, file->name, err);
        if (status == COHORT_OK)
            status = file_write_atomic(path, file->content.data, file->content.length, err);
        mem_free(path);
        TRY(status);
    }
    return COHORT_OK;
}

void tokenizer_files_free(struct tokenizer_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        mem_free(files->items[i].name);
        text_free(&files->items[i].content);
    }
    mem_free(files->items);
    memset(files, 0, sizeof *files);
}

cohort_status checkpoint_copy_tokenizer(const char *from_dir, const char *to_dir, cohort_error *err)
{
    struct tokenizer_files files;
    TRY(checkpoint_read_tokenizer(&files, from_dir, err));
    cohort_status status = checkpoint_write_tokenizer(&files, to_dir, err);
    tokenizer_files_free(&files);
    return status;
}

/* ---- initial weights ---- */

/* FNV-1a: the stream of a tensor depends on its name alone, not on its place in the table. */
uint64_t checkpoint_init_stream(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325ull;
    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3ull;
    return hash;
}

/* Four standard normal numbers of one Philox block, by Box-Muller. Elements 4 b .. 4 b + 3 of a
 * tensor are block b. */
static void normal_block(uint64_t seed, uint64_t stream, uint64_t block, double out[4])
{
    struct rng_block bits = rng_philox(seed, RNG_INIT, stream, block);
    for (int pair = 0; pair < 2; pair++) {
        double u = ((double)bits.word[2 * pair] + 0.5) * 0x1p-32;
        double angle = (double)bits.word[2 * pair + 1] * (0x1p-32 * 6.283185307179586476925);
        double radius = sqrt(-2.0 * log(u));
        out[2 * pair] = radius * cos(angle);
        out[2 * pair + 1] = radius * sin(angle);
    }
}

struct draw_job {
    const struct checkpoint_init *init;
    enum storage_format format;
    uint64_t stream;
    int64_t first, count;
    void *to; /* element first */
};

/* Blocks begin .. end, counted from the one that holds element first. */
static void draw_blocks(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct draw_job *job = context;
    const double scale = (double)job->init->standard_deviation;
    (void)thread;
    for (int64_t block = job->first / 4 + begin; block < job->first / 4 + end; block++) {
        double normal[4];
        normal_block(job->init->seed, job->stream, (uint64_t)block, normal);
        for (int64_t j = 0; j < 4; j++) {
            int64_t i = 4 * block + j - job->first;
            if (i >= 0 && i < job->count)
                storage_set(job->format, job->to, i, (float)(scale * normal[j]));
        }
    }
}

cohort_status checkpoint_init_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                    cohort_error *err)
{
    (void)err;
    const struct checkpoint_init *init = context;
    if (param->rank == 1) {
        for (int64_t i = 0; i < count; i++)
            storage_set(param->format, to, i, param->start);
        return COHORT_OK;
    }
    const struct draw_job job = {init, param->format, checkpoint_init_stream(param->name), first, count, to};
    pool_run(init->pool, (first + count + 3) / 4 - first / 4, 0, draw_blocks, &job);
    return COHORT_OK;
}
