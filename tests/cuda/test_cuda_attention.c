/* Attention in windows of decoding, which only a GPU has: steps from one plan, the prompt's pages shared or not, give a
 * token the bits that it has in training (tests/kernels/test_attention.c has all other layouts, and the values).
 * --expect-difference is for the negative control, whose kernels walk the chunks of small batches in another order. With
 * --bench: GB/s. */
#include "kernels/attention_batch.h"

#include "backend/sampling.h"

/* Of the backend (cuda_internal.h, which needs CUDA's headers). */
bool cuda_attention_prepare_decode(struct backend *, const struct decode_load *);

enum { PROMPT = 300, N_COMPLETIONS = 3, WIDE = 300 /* idle rows: more than a GPU has multiprocessors */ };
static const int32_t completion_length[N_COMPLETIONS] = {5, 40, 230};

/* Pages of a decoding window, taken from the back to the front with a page of nobody between them. The prompt's last
 * partial page goes on in the first own page. */
struct pages {
    int32_t prompt[32], own[N_COMPLETIONS][16], n_own[N_COMPLETIONS];
};

static void fill_page(struct batch *b, int32_t page, uint32_t stream, int32_t begin, int32_t end)
{
    for (int32_t p = begin; p < end; p++)
        b->kv[page * PAGE + p % PAGE] = content(stream, p);
}

static void build_pages(struct batch *b, struct pages *pages, int32_t prompt, const int32_t *behind)
{
    int32_t free_page = MAX_ROWS / 2 / PAGE - 1;
    b->kv_rows = MAX_ROWS / 2;
    for (int32_t c = 0; c * PAGE < prompt; c++, free_page -= 2) {
        pages->prompt[c] = free_page;
        fill_page(b, free_page, 1, c * PAGE, prompt < (c + 1) * PAGE ? prompt : (c + 1) * PAGE);
    }
    for (int32_t s = 0; s < N_COMPLETIONS; s++) {
        pages->n_own[s] = 0;
        for (int32_t c = prompt / PAGE; c * PAGE < behind[s]; c++, free_page -= 2) {
            pages->own[s][pages->n_own[s]++] = free_page;
            fill_page(b, free_page, (uint32_t)s + 2, c * PAGE < prompt ? prompt : c * PAGE,
                      behind[s] < (c + 1) * PAGE ? behind[s] : (c + 1) * PAGE);
        }
    }
}

/* Steps of a decoding window that begins at offset first of each completion (or its end), made of one plan; every
 * step's tokens are compared with tree's. Rows behind the slots are idle: with many of them the window is a wide one,
 * which has a kernel of its own. */
static void check_window(const struct shape *shape, const struct batch *tree, int32_t prompt, int32_t first,
                         int32_t steps, bool shared, int32_t idle)
{
    struct decode_slot slots[N_COMPLETIONS];
    struct pages pages;
    for (int32_t step = 0; step<steps; step += steps> 2 ? steps - 1 : 1) {
        struct batch *b = batch_new(shape, tree->f.act);
        int32_t behind[N_COMPLETIONS];
        for (int32_t s = 0; s < N_COMPLETIONS; s++) {
            const int32_t last = completion_length[s] - steps;
            const int32_t at = prompt + (first < last ? first : last);
            slots[s] = (struct decode_slot){.position = at,
                                            .n_left = steps,
                                            .tree = shared ? 0 : s,
                                            .n_prompt = prompt,
                                            .prompt_page = pages.prompt,
                                            .own_page = pages.own[s]};
            behind[s] = at + step + 1;
            add_token(b, content((uint32_t)s + 2, at + step), at + step);
        }
        for (int32_t i = 0; i < idle; i++)
            add_token(b, 0, 0);
        build_pages(b, &pages, prompt, behind);
        for (int32_t s = 0; s < N_COMPLETIONS; s++)
            slots[s].n_own_pages = pages.n_own[s];
        const struct decode_load load = {.slots = slots,
                                         .n_slots = N_COMPLETIONS,
                                         .n_rows = b->tokens,
                                         .steps = steps,
                                         .n_heads = shape->n_heads,
                                         .n_kv_heads = shape->n_kv_heads,
                                         .head_dim = shape->head_dim};
        assert_true(cuda_attention_prepare_decode(backend, &load));
        batch_layer(b, 0);
        assert_same(b, tree, N_COMPLETIONS, shared ? "decoding, prompt shared" : "decoding");
        batch_layer(b, 0); /* the plan is good for any number of layers */
        assert_same(b, tree, N_COMPLETIONS, "decoding, second layer");
        batch_free(b);
    }
}

/* In windows the threads of blocks run in the given order. */
static void check_windows(const struct shape *shape, enum dtype act, int32_t prompt, int threads)
{
    struct batch *tree = batch_new(shape, act);
    add_tree(tree, 1, prompt, completion_length, N_COMPLETIONS, 0);
    use_threads(1);
    batch_forward(tree, true);
    use_threads(threads);
    for (int shared = 0; shared < 2; shared++) {
        check_window(shape, tree, prompt, 0, 4, shared, 3);
        check_window(shape, tree, prompt, 200, 2, shared, 3);
        check_window(shape, tree, prompt, 200, 2, shared, WIDE);
        check_window(shape, tree, prompt, 1000, 1, shared, shared ? 3 : WIDE);
    }
    batch_free(tree);
}

static void test_windows(void **state)
{
    (void)state;
    static const struct {
        struct shape shape;
        enum dtype act;
    } cases[] = {{{4, 2, 128, 0}, DTYPE_BF16},
                 {{4, 1, 64, 0}, DTYPE_BF16},
                 {{8, 1, 128, 0}, DTYPE_BF16}, /* 3 slots: 24 rows */
                 {{2, 2, 128, 0}, DTYPE_BF16},
                 {{3, 1, 40, 0}, DTYPE_BF16},
                 {{4, 2, 16, 0}, DTYPE_F32},
                 /* layers with a sliding window: within a split, across one, of other kernels */
                 {{4, 2, 128, 20}, DTYPE_BF16},
                 {{4, 1, 64, 270}, DTYPE_BF16},
                 {{4, 2, 16, 100}, DTYPE_F32}};
    EACH_BACKEND
    {
        for (int i = 0; i < (test_options.brief ? 2 : (int)(sizeof cases / sizeof *cases)); i++) {
            check_windows(&cases[i].shape, cases[i].act, PROMPT, 1 + i % 3);
            if (i == 0 && !test_options.brief) {
                check_windows(&cases[i].shape, cases[i].act, 512, 1); /* whole splits, whole pages */
                check_windows(&cases[i].shape, cases[i].act, 100, 1);
                if (!test_options.small)
                    check_windows(&cases[i].shape, cases[i].act, 1300, 1);
            }
        }
#if defined(COHORT_CUDA_EMULATED)
        if (getenv("CUDA_EMULATION_CAPABILITY") == NULL) {
            use_capability(80); /* less shared memory: fewer chunks on the way */
            check_windows(&cases[0].shape, DTYPE_BF16, PROMPT, 1);
            use_capability(90);
        }
#endif
    }
}

/* Nothing to do is no error. */
static void test_empty(void **state)
{
    (void)state;
    EACH_BACKEND
    {
        struct batch *b = batch_new(&(struct shape){4, 2, 128, 0}, DTYPE_BF16);
        const struct decode_load load = {.n_heads = 4, .n_kv_heads = 2, .head_dim = 128};
        assert_true(cuda_attention_prepare_decode(backend, &load));
        batch_layer(b, 0);
        batch_free(b);
    }
}

/* ---- Speed ---- */

/* group slots share a prompt of n_prompt tokens; each is `own` tokens behind it. */
static void bench_window(int32_t n_heads, int32_t n_kv_heads, int32_t n_slots, int32_t n_prompt, int32_t own,
                         int32_t group, bool shared)
{
    const int32_t prompt_pages = (n_prompt + PAGE - 1) / PAGE;
    const int32_t own_pages = (n_prompt + own + 2) / PAGE - n_prompt / PAGE + 1;
    const int32_t n_pages = n_slots / group * prompt_pages + n_slots * own_pages;
    int32_t *page = calloc((size_t)n_pages, sizeof *page);
    struct decode_slot *slots = calloc((size_t)n_slots, sizeof *slots);
    int32_t *position = calloc((size_t)n_slots, sizeof *position);
    assert_true(page && slots && position);
    for (int32_t i = 0; i < n_pages; i++)
        page[i] = i;
    for (int32_t i = 0; i < n_slots; i++) {
        position[i] = n_prompt + own;
        slots[i] = (struct decode_slot){.position = position[i],
                                        .n_left = 2,
                                        .tree = shared ? i / group : i,
                                        .n_prompt = n_prompt,
                                        .prompt_page = page + i / group * prompt_pages,
                                        .own_page = page + n_slots / group * prompt_pages + i * own_pages,
                                        .n_own_pages = own_pages};
    }
    const int64_t kv = (int64_t)n_pages * PAGE * n_kv_heads * 128, nq = (int64_t)n_slots * n_heads * 128;
    const struct attention_forward f = {.n_heads = n_heads,
                                        .n_kv_heads = n_kv_heads,
                                        .head_dim = 128,
                                        .scale = 0.088f,
                                        .act = DTYPE_BF16,
                                        .position = ids_of(position, n_slots)->d,
                                        .q = array_new(nq, DTYPE_BF16, 1, 1.0)->d,
                                        .k = array_new(kv, DTYPE_BF16, 2, 1.0)->d,
                                        .v = array_new(kv, DTYPE_BF16, 3, 1.0)->d,
                                        .out = array_new(nq, DTYPE_BF16, 0, 0.0)->d};
    const struct decode_load load = {.slots = slots,
                                     .n_slots = n_slots,
                                     .n_rows = n_slots,
                                     .steps = 1,
                                     .n_heads = n_heads,
                                     .n_kv_heads = n_kv_heads,
                                     .head_dim = 128};
    assert_true(cuda_attention_prepare_decode(backend, &load));
    const double t = layer_seconds(&f, NULL, 50);
    /* Keys and values as if nothing were shared. */
    const double bytes = 512.0 * n_kv_heads * n_slots * (n_prompt + own + 1);
    printf("decode H %d K %d, %3d slots, prompt %4d + %3d, groups of %2d %s: %7.1f us, %6.0f GB/s\n", n_heads,
           n_kv_heads, n_slots, n_prompt, own, group, shared ? "shared  " : "unshared", t * 1e6, bytes / t * 1e-9);
    arrays_free();
    free(page), free(slots), free(position);
}

static void bench(void **state)
{
    (void)state;
    EACH_BACKEND
    for (int32_t h = 16; h <= 32; h += 16) {
        if (test_options.small) {
            bench_window(4, 2, 4, 300, 20, 2, true);
            break;
        }
        bench_window(h, 8, 1, 128, 128, 1, false);
        bench_window(h, 8, 1, 1024, 128, 1, false);
        bench_window(h, 8, 64, 128, 256, 1, false);
        bench_window(h, 8, 256, 128, 0, 1, false);
        bench_window(h, 8, 256, 128, 128, 1, false);
        bench_window(h, 8, 256, 128, 500, 1, false);
        bench_window(h, 8, 256, 1024, 476, 1, false);
        bench_window(h, 8, 256, 1024, 256, 16, false);
        bench_window(h, 8, 256, 1024, 256, 16, true);
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    test_options.cuda = true;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_empty), cmocka_unit_test(test_windows)};
    const struct CMUnitTest times[] = {cmocka_unit_test(bench)};
    if (test_options.bench)
        return cmocka_run_group_tests(times, NULL, NULL);
    return batch_status(cmocka_run_group_tests(tests, NULL, NULL));
}
