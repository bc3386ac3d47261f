/* The losses of preferences alone: values and derivatives that TRL 1.16.0's own code gives for sums of log-probs in double
 * precision, and central differences of every loss and switch at random pairs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/rng.h"
#include "train/preference.h"

#include <math.h>
#include <string.h>

enum { MOST = 7 };

struct batch {
    struct preference_pair pairs[MOST];
    int32_t n;
    double kl;
};

static double total(const struct preference_config *config, struct batch *batch)
{
    struct preference_order order[2 * MOST];
    struct preference_sums sums = {0};
    struct preference_scale scale = {.n_pairs = batch->n, .kl = batch->kl};
    for (int32_t i = 0; i < batch->n; i++)
        scale.n_chosen += batch->pairs[i].chosen.n;
    preference_apply(config, &scale, batch->pairs, batch->n, &sums, order);
    return sums.loss;
}

/* ---- TRL's numbers ---- */

/* Two pairs: sums of three and two, and of two and three log-probs. */
static struct batch two_pairs(void)
{
    return (struct batch){
        .n = 2,
        .pairs = {{.chosen = {.n = 3, .sum = -1.75, .score = -1.75, .reference = -2.3, .weight = 1.0},
                   .rejected = {.n = 2, .sum = -2.0, .score = -2.0, .reference = -1.6, .weight = 1.0}},
                  {.chosen = {.n = 2, .sum = -2.75, .score = -2.75, .reference = -2.8, .weight = 1.0},
                   .rejected = {.n = 3, .sum = -2.5, .score = -2.5, .reference = -3.0, .weight = 1.0}}}};
}

struct golden {
    enum preference_loss loss;
    double label_smoothing;
    enum preference_divergence divergence;
    double value, c1, c2, r1, r2; /* derivatives by a token of each side */
};

#define PLAIN PREFERENCE_DIVERGENCE_REVERSE_KL
static const struct golden goldens[] = {
    {PREFERENCE_SIGMOID, 0, PLAIN, 0.6813375829, -.02381339, -.02556241, .02381339, .02556241},
    {PREFERENCE_HINGE, 0, PLAIN, 0.975, -.05, -.05, .05, .05},
    {PREFERENCE_IPO, 0, PLAIN, 23.8751736111, -1.53888889, -2.57083333, 2.30833333, 1.71388889},
    {PREFERENCE_EXO_PAIR, .1, PLAIN, 0.4978004479, -.02621861, -.02801362, .02621861, .02801362},
    {PREFERENCE_ROBUST, .1, PLAIN, 0.6782125829, -.03006339, -.03181241, .03006339, .03181241},
    {PREFERENCE_NCA_PAIR, 0, PLAIN, 1.3804583764, -.01146901, -.01240625, .01225003, .01281243},
    {PREFERENCE_BCO_PAIR, 0, PLAIN, 1.3742411894, -.02431267, -.02493750, .02450007, .02562487},
    {PREFERENCE_SPPO_HARD, 0, PLAIN, 47.8575, -4.45, -4.95, 4.60, 5.50},
    {PREFERENCE_AOT, 0, PLAIN, 0.6807752949, -.02493750, -.02443759, .02493750, .02443759},
    {PREFERENCE_AOT, .1, PLAIN, 0.6832752949, -.01993750, -.01943759, .01993750, .01943759},
    {PREFERENCE_AOT_UNPAIRED, 0, PLAIN, 0.6807752949, -.02493750, -.02443759, .02443759, .02493750},
    {PREFERENCE_AOT_UNPAIRED, .1, PLAIN, 0.6832752949, -.01993750, -.01943759, .01943759, .01993750},
    {PREFERENCE_APO_ZERO, 0, PLAIN, 0.9937510987, -.01249055, -.01249992, .01249500, .01249219},
    {PREFERENCE_APO_DOWN, 0, PLAIN, 1.0012562401, .00001871, .00000625, .01247184, .01249367},
    {PREFERENCE_DISCOPOP, 0, PLAIN, 0.8432652633, -.01293020, .03455000, .01293020, -.03455000},
    {PREFERENCE_SFT, 0, PLAIN, 0.9, -.2, -.2, 0, 0},
    {PREFERENCE_SIGMOID_NORM, 0, PLAIN, 0.6872098918, -.00817363, -.01258854, .01226045, .00839236},
    {PREFERENCE_SIGMOID, 0, PREFERENCE_DIVERGENCE_FORWARD_KL, 0.6794899748, -.01376441, -.02419055, .03559077,
     .01542458},
    {PREFERENCE_SIGMOID, 0, PREFERENCE_DIVERGENCE_JS, 0.6867231109, -.00893741, -.01230601, .01462486, .00953025},
    {PREFERENCE_SIGMOID, 0, PREFERENCE_DIVERGENCE_ALPHA, 0.6805106680, -.01811294, -.02486183, .02912587, .01985257},
    {PREFERENCE_IPO, 0, PREFERENCE_DIVERGENCE_FORWARD_KL, 23.6797674978, -.88717013, -2.42885550, 3.44094657,
     1.03247109},
};

static void test_golden(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        const struct golden *g = &goldens[i];
        struct batch batch = two_pairs();
        const struct preference_config config = {.n_terms = 1,
                                                 .terms = {{g->loss, 1.0}},
                                                 .beta = 0.1,
                                                 .label_smoothing = g->label_smoothing,
                                                 .divergence = g->divergence,
                                                 .alpha_coef = 0.5,
                                                 .discopop_tau = 0.05};
        assert_int_equal(preference_check(&config, NULL), COHORT_OK);
        const double value = total(&config, &batch);
        const struct preference_side *sides[4] = {&batch.pairs[0].chosen, &batch.pairs[1].chosen,
                                                  &batch.pairs[0].rejected, &batch.pairs[1].rejected};
        const double want[4] = {g->c1, g->c2, g->r1, g->r2};
        if (!(fabs(value - g->value) < 1e-9)) /* they are given to ten decimals, derivatives to eight */
            fail_msg("row %zu: %.10f, expected %.10f", i, value, g->value);
        for (int k = 0; k < 4; k++)
            if (!(fabs(sides[k]->d_score + sides[k]->d_sum - want[k]) < 6e-9))
                fail_msg("row %zu, side %d: %.8f, expected %.8f", i, k, sides[k]->d_score + sides[k]->d_sum, want[k]);
    }
}

/* Several at once: RPO's beside another. */
static void test_several(void **state)
{
    (void)state;
    struct batch batch = two_pairs();
    const struct preference_config config = {
        .n_terms = 3,
        .terms = {{PREFERENCE_SIGMOID, .8}, {PREFERENCE_BCO_PAIR, .2}, {PREFERENCE_SFT, 1.0}},
        .beta = 0.1};
    assert_true(fabs(total(&config, &batch) - 1.7199183042) < 1e-9);
    assert_true(fabs(batch.pairs[0].chosen.d_score + batch.pairs[0].chosen.d_sum + .22391325) < 6e-9);
    assert_true(fabs(batch.pairs[1].rejected.d_score - .02557490) < 6e-9);
}

static void test_kto(void **state)
{
    (void)state;
    static const double want[2][5] = {{0.4968763136, -.00624835, -.00624952, .00624390, .00624882},
                                      {0.4551601570, -.00831031, -.00831186, .00312195, .00312441}};
    for (int k = 0; k < 2; k++) {
        const struct batch two = two_pairs();
        struct batch batch = {.n = 4, .kl = 0.225};
        for (int i = 0; i < 4; i++) {
            batch.pairs[i].single = true;
            batch.pairs[i].wanted = i < 2;
            if (i < 2)
                batch.pairs[i].chosen = two.pairs[i].chosen;
            else
                batch.pairs[i].rejected = two.pairs[i - 2].rejected;
        }
        const struct preference_config config = {.n_terms = 1,
                                                 .terms = {{PREFERENCE_KTO, 1.0}},
                                                 .beta = 0.1,
                                                 .desirable = k == 0 ? 1.0 : 1.33,
                                                 .undesirable = k == 0 ? 1.0 : 0.5};
        assert_true(fabs(total(&config, &batch) - want[k][0]) < 1e-9);
        for (int i = 0; i < 4; i++) {
            const double got = i < 2 ? batch.pairs[i].chosen.d_score : batch.pairs[i].rejected.d_score;
            assert_true(fabs(got - want[k][1 + i]) < 6e-9);
        }
    }
}

/* A reward model's, whose sides are scores. */
static void test_reward(void **state)
{
    (void)state;
    static const struct {
        double margins[2], centre, value, want[4]; /* derivatives by the chosen and the rejected scores */
    } cases[] = {
        {{0, 0}, 0, 0.6420579592, {-.15501276, -.29934383, .15501276, .29934383}},
        {{.5, -.25}, 0, 0.6626561461, {-.21277874, -.26871492, .21277874, .26871492}},
        {{0, 0}, .01, 0.6550579592, {-.13901276, -.30134383, .17101276, .29734383}},
        {{.5, -.25}, .01, 0.6756561461, {-.19677874, -.27071492, .22877874, .26671492}},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct batch batch = {.n = 2,
                              .pairs = {{.chosen.score = 1.2, .rejected.score = .4, .margin = cases[k].margins[0]},
                                        {.chosen.score = -.3, .rejected.score = .1, .margin = cases[k].margins[1]}}};
        const struct preference_config config = {
            .n_terms = 1, .terms = {{PREFERENCE_REWARD, 1.0}}, .centre = cases[k].centre};
        assert_int_equal(preference_check(&config, NULL), COHORT_OK);
        assert_true(preference_scores(&config) && !preference_needs_reference(&config));
        assert_true(fabs(total(&config, &batch) - cases[k].value) < 1e-9);
        for (int i = 0; i < 4; i++) {
            const struct preference_pair *pair = &batch.pairs[i % 2];
            assert_true(fabs((i < 2 ? pair->chosen : pair->rejected).d_score - cases[k].want[i]) < 6e-9);
        }
    }
}

/* ---- Central differences ---- */

static double draw(uint64_t *at, double low, double high)
{
    return low + (high - low) * (double)rng_uniform(rng_philox(20, RNG_NOISE, 1, (*at)++).word[0]);
}

static struct batch random_batch(uint64_t *at, bool single)
{
    struct batch batch = {.n = MOST, .kl = draw(at, 0.0, 3.0)};
    for (int32_t i = 0; i < MOST; i++) {
        struct preference_pair *pair = &batch.pairs[i];
        pair->single = single;
        pair->wanted = draw(at, 0, 1) < 0.5;
        pair->prompt = draw(at, -9, -1);
        pair->margin = draw(at, -1, 1);
        for (int k = 0; k < 2; k++) {
            struct preference_side *side = k == 0 ? &pair->chosen : &pair->rejected;
            if (single && (k == 0) != pair->wanted)
                continue;
            side->n = 1 + (int32_t)draw(at, 0, 5);
            side->sum = side->score = -draw(at, 0.3, 4.0) * side->n;
            side->reference = side->score + draw(at, -2.0, 2.0);
            side->weight = draw(at, 0.1, 1.0);
        }
    }
    return batch;
}

static void check_differences(const struct preference_config *config, uint64_t *at, const char *what)
{
    const double step = 1e-6;
    struct batch batch = random_batch(at, preference_is_single(config));
    (void)total(config, &batch);
    for (int32_t i = 0; i < MOST; i++)
        for (int k = 0; k < 5; k++) { /* score and sum of both sides, the prompt */
            double rise = 0.0;
            const struct preference_pair *pair = &batch.pairs[i];
            const double got = k == 0   ? pair->chosen.d_score
                               : k == 1 ? pair->chosen.d_sum
                               : k == 2 ? pair->rejected.d_score
                               : k == 3 ? pair->rejected.d_sum
                                        : pair->d_prompt;
            for (int sign = -1; sign <= 1; sign += 2) {
                struct batch moved = batch;
                struct preference_pair *p = &moved.pairs[i];
                double *x[5] = {&p->chosen.score, &p->chosen.sum, &p->rejected.score, &p->rejected.sum, &p->prompt};
                *x[k] += sign * step;
                rise += sign * total(config, &moved);
            }
            /* A difference of values of up to 1e3 over 2e-6 is good to some 1e-7 of them. */
            const double want = rise / (2.0 * step);
            if (!(fabs(got - want) <= 1e-6 * (1.0 + fabs(want)) * (1.0 + fabs(total(config, &batch)))))
                fail_msg("%s, pair %d, number %d: derivative %.9g, difference %.9g", what, (int)i, k, got, want);
        }
}

static void test_differences(void **state)
{
    (void)state;
    static const char *const words[] = {
#define WORD(id, word, ...) #id,
        PREFERENCE_LOSS_LIST(WORD)
#undef WORD
    };
    uint64_t at = 0;
    for (int loss = 0; loss < N_PREFERENCE_LOSSES; loss++)
        for (int round = 0; round < 24; round++) {
            struct preference_config config = {.n_terms = 1 + round % 2,
                                               .terms = {{(enum preference_loss)loss, draw(&at, 0.2, 2)},
                                                         {(enum preference_loss)loss, draw(&at, 0.2, 2)}},
                                               .beta = draw(&at, 0.05, 0.6),
                                               .label_smoothing = draw(&at, 0.01, 0.4),
                                               .alpha_coef = draw(&at, 0.2, 2),
                                               .discopop_tau = draw(&at, 0.05, 1),
                                               .simpo_gamma = draw(&at, 0, 1),
                                               .desirable = draw(&at, 0.5, 2),
                                               .undesirable = draw(&at, 0.5, 2),
                                               .centre = draw(&at, 0, 0.1),
                                               .weighting = round % 3 == 0};
            const bool pairs = loss < (int)PREFERENCE_CPO_SIGMOID;
            config.divergence = pairs ? (enum preference_divergence)(round % 4) : PLAIN;
            config.alpha = !pairs && round % 2 == 0 ? draw(&at, 0.05, 0.4) : 0.0;
            config.nll = !pairs ? draw(&at, 0, 1) : 0.0;
            config.nll_prompts = loss == (int)PREFERENCE_ORPO;
            if (preference_check(&config, NULL) != COHORT_OK) {
                config.divergence = PLAIN;
                config.weighting = false;
            }
            assert_int_equal(preference_check(&config, NULL), COHORT_OK);
            check_differences(&config, &at, words[loss]);
        }
}

/* Log-ratios so large that a probability is 0 or 1 in double: values and derivatives stay finite where TRL's do. */
static void test_extremes(void **state)
{
    (void)state;
    static const double far[] = {-4000.0, -50.0, 50.0, 4000.0};
    for (int loss = 0; loss < (int)PREFERENCE_CPO_SIGMOID; loss++)
        for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
            struct batch batch = two_pairs();
            const struct preference_config config = {.n_terms = 1,
                                                     .terms = {{(enum preference_loss)loss, 1.0}},
                                                     .beta = 1.0,
                                                     .label_smoothing = 0.1,
                                                     .discopop_tau = 0.05};
            if (loss == (int)PREFERENCE_DISCOPOP && far[i] < -700.0) /* exp(-h) has no clamp, as in TRL */
                continue;
            batch.pairs[0].chosen.reference = batch.pairs[0].chosen.score - far[i];
            assert_true(isfinite(total(&config, &batch)));
            assert_true(isfinite(batch.pairs[0].chosen.d_score) && isfinite(batch.pairs[0].rejected.d_score));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden),      cmocka_unit_test(test_several),
                                       cmocka_unit_test(test_kto),         cmocka_unit_test(test_reward),
                                       cmocka_unit_test(test_differences), cmocka_unit_test(test_extremes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
