#include "train/step_plan.h"

#include "base/rng.h"

/* Slices of a generation batch: as its completions say, else as given, else those of one optimizer step. */
static cohort_status count_slices(const struct step_counts *c, int64_t *slices, cohort_error *err)
{
    *slices = c->slices > 0 ? c->slices : c->accumulated;
    if (c->completions == 0)
        return COHORT_OK;
    if (c->slices > 0)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "generation_batch_size and steps_per_generation both say how large a generation batch is: give "
            "one of them");
    if (c->slice == 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "generation_batch_size is cut into per_device_train_batch_size completions: give that too "
                         "(TRL's default is 8), or prompts_per_step alone");
    if (c->completions % c->slice != 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "generation_batch_size %lld is not a multiple of per_device_train_batch_size %lld",
                         (long long)c->completions, (long long)c->slice);
    *slices = c->completions / c->slice;
    return COHORT_OK;
}

cohort_status step_plan_count(struct step_plan *plan, struct step_counts *c, int64_t usual, cohort_error *err)
{
    int64_t slices = 1;
    TRY(count_slices(c, &slices, err));
    if (c->slice > 0 && c->slice * slices % c->group != 0)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "a generation batch of %lld slices (steps_per_generation, else gradient_accumulation_steps) of "
            "per_device_train_batch_size %lld completions is not a multiple of num_generations %lld",
            (long long)slices, (long long)c->slice, (long long)c->group);
    const int64_t prompts = c->slice > 0 ? c->slice * slices / c->group : c->prompts > 0 ? c->prompts : usual;
    if (c->prompts > 0 && c->prompts != prompts)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "prompts_per_step is %lld, and per_device_train_batch_size %lld times %lld slices of a generation "
            "batch divided by num_generations %lld is %lld: leave prompts_per_step out",
            (long long)c->prompts, (long long)c->slice, (long long)slices, (long long)c->group, (long long)prompts);
    if (prompts * c->group % slices != 0)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "prompts_per_step %lld times num_generations %lld completions are not a multiple of %lld slices "
            "(steps_per_generation, else gradient_accumulation_steps)",
            (long long)prompts, (long long)c->group, (long long)slices);
    c->prompts = prompts;
    *plan = (struct step_plan){
        .slices = (int32_t)slices, .accumulated = (int32_t)c->accumulated, .iterations = (int32_t)c->iterations};
    return COHORT_OK;
}

/* Slices that a batch gives before the next one comes. */
static int64_t of_batch(const struct step_plan *plan) { return (int64_t)plan->slices * plan->iterations; }

struct step_slice step_plan_slice(const struct step_plan *plan, int64_t place)
{
    return (struct step_slice){.batch = place / of_batch(plan), .slice = (int32_t)(place % plan->slices)};
}

int64_t step_plan_batches(const struct step_plan *plan, int64_t steps)
{
    return (steps * plan->accumulated + of_batch(plan) - 1) / of_batch(plan);
}

int64_t step_plan_done(const struct step_plan *plan, int64_t steps)
{
    return steps * plan->accumulated / of_batch(plan);
}

int32_t step_plan_most_batches(const struct step_plan *plan)
{
    return (int32_t)((plan->accumulated + of_batch(plan) - 2) / of_batch(plan)) + 1;
}

bool step_plan_aligned(const struct step_plan *plan) { return of_batch(plan) % plan->accumulated == 0; }

bool step_plan_reuses(const struct step_plan *plan) { return plan->accumulated % of_batch(plan) != 0; }

void step_plan_order(const struct step_plan *plan, uint64_t seed, int64_t batch, int32_t n, int32_t *order)
{
    for (int32_t i = 0; i < n; i++)
        order[i] = i;
    for (int32_t i = n - 1; plan->slices > 1 && i > 0; i--) {
        const struct rng_block block = rng_philox(seed, RNG_SLICES, (uint64_t)batch, (uint64_t)i);
        const int32_t j = (int32_t)(((uint64_t)block.word[0] << 32 | block.word[1]) % (uint64_t)(i + 1)),
                      other = order[j];
        order[j] = order[i];
        order[i] = other;
    }
}
