/* Tensors in pinned memory of the host (--offload). The device reads and writes it in place through its addresses, which
 * suits what reads every element once: optimizers, sums, conversions, the rows of an embedding. Products read a matrix
 * many times, so theirs go through buffers on the device, two for each block of host memory: while a product runs in one,
 * the other's result is copied back and the next matrix in, on two streams of their own. The products are the same calls
 * on the same numbers, and each tensor is changed by one product at a time, in the order in which they are issued: the
 * bits are those of device memory.
 *
 * A stage holds the matrix that it held last; only another matrix, or cuda_host_flush, has it written back. Whatever else
 * touches host memory that products may write flushes first. */
#include "backend/cuda/cuda_internal.h"

#include "base/memory.h"

#include <assert.h>
#include <string.h>

/* A buffer on the device for one matrix. */
struct stage {
    void *memory;
    size_t bytes;      /* its room */
    const void *holds; /* which matrix, by its address in host memory; NULL: none */
    size_t held;       /* its bytes */
    bool written;      /* by products, and not yet copied back */
    cudaEvent_t used;  /* the last product that used it */
    cudaEvent_t moved; /* its last copy */
};

enum { STAGES = 2 };
struct cuda_host_block {
    char *memory;
    size_t bytes;
    struct stage stages[STAGES]; /* the first has room for any matrix */
    int last;                    /* the stage that was used last */
    struct cuda_host_block *next;
};

static struct cuda_host_block *block_of(const struct cuda_state *s, const void *p)
{
    struct cuda_host_block *b = s->host_blocks;
    while (b != NULL && ((const char *)p < b->memory || (const char *)p >= b->memory + b->bytes))
        b = b->next;
    return b;
}

bool cuda_on_host(const struct backend *backend, const void *p) { return block_of(cuda_state_of(backend), p) != NULL; }

static void close_stage(struct backend *backend, struct stage *stage)
{
    cuda_free(backend, stage->memory);
    if (stage->used != NULL)
        (void)cudaEventDestroy(stage->used);
    if (stage->moved != NULL)
        (void)cudaEventDestroy(stage->moved);
}

static cudaError_t open_streams(struct cuda_state *s)
{
    cudaError_t result = cudaSuccess;
    if (s->copy_in == NULL)
        result = cudaStreamCreateWithFlags(&s->copy_in, cudaStreamNonBlocking);
    if (result == cudaSuccess && s->copy_out == NULL)
        result = cudaStreamCreateWithFlags(&s->copy_out, cudaStreamNonBlocking);
    return result;
}

static cohort_status open_stage(struct backend *backend, struct stage *stage, size_t bytes, const char *what,
                                cohort_error *err)
{
    if (bytes == 0)
        return COHORT_OK;
    stage->bytes = bytes;
    TRY(cuda_alloc(backend, &stage->memory, bytes, what, err));
    cuda_note(backend, what, cudaEventCreateWithFlags(&stage->used, cudaEventDisableTiming));
    cuda_note(backend, what, cudaEventCreateWithFlags(&stage->moved, cudaEventDisableTiming));
    return cuda_check(backend, err);
}

cohort_status cuda_alloc_host(struct backend *backend, void *out, size_t bytes, const size_t stages[2],
                              const char *what, cohort_error *err)
{
    struct cuda_state *s = cuda_state_of(backend);
    struct cuda_host_block *block = NULL;
    cohort_status status = COHORT_OK;
    void *memory = NULL;
    memcpy(out, &memory, sizeof memory);
    assert(bytes > 0 && stages[0] >= stages[1]);
    cuda_make_current(backend);
    TRY(cuda_check(backend, err));
    TRY(mem_alloc(&block, 1, sizeof *block, what, err));
    block->last = 1;
    if (cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped) != cudaSuccess) {
        (void)cudaGetLastError();
        mem_free(block);
        return error_set(err, COHORT_ERR_MEMORY,
                         "%s: %.2f GB of pinned host memory cannot be had; leave it out of --offload, or raise what "
                         "this process may lock (ulimit -l)",
                         what, (double)bytes / 1e9);
    }
    block->memory = memory;
    block->bytes = bytes;
    block->next = s->host_blocks;
    s->host_blocks = block;
    cuda_note(backend, what, open_streams(s));
    for (int i = 0; i < STAGES; i++)
        TRY_GOTO(open_stage(backend, &block->stages[i], stages[i], what, err));
    cuda_zero(backend, memory, bytes);
    TRY_GOTO(cuda_check(backend, err));
    memcpy(out, &memory, sizeof memory);
    return COHORT_OK;
cleanup:
    (void)cuda_free_host(backend, memory);
    return status;
}

bool cuda_free_host(struct backend *backend, void *memory)
{
    struct cuda_state *s = cuda_state_of(backend);
    struct cuda_host_block **at = &s->host_blocks;
    while (*at != NULL && (*at)->memory != memory)
        at = &(*at)->next;
    struct cuda_host_block *block = *at;
    if (block == NULL)
        return false;
    *at = block->next;
    cuda_wait(backend);
    cuda_note(backend, "freeing host memory", cudaStreamSynchronize(s->copy_out));
    for (int i = 0; i < STAGES; i++)
        close_stage(backend, &block->stages[i]);
    cuda_note(backend, "freeing host memory", cudaFreeHost(block->memory));
    mem_free(block);
    return true;
}

void cuda_host_close(struct backend *backend)
{
    struct cuda_state *s = cuda_state_of(backend);
    if (s->copy_in != NULL)
        (void)cudaStreamDestroy(s->copy_in);
    if (s->copy_out != NULL)
        (void)cudaStreamDestroy(s->copy_out);
}

/* Issues the copy of what products wrote back to the host, behind the last of them. */
static void write_back(struct backend *backend, struct stage *stage)
{
    const struct cuda_state *s = cuda_state_of(backend);
    void *home;
    memcpy(&home, &stage->holds, sizeof home);
    cuda_note(backend, "a copy to the host", cudaStreamWaitEvent(s->copy_out, stage->used, 0));
    cuda_note(backend, "a copy to the host",
              cudaMemcpyAsync(home, stage->memory, stage->held, cudaMemcpyDeviceToHost, s->copy_out));
    cuda_note(backend, "a copy to the host", cudaEventRecord(stage->moved, s->copy_out));
    stage->written = false;
}

void cuda_host_flush(struct backend *backend)
{
    const struct cuda_state *s = cuda_state_of(backend);
    for (struct cuda_host_block *b = s->host_blocks; b != NULL; b = b->next)
        for (int i = 0; i < STAGES; i++) {
            struct stage *stage = &b->stages[i];
            if (!stage->written)
                continue;
            write_back(backend, stage);
            cuda_note(backend, "a copy to the host", cudaStreamWaitEvent(s->stream, stage->moved, 0));
            stage->holds = NULL;
        }
}

void cuda_host_forget(struct backend *backend, const void *matrix)
{
    struct cuda_host_block *block = block_of(cuda_state_of(backend), matrix);
    for (int i = 0; block != NULL && i < STAGES; i++)
        if (block->stages[i].holds == matrix)
            block->stages[i].holds = NULL;
}

/* Copies a matrix into a stage, behind what used the stage before and behind the copies of its block to the host. */
static void load(struct backend *backend, struct stage *stage, const void *matrix, size_t bytes)
{
    const struct cuda_state *s = cuda_state_of(backend);
    cudaEvent_t before = stage->used;
    if (stage->written) {
        write_back(backend, stage);
        before = stage->moved;
    } else if (stage->holds == NULL) { /* behind all that was issued */
        cuda_note(backend, "a copy from the host", cudaEventRecord(stage->used, s->stream));
    }
    cuda_note(backend, "a copy from the host", cudaStreamWaitEvent(s->copy_in, before, 0));
    cuda_note(backend, "a copy from the host",
              cudaMemcpyAsync(stage->memory, matrix, bytes, cudaMemcpyHostToDevice, s->copy_in));
    cuda_note(backend, "a copy from the host", cudaEventRecord(stage->moved, s->copy_in));
    cuda_note(backend, "a copy from the host", cudaStreamWaitEvent(s->stream, stage->moved, 0));
    stage->holds = matrix;
    stage->held = bytes;
}

void *cuda_stage(struct backend *backend, const void *matrix, size_t bytes, bool writes)
{
    struct cuda_host_block *block = block_of(cuda_state_of(backend), matrix);
    void *itself;
    memcpy(&itself, &matrix, sizeof itself);
    if (block == NULL || block->stages[0].bytes == 0)
        return itself;
    int i = 0;
    while (i < STAGES && block->stages[i].holds != matrix)
        i++;
    if (i == STAGES) {
        i = block->last == 0 && bytes <= block->stages[1].bytes ? 1 : 0;
        assert(bytes <= block->stages[i].bytes);
        load(backend, &block->stages[i], matrix, bytes);
    }
    block->last = i;
    block->stages[i].written = block->stages[i].written || writes;
    return block->stages[i].memory;
}

void cuda_staged(struct backend *backend, const void *matrix)
{
    const struct cuda_state *s = cuda_state_of(backend);
    struct cuda_host_block *block = block_of(s, matrix);
    for (int i = 0; block != NULL && i < STAGES; i++)
        if (block->stages[i].holds == matrix)
            cuda_note(backend, "a product on a stage", cudaEventRecord(block->stages[i].used, s->stream));
}
