/* The loss core against TRL (tests/fixtures/loss/trl.json, oracle/loss_trl.py), golden numbers, independence of the split
 * (I5), and what is not finite. Its switches: test_loss_switches.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "support/loss_batch.h"

static void check_metrics(const json_t *want, size_t index, const struct loss_config *config,
                          const struct loss_sums *sums)
{
    struct loss_metrics metrics;
    loss_metrics(sums, &metrics);
    /* TRL takes the clip means in float32. */
    const double single = 1e-7;
    check("low_mean", index, metrics.clip_low_mean, number_of(want, "clip_ratio/low_mean"), single, 0);
    check("low_min", index, metrics.clip_low_min, number_of(want, "clip_ratio/low_min"), single, 0);
    check("high_mean", index, metrics.clip_high_mean, number_of(want, "clip_ratio/high_mean"), single, 0);
    check("high_max", index, metrics.clip_high_max, number_of(want, "clip_ratio/high_max"), single, 0);
    check("region_mean", index, metrics.clip_region_mean, number_of(want, "clip_ratio/region_mean"), single, 0);
    check("entropy", index, metrics.entropy, number_of(want, "entropy"), 1e-13, 0);
    if (config->beta != 0.0)
        check("kl", index, metrics.kl, number_of(want, "kl"), 1e-12, 0);
}

static void test_trl(void **state)
{
    (void)state;
    json_t *root = load_fixture(COHORT_SOURCE_DIR "/tests/fixtures/loss/trl.json");
    int32_t longest = (int32_t)number_of(root, "max_completion_length");
    json_t *cases = json_object_get(root, "cases"), *item;
    assert_int_equal(json_array_size(cases), 376);
    size_t index;
    json_array_foreach(cases, index, item)
    {
        static struct batch batch;
        const json_t *json = json_array_get(json_object_get(root, "batches"), (size_t)number_of(item, "batch"));
        read_batch(json, &batch);
        struct loss_config config = read_config(item, longest);
        if (!json_is_true(json_object_get(item, "old")))
            for (size_t i = 0; i < batch.n; i++)
                batch.sequence[i].logp_old = NULL;
        memset(batch.d_logp, 0x7f, sizeof batch.d_logp);
        struct loss_sums sums = batch_apply(&batch, &config);

        /* Double against TRL's code in double. The absolute part: terms of order 1 that cancel. */
        check("loss", index, sums.loss, number_of(item, "loss"), 1e-12, 1e-14);
        /* As TRL trains, in float32. */
        check("loss in float32", index, sums.loss, number_of(item, "loss_fp32"), 1e-6, 3e-7);
        const json_t *gradient = json_object_get(item, "gradient");
        for (size_t i = 0; i < batch.n; i++) {
            const json_t *row = json_array_get(gradient, i);
            assert_int_equal(json_array_size(row), batch.sequence[i].n_tokens);
            for (size_t t = 0; t < json_array_size(row); t++) /* d_logp is a float: half a unit in the last place */
                check("gradient", index, (double)batch.d_logp[i][t], json_number_value(json_array_get(row, t)), 6.1e-8,
                      1e-15);
        }
        const json_t *metrics = json_object_get(item, "metrics");
        if (json_object_size(metrics) != 0) /* none for a step of several micro-batches: TRL averages theirs */
            check_metrics(metrics, index, &config, &sums);
    }
    json_decref(root);
}

/* The case of grpo.md 9.6, computed there in float64 from the formulas. */
static void golden_batch(struct batch *batch)
{
    static const float lo[2][4] = {{-1.f, -2.f, -.5f, -3.f}, {-.7f, -1.2f, -2.2f, -.1f}};
    static const float lp[2][4] = {{-.9f, -2.3f, -.5f, -2.5f}, {-.4f, -1.5f, -2.f, -.1f}};
    static const float ref[2][4] = {{-1.1f, -2.1f, -.6f, -2.9f}, {-.6f, -1.3f, -2.1f, -.2f}};
    batch->n = 0;
    for (size_t i = 0; i < 2; i++) {
        struct loss_sequence *sequence = batch_add(batch, i == 0 ? 4 : 3);
        sequence->advantage = i == 0 ? 1.5f : -.5f;
        memcpy(batch->logp[i], lp[i], sizeof lp[i]);
        memcpy(batch->logp_old[i], lo[i], sizeof lo[i]);
        memcpy(batch->logp_ref[i], ref[i], sizeof ref[i]);
    }
}

static void test_golden(void **state)
{
    (void)state;
    static struct batch batch;
    static const struct {
        enum loss_type type;
        enum loss_level level;
        double beta, loss;
    } want[] = {
        {LOSS_GRPO, LOSS_LEVEL_TOKEN, 0, -.4926845},    {LOSS_BNPO, LOSS_LEVEL_TOKEN, 0, -.6433361},
        {LOSS_DAPO, LOSS_LEVEL_TOKEN, 0, -.6433361},    {LOSS_DR_GRPO, LOSS_LEVEL_TOKEN, 0, -.2814596},
        {LOSS_GRPO, LOSS_LEVEL_TOKEN, .04, -.4918082},  {LOSS_BNPO, LOSS_LEVEL_TOKEN, .04, -.6424203},
        {LOSS_DAPO, LOSS_LEVEL_TOKEN, .04, -.6424203},  {LOSS_DR_GRPO, LOSS_LEVEL_TOKEN, .04, -.2810589},
        {LOSS_GRPO, LOSS_LEVEL_SEQUENCE, 0, -.5411783},
    };
    golden_batch(&batch);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct loss_config config = {.type = want[i].type,
                                     .level = want[i].level,
                                     .epsilon = .2,
                                     .epsilon_high = .28,
                                     .beta = want[i].beta,
                                     .max_completion_length = 8};
        struct loss_sums sums = batch_apply(&batch, &config);
        /* The literals have seven decimals, the inputs are rounded to float. */
        check("golden loss", i, sums.loss, want[i].loss, 0, 1.5e-7);
        struct loss_metrics metrics;
        loss_metrics(&sums, &metrics);
        if (want[i].level == LOSS_LEVEL_TOKEN) {
            check("low_mean", i, metrics.clip_low_mean, 1.0 / 7, 1e-15, 0);
            check("high_mean", i, metrics.clip_high_mean, 1.0 / 7, 1e-15, 0);
            check("region_mean", i, metrics.clip_region_mean, 2.0 / 7, 1e-15, 0);
        } else {
            check("ratio_max", i, metrics.ratio_max, 1.0778842, 0, 1e-7);
            check("ratio_min", i, metrics.ratio_min, 1.0689391, 0, 1e-7);
        }
        if (want[i].beta != 0)
            check("kl", i, metrics.kl, .0228946, 0, 1e-7);
    }
}

/* I5: any split of the step's sequences, in any order of the parts, gives the same sums and the
 * same derivatives. */
static void test_split_invariance(void **state)
{
    (void)state;
    static struct batch batch;
    for (int c = 0; c < N_CONFIGS; c++) {
        struct loss_config config;
        if (!config_number(c, &config))
            continue;
        random_batch(&batch, 13, config_filters(c), config_bonus(c));
        if (c % 2 == 1)
            random_advantages(&batch);
        struct loss_sums whole = batch_apply(&batch, &config);
        float gradient[MAX_SEQUENCES][MAX_TOKENS];
        memcpy(gradient, batch.d_logp, sizeof gradient);
        struct loss_scale scale = batch_scale(&batch);
        for (size_t size = 1; size <= 7; size++) {
            struct loss_sums split;
            loss_sums_init(&split);
            memset(batch.d_logp, 0x7f, sizeof batch.d_logp);
            size_t last = (batch.n - 1) / size * size;
            for (size_t first = last + size; first >= size; first -= size) {
                struct loss_sums part;
                loss_sums_init(&part);
                size_t start = first - size;
                for (size_t i = start; i < start + size && i < batch.n; i++)
                    loss_sequence_apply(&config, &scale, &batch.sequence[i], &part);
                loss_sums_merge(&split, &part);
            }
            check("loss of a split", (size_t)c, split.loss, whole.loss, 1e-12, 1e-14);
            check("kl of a split", (size_t)c, split.kl, whole.kl, 1e-12, 0);
            check("entropy of a split", (size_t)c, split.entropy, whole.entropy, 1e-12, 0);
            assert_true(split.clip_low == whole.clip_low && split.clip_high == whole.clip_high);
            assert_true(split.clip_region == whole.clip_region);
            assert_true(split.clip_low_min == whole.clip_low_min);
            assert_true(split.clip_high_max == whole.clip_high_max);
            assert_true(split.ratio_min == whole.ratio_min && split.ratio_max == whole.ratio_max);
            assert_int_equal(split.tokens, whole.tokens);
            assert_int_equal(split.sequences, whole.sequences);
            assert_int_equal(split.clip_units, whole.clip_units);
            check("bonus of a split", (size_t)c, split.bonus, whole.bonus, 1e-12, 0);
            check("kept entropy of a split", (size_t)c, split.entropy_kept, whole.entropy_kept, 1e-12, 0);
            check("events of a split", (size_t)c, split.event, whole.event, 1e-12, 0);
            assert_true(split.capped == whole.capped);
            assert_int_equal(split.kept, whole.kept);
            assert_int_equal(split.dropped, whole.dropped);
            assert_int_equal(split.event_units, whole.event_units);
            for (size_t i = 0; i < batch.n; i++)
                assert_memory_equal(gradient[i], batch.d_logp[i], (size_t)batch.sequence[i].n_tokens * sizeof(float));
        }
    }
}

/* On-policy without old log-probs: the loss is that of equal old log-probs, bit for bit. */
static void test_no_old_logps(void **state)
{
    (void)state;
    static struct batch batch;
    for (int c = 0; c < N_CONFIGS; c++) {
        struct loss_config config;
        if (!config_number(c, &config))
            continue;
        random_batch(&batch, 6, config_filters(c), config_bonus(c));
        memcpy(batch.logp_old, batch.logp, sizeof batch.logp);
        struct loss_sums equal = batch_apply(&batch, &config);
        float gradient[MAX_SEQUENCES][MAX_TOKENS];
        memcpy(gradient, batch.d_logp, sizeof gradient);
        for (size_t i = 0; i < batch.n; i++)
            batch.sequence[i].logp_old = NULL;
        struct loss_sums none = batch_apply(&batch, &config);
        assert_true(none.loss == equal.loss);
        assert_true(none.ratio_min == 1.0 && none.ratio_max == 1.0);
        assert_memory_equal(gradient, batch.d_logp, sizeof gradient);
    }
}

/* What is not finite must reach the caller, not be clipped away; an infinite ratio on the clipped
 * side is harmless. */
static void test_not_finite(void **state)
{
    (void)state;
    static struct batch batch;
    for (int c = 0; c < N_CONFIGS; c++) {
        struct loss_config config;
        if (!config_number(c, &config))
            continue;
        random_batch(&batch, 3, false, config_bonus(c));
        batch.logp[1][0] = NAN;
        assert_true(isnan(batch_apply(&batch, &config).loss));
        assert_true(isnan(batch.d_logp[1][0]));
        if (config.beta != 0.0)
            continue;
        batch.n = 1;
        batch.logp[0][0] = 0.0f;
        batch.logp_old[0][0] = -1e6f;
        batch.sequence[0].n_tokens = 1;
        batch.sequence[0].advantage = 1.0f;
        assert_true(isfinite(batch_apply(&batch, &config).loss));
        /* Where the ratio is capped and has no derivative, its cap is the weight. */
        assert_true(batch.d_logp[0][0] == 0.0f || config.type == LOSS_CISPO);
    }
}

/* A step with nothing that counts. */
static void test_nothing_counted(void **state)
{
    (void)state;
    static struct batch batch;
    for (int c = 0; c < N_CONFIGS; c++) {
        struct loss_config config;
        if (!config_number(c, &config))
            continue;
        batch.n = 0;
        batch.entropy_coef = config_bonus(c);
        batch_add(&batch, 0);
        batch_add(&batch, 3)->masked = true;
        struct loss_sums sums = batch_apply(&batch, &config);
        struct loss_metrics metrics;
        loss_metrics(&sums, &metrics);
        assert_true(metrics.loss == 0.0 && metrics.kl == 0.0 && metrics.clip_low_mean == 0.0);
        assert_true(isnan(metrics.ratio_min) && isnan(metrics.ratio_max));
        const bool whole = config.level == LOSS_LEVEL_SEQUENCE || config.type == LOSS_RLOO; /* counted once */
        assert_int_equal(isnan(metrics.clip_low_min) != 0, !whole);
        assert_int_equal(sums.sequences, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trl),          cmocka_unit_test(test_golden),     cmocka_unit_test(test_split_invariance),
        cmocka_unit_test(test_no_old_logps), cmocka_unit_test(test_not_finite), cmocka_unit_test(test_nothing_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
