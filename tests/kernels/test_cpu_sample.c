/* What the CPU backend does to logits before a draw, on every instruction set: penalties and filters leave the
 * distributions of MLX-LM's own test vectors, of llama.cpp's, and those that MLX-LM computed. (Draws, on both backends:
 * test_sample.c.) */
#include "kernels/isa_test.h"
#include "kernels/sample_test.h"

typedef cohort_status process_fn(const struct sample_row *, float *, int64_t, struct sample_scratch *);
typedef cohort_status filter_fn(const struct sample_row *, float *, int64_t, struct sample_scratch *, bool *);
static process_fn *const process[] = OPERATION(sample_process);
static filter_fn *const filter[] = OPERATION(sample_filter);

/* probs = softmax of what the filters leave of logits, divided by the temperature. */
static void distribution(int isa, const struct sample_row *row, const float *logits, int n, double *probs)
{
    struct sample_scratch scratch = {0};
    float *left = guarded((size_t)n * sizeof *left);
    memcpy(left, logits, (size_t)n * sizeof *left);
    bool valid = false;
    assert_int_equal(filter[isa](row, left, n, &scratch, &valid), COHORT_OK);
    assert_true(valid);
    double max = -INFINITY;
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        max = (double)left[i] > max ? (double)left[i] : max;
    for (int i = 0; i < n; i++) {
        probs[i] = exp(((double)left[i] - max) / (double)temperature_left(row->params));
        sum += probs[i];
    }
    for (int i = 0; i < n; i++)
        probs[i] /= sum;
    guarded_free(left, (size_t)n * sizeof *left);
    scratch_free(&scratch);
}

static void test_vectors(void **state)
{
    (void)state;
    EACH_ISA(isa)
    for (int v = 0; v < N_VECTORS; v++) {
        const struct vector *test = &vectors[v];
        float logits[5];
        double probs[5];
        const struct sampling_params params = vector_params(test, logits);
        const struct sample_row row = {.params = &params, .seed = 5};
        distribution(isa, &row, logits, test->n, probs);
        for (int i = 0; i < test->n; i++)
            if (!(fabs(probs[i] - test->out[i]) < 1e-6))
                fail_msg("%s (%d): probability %d is %.7f, expected %.7f", test->name, v, i, probs[i], test->out[i]);
    }
}

/* The XTC coin falls by its probability, and is a function of (seed, stream, position). */
static void test_xtc_coin(void **state)
{
    (void)state;
    const float logits[2] = {1.0f, 0.5f};
    struct sampling_params params = plain_params();
    params.xtc_probability = 0.25f;
    params.xtc_threshold = 0.1f;
    EACH_ISA(isa)
    {
        int applied = 0;
        for (uint64_t i = 0; i < 1000; i++) {
            struct sample_row row = {.params = &params, .seed = 1, .stream = i % 10, .position = i / 10};
            double probs[2];
            distribution(isa, &row, logits, 2, probs);
            applied += probs[0] == 0.0;
        }
        assert_in_range(applied, 250 - 41, 250 + 41); /* three standard deviations of 13.7 */
    }
}

static void check_processed(int isa, const struct sampling_params *params, const int32_t *history, int n_history,
                            const float *in, const float *out, int n)
{
    struct sample_scratch scratch = {0};
    struct sample_row row = {.params = params, .history = history, .n_history = n_history};
    float *logits = guarded((size_t)n * sizeof *logits);
    memcpy(logits, in, (size_t)n * sizeof *logits);
    assert_int_equal(process[isa](&row, logits, n, &scratch), COHORT_OK);
    for (int i = 0; i < n; i++)
        expect_near((double)logits[i], (double)out[i], DTYPE_F32, 1.0 + fabs((double)out[i]), 2e-7);
    guarded_free(logits, (size_t)n * sizeof *logits);
    scratch_free(&scratch);
}

static void test_penalty_vectors(void **state)
{
    (void)state;
    const int32_t history[5] = {0, 0, 0, 1, 1};
    const float zeros[4] = {0};
    EACH_ISA(isa)
    {
        struct sampling_params params = plain_params();
        params.presence_penalty = .5f;
        check_processed(isa, &params, history, 5, zeros, (float[]){-.5f, -.5f, 0, 0}, 4);
        params = plain_params();
        params.frequency_penalty = .5f;
        check_processed(isa, &params, history, 5, zeros, (float[]){-1.5f, -1.f, 0, 0}, 4);
        params.frequency_context = 3; /* the last three: 0, 1, 1 */
        check_processed(isa, &params, history, 5, zeros, (float[]){-.5f, -1.f, 0, 0}, 4);
        params.frequency_context = 0; /* all */
        check_processed(isa, &params, history, 5, zeros, (float[]){-1.5f, -1.f, 0, 0}, 4);
        /* All three: their order shows. */
        params = plain_params();
        params.repetition_penalty = 1.5f;
        params.presence_penalty = .5f;
        params.frequency_penalty = .25f;
        check_processed(isa, &params, history, 5, (float[]){1.f, .5f, 0, -.5f},
                        (float[]){-.58333333f, -.66666667f, 0, -.5f}, 4);
        /* A negative logit is multiplied; no history, no change; bias first; ids out of range are
         * skipped. */
        const int32_t odd[4] = {3, -1, 99, 3};
        check_processed(isa, &params, odd, 4, (float[]){1.f, .5f, 0, -.5f}, (float[]){1.f, .5f, 0, -1.75f}, 4);
        check_processed(isa, &params, NULL, 0, (float[]){1.f, .5f, 0, -.5f}, (float[]){1.f, .5f, 0, -.5f}, 4);
        params.bias_id = (const int32_t[]){3, 7, -2};
        params.bias = (const float[]){1.5f, 9.f, 9.f};
        params.n_bias = 3;
        check_processed(isa, &params, odd, 1, (float[]){1.f, .5f, 0, -.5f}, (float[]){1.f, .5f, 0, -.08333333f}, 4);
    }
}

static void test_against_others(void **state)
{
    (void)state;
    for (int file = 0; file < N_SAMPLER_FILES; file++) {
        const json_t *cases;
        json_t *root = sampler_load(file, &cases);
        EACH_ISA(isa)
        for (size_t k = 0; k < json_array_size(cases); k++) {
            struct mlx_case c;
            double probs[MLX_MOST];
            mlx_case_read(json_array_get(cases, k), &c);
            const struct sample_row row = {.params = &c.params, .history = c.history, .n_history = c.n_history};
            check_processed(isa, &c.params, c.history, c.n_history, c.logits, c.processed, c.n);
            distribution(isa, &row, c.processed, c.n, probs);
            for (int i = 0; i < c.n; i++)
                if (!(fabs(probs[i] - c.probs[i]) <= 3e-6) || (probs[i] > 1e-30) != (c.probs[i] > 1e-30))
                    fail_msg("%s, case %zu: probability %d is %.8g, expected %.8g", sampler_files[file].path, k, i,
                             probs[i], c.probs[i]);
        }
        json_decref(root);
    }
}

/* On 20,000 logits: the top-k set is the k largest; the top-p set is the shortest prefix of the
 * sorted probabilities that reaches p. */
static void test_large_filters(void **state)
{
    (void)state;
    enum { N = 20000 };
    static float logits[N], sorted[N];
    static double probs[N];
    const double spread[] = {0.001, 3.0, 60.0}; /* in one bin, over many, and beyond the last */
    for (int s = 0; s < 3; s++) {
        const double last_place = s < 2 ? 1e-6 : 8e-6; /* of a log-prob down to -16, to -128 */
        fill(logits, DTYPE_F32, N, 60, spread[s]);
        memcpy(sorted, logits, sizeof logits);
        qsort(sorted, N, sizeof *sorted, descending);
        double whole = 0.0;
        for (int i = 0; i < N; i++)
            whole += exp((double)(sorted[i] - sorted[0]));
        EACH_ISA(isa)
        {
            const int ks[] = {1, 7, 1000, N - 1};
            for (int k = 0; k < 4; k++) {
                struct sampling_params params = plain_params();
                params.temperature = 50.0f; /* so that nothing kept vanishes */
                params.top_k = ks[k];
                struct sample_row row = {.params = &params};
                distribution(isa, &row, logits, N, probs);
                int kept = 0;
                for (int i = 0; i < N; i++) {
                    kept += probs[i] > 0.0;
                    /* Ranked by log-prob: two logits closer than its last place may tie. */
                    double above = (double)(logits[i] - sorted[ks[k] - 1]);
                    assert_true(probs[i] > 0.0 ? above >= -last_place : above <= last_place);
                }
                assert_int_equal(kept, ks[k]);
            }
            const float ps[] = {0.01f, 0.5f, 0.95f, 0.999f};
            for (int k = 0; k < 4; k++) {
                struct sampling_params params = plain_params();
                params.temperature = 50.0f;
                params.top_p = ps[k];
                struct sample_row row = {.params = &params};
                distribution(isa, &row, logits, N, probs);
                double mass = 0.0;
                float least = INFINITY;
                for (int i = 0; i < N; i++)
                    if (probs[i] > 0.0) {
                        mass += exp((double)(logits[i] - sorted[0])) / whole;
                        least = logits[i] < least ? logits[i] : least;
                    }
                /* Those that do not tie with the last one are not enough. */
                double better = 0.0;
                for (int i = 0; (double)(sorted[i] - least) > last_place; i++)
                    better += exp((double)(sorted[i] - sorted[0])) / whole;
                assert_true(mass >= (double)ps[k] * (1.0 - 1e-5));
                assert_true(better < (double)ps[k] * (1.0 + 1e-5));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),         cmocka_unit_test(test_xtc_coin),
        cmocka_unit_test(test_penalty_vectors), cmocka_unit_test(test_against_others),
        cmocka_unit_test(test_large_filters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
