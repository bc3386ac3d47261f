/* Every loss with every switch of the core: against TRL's own code (tests/fixtures/loss/switches.json, tokens.json with
 * an advantage for each token; oracle/loss_trl.py), and against the formulas of docs/GRPO.md written down a second time, whose central differences
 * must be the core's derivatives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "support/loss_batch.h"

#include "train/entropy.h"

#include <stdlib.h>

#define SWITCHES COHORT_SOURCE_DIR "/tests/fixtures/loss/switches.json"

/* ---- Against TRL ---- */

/* The entropy filter of a case, and its bonus. */
static void apply_switches(const json_t *item, struct batch *batch)
{
    const double top = number_of(item, "top");
    float values[MAX_SEQUENCES * MAX_TOKENS];
    int64_t n = 0;
    batch->entropy_coef = number_of(item, "entropy_coef");
    for (size_t i = 0; i < batch->n; i++)
        for (int32_t t = 0; t < batch->sequence[i].n_tokens && !batch->sequence[i].masked; t++)
            values[n++] = batch->entropy[i][t];
    const float threshold = entropy_threshold(values, n, top);
    for (size_t i = 0; i < batch->n && top < 1.0; i++) {
        batch->sequence[i].kept = batch->kept[i];
        for (int32_t t = 0; t < batch->sequence[i].n_tokens; t++)
            batch->kept[i][t] = batch->entropy[i][t] >= threshold;
    }
}

static void check_rows(const char *what, size_t index, const json_t *rows, const struct batch *batch,
                       float (*got)[MAX_TOKENS])
{
    for (size_t i = 0; i < batch->n; i++) {
        const json_t *row = json_array_get(rows, i);
        assert_int_equal(json_array_size(row), batch->sequence[i].n_tokens);
        for (size_t t = 0; t < json_array_size(row); t++) /* a float, and nine digits: a unit in the last place */
            check(what, index, (double)got[i][t], json_number_value(json_array_get(row, t)), 1.2e-7, 1e-9);
    }
}

/* Every metric that TRL has is one of ours with that value. */
static void check_all_metrics(size_t index, const json_t *want, const struct loss_config *config,
                              const struct loss_metrics *metrics)
{
    const struct loss_traits *traits = loss_traits(config->type);
    const struct {
        const char *name;
        double value;
    } ours[] = {{"kl", metrics->kl},
                {"entropy", metrics->entropy},
                {"policy_loss", metrics->policy_loss},
                {"clip_ratio/low_mean", metrics->clip_low_mean},
                {"clip_ratio/low_min", metrics->clip_low_min},
                {"clip_ratio/high_mean", metrics->clip_high_mean},
                {"clip_ratio/high_max", metrics->clip_high_max},
                {"clip_ratio/region_mean", metrics->clip_region_mean},
                {traits->event != NULL ? traits->event : "none", metrics->event}};
    const char *name;
    json_t *value;
    assert_int_equal(traits->clips, json_object_get(want, "clip_ratio/low_mean") != NULL);
    json_object_foreach((json_t *)(uintptr_t)want, name, value)
    {
        size_t i = 0;
        if (strcmp(name, "entropy_coef") == 0)
            continue; /* the controller's */
        while (i < sizeof ours / sizeof *ours && strcmp(ours[i].name, name) != 0)
            i++;
        if (i == sizeof ours / sizeof *ours)
            fail_msg("case %zu: TRL's metric %s is not compared", index, name);
        /* TRL takes means of flags in float32. */
        check(name, index, ours[i].value, json_is_null(value) ? (double)NAN : json_number_value(value), 1e-7, 1e-12);
    }
}

/* What masked completions add to the value of TRL's GMPO loss, without a gradient: their empty geometric mean is 1. Here
 * they are no part of it (I10). */
static double of_masked(const struct batch *batch)
{
    double sum = 0.0;
    for (size_t i = 0; i < batch->n; i++)
        sum -= batch->sequence[i].masked ? (double)batch->sequence[i].advantage : 0.0;
    return sum / (double)batch->n;
}

static void compare_cases(const char *path, size_t n_cases)
{
    json_t *root = load_fixture(path), *item;
    const int32_t longest = (int32_t)number_of(root, "max_completion_length");
    size_t index, events = 0, dropped = 0;
    json_t *cases = json_object_get(root, "cases");
    assert_int_equal(json_array_size(cases), n_cases);
    json_array_foreach(cases, index, item)
    {
        static struct batch batch;
        struct loss_metrics metrics;
        read_batch(json_array_get(json_object_get(root, "batches"), (size_t)number_of(item, "batch")), &batch);
        struct loss_config config = read_config(item, longest);
        config.kl_correction = json_is_true(json_object_get(item, "correction"));
        config.off_policy_mask = !json_is_null(json_object_get(item, "off_policy"));
        config.off_policy_threshold = config.off_policy_mask ? number_of(item, "off_policy") : 0.0;
        apply_switches(item, &batch);
        assert_int_equal(loss_check(&config, NULL), COHORT_OK);
        memset(batch.d_logp, 0x7f, sizeof batch.d_logp);
        memset(batch.d_entropy, 0x7f, sizeof batch.d_entropy);
        const struct loss_sums sums = batch_apply(&batch, &config);
        loss_metrics(&sums, &metrics);
        const double constant = config.type == LOSS_GMPO ? of_masked(&batch) : 0.0;
        check("loss", index, metrics.loss, number_of(item, "loss") - constant, 1e-12, 1e-13);
        check("loss in float32", index, metrics.loss, number_of(item, "loss_fp32") - constant, 1e-5, 1e-6);
        check_rows("gradient", index, json_object_get(item, "gradient"), &batch, batch.d_logp);
        if (batch.entropy_coef != 0.0)
            check_rows("gradient of the entropy", index, json_object_get(item, "entropy_gradient"), &batch,
                       batch.d_entropy);
        check_all_metrics(index, json_object_get(item, "metrics"), &config, &metrics);
        events += metrics.event > 0.0 ? 1 : 0;
        dropped += sums.dropped > 0 ? 1 : 0;
    }
    printf("%zu cases, %zu with events, %zu with dropped completions\n", index, events, dropped);
    assert_true(events > 50 && dropped > 50); /* the fixture reaches them */
    json_decref(root);
}

static void test_trl(void **state)
{
    (void)state;
    compare_cases(SWITCHES, 512);
}

/* TRL's loss takes advantages of tokens from subclasses of its trainer. */
static void test_trl_tokens(void **state)
{
    (void)state;
    compare_cases(COHORT_SOURCE_DIR "/tests/fixtures/loss/tokens.json", 504);
}

/* The defaults of the installed TRL are those that options_table.h has (test_options.c reads them there). */
static void test_defaults(void **state)
{
    (void)state;
    json_t *root = load_fixture(SWITCHES), *value;
    const json_t *defaults = json_object_get(root, "defaults");
    static const struct {
        const char *name;
        double value;
    } want[] = {{"sapo_temperature_neg", 1.05}, {"sapo_temperature_pos", 1.0}, {"vespo_k_pos", 2.0},
                {"vespo_lambda_pos", 3.0},      {"vespo_k_neg", 3.0},          {"vespo_lambda_neg", 2.0},
                {"entropy_coef", 0.0},          {"entropy_coef_min", 0.0},     {"entropy_coef_max", 1.0},
                {"entropy_coef_delta", 0.005},  {"entropy_target", 0.2}};
    assert_int_equal(json_object_size(defaults), sizeof want / sizeof *want);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        value = json_object_get(defaults, want[i].name);
        assert_true(json_is_number(value) && json_number_value(value) == want[i].value);
    }
    json_decref(root);
}

static int compare_floats(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Which tokens the filter keeps, by torch.quantile of the same numbers; and in any order. */
static void test_quantiles(void **state)
{
    (void)state;
    json_t *root = load_fixture(SWITCHES), *item;
    size_t index;
    assert_true(json_array_size(json_object_get(root, "quantiles")) == 48);
    json_array_foreach(json_object_get(root, "quantiles"), index, item)
    {
        static float values[1001];
        const json_t *array = json_object_get(item, "values");
        const size_t n = json_array_size(array), repeat = (size_t)number_of(item, "repeat");
        int64_t count = 0;
        for (size_t k = 0; k < repeat; k++)
            for (size_t i = 0; i < n; i++)
                values[count++] = (float)json_number_value(json_array_get(array, i));
        if (repeat > 1)
            values[count++] = values[0];
        for (int order = 0; order < 2; order++) {
            const float threshold = entropy_threshold(values, count, number_of(item, "top"));
            int64_t kept = 0;
            float least = INFINITY;
            for (int64_t i = 0; i < count; i++)
                if (values[i] >= threshold) {
                    kept++;
                    least = fminf(least, values[i]);
                }
            assert_int_equal(kept, (int64_t)number_of(item, "kept"));
            assert_true(least == (float)number_of(item, "least"));
            qsort(values, (size_t)count, sizeof *values, compare_floats);
        }
    }
    json_decref(root);
    assert_true(isinf(entropy_threshold(NULL, 0, 0.5)));
    const float odd[] = {-1.0f, 0.0f, -0.0f, 2.0f}; /* a rounding below 0 is ordered too */
    assert_true(entropy_threshold(odd, 4, 1.0) == -1.0f && entropy_threshold(odd, 4, 0.0) == 2.0f);
}

/* TRL's adaptive bonus over nine steps: what applies in a step, and what becomes of the coefficient. */
static void test_controller(void **state)
{
    (void)state;
    json_t *root = load_fixture(SWITCHES), *step;
    const json_t *course = json_object_get(root, "controller");
    struct entropy_control control = {.coef = number_of(course, "entropy_coef"),
                                      .last = (double)INFINITY,
                                      .adaptive = true,
                                      .least = number_of(course, "entropy_coef_min"),
                                      .most = number_of(course, "entropy_coef_max"),
                                      .delta = number_of(course, "entropy_coef_delta"),
                                      .target = number_of(course, "entropy_target")};
    struct loss_config config = read_config(course, 12);
    json_t *plain = json_deep_copy(course);
    size_t index, applied = 0;
    json_array_foreach(json_object_get(course, "steps"), index, step)
    {
        static struct batch batch;
        struct loss_metrics metrics;
        read_batch(json_array_get(json_object_get(root, "batches"), (size_t)number_of(course, "batch")), &batch);
        for (size_t i = 0; i < batch.n; i++)
            for (int32_t t = 0; t < batch.sequence[i].n_tokens; t++)
                batch.entropy[i][t] = (float)(number_of(step, "factor") * (double)batch.entropy[i][t]);
        apply_switches(plain, &batch);
        assert_true(entropy_control_on(&control));
        batch.entropy_coef = entropy_control_coef(&control);
        applied += batch.entropy_coef != 0.0 ? 1 : 0;
        const struct loss_sums sums = batch_apply(&batch, &config);
        loss_metrics(&sums, &metrics);
        entropy_control_update(&control, sums.entropy_kept / (double)sums.kept);
        check("loss", index, metrics.loss, number_of(step, "loss"), 1e-12, 1e-13);
        check("policy_loss", index, metrics.policy_loss, number_of(step, "policy_loss"), 1e-12, 1e-13);
        check("coef", index, control.coef, number_of(step, "coef"), 1e-12, 1e-15);
        check("last entropy", index, control.last, number_of(step, "last"), 1e-12, 0);
    }
    assert_int_equal(applied, 5);
    json_decref(plain);
    json_decref(root);
}

/* ---- Against the formulas, written a second time ---- */

/* The loss of the batch as a function of its log-probs: what has no derivative is taken at base. */
struct reference {
    const struct loss_config *config;
    const struct batch *base;
    struct loss_scale scale;
};

static double clamped(double x, double low, double high) { return fmin(fmax(x, low), high); }

static double policy_token(const struct loss_config *c, double r, double r_base, double lp, double A, double phi)
{
    double tau = A > 0 ? c->sapo_temperature_pos : c->sapo_temperature_neg;
    switch (c->type) {
    case LOSS_CISPO: return -fmin(r_base, c->epsilon_high) * A * lp;
    case LOSS_SAPO: return -4 / (tau * (1 + exp(-tau * (r - 1)))) * A;
    case LOSS_VESPO: return -phi * A * lp;
    case LOSS_GRPO:
    case LOSS_BNPO:
    case LOSS_DR_GRPO:
    case LOSS_DAPO:
    case LOSS_LUSPO:
    case LOSS_RLOO:
    case LOSS_GMPO: break;
    }
    return -fmin((c->delta > 0 ? fmin(r, c->delta) : r) * A, clamped(r, 1 - c->epsilon, 1 + c->epsilon_high) * A);
}

static double token_weight(const struct reference *ref, int32_t n)
{
    switch (ref->config->type) {
    case LOSS_GRPO:
    case LOSS_SAPO:
    case LOSS_RLOO:
    case LOSS_GMPO: return 1.0 / ((double)ref->scale.n_sequences * n);
    case LOSS_DR_GRPO: return 1.0 / ((double)ref->scale.n_sequences * ref->config->max_completion_length);
    case LOSS_LUSPO: return 1.0 / (double)ref->scale.n_sequences;
    case LOSS_BNPO:
    case LOSS_DAPO:
    case LOSS_CISPO:
    case LOSS_VESPO: break;
    }
    return 1.0 / (double)ref->scale.n_tokens;
}

static double token_advantage(const struct loss_sequence *s, int32_t t)
{
    return (double)(s->advantages == NULL ? s->advantage : s->advantages[t]);
}

static double sequence_loss(const struct reference *ref, size_t i, const float *lp)
{
    const struct loss_config *c = ref->config;
    const struct loss_sequence *s = &ref->base->sequence[i];
    const int32_t n = s->n_tokens;
    double mean = 0, mean_base = 0, product = 0, geometric = 0, kept = 0, loss = 0;
    if (s->masked)
        return 0;
    for (int32_t t = 0; t < n; t++) {
        const double d = (double)lp[t] - (double)s->logp_old[t], base = (double)s->logp[t] - (double)s->logp_old[t];
        const double k = s->kept == NULL || s->kept[t] ? 1 : 0;
        mean += d / n;
        mean_base += base / n;
        product += base;
        geometric += k * (token_advantage(s, t) > 0 ? fmin(d, c->epsilon_high) : fmax(d, -c->epsilon));
        kept += k;
    }
    for (int32_t t = 0; t < n; t++) {
        const double A = token_advantage(s, t);
        const double k = A >= 0 ? c->vespo_k_pos : c->vespo_k_neg,
                     l = A >= 0 ? c->vespo_lambda_pos : c->vespo_lambda_neg;
        const double w = clamped(exp(product), 1e-8, exp(20)), phi = exp(l) * pow(w, k) * exp(-l * w);
        const bool dropped = c->off_policy_mask && A < 0 && -mean_base > c->off_policy_threshold;
        const double d = (double)lp[t] - (double)s->logp_old[t], moved = (double)lp[t] - (double)s->logp[t];
        const double r = c->type == LOSS_RLOO              ? exp(n * mean)
                         : c->level == LOSS_LEVEL_TOKEN    ? exp(d)
                         : c->level == LOSS_LEVEL_SEQUENCE ? exp(mean)
                                                           : exp(mean_base + moved);
        const double r_base = c->level == LOSS_LEVEL_TOKEN ? exp(d - moved) : exp(mean_base);
        const double x = (double)s->logp_ref[t] - (double)lp[t];
        const bool has = s->kept == NULL || s->kept[t];
        double value = c->type == LOSS_GMPO ? -exp(geometric / fmax(kept, 1)) * A
                       : has                ? policy_token(c, r, r_base, (double)lp[t], A, phi)
                                            : 0;
        value = dropped ? 0 : value;
        double kl = c->kl == LOSS_KL_K1 ? -x : c->kl == LOSS_KL_K2 ? x * x / 2 : exp(x) - x - 1;
        if (c->kl_correction && c->type != LOSS_GMPO)
            kl *= r;
        loss += value + c->beta * kl;
    }
    return loss * token_weight(ref, n);
}

static double reference_loss(const struct reference *ref)
{
    double loss = 0, entropy = 0;
    for (size_t i = 0; i < ref->base->n; i++) {
        const struct loss_sequence *s = &ref->base->sequence[i];
        loss += sequence_loss(ref, i, s->logp);
        for (int32_t t = 0; t < s->n_tokens && !s->masked; t++)
            entropy += s->kept == NULL || s->kept[t] ? (double)s->entropy[t] : 0;
    }
    return loss - ref->scale.entropy_coef * entropy / fmax(1, (double)ref->scale.n_kept);
}

static double largest_advantage(const struct loss_sequence *s)
{
    double most = 0;
    for (int32_t t = 0; t < s->n_tokens; t++)
        most = fmax(most, fabs(token_advantage(s, t)));
    return most;
}

/* Central differences. A step of 2^-10 in a logp below 4 is exact in float; the second-order error is about h^2 / 6 =
 * 1.6e-7 of a term. Tokens whose one-sided slopes differ sit on a kink and are left out, and counted. */
static void test_formulas(void **state)
{
    (void)state;
    static struct batch batch;
    const float h = 1.0f / 1024;
    int checked = 0, kinks = 0, configs = 0;
    for (int round = 0; round < 2 * N_CONFIGS; round++) {
        const int c = round / 2;
        struct loss_config config;
        struct loss_metrics metrics;
        if (!config_number(c, &config))
            continue;
        configs++;
        random_batch(&batch, 4, config_filters(c), config_bonus(c));
        if (round % 2 == 1)
            random_advantages(&batch);
        const struct reference ref = {.config = &config, .base = &batch, .scale = batch_scale(&batch)};
        const struct loss_sums sums = batch_apply(&batch, &config);
        loss_metrics(&sums, &metrics);
        check("loss", (size_t)c, metrics.loss, reference_loss(&ref), 1e-12, 1e-13);
        for (size_t i = 0; i < batch.n; i++) {
            float lp[MAX_TOKENS];
            memcpy(lp, batch.logp[i], sizeof lp);
            const double loss = sequence_loss(&ref, i, lp);
            const double scale =
                token_weight(&ref, batch.sequence[i].n_tokens) * (largest_advantage(&batch.sequence[i]) + config.beta);
            for (int32_t t = 0; t < batch.sequence[i].n_tokens; t++) {
                const float at = lp[t], above = at + h, below = at - h;
                lp[t] = above;
                const double up = (sequence_loss(&ref, i, lp) - loss) / ((double)above - (double)at);
                lp[t] = below;
                const double down = (loss - sequence_loss(&ref, i, lp)) / ((double)at - (double)below);
                lp[t] = at;
                if (fabs(up - down) > 6.0 * (double)h * scale) {
                    kinks++;
                    continue;
                }
                check("finite difference", (size_t)c, 0.5 * (up + down), (double)batch.d_logp[i][t], 1e-5, 4e-6);
                checked++;
            }
        }
    }
    printf("%d combinations, %d derivatives, %d on a kink\n", configs, checked, kinks);
    assert_true(checked > 10000);
    assert_true(kinks < checked / 50);
}

/* The same advantage for every token is the completion's: to the bit where no sum over tokens stands between. */
static void test_equal_tokens(void **state)
{
    (void)state;
    static struct batch batch;
    for (int c = 0; c < N_CONFIGS; c++) {
        struct loss_config config;
        float gradient[MAX_SEQUENCES][MAX_TOKENS];
        if (!config_number(c, &config))
            continue;
        random_batch(&batch, 12, config_filters(c), config_bonus(c));
        const struct loss_sums whole = batch_apply(&batch, &config);
        memcpy(gradient, batch.d_logp, sizeof gradient);
        for (size_t i = 0; i < batch.n; i++) {
            batch.sequence[i].advantages = batch.advantages[i];
            for (int32_t t = 0; t < batch.sequence[i].n_tokens; t++)
                batch.advantages[i][t] = batch.sequence[i].advantage;
        }
        const struct loss_sums tokens = batch_apply(&batch, &config);
        assert_true(whole.loss == tokens.loss && whole.kl == tokens.kl && whole.dropped == tokens.dropped);
        for (size_t i = 0; i < batch.n; i++)
            for (int32_t t = 0; t < batch.sequence[i].n_tokens; t++) /* a sum of n equal doubles, then a float */
                check("derivative", (size_t)c, (double)batch.d_logp[i][t], (double)gradient[i][t], 1.2e-7, 1e-12);
    }
}

/* GSPO-token's gradient is GSPO's where all tokens of a sequence have its advantage (arXiv 2507.18071, section 4.3). */
static void test_gspo_token(void **state)
{
    (void)state;
    static struct batch batch;
    static const enum loss_type types[] = {LOSS_GRPO, LOSS_DAPO, LOSS_DR_GRPO, LOSS_LUSPO};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        struct loss_config config = {.type = types[k],
                                     .level = LOSS_LEVEL_SEQUENCE,
                                     .epsilon = 0.05,
                                     .epsilon_high = 0.06,
                                     .max_completion_length = 20};
        float gradient[MAX_SEQUENCES][MAX_TOKENS];
        random_batch(&batch, 12, false, 0.0);
        const struct loss_sums whole = batch_apply(&batch, &config);
        memcpy(gradient, batch.d_logp, sizeof gradient);
        config.level = LOSS_LEVEL_SEQUENCE_TOKEN;
        const struct loss_sums token = batch_apply(&batch, &config);
        assert_true(whole.loss == token.loss);
        assert_true(token.clip_units == token.tokens && whole.clip_units == whole.sequences);
        for (size_t i = 0; i < batch.n; i++)
            assert_memory_equal(gradient[i], batch.d_logp[i], (size_t)batch.sequence[i].n_tokens * sizeof(float));
    }
}

/* delta above 1 + epsilon_high is the dual clip (arXiv 1912.09729, as verl has it with clip_ratio_c). */
static void test_dual_clip(void **state)
{
    (void)state;
    static struct batch batch;
    const struct loss_config config = {
        .type = LOSS_DAPO, .epsilon = 0.2, .epsilon_high = 0.25, .delta = 1.4, .max_completion_length = 20};
    int lower = 0;
    for (int round = 0; round < 20; round++) {
        double loss = 0, capped = 0;
        random_batch(&batch, 8, false, 0.0);
        const struct loss_scale scale = batch_scale(&batch);
        for (size_t i = 0; i < batch.n; i++)
            for (int32_t t = 0; t < batch.sequence[i].n_tokens && !batch.sequence[i].masked; t++) {
                const double A = (double)batch.sequence[i].advantage;
                const double r = exp((double)batch.logp[i][t] - (double)batch.logp_old[i][t]);
                const double one = fmax(-A * r, -A * clamped(r, 1 - config.epsilon, 1 + config.epsilon_high));
                loss += A < 0 ? fmin(one, -A * config.delta) : one;
                capped += A < 0 && -A * config.delta <= one ? 1 : 0;
            }
        const struct loss_sums sums = batch_apply(&batch, &config);
        struct loss_metrics metrics;
        loss_metrics(&sums, &metrics);
        check("dual clip", (size_t)round, sums.loss, loss / (double)scale.n_tokens, 1e-12, 1e-13);
        check("share at the lower bound", (size_t)round, metrics.capped_mean, capped / (double)scale.n_tokens, 1e-12,
              0);
        lower += capped > 0 ? 1 : 0;
    }
    assert_true(lower > 10);
}

static void refuses(enum loss_type type, enum loss_level level, double delta, const char *part)
{
    cohort_error err = {0};
    const struct loss_config config = {.type = type, .level = level, .delta = delta};
    assert_int_equal(loss_check(&config, &err), COHORT_ERR_ARGUMENT);
    if (strstr(err.message, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

static void test_refused(void **state)
{
    (void)state;
    refuses(LOSS_CISPO, LOSS_LEVEL_TOKEN, 2, "loss_type cispo has no such term");
    refuses(LOSS_SAPO, LOSS_LEVEL_TOKEN, 2, "sapo");
    refuses(LOSS_VESPO, LOSS_LEVEL_TOKEN, 2, "vespo");
    refuses(LOSS_GMPO, LOSS_LEVEL_TOKEN, 2, "gmpo");
    refuses(LOSS_GMPO, LOSS_LEVEL_SEQUENCE, 0, "importance_sampling_level");
    refuses(LOSS_GMPO, LOSS_LEVEL_SEQUENCE_TOKEN, 0, "importance_sampling_level");
    refuses(LOSS_RLOO, LOSS_LEVEL_SEQUENCE, 0, "importance_sampling_level");
    assert_false(loss_traits(LOSS_GMPO)->corrects_kl);
}

/* RLOO's loss on four completions as TRL 1.16.0's own code gives it for sums of log-probs in double precision: the ratio is
 * the product of the tokens', clipped as one, and a token's derivative is the ratio's. */
static void test_rloo(void **state)
{
    (void)state;
    static const float logp[4][3] = {{-0.5f, -1.0f, -0.25f}, {-2.0f, -0.75f}, {-1.5f, -0.5f}, {-0.3f, -1.2f, -1.0f}};
    static const double old[4] = {-1.60, -2.70, -2.30, -2.45}, slope[4] = {-.10758850, .11890368, 0, .23780736};
    static const float advantage[4] = {.5f, -.5f, 1.0f, -1.0f};
    static const int32_t n[4] = {3, 2, 2, 3};
    const struct loss_config config = {.type = LOSS_RLOO, .epsilon = 0.2, .epsilon_high = 0.2};
    struct loss_sums sums;
    struct loss_metrics metrics;
    loss_sums_init(&sums);
    assert_int_equal(loss_check(&config, NULL), COHORT_OK);
    for (int i = 0; i < 4; i++) {
        float before[3], d_logp[3];
        double sum = 0;
        for (int32_t t = 0; t < n[i]; t++)
            sum += (double)logp[i][t];
        for (int32_t t = 0; t < n[i]; t++)
            before[t] = logp[i][t] + (float)((old[i] - sum) / n[i]);
        loss_sequence_apply(
            &config, &(struct loss_scale){.n_sequences = 4, .n_tokens = 10},
            &(struct loss_sequence){
                .n_tokens = n[i], .advantage = advantage[i], .logp = logp[i], .logp_old = before, .d_logp = d_logp},
            &sums);
        for (int32_t t = 0; t < n[i]; t++)
            assert_true(fabs((double)d_logp[t] - slope[i]) < 2e-7); /* old log-probs are rounded to floats */
    }
    loss_metrics(&sums, &metrics);
    assert_true(fabs(metrics.loss + 0.0508774629) < 2e-7);
    assert_true(metrics.clip_high_mean == 0.25 && metrics.clip_low_mean == 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trl),      cmocka_unit_test(test_trl_tokens), cmocka_unit_test(test_equal_tokens),
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_quantiles),  cmocka_unit_test(test_controller),
        cmocka_unit_test(test_formulas), cmocka_unit_test(test_gspo_token), cmocka_unit_test(test_dual_clip),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_rloo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
