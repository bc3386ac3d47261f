/* Evaluations during a run: the choices of eval_strategy and metric_for_best_model. */
#ifndef COHORT_TRAIN_BEST_LIST_H
#define COHORT_TRAIN_BEST_LIST_H

/* X(ID, word): EVAL_ID is called word in the option eval_strategy. */
#define EVAL_STRATEGY_LIST(X)                                                                                          \
    X(NO, "no")                                                                                                        \
    X(STEPS, "steps")                                                                                                  \
    X(EPOCH, "epoch")

/* X(ID, word): BEST_BY_ID is called word in the option metric_for_best_model, and is the metric of that name with "eval_"
 * before it. */
#define BEST_METRIC_LIST(X)                                                                                            \
    X(LOSS, "loss")                                                                                                    \
    X(MEAN_TOKEN_ACCURACY, "mean_token_accuracy")                                                                      \
    X(ENTROPY, "entropy")

/* X(ID, word): the same choice of trainers of preferences. */
#define PREFERENCE_METRIC_LIST(X)                                                                                      \
    X(PREFERENCE_LOSS, "loss")                                                                                         \
    X(REWARD_ACCURACIES, "rewards/accuracies")                                                                         \
    X(REWARD_MARGINS, "rewards/margins")

/* X(ID, word): the same choice of a reward model's trainer. */
#define REWARD_METRIC_LIST(X)                                                                                          \
    X(REWARD_LOSS, "loss")                                                                                             \
    X(REWARD_ACCURACY, "accuracy")                                                                                     \
    X(REWARD_MARGIN, "margin")

/* X(ID, word): the same choice of kto. */
#define KTO_METRIC_LIST(X)                                                                                             \
    X(KTO_LOSS, "loss")                                                                                                \
    X(KTO_CHOSEN, "rewards/chosen")                                                                                    \
    X(KTO_MARGINS, "rewards/margins")

#endif
