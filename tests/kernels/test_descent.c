/* SGD, Lion and steps along a direction against their formulas in plain C, bit for bit, on fp32 and split masters, on
 * every backend. */
#include "kernels/kernel_test.h"

#include <stdlib.h>

static float stepped(const struct descent *p, float w, float d, float *m)
{
    float step;
    switch (p->rule) {
    case DESCENT_SGD:
        d = d * p->scale + p->coupled_decay * w;
        if (m != NULL) {
            *m = p->fresh ? d : p->momentum * *m + (1.0f - p->dampening) * d;
            d = p->nesterov ? d + p->momentum * *m : *m;
        }
        return w - p->rate * d;
    case DESCENT_LION:
        d = d * p->scale;
        step = p->momentum * *m + (1.0f - p->momentum) * d;
        *m = p->beta2 * *m + (1.0f - p->beta2) * d;
        return w * p->keep - p->rate * (step > 0.0f ? 1.0f : step < 0.0f ? -1.0f : 0.0f);
    case DESCENT_ALONG: break;
    }
    step = p->rate * (d * p->scale);
    if (m != NULL)
        step = *m = p->momentum * *m + (1.0f - p->momentum) * step;
    return w * p->keep - step;
}

static void check(const struct descent *like, int64_t count, enum dtype type, enum dtype direction, bool with_m,
                  size_t shift)
{
    const struct array *w = array_shifted(count, type, 80, 1.0, shift);
    const struct array *low = array_shifted(count, DTYPE_BF16, 81, 1e30, shift);
    const struct array *d = array_shifted(count, direction, 82, 1.0, shift);
    const struct array *m = array_shifted(count, DTYPE_F32, 83, 1.0, shift);
    struct descent p = *like;
    if (p.rule == DESCENT_LION && count > 2) { /* a sign of 0 */
        set(m, 1, 0.0f);
        set(d, 1, 0.0f);
        push(m);
        push(d);
    }
    p.count = count;
    p.weight = w->d;
    p.low = type == DTYPE_BF16 ? low->d : NULL;
    p.type = type;
    p.direction = d->d;
    p.direction_type = direction;
    p.m = with_m ? m->d : NULL;
    uint32_t *wanted = malloc((size_t)count * sizeof *wanted);
    float *wanted_m = malloc((size_t)count * sizeof *wanted_m);
    assert_true(wanted != NULL && wanted_m != NULL);
    for (int64_t i = 0; i < count; i++) {
        const float old =
            type == DTYPE_F32
                ? ((float *)w->x)[i]
                : f32_from_bits(((uint32_t)((uint16_t *)w->x)[i] << 16) + (uint32_t)(int32_t)((int16_t *)low->x)[i]);
        wanted_m[i] = ((float *)m->x)[i];
        wanted[i] = f32_bits(stepped(&p, old, (float)get(d, i), with_m ? &wanted_m[i] : NULL));
    }
    backend->ops->descent(backend, &p);
    pull(w);
    pull(low);
    pull(m);
    pull(d);
    for (int64_t i = 0; i < count; i++) {
        const uint32_t got = type == DTYPE_F32
                                 ? f32_bits(((float *)w->x)[i])
                                 : ((uint32_t)((uint16_t *)w->x)[i] << 16) + (uint32_t)(int32_t)((int16_t *)low->x)[i];
        if (got != wanted[i])
            fail_msg("%s: rule %d, weight %lld of %lld is %.9g, expected %.9g", provider, (int)p.rule, (long long)i,
                     (long long)count, (double)f32_from_bits(got), (double)f32_from_bits(wanted[i]));
    }
    assert_memory_equal(m->x, wanted_m, m->bytes);
    free(wanted);
    free(wanted_m);
    arrays_free();
}

static void test_formula(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 5, 256, 257, 20000};
    static const struct {
        struct descent p;
        bool with_m;
    } cases[] = {
        {{.rule = DESCENT_SGD, .scale = .5f, .rate = .01f, .coupled_decay = .1f}, false},
        {{.rule = DESCENT_SGD, .scale = .5f, .rate = .01f, .coupled_decay = .1f, .momentum = .9f, .fresh = true}, true},
        {{.rule = DESCENT_SGD, .scale = 1, .rate = .01f, .momentum = .9f, .dampening = .3f}, true},
        {{.rule = DESCENT_SGD, .scale = 1, .rate = .01f, .momentum = .9f, .nesterov = true}, true},
        {{.rule = DESCENT_LION, .scale = .25f, .rate = .01f, .keep = .99f, .momentum = .9f, .beta2 = .99f}, true},
        {{.rule = DESCENT_ALONG, .scale = .25f, .rate = .01f, .keep = .99f}, false},
        {{.rule = DESCENT_ALONG, .scale = .25f, .rate = .01f, .keep = .99f, .momentum = .9f}, true},
    };
    EACH_BACKEND
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
            for (int types = 0; types < 4; types++) {
                use_threads(1 + types % 2);
                check(&cases[k].p, counts[c], types & 1 ? DTYPE_BF16 : DTYPE_F32, types & 2 ? DTYPE_BF16 : DTYPE_F32,
                      cases[k].with_m, k % 2);
            }
}

static void test_nothing(void **state)
{
    (void)state;
    EACH_BACKEND
    {
        backend->ops->descent(backend, &(struct descent){.rule = DESCENT_SGD, .type = DTYPE_F32});
        backend_must_be_well();
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formula), cmocka_unit_test(test_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
