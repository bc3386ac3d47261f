/* Words of options of sampling: in which order filters and temperature come, and what generation_config.json has to say. */
#ifndef COHORT_RUN_SAMPLING_WORDS_H
#define COHORT_RUN_SAMPLING_WORDS_H

/* X(ID, word) */
#define SAMPLING_ORDER_LIST(X)                                                                                         \
    X(MLX, "mlx")                                                                                                      \
    X(HF, "hf")
#define GENERATION_CONFIG_LIST(X)                                                                                      \
    X(MODEL, "model")                                                                                                  \
    X(NONE, "none")

#define SAMPLING_ORDER(id, word) SAMPLING_ORDER_##id,
enum sampling_order { SAMPLING_ORDER_LIST(SAMPLING_ORDER) };
#undef SAMPLING_ORDER
#define GENERATION_CONFIG(id, word) GENERATION_CONFIG_##id,
enum generation_config { GENERATION_CONFIG_LIST(GENERATION_CONFIG) };
#undef GENERATION_CONFIG

#endif
