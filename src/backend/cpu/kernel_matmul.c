/* Matrix product kernels in fp32: for F32 operands, and for BF16 operands widened on the fly (A
 * when it is packed, B when it is loaded) on machines without bf16 dot products. Packed blocks are
 * [k][MR] floats, panels [k][NR] of the stored type. Each element of C has one accumulator that
 * takes its products in ascending k. */
#include "backend/cpu/cpu_matmul.h"
#include "backend/cpu/simd.h"

/* As many accumulators as the registers hold beside two vectors of B and one of A. */
#if defined(__AVX512F__)
enum { MR = 12, COLUMNS = 2 };
#elif defined(__AVX2__)
enum { MR = 6, COLUMNS = 2 };
#else
enum { MR = 4, COLUMNS = 1 };
#endif
enum { NR = COLUMNS * VW, PREFETCH_BYTES = 4096, PRODUCTS_PER_NS = 2 * VW };

_Static_assert((int)MR <= (int)MATMUL_MAX_MR && (int)NR <= (int)MATMUL_MAX_NR, "the driver's tiles are too small");

static void pack_a_type(float *block, const void *x, enum dtype type, int64_t stride, int rows, int64_t k)
{
    for (int r = 0; r < rows; r++)
        for (int64_t i = 0; i < k; i++)
            block[i * MR + r] = act_load(x, type, r * stride + i);
}

static void pack_a_t_type(float *block, const void *x, enum dtype type, int64_t stride, int rows, int64_t k)
{
    for (int64_t i = 0; i < k; i++)
        for (int r = 0; r < rows; r++)
            block[i * MR + r] = act_load(x, type, i * stride + r);
}

static void pack_a_f32(void *block, const void *x, int64_t stride, int rows, int64_t k)
{
    pack_a_type(block, x, DTYPE_F32, stride, rows, k);
}
static void pack_a_bf16(void *block, const void *x, int64_t stride, int rows, int64_t k)
{
    pack_a_type(block, x, DTYPE_BF16, stride, rows, k);
}
static void pack_a_t_f32(void *block, const void *x, int64_t stride, int rows, int64_t k)
{
    pack_a_t_type(block, x, DTYPE_F32, stride, rows, k);
}
static void pack_a_t_bf16(void *block, const void *x, int64_t stride, int rows, int64_t k)
{
    pack_a_t_type(block, x, DTYPE_BF16, stride, rows, k);
}

/* In strips of k, so that the lines of the panel being filled stay in the first-level cache. */
enum { STRIP = 64 };

static void pack_b_f32(void *panel, const void *w, int64_t stride, int cols, int64_t k)
{
    const float *from = w;
    float *to = panel;
    for (int64_t k0 = 0; k0 < k; k0 += STRIP) {
        int64_t end = k0 + STRIP < k ? k0 + STRIP : k;
        for (int c = 0; c < NR; c++)
            for (int64_t i = k0; i < end; i++)
                to[i * NR + c] = c < cols ? from[c * stride + i] : 0.0f;
    }
}
static void pack_b_f16(void *panel, const void *w, int64_t stride, int cols, int64_t k)
{
    const uint16_t *from = w;
    float *to = panel;
    for (int64_t k0 = 0; k0 < k; k0 += STRIP) {
        int64_t end = k0 + STRIP < k ? k0 + STRIP : k;
        for (int c = 0; c < NR; c++)
            for (int64_t i = k0; i < end; i++)
                to[i * NR + c] = c < cols ? f32_from_f16(from[c * stride + i]) : 0.0f;
    }
}
static void pack_b_bf16(void *panel, const void *w, int64_t stride, int cols, int64_t k)
{
    const uint16_t *from = w;
    uint16_t *to = panel;
    for (int64_t k0 = 0; k0 < k; k0 += STRIP) {
        int64_t end = k0 + STRIP < k ? k0 + STRIP : k;
        for (int c = 0; c < NR; c++)
            for (int64_t i = k0; i < end; i++)
                to[i * NR + c] = c < cols ? from[c * stride + i] : 0;
    }
}
static void pack_b_t_bytes(char *panel, const char *w, size_t stride, size_t cols, size_t panel_row, int64_t k)
{
    for (int64_t i = 0; i < k; i++, panel += panel_row, w += stride) {
        memcpy(panel, w, cols);
        memset(panel + cols, 0, panel_row - cols);
    }
}
static void pack_b_t_f32(void *panel, const void *w, int64_t stride, int cols, int64_t k)
{
    pack_b_t_bytes(panel, w, (size_t)stride * 4, (size_t)cols * 4, NR * 4, k);
}
static void pack_b_t_bf16(void *panel, const void *w, int64_t stride, int cols, int64_t k)
{
    pack_b_t_bytes(panel, w, (size_t)stride * 2, (size_t)cols * 2, NR * 2, k);
}

static void pack_b_t_f16(void *panel, const void *w, int64_t stride, int cols, int64_t k)
{
    const uint16_t *from = w;
    float *to = panel;
    for (int64_t i = 0; i < k; i++, to += NR, from += stride)
        for (int c = 0; c < NR; c++)
            to[c] = c < cols ? f32_from_f16(from[c]) : 0.0f;
}

/* rows and type are constants where this is inlined: the accumulators live in registers. */
static inline __attribute__((always_inline)) void
multiply_rows(const float *a, const void *b, enum dtype type, int64_t steps, const int rows, float *c, int64_t c_stride)
{
    vf sum[MR][COLUMNS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < COLUMNS; j++)
            sum[r][j] = vf_zero();
    for (int64_t i = 0; i < steps; i++) {
        vf w[COLUMNS];
        __builtin_prefetch((const char *)b + (size_t)(i * NR) * dtype_bytes(type) + PREFETCH_BYTES);
        if (type == DTYPE_F32 && NR * 4 > 64)
            __builtin_prefetch((const char *)b + (size_t)(i * NR) * 4 + PREFETCH_BYTES + 64);
#pragma GCC unroll 4
        for (int j = 0; j < COLUMNS; j++)
            w[j] = vf_load_act(b, type, i * NR + j * VW);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            vf x = vf_set(a[i * MR + r]);
#pragma GCC unroll 4
            for (int j = 0; j < COLUMNS; j++)
                sum[r][j] = vf_fma(x, w[j], sum[r][j]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < COLUMNS; j++)
            vf_store(c + r * c_stride + j * VW, sum[r][j]);
}

#define ROWS(n)                                                                                                        \
    case n: multiply_rows(a, b, type, steps, n, c, c_stride); break;

static inline __attribute__((always_inline)) void multiply(const float *a, const void *b, enum dtype type,
                                                           int64_t steps, int rows, float *c, int64_t c_stride)
{
    switch (rows) {
        ROWS(1)
        ROWS(2)
        ROWS(3)
        ROWS(4)
#if defined(__AVX2__) || defined(__AVX512F__)
        ROWS(5)
        ROWS(6)
#endif
#if defined(__AVX512F__)
        ROWS(7)
        ROWS(8)
        ROWS(9)
        ROWS(10)
        ROWS(11)
        ROWS(12)
#endif
    default: break;
    }
}

static void kernel_f32(const void *block, const void *panel, int64_t steps, int rows, float *c, int64_t c_stride)
{
    multiply(block, panel, DTYPE_F32, steps, rows, c, c_stride);
}
static void kernel_bf16(const void *block, const void *panel, int64_t steps, int rows, float *c, int64_t c_stride)
{
    multiply(block, panel, DTYPE_BF16, steps, rows, c, c_stride);
}

static void add_nonzero(const float *c, int64_t c_stride, int rows, int64_t cols, void *y, int64_t y_stride,
                        enum dtype type)
{
    for (int r = 0; r < rows; r++) {
        const float *from = c + r * c_stride;
        if (type == DTYPE_F32) {
            float *to = (float *)y + r * y_stride;
            for (int64_t j = 0; j < cols; j++)
                to[j] = from[j] == 0.0f ? to[j] : to[j] + from[j];
        } else {
            uint16_t *to = (uint16_t *)y + r * y_stride;
            for (int64_t j = 0; j < cols; j++)
                to[j] = from[j] == 0.0f ? to[j] : bf16_from_f32(f32_from_bf16(to[j]) + from[j]);
        }
    }
}

/* Also the store of the providers in files of their own, in the AVX-512 compilation. */
void CPU_NAME(matmul_store)(const float *c, int64_t c_stride, int rows, int64_t cols, void *y, int64_t y_stride,
                            enum dtype type, enum matmul_store how)
{
    if (how == MATMUL_ADD_NONZERO) {
        add_nonzero(c, c_stride, rows, cols, y, y_stride, type);
        return;
    }
    const bool accumulate = how == MATMUL_ADD;
    for (int r = 0; r < rows; r++) {
        const float *from = c + r * c_stride;
        int64_t j = 0;
        if (type == DTYPE_F32) {
            float *to = (float *)y + r * y_stride;
            for (; j + VW <= cols; j += VW) {
                vf x = vf_load(from + j);
                vf_store(to + j, accumulate ? vf_add(vf_load(to + j), x) : x);
            }
            for (; j < cols; j++)
                to[j] = accumulate ? to[j] + from[j] : from[j];
        } else {
            uint16_t *to = (uint16_t *)y + r * y_stride;
            for (; j + VW <= cols; j += VW)
                vf_store_bf16(to + j, vf_load(from + j));
            for (; j < cols; j++)
                to[j] = bf16_from_f32(from[j]);
        }
    }
}

#define STRING2(x) #x
#define STRING(x)  STRING2(x)

const struct cpu_matmul CPU_NAME(matmul_f32) = {
    .name = STRING(CPU_ISA_NAME),
    .type = DTYPE_F32,
    .b_type = DTYPE_F32,
    .mr = MR,
    .nr = NR,
    .k_unit = 1,
    .a_bytes = 4,
    .b_bytes = 4,
    .products_per_ns = PRODUCTS_PER_NS,
    .pack_a = pack_a_f32,
    .pack_a_t = pack_a_t_f32,
    .pack_b = pack_b_f32,
    .pack_b_t = pack_b_t_f32,
    .kernel = kernel_f32,
    .store = CPU_NAME(matmul_store),
};

const struct cpu_matmul CPU_NAME(matmul_f16) = {
    .name = STRING(CPU_ISA_NAME),
    .type = DTYPE_F32,
    .b_type = DTYPE_F16,
    .mr = MR,
    .nr = NR,
    .k_unit = 1,
    .a_bytes = 4,
    .b_bytes = 4,
    .products_per_ns = PRODUCTS_PER_NS,
    .pack_a = pack_a_f32,
    .pack_a_t = pack_a_t_f32,
    .pack_b = pack_b_f16,
    .pack_b_t = pack_b_t_f16,
    .kernel = kernel_f32,
    .store = CPU_NAME(matmul_store),
};

const struct cpu_matmul CPU_NAME(matmul_bf16) = {
    .name = STRING(CPU_ISA_NAME),
    .type = DTYPE_BF16,
    .b_type = DTYPE_BF16,
    .mr = MR,
    .nr = NR,
    .k_unit = 1,
    .a_bytes = 4,
    .b_bytes = 2,
    .products_per_ns = PRODUCTS_PER_NS,
    .pack_a = pack_a_bf16,
    .pack_a_t = pack_a_t_bf16,
    .pack_b = pack_b_bf16,
    .pack_b_t = pack_b_t_bf16,
    .kernel = kernel_bf16,
    .store = CPU_NAME(matmul_store),
};
