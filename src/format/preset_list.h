/* Shapes of known models: Qwen's published config.json files, and two small ones of our own for tests and first steps.
 * X(ID, word, hidden_size, layers, query heads, key/value heads, head_dim, intermediate_size, positions, tied,
 *   experts of a layer (0: dense), of them for a token, width of one):
 * PRESET_ID and its word of preset. */
#ifndef COHORT_FORMAT_PRESET_LIST_H
#define COHORT_FORMAT_PRESET_LIST_H

/* clang-format off */
#define PRESET_LIST(X)                                                                                                 \
    X(QWEN3_0_6B, "qwen3-0.6b", 1024, 28, 16, 8, 128,  3072, 40960, true, 0, 0, 0)                                     \
    X(QWEN3_1_7B, "qwen3-1.7b", 2048, 28, 16, 8, 128,  6144, 40960, true, 0, 0, 0)                                     \
    X(QWEN3_4B,   "qwen3-4b",   2560, 36, 32, 8, 128,  9728, 40960, true, 0, 0, 0)                                     \
    X(QWEN3_8B,   "qwen3-8b",   4096, 36, 32, 8, 128, 12288, 40960, false, 0, 0, 0)                                    \
    X(QWEN3_14B,  "qwen3-14b",  5120, 40, 40, 8, 128, 17408, 40960, false, 0, 0, 0)                                    \
    X(QWEN3_32B,  "qwen3-32b",  5120, 64, 64, 8, 128, 25600, 40960, false, 0, 0, 0)                                    \
    X(QWEN3_30B_A3B, "qwen3-30b-a3b", 2048, 48, 32, 4, 128, 6144, 40960, false, 128, 8, 768)                           \
    X(TINY,       "tiny",        128,  4,  4, 2,  32,   384,  2048, true, 0, 0, 0)                                     \
    X(NANO,       "nano",         64,  2,  4, 2,  16,   192,  1024, true, 0, 0, 0)                                     \
    X(NANO_EXPERTS, "nano-experts", 64, 2,  4, 2,  16,   192,  1024, true, 8, 2, 48)
/* clang-format on */

#endif
