/* Matrix products of the CPU backend: one driver, several providers.
 *
 * All three products are C[m, n] = A[m, k] . B[k, n] with both operands packed:
 * - A in blocks of mr rows, k-major within a block ("a block");
 * - B in panels of nr columns, k-major within a panel ("a panel"); a weight is packed into panels
 * once. A provider is the pair of packings and the kernel that multiplies one block by one panel
 * over all of k.
 *
 * Invariant I2 lives here: each element of C has one accumulator, in a register or a tile from the
 * first k to the last, that takes its products in ascending k. The forward product is never cut
 * along k, and no kernel is chosen by the number of rows; so the bits of a row depend on that row,
 * the weight and the provider alone. (Cutting k to keep a part of a panel in the first-level cache
 * and reloading the accumulators would be exact too; measured on AMX it is 20 % slower.) */
#ifndef COHORT_BACKEND_CPU_CPU_MATMUL_H
#define COHORT_BACKEND_CPU_CPU_MATMUL_H

#include "backend/expert_ops.h"
#include "backend/ops.h"

enum { MATMUL_MAX_MR = 32, MATMUL_MAX_NR = 32 };

/* What becomes of a sum c: y = c, y += c (F32 only), or y += c unless c is 0, which leaves y's bits. */
enum matmul_store { MATMUL_SET, MATMUL_ADD, MATMUL_ADD_NONZERO };

struct cpu_matmul {
    const char *name;
    enum dtype type;     /* of A */
    enum dtype b_type;   /* of B and the weights as stored: the same, or F16 where A is F32 */
    int mr, nr;          /* rows of a block, columns of a panel */
    int k_unit;          /* k is padded with zeros to a multiple of this: one step */
    int a_bytes;         /* size of a packed element of A */
    int b_bytes;         /* and of B */
    int products_per_ns; /* multiplications that one core does, about: for the choice of threads */
    /* Around a thread's calls of kernel; may be NULL. */
    void (*begin)(void);
    void (*end)(void);
    /* One block from rows rows (1..mr) of x, k elements each, rows stride elements apart; _t: from
     * the transpose, x is [k, rows]. */
    void (*pack_a)(void *block, const void *x, int64_t stride, int rows, int64_t k);
    void (*pack_a_t)(void *block, const void *x, int64_t stride, int rows, int64_t k);
    /* One panel from cols columns (1..nr): w is [cols, k]; _t: [k, cols]. Columns from cols to nr
     * are zeros. */
    void (*pack_b)(void *panel, const void *w, int64_t stride, int cols, int64_t k);
    void (*pack_b_t)(void *panel, const void *w, int64_t stride, int cols, int64_t k);
    /* c[mr, nr] = block . panel over steps steps. Only the first rows rows of c are meaningful; all
     * mr may be written. */
    void (*kernel)(const void *block, const void *panel, int64_t steps, int rows, float *c, int64_t c_stride);
    void (*store)(const float *c, int64_t c_stride, int rows, int64_t cols, void *y, int64_t y_stride, enum dtype type,
                  enum matmul_store how);
};

/* The fp32 kernels, for F32 and for BF16 operands widened on the fly. Those for weights in F16 are the ones for F32 with
 * another packing of B: x, y and the bits are F32's. */
extern const struct cpu_matmul matmul_f32_portable, matmul_bf16_portable, matmul_f16_portable;
extern const struct cpu_matmul matmul_f32_avx2, matmul_bf16_avx2, matmul_f16_avx2;
extern const struct cpu_matmul matmul_f32_avx512, matmul_bf16_avx512, matmul_f16_avx512;
/* The bf16 dot product instructions. */
extern const struct cpu_matmul matmul_bf16_dot, matmul_bf16_amx;

/* Stores of the above; the avx512 one serves the bf16 dot products too. */
void matmul_store_portable(const float *c, int64_t c_stride, int rows, int64_t cols, void *y, int64_t y_stride,
                           enum dtype type, enum matmul_store how);
void matmul_store_avx2(const float *c, int64_t c_stride, int rows, int64_t cols, void *y, int64_t y_stride,
                       enum dtype type, enum matmul_store how);
void matmul_store_avx512(const float *c, int64_t c_stride, int rows, int64_t cols, void *y, int64_t y_stride,
                         enum dtype type, enum matmul_store how);
/* Panels of the bf16 dot product, shared with AMX: [k/2][nr] pairs. */
void matmul_pack_b_dot(void *panel, const void *w, int64_t stride, int cols, int64_t k);
void matmul_pack_b_t_dot(void *panel, const void *w, int64_t stride, int cols, int64_t k);

struct weight {
    const void *natural; /* [n, k], not owned; NULL: there is the packed copy alone, for the forward */
    void *packed;        /* [panels][steps][...] */
    bool lent;           /* packed is the caller's */
    const struct cpu_matmul *provider;
    int64_t n, k;
    enum dtype type; /* of x and y; natural is of the provider's b_type */
};

size_t cpu_weight_bytes(struct backend *backend, const struct weight_source *source);
cohort_status cpu_weight_create(struct backend *backend, struct weight **out, const struct weight_source *source,
                                cohort_error *err);
void cpu_weight_refresh(struct backend *backend, struct weight *weight);
void cpu_weight_fill(struct backend *backend, struct weight *weight, int64_t first, int64_t rows, const void *data);
void cpu_weight_destroy(struct backend *backend, struct weight *weight);
void cpu_matmul_forward(struct backend *backend, const struct matmul_forward *p);
void cpu_matmul_backward_input(struct backend *backend, const struct matmul_backward_input *p);
void cpu_matmul_backward_weight(struct backend *backend, const struct matmul_backward_weight *p);
void cpu_lowrank_forward(struct backend *backend, const struct lowrank_forward *p);
void cpu_lowrank_backward(struct backend *backend, const struct lowrank_backward *p);
/* The change alone of a product whose y is there, and its backward, in memory of cpu_lowrank_room bytes; with x NULL no
 * gradient of a factor. */
size_t cpu_lowrank_room(const struct lowrank *change, int64_t m, bool backward);
void cpu_lowrank_add(struct backend *backend, const struct lowrank *change, const struct matmul_forward *product,
                     void *memory);
void cpu_lowrank_gradients(struct backend *backend, const struct lowrank_backward *p, void *memory);
void cpu_grouped_forward(struct backend *backend, const struct grouped_forward *p);
void cpu_grouped_backward_input(struct backend *backend, const struct grouped_backward_input *p);
void cpu_grouped_backward_weight(struct backend *backend, const struct grouped_backward_weight *p);
void cpu_grouped_change_forward(struct backend *backend, const struct grouped_change_forward *p);
void cpu_grouped_change_backward(struct backend *backend, const struct grouped_change_backward *p);

/* Products with weights of one size and type, together on the threads: many small ones in less time than one by one.
 * None has a norm or accumulates. Uses cpu_scratch. */
void cpu_matmul_forward_many(struct backend *backend, const struct matmul_forward *products, int32_t count);

/* y[m, n] += x[m, k] . w^T, and (_input) y[m, k] += x[m, n] . w, where that is not 0; rows of x lie next to each other.
 * y_type may be BF16 too. */
void cpu_matmul_add(struct backend *backend, const struct weight *w, int64_t m, const void *x, void *y,
                    int64_t y_stride, enum dtype y_type);
void cpu_matmul_add_input(struct backend *backend, const struct weight *w, int64_t m, const void *x, void *y,
                          enum dtype y_type);

/* The memory of the CPU backend: 64-byte aligned and zeroed, large blocks on huge pages. */
cohort_status cpu_alloc(struct backend *backend, void *out, size_t bytes, const char *what, cohort_error *err);
void cpu_free(struct backend *backend, void *memory);

#endif
