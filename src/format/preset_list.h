/* Shapes of known models, as published, and small ones of our own for tests and first steps.
 * X(ID, word, family, hidden_size, layers, query heads, key/value heads, head_dim, intermediate_size, positions, tied,
 *   experts of a layer (0: dense), of them for a token, width of one):
 * PRESET_ID and its word of preset. What the models of a family have in common beside it: model_preset.c. */
#ifndef COHORT_FORMAT_PRESET_LIST_H
#define COHORT_FORMAT_PRESET_LIST_H

/* clang-format off */
#define PRESET_LIST(X)                                                                                                 \
    X(QWEN3_0_6B,    "qwen3-0.6b",    QWEN3, 1024, 28, 16, 8, 128,  3072, 40960, true, 0, 0, 0)                        \
    X(QWEN3_1_7B,    "qwen3-1.7b",    QWEN3, 2048, 28, 16, 8, 128,  6144, 40960, true, 0, 0, 0)                        \
    X(QWEN3_4B,      "qwen3-4b",      QWEN3, 2560, 36, 32, 8, 128,  9728, 40960, true, 0, 0, 0)                        \
    X(QWEN3_8B,      "qwen3-8b",      QWEN3, 4096, 36, 32, 8, 128, 12288, 40960, false, 0, 0, 0)                       \
    X(QWEN3_14B,     "qwen3-14b",     QWEN3, 5120, 40, 40, 8, 128, 17408, 40960, false, 0, 0, 0)                       \
    X(QWEN3_32B,     "qwen3-32b",     QWEN3, 5120, 64, 64, 8, 128, 25600, 40960, false, 0, 0, 0)                       \
    X(QWEN3_30B_A3B, "qwen3-30b-a3b", QWEN3_MOE, 2048, 48, 32, 4, 128, 6144, 40960, false, 128, 8, 768)                \
    X(QWEN2_5_0_5B,  "qwen2.5-0.5b",  QWEN2_5,  896, 24, 14, 2,  64,  4864, 32768, true, 0, 0, 0)                      \
    X(QWEN2_5_1_5B,  "qwen2.5-1.5b",  QWEN2_5, 1536, 28, 12, 2, 128,  8960, 32768, true, 0, 0, 0)                      \
    X(QWEN2_5_3B,    "qwen2.5-3b",    QWEN2_5, 2048, 36, 16, 2, 128, 11008, 32768, true, 0, 0, 0)                      \
    X(QWEN2_5_7B,    "qwen2.5-7b",    QWEN2_5_WIDE, 3584, 28, 28, 4, 128, 18944, 32768, false, 0, 0, 0)                \
    X(QWEN2_5_14B,   "qwen2.5-14b",   QWEN2_5_WIDE, 5120, 48, 40, 8, 128, 13824, 32768, false, 0, 0, 0)                \
    X(QWEN2_5_32B,   "qwen2.5-32b",   QWEN2_5_WIDE, 5120, 64, 40, 8, 128, 27648, 32768, false, 0, 0, 0)                \
    X(LLAMA3_2_1B,   "llama-3.2-1b",  LLAMA3_2, 2048, 16, 32, 8,  64,  8192, 131072, true, 0, 0, 0)                    \
    X(LLAMA3_2_3B,   "llama-3.2-3b",  LLAMA3_2, 3072, 28, 24, 8, 128,  8192, 131072, true, 0, 0, 0)                    \
    X(LLAMA3_1_8B,   "llama-3.1-8b",  LLAMA3_1, 4096, 32, 32, 8, 128, 14336, 131072, false, 0, 0, 0)                   \
    X(SMOLLM2_135M,  "smollm2-135m",  SMOLLM2,  576, 30,  9, 3,  64,  1536, 8192, true, 0, 0, 0)                       \
    X(SMOLLM2_360M,  "smollm2-360m",  SMOLLM2,  960, 32, 15, 5,  64,  2560, 8192, true, 0, 0, 0)                       \
    X(MISTRAL_7B,    "mistral-7b",    MISTRAL, 4096, 32, 32, 8, 128, 14336, 32768, false, 0, 0, 0)                     \
    X(TINY,          "tiny",          QWEN3,  128,  4,  4, 2,  32,   384,  2048, true, 0, 0, 0)                        \
    X(NANO,          "nano",          QWEN3,   64,  2,  4, 2,  16,   192,  1024, true, 0, 0, 0)                        \
    X(NANO_EXPERTS,  "nano-experts",  QWEN3_MOE, 64, 2,  4, 2,  16,   192,  1024, true, 8, 2, 48)
/* clang-format on */

#endif
