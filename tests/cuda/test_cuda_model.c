/* The whole decoder on the GPU beside the CPU, at the head sizes that have kernels of their own: log-probs, entropies
 * and the gradient of every tensor, in trees with shared prompts whose keys cross several splits of attention.
 *
 * In fp32 both must say the same. In bf16 both round the same quantities to 8 bits, at other moments of a sum, so
 * neither is right: what is compared is how far each is from the fp32 result on the same (bf16) weights, tensor by
 * tensor. The errors are many roundings of equal size, so the norms of the two differences are nearly equal (two
 * instruction sets of the CPU: a factor of 0.9 to 1.15); the GPU rounds two quantities more (probabilities and the
 * gradients of scores, before their products), so 1.5 is allowed. A key left out, a row taken twice or a missing factor
 * is far beyond it: the errors are about 1 %. */
#include "support/model_test.h"
#include "support/tiny_model.h"

#include "base/file.h"
#include "base/rng.h"

enum { MAX_TREES = 3, MAX_ROWS = 6, MAX_IDS = 320, MAX_PARAMS = 64 };

/* prompt; completions, 0 behind the last */
static const int32_t sizes[MAX_TREES][4] = {{300, 40, 1, 90}, {65, 128, 33, 0}, {5, 200, 0, 0}};
static const int32_t small_sizes[MAX_TREES][4] = {{70, 20, 9, 0}, {5, 30, 0, 0}, {1, 1, 0, 0}};

static const float temperature = 0.8f;

struct rows {
    int32_t prompt[MAX_TREES][MAX_IDS], tokens[MAX_ROWS][MAX_IDS];
    float d_logp[MAX_ROWS][MAX_IDS], d_entropy[MAX_ROWS][MAX_IDS];
    struct completion_tokens completions[MAX_ROWS];
    struct tree trees[MAX_TREES];
    int32_t n;
    int64_t fed, n_tokens;
};

static double number(uint64_t stream, int64_t i)
{
    struct rng_block block = rng_philox(23, RNG_TEST, stream, (uint64_t)i);
    return 2.0 * rng_uniform_double(block.word[0], block.word[1]) - 1.0;
}

static int32_t token(uint64_t stream, int32_t i, int32_t vocab)
{
    return (int32_t)(rng_philox(29, RNG_TEST, stream, (uint64_t)i).word[0] % (uint32_t)vocab);
}

static void rows_make(struct rows *r, int32_t vocab)
{
    memset(r, 0, sizeof *r);
    for (int32_t t = 0; t < MAX_TREES; t++) {
        const int32_t *size = test_options.small ? small_sizes[t] : sizes[t];
        for (int32_t i = 0; i < size[0]; i++)
            r->prompt[t][i] = token((uint64_t)t, i, vocab);
        r->trees[t] = (struct tree){.prompt = r->prompt[t], .n_prompt = size[0], .completions = &r->completions[r->n]};
        r->fed += size[0];
        for (int32_t c = 1; c < 4 && size[c] > 0; c++, r->n++) {
            const uint64_t stream = 100 + (uint64_t)r->n;
            for (int32_t i = 0; i < size[c]; i++) {
                r->tokens[r->n][i] = token(stream, i, vocab);
                r->d_logp[r->n][i] = (float)number(stream, i);
                r->d_entropy[r->n][i] = (float)(0.1 * number(stream + 100, i));
            }
            r->completions[r->n] = (struct completion_tokens){.tokens = r->tokens[r->n], .n_tokens = size[c]};
            r->trees[t].n_completions++;
            r->fed += size[c] - 1;
            r->n_tokens += size[c];
        }
    }
}

/* What one backend says, as host memory. */
struct result {
    float logp[MAX_ROWS][MAX_IDS], entropy[MAX_ROWS][MAX_IDS];
    float *grad[MAX_PARAMS];
    int64_t count[MAX_PARAMS];
    char name[MAX_PARAMS][96];
    int32_t n_params;
};

static void run(struct result *to, struct backend *backend, const char *dir, enum dtype type, const struct rows *r,
                enum decoder_mode mode)
{
    struct model_test test;
    cohort_error err = {0};
    int32_t done = 0;
    memset(to, 0, sizeof *to);
    model_test_load(&test, backend, dir, type);
    /* Two micro-batches: gradients accumulate. */
    model_test_plan(&test, r->fed - r->trees[MAX_TREES - 1].n_prompt, MAX_ROWS, mode, 50);
    struct tree_runner *runner = &test.runner;
    must(packing_split(&runner->packing, r->trees, MAX_TREES, runner->max_tokens, MAX_ROWS, &err), &err);
    assert_true(runner->packing.n_micro > 1);
    for (int32_t m = 0; m < runner->packing.n_micro; m++) {
        must(packed_build(&runner->packed, r->trees, &runner->packing, m, &err), &err);
        tree_runner_forward(runner, test.model, temperature);
        for (int32_t k = 0; k < runner->packed.n_completions; k++, done++) {
            const int32_t n = r->completions[done].n_tokens;
            packed_gather(&runner->packed, k, n, runner->logp, to->logp[done]);
            packed_gather(&runner->packed, k, n, runner->entropy, to->entropy[done]);
            packed_scatter(&runner->packed, k, n, r->d_logp[done], runner->d_logp);
            packed_scatter(&runner->packed, k, n, r->d_entropy[done], runner->d_entropy);
        }
        tree_runner_backward(runner, test.model, temperature, true);
    }
    assert_int_equal(done, r->n);
    to->n_params = test.model->base.table.n_params;
    assert_true(to->n_params <= MAX_PARAMS);
    for (int32_t p = 0; p < to->n_params; p++) {
        const struct param *param = &test.model->base.table.params[p];
        to->grad[p] = fetched_grad(test.model, param);
        to->count[p] = param->count;
        snprintf(to->name[p], sizeof to->name[p], "%s", param->name);
    }
    model_test_close(&test);
}

static void result_free(struct result *result)
{
    for (int32_t p = 0; p < result->n_params; p++)
        free(result->grad[p]);
}

/* Both vanish for a tensor of which nothing is rounded. */
static double ratio(double gpu, double cpu) { return gpu == 0 ? 0 : gpu / cpu; }

struct tallies {
    struct tally f32_logp, f32_grad, logp, entropy, grad;
};

static void compare(struct tallies *t, const struct result *exact, const struct result *cpu, const struct result *gpu,
                    const char *setting)
{
    const int64_t n = (int64_t)MAX_ROWS * MAX_IDS;
    tally_add(&t->logp,
              ratio(relative_norm(gpu->logp[0], exact->logp[0], n), relative_norm(cpu->logp[0], exact->logp[0], n)),
              setting, "log-probs");
    tally_add(&t->entropy,
              ratio(relative_norm(gpu->entropy[0], exact->entropy[0], n),
                    relative_norm(cpu->entropy[0], exact->entropy[0], n)),
              setting, "entropies");
    for (int32_t p = 0; p < exact->n_params; p++) {
        const double ours = relative_norm(gpu->grad[p], exact->grad[p], exact->count[p]),
                     theirs = relative_norm(cpu->grad[p], exact->grad[p], exact->count[p]);
        tally_add(&t->grad, ratio(ours, theirs), setting, exact->name[p]);
        if (p == 0 || !(ours <= 0.05))
            print_message("%s: %s: GPU %.2e, CPU %.2e from fp32\n", setting, exact->name[p], ours, theirs);
    }
}

static void compare_f32(struct tallies *t, const struct result *cpu, const struct result *gpu, const char *setting)
{
    const int64_t n = (int64_t)MAX_ROWS * MAX_IDS;
    tally_add(&t->f32_logp, relative_max(gpu->logp[0], cpu->logp[0], n), setting, "log-probs");
    tally_add(&t->f32_logp, relative_max(gpu->entropy[0], cpu->entropy[0], n), setting, "entropies");
    for (int32_t p = 0; p < cpu->n_params; p++)
        tally_add(&t->f32_grad, relative_norm(gpu->grad[p], cpu->grad[p], cpu->count[p]), setting, cpu->name[p]);
}

static void check(struct tallies *t, const struct tiny_shape *base)
{
    static struct rows rows;
    static struct result exact, cpu, gpu, gpu_again;
    struct tiny_shape shape = *base;
    char dir[64] = "/tmp/cohort-cuda-model-XXXXXX", setting[96];
    cohort_error err = {0};
    struct backend *host = backend_here("auto", 0), *device = backend_here("cuda", 0);
    shape.bf16_weights = true;
    assert_non_null(mkdtemp(dir));
    must(tiny_checkpoint_write(dir, &shape, 5, &err), &err);
    rows_make(&rows, shape.vocab_size);

    run(&exact, host, dir, DTYPE_F32, &rows, DECODER_TRAIN);
    run(&gpu, device, dir, DTYPE_F32, &rows, DECODER_TRAIN);
    snprintf(setting, sizeof setting, "%s f32", shape.name);
    compare_f32(t, &exact, &gpu, setting);
    result_free(&gpu);

    run(&cpu, host, dir, DTYPE_BF16, &rows, DECODER_TRAIN);
    run(&gpu, device, dir, DTYPE_BF16, &rows, DECODER_TRAIN);
    snprintf(setting, sizeof setting, "%s bf16", shape.name);
    compare(t, &exact, &cpu, &gpu, setting);

    /* Recomputed activations, and a second run: the same bits. */
    run(&gpu_again, device, dir, DTYPE_BF16, &rows, DECODER_RECOMPUTE);
    assert_memory_equal(gpu.logp, gpu_again.logp, sizeof gpu.logp);
    for (int32_t p = 0; p < gpu.n_params; p++)
        if (memcmp(gpu.grad[p], gpu_again.grad[p], (size_t)gpu.count[p] * sizeof(float)) != 0)
            fail_msg("%s: the gradient of %s differs between two runs", setting, gpu.name[p]);

    result_free(&exact);
    result_free(&cpu);
    result_free(&gpu);
    result_free(&gpu_again);
    backend_destroy(device);
    backend_destroy(host);
    must(file_remove_all(dir, &err), &err);
}

static void test_beside_cpu(void **state)
{
    (void)state;
    struct tallies t = {.f32_logp = {.what = "fp32 log-probs and entropies", .tolerance = 1e-5},
                        .f32_grad = {.what = "fp32 gradients (norm)", .tolerance = 2e-5},
                        .logp = {.what = "bf16 log-probs, error over the CPU's", .tolerance = 1.5},
                        .entropy = {.what = "bf16 entropies, error over the CPU's", .tolerance = 1.5},
                        .grad = {.what = "bf16 gradients, error over the CPU's", .tolerance = 1.5}};
    check(&t, &tiny_wide);
    check(&t, &tiny_half);
    tally_report(&t.f32_logp);
    tally_report(&t.f32_grad);
    tally_report(&t.logp);
    tally_report(&t.entropy);
    tally_report(&t.grad);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_beside_cpu)};
    test_arguments(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
