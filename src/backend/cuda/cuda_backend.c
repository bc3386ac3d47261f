/* The CUDA backend: recorded steps, creation, the table of operations. Everything else lies beneath it. */
#include "backend/cuda/cuda_internal.h"

#include "base/memory.h"

static const struct backend_sizes sizes = {.logits_bytes = 1280 << 20, /* about 2,100 rows of Qwen3's vocabulary */
                                           .prefill_tokens = 8192,
                                           .decode_sequences = 512,
                                           .train_tokens = 24576,
                                           .train_tokens_wide = 16384, /* 5120 at the 8B shape */
                                           .square_block = CUDA_SQUARE_BLOCK};

/* ---- Recorded steps ---- */

static cudaError_t record(struct backend *backend, cudaGraphExec_t *exec, void (*step)(void *context), void *context)
{
    struct cuda_state *s = cuda_state_of(backend);
    cudaGraph_t graph = NULL;
    cudaError_t result = cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal);
    if (result != cudaSuccess)
        return result;
    s->capturing = true;
    step(context);
    s->capturing = false;
    result = cudaStreamEndCapture(s->stream, &graph);
    if (result == cudaSuccess)
        result = cudaGraphInstantiate(exec, graph, 0);
    if (graph != NULL)
        (void)cudaGraphDestroy(graph);
    return result;
}

/* The first step of a key runs without recording: what is set up on first use cannot be recorded. */
static void repeat(struct backend *backend, uint64_t key, int32_t count, void (*step)(void *context), void *context)
{
    struct cuda_state *s = cuda_state_of(backend);
    struct cuda_graph *g = s->graphs;
    cuda_make_current(backend);
    while (g != NULL && g->key != key)
        g = g->next;
    if (g == NULL && count > 0) {
        step(context);
        count--;
        if (count == 0 || s->error != cudaSuccess)
            return;
        if (mem_alloc(&g, 1, sizeof *g, "recorded step", NULL) != COHORT_OK) {
            cuda_note(backend, "recording a step", cudaErrorMemoryAllocation);
            return;
        }
        g->key = key;
        cudaError_t result = record(backend, &g->exec, step, context);
        if (result != cudaSuccess) {
            cuda_note(backend, "recording a step", result);
            mem_free(g);
            return;
        }
        g->next = s->graphs;
        s->graphs = g;
    }
    for (int32_t i = 0; i < count; i++)
        cuda_note(backend, "a recorded step", cudaGraphLaunch(g->exec, s->stream));
}

/* ---- The table ---- */

static void destroy(struct backend *backend)
{
    struct cuda_state *s = cuda_state_of(backend);
    if (s->stream != NULL) {
        cuda_wait(backend);
        cuda_decode_destroy(backend);
        cuda_attention_destroy(backend);
        cuda_lowrank_destroy(backend);
        cuda_blas_destroy(backend);
        cuda_device_close(backend);
    }
    mem_free(s);
    mem_free(backend);
}

/* Threads of the host may call in turn, and which device is current belongs to each of them: an operation begins by
 * making the backend's device the current one. (Entries that are not in CUDA_OPERATIONS do so themselves.) */
#define ENTRY(name, params)                                                                                            \
    static void enter_##name(struct backend *backend, params p)                                                        \
    {                                                                                                                  \
        cuda_make_current(backend);                                                                                    \
        cuda_##name(backend, p);                                                                                       \
    }
CUDA_OPERATIONS(ENTRY)

#define FIELD(name, params) .name = enter_##name,
static const struct backend_ops cuda_ops = {
    .name = "cuda",
    .alloc = cuda_alloc,
    .alloc_host = cuda_alloc_host,
    .free = cuda_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .download_beside = cuda_download_beside,
    .zero = cuda_zero,
    .copy = cuda_copy,
    .available = cuda_available,
    .working_bytes = cuda_working_bytes,
    .wait = cuda_wait_all,
    .check = cuda_check,
    .weight_bytes = cuda_weight_bytes,
    .weight_create = cuda_weight_create,
    .weight_refresh = cuda_weight_refresh,
    .weight_destroy = cuda_weight_destroy,
    CUDA_OPERATIONS(FIELD).decode_load = cuda_decode_load,
    .decode_fetch = cuda_decode_fetch,
    .repeat = repeat,
    .sum_squares = cuda_sum_squares,
    .square_sums = cuda_square_sums,
    .add_square_sums = cuda_add_square_sums,
    .destroy = destroy,
};

/* ---- Creation ---- */

cohort_status backend_cuda_create(struct backend **out, int device, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    struct backend *backend = NULL;
    struct cuda_state *s = NULL;
    *out = NULL;
    TRY_GOTO(mem_alloc(&backend, 1, sizeof *backend, "backend", err));
    TRY_GOTO(mem_alloc(&s, 1, sizeof *s, "backend state", err));
    backend->ops = &cuda_ops;
    backend->threads = 1;
    backend->host_memory = false;
    backend->sizes = &sizes;
    backend->provider_bf16 = "cublaslt-bf16";
    backend->provider_f32 = "cuda-f32";
    backend->state = s;
    backend->device = s->name;
    s = NULL;
    TRY_GOTO(cuda_device_open(backend, device, err));
    TRY_GOTO(cuda_blas_create(backend, err));
    *out = backend;
    return COHORT_OK;
cleanup:
    mem_free(s);
    if (backend != NULL && backend->state != NULL)
        destroy(backend);
    else
        mem_free(backend);
    return status;
}
