/* Shared by the tests of operations, which run on every backend from one source: without arguments on each instruction
 * set of this machine, with --device cuda on GPU 0 or on its emulation. A tensor is an array: here, and in the
 * backend's memory, between guard bytes in both. */
#ifndef COHORT_TESTS_KERNELS_KERNEL_TEST_H
#define COHORT_TESTS_KERNELS_KERNEL_TEST_H

#include "support/numbers.h"
#include "support/test_backend.h"

#include "backend/ops.h"

#if defined(COHORT_CUDA_EMULATED)
#include "cuda_emulation_control.h"
#endif

/* ---- What runs ---- */

/* All kernels differ between the first N_ISAS; the others have another product of matrices. */
enum { N_ISAS = 3, N_PROVIDERS = 5, MOST_THREADS = 16 };
static const char *const cpu_providers[N_PROVIDERS] = {"portable", "avx2", "avx512", "avx512-bf16", "amx-bf16"};

static const char *provider; /* the one under test: of the list, or "cuda" */
static struct backend *backend;
static int provider_index;
static struct backend *backends_open[N_PROVIDERS][MOST_THREADS + 1];

static inline void backends_close(void)
{
    for (int i = 0; i < N_PROVIDERS; i++)
        for (int threads = 0; threads <= MOST_THREADS; threads++)
            backend_destroy(backends_open[i][threads]);
}

/* Has the provider under test work with so many threads, on small shapes too. A GPU runs as it did: what is computed
 * again must have the same bits. Its emulation runs threads of blocks in another order from two on, with three in the
 * opposite one. False if this machine lacks the provider. */
static inline bool use_threads(int threads)
{
    static bool registered;
    if (!registered)
        registered = atexit(backends_close) == 0;
#if defined(COHORT_CUDA_EMULATED)
    if (test_options.cuda && getenv("CUDA_EMULATION_ORDER") == NULL)
        cuda_emulation_set_order(threads == 1   ? CUDA_EMULATION_ASCENDING
                                 : threads == 3 ? CUDA_EMULATION_DESCENDING
                                                : CUDA_EMULATION_SHUFFLED,
                                 (uint64_t)threads);
#endif
    struct backend **open = &backends_open[provider_index][test_options.cuda ? 1 : threads];
    if (*open == NULL && (*open = backend_here(provider, threads)) == NULL)
        return false;
    backend = *open;
    backend->alone_ns = 0.0;
    return true;
}

#if defined(COHORT_CUDA_EMULATED)
/* The emulated device is another from here on, with the shared memory of its compute capability. */
static inline void use_capability(int capability)
{
    backend_destroy(backend);
    backends_open[provider_index][1] = NULL;
    cuda_emulation_set_device(0, 0, capability);
    assert_true(use_threads(1));
}
#endif

/* The provider behind number i of the first n that this machine has, with one thread; -1 behind the last. */
static inline int next_provider(int i, int n)
{
    for (i++; (provider = test_provider(cpu_providers, (size_t)n, (size_t)i)) != NULL; i++) {
        provider_index = i;
        if (use_threads(1))
            return i;
    }
    return -1;
}

/* A loop over what runs: provider and backend say what it is. */
#define EACH_BACKEND_OF(n) for (int each_ = next_provider(-1, n); each_ >= 0; each_ = next_provider(each_, n))
#define EACH_BACKEND       EACH_BACKEND_OF(N_ISAS)
#define EACH_PRODUCT       EACH_BACKEND_OF(N_PROVIDERS)

static inline void backend_must_be_well(void)
{
    cohort_error err = {0};
    backend->ops->wait(backend);
    if (backend->ops->check(backend, &err) != COHORT_OK)
        fail_msg("%s: %s", provider, err.message);
}

/* Around the vector widths 8 and 16 and the unrolled 4 * VW, and a real one. */
static const int64_t test_width[] = {1, 7, 8, 9, 15, 16, 17, 100, 1024};
enum { N_WIDTHS = sizeof test_width / sizeof *test_width };

/* ---- Arrays ---- */

struct array {
    enum dtype type;
    int64_t count;
    uint64_t stream; /* what it was filled with */
    double scale;
    size_t before, bytes;       /* guard bytes before it; of the array */
    unsigned char *base, *host; /* with the guards: in backend memory, and here */
    void *d, *x;                /* the array in either */
};
enum { MOST_ARRAYS = 64 };
static struct array arrays[MOST_ARRAYS];
static int n_arrays;

static inline size_t array_whole(const struct array *a) { return a->before + a->bytes + GUARD; }

static inline void push(const struct array *a) { backend->ops->upload(backend, a->base, a->host, array_whole(a)); }

/* What the backend holds now is x; guards must be as they were. */
static inline void pull(const struct array *a)
{
    backend_must_be_well();
    backend->ops->download(backend, a->host, a->base, array_whole(a));
    for (size_t i = 0; i < array_whole(a); i++)
        if ((i < a->before || i >= a->before + a->bytes) && a->host[i] != GUARD_BYTE)
            fail_msg("%s: byte %lld of an array of %zu was written", provider, (long long)i - (long long)a->before,
                     a->bytes);
}

/* count numbers of a stream in (-scale, scale), in stream 0 the guards' pattern; shift elements from an aligned
 * address. Lives until arrays_free. */
static inline struct array *array_shifted(int64_t count, enum dtype type, uint64_t stream, double scale, size_t shift)
{
    cohort_error err = {0};
    void *base = NULL;
    assert_true(n_arrays < MOST_ARRAYS);
    struct array *a = &arrays[n_arrays++];
    *a = (struct array){.type = type,
                        .count = count,
                        .stream = stream,
                        .scale = scale,
                        .before = GUARD + shift * dtype_bytes(type),
                        .bytes = (size_t)count * dtype_bytes(type)};
    a->host = malloc(array_whole(a));
    assert_non_null(a->host);
    memset(a->host, GUARD_BYTE, array_whole(a));
    a->x = a->host + a->before;
    if (stream > 0)
        fill(a->x, type, count, stream, scale);
    if (backend->ops->alloc(backend, &base, array_whole(a), "a test's array", &err) != COHORT_OK)
        fail_msg("%s", err.message);
    a->base = base;
    a->d = a->base + a->before;
    push(a);
    return a;
}

static inline struct array *array_new(int64_t count, enum dtype type, uint64_t stream, double scale)
{
    return array_shifted(count, type, stream, scale, 0);
}

/* count elements from memory, as they are. */
static inline struct array *array_of(const void *memory, int64_t count, enum dtype type)
{
    struct array *a = array_new(count, type, 0, 0.0);
    if (count > 0)
        memcpy(a->x, memory, a->bytes);
    push(a);
    return a;
}

/* The same values in F16 and in F32. */
static inline void halves_of(int64_t count, uint64_t stream, double scale, const struct array **f16,
                             const struct array **f32)
{
    struct array *wide = array_new(count, DTYPE_F32, stream, scale), *narrow = array_new(count, DTYPE_F16, 0, 0.0);
    for (int64_t i = 0; i < count; i++) {
        /* Every seventh is subnormal in F16. */
        const float value = ((const float *)wide->x)[i] * (i % 7 == 3 ? 0x1p-15f : 1.0f);
        ((uint16_t *)narrow->x)[i] = f16_from_f32(value);
        ((float *)wide->x)[i] = f32_from_f16(((const uint16_t *)narrow->x)[i]);
    }
    push(wide);
    push(narrow);
    *f16 = narrow;
    *f32 = wide;
}

static inline struct array *ids_of(const int32_t *ids, int64_t count) { return array_of(ids, count, DTYPE_F32); }

static inline double get(const struct array *a, int64_t i) { return at(a->x, a->type, i); }
static inline void set(const struct array *a, int64_t i, float value) { put(a->x, a->type, i, value); }

/* Element i before anything was computed. */
static inline double was(const struct array *a, int64_t i)
{
    float value = (float)(a->scale * number(a->stream, i));
    return a->type == DTYPE_F32 ? (double)value : (double)f32_from_bf16(bf16_from_f32(value));
}

/* All elements in double, for free. */
static inline double *widened(const struct array *a)
{
    double *y = malloc((size_t)(a->count + 1) * sizeof *y);
    assert_non_null(y);
    for (int64_t i = 0; i < a->count; i++)
        y[i] = get(a, i);
    return y;
}

/* The same bytes, as far as both go. */
static inline void expect_same(const char *what, const struct array *a, const struct array *b)
{
    const size_t bytes = a->bytes < b->bytes ? a->bytes : b->bytes, n = dtype_bytes(a->type);
    pull(a);
    pull(b);
    for (size_t i = 0; i < bytes; i++)
        if (((unsigned char *)a->x)[i] != ((unsigned char *)b->x)[i])
            fail_msg("%s, %s: element %zu of %zu has other bits: %.9g and %.9g", provider, what, i / n, bytes / n,
                     get(a, (int64_t)(i / n)), get(b, (int64_t)(i / n)));
}

/* All but the first so many; their guards are looked at. */
static inline void arrays_free_from(int first)
{
    for (int i = first; i < n_arrays; i++) {
        pull(&arrays[i]);
        backend->ops->free(backend, arrays[i].base);
        free(arrays[i].host);
    }
    n_arrays = first;
}

static inline void arrays_free(void) { arrays_free_from(0); }

#endif
