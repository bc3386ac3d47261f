/* Every optimizer on a set of parameters of its own, on every instruction set or with --device cuda on the GPU: twenty
 * steps against torch's and transformers' (oracle/optimizers_torch.py), tables worked out by hand from the formulas, bf16
 * with low halves against fp32, what is kept for what, groups, the mean of the weights, and a state that is read back. */
#include "support/differences.h"
#include "support/model_test.h"
#include "support/temporary_folder.h"

#include "format/architecture.h"
#include "train/optimizer.h"
#include "train/state.h"

#include <jansson.h>
#include <stdlib.h>

static const char *const providers[] = {"portable", "avx2", "avx512", "avx512-bf16", "amx-bf16"};
enum { N_PROVIDERS = sizeof providers / sizeof *providers, MOST = 1000000 };

static const char *provider;

/* ---- A set ---- */

struct tensor {
    const char *name;
    int32_t rank;
    int64_t rows, columns; /* columns 1 where rank is 1 */
    enum param_kind kind;
};

static int64_t count_of(const struct tensor *t) { return t->rows * t->columns; }

static void set_open(struct param_set *set, struct backend *backend, const struct tensor *tensors, int32_t n,
                     enum storage_format format)
{
    struct param_table table = {.n_params = n};
    cohort_error err = {0};
    must(mem_alloc(&table.params, (size_t)n, sizeof *table.params, "table", &err), &err);
    for (int32_t i = 0; i < n; i++) {
        struct param *p = &table.params[i];
        snprintf(p->name, sizeof p->name, "%s", tensors[i].name);
        *p = (struct param){.rank = tensors[i].rank,
                            .shape = {tensors[i].rows, tensors[i].columns},
                            .count = count_of(&tensors[i]),
                            .format = format,
                            .kind = tensors[i].kind,
                            .decay = true};
        snprintf(p->name, sizeof p->name, "%s", tensors[i].name);
    }
    param_table_layout(&table);
    must(param_set_open(set, backend, &table, &err), &err);
    must(param_set_allocate(set, &err), &err);
}

static void set_begin(struct param_set *set, const struct optimizer *optimizer)
{
    cohort_error err = {0};
    must(optimizer_lay_out(optimizer, set, &err), &err);
    must(param_set_train_begin(set, DTYPE_F32, &err), &err);
    optimizer_start_mean(set);
}

/* Values that are the same in bf16. */
static void store(struct param_set *set, int32_t i, const float *values)
{
    const struct param *p = &set->table.params[i];
    uint16_t *narrow = malloc((size_t)p->count * sizeof *narrow);
    cohort_error err = {0};
    assert_non_null(narrow);
    for (int64_t j = 0; j < p->count; j++)
        narrow[j] = bf16_from_f32(values[j]);
    must(param_set_store(set, p, 0, p->count, p->format == STORAGE_BF16 ? (const void *)narrow : values, &err), &err);
    free(narrow);
}

/* The masters, for free. */
static float *masters(const struct param_set *set, int32_t i)
{
    const struct param *p = &set->table.params[i];
    const size_t n = (size_t)p->count;
    void *values = fetched(set->backend, param_values(set, p), storage_bytes(p->format, p->count));
    if (p->format == STORAGE_F32)
        return values;
    int16_t *low = fetched(set->backend, param_state(set, i, PARAM_STATE_LOW), n * sizeof *low);
    float *whole = malloc(n * sizeof *whole);
    assert_non_null(whole);
    for (size_t j = 0; j < n; j++)
        whole[j] = f32_from_bits(((uint32_t)((uint16_t *)values)[j] << 16) + (uint32_t)(int32_t)low[j]);
    free(values);
    free(low);
    return whole;
}

static void put_grad(const struct param_set *set, int32_t i, const float *grad)
{
    const struct param *p = &set->table.params[i];
    set->backend->ops->upload(set->backend, param_grad(set, p), grad, (size_t)p->count * sizeof *grad);
}

static void apply(struct optimizer *optimizer, struct param_set *set, double rate)
{
    double norm = 0.0;
    bool skipped = true;
    cohort_error err = {0};
    assert_int_equal(optimizer_apply(optimizer, set, rate, &norm, &skipped, NULL), COHORT_OK);
    assert_false(skipped);
    must(backend_check(set->backend, &err), &err);
}

/* ---- The oracle's numbers ---- */

static uint32_t bits_of(uint64_t k)
{
    uint64_t h = (k * 2654435761u + 12345u) & 0xffffffffu;
    h ^= h >> 16;
    h = (h * 0x45d9f3bu) & 0xffffffffu;
    return (uint32_t)(h ^ (h >> 16));
}

static void fill_start(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(bits_of((uint64_t)i) >> 24) / 256.0f - 0.5f;
}

static void fill_grad(float *x, int64_t n, int step)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(bits_of((uint64_t)step * MOST + (uint64_t)i) >> 8) / 16777216.0f - 0.5f;
}

/* The number of a word of optim. */
static int word_of(const char *word)
{
    static const char *const words[] = {
#define WORD(id, word, type) word,
        OPTIM_LIST(WORD)
#undef WORD
    };
    int i = 0;
    while (strcmp(words[i], word) != 0)
        i++;
    return i;
}

static struct optimizer optimizer_named(const char *word, double decay)
{
    struct optimizer optimizer;
    optimizer_init(&optimizer, word_of(word));
    optimizer.beta1 = 0.9f;
    optimizer.beta2 = 0.999f;
    optimizer.eps = 1e-8f;
    optimizer.weight_decay = (float)decay;
    return optimizer;
}

static void set_arguments(struct optimizer *optimizer, const char *items)
{
    cohort_error err = {0};
    char item[64];
    for (const char *at = items; *at != '\0';) {
        const size_t n = strcspn(at, ",");
        snprintf(item, sizeof item, "%.*s", (int)n, at);
        must(optimizer_set(optimizer, item, &err), &err);
        at += n + (at[n] == ',');
    }
    must(optimizer_check(optimizer, &err), &err);
}

/* ---- Twenty steps ---- */

static void run_case(struct backend *backend, const json_t *test, int steps, enum storage_format format, float **out)
{
    const json_t *shape = json_object_get(test, "shape"), *args = json_object_get(test, "optim_args");
    const int32_t rank = (int32_t)json_array_size(shape);
    const struct tensor tensor = {.name = "w",
                                  .rank = rank,
                                  .rows = json_integer_value(json_array_get(shape, 0)),
                                  .columns = rank == 2 ? json_integer_value(json_array_get(shape, 1)) : 1,
                                  .kind = rank == 2 ? PARAM_MATRIX : PARAM_VECTOR};
    const int64_t n = count_of(&tensor);
    struct optimizer optimizer = optimizer_named(json_string_value(json_object_get(test, "optim")),
                                                 json_number_value(json_object_get(test, "weight_decay")));
    struct param_set set;
    float *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < json_array_size(args); i++)
        set_arguments(&optimizer, json_string_value(json_array_get(args, i)));
    set_open(&set, backend, &tensor, 1, format);
    fill_start(x, n);
    store(&set, 0, x);
    set_begin(&set, &optimizer);
    for (int step = 1; step <= steps; step++) {
        fill_grad(x, n, step);
        put_grad(&set, 0, x);
        apply(&optimizer, &set, json_number_value(json_object_get(test, "learning_rate")));
    }
    *out = masters(&set, 0);
    free(x);
    param_set_close(&set);
}

static void check_oracle(struct backend *backend)
{
    json_error_t error;
    json_t *root = json_load_file(COHORT_SOURCE_DIR "/tests/fixtures/optimizers.json", 0, &error);
    assert_non_null(root);
    const json_t *cases = json_object_get(root, "cases");
    const int steps = (int)json_integer_value(json_object_get(root, "steps"));
    double worst = 0.0;
    assert_true(json_array_size(cases) >= 15);
    for (size_t c = 0; c < json_array_size(cases); c++) {
        const json_t *test = json_array_get(cases, c), *wanted = json_object_get(test, "weights");
        float *whole = NULL, *split = NULL;
        run_case(backend, test, steps, STORAGE_F32, &whole);
        run_case(backend, test, steps, STORAGE_BF16, &split);
        for (size_t i = 0; i < json_array_size(wanted); i++) {
            const double right = json_number_value(json_array_get(wanted, i)), off = fabs((double)whole[i] - right);
            worst = fmax(worst, off);
            if (off > 1e-5)
                fail_msg("%s, case %zu: weight %zu is %.9g, expected %.9g", provider, c, i, (double)whole[i], right);
        }
        if (memcmp(whole, split, json_array_size(wanted) * sizeof *whole) != 0)
            fail_msg("%s, case %zu: a split master differs from an fp32 one", provider, c);
        free(whole);
        free(split);
    }
    printf("%s: at most %.2g off\n", provider, worst);
    json_decref(root);
}

/* ---- Tables ---- */

static const float W0[6] = {1, -.5f, .25f, .5f, .75f, -1};
static const float GRADS[3][6] = {
    {.1f, -.2f, .3f, .4f, .05f, -.6f}, {-.3f, .1f, .2f, .2f, -.4f, .5f}, {.05f, .6f, -.1f, -.2f, .3f, .1f}};

/* Three steps at rate and decay 0.1 from W0: the weights behind each, or where there is one row behind the third. */
static const struct table {
    const char *optim, *args;
    double decay, beta2;
    int n;
    double wanted[3][6];
} tables[] = {
    {"adamw_torch",
     "",
     .1,
     .999,
     3,
     {{.89000001, -.395000005, .147500003, .395000002, .64250002, -.890000002},
      {.930518991, -.364416303, .048989794, .297832042, .701607679, -.877287798},
      {.948963619, -.413454325, -.006689291, .255183199, .697071421, -.873711267}}},
    {"sgd",
     "momentum=0.9",
     .1,
     .999,
     3,
     {{.98, -.475, .2175, .455, .7375, -.93},
      {.9822, -.45775, .166075, .38995, .758875, -.9077},
      {.969358, -.4976475, .12813175, .3475055, .74052375, -.888553}}},
    {"sgd",
     "momentum=0.9,nesterov=true",
     .1,
     .999,
     3,
     {{.962, -.4525, .18825, .4145, .72625, -.867},
      {.984522, -.4426525, .12034825, .3321745, .77832625, -.888827},
      {.958243882, -.534451853, .095644308, .311500734, .723942926, -.873386587}}},
    {"adafactor",
     "",
     .1,
     .999,
     3,
     {{.944196372, -.31178549, .163042284, .40016236, .71879059, -.902564017},
      {1.09148231, -.367552015, .094462334, .339782707, .838693724, -.983849731},
      {1.056332247, -.549435864, .1269577, .417324058, .752841996, -1.001931374}}},
    {"adafactor",
     "scale_parameter=true,relative_step=true",
     0,
     .999,
     1,
     {{1.006174576, -.504393473, .241521963, .49495958, .751802585, -1.00217656}}},
    {"muon",
     "",
     .1,
     .999,
     3,
     {{.92515625, -.43328125, .197109375, .43796875, .752363281, -.940585937},
      {.95985, -.431719434, .139278906, .358979688, .817105273, -.972195703},
      {.971638219, -.496152239, .130024789, .285077391, .796483049, -.998215934}}},
    {"muon",
     "adjust_lr_fn=match_rms_adamw",
     .1,
     .999,
     1,
     {{.970762919, -.488960961, .2035863, .415842488, .751542997, -.979969709}}},
    {"lion_32bit",
     "",
     .1,
     .99,
     3,
     {{.89, -.395, .1475, .395, .6425, -.89},
      {.9811, -.49105, .046025, .29105, .736075, -.9811},
      {.871289, -.5861395, .1455648, .3881395, .6287142, -1.0712891}}},
};

static void check_tables(struct backend *backend)
{
    static const struct tensor tensor = {"w", 2, 2, 3, PARAM_MATRIX};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        struct optimizer optimizer = optimizer_named(tables[t].optim, tables[t].decay);
        struct param_set set;
        optimizer.beta2 = (float)tables[t].beta2;
        set_arguments(&optimizer, tables[t].args);
        set_open(&set, backend, &tensor, 1, STORAGE_F32);
        store(&set, 0, W0);
        set_begin(&set, &optimizer);
        for (int step = 0; step < 3; step++) {
            const int row = tables[t].n == 3 ? step : step - 2;
            put_grad(&set, 0, GRADS[step]);
            apply(&optimizer, &set, 0.1);
            float *w = masters(&set, 0);
            for (int i = 0; i < 6 && row >= 0; i++)
                if (fabs((double)w[i] - tables[t].wanted[row][i]) > 1e-6)
                    fail_msg("%s, %s %s, step %d: weight %d is %.9g, expected %.9g", provider, tables[t].optim,
                             tables[t].args, step + 1, i, (double)w[i], tables[t].wanted[row][i]);
            free(w);
        }
        param_set_close(&set);
    }
}

/* ---- What is kept, groups, the mean, the state ---- */

static const struct tensor TENSORS[] = {{"model.embed_tokens.weight", 2, 40, 128, PARAM_EMBEDDING},
                                        {"model.layers.0.self_attn.q_proj.weight", 2, 64, 128, PARAM_MATRIX},
                                        {"model.layers.0.mlp.down_proj.weight", 2, 128, 16, PARAM_MATRIX},
                                        {"model.norm.weight", 1, 128, 1, PARAM_VECTOR},
                                        {"lm_head.weight", 2, 40, 128, PARAM_HEAD}};
enum { N_TENSORS = sizeof TENSORS / sizeof *TENSORS };

static void open_all(struct param_set *set, struct backend *backend, const struct optimizer *optimizer,
                     enum storage_format format)
{
    set_open(set, backend, TENSORS, N_TENSORS, format);
    for (int32_t i = 0; i < N_TENSORS; i++) {
        float *x = malloc((size_t)count_of(&TENSORS[i]) * sizeof *x);
        assert_non_null(x);
        fill_start(x, count_of(&TENSORS[i]));
        store(set, i, x);
        free(x);
    }
    set_begin(set, optimizer);
}

static void step_all(struct param_set *set, struct optimizer *optimizer, int step)
{
    for (int32_t i = 0; i < N_TENSORS; i++) {
        float *x = malloc((size_t)count_of(&TENSORS[i]) * sizeof *x);
        assert_non_null(x);
        fill_grad(x, count_of(&TENSORS[i]), step * N_TENSORS + i);
        put_grad(set, i, x);
        free(x);
    }
    apply(optimizer, set, 0.01);
}

static void expect_same_sets(const struct param_set *a, const struct param_set *b, const char *what)
{
    for (int32_t i = 0; i < N_TENSORS; i++) {
        float *one = masters(a, i), *other = masters(b, i);
        if (memcmp(one, other, (size_t)count_of(&TENSORS[i]) * sizeof *one) != 0)
            fail_msg("%s: %s: %s differs", provider, what, TENSORS[i].name);
        free(one);
        free(other);
    }
}

/* Ten steps in one, and five that are written, read into a new set, and gone on from. */
static void check_resumed(struct backend *backend, const char *word, const char *args, enum storage_format format,
                          size_t state_bytes)
{
    struct optimizer optimizer = optimizer_named(word, 0.1);
    cohort_error err = {0};
    struct train_state state = {.command = "sft", .step = 5, .updates = 5, .batches = 5}, back;
    struct param_set whole, first, second, other;
    optimizer.ema_decay = 0.9;
    set_arguments(&optimizer, args);
    struct optimizer again = optimizer, adamw = optimizer_named("adamw_torch", 0.1);
    open_all(&whole, backend, &optimizer, format);
    open_all(&first, backend, &optimizer, format);
    int64_t elements = 0;
    for (int32_t i = 0; i < N_TENSORS; i++)
        elements += count_of(&TENSORS[i]);
    const size_t fixed = (size_t)elements * (sizeof(float) + sizeof(float) + (format == STORAGE_BF16 ? 2 : 0));
    const size_t kept = param_set_train_bytes(&whole, DTYPE_F32) - fixed - whole.training.work_bytes;
    if (kept < state_bytes || kept > state_bytes + 8192) /* alignment */
        fail_msg("%s keeps %zu bytes, expected about %zu", word, kept, state_bytes);
    for (int step = 1; step <= 10; step++)
        step_all(&whole, &optimizer, step);
    for (int step = 1; step <= 5; step++)
        step_all(&first, &again, step);
    must(train_state_write(folder, &first, &state, &err), &err);
    must(train_state_write_tensors(folder, &first, false, NULL, &err), &err);
    open_all(&second, backend, &again, format);
    for (int32_t i = 0; i < N_TENSORS; i++) {
        const struct param *p = &first.table.params[i];
        void *values = fetched(backend, param_values(&first, p), storage_bytes(p->format, p->count));
        must(param_set_store(&second, &second.table.params[i], 0, p->count, values, &err), &err);
        free(values);
    }
    must(train_state_read(folder, &second, &back, &err), &err);
    for (int step = 6; step <= 10; step++)
        step_all(&second, &again, step);
    expect_same_sets(&whole, &second, word);
    for (int32_t i = 0; i < N_TENSORS; i++)
        for (int32_t k = 0; k < N_PARAM_STATES; k++) {
            struct param_state_tensor a, b;
            if (!param_state_get(&whole, i, (enum param_state)k, &a))
                continue;
            assert_true(param_state_get(&second, i, (enum param_state)k, &b));
            void *one = fetched(backend, a.data, a.bytes), *two = fetched(backend, b.data, b.bytes);
            if (memcmp(one, two, a.bytes) != 0)
                fail_msg("%s, %s: %s of %s differs after a resume", provider, word, a.name, TENSORS[i].name);
            free(one);
            free(two);
        }
    open_all(&other, backend, &adamw, format);
    assert_int_equal(train_state_read(folder, &other, &back, &err), COHORT_ERR_STATE);
    if (optimizer.type != OPTIMIZER_ADAMW)
        assert_non_null(strstr(err.message, "this run has adamw, which keeps other numbers"));
    param_set_close(&whole);
    param_set_close(&first);
    param_set_close(&second);
    param_set_close(&other);
}

static void check_all_resumed(struct backend *backend)
{
    const size_t embedding = 40 * 128, head = 40 * 128, q = 64 * 128, down = 128 * 16, norm = 128;
    const size_t all = embedding + head + q + down + norm;
    for (int format = 0; format < 2; format++) {
        const enum storage_format f = format == 0 ? STORAGE_F32 : STORAGE_BF16;
        check_resumed(backend, "adamw_torch", "", f, all * 8);
        /* head and q have 8 bits; the embedding and tensors below 4096 elements keep theirs */
        check_resumed(backend, "adamw_8bit", "", f,
                      (embedding + down + norm) * 8 + (head + q) * 2 + (head + q) / 256 * 8);
        check_resumed(backend, "muon", "", f, (embedding + head + norm) * 8 + (q + down) * 4);
        check_resumed(backend, "sgd", "", f, 0);
        check_resumed(backend, "sgd", "momentum=0.9", f, all * 4);
        check_resumed(backend, "adafactor", "beta1=0.9,scale_parameter=true", f,
                      all * 4 + (40 + 128 + 40 + 128 + 64 + 128 + 128 + 16 + 128) * 4);
        check_resumed(backend, "lion_32bit", "", f, all * 4);
    }
}

/* The first group that matches counts: a factor of the rate is the rate, a decay of its own the decay. */
static void check_groups(struct backend *backend)
{
    struct param_set plain, grouped, slow;
    struct optimizer a = optimizer_named("adamw_torch", 0.0), b = optimizer_named("adamw_torch", 0.1),
                     c = optimizer_named("adamw_torch", 0.0);
    cohort_error err = {0};
    must(optimizer_add_group(&b, true, "norm=0", &err), &err);
    must(optimizer_add_group(&b, true, "*=0", &err), &err);
    must(optimizer_add_group(&c, false, "lm_head=0.5", &err), &err);
    must(optimizer_add_group(&c, false, "*layers.*.q_proj*=0", &err), &err);
    must(optimizer_add_group(&c, false, "self_attn=7", &err), &err);
    open_all(&plain, backend, &a, STORAGE_F32);
    open_all(&grouped, backend, &b, STORAGE_F32);
    open_all(&slow, backend, &c, STORAGE_F32);
    float *before = masters(&slow, 1);
    step_all(&plain, &a, 1);
    step_all(&grouped, &b, 1);
    step_all(&slow, &c, 1);
    expect_same_sets(&plain, &grouped, "decays of 0");
    float *after = masters(&slow, 1), *head = masters(&slow, 4), *head_plain = masters(&plain, 4);
    assert_memory_equal(before, after, 64 * 128 * sizeof *before);
    float *start = malloc((size_t)count_of(&TENSORS[4]) * sizeof *start);
    assert_non_null(start);
    fill_start(start, count_of(&TENSORS[4]));
    for (int64_t i = 0; i < count_of(&TENSORS[4]); i++)
        assert_true(fabsf((head[i] - start[i]) - 0.5f * (head_plain[i] - start[i])) < 1e-6f);
    free(before);
    free(after);
    free(head);
    free(head_plain);
    free(start);
    param_set_close(&plain);
    param_set_close(&grouped);
    param_set_close(&slow);
}

/* E = E + (1 - d) (W - E) from W on, in double; and what is written of it. */
static void check_mean(struct backend *backend)
{
    for (int format = 0; format < 2; format++) {
        struct optimizer optimizer = optimizer_named("adamw_torch", 0.0);
        struct param_set set;
        cohort_error err = {0};
        optimizer.ema_decay = 0.75;
        open_all(&set, backend, &optimizer, format == 0 ? STORAGE_F32 : STORAGE_BF16);
        const struct param *p = &set.table.params[2];
        float *w = masters(&set, 2);
        double mean[128 * 16];
        for (int64_t i = 0; i < p->count; i++)
            mean[i] = (double)w[i];
        for (int step = 1; step <= 5; step++) {
            step_all(&set, &optimizer, step);
            free(w);
            w = masters(&set, 2);
            for (int64_t i = 0; i < p->count; i++)
                mean[i] += 0.25 * ((double)w[i] - mean[i]);
        }
        uint16_t narrow[128 * 16];
        float wide[128 * 16];
        must(param_set_fetch_mean(&set, p, 0, p->count, format == 0 ? (void *)wide : narrow, &err), &err);
        for (int64_t i = 0; i < p->count; i++) {
            const double got = format == 0 ? (double)wide[i] : (double)f32_from_bf16(narrow[i]);
            assert_true(fabs(got - mean[i]) <= (format == 0 ? 1e-6 : fabs(mean[i]) * 0x1p-8 + 1e-6));
            assert_true(mean[i] == 0.0 || got != (double)w[i]);
        }
        free(w);
        param_set_close(&set);
    }
}

static void on_all_providers(void (*check)(struct backend *backend))
{
    for (size_t i = 0; (provider = test_provider(providers, N_PROVIDERS, i)) != NULL; i++) {
        struct backend *backend = backend_here(provider, 2);
        if (backend == NULL)
            continue;
        check(backend);
        backend_destroy(backend);
    }
}

static void test_oracle(void **state)
{
    (void)state;
    on_all_providers(check_oracle);
}

static void test_tables(void **state)
{
    (void)state;
    on_all_providers(check_tables);
}

static void test_resumed(void **state)
{
    (void)state;
    on_all_providers(check_all_resumed);
}

static void test_groups(void **state)
{
    (void)state;
    on_all_providers(check_groups);
}

static void test_mean(void **state)
{
    (void)state;
    on_all_providers(check_mean);
}

/* ---- What is refused ---- */

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *optim, *item, *says;
    } cases[] = {
        {"sgd", "momentum", "is no argument with a value"},
        {"sgd", "beta1=0.9", "the optimizer sgd has no argument 'beta1'; it has momentum, dampening, nesterov"},
        {"adamw_torch", "fused=true", "it has adam_beta1, adam_beta2 and adam_epsilon"},
        {"sgd", "momentum=1", "momentum cannot be '1': expected a number from 0 to 1"},
        {"sgd", "nesterov=1", "nesterov cannot be '1': expected true or false"},
        {"muon", "ns_steps=2.5", "ns_steps cannot be '2.5': expected an integer from 1 to 99"},
        {"muon", "adjust_lr_fn=max", "expected one of original, match_rms_adamw, spectral_unclamped"},
        {"adafactor", "decay_rate=nan", "decay_rate cannot be 'nan'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct optimizer optimizer = optimizer_named(cases[i].optim, 0.0);
        cohort_error err = {0};
        assert_int_equal(optimizer_set(&optimizer, cases[i].item, &err), COHORT_ERR_ARGUMENT);
        if (strstr(err.message, cases[i].says) == NULL)
            fail_msg("%s: '%s' does not say '%s'", cases[i].item, err.message, cases[i].says);
    }
    static const char *const groups[] = {"", "=1", "lm_head", "lm_head=", "lm_head=-1", "lm_head=1e300", "lm_head=x"};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        struct optimizer optimizer = optimizer_named("sgd", 0.0);
        cohort_error err = {0};
        assert_int_equal(optimizer_add_group(&optimizer, false, groups[i], &err), COHORT_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "is not PATTERN=NUMBER"));
    }
    struct optimizer nesterov = optimizer_named("sgd", 0.0), warm = optimizer_named("adafactor", 0.0);
    cohort_error err = {0};
    must(optimizer_set(&nesterov, "nesterov=true", &err), &err);
    assert_int_equal(optimizer_check(&nesterov, &err), COHORT_ERR_ARGUMENT);
    must(optimizer_set(&warm, "warmup_init=true", &err), &err);
    assert_int_equal(optimizer_check(&warm, &err), COHORT_ERR_ARGUMENT);
    assert_int_equal(optimizer_set(&warm, "warmup_init=true", &err), COHORT_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "given twice"));
}

static void test_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool matches;
    } cases[] = {{"lm_head", "lm_head.weight", true},
                 {"head", "lm_head.weight", false},
                 {"norm", "model.norm.weight", true},
                 {"norm", "model.layers.0.q_norm.weight", false},
                 {"self_attn.q_proj", "model.layers.0.self_attn.q_proj.weight", true},
                 {"layers.1", "model.layers.10.mlp.weight", false},
                 {"layers.1", "model.layers.1.mlp.weight", true},
                 {"*", "anything", true},
                 {"*norm*", "model.layers.0.q_norm.weight", true},
                 {"*.weight", "a.bias", false},
                 {"a*b*c", "aXbYbZc", true},
                 {"a*b*c", "aXbYbZ", false},
                 {"model.layers.*", "model.layers.3.x", true},
                 {"a", "", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (optimizer_matches(cases[i].pattern, cases[i].name) != cases[i].matches)
            fail_msg("'%s' and '%s'", cases[i].pattern, cases[i].name);
}

/* Which tensors decay: transformers' rule of names, on every tensor of the families. */
static bool has_part(const char *name, const char *part)
{
    const char *at = strstr(name, part);
    return at != NULL && (at == name || at[-1] == '.') && (at[strlen(part)] == '.' || at[strlen(part)] == '\0');
}

static bool decays(const char *name)
{
    const char *norm = strstr(name, "_norm");
    return strstr(name, "bias") == NULL && strstr(name, "layernorm") == NULL && strstr(name, "rmsnorm") == NULL &&
           !has_part(name, "norm") && !(norm != NULL && (norm[5] == '.' || norm[5] == '\0'));
}

static void test_decay_names(void **state)
{
    (void)state;
    static const char *const models[] = {"model_tied", "model_untied", "model_qwen2"};
    int32_t n[2] = {0};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        struct model_config config = {0};
        struct param_table table = {0};
        cohort_error err = {0};
        char dir[300];
        snprintf(dir, sizeof dir, "%s/tests/fixtures/%s", COHORT_SOURCE_DIR, models[m]);
        must(model_config_load(&config, NULL, dir, &err), &err);
        must(architecture_params(&config, STORAGE_F32, &table, &err), &err);
        for (int32_t i = 0; i < table.n_params; i++) {
            const struct param *p = &table.params[i];
            n[p->decay]++;
            if (p->decay != decays(p->name))
                fail_msg("%s: %s decays: %d", models[m], p->name, p->decay);
            assert_int_equal(p->kind == PARAM_EMBEDDING, has_part(p->name, "embed_tokens"));
            assert_int_equal(p->kind == PARAM_HEAD, has_part(p->name, "lm_head"));
            assert_int_equal(p->kind == PARAM_MATRIX, strstr(p->name, "_proj.weight") != NULL);
        }
        param_table_free(&table);
    }
    assert_true(n[0] > 20 && n[1] > 20);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_oracle),   cmocka_unit_test(test_tables),
                                       cmocka_unit_test(test_resumed),  cmocka_unit_test(test_groups),
                                       cmocka_unit_test(test_mean),     cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_patterns), cmocka_unit_test(test_decay_names)};
    test_arguments(argc, argv);
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
