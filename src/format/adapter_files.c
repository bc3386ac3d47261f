/* The tensors of an adapter: start values, PEFT's file and MLX-LM's. */
#include "format/adapter_internal.h"

#include "base/rng.h"
#include "format/checkpoint_convert.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char TENSORS[] = "adapter_model.safetensors", PICKLE[] = "adapter_model.bin",
                  MLX_TENSORS[] = "adapters.safetensors", PREFIX[] = "base_model.model.",
                  WHAT[] = "adapter that adapter_config.json describes";

/* ---- start values ---- */

cohort_status adapter_init_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                 cohort_error *err)
{
    const struct checkpoint_init *init = context;
    const bool a = text_ends(param->name, ".lora_A.weight");
    if (text_ends(param->name, ".lora_embedding_B")) /* of an embedding A is 0 and B normal */
        return checkpoint_init_fetch(&(struct checkpoint_init){.seed = init->seed, .standard_deviation = 1.0f}, param,
                                     first, count, to, err);
    const double bound = 1 / sqrt((double)param_columns(param));
    const uint64_t stream = checkpoint_init_stream(param->name);
    (void)err;
    for (int64_t i = 0; i < count; i++) {
        float value = 0;
        if (a) {
            /* Two words an element, so that element i needs no other. */
            const struct rng_block bits = rng_philox(init->seed, RNG_INIT, stream, (uint64_t)(first + i) / 2);
            const int64_t at = 2 * ((first + i) % 2);
            value = (float)(bound * (2 * rng_uniform_double(bits.word[at], bits.word[at + 1]) - 1));
        }
        storage_set(param->format, to, i, value);
    }
    return COHORT_OK;
}

/* ---- reading ---- */

/* The two of an embedding lie here as in MLX-LM's file, and transposed in PEFT's. */
static bool of_embedding(const struct param *param)
{
    return text_ends(param->name, ".lora_embedding_A") || text_ends(param->name, ".lora_embedding_B");
}

int64_t adapter_file_place(const struct param *param, int64_t i)
{
    if (of_embedding(param))
        return i % param->shape[1] * param->shape[0] + i / param->shape[1];
    if (param->rank != 3 || !text_ends(param->name, ".lora_B.weight"))
        return i;
    const int64_t E = param->shape[0], n = param->shape[1], r = param->shape[2];
    const int64_t expert = i / (n * r), row = i / r % n, column = i % r;
    return row * r * E + column * E + expert;
}

/* Gives a tensor MLX-LM's name. kind: of experts gate_proj, up_proj or down_proj; NULL: not of a stack. */
static cohort_status mlx_name(struct param *param, const char *block, const char *kind, cohort_error *err)
{
    static const struct {
        const char *peft, *mlx; /* which is shorter */
    } ends[] = {{".lora_A.weight", ".lora_a"},
                {".lora_B.weight", ".lora_b"},
                {".lora_magnitude_vector", ".m"},
                {".lora_embedding_A", ".lora_a"},
                {".lora_embedding_B", ".lora_b"}};
    static const char experts[] = ".mlp.experts.", router[] = ".mlp.gate.";
    char path[sizeof param->name];
    const char *end = "", *stack = kind == NULL ? NULL : strstr(param->name, experts),
               *gate = strstr(param->name, router);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (text_ends(param->name, ends[i].peft)) {
            memcpy(param->name + strlen(param->name) - strlen(ends[i].peft), ends[i].mlx, strlen(ends[i].mlx) + 1);
            end = ends[i].mlx;
        }
    if ((stack == NULL && gate == NULL) || block == NULL)
        return COHORT_OK;
    const char *layer = stack == NULL ? gate : stack;
    const int length = snprintf(path, sizeof path, "%.*s.%s.%s%s%s", (int)(layer - param->name), param->name, block,
                                stack == NULL ? "gate" : "switch_mlp.", stack == NULL ? "" : kind, end);
    if (length >= (int)sizeof path)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: the name is too long", param->name);
    memcpy(param->name, path, sizeof path);
    return COHORT_OK;
}

/* A tensor of MLX-LM's file: whose it is here, and of a stack of pairs which half. */
struct mlx_part {
    const struct param *param;
    int half; /* -1: all of it */
};

/* Puts one of their tensors where it belongs in ours. Of experts A lies as here, that of gate before that of up; each half of
 * B has columns and rows of its own. */
static void place_mlx(unsigned char *to, const unsigned char *from, const struct mlx_part *part, size_t size)
{
    const struct param *ours = part->param;
    const bool b = text_ends(ours->name, ".lora_B.weight");
    const int64_t E = ours->shape[0], rows = ours->shape[1], columns = ours->shape[2];
    if (part->half < 0) {
        memcpy(to, from, (size_t)ours->count * size);
        return;
    }
    const int64_t n = rows / 2, k = b ? columns / 2 : columns;
    for (int64_t e = 0; e < E; e++)
        for (int64_t i = 0; i < n; i++)
            memcpy(to + (size_t)((e * rows + part->half * n + i) * columns + (b ? part->half * k : 0)) * size,
                   from + (size_t)((e * n + i) * k) * size, (size_t)k * size);
}

/* Tensors as MLX-LM's file has them, and where they go. */
struct mlx_tensors {
    struct param_table table;
    struct mlx_part *parts; /* [table.n_params] */
    unsigned char *values;  /* laid out as table says */
};

static cohort_status keep(void *context, const struct param *param, int64_t first, int64_t count, const void *data,
                          cohort_error *err)
{
    const struct mlx_tensors *to = context;
    (void)err;
    memcpy(to->values + param->offset + storage_bytes(param->format, first), data, storage_bytes(param->format, count));
    return COHORT_OK;
}

/* to[rows, columns] = from[columns, rows] transposed. */
static void transpose(unsigned char *to, const unsigned char *from, int64_t rows, int64_t columns, size_t size)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            memcpy(to + (size_t)(i * columns + j) * size, from + (size_t)(j * rows + i) * size, size);
}

/* The site that a tensor of the layout belongs to, if it is of a stack. */
static const struct adapter_site *stack_of(const struct adapter_layout *layout, const struct param *param)
{
    for (int32_t i = 0; param->rank == 3 && i < layout->n_sites; i++)
        if (layout->sites[i].a == param || layout->sites[i].b == param)
            return &layout->sites[i];
    return NULL;
}

/* Adds a tensor as MLX-LM's file has it. half: of a stack of pairs 0 or 1, else -1. */
static cohort_status add_mlx(struct mlx_tensors *to, const struct adapter_layout *layout, const struct param *ours,
                             const struct adapter_site *stack, int half, cohort_error *err)
{
    static const char *const halves[] = {"gate_proj", "up_proj"};
    struct param *param = &to->table.params[to->table.n_params];
    *param = *ours;
    TRY(mlx_name(param, layout->targets.mlx_block, stack == NULL ? NULL : half < 0 ? "down_proj" : halves[half], err));
    if (half >= 0) {
        const bool b = text_ends(ours->name, ".lora_B.weight");
        param->shape[1] /= 2;
        param->shape[2] /= b ? 2 : 1;
        param->count /= b ? 4 : 2;
    } else if (param->rank == 2 && !of_embedding(ours)) {
        param->shape[0] = ours->shape[1];
        param->shape[1] = ours->shape[0];
    }
    to->parts[to->table.n_params++] = (struct mlx_part){.param = ours, .half = half};
    return COHORT_OK;
}

static cohort_status read_mlx(const char *dir, const struct adapter_layout *layout, checkpoint_sink *sink,
                              void *context, struct weight_files *files, cohort_error *err)
{
    const struct param_table *table = &layout->table;
    const size_t n = (size_t)table->n_params;
    struct mlx_tensors theirs = {0};
    unsigned char *turned = NULL;
    size_t widest = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&theirs.table.params, 2 * n, sizeof *table->params, "adapter table", err));
    TRY_GOTO(mem_alloc(&theirs.parts, 2 * n, sizeof *theirs.parts, "adapter table", err));
    for (size_t i = 0; i < n; i++) {
        const struct adapter_site *stack = stack_of(layout, &table->params[i]);
        const size_t bytes = storage_bytes(table->params[i].format, table->params[i].count);
        const bool pairs = stack != NULL && stack->pairs;
        widest = bytes > widest ? bytes : widest;
        for (int half = pairs ? 0 : -1; half < (pairs ? 2 : 0); half++)
            TRY_GOTO(add_mlx(&theirs, layout, &table->params[i], stack, half, err));
    }
    param_table_layout(&theirs.table);
    TRY_GOTO(mem_alloc(&theirs.values, theirs.table.bytes, 1, "adapter", err));
    TRY_GOTO(mem_alloc(&turned, widest, 1, "adapter", err));
    TRY_GOTO(checkpoint_read_file(dir, MLX_TENSORS, "", WHAT, &theirs.table, keep, &theirs, files, err));
    for (int32_t i = 0; i < theirs.table.n_params; i++) {
        const struct mlx_part *part = &theirs.parts[i];
        const struct param *param = part->param;
        const unsigned char *values = theirs.values + theirs.table.params[i].offset;
        const size_t size = storage_bytes(param->format, 1);
        if (param->rank == 3) {
            if (part->half <= 0)
                memset(turned, 0, (size_t)param->count * size);
            place_mlx(turned, values, part, size);
        } else if (param->rank == 2 && !of_embedding(param))
            transpose(turned, values, param->shape[0], param->shape[1], size);
        else
            memcpy(turned, values, (size_t)param->count * size);
        if (part->half != 0)
            TRY_GOTO(sink(context, param, 0, param->count, turned, err));
    }
cleanup:
    mem_free(theirs.table.params);
    mem_free(theirs.parts);
    mem_free(theirs.values);
    mem_free(turned);
    return status;
}

/* Whether the file has the elements in another order. */
static bool is_turned(const struct param *param)
{
    return of_embedding(param) || (param->rank == 3 && text_ends(param->name, ".lora_B.weight"));
}

/* A stack of experts as PEFT's file has it: A's as they lie here, B's in another order; and what is transposed. */
static void peft_shape(struct param *param)
{
    if (of_embedding(param)) {
        const int64_t rows = param->shape[0];
        param->shape[0] = param->shape[1];
        param->shape[1] = rows;
    }
    if (param->rank != 3)
        return;
    const bool b = is_turned(param);
    const int64_t E = param->shape[0], rows = param->shape[1], columns = param->shape[2];
    param->rank = 2;
    param->shape[0] = b ? rows : E * rows;
    param->shape[1] = b ? columns * E : columns;
    param->shape[2] = 1;
}

/* Tensors of PEFT's file on their way to a sink. */
struct peft_tensors {
    const struct param_table *table; /* of the layout */
    struct param_table theirs;       /* likewise, in the shapes of the file */
    unsigned char *values;           /* of a tensor in another order that is being read */
    unsigned char *turned;
    checkpoint_sink *sink;
    void *context;
};

static cohort_status pass_on(void *context, const struct param *param, int64_t first, int64_t count, const void *data,
                             cohort_error *err)
{
    const struct peft_tensors *to = context;
    const struct param *ours = to->table->params + (param - to->theirs.params);
    const size_t size = storage_bytes(ours->format, 1);
    if (!is_turned(ours))
        return to->sink(to->context, ours, first, count, data, err);
    memcpy(to->values + (size_t)first * size, data, (size_t)count * size);
    if (first + count < ours->count)
        return COHORT_OK;
    for (int64_t i = 0; i < ours->count; i++)
        memcpy(to->turned + (size_t)i * size, to->values + (size_t)adapter_file_place(ours, i) * size, size);
    return to->sink(to->context, ours, 0, ours->count, to->turned, err);
}

static cohort_status read_peft(const char *dir, const struct adapter_layout *layout, checkpoint_sink *sink,
                               void *context, struct weight_files *files, cohort_error *err)
{
    const struct param_table *table = &layout->table;
    struct peft_tensors to = {.table = table, .sink = sink, .context = context};
    size_t widest = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&to.theirs.params, (size_t)table->n_params, sizeof *table->params, "adapter table", err));
    for (; to.theirs.n_params < table->n_params; to.theirs.n_params++) {
        struct param *param = &to.theirs.params[to.theirs.n_params];
        *param = table->params[to.theirs.n_params];
        const size_t bytes = is_turned(param) ? storage_bytes(param->format, param->count) : 0;
        widest = bytes > widest ? bytes : widest;
        peft_shape(param);
    }
    param_table_layout(&to.theirs);
    if (widest > 0) {
        TRY_GOTO(mem_alloc(&to.values, widest, 1, "adapter", err));
        TRY_GOTO(mem_alloc(&to.turned, widest, 1, "adapter", err));
    }
    TRY_GOTO(checkpoint_read_file(dir, TENSORS, PREFIX, WHAT, &to.theirs, pass_on, &to, files, err));
cleanup:
    mem_free(to.theirs.params);
    mem_free(to.values);
    mem_free(to.turned);
    return status;
}

/* The file is not there: what is. */
static cohort_status refuse_missing(const char *dir, const char *name, cohort_error *err)
{
    char *path = NULL;
    bool there = false;
    TRY(file_join(&path, dir, name, err));
    cohort_status status = file_exists(path, &there, err);
    mem_free(path);
    if (status != COHORT_OK || there)
        return status;
    TRY(file_join(&path, dir, PICKLE, err));
    status = file_exists(path, &there, err);
    mem_free(path);
    TRY(status);
    if (there)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: holds %s, a pickle, which is not read; load it with PEFT and save it again "
                         "(save_pretrained writes %s)",
                         dir, PICKLE, name);
    return error_set(err, COHORT_ERR_IO,
                     "%s: holds no %s, the tensors of the adapter; copy it beside its "
                     "adapter_config.json",
                     dir, name);
}

cohort_status adapter_read(const char *dir, const struct adapter_settings *settings,
                           const struct adapter_layout *layout, checkpoint_sink *sink, void *context,
                           struct weight_files *files, cohort_error *err)
{
    TRY(refuse_missing(dir, settings->mlx ? MLX_TENSORS : TENSORS, err));
    if (settings->mlx)
        return read_mlx(dir, layout, sink, context, files, err);
    return read_peft(dir, layout, sink, context, files, err);
}

/* Whether part of a tensor of the file has the values that the base has. Both are compared in the coarser of their two
 * types: the base may have been loaded in BF16 when the adapter was made. */
static bool same_values(const struct safetensor *tensor, const struct param *base, int64_t first, int64_t count,
                        const void *values, void *room)
{
    const unsigned char *theirs = tensor->data + (size_t)first * dtype_bytes(tensor->dtype);
    const bool wide = tensor->dtype == DTYPE_F32 && base->format == STORAGE_F32;
    const enum dtype type = wide ? DTYPE_F32 : DTYPE_BF16;
    unsigned char *ours = (unsigned char *)room + (size_t)count * sizeof(float);
    return checkpoint_convert(tensor->dtype, theirs, count, type, room) &&
           checkpoint_convert(storage_dtype(base->format), values, count, type, ours) &&
           memcmp(room, ours, (size_t)count * dtype_bytes(type)) == 0;
}

/* A frozen tensor of the base that the file holds. A vocabulary that was resized has other values too. */
static cohort_status check_frozen(const struct safetensors *file, const struct adapter_site *site,
                                  checkpoint_fetch *fetch, void *context, cohort_error *err)
{
    enum { PART = 4096 };
    const struct param *base = site->base;
    char path[sizeof base->name], name[sizeof PREFIX + sizeof path + sizeof ".base_layer.weight"];
    adapter_site_path(site, path);
    snprintf(name, sizeof name, "%s%s.base_layer.weight", PREFIX, path);
    const struct safetensor *tensor = safetensors_find(file, name);
    float *room = NULL;
    cohort_status status = COHORT_OK;
    if (tensor == NULL)
        return COHORT_OK;
    bool same = tensor->has_dtype && tensor->count == base->count;
    TRY(mem_alloc(&room, 3 * PART, sizeof *room, "a part of a tensor", err));
    for (int64_t first = 0; same && first < base->count; first += PART) {
        const int64_t count = base->count - first < PART ? base->count - first : PART;
        TRY_GOTO(fetch(context, base, first, count, room, err));
        same = same_values(tensor, base, first, count, room, room + PART);
    }
    if (!same)
        status = error_set(err, COHORT_ERR_FORMAT,
                           "%s: %s differs from the base's %s: the adapter belongs to another base; pass the one that "
                           "it was trained on",
                           file->path, name, base->name);
cleanup:
    mem_free(room);
    return status;
}

cohort_status adapter_check_base(const char *dir, const struct adapter_settings *settings,
                                 const struct adapter_layout *layout, checkpoint_fetch *fetch, void *context,
                                 cohort_error *err)
{
    struct safetensors file = {0};
    char *path = NULL;
    if (settings->mlx)
        return COHORT_OK;
    TRY(file_join(&path, dir, TENSORS, err));
    cohort_status status = safetensors_open(&file, path, err);
    for (int32_t i = 0; status == COHORT_OK && i < layout->n_sites; i++)
        if (layout->sites[i].n_experts == 0)
            status = check_frozen(&file, &layout->sites[i], fetch, context, err);
    safetensors_close(&file);
    mem_free(path);
    return status;
}

/* ---- writing ---- */

struct writing {
    char name[sizeof PREFIX + sizeof((struct param *)0)->name];
    const struct param *param;
    bool widened; /* BF16 values are written in F32 */
    unsigned char
        *whole; /* owned; of a tensor in another order, once its first element was asked: all of it, as it lies */
    checkpoint_fetch *fetch;
    void *context;
};

/* Elements in the order of the file. */
static cohort_status fetch_in_order(struct writing *w, int64_t first, int64_t count, unsigned char *to,
                                    cohort_error *err)
{
    const struct param *param = w->param;
    const size_t size = storage_bytes(param->format, 1);
    if (!is_turned(param))
        return w->fetch(w->context, param, first, count, to, err);
    if (w->whole == NULL) {
        TRY(mem_alloc(&w->whole, (size_t)param->count, size, "experts of an adapter", err));
        TRY(w->fetch(w->context, param, 0, param->count, w->whole, err));
    }
    const int64_t E = param->shape[0], n = param->shape[1], r = param->shape[2];
    for (int64_t i = 0; i < count && of_embedding(param); i++) { /* the inverse of adapter_file_place, here and below */
        const int64_t at = first + i, rows = param->shape[0];
        memcpy(to + (size_t)i * size, w->whole + (size_t)(at % rows * param->shape[1] + at / rows) * size, size);
    }
    for (int64_t i = 0; i < count && !of_embedding(param); i++) {
        const int64_t at = first + i, row = at / (r * E), column = at / E % r, expert = at % E;
        memcpy(to + (size_t)i * size, w->whole + (size_t)((expert * n + row) * r + column) * size, size);
    }
    if (first + count == param->count) {
        mem_free(w->whole);
        w->whole = NULL;
    }
    return COHORT_OK;
}

static cohort_status read_writing(void *context, size_t offset, size_t length, void *to, cohort_error *err)
{
    struct writing *w = context;
    const size_t size = w->widened ? sizeof(float) : storage_bytes(w->param->format, 1), count = length / size;
    /* BF16 goes to the upper half of the room, from where it is widened from the front: what is written never reaches
     * what is still to be read. */
    unsigned char *halves = (unsigned char *)to + (w->widened ? length - 2 * count : 0);
    TRY(fetch_in_order(w, (int64_t)(offset / size), (int64_t)count, halves, err));
    for (size_t i = 0; w->widened && i < count; i++) {
        uint16_t half;
        memcpy(&half, halves + 2 * i, sizeof half);
        const float value = f32_from_bf16(half);
        memcpy((unsigned char *)to + 4 * i, &value, sizeof value);
    }
    return COHORT_OK;
}

static bool is_saved(const struct adapter_layout *layout, const struct param *param)
{
    for (int32_t i = 0; i < layout->n_saved; i++)
        if (layout->saved[i].own == param)
            return true;
    return false;
}

cohort_status adapter_write(const char *dir, const struct adapter_settings *settings,
                            const struct adapter_layout *layout, checkpoint_fetch *fetch, void *context,
                            struct manifest *manifest, cohort_error *err)
{
    const size_t n = (size_t)layout->table.n_params;
    struct writing *writings = NULL;
    struct safetensors_source *sources = NULL;
    char *path = NULL, hex[HASH_HEX];
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&writings, n, sizeof *writings, "tensors to write", err));
    TRY_GOTO(mem_alloc(&sources, n, sizeof *sources, "tensors to write", err));
    for (size_t i = 0; i < n; i++) {
        const struct param *param = &layout->table.params[i];
        struct writing *w = &writings[i];
        w->param = param;
        w->widened = param->format == STORAGE_BF16 && !is_saved(layout, param);
        w->fetch = fetch;
        w->context = context;
        snprintf(w->name, sizeof w->name, "%s%s", PREFIX, param->name);
        const enum dtype type = w->widened ? DTYPE_F32 : storage_dtype(param->format);
        struct param file = *param;
        peft_shape(&file);
        sources[i] = (struct safetensors_source){.name = w->name,
                                                 .dtype_name = dtype_name(type),
                                                 .rank = file.rank,
                                                 .shape = {file.shape[0], file.shape[1]},
                                                 .bytes = (size_t)param->count * dtype_bytes(type),
                                                 .read = read_writing,
                                                 .context = w};
    }
    TRY_GOTO(file_join(&path, dir, TENSORS, err));
    TRY_GOTO(safetensors_write(path, sources, n, hex, err));
    if (manifest != NULL)
        TRY_GOTO(manifest_add(manifest, TENSORS, hex, err));
    status = adapter_config_write(dir, settings, layout, err);
cleanup:
    mem_free(path);
    mem_free(sources);
    for (size_t i = 0; writings != NULL && i < n; i++)
        mem_free(writings[i].whole);
    mem_free(writings);
    return status;
}
