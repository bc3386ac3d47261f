/* Lanes and shares as arithmetic: what a rank owns, what it sums, how a step is cut; and lanes on one rank against sums by hand. What
 * ranks exchange is tests/invariance/test_ranks.sh. */
#include "model/model.h"
#include "support/model_test.h"
#include "train/lanes.h"

#include <string.h>

static struct backend *backend;
static struct model *model;

static void set_up_share(int32_t rank, int32_t count, int32_t lanes)
{
    struct param_share share = {.rank = rank, .count = count, .lanes = lanes};
    lanes_plan(&share);
    param_set_share(&model->base, &share);
}

static int open_model(void **state)
{
    cohort_error err = {0};
    struct model_config config;
    (void)state;
    must(backend_cpu_create(&backend, CPU_ISA_AUTO, 1, &err), &err);
    must(model_config_load(&config, NULL, FIXTURES "model_untied", &err), &err);
    must(model_open(&model, backend, &config, DTYPE_F32, 0, &err), &err);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    model_destroy(model);
    backend_destroy(backend);
    return 0;
}

/* Every tensor has one owner, adjacent ones have the same; what ranks own is the gradient, cut; and each sums at least that. */
static void test_owners(void **state)
{
    const struct param_set *set = &model->base;
    (void)state;
    for (int32_t count = 1; count <= 40; count += count < 8 ? 1 : 16) {
        set_up_share(0, count, 1);
        int64_t end = 0;
        for (int32_t r = 0; r < count; r++) {
            const struct param_range owned = param_set_owned(set, r), sums = param_set_sums(set, r);
            assert_true(owned.first == end && owned.end >= owned.first);
            assert_true(sums.first == owned.first && sums.end >= owned.end && sums.end <= set->training.n_elements);
            end = owned.end;
            for (int32_t i = 0; i < set->table.n_params; i++) {
                const int64_t first = set->training.first[i];
                assert_true((param_owner(set, i) == r) == (first >= owned.first && first < owned.end));
                assert_true(!set->table.params[i].adjacent || param_owner(set, i) == param_owner(set, i - 1));
            }
        }
        assert_true(end == set->training.n_elements);
    }
    set_up_share(0, 1, 1);
}

/* How many sums of lanes wait between turns: none where every lane has a rank, log2 K where one has all. */
static void test_plan(void **state)
{
    static const struct {
        int32_t rank, count, lanes, partials, parts;
    } cases[] = {{0, 1, 1, 0, 1}, {0, 1, 2, 1, 1}, {0, 1, 8, 3, 1}, {1, 2, 2, 0, 2}, {3, 4, 4, 0, 4}, {0, 2, 4, 1, 2},
                 {1, 3, 4, 2, 3}, {2, 3, 4, 2, 3}, {4, 8, 4, 0, 4}, {1, 2, 8, 2, 2}, {0, 3, 8, 2, 3}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct param_share share = {.rank = cases[i].rank, .count = cases[i].count, .lanes = cases[i].lanes};
        lanes_plan(&share);
        if (share.partials != cases[i].partials || share.parts != cases[i].parts)
            fail_msg("rank %d of %d, %d lanes: %d gradients wait and %d pieces come, expected %d and %d",
                     (int)share.rank, (int)share.count, (int)share.lanes, (int)share.partials, (int)share.parts,
                     (int)cases[i].partials, (int)cases[i].parts);
    }
}

/* Values whose sums differ by their order. */
static float value_of(int32_t m, int64_t i)
{
    const uint32_t x = (uint32_t)(m * 7919 + (int32_t)(i % 1009) * 104729) * 2654435761u;
    return ((float)(x >> 8) / 16777216.0f - 0.5f) * (m % 3 == 0 ? 1000.0f : 1.0f);
}

/* The tree written out for up to four lanes, the last round with as many as are left. */
static float by_hand(int32_t K, int32_t n_micro, int64_t i)
{
    float sum = 0.0f;
    for (int32_t m = 0; m < n_micro; m += K) {
        const int32_t left = n_micro - m < K ? n_micro - m : K;
        float v[4] = {0};
        for (int32_t l = 0; l < left; l++)
            v[l] = (m + l) % 5 == 3 ? 0.0f : value_of(m + l, i);
        const float low = left > 1 ? v[0] + v[1] : v[0], high = left > 3 ? v[2] + v[3] : v[2],
                    round = left > 2 ? low + high : low;
        sum = m == 0 ? round : sum + round;
    }
    return sum;
}

/* As a backward does it: layer by layer, then what is in none. */
static void add_values(struct param_set *set, int32_t m)
{
    const struct param_training *t = &set->training;
    for (int32_t layer = model->config.n_layers; layer >= 0; layer--) {
        for (int32_t u = 0; u < t->n_units; u++)
            for (int64_t i = t->units[u].first; t->units[u].layer == layer && i < t->units[u].end; i++)
                t->grad[t->units[u].place + (i - t->units[u].first)] += value_of(m, i);
        param_set_done(set, layer);
    }
}

/* The units are the gradient, cut, and a layer's gradient stands where that of any other one does. */
static void check_units(const struct param_set *set)
{
    const struct param_training *t = &set->training;
    int64_t end = 0, layer = 0, others = 0;
    assert_int_equal(t->n_units, model->config.n_layers + 2);
    for (int32_t u = 0; u < t->n_units; u++) {
        const int64_t length = t->units[u].end - t->units[u].first;
        assert_true(t->units[u].first == end && length > 0 && t->units[u].place + length <= t->n_held);
        assert_true(t->units[u].layer == (u + 1 < t->n_units ? u : 0));
        if (t->units[u].layer > 0)
            layer = length > layer ? length : layer;
        else
            others += length;
        end = t->units[u].end;
    }
    assert_true(end == t->n_elements && t->n_held == layer + others && t->n_held < t->n_elements);
}

static void test_sums(void **state)
{
    struct param_set *set = &model->base;
    cohort_error err = {0};
    (void)state;
    set_up_share(0, 1, 4);
    check_units(set);
    assert_int_equal(param_set_train_begin(set, DTYPE_F32, &err), COHORT_OK);
    assert_non_null(set->training.sum);
    for (int32_t n_micro = 1; n_micro <= 11; n_micro++) {
        struct lanes lanes;
        param_set_zero_grad(set);
        lanes_begin(&lanes, set, n_micro, true);
        for (int32_t m = 0; m < n_micro; m++) {
            assert_true(lanes_mine(&lanes, m));
            if (m % 5 != 3) /* that one has nothing to learn from */
                add_values(set, m);
            assert_int_equal(lanes_count(&lanes, m, &err), COHORT_OK);
        }
        lanes_free(&lanes);
        for (int64_t i = 0; i < set->training.n_elements; i++)
            if (set->training.sum[i] != by_hand(4, n_micro, i))
                fail_msg("%d micro-batches, element %lld: %.9g, expected %.9g", (int)n_micro, (long long)i,
                         (double)set->training.sum[i], (double)by_hand(4, n_micro, i));
        for (int64_t i = 0; i < set->training.n_held; i++)
            assert_true(set->training.grad[i] == 0.0f);
    }
}

/* Weights that ranks divide: every matrix of a layer has its place with one of them, and values have one place for all layers;
 * what a rank holds becomes less with their number. */
static void test_divided(void **state)
{
    const struct param_set *set = &model->base;
    const size_t whole = param_set_value_sizes(set, 0).own, before = model_weight_bytes(model);
    size_t matrices = 0, layer = 0, least = before;
    (void)state;
    for (int32_t i = 0; i < set->table.n_params; i++) {
        const struct param *p = &set->table.params[i];
        const bool divided = p->kind == PARAM_MATRIX;
        assert_true((p->layer > 0 && p->rank > 1) == divided && !param_is_divided(set, i));
        matrices += divided ? storage_bytes(p->format, p->count) : 0;
        layer += divided && p->layer == 1 ? storage_bytes(p->format, p->count) : 0;
    }
    assert_true(model->config.n_layers > 1 && matrices == layer * (size_t)model->config.n_layers);
    for (int32_t count = 2; count <= 4; count++) {
        size_t home = 0;
        for (int32_t r = 0; r < count; r++) {
            struct param_share share = {.rank = r, .count = count, .lanes = 4, .weights = true};
            lanes_plan(&share);
            param_set_share(&model->base, &share);
            for (int32_t i = 0; i < set->table.n_params; i++) {
                const struct param *p = &set->table.params[i];
                assert_true(param_is_divided(set, i) == (p->kind == PARAM_MATRIX));
                assert_true(p->offset + storage_bytes(p->format, p->count) <= set->table.bytes);
                for (int32_t j = 0; j < i; j++) {
                    const struct param *q = &set->table.params[j];
                    const bool apart = p->offset >= q->offset + storage_bytes(q->format, q->count) ||
                                       q->offset >= p->offset + storage_bytes(p->format, p->count);
                    assert_true(apart ||
                                (param_is_divided(set, i) && param_is_divided(set, j) && p->layer != q->layer));
                }
            }
            home += param_set_value_sizes(set, 0).own - set->table.bytes;
            assert_true(param_set_value_sizes(set, 0).own < whole && model_weight_bytes(model) < before);
            least = model_weight_bytes(model) < least ? model_weight_bytes(model) : least;
        }
        /* All of it, once; each tensor with less than 256 bytes behind it. */
        assert_true(home >= matrices && home < matrices + 256 * (size_t)set->table.n_params);
    }
    assert_true(least + (matrices - layer) / 2 < before);
    set_up_share(0, 1, 1);
    assert_true(param_set_value_sizes(set, 0).own == whole && model_weight_bytes(model) == before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_owners), cmocka_unit_test(test_plan),
                                       cmocka_unit_test(test_divided), cmocka_unit_test(test_sums)};
    return cmocka_run_group_tests(tests, open_model, close_model);
}
