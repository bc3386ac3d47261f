/* Episodes of sampled runs with tokens from outside between them: only what was sampled is trained, and what is sampled
 * behind tokens from outside has the log-probs and entropies that training computes for it, bit for bit (invariant I2).
 *
 * The gradient of a GRPO step is compared with one by hand: every token of the episodes enters the head, and those from
 * outside get a derivative of 0. It is read from the first moment: with beta1 = 0 and no clipping the optimizer leaves
 * the gradient itself there. */
#include "support/engine_test.h"
#include "support/model_test.h"

#include "train/grpo.h"

enum { N_PROMPTS = 2, GROUP = 3, N_ROWS = N_PROMPTS * GROUP, MAX_IDS = 64, TURN = 6, MAX_FED = 400 };

static const float temperature = 0.9f;
static const char fixture[] = "model_tied";

/* What comes from outside ahead of each sampled run, and behind the last; 0: nothing. */
static const int32_t outside[GROUP][4] = {{0, 3, 0, 0}, {4, 0, 2, 5}, {0, 70, 1, 0}};
enum { N_TURNS = 3 };

struct rows {
    int32_t prompt[N_PROMPTS][MAX_IDS];
    struct grpo_prompt prompts[N_PROMPTS];
    struct episode episodes[N_ROWS];
    float advantage[N_ROWS];
};

static int32_t id_of(int32_t i) { return (i * 37 + 11) % 90; }

/* ---- Sampling: every turn is a request whose prompt is all that came before ---- */

static struct completion complete(struct engine *engine, const struct grpo_prompt *prompt, const struct episode *e,
                                  uint64_t stream)
{
    cohort_error err = {0};
    int32_t ids[4 * MAX_IDS];
    int64_t id = 0;
    struct completion c;
    assert_true(prompt->n_tokens + e->n_tokens <= 4 * MAX_IDS);
    memcpy(ids, prompt->tokens, (size_t)prompt->n_tokens * sizeof *ids);
    if (e->n_tokens > 0)
        memcpy(ids + prompt->n_tokens, e->tokens, (size_t)e->n_tokens * sizeof *ids);
    must(engine_submit(engine,
                       &(struct engine_request){.prompt = ids,
                                                .n_prompt = prompt->n_tokens + e->n_tokens,
                                                .n = 1,
                                                .sampling = {.temperature = temperature},
                                                .stream = stream,
                                                .max_tokens = TURN},
                       &id, &err),
         &err);
    for (bool busy = true; busy;)
        must(engine_step(engine, &busy, &err), &err);
    assert_true(engine_poll(engine, &c));
    assert_int_equal(c.n_tokens, TURN);
    return c;
}

static void add_outside(struct episode *e, int32_t n)
{
    cohort_error err = {0};
    int32_t ids[MAX_FED];
    for (int32_t i = 0; i < n; i++)
        ids[i] = id_of(e->n_tokens + 5 * i);
    must(episode_append_outside(e, ids, n, &err), &err);
}

static void sample_rows(struct rows *rows, struct model *model)
{
    const struct engine_config config = {.max_sequences = 4, .n_pages = 32, .prefill_tokens = 50, .max_context = 256};
    struct engine *engine = NULL;
    struct arena arena;
    cohort_error err = {0};
    memset(rows, 0, sizeof *rows);
    test_engine_open(&engine, &arena, model, &config);
    for (int32_t p = 0; p < N_PROMPTS; p++) {
        const int32_t n = 10 + 50 * p;
        for (int32_t i = 0; i < n; i++)
            rows->prompt[p][i] = id_of(i + p);
        rows->prompts[p] = (struct grpo_prompt){.tokens = rows->prompt[p], .n_tokens = n};
    }
    for (int32_t i = 0; i < N_ROWS; i++) {
        struct episode *e = &rows->episodes[i];
        for (int32_t turn = 0; turn < N_TURNS; turn++) {
            add_outside(e, outside[i % GROUP][turn]);
            struct completion c = complete(engine, &rows->prompts[i / GROUP], e, (uint64_t)(10 * i + turn));
            must(episode_append_completion(e, &c, &err), &err);
            completion_free(&c);
        }
        add_outside(e, outside[i % GROUP][N_TURNS]);
        assert_int_equal(e->n_sampled, N_TURNS * TURN);
        assert_true(episode_truncated(e));
        rows->advantage[i] = 0.4f * (float)i - 0.9f;
    }
    test_engine_close(engine, &arena, model);
}

static void rows_free(struct rows *rows)
{
    for (int32_t i = 0; i < N_ROWS; i++)
        episode_free(&rows->episodes[i]);
}

/* The episodes as trees; all: every token is wanted. */
static void make_trees(struct rows *rows, bool all, struct completion_tokens *branches, struct tree *trees)
{
    for (int32_t i = 0; i < N_ROWS; i++) {
        branches[i] = episode_tokens(&rows->episodes[i]);
        if (all)
            branches[i].sampled = NULL;
        assert_int_equal(completion_outputs(&branches[i]),
                         all ? rows->episodes[i].n_tokens : rows->episodes[i].n_sampled);
    }
    for (int32_t p = 0; p < N_PROMPTS; p++)
        trees[p] = (struct tree){.prompt = rows->prompt[p],
                                 .n_prompt = rows->prompts[p].n_tokens,
                                 .completions = branches + p * GROUP,
                                 .n_completions = GROUP};
}

/* ---- Log-probs ---- */

static void expect_recorded(struct model_test *test, struct rows *rows)
{
    float logp[N_ROWS][MAX_FED], entropy[N_ROWS][MAX_FED], *logp_of[N_ROWS], *entropy_of[N_ROWS];
    struct completion_tokens branches[N_ROWS];
    struct tree trees[N_PROMPTS];
    cohort_error err = {0};
    for (int i = 0; i < N_ROWS; i++) {
        logp_of[i] = logp[i];
        entropy_of[i] = entropy[i];
    }
    make_trees(rows, false, branches, trees);
    must(tree_runner_score(&test->runner, test->model, trees, N_PROMPTS, temperature, logp_of, entropy_of, &err), &err);
    for (int i = 0; i < N_ROWS; i++) {
        const struct episode *e = &rows->episodes[i];
        assert_memory_equal(logp[i], e->logp, (size_t)e->n_sampled * sizeof(float));
        assert_memory_equal(entropy[i], e->entropy, (size_t)e->n_sampled * sizeof(float));
    }
    /* Asked for every token, those that were sampled among them. */
    make_trees(rows, true, branches, trees);
    must(tree_runner_score(&test->runner, test->model, trees, N_PROMPTS, temperature, logp_of, NULL, &err), &err);
    for (int i = 0; i < N_ROWS; i++) {
        const struct episode *e = &rows->episodes[i];
        for (int32_t t = 0, s = 0; t < e->n_tokens; t++)
            if (e->sampled[t])
                assert_memory_equal(&logp[i][t], &e->logp[s++], sizeof(float));
    }
}

/* ---- Gradients ---- */

/* The step's gradient is left in the first moment. */
static void take_step(struct model_test *test, struct rows *rows, enum loss_type type, struct metrics *metrics)
{
    double rewards[N_ROWS] = {0};
    float reward[N_ROWS] = {0};
    cohort_error err = {0};
    struct grpo_batch batch = {.n_prompts = N_PROMPTS,
                               .n = N_ROWS,
                               .episodes = rows->episodes,
                               .rewards = rewards,
                               .reward = reward,
                               .advantage = rows->advantage};
    struct grpo grpo = {
        .model = test->model,
        .runner = &test->runner,
        .optimizer = {.beta1 = 0.0f, .beta2 = 0.999f, .eps = 1e-8f},
        .config = {.group = GROUP,
                   .plan = {1, 1, 1},
                   .sampling = {.temperature = temperature},
                   .loss = {.type = type, .epsilon = 0.2, .epsilon_high = 0.2, .max_completion_length = MAX_IDS}}};
    must(grpo_update(&grpo, rows->prompts, N_PROMPTS, &batch, 0, metrics, &err), &err);
    assert_true(metrics_get(metrics, "skipped_steps") == 0);
}

/* The weight of a sampled token by its definition; all episodes have as many. */
static double weight_of(enum loss_type type)
{
    const double tokens = N_TURNS * TURN;
    return type == LOSS_DR_GRPO ? 1.0 / (N_ROWS * (double)MAX_IDS) : 1.0 / (N_ROWS * tokens);
}

/* -A w for sampled tokens (their ratio is 1), 0 for the others unless trained. Returns the loss. */
static double by_hand(struct model_test *test, struct rows *rows, enum loss_type type, bool trained)
{
    struct tree_runner *runner = &test->runner;
    struct completion_tokens branches[N_ROWS];
    struct tree trees[N_PROMPTS];
    cohort_error err = {0};
    double loss = 0.0;
    int32_t row = 0;
    make_trees(rows, true, branches, trees);
    must(packing_split(&runner->packing, trees, N_PROMPTS, runner->max_tokens, runner->max_outputs - runner->max_tokens,
                       &err),
         &err);
    zero_grad(test);
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        must(packed_build(&runner->packed, trees, &runner->packing, m, &err), &err);
        tree_runner_forward(runner, test->model, temperature);
        for (int32_t c = 0; c < runner->packed.n_completions; c++, row++) {
            const struct episode *e = &rows->episodes[row];
            float d_logp[MAX_FED];
            for (int32_t t = 0; t < e->n_tokens; t++) {
                const double share = -(double)rows->advantage[row] * weight_of(type);
                d_logp[t] = e->sampled[t] || trained ? (float)share : 0.0f;
                loss += e->sampled[t] ? share : 0.0;
            }
            packed_scatter(&runner->packed, c, e->n_tokens, d_logp, runner->d_logp);
        }
        tree_runner_backward(runner, test->model, temperature, false);
    }
    assert_int_equal(row, N_ROWS);
    return loss;
}

/* Of all tensors' gradients of b by hand against the step's in a; the largest relative difference. */
static double largest_difference(const struct model_test *a, const struct model_test *b)
{
    double largest = 0.0;
    const struct param_set *set = &a->model->base;
    for (int32_t i = 0; i < set->table.n_params; i++) {
        const struct param *param = &set->table.params[i];
        const size_t bytes = (size_t)param->count * sizeof(float);
        float *got = fetched(a->backend, param_state(set, i, PARAM_STATE_EXP_AVG), bytes);
        float *want = fetched_grad(b->model, &b->model->base.table.params[i]);
        largest = fmax(largest, relative_norm(got, want, param->count));
        free(got);
        free(want);
    }
    return largest;
}

static double mean_entropy(const struct rows *rows)
{
    double sum = 0.0;
    for (int i = 0; i < N_ROWS; i++)
        for (int32_t t = 0; t < rows->episodes[i].n_sampled; t++)
            sum += (double)rows->episodes[i].entropy[t];
    return sum / (N_ROWS * N_TURNS * TURN);
}

static void check(struct backend *backend, enum loss_type type, int64_t max_tokens)
{
    struct model_test step, hand;
    struct metrics metrics = {0};
    struct rows rows;
    model_test_open(&step, backend, fixture, DTYPE_F32);
    model_test_open(&hand, backend, fixture, DTYPE_F32);
    model_test_plan(&step, max_tokens, N_ROWS, DECODER_TRAIN, 0);
    model_test_plan(&hand, 2 * MAX_FED, N_ROWS, DECODER_TRAIN, 0);
    sample_rows(&rows, step.model);
    expect_recorded(&hand, &rows);
    take_step(&step, &rows, type, &metrics);
    const double loss = by_hand(&hand, &rows, type, false);
    assert_true(fabs(metrics_get(&metrics, "loss") - loss) < 1e-6 * fabs(loss) + 1e-9);
    assert_true(fabs(metrics_get(&metrics, "entropy") - mean_entropy(&rows)) < 1e-6);
    assert_true(metrics_get(&metrics, "sampling/sampling_logp_difference/max") == 0.0);
    const double difference = largest_difference(&step, &hand);
    print_message("loss type %d: gradients differ by %.1e (1e-6)\n", (int)type, difference);
    assert_true(difference < 1e-6);
    (void)by_hand(&hand, &rows, type, true);
    assert_true(largest_difference(&step, &hand) > 0.05); /* the tokens from outside would have had a say */
    metrics_free(&metrics);
    rows_free(&rows);
    model_test_close(&step);
    model_test_close(&hand);
}

static void test_only_sampled_tokens_are_trained(void **state)
{
    (void)state;
    const char *isa;
    for (size_t i = 0; (isa = test_provider(test_isas, N_TEST_ISAS, i)) != NULL; i++) {
        struct backend *backend = backend_here(isa, 2);
        if (backend == NULL)
            continue;
        check(backend, LOSS_DAPO, 2 * MAX_FED);
        if (!test_options.small) {
            check(backend, LOSS_GRPO, 200); /* several micro-batches */
            check(backend, LOSS_DR_GRPO, 2 * MAX_FED);
        }
        backend_destroy(backend);
    }
}

/* Runs at the ends: what is not wanted and comes last is not fed, an episode without a sampled token has no output. */
static void test_packing(void **state)
{
    (void)state;
    static const int32_t ids[] = {1, 2, 3, 4, 5};
    static const bool first[] = {true, false, false, false, false}, last[] = {false, false, false, false, true},
                      middle[] = {false, true, false, true, false}, none[5] = {false};
    static const bool *const sampled[] = {first, last, middle, none};
    static const int32_t fed[] = {0, 4, 3, 0}, outputs[] = {1, 1, 2, 0};
    struct packing packing = {0};
    struct packed packed = {0};
    cohort_error err = {0};
    for (int i = 0; i < 4; i++) {
        const struct completion_tokens c = {.tokens = ids, .n_tokens = 5, .sampled = sampled[i]};
        const struct tree tree = {.prompt = ids, .n_prompt = 2, .completions = &c, .n_completions = 1};
        float values[2] = {0}, of_outputs[5];
        must(packing_split(&packing, &tree, 1, 100, 1, &err), &err);
        must(packed_build(&packed, &tree, &packing, 0, &err), &err);
        assert_int_equal(completion_outputs(&c), outputs[i]);
        assert_int_equal(packed.batch.n_tokens, 2 + fed[i]);
        assert_int_equal(packed.outputs.count, outputs[i]);
        for (int32_t o = 0; o < packed.outputs.count; o++) {
            /* A token's id tells its place; the row ahead of it predicts it. */
            assert_int_equal(packed.outputs.row[o], packed.outputs.target[o]);
            assert_true(sampled[i][packed.outputs.target[o] - 1]);
            of_outputs[o] = (float)packed.outputs.target[o];
        }
        packed_gather(&packed, 0, outputs[i], of_outputs, values);
        for (int32_t t = 0, o = 0; t < 5; t++)
            if (sampled[i][t])
                assert_true(values[o++] == (float)ids[t]);
        packed_scatter(&packed, 0, outputs[i], (const float[]){7.0f, 8.0f}, of_outputs);
        for (int32_t o = 0; o < outputs[i]; o++)
            assert_true(of_outputs[o] == 7.0f + (float)o);
    }
    packed_free(&packed);
    packing_free(&packing);
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_packing),
                                       cmocka_unit_test(test_only_sampled_tokens_are_trained)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
