/* What losses and the entropy filter cost a token, by the processor time of one thread: every loss at every level, with
 * advantages of completions and of tokens, in turns; and the quantile of the filter. Of each the best of so many rounds.
 * A training step is the same forward and backward whatever the loss, so that the share of a step is this time over the
 * step's: give the step's microseconds for a trained token (1e6 over throughput/train_tokens_per_second).
 *
 *   cc -O2 -Iinclude -Isrc bench/bench_losses.c build/libcohort.a -lm -o build/bench_losses
 *   build/bench_losses ROUNDS [MICROSECONDS] */
#include "base/rng.h"
#include "train/entropy.h"
#include "train/loss.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROWS = 64, TOKENS = 512, ALL = ROWS * TOKENS };

static float logp[ALL], logp_old[ALL], entropy[ALL], advantages[ALL], d_logp[ALL], d_entropy[ALL];
static bool kept[ALL];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define WORD(id, word, ...) word,
static const char *const losses[] = {LOSS_LIST(WORD)}, *const levels[] = {LOSS_LEVEL_LIST(WORD)};
enum { N_LOSSES = sizeof losses / sizeof *losses, N_LEVELS = sizeof levels / sizeof *levels };

struct kind {
    struct loss_config config;
    bool of_tokens, filtered;
    double best; /* ns a token */
};

static double checksum;

static void run(struct kind *kind)
{
    const struct loss_scale scale = {.n_sequences = ROWS, .n_tokens = ALL, .n_kept = ALL};
    struct loss_sums sums;
    const double begin = now();
    loss_sums_init(&sums);
    for (int i = 0; i < ROWS; i++)
        loss_sequence_apply(&kind->config, &scale,
                            &(struct loss_sequence){.n_tokens = TOKENS,
                                                    .advantage = i % 2 ? 0.7f : -0.6f,
                                                    .advantages = kind->of_tokens ? advantages + i * TOKENS : NULL,
                                                    .logp = logp + i * TOKENS,
                                                    .logp_old = logp_old + i * TOKENS,
                                                    .kept = kind->filtered ? kept + i * TOKENS : NULL,
                                                    .entropy = entropy + i * TOKENS,
                                                    .d_logp = d_logp + i * TOKENS,
                                                    .d_entropy = d_entropy + i * TOKENS},
                            &sums);
    const double ns = 1e9 * (now() - begin) / ALL;
    checksum += sums.loss;
    kind->best = kind->best == 0.0 || ns < kind->best ? ns : kind->best;
}

static float uniform(uint64_t i, float low, float high)
{
    return low + (high - low) * rng_uniform(rng_philox(1, RNG_TEST, 0, i).word[0]);
}

/* What the filter does in the first iteration: the entropies of the draws are copied, their quantile is found, and each
 * token compared with it. */
static double filter_ns(int rounds, float *values)
{
    double best = 0.0;
    for (int r = 0; r < rounds; r++) {
        const double begin = now();
        memcpy(values, entropy, sizeof entropy);
        const float threshold = entropy_threshold(values, ALL, 0.2);
        for (int i = 0; i < ALL; i++)
            kept[i] = entropy[i] >= threshold;
        const double ns = 1e9 * (now() - begin) / ALL;
        best = r == 0 || ns < best ? ns : best;
    }
    return best;
}

static void print(const char *name, double ns, double least, double step_us)
{
    printf("%-34s %7.2f ns", name, ns);
    if (step_us > 0.0)
        printf("   %.5f %% of a step more than the cheapest", (ns - least) / (10.0 * step_us));
    printf("\n");
}

int main(int argc, char **argv)
{
    static struct kind kinds[2 * N_LOSSES * N_LEVELS + 1];
    static float values[ALL];
    const int rounds = argc > 1 ? atoi(argv[1]) : 21;
    const double step_us = argc > 2 ? atof(argv[2]) : 0.0;
    int n = 0;
    for (int i = 0; i < ALL; i++) {
        logp[i] = uniform((uint64_t)i, -4, 0);
        logp_old[i] = logp[i] + uniform((uint64_t)(i + ALL), -0.3f, 0.3f);
        entropy[i] = uniform((uint64_t)(i + 2 * ALL), 0, 3);
        advantages[i] = uniform((uint64_t)(i + 3 * ALL), -2, 2);
    }
    for (int of_tokens = 0; of_tokens < 2; of_tokens++)
        for (int k = 0; k < N_LOSSES * N_LEVELS; k++) {
            struct loss_config config = {.type = (enum loss_type)(k % N_LOSSES),
                                         .level = (enum loss_level)(k / N_LOSSES),
                                         .epsilon = 0.2,
                                         .epsilon_high = 0.28,
                                         .sapo_temperature_pos = 1.0,
                                         .sapo_temperature_neg = 1.05,
                                         .vespo_k_pos = 2.0,
                                         .vespo_lambda_pos = 3.0,
                                         .vespo_k_neg = 3.0,
                                         .vespo_lambda_neg = 2.0,
                                         .max_completion_length = TOKENS};
            if (loss_check(&config, NULL) == COHORT_OK)
                kinds[n++] = (struct kind){.config = config, .of_tokens = of_tokens};
        }
    const double filter = filter_ns(rounds, values);
    for (int r = 0; r < rounds; r++)
        for (int k = 0; k < n; k++)
            run(&kinds[k]);
    double least = kinds[0].best;
    for (int k = 0; k < n; k++)
        least = kinds[k].best < least ? kinds[k].best : least;
    for (int k = 0; k < n; k++) {
        char name[64];
        snprintf(name, sizeof name, "%s, %s%s", losses[kinds[k].config.type], levels[kinds[k].config.level],
                 kinds[k].of_tokens ? ", of tokens" : "");
        print(name, kinds[k].best, least, step_us);
    }
    print("entropy filter, first iteration", filter, 0.0, step_us);
    return isnan(checksum);
}
