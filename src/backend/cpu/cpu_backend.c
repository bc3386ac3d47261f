/* The CPU backend: what this machine has, the table of operations, memory.
 *
 * It owns the threads, the scratch that operations share, and the scratch of each thread. The instruction set and the
 * providers of matrix products are chosen at creation and never again (invariant I2). */
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_matmul.h"

#include "base/cores.h"
#include "base/memory.h"
#include "base/number.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(COHORT_X86)
#include <cpuid.h>
#include <sys/syscall.h>
#endif

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20, ALONE_NS = 10000 };

static const struct backend_sizes sizes = {.logits_bytes = 64 << 20,
                                           .prefill_tokens = 512,
                                           .decode_sequences = 256,
                                           .train_tokens = 2048,
                                           .train_tokens_wide = 2048,
                                           .square_block = CPU_SQUARE_BLOCK};

#define NAME(id, word, ...) [CPU_ISA_##id] = word,
static const char *const isa_names[N_CPU_ISAS] = {CPU_ISA_LIST(NAME)};
#undef NAME

#if defined(COHORT_X86)
static uint64_t enabled_state(void)
{
    uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool has_bits(uint64_t word, uint64_t bits) { return (word & bits) == bits; }

/* Linux gives a process the tile registers only when it asks. */
static bool may_use_tiles(void)
{
    const long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

/* The bits are those of Intel's manual, volume 2A, CPUID; state components of volume 1, 13.1. */
static enum cpu_isa detect(void)
{
    const uint32_t fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
    const uint32_t avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* f, dq, bw, vl */
    const uint32_t amx = 1u << 22 | 1u << 24, avx512_bf16 = 1u << 5;
    const uint64_t ymm = 0x6, zmm = 0xe6, tiles = 0x60000;
    uint32_t a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has_bits(c, fma | osxsave | avx | f16c))
        return CPU_ISA_PORTABLE;
    const uint64_t state = enabled_state();
    uint32_t a1 = 0, b1 = 0, c1 = 0, d1 = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has_bits(b, avx2) || !has_bits(state, ymm))
        return CPU_ISA_PORTABLE;
    if (!has_bits(b, avx512) || !has_bits(state, zmm))
        return CPU_ISA_AVX2;
    if (a < 1 || !__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1) || !has_bits(a1, avx512_bf16))
        return CPU_ISA_AVX512;
    if (!has_bits(d, amx) || !has_bits(state, tiles) || !may_use_tiles())
        return CPU_ISA_AVX512_BF16;
    return CPU_ISA_AMX_BF16;
}
#else
static enum cpu_isa detect(void) { return CPU_ISA_PORTABLE; }
#endif

struct clear_job {
    char *memory;
    size_t bytes;
};

/* An item is CLEAR_PIECE bytes. */
enum { CLEAR_PIECE = 4 << 20 };
static void clear_pieces(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct clear_job *job = context;
    (void)thread;
    const size_t first = (size_t)begin * CLEAR_PIECE, past = (size_t)end * CLEAR_PIECE;
    memset(job->memory + first, 0, (past < job->bytes ? past : job->bytes) - first);
}

static void zero_bytes(struct backend *backend, void *memory, size_t bytes)
{
    const struct clear_job job = {memory, bytes};
    if (bytes >= 4 * (size_t)CLEAR_PIECE)
        cpu_run(backend, backend->threads, (int64_t)((bytes - 1) / CLEAR_PIECE + 1), 1, clear_pieces, &job);
    else if (bytes > 0)
        memset(memory, 0, bytes);
}

/* Before every block lie BLOCK_HEAD bytes that say how it is given back. A small block comes from the heap and is cleared.
 * A large one is fresh from the system, which hands out pages of zeros when they are first written to: the first write is
 * slow (half a gigabyte per second on some virtual machines), and so it is left to the threads that have something to
 * write, and never made where nobody has. */
enum { BLOCK_HEAD = 64 };
struct block_head {
    void *base;
    size_t bytes; /* of the mapping; 0: of the heap */
};

static void *block_small(size_t bytes)
{
    char *base = aligned_alloc(ALIGNMENT, BLOCK_HEAD + bytes);
    if (base == NULL)
        return NULL;
    memset(base + BLOCK_HEAD, 0, bytes);
    memcpy(base, &(struct block_head){.base = base}, sizeof(struct block_head));
    return base + BLOCK_HEAD;
}

static void *block_large(size_t bytes)
{
    const size_t mapped = bytes + HUGE_PAGE;
    char *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    /* A mapping begins with a page, so that there is room for the head before the next huge one. */
    const size_t before = (size_t)HUGE_PAGE - (uintptr_t)base % HUGE_PAGE;
    char *block = base + before;
    (void)madvise(block, bytes, MADV_HUGEPAGE); /* a hint: without it only slower */
    memcpy(block - BLOCK_HEAD, &(struct block_head){.base = base, .bytes = mapped}, sizeof(struct block_head));
    return block;
}

cohort_status cpu_alloc(struct backend *backend, void *out, size_t bytes, const char *what, cohort_error *err)
{
    struct cpu_state *state = backend->state;
    void *block = NULL;
    memcpy(out, &block, sizeof block);
    if (state->failed)
        return error_set(err, COHORT_ERR_MEMORY, "%s: an earlier operation could not get its scratch memory", what);
    const bool large = bytes >= 2 * (size_t)HUGE_PAGE;
    const size_t alignment = large ? HUGE_PAGE : ALIGNMENT;
    if (bytes > SIZE_MAX / 2)
        return error_set(err, COHORT_ERR_MEMORY, "%s: %zu bytes is not a possible size", what, bytes);
    const size_t rounded = (bytes + (bytes == 0) + alignment - 1) / alignment * alignment;
    block = large ? block_large(rounded) : block_small(rounded);
    if (block == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "%s: cannot allocate %zu bytes; use a smaller batch or model", what,
                         bytes);
    if (large)
        atomic_fetch_add(&state->large_bytes, rounded);
    memcpy(out, &block, sizeof block);
    return COHORT_OK;
}

void cpu_free(struct backend *backend, void *memory)
{
    struct cpu_state *state = backend->state;
    struct block_head head;
    if (memory == NULL)
        return;
    memcpy(&head, (char *)memory - BLOCK_HEAD, sizeof head);
    if (head.bytes > 0) {
        atomic_fetch_sub(&state->large_bytes, head.bytes - HUGE_PAGE);
        munmap(head.base, head.bytes);
    } else
        free(head.base);
}

static void copy_bytes(struct backend *backend, void *to, const void *from, size_t bytes)
{
    (void)backend;
    if (bytes > 0)
        memcpy(to, from, bytes);
}

static cohort_status copy_beside(struct backend *backend, void *to, const void *from, size_t bytes, cohort_error *err)
{
    (void)err;
    copy_bytes(backend, to, from, bytes);
    return COHORT_OK;
}

/* MemAvailable of the kernel, else what is installed; without what large blocks hold that nothing was written to yet,
 * which the kernel still counts as free. */
static size_t available(struct backend *backend)
{
    struct cpu_state *state = backend->state;
    const size_t free_bytes = mem_available(), large = atomic_load(&state->large_bytes), written = mem_written();
    const size_t owed = large > written && written > 0 ? large - written : 0;
    return free_bytes > owed ? free_bytes - owed : 0;
}

static void nothing_to_wait_for(struct backend *backend) { (void)backend; }

/* The kernels read the host's lists themselves. */
static void attention_prepare(struct backend *backend, const struct attention_batch *batch)
{
    (void)backend;
    (void)batch;
}

static void *grow(struct backend *backend, void **memory, size_t *capacity, size_t bytes)
{
    struct cpu_state *state = backend->state;
    if (bytes > *capacity) {
        cpu_free(backend, *memory);
        *capacity = 0;
        const cohort_status status = cpu_alloc(backend, memory, bytes, "scratch", NULL);
        if (status != COHORT_OK) {
            state->failed |= status == COHORT_ERR_MEMORY; /* not after a stop, which may be withdrawn */
            return NULL;
        }
        *capacity = bytes;
    }
    return *memory;
}

void *cpu_scratch(struct backend *backend, size_t bytes)
{
    struct cpu_state *state = backend->state;
    return grow(backend, &state->scratch, &state->scratch_bytes, bytes);
}

void *cpu_scratch_aside(struct backend *backend, size_t bytes)
{
    struct cpu_state *state = backend->state;
    return grow(backend, &state->aside, &state->aside_bytes, bytes);
}

static cohort_status check(struct backend *backend, cohort_error *err)
{
    const struct cpu_state *state = backend->state;
    if (state->failed)
        return error_set(err, COHORT_ERR_MEMORY,
                         "an operation could not get its working memory; lower --micro-batch-tokens "
                         "or close other programs");
    return pool_check(state->pool, err);
}

static void destroy(struct backend *backend)
{
    struct cpu_state *state = backend->state;
    if (state != NULL) {
        for (int i = 0; state->worker != NULL && i < pool_threads(state->pool); i++) {
            mem_free(state->worker[i].sample.logits);
            mem_free(state->worker[i].sample.window);
            mem_free(state->worker[i].sample.ranked);
        }
        pool_destroy(state->pool);
        mem_free(state->worker);
        free(state->blocks);
        cpu_free(backend, state->scratch);
        cpu_free(backend, state->aside);
    }
    mem_free(state);
    mem_free(backend);
}

/* In the order in which sum_squares adds its blocks. */
static double add_square_sums(struct backend *backend, const double *sums, int64_t n)
{
    double total = 0.0;
    (void)backend;
    for (int64_t b = 0; b < n; b++)
        total += sums[b];
    return total;
}

/* One table for each instruction set the kernel files are compiled for. */
#define FIELD_portable(type, name, params)   .name = name##_portable,
#define FIELD_avx2(type, name, params)       .name = name##_avx2,
#define FIELD_avx512(type, name, params)     .name = name##_avx512,
#define FIELD_avx512bf16(type, name, params) .name = name##_avx512bf16,
#define OPS(isa, attention)                                                                                            \
    {                                                                                                                  \
        .name = "cpu", .alloc = cpu_alloc, .free = cpu_free, .upload = copy_bytes, .download = copy_bytes,             \
        .download_beside = copy_beside, .zero = zero_bytes, .copy = copy_bytes, .check = check,                        \
        .available = available, .wait = nothing_to_wait_for, .attention_prepare = attention_prepare,                   \
        .weight_bytes = cpu_weight_bytes, .weight_create = cpu_weight_create, .weight_refresh = cpu_weight_refresh,    \
        .weight_fill = cpu_weight_fill, .weight_destroy = cpu_weight_destroy, .matmul_forward = cpu_matmul_forward,    \
        .matmul_backward_input = cpu_matmul_backward_input, .matmul_backward_weight = cpu_matmul_backward_weight,      \
        .lowrank_forward = cpu_lowrank_forward, .lowrank_backward = cpu_lowrank_backward,                              \
        .grouped_forward = cpu_grouped_forward, .grouped_backward_input = cpu_grouped_backward_input,                  \
        .grouped_backward_weight = cpu_grouped_backward_weight, .grouped_change_forward = cpu_grouped_change_forward,  \
        .grouped_change_backward = cpu_grouped_change_backward,                                                        \
        CPU_KERNELS(FIELD_##isa) CPU_ATTENTION_KERNELS(FIELD_##attention).sum_squares = sum_squares_##isa,             \
        .square_sums = square_sums_##isa, .add_square_sums = add_square_sums, .destroy = destroy,                      \
    }
static const struct backend_ops ops_portable = OPS(portable, portable);
#if defined(COHORT_X86)
static const struct backend_ops ops_avx2 = OPS(avx2, avx2);
static const struct backend_ops ops_avx512 = OPS(avx512, avx512);
static const struct backend_ops ops_avx512bf16 = OPS(avx512, avx512bf16);
#endif

struct level {
    const struct backend_ops *ops;
    const struct cpu_matmul *bf16, *f32, *f16;
};
#define LEVEL(id, word, kernels, attention, product)                                                                   \
    [CPU_ISA_##id] = {&ops_##attention, &matmul_bf16_##product, &matmul_f32_##kernels, &matmul_f16_##kernels},
#if defined(COHORT_X86)
static const struct level levels[N_CPU_ISAS] = {CPU_ISA_LIST(LEVEL)};
#else
static const struct level levels[] = {LEVEL(PORTABLE, , portable, portable, portable)}; /* all that detect finds */
#endif

static cohort_status choose_isa(enum cpu_isa asked, enum cpu_isa *out, cohort_error *err)
{
    const enum cpu_isa best = detect();
    if (asked > best)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "instruction set \"%s\" is not available on this machine; the best it has is \"%s\"",
                         isa_names[asked], isa_names[best]);
    *out = asked == CPU_ISA_AUTO ? best : asked;
    return COHORT_OK;
}

/* asked: 0 for what the process may use. */
static cohort_status start_threads(struct backend *backend, int asked, cohort_error *err)
{
    struct cpu_state *state = backend->state;
    struct cores cores = {0};
    char *note = state->threads_note;
    int threads = asked;
    if (asked == 0) {
        cores_find(&cores);
        threads = cores.usable;
        if (cores.usable < cores.affinity)
            number_format(note, sizeof state->threads_note, "the CPU quota of the control group is %.2f of %d cores",
                          cores.quota, cores.online);
        else if (cores.affinity < cores.online)
            snprintf(note, sizeof state->threads_note, "this process may run on %d of %d cores (affinity)",
                     cores.affinity, cores.online);
    }
    TRY(pool_create(&state->pool, threads, err));
    backend->threads = pool_threads(state->pool);
    if (backend->threads < threads)
        snprintf(note, sizeof state->threads_note,
                 "%d were wanted and the system gave no more; its limit of processes or memory", threads);
    backend->threads_note = note;
    TRY(mem_alloc(&state->worker, (size_t)backend->threads, sizeof *state->worker, "working memory of threads", err));
    /* The blocks are not zeroed: what a thread does not touch costs nothing. */
    state->blocks = aligned_alloc(ALIGNMENT, (size_t)backend->threads * CPU_BLOCK_BYTES);
    if (state->blocks == NULL)
        return error_set(err, COHORT_ERR_MEMORY,
                         "working memory of %d threads: cannot allocate %zu bytes; use fewer "
                         "threads",
                         backend->threads, (size_t)backend->threads * CPU_BLOCK_BYTES);
    for (int i = 0; i < backend->threads; i++)
        state->worker[i].block = (char *)state->blocks + (size_t)i * CPU_BLOCK_BYTES;
    return COHORT_OK;
}

cohort_status backend_cpu_create(struct backend **out, enum cpu_isa isa, int threads, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    struct backend *backend = NULL;
    struct cpu_state *state = NULL;
    *out = NULL;
    if (threads < 0 || threads > POOL_MAX_THREADS)
        return error_set(err, COHORT_ERR_ARGUMENT, "threads is %d; expected 1 to %d, or 0 for all cores", threads,
                         POOL_MAX_THREADS);
    TRY(choose_isa(isa, &isa, err));
    TRY(mem_alloc(&backend, 1, sizeof *backend, "backend", err));
    TRY_GOTO(mem_alloc(&state, 1, sizeof *state, "backend state", err));
    backend->state = state;
    state->matmul_bf16 = levels[isa].bf16;
    state->matmul_f32 = levels[isa].f32;
    state->matmul_f16 = levels[isa].f16;
    backend->ops = levels[isa].ops;
    TRY_GOTO(start_threads(backend, threads, err));
    backend->alone_ns = ALONE_NS;
    backend->host_memory = true;
    backend->sizes = &sizes;
    backend->device = "CPU";
    backend->gpu = -1;
    backend->provider_bf16 = state->matmul_bf16->name;
    backend->provider_f32 = state->matmul_f32->name;
    *out = backend;
    return COHORT_OK;
cleanup:
    destroy(backend);
    return status;
}

void backend_destroy(struct backend *backend)
{
    if (backend != NULL)
        backend->ops->destroy(backend);
}
