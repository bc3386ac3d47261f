/* Windows of decoding on the CUDA backend: steps without a word from the host draw the same tokens with the same
 * log-probs as sample does step by step with the history updated; slots stop behind an EOS, after n_left tokens and at
 * a row without a distribution, and then stand still. */
#include "backend/ops.h"
#include "backend/sampling.h"
#include "cuda/device_test.h"
#include "kernels/sample_test.h"

enum {
    VOCAB = 2503,
    MAX_SLOTS = 7,
    MAX_ROWS = 9,
    MAX_STEPS = 6,
    MAX_HISTORY = 80 + MAX_STEPS,
    N_PROMPT = 60, /* positions pass a page's border at 64 */
    OWN_PAGES = 3
};

/* A sequence as the engine would keep it. */
struct sequence {
    struct sampling_params params;
    int32_t history[MAX_HISTORY];
    int32_t n_history, position, n_left, n_choosable;
    int32_t eos[2], n_eos;
    int32_t own_page[OWN_PAGES];
    uint64_t seed, stream, draw_position;
    bool stopped;
    int32_t kv_row;
};

static const int32_t prompt_page[1] = {30};

static const int32_t bias_id[3] = {4, 2000, 4};
static const float bias[3] = {0.5f, 1.0f, 0.25f};

/* What slot i of a window of the kind asks for; kind 0: nothing but plain draws. */
static struct sampling_params params_of(int kind, int i)
{
    struct sampling_params p = plain_params();
    p.temperature = i == 3 ? 0.7f : i == 4 && kind != 1 ? 0.0f : 1.0f;
    if (kind == 0)
        return p;
    if (i == 1) { /* the whole history, greedy */
        p.temperature = 0.0f;
        p.frequency_penalty = 1.5f;
        p.frequency_context = 0;
    }
    if (i == 2) {
        p.top_p = 0.9f;
        p.top_k = 9;
        p.repetition_penalty = 1.8f;
        p.repetition_context = 3;
        p.presence_penalty = 0.4f;
        p.presence_context = kind == 1 ? 5 : 70;
    }
    if (i == 5) {
        p.bias_id = bias_id;
        p.bias = bias;
        p.n_bias = kind == 1 ? 3 : 0;
        p.min_p = 0.01f;
        p.xtc_probability = 0.5f;
        p.xtc_threshold = 0.002f;
    }
    return p;
}

static void make_sequences(struct sequence *s, int n, int kind)
{
    for (int i = 0; i < n; i++) {
        s[i] = (struct sequence){.params = params_of(kind, i),
                                 .n_history = N_PROMPT + 1 + i % 3,
                                 .position = N_PROMPT + i % 3,
                                 .n_left = i == 3 ? 2 : 100,
                                 .n_choosable = i % 2 ? VOCAB : VOCAB - 50 * i,
                                 .seed = 12,
                                 .stream = (uint64_t)(100 * kind + i),
                                 .draw_position = (uint64_t)(1 + i % 3),
                                 .eos = {-1, -1},
                                 .n_eos = i == 0 ? 0 : 2};
        for (int j = 0; j < s[i].n_history; j++)
            s[i].history[j] = (int32_t)(rng_philox(3, RNG_TEST, 50, (uint64_t)(100 * i + j)).word[0] %
                                        (j % 2 ? 9u : (unsigned)VOCAB));
        for (int j = 0; j < OWN_PAGES; j++)
            s[i].own_page[j] = 3 * i + j;
        s[i].kv_row = s[i].own_page[0] * ATTENTION_CHUNK + s[i].position;
    }
}

static struct sample_row row_of(const struct sequence *s)
{
    return (struct sample_row){.params = &s->params,
                               .history = s->history,
                               .n_history = s->n_history,
                               .seed = s->seed,
                               .stream = s->stream,
                               .position = s->draw_position};
}

/* What a slot draws in a step. */
struct drawn {
    int32_t token;
    float logp, entropy;
};

/* One step of a sequence by sample. */
static void take_step(struct sequence *s, const float *logits, struct drawn *drawn)
{
    *drawn = (struct drawn){.token = DECODE_STOPPED};
    if (s->stopped)
        return;
    struct sample_row row = row_of(s);
    float *at = device_copy(logits, VOCAB * sizeof *logits);
    struct sample op = {VOCAB, s->n_choosable, at, &row, 1};
    device->ops->sample(device, &op);
    device->ops->free(device, at);
    *drawn = (struct drawn){row.token, row.logp, row.entropy};
    s->n_left--;
    s->stopped = row.token < 0 || s->n_left == 0;
    for (int i = 0; i < s->n_eos; i++)
        s->stopped = s->stopped || row.token == s->eos[i];
    if (s->stopped)
        return;
    s->history[s->n_history++] = row.token;
    s->draw_position++;
    s->position++;
    s->kv_row = s->own_page[s->position / ATTENTION_CHUNK] * ATTENTION_CHUNK + s->position % ATTENTION_CHUNK;
}

/* ---- A window on the device ---- */

struct window {
    int n_slots, n_rows, steps, kind;
    int split;     /* a step's draws are asked for in two parts, the second from this row on; 0: in one */
    float *logits; /* (host) [steps, n_rows, V], or [1, ...] with still */
    bool still;    /* the same logits in every step */
    int32_t *token, *position, *kv_row; /* on the device, [n_rows] */
    float *row_logits;                  /* on the device, [n_rows, V] */
};

static void fill_logits(struct window *w)
{
    const int64_t count = (int64_t)(w->still ? 1 : w->steps) * w->n_rows * VOCAB;
    w->logits = malloc((size_t)count * sizeof *w->logits);
    fill(w->logits, DTYPE_F32, count, 70 + (uint64_t)w->kind, 7.0);
    if (!w->still && w->steps > 3 && w->n_slots > 6) /* slot 6 breaks in step 2 */
        w->logits[(2 * w->n_rows + 6) * VOCAB + 17] = NAN;
}

static void load(const struct window *w, const struct sequence *s)
{
    struct decode_slot slots[MAX_SLOTS];
    cohort_error err = {0};
    for (int i = 0; i < w->n_slots; i++)
        slots[i] = (struct decode_slot){.token = s[i].history[s[i].n_history - 1],
                                        .position = s[i].position,
                                        .n_left = s[i].n_left,
                                        .tree = i,
                                        .n_prompt = N_PROMPT,
                                        .prompt_page = prompt_page,
                                        .own_page = s[i].own_page,
                                        .n_own_pages = OWN_PAGES,
                                        .eos = s[i].eos,
                                        .n_eos = s[i].n_eos,
                                        .n_choosable = s[i].n_choosable,
                                        .draw = row_of(&s[i])};
    if (device->ops->decode_load(device,
                                 &(struct decode_load){.slots = slots,
                                                       .n_slots = w->n_slots,
                                                       .n_rows = w->n_rows,
                                                       .steps = w->steps,
                                                       .n_heads = 2,
                                                       .n_kv_heads = 1,
                                                       .head_dim = 16,
                                                       .token = w->token,
                                                       .position = w->position,
                                                       .kv_row = w->kv_row},
                                 &err) != COHORT_OK)
        fail_msg("%s", err.message);
}

static void draw_step(void *context)
{
    struct window *w = context;
    const int first[2] = {0, w->split};
    const int end[2] = {w->split > 0 ? w->split : w->n_rows, w->n_rows};
    for (int part = 0; part < (w->split > 0 ? 2 : 1); part++)
        device->ops->decode_draw(device, &(struct decode_draw){.vocab = VOCAB,
                                                               .logits = w->row_logits + first[part] * VOCAB,
                                                               .first = first[part],
                                                               .count = end[part] - first[part]});
}

/* What the next step would feed. */
static void check_batch(const struct window *w, const struct sequence *s)
{
    int32_t token[MAX_ROWS], position[MAX_ROWS], kv_row[MAX_ROWS];
    const size_t bytes = (size_t)w->n_rows * sizeof *token;
    device->ops->download(device, token, w->token, bytes);
    device->ops->download(device, position, w->position, bytes);
    device->ops->download(device, kv_row, w->kv_row, bytes);
    for (int i = 0; i < w->n_rows; i++) {
        assert_int_equal(token[i], i < w->n_slots ? s[i].history[s[i].n_history - 1] : 0);
        assert_int_equal(position[i], i < w->n_slots ? s[i].position : 0);
        assert_int_equal(kv_row[i], i < w->n_slots ? s[i].kv_row : -1);
    }
}

static void window_begin(struct window *w)
{
    const size_t bytes = (size_t)w->n_rows * sizeof *w->token;
    fill_logits(w);
    w->token = device_copy(NULL, bytes);
    w->position = device_copy(NULL, bytes);
    w->kv_row = device_copy(NULL, bytes);
    w->row_logits = device_copy(NULL, (size_t)(w->n_rows * VOCAB) * sizeof(float));
}

static void window_end(struct window *w)
{
    free(w->logits);
    device->ops->free(device, w->token);
    device->ops->free(device, w->position);
    device->ops->free(device, w->kv_row);
    device->ops->free(device, w->row_logits);
    device_must_be_well();
}

static void check_fetched(const struct window *w, struct drawn (*drawn)[MAX_SLOTS])
{
    int32_t got_token[MAX_STEPS * MAX_SLOTS];
    float got_logp[MAX_STEPS * MAX_SLOTS], got_entropy[MAX_STEPS * MAX_SLOTS];
    device->ops->decode_fetch(device, w->steps, got_token, got_logp, got_entropy);
    for (int step = 0; step < w->steps; step++)
        for (int i = 0; i < w->n_slots; i++) {
            const int at = step * w->n_slots + i;
            const struct drawn *want = &drawn[step][i];
            if (got_token[at] != want->token)
                fail_msg("kind %d, step %d, slot %d: token %d, sample draws %d", w->kind, step, i, got_token[at],
                         want->token);
            if (want->token == -1)
                assert_true(isnan(got_logp[at]) && isnan(got_entropy[at]));
            if (want->token < 0)
                continue;
            assert_memory_equal(&got_logp[at], &want->logp, sizeof(float));
            assert_memory_equal(&got_entropy[at], &want->entropy, sizeof(float));
        }
}

/* Steps asked for one by one, every one with its own logits. */
static void check_steps(int kind, int n_slots, int n_rows, int split, int steps)
{
    struct window w = {.n_slots = n_slots, .n_rows = n_rows, .steps = steps, .kind = kind, .split = split};
    struct sequence start[MAX_SLOTS], now[MAX_SLOTS];
    struct drawn drawn[MAX_STEPS][MAX_SLOTS];
    const size_t step_logits = (size_t)(n_rows * VOCAB);
    make_sequences(start, n_slots, kind);
    window_begin(&w);
    for (int pass = 0; pass < 2; pass++) {
        /* The first pass finds a token that slot 2 draws, the EOS of the second. */
        memcpy(now, start, sizeof now);
        for (int step = 0; step < steps; step++)
            for (int i = 0; i < n_slots; i++)
                take_step(&now[i], w.logits + (size_t)step * step_logits + i * VOCAB, &drawn[step][i]);
        if (n_slots > 2 && steps > 3)
            start[2].eos[1] = drawn[3][2].token;
    }
    if (n_slots > 3 && steps > 3) {
        assert_true(now[2].stopped && drawn[3][2].token >= 0); /* it saw its EOS, in step 3 or before */
        assert_true(drawn[1][3].token >= 0 && drawn[2][3].token == DECODE_STOPPED);
        assert_true(drawn[steps - 1][0].token >= 0);
    }
    if (n_slots > 6 && steps > 3)
        assert_true(drawn[2][6].token == -1 && drawn[3][6].token == DECODE_STOPPED);
    load(&w, start);
    memcpy(now, start, sizeof now);
    check_batch(&w, now);
    for (int step = 0; step < steps; step++) {
        struct drawn ignored;
        device->ops->upload(device, w.row_logits, w.logits + (size_t)step * step_logits, step_logits * sizeof(float));
        draw_step(&w);
        for (int i = 0; i < n_slots; i++)
            take_step(&now[i], w.logits + (size_t)step * step_logits + i * VOCAB, &ignored);
        check_batch(&w, now);
    }
    check_fetched(&w, drawn);
    window_end(&w);
}

static void test_steps(void **state)
{
    (void)state;
    check_steps(0, 1, 1, 0, MAX_STEPS);
    for (int kind = 0; kind < 3; kind++) {
        if (test_options.brief && kind == 1)
            continue;
        check_steps(kind, MAX_SLOTS, MAX_ROWS, test_options.brief ? 2 * kind : 0, MAX_STEPS);
        if (test_options.brief)
            continue;
        check_steps(kind, MAX_SLOTS, MAX_ROWS, 4, MAX_STEPS);
        check_steps(kind, MAX_SLOTS, MAX_SLOTS, 2, 1);
    }
    check_steps(1, 6, MAX_ROWS, 8, MAX_STEPS); /* the last part is idle rows */
    check_steps(2, 0, 3, 0, 2);                /* and so may all be */
}

/* Recorded steps: one recording serves windows with other slots, parameters, numbers of slots and of steps; a larger
 * window forgets it and all is as before. */
static void test_recorded(void **state)
{
    (void)state;
    const struct {
        int kind, n_slots, steps;
        uint64_t key;
    } windows[] = {{0, 5, 6, 1}, {0, 7, 4, 1}, {1, 7, 6, 2}, {2, 6, 6, 2}, {0, 2, 6, 1}, {2, 7, 3, 2}, {0, 7, 6, 1}};
    struct window w = {.n_slots = MAX_SLOTS, .n_rows = MAX_ROWS, .steps = MAX_STEPS, .still = true};
    window_begin(&w);
    device->ops->upload(device, w.row_logits, w.logits, (size_t)(MAX_ROWS * VOCAB) * sizeof(float));
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        struct sequence s[MAX_SLOTS];
        struct drawn drawn[MAX_STEPS][MAX_SLOTS];
        w.kind = windows[i].kind;
        w.n_slots = windows[i].n_slots;
        w.steps = windows[i].steps;
        make_sequences(s, w.n_slots, w.kind);
        load(&w, s);
        device->ops->repeat(device, windows[i].key, w.steps, draw_step, &w);
        for (int step = 0; step < w.steps; step++)
            for (int j = 0; j < w.n_slots; j++)
                take_step(&s[j], w.logits + j * VOCAB, &drawn[step][j]);
        check_fetched(&w, drawn);
        check_batch(&w, s);
    }
    window_end(&w);
}

/* A slot without a page for what comes behind the window's last step. */
static void test_no_page_behind(void **state)
{
    (void)state;
    struct window w = {.n_slots = 1, .n_rows = 1, .steps = 4, .still = true};
    struct sequence s;
    int32_t kv_row;
    window_begin(&w);
    make_sequences(&s, 1, 0);
    struct decode_slot slot = {.token = 1,
                               .position = 60,
                               .n_left = 50,
                               .n_prompt = N_PROMPT,
                               .prompt_page = prompt_page,
                               .own_page = s.own_page,
                               .n_own_pages = 1,
                               .n_choosable = VOCAB,
                               .draw = row_of(&s)};
    device->ops->upload(device, w.row_logits, w.logits, VOCAB * sizeof(float));
    cohort_error err = {0};
    assert_int_equal(device->ops->decode_load(device,
                                              &(struct decode_load){.slots = &slot,
                                                                    .n_slots = 1,
                                                                    .n_rows = 1,
                                                                    .steps = 4,
                                                                    .n_heads = 2,
                                                                    .n_kv_heads = 1,
                                                                    .head_dim = 16,
                                                                    .token = w.token,
                                                                    .position = w.position,
                                                                    .kv_row = w.kv_row},
                                              &err),
                     COHORT_OK);
    for (int step = 0; step < 4; step++) {
        device->ops->download(device, &kv_row, w.kv_row, sizeof kv_row);
        assert_int_equal(kv_row, s.own_page[0] * ATTENTION_CHUNK + 60 + step);
        draw_step(&w);
    }
    device->ops->download(device, &kv_row, w.kv_row, sizeof kv_row);
    assert_int_equal(kv_row, -1);
    window_end(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_no_page_behind),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests(tests, device_setup, device_teardown);
}
