/* A step of sft against TRL's SFTTrainer (oracle/sft_trl.py): loss, entropy and token accuracy of a batch with gaps in
 * what is learned, the gradients by name of each loss, and the bins of TRL's packing. */
#include "support/model_test.h"

#include "recipe/best_fit.h"
#include "train/sft.h"

enum { MOST_ROWS = 8, MOST_TOKENS = 80 };

struct rows {
    int32_t tokens[MOST_ROWS][MOST_TOKENS];
    bool learned[MOST_ROWS][MOST_TOKENS];
    struct completion_tokens completions[MOST_ROWS];
    struct tree trees[MOST_ROWS];
    int32_t n;
};

/* Each row as sft_row_tree has it: a prompt up to the first token that is learned. */
static void read_rows(struct rows *rows, const json_t *json)
{
    rows->n = (int32_t)json_array_size(json);
    assert_true(rows->n > 0 && rows->n <= MOST_ROWS);
    for (int32_t i = 0; i < rows->n; i++) {
        const json_t *row = json_array_get(json, (size_t)i);
        int32_t n = read_ids(json_object_get(row, "tokens"), rows->tokens[i], MOST_TOKENS), first = 1;
        for (int32_t t = 0; t < n; t++)
            rows->learned[i][t] = json_is_true(json_array_get(json_object_get(row, "learned"), (size_t)t));
        while (first < n && !rows->learned[i][first])
            first++;
        rows->completions[i] = (struct completion_tokens){
            .tokens = rows->tokens[i] + first, .n_tokens = n - first, .sampled = rows->learned[i] + first};
        rows->trees[i] = (struct tree){
            .prompt = rows->tokens[i], .n_prompt = first, .completions = &rows->completions[i], .n_completions = 1};
    }
}

static void near(double got, const json_t *figures, const char *name, struct tally *tally, const char *what)
{
    const double want = json_number(figures, name);
    tally_add(tally, fabs(got - want) / (1e-3 + fabs(want)), what, name);
}

static void check_run(struct backend *backend, const char *isa, const char *name, const json_t *run,
                      const struct rows *rows, const struct safetensors *expected, struct tally *values,
                      struct tally *gradients)
{
    const json_t *figures = json_object_get(run, "figures"), *settings = json_object_get(run, "settings");
    const json_t *loss_type = json_object_get(settings, "loss_type"),
                 *smoothing = json_object_get(settings, "label_smoothing_factor");
    struct model_test test;
    struct metrics metrics = {0};
    struct sft_figures found;
    char what[80];
    cohort_error err = {0};
    model_test_open(&test, backend, "model_tied", DTYPE_F32);
    /* With beta1 = 0 and no clipping the first moment is the gradient. */
    struct sft sft = {.model = test.model,
                      .runner = &test.runner,
                      .optimizer = {.beta1 = 0.0f, .beta2 = 0.999f, .eps = 1e-8f},
                      .schedule.learning_rate = 1e-3,
                      .loss = loss_type != NULL ? SFT_LOSS_DFT : SFT_LOSS_NLL,
                      .label_smoothing = smoothing != NULL ? json_number_value(smoothing) : 0.0};
    test.runner.extras = sft_extras(&sft);
    model_test_plan(&test, 100, MOST_ROWS, DECODER_TRAIN, 0);
    snprintf(what, sizeof what, "%s, %s", name, isa);
    const struct sft_batch batch = {.trees = rows->trees, .n = rows->n};
    must(sft_evaluate(&sft, &batch, &found, &err), &err);
    near(found.loss, figures, "eval_loss", values, what);
    near(found.entropy, figures, "eval_entropy", values, what);
    near(found.accuracy, figures, "eval_mean_token_accuracy", values, what);
    must(sft_step(&sft, &batch, &metrics, &err), &err);
    assert_true(test.runner.packing.n_micro > 1);
    near(metrics_get(&metrics, "loss"), figures, "loss", values, what);
    near(metrics_get(&metrics, "entropy"), figures, "entropy", values, what);
    near(metrics_get(&metrics, "mean_token_accuracy"), figures, "mean_token_accuracy", values, what);
    near(metrics_get(&metrics, "grad_norm"), figures, "grad_norm", values, what);
    near(metrics_get(&metrics, "num_tokens"), figures, "num_tokens", values, what);
    assert_true(json_number(figures, "mean_token_accuracy") > 0.2);
    for (int32_t i = 0; i < test.model->base.table.n_params; i++) {
        const struct param *param = &test.model->base.table.params[i];
        const float *want = fixture_tensor(expected, param->count, "%s.%s", name, param->name);
        float *got = fetched(backend, param_state(test.model->trained, i, PARAM_STATE_EXP_AVG),
                             (size_t)param->count * sizeof(float));
        tally_add(gradients, relative_norm(got, want, param->count), what, param->name);
        free(got);
    }
    metrics_free(&metrics);
    sft_free(&sft);
    model_test_close(&test);
}

static void test_steps(void **state)
{
    (void)state;
    static struct rows rows;
    json_t *cases = load_json(FIXTURES "sft/cases.json");
    struct safetensors expected = {0};
    cohort_error err = {0};
    /* Both sides sum 10^2 to 10^4 float products a number, in another order. */
    struct tally values = {.what = "values", .tolerance = 1e-6}, gradients = {.what = "gradients", .tolerance = 1e-5};
    const char *name, *isa;
    json_t *run;
    must(safetensors_open(&expected, FIXTURES "sft/gradients.safetensors", &err), &err);
    read_rows(&rows, json_object_get(cases, "rows"));
    for (size_t i = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i)) != NULL; i++) {
        struct backend *backend = backend_here(isa, 2);
        if (backend == NULL)
            continue;
        json_object_foreach(json_object_get(cases, "runs"), name, run)
            check_run(backend, isa, name, run, &rows, &expected, &values, &gradients);
        backend_destroy(backend);
    }
    tally_report(&values);
    tally_report(&gradients);
    safetensors_close(&expected);
    json_decref(cases);
}

/* Bins of TRL's: the same rows in the same order. TRL packs each thousand rows for itself; so does sft_rows.c. */
static void test_packing(void **state)
{
    (void)state;
    json_t *cases = load_json(FIXTURES "sft/cases.json"), *packing;
    size_t i;
    json_array_foreach(json_object_get(cases, "packings"), i, packing)
    {
        const json_t *lengths = json_object_get(packing, "lengths"), *bins = json_object_get(packing, "bins");
        const int32_t room = (int32_t)json_number(packing, "room");
        const size_t n = json_array_size(lengths);
        int32_t *length = calloc(n, sizeof *length);
        uint32_t order[BEST_FIT_WINDOW], begin[BEST_FIT_WINDOW + 1];
        size_t bin = 0;
        assert_non_null(length);
        assert_int_equal(read_ids(lengths, length, n), n);
        for (size_t first = 0; first < n; first += BEST_FIT_WINDOW) {
            const size_t here = n - first < BEST_FIT_WINDOW ? n - first : BEST_FIT_WINDOW;
            size_t n_bins = 0;
            assert_int_equal(best_fit_pack(length + first, here, room, order, begin, &n_bins, NULL), COHORT_OK);
            begin[n_bins] = (uint32_t)here;
            for (size_t b = 0; b < n_bins; b++, bin++) {
                const json_t *want = json_array_get(bins, bin);
                assert_int_equal(json_array_size(want), begin[b + 1] - begin[b]);
                for (uint32_t k = begin[b]; k < begin[b + 1]; k++)
                    assert_int_equal(json_integer_value(json_array_get(want, k - begin[b])), first + order[k]);
            }
        }
        assert_int_equal(bin, json_array_size(bins));
        free(length);
    }
    assert_int_equal(i, 5);
    json_decref(cases);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps), cmocka_unit_test(test_packing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
