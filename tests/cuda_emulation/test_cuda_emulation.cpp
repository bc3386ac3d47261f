/* The emulation itself: what instructions give, as the PTX ISA words it, and that what would be wrong on a GPU is
 * noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include <stdio.h>
#include <stdlib.h>
#include <thread>

#include "backend/cuda/cuda_device.cuh"

static const cuda_emulation_order orders[] = {CUDA_EMULATION_ASCENDING, CUDA_EMULATION_DESCENDING,
                                              CUDA_EMULATION_SHUFFLED};

template <typename T> static T *device(const T *host, size_t n)
{
    void *p = NULL;
    assert_int_equal(cudaMalloc(&p, n * sizeof(T)), cudaSuccess);
    if (host)
        assert_int_equal(cudaMemcpy(p, host, n * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
    return (T *)p;
}
template <typename T> static void fetch(T *host, const T *p, size_t n)
{
    assert_int_equal(cudaMemcpy(host, p, n * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
}
/* The launch before must have failed with a message that holds text. */
static void expect_failure(const char *text)
{
    cudaDeviceSynchronize();
    const char *message = cuda_emulation_failure();
    assert_non_null(message);
    if (!strstr(message, text))
        fail_msg("'%s' was expected in '%s'", text, message);
    assert_int_not_equal(cudaPeekAtLastError(), cudaSuccess);
    cuda_emulation_expect_failure(false);
}

/* ---- indices ---- */
static __global__ void where_kernel(unsigned *out)
{
    unsigned b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    unsigned t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    out[b * blockDim.x * blockDim.y * blockDim.z + t] = b << 16 | t;
}
static void every_thread_runs_once(void **)
{
    enum { BLOCKS = 3 * 2 * 5, THREADS = 7 * 3 * 4 };
    unsigned *out = device<unsigned>(NULL, BLOCKS * THREADS), host[BLOCKS * THREADS];
    for (cuda_emulation_order order : orders) {
        cuda_emulation_set_order(order, 3);
        LAUNCH(where_kernel, dim3(3, 2, 5), dim3(7, 3, 4), 0, NULL, out);
        fetch(host, out, BLOCKS * THREADS);
        for (unsigned i = 0; i < BLOCKS * THREADS; i++)
            assert_int_equal(host[i], i / THREADS << 16 | i % THREADS);
    }
    cudaFree(out);
}

/* ---- shuffles and votes ---- */
static __global__ void shuffle_kernel(int *out, int width)
{
    int l = (int)threadIdx.x, x = 100 + l;
    out[l] = __shfl_sync(0xffffffffu, x, l * 3 + 1, width);
    out[32 + l] = __shfl_xor_sync(0xffffffffu, x, 5, width);
    out[64 + l] = __shfl_up_sync(0xffffffffu, x, 3, width);
    out[96 + l] = __shfl_down_sync(0xffffffffu, x, 3, width);
    double d = __shfl_xor_sync(0xffffffffu, (double)x + 0.25, 1);
    out[128 + l] = d == 100 + (l ^ 1) + 0.25;
    out[160 + l] = (int)__ballot_sync(0xffffffffu, l % 3 == 0);
    out[192 + l] = __any_sync(0xffffffffu, l == 9) + 2 * __any_sync(0xffffffffu, 0) +
                   4 * __all_sync(0xffffffffu, l < 32) + 8 * __all_sync(0xffffffffu, l != 4);
    out[224 + l] = (int)__match_any_sync(0xffffffffu, l % 5);
    /* Halves of a warp on their own. */
    unsigned half = l < 16 ? 0xffffu : 0xffff0000u;
    out[256 + l] = l < 16 ? __shfl_xor_sync(half, x, 1) : (int)__ballot_sync(half, l & 1);
}
static void shuffles(void **)
{
    int *out = device<int>(NULL, 288), host[288];
    for (cuda_emulation_order order : orders)
        for (int width = 4; width <= 32; width *= 2) {
            cuda_emulation_set_order(order, 5);
            LAUNCH(shuffle_kernel, 1, 32, 0, NULL, out, width);
            fetch(host, out, 288);
            for (int l = 0; l < 32; l++) {
                int base = l / width * width, in = l % width, x = l ^ 5;
                assert_int_equal(host[l], 100 + base + (l * 3 + 1) % width);
                /* A source in a later segment gives the lane's own value, an earlier one its. */
                assert_int_equal(host[32 + l], 100 + (x / width * width > base ? l : x));
                assert_int_equal(host[64 + l], 100 + (in >= 3 ? l - 3 : l));
                assert_int_equal(host[96 + l], 100 + (in + 3 < width ? l + 3 : l));
                assert_int_equal(host[128 + l], 1);
                assert_int_equal(host[160 + l], 0x49249249);
                assert_int_equal(host[192 + l], 1 + 4);
                unsigned same = 0;
                for (int i = 0; i < 32; i++)
                    same |= (unsigned)(i % 5 == l % 5) << i;
                assert_int_equal((unsigned)host[224 + l], same);
                assert_int_equal(host[256 + l], l < 16 ? 100 + (l ^ 1) : (int)0xaaaa0000);
            }
        }
    cudaFree(out);
}

/* ---- matrices ---- */
static __global__ void mma_kernel(float *d, const uint16_t *a, const uint16_t *b)
{
    /* PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type", element by element. */
    int group = (int)threadIdx.x >> 2, in_group = (int)threadIdx.x % 4;
    uint32_t ra[4] = {}, rb[2] = {};
    float rd[4];
    for (int i = 0; i < 8; i++) {
        int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
        int column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
        ra[i / 2] |= (uint32_t)a[row * 16 + column] << (i % 2 * 16);
    }
    for (int i = 0; i < 4; i++) {
        int row = in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
        rb[i / 2] |= (uint32_t)b[row * 8 + group] << (i % 2 * 16);
    }
    for (int i = 0; i < 4; i++)
        rd[i] = d[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)];
    mma_bf16(rd, ra, rb[0], rb[1]);
    for (int i = 0; i < 4; i++)
        d[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = rd[i];
}
static uint16_t small_bf16(int x) { return (uint16_t)emulated_bf16((float)x); }
static void mma_of_random_matrices(void **)
{
    uint16_t a[256], b[128];
    float d[128], want[128];
    srand(1);
    for (uint16_t &x : a)
        x = small_bf16(rand() % 201 - 100);
    for (uint16_t &x : b)
        x = small_bf16(rand() % 201 - 100);
    for (int i = 0; i < 128; i++)
        want[i] = d[i] = (float)(rand() % 1000);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++)
            for (int k = 0; k < 16; k++)
                want[i * 8 + j] += bf16_to_float(a[i * 16 + k]) * bf16_to_float(b[k * 8 + j]);
    uint16_t *da = device(a, 256), *db = device(b, 128);
    float *dd = device(d, 128);
    LAUNCH(mma_kernel, 1, 32, 0, NULL, dd, da, db);
    fetch(d, dd, 128);
    for (int i = 0; i < 128; i++)
        assert_true(d[i] == want[i]); /* sums of integers below 2^24 are exact */
    cudaFree(da), cudaFree(db), cudaFree(dd);
}

static __global__ void ldmatrix_kernel(uint32_t *out)
{
    __shared__ __align__(16) uint16_t tile[4][8][8];
    int l = (int)threadIdx.x;
    for (int i = l; i < 256; i += 32)
        ((uint16_t *)tile)[i] = (uint16_t)i;
    __syncwarp();
    uint32_t r[4];
    load_matrix4(r, tile[l / 8][l % 8]);
    for (int j = 0; j < 4; j++)
        out[l * 8 + j] = r[j];
    load_matrix4_transposed(r, tile[l / 8][l % 8]);
    for (int j = 0; j < 4; j++)
        out[l * 8 + 4 + j] = r[j];
}
static void ldmatrix_fragments(void **)
{
    uint32_t *out = device<uint32_t>(NULL, 256), host[256];
    LAUNCH(ldmatrix_kernel, 1, 32, 0, NULL, out);
    fetch(host, out, 256);
    for (uint32_t l = 0; l < 32; l++)
        for (uint32_t j = 0; j < 4; j++) {
            uint32_t first = j * 64 + l / 4 * 8 + l % 4 * 2;
            assert_int_equal(host[l * 8 + j], first | (first + 1) << 16);
            uint32_t column = j * 64 + l % 4 * 2 * 8 + l / 4;
            assert_int_equal(host[l * 8 + 4 + j], column | (column + 8) << 16);
        }
    cudaFree(out);
}

/* ---- rounding ---- */
static __global__ void round_kernel(uint32_t *out, const float *x)
{
    out[threadIdx.x] = pack_bf16(x[2 * threadIdx.x], x[2 * threadIdx.x + 1]);
}
static void bf16_rounds_to_even(void **)
{
    const uint32_t bits[8] = {0x3f808000, 0x3f818000, 0x3f808001, 0xff7fffff,
                              0x7fc00001, 0xff800000, 0x00008000, 0x80018000};
    const uint16_t want[8] = {0x3f80, 0x3f82, 0x3f81, 0xff80, 0x7fff, 0xff80, 0x0000, 0x8002};
    float x[8];
    uint32_t host[4];
    memcpy(x, bits, sizeof x);
    float *dx = device(x, 8);
    uint32_t *out = device<uint32_t>(NULL, 4);
    LAUNCH(round_kernel, 1, 4, 0, NULL, out, dx);
    fetch(host, out, 4);
    for (int i = 0; i < 8; i++)
        assert_int_equal(host[i / 2] >> (i % 2 * 16) & 0xffff, want[i]);
    cudaFree(dx), cudaFree(out);
}

/* ---- barriers ---- */
template <bool with_barrier> static __global__ void rotate_kernel(int *out, int rounds)
{
    __shared__ int cell[96];
    unsigned t = threadIdx.x;
    cell[t] = (int)t;
    for (int i = 0; i < rounds; i++) {
        __syncthreads();
        int x = cell[(t + 1) % 96];
        if (with_barrier)
            __syncthreads();
        cell[t] = x;
    }
    out[t] = cell[t];
    int odd = __syncthreads_count(t % 2), any = __syncthreads_or(t == 95), all = __syncthreads_and(t < 95);
    if (odd != 48 || !any || all)
        out[t] = -1;
}
static int rotated(bool with_barrier, cuda_emulation_order order)
{
    int *out = device<int>(NULL, 96), host[96], right = 0;
    cuda_emulation_set_order(order, 11);
    if (with_barrier)
        LAUNCH(rotate_kernel<true>, 1, 96, 0, NULL, out, 5);
    else
        LAUNCH(rotate_kernel<false>, 1, 96, 0, NULL, out, 5);
    fetch(host, out, 96);
    for (int i = 0; i < 96; i++)
        right += host[i] == (i + 5) % 96;
    cudaFree(out);
    return right;
}
static void barriers_order_threads(void **)
{
    int wrong = 0;
    for (cuda_emulation_order order : orders) {
        assert_int_equal(rotated(true, order), 96);
        wrong += rotated(false, order) != 96;
    }
    assert_true(wrong > 0); /* without the barrier some order shows it */
}

enum mistake {
    BARRIER_AND_RETURN,
    TWO_BARRIERS,
    BARRIER_AND_COLLECTIVE,
    LANE_MISSING,
    TWO_COLLECTIVES,
    MASK_WITHOUT_SELF,
    SHARED_OVERRUN,
    WILD_ADDRESS,
    LDMATRIX_ODD,
    LDMATRIX_GLOBAL,
    COPY_ODD,
    COPY_OUTSIDE,
};
static __global__ void mistake_kernel(mistake what, uint16_t *memory)
{
    DYNAMIC_SHARED(shared);
    unsigned t = threadIdx.x;
    uint32_t r[4];
    switch (what) {
    case BARRIER_AND_RETURN:
        if (t != 40)
            __syncthreads();
        break;
    case TWO_BARRIERS:
        if (t < 32)
            __syncthreads();
        else
            __syncthreads();
        break;
    case BARRIER_AND_COLLECTIVE:
        if (t == 3)
            __syncthreads();
        else
            __syncwarp();
        break;
    case LANE_MISSING:
        if (t % 32 != 7)
            __shfl_sync(0xffffffffu, t, 0);
        break;
    case TWO_COLLECTIVES:
        if (t % 32 < 16)
            __shfl_sync(0xffffffffu, t, 0);
        else
            __shfl_xor_sync(0xffffffffu, t, 1);
        break;
    case MASK_WITHOUT_SELF: __ballot_sync(0xffffu, 1); break;
    case SHARED_OVERRUN: shared[100 + t % 28] = 1; break;
    case WILD_ADDRESS: shared[4096] = 1; break;
    case LDMATRIX_ODD: load_matrix4(r, shared + 8); break;
    case LDMATRIX_GLOBAL: load_matrix4(r, memory); break;
    case COPY_ODD: copy_async16(shared + 8, memory, true); break;
    case COPY_OUTSIDE: copy_async16(shared, memory + 64, true); break;
    }
}
static void mistakes_are_reported(void **)
{
    static const char *const text[] = {
        "has returned",   "barrier of",       "no thread can go on", "have returned",
        "but thread",     "does not name it", "outside its 100",     "outside every allocation",
        "multiple of 16", "global memory",    "not multiples of 16", "not in device memory",
    };
    uint16_t *memory = device<uint16_t>(NULL, 64);
    for (cuda_emulation_order order : orders)
        for (int what = BARRIER_AND_RETURN; what <= COPY_OUTSIDE; what++) {
            cuda_emulation_set_order(order, 7);
            cuda_emulation_expect_failure(true);
            LAUNCH(mistake_kernel, 2, 64, 100, NULL, (mistake)what, memory);
            cudaDeviceSynchronize();
            const char *message = cuda_emulation_failure();
            if (!message || !strstr(message, "mistake_kernel"))
                fail_msg("mistake %d, order %d: '%s'", what, (int)order, message ? message : "");
            /* Whoever comes second speaks: the words may differ with the order. */
            if (order == CUDA_EMULATION_ASCENDING)
                expect_failure(text[what]);
            cuda_emulation_expect_failure(false);
        }
    cudaFree(memory);
    cuda_emulation_set_order(CUDA_EMULATION_ASCENDING, 0);
}

/* ---- two devices ---- */

/* What belongs to a device is touched only while it is the current one. */
static void devices_are_current(void **)
{
    cudaStream_t stream = NULL;
    void *memory = NULL;
    int device = -1;
    cuda_emulation_set_devices(2);
    assert_int_equal(cudaSetDevice(2), cudaErrorInvalidDevice);
    assert_int_equal(cudaSetDevice(1), cudaSuccess);
    assert_int_equal(cudaStreamCreate(&stream), cudaSuccess);
    assert_int_equal(cudaMalloc(&memory, 64), cudaSuccess);
    std::thread([&device]() { (void)cudaGetDevice(&device); }).join();
    assert_int_equal(device, 0); /* of a new thread */
    for (int what = 0; what < 4; what++) {
        assert_int_equal(cudaSetDevice(0), cudaSuccess);
        cuda_emulation_expect_failure(true);
        if (what == 0)
            cudaMemsetAsync(memory, 0, 64, stream);
        else if (what == 1)
            LAUNCH(where_kernel, 1, 1, 0, stream, (unsigned *)memory);
        else if (what == 2)
            cudaStreamSynchronize(stream);
        else
            cudaFree(memory);
        const char *message = cuda_emulation_failure();
        if (!message || !strstr(message, "current"))
            fail_msg("mistake %d: '%s'", what, message ? message : "");
        cuda_emulation_expect_failure(false);
    }
    assert_int_equal(cudaSetDevice(1), cudaSuccess);
    (void)cudaGetLastError();
    assert_int_equal(cudaFree(memory), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
    assert_int_equal(cudaSetDevice(0), cudaSuccess);
    cuda_emulation_set_devices(1);
}

/* ---- asynchronous copies ---- */
static __global__ void copy_kernel(float *out, const float *in, bool wait)
{
    __shared__ __align__(16) float cell[3][128];
    unsigned t = threadIdx.x;
    for (int i = 0; i < 3; i++) {
        copy_async16(&cell[i][t * 4], in + i * 128 + t * 4, i < 2 || t < 16);
        copy_async_commit();
    }
    if (wait)
        copy_async_wait<1>();
    __syncthreads();
    for (unsigned i = 0; i < 4; i++) {
        out[t * 4 + i] = cell[0][(t * 4 + i + 4) % 128];
        out[128 + t * 4 + i] = cell[2][t * 4 + i]; /* of the group that is not waited for */
    }
    __syncthreads();
    copy_async_wait<0>();
    __syncthreads();
    for (unsigned i = 0; i < 4; i++)
        out[256 + t * 4 + i] = cell[2][t * 4 + i];
}
static void copies_need_their_wait(void **)
{
    float in[384], host[384];
    for (int i = 0; i < 384; i++)
        in[i] = (float)i;
    float *din = device(in, 384), *out = device<float>(NULL, 384);
    for (int wait = 0; wait < 2; wait++) {
        LAUNCH(copy_kernel, 1, 32, 0, NULL, out, din, wait);
        fetch(host, out, 384);
        for (int i = 0; i < 128; i++) {
            assert_true(wait ? host[i] == (float)((i + 4) % 128) : host[i] != host[i]);
            assert_true(host[128 + i] != host[128 + i]);
            assert_true(host[256 + i] == (i < 64 ? (float)(256 + i) : 0.0f));
        }
    }
    cudaFree(din), cudaFree(out);
}

static __global__ void stale_kernel(float *out)
{
    DYNAMIC_SHARED(shared);
    out[blockIdx.x * blockDim.x + threadIdx.x] = ((float *)shared)[threadIdx.x];
    ((float *)shared)[threadIdx.x] = 1.0f;
}
static void memory_comes_as_nan(void **)
{
    float *out = device<float>(NULL, 64), host[64];
    fetch(host, out, 64);
    for (float x : host)
        assert_true(x != x);
    LAUNCH(stale_kernel, 2, 32, 128, NULL, out);
    fetch(host, out, 64);
    for (float x : host)
        assert_true(x != x);
    cudaFree(out);
}

/* ---- atomics ---- */
static __global__ void atomic_kernel(unsigned *sum, int *most, unsigned long long *bits, int *first)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(sum, 3);
    atomicMax(most, (int)i);
    atomicOr(bits, 1ull << (i % 64));
    atomicCAS(first, -1, 7);
}
static void atomics(void **)
{
    unsigned sum = 0, *dsum = device(&sum, 1);
    int most = -5, *dmost = device(&most, 1), first = -1, *dfirst = device(&first, 1);
    unsigned long long bits = 0, *dbits = device(&bits, 1);
    LAUNCH(atomic_kernel, 3, 40, 0, NULL, dsum, dmost, dbits, dfirst);
    fetch(&sum, dsum, 1), fetch(&most, dmost, 1), fetch(&bits, dbits, 1), fetch(&first, dfirst, 1);
    assert_int_equal(sum, 360);
    assert_int_equal(most, 119);
    assert_true(bits == ~0ull);
    assert_int_equal(first, 7);
    cudaFree(dsum), cudaFree(dmost), cudaFree(dbits), cudaFree(dfirst);
}

/* ---- launches, memory, streams ---- */
static __global__ void add_kernel(int *x, int n) { x[threadIdx.x] += n; }
static void wrong_launches(void **)
{
    int *x = device<int>(NULL, 32);
    const struct {
        dim3 grid, block;
        size_t shared;
        const char *text;
    } wrong[] = {
        {0, 32, 0, "grid"}, {dim3(1, 70000), 32, 0, "grid"}, {1, 1025, 0, "block"}, {1, 32, 49153, "ALLOW_SHARED"}};
    for (const auto &w : wrong) {
        cuda_emulation_expect_failure(true);
        LAUNCH(add_kernel, w.grid, w.block, w.shared, NULL, x, 1);
        expect_failure(w.text);
    }
    assert_int_equal(ALLOW_SHARED(add_kernel, 100000), cudaSuccess);
    LAUNCH(add_kernel, 1, 32, 100000, NULL, x, 1);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    assert_int_equal(ALLOW_SHARED(add_kernel, 228 << 10), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    cudaFree(x);
}
static __global__ void store_kernel(unsigned char *x, int at) { x[at] = 0; }
static void memory_is_guarded(void **)
{
    static const int outside[] = {-1, 100, 255};
    for (int at : outside) {
        unsigned char *x = device<unsigned char>(NULL, 100);
        cuda_emulation_expect_failure(true);
        LAUNCH(store_kernel, 1, 1, 0, NULL, x, at);
        cudaFree(x);
        assert_non_null(cuda_emulation_failure());
        cuda_emulation_expect_failure(false);
    }
    unsigned char *x = device<unsigned char>(NULL, 100), host[200] = {0};
    for (int to_device = 0; to_device < 2; to_device++) {
        cuda_emulation_expect_failure(true);
        if (to_device)
            cudaMemcpyAsync(x, host, 101, cudaMemcpyHostToDevice, NULL);
        else
            cudaMemcpyAsync(host, x + 1, 100, cudaMemcpyDeviceToHost, NULL);
        expect_failure("outside an allocation");
    }
    size_t free_bytes, total;
    cudaMemGetInfo(&free_bytes, &total);
    void *p;
    assert_int_equal(cudaMalloc(&p, free_bytes + 1), cudaErrorMemoryAllocation);
    assert_null(p);
    cudaGetLastError();
    cudaFree(x);
}

static void pinned_memory_is_read_late(void **)
{
    cudaStream_t stream;
    int *pinned, pageable = 1, host = 0, *x = device<int>(NULL, 2);
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaMallocHost((void **)&pinned, 2 * sizeof(int));
    pinned[0] = 1;
    cudaMemcpyAsync(x, pinned, sizeof(int), cudaMemcpyHostToDevice, stream);
    cudaMemcpyAsync(x + 1, &pageable, sizeof(int), cudaMemcpyHostToDevice, stream);
    pinned[0] = pageable = 2; /* too early for the pinned one */
    cudaMemcpyAsync(&pinned[1], x, sizeof(int), cudaMemcpyDeviceToHost, stream);
    assert_int_equal(pinned[1], -1); /* not there yet */
    cudaStreamSynchronize(stream);
    assert_int_equal(pinned[1], 2);
    cudaMemcpyAsync(&host, x + 1, sizeof(int), cudaMemcpyDeviceToHost, stream);
    assert_int_equal(host, 1);
    cudaFreeHost(pinned), cudaFree(x);
    cudaStreamDestroy(stream);
}

static void graphs_repeat(void **)
{
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    int host[32], n = 5, *x = device<int>(NULL, 32), *y = device<int>(NULL, 32);
    cudaStreamCreate(&stream);
    cudaMemsetAsync(x, 0, 128, stream);
    assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    cudaMemsetAsync(y, 0, 128, stream);
    LAUNCH(add_kernel, 1, 32, 0, stream, x, n);
    n = 1000; /* arguments were taken at the launch */
    cudaMemcpyAsync(y, x, 64, cudaMemcpyDeviceToDevice, stream);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    cudaGraphDestroy(graph);
    fetch(host, x, 32);
    cudaStreamSynchronize(stream);
    fetch(host, x, 32);
    assert_int_equal(host[3], 0); /* recorded, not run */
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(cudaGraphLaunch(exec, stream), cudaSuccess);
        cudaStreamSynchronize(stream);
        fetch(host, y, 32);
        for (int j = 0; j < 32; j++)
            assert_int_equal(host[j], j < 16 ? 5 * i : 0);
    }
    cudaGraphExecDestroy(exec);
    /* Another stream records a part of it, if it comes back. */
    cudaStream_t side;
    cudaEvent_t fork, join;
    cudaStreamCreate(&side), cudaEventCreate(&fork), cudaEventCreate(&join);
    for (int joined = 0; joined < 2; joined++) {
        cudaMemsetAsync(x, 0, 128, stream);
        cudaStreamSynchronize(stream);
        cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
        cudaEventRecord(fork, stream);
        cudaStreamWaitEvent(side, fork, 0);
        LAUNCH(add_kernel, 1, 32, 0, side, x, 3);
        cudaEventRecord(join, side);
        if (joined)
            cudaStreamWaitEvent(stream, join, 0);
        LAUNCH(add_kernel, 1, 32, 0, stream, y, 1);
        assert_int_equal(cudaStreamEndCapture(stream, &graph), joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
        if (!joined) {
            cudaStreamDestroy(stream), cudaStreamDestroy(side);
            cudaStreamCreate(&stream), cudaStreamCreate(&side);
            continue;
        }
        cudaGraphInstantiate(&exec, graph, 0);
        cudaGraphDestroy(graph);
        cudaGraphLaunch(exec, stream);
        cudaStreamSynchronize(stream);
        fetch(host, x, 32);
        assert_int_equal(host[3], 3);
        cudaGraphExecDestroy(exec);
    }
    cudaStreamDestroy(side), cudaEventDestroy(fork), cudaEventDestroy(join);
    /* What CUDA forbids meanwhile. */
    for (int what = 0; what < 2; what++) {
        void *p = NULL;
        cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
        assert_int_equal(what ? cudaMalloc(&p, 64) : cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
        assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
    }
    cudaGetLastError();
    cudaStreamDestroy(stream);
    cudaFree(x), cudaFree(y);
}

#ifdef COHORT_RACECHECK
/* ---- races ---- */
enum race {
    NO_RACE,
    READ_WITHOUT_BARRIER,
    SHUFFLE_IS_NO_BARRIER,
    WRITE_AFTER_READ,
    TWO_WRITERS,
    COPY_WITHOUT_BARRIER,
    BETWEEN_BLOCKS,
    BLOCKS_WITHOUT_FENCE,
    HOST_MEMORY,
    N_RACES
};
static __global__ void race_kernel(race what, int *memory, unsigned *counter, int *host)
{
    __shared__ __align__(16) int cell[64];
    unsigned t = threadIdx.x, last = 0;
    cell[t] = 1;
    if (what != READ_WITHOUT_BARRIER)
        __syncthreads();
    int x = cell[63 - t]; /* of another warp */
    __syncthreads();
    cell[t] = x;
    if (what == SHUFFLE_IS_NO_BARRIER)
        x = __shfl_xor_sync(0xffffffffu, x, 1);
    else
        __syncwarp();
    x += cell[t ^ 1];
    if (what != WRITE_AFTER_READ)
        __syncwarp();
    cell[t] = x;
    if (what == TWO_WRITERS)
        cell[t / 2] = x;
    __syncthreads();
    if (t < 16)
        copy_async16(&cell[t * 4], memory + 64 + t * 4, true);
    copy_async_commit();
    copy_async_wait<0>();
    if (what != COPY_WITHOUT_BARRIER)
        __syncthreads();
    x += cell[63 - t];
    if (what == BETWEEN_BLOCKS)
        memory[t] = x;
    if (what == HOST_MEMORY)
        x += host[t];
    /* The last block to come reads what the others wrote. */
    memory[128 + blockIdx.x * 64 + t] = x;
    if (what != BLOCKS_WITHOUT_FENCE)
        __threadfence();
    __syncthreads();
    __shared__ unsigned arrived;
    if (t == 0)
        arrived = atomicAdd(counter, 1u);
    __syncthreads();
    if (arrived == 1)
        last = (unsigned)memory[128 + (1 - blockIdx.x) * 64 + t];
    memory[256 + blockIdx.x * 64 + t] = (int)last;
}
static void races_are_found(void **)
{
    int *memory = device<int>(NULL, 384), host[64] = {0};
    unsigned *counter = device<unsigned>(NULL, 1);
    (void)cuda_emulation_races(); /* of the tests before, wanted too */
    for (cuda_emulation_order order : orders)
        for (int what = NO_RACE; what < N_RACES; what++) {
            cuda_emulation_set_order(order, 13);
            cudaMemset(memory, 0, 384 * sizeof(int));
            cudaMemset(counter, 0, sizeof(unsigned));
            LAUNCH(race_kernel, 2, 64, 0, NULL, (race)what, memory, counter, host);
            cudaDeviceSynchronize();
            if ((cuda_emulation_races() > 0) != (what != NO_RACE))
                fail_msg("race %d, order %d", what, (int)order);
        }
    cudaFree(memory), cudaFree(counter);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_runs_once),
        cmocka_unit_test(shuffles),
        cmocka_unit_test(mma_of_random_matrices),
        cmocka_unit_test(ldmatrix_fragments),
        cmocka_unit_test(bf16_rounds_to_even),
        cmocka_unit_test(barriers_order_threads),
        cmocka_unit_test(mistakes_are_reported),
        cmocka_unit_test(copies_need_their_wait),
        cmocka_unit_test(memory_comes_as_nan),
        cmocka_unit_test(atomics),
        cmocka_unit_test(wrong_launches),
        cmocka_unit_test(memory_is_guarded),
        cmocka_unit_test(pinned_memory_is_read_late),
        cmocka_unit_test(graphs_repeat),
        cmocka_unit_test(devices_are_current),
#ifdef COHORT_RACECHECK
        cmocka_unit_test(races_are_found),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
