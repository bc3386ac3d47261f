/* Steps of distillation against TRL's DistillationTrainer (oracle/distill_trl.py): loss, metrics and the gradients by name
 * for each divergence and temperature, the loss of an evaluation, and metrics and weights of twenty steps. */
#include "support/preference_test.h"

#include "train/grpo.h"

enum { BATCH = 6, MOST_PROMPT = 24, MOST_COMPLETION = 16 };

struct script {
    int32_t prompt[BATCH][MOST_PROMPT], tokens[BATCH][MOST_COMPLETION];
    struct grpo_prompt prompts[BATCH];
    struct episode episodes[BATCH];
    struct completion completions[BATCH];
    struct grpo_row rows[BATCH];
    float logp[BATCH][MOST_COMPLETION];
};

static void script_read(struct script *s, const json_t *round)
{
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < BATCH; i++) {
        const json_t *prompt = json_array_get(json_object_get(round, "prompts"), i),
                     *completion = json_array_get(json_object_get(round, "completions"), i);
        const int32_t n = read_ids(completion, s->tokens[i], MOST_COMPLETION);
        const enum finish_reason end = n == MOST_COMPLETION ? FINISH_LENGTH : FINISH_EOS;
        s->prompts[i] = (struct grpo_prompt){
            .tokens = s->prompt[i], .n_tokens = read_ids(prompt, s->prompt[i], MOST_PROMPT), .id = i};
        s->episodes[i] = (struct episode){.n_tokens = n, .n_sampled = n, .tokens = s->tokens[i], .finish_reason = end};
        s->completions[i] = (struct completion){
            .tokens = s->tokens[i], .n_tokens = n, .logp = s->logp[i], .entropy = s->logp[i], .finish_reason = end};
        s->rows[i] = (struct grpo_row){.prompt = &s->prompts[i], .episode = &s->episodes[i], .fresh = true};
    }
}

/* A student with its teacher, in micro-batches of so many tokens. */
struct pair {
    struct model_test student;
    struct model *model;
    struct teacher teacher;
    struct arena kept, passing;
    struct grpo grpo;
};

static void pair_open(struct pair *p, struct backend *backend, const json_t *settings, int64_t tokens,
                      enum decoder_mode mode)
{
    cohort_error err = {0};
    const json_t *beta = json_object_get(settings, "beta"), *temperature = json_object_get(settings, "temperature");
    memset(p, 0, sizeof *p);
    model_test_open(&p->student, backend, "model_tied", DTYPE_F32);
    must(model_load(&p->model, backend, FIXTURES "distill/teacher", DTYPE_F32, 0, &err), &err);
    p->teacher = (struct teacher){.model = p->model, .beta = beta == NULL ? 1.0f : (float)json_number_value(beta)};
    p->student.runner.extras.compare = true;
    p->student.runner.logits_bytes = 1; /* the least rows of logits at once, fewer than there are */
    model_test_plan(&p->student, tokens, BATCH, mode, 7);
    for (int pass = 0; pass < 2; pass++) {
        must(teacher_plan(&p->teacher, &p->student.runner, &p->kept, &p->passing, tokens, BATCH, &err), &err);
        if (pass == 0) {
            must(arena_allocate(&p->kept, backend, "test", &err), &err);
            must(arena_allocate(&p->passing, backend, "test", &err), &err);
        }
    }
    p->grpo = (struct grpo){
        .model = p->student.model,
        .runner = &p->student.runner,
        .teacher = &p->teacher,
        .optimizer = {.beta1 = 0.0f, .beta2 = 0.999f, .eps = 1e-8f},
        .config = {.group = 1,
                   .schedule.learning_rate = 1e-3,
                   .sampling.temperature = temperature == NULL ? 1.0f : (float)json_number_value(temperature)}};
}

static void pair_close(struct pair *p)
{
    teacher_free(&p->teacher);
    arena_release(&p->kept, p->student.backend);
    arena_release(&p->passing, p->student.backend);
    model_destroy(p->model);
    model_test_close(&p->student);
}

/* Those of the metrics that the rows of a step make; lengths are made by the batch. */
static void compare_step(const struct metrics *metrics, const json_t *figures, bool accumulated, struct tally *tally,
                         const char *what)
{
    static const char *const names[] = {"loss", "grad_norm", "entropy", "learning_rate"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const double want = json_number(figures, names[i]);
        /* TRL's is the mean of its micro-batches', not of all tokens; the evaluation's is that of all. */
        if (accumulated && strcmp(names[i], "entropy") == 0)
            continue;
        tally_add(tally, fabs(metrics_get(metrics, names[i]) - want) / (0.1 + fabs(want)), what, names[i]);
    }
}

static void check_run(struct backend *backend, const char *isa, int64_t tokens, enum decoder_mode mode,
                      const char *name, const json_t *run, const json_t *cases, struct script *script,
                      const struct safetensors *expected, struct tally *values, struct tally *gradients)
{
    const json_t *eval = json_object_get(run, "eval");
    const bool accumulated = strcmp(name, "accumulated") == 0;
    bool whole = false;
    struct pair p;
    struct metrics metrics = {0};
    struct grpo_divergence held_out;
    char what[100];
    cohort_error err = {0};
    for (size_t i = 0; i < json_array_size(json_object_get(cases, "whole")); i++)
        whole = whole || strcmp(json_string_value(json_array_get(json_object_get(cases, "whole"), i)), name) == 0;
    pair_open(&p, backend, json_object_get(run, "settings"), tokens, mode);
    snprintf(what, sizeof what, "%s, %s, %lld tokens", name, isa, (long long)tokens);
    must(grpo_measure(&p.grpo, script->prompts, BATCH, 1, script->completions, &held_out, &err), &err);
    tally_add(values, fabs(held_out.loss - json_number(eval, "loss")) / (0.1 + json_number(eval, "loss")), what,
              "eval_loss");
    tally_add(values, fabs(held_out.entropy - json_number(eval, "entropy")) / (0.1 + json_number(eval, "entropy")),
              what, "eval_entropy");
    must(grpo_train(&p.grpo, script->rows, BATCH, &metrics, &err), &err);
    assert_int_equal(p.student.runner.packing.n_micro > 1, tokens < 200);
    assert_string_equal(p.grpo.warning, "");
    compare_step(&metrics, json_object_get(run, "figures"), accumulated, values, what);
    compare_gradients(&p.student, name, whole ? 1 : (int64_t)json_number(cases, "stride"),
                      (int64_t)json_number(cases, "least"), expected, gradients, what);
    metrics_free(&metrics);
    pair_close(&p);
}

static void test_divergences(void **state)
{
    (void)state;
    static struct script script;
    json_t *cases = load_json(FIXTURES "distill/cases.json"), *run;
    struct safetensors expected = {0};
    cohort_error err = {0};
    struct tally values = {.what = "values", .tolerance = 1e-5}, gradients = {.what = "gradients", .tolerance = 1e-5};
    const char *name, *isa;
    size_t n = 0;
    must(safetensors_open(&expected, FIXTURES "distill/gradients.safetensors", &err), &err);
    script_read(&script, json_array_get(json_object_get(cases, "rounds"), 0));
    for (size_t i = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i)) != NULL; i++) {
        struct backend *backend = backend_here(isa, 2);
        if (backend == NULL)
            continue;
        json_object_foreach(json_object_get(cases, "runs"), name, run)
        {
            if (test_options.small && strcmp(name, "cool") != 0 && strcmp(name, "forward") != 0)
                continue;
            if (!test_options.small)
                check_run(backend, isa, 300, DECODER_TRAIN, name, run, cases, &script, &expected, &values, &gradients);
            check_run(backend, isa, 60, DECODER_RECOMPUTE, name, run, cases, &script, &expected, &values, &gradients);
            n++;
        }
        backend_destroy(backend);
    }
    assert_true(n >= 2);
    tally_report(&values);
    tally_report(&gradients);
    safetensors_close(&expected);
    json_decref(cases);
}

/* By tensor, the difference of the weights as a share of how far the tensor has moved. */
static void test_twenty(void **state)
{
    (void)state;
    static struct script script;
    json_t *cases = load_json(FIXTURES "distill/cases.json"), *run, *step;
    struct tally values = {.what = "metrics", .tolerance = 5e-5}, weights = {.what = "weights", .tolerance = 2e-3};
    struct backend *backend = backend_here(test_provider(test_isas, N_TEST_ISAS, 0), 2);
    const char *name;
    cohort_error err = {0};
    assert_non_null(backend);
    json_object_foreach(json_object_get(cases, "twenty"), name, run)
    {
        struct safetensors expected = {0};
        struct model_test start;
        struct pair p;
        char path[256], what[64];
        size_t i;
        snprintf(path, sizeof path, FIXTURES "distill/%s.safetensors", name);
        must(safetensors_open(&expected, path, &err), &err);
        model_test_open(&start, backend, "model_tied", DTYPE_F32);
        pair_open(&p, backend, json_object_get(run, "settings"), 60, DECODER_TRAIN);
        p.grpo.optimizer = (struct optimizer){.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .max_grad_norm = 1.0};
        json_array_foreach(json_object_get(run, "steps"), i, step)
        {
            struct metrics metrics = {0};
            if (test_options.small && i == 2)
                break;
            script_read(&script, json_array_get(json_object_get(cases, "rounds"), i));
            snprintf(what, sizeof what, "%s, step %d", name, (int)i + 1);
            must(grpo_train(&p.grpo, script.rows, BATCH, &metrics, &err), &err);
            compare_step(&metrics, step, false, &values, what);
            metrics_free(&metrics);
        }
        assert_int_equal(i, test_options.small ? 2 : 20);
        snprintf(what, sizeof what, "%s, after twenty steps", name);
        if (!test_options.small)
            compare_weights(p.student.model, start.model, "", 1, INT64_MAX, &expected, &weights, what);
        pair_close(&p);
        model_test_close(&start);
        safetensors_close(&expected);
    }
    backend_destroy(backend);
    tally_report(&values);
    if (!test_options.small)
        tally_report(&weights);
    json_decref(cases);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_divergences), cmocka_unit_test(test_twenty)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
