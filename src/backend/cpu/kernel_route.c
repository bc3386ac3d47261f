/* Which experts a token goes to, its gradient, and the sums of a layer. A row's softmax sums its experts in the order of
 * the vector type's lanes; grouping counts integers. */
#include "backend/cpu/act_part.h"
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>
#include <math.h>

/* p[n] = softmax(logits), with zeros behind it up to a multiple of VW. */
static void softmax(const float *logits, int32_t n, float *p)
{
    float most = logits[0];
    vf sum = vf_zero();
    for (int32_t i = 1; i < n; i++)
        most = logits[i] > most ? logits[i] : most;
    for (int32_t i = 0; i < n; i += VW) {
        const int part = part_of(i, n);
        vf e = vf_exp(vf_sub(vf_load_part(logits + i, part), vf_set(most)));
        vf_store(p + i, e);
        for (int j = part; j < VW; j++)
            p[i + j] = 0.0f;
        sum = vf_add(sum, vf_load(p + i));
    }
    const vf total = vf_set(vf_sum(sum));
    for (int32_t i = 0; i < n; i += VW)
        vf_store(p + i, vf_div(vf_load(p + i), total));
}

/* The k largest of p, of equal ones the first, as ascending numbers. */
static void choose(const float *p, int32_t n, int32_t k, int32_t *expert)
{
    for (int32_t j = 0; j < k; j++) {
        int32_t best = -1;
        float most = 0.0f;
        for (int32_t e = 0; e < n; e++) {
            const float value = p[e] >= 0.0f ? p[e] : -1.0f; /* a NaN */
            bool taken = false;
            if (best >= 0 && !(value > most))
                continue;
            for (int32_t i = 0; i < j && !taken; i++)
                taken = expert[i] == e;
            if (!taken) {
                best = e;
                most = value;
            }
        }
        int32_t at = j;
        for (; at > 0 && expert[at - 1] > best; at--)
            expert[at] = expert[at - 1];
        expert[at] = best;
    }
}

/* What is known of a token's routes: counted where it differs, taken with replay. */
static void compare(const struct route_forward *p, int64_t t, int32_t *expert)
{
    const uint16_t *given = p->given + t * p->stride;
    bool same = true;
    if (given[0] == ROUTE_UNKNOWN)
        return;
    for (int32_t j = 0; j < p->chosen; j++)
        same = same && expert[j] == given[j];
    p->differ[t] += same ? 0 : 1;
    for (int32_t j = 0; p->replay && j < p->chosen; j++)
        expert[j] = given[j];
}

static void route_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct route_forward *p = context;
    _Alignas(64) float probability[ROUTE_MAX_EXPERTS + VW];
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        int32_t *expert = p->expert + t * p->chosen;
        float *weight = p->weight + t * p->chosen, sum = 0.0f;
        softmax(p->logits + t * p->n_experts, p->n_experts, probability);
        choose(probability, p->n_experts, p->chosen, expert);
        if (p->given != NULL)
            compare(p, t, expert);
        for (int32_t j = 0; p->record != NULL && p->record_row[t] >= 0 && j < p->chosen; j++)
            p->record[p->record_row[t] * p->stride + j] = (uint16_t)expert[j];
        for (int32_t j = 0; j < p->chosen; j++)
            sum += weight[j] = probability[expert[j]];
        for (int32_t j = 0; p->normalised && j < p->chosen; j++)
            weight[j] /= sum;
    }
}

/* A counting sort of the pairs. */
static void group(const struct route_forward *p)
{
    const int64_t pairs = p->tokens * p->chosen;
    int32_t at[ROUTE_MAX_EXPERTS];
    for (int32_t e = 0; e <= p->n_experts; e++)
        p->begin[e] = 0;
    for (int64_t i = 0; i < pairs; i++)
        p->begin[p->expert[i] + 1]++;
    for (int32_t e = 0; e < p->n_experts; e++) {
        at[e] = p->begin[e];
        p->begin[e + 1] += p->begin[e];
    }
    for (int64_t i = 0; i < pairs; i++) {
        const int32_t row = at[p->expert[i]]++;
        p->row[i] = row;
        p->pair[row] = (int32_t)i;
    }
}

void CPU_NAME(route_forward)(struct backend *backend, const struct route_forward *p)
{
    assert(p->n_experts <= ROUTE_MAX_EXPERTS && p->chosen <= ROUTE_MAX_CHOSEN && p->chosen <= p->n_experts);
    cpu_run(backend, cpu_threads(backend, p->tokens * p->n_experts, 2.0 + (double)p->chosen), p->tokens, 0, route_rows,
            p);
    /* After a stop not all is written, and nobody looks at what is computed; but places must be places. */
    for (int64_t i = 0; cpu_stopped(backend) && i < p->tokens * p->chosen; i++)
        p->expert[i] = (int32_t)(i % p->chosen);
    group(p);
}

static void backward_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct route_backward *p = context;
    const int32_t n = p->n_experts, k = p->chosen;
    _Alignas(64) float probability[ROUTE_MAX_EXPERTS + VW], dp[ROUTE_MAX_EXPERTS + VW];
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        const int32_t *expert = p->expert + t * k;
        const float *dw = p->d_weight + t * k;
        const float times = p->aux != NULL ? (float)p->count[t] : 0.0f;
        float sum = 0.0f, mean = 0.0f;
        softmax(p->logits + t * n, n, probability);
        for (int32_t e = 0; e < n + VW; e++)
            dp[e] = p->aux != NULL && e < n ? times * p->aux[e] : 0.0f;
        for (int32_t j = 0; j < k; j++) {
            sum += probability[expert[j]];
            mean += dw[j] * probability[expert[j]];
        }
        for (int32_t j = 0; j < k; j++)
            dp[expert[j]] += p->normalised ? (dw[j] - mean / sum) / sum : dw[j];
        vf dot = vf_zero();
        for (int32_t e = 0; e < n; e += VW)
            dot = vf_add(dot, vf_mul(vf_load(dp + e), vf_load(probability + e)));
        const vf inner = vf_set(vf_sum(dot));
        void *out = act_at_mut(p->d_logits, p->act, t * n);
        for (int32_t e = 0; e < n; e += VW)
            vf_store_act_part(out, p->act, e, vf_mul(vf_load(probability + e), vf_sub(vf_load(dp + e), inner)),
                              part_of(e, n));
    }
}

void CPU_NAME(route_backward)(struct backend *backend, const struct route_backward *p)
{
    assert(p->n_experts <= ROUTE_MAX_EXPERTS && p->act != DTYPE_F16);
    cpu_run(backend, cpu_threads(backend, p->tokens * p->n_experts, 3.0), p->tokens, 0, backward_rows, p);
}

/* In double, by one thread: a metric and the counts of the auxiliary loss. */
void CPU_NAME(route_sums)(struct backend *backend, const struct route_sums *p)
{
    const int32_t n = p->n_experts;
    _Alignas(64) float probability[ROUTE_MAX_EXPERTS + VW];
    (void)backend;
    for (int64_t t = 0; t < p->tokens; t++) {
        const double times = (double)p->count[t];
        double entropy = 0.0;
        softmax(p->logits + t * n, n, probability);
        for (int32_t j = 0; j < p->chosen; j++)
            p->sums[p->expert[t * p->chosen + j]] += times;
        for (int32_t e = 0; e < n; e++) {
            p->sums[n + e] += times * (double)probability[e];
            entropy -= probability[e] > 0.0f ? (double)probability[e] * log((double)probability[e]) : 0.0;
        }
        p->sums[2 * n] += times * entropy;
        p->sums[2 * n + 1] += times;
    }
}
