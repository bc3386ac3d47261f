#include "recipe/memory_plan.h"

#include "base/number.h"

#include <stdio.h>
#include <string.h>

static double gigabytes(size_t bytes) { return (double)bytes / 1e9; }

static size_t buffers(const struct memory_plan *plan)
{
    const size_t two = plan->rollout > plan->training ? plan->rollout : plan->training;
    return plan->scoring > two ? plan->scoring : two;
}

void memory_plan_scorers(struct memory_plan *plan, struct reward_models *scorers)
{
    plan->scorers = scorers->n > 0 ? scorers : NULL;
    plan->scorer_weights = reward_models_bytes(scorers);
}

/* The memory that weights leave for everything else. */
static size_t room(const struct memory_plan *plan)
{
    const size_t weights = plan->weights + plan->reference + plan->scorer_weights;
    return plan->limit > weights ? plan->limit - weights : 0;
}

size_t memory_plan_total(const struct memory_plan *plan)
{
    return plan->weights + plan->reference + plan->scorer_weights + plan->state + buffers(plan) + plan->working;
}

#define NAME(id, word) word,
const char *const recompute_names[N_RECOMPUTE] = {RECOMPUTE_LIST(NAME)};
#undef NAME

void memory_plan_begin(struct memory_plan *plan, struct model *model, const struct options *options, bool reference,
                       struct tree_runner *runner, int64_t completions, int64_t longest, int64_t most_useful)
{
    const size_t weights = model_weight_bytes(model);
    int64_t tokens = session_micro_tokens(model, options);
    const struct param_bytes state = param_set_train_sizes(model->trained, session_moments(options));
    struct param_bytes values = {0};         /* of the reference; commands without one have no option that moves it */
    if (reference && model->adapter != NULL) /* it is another adapter */
        values.own = model_adapter_bytes(model->adapter);
    else if (reference)
        values = param_set_value_sizes(&model->base, session_offload_reference(options));
    const size_t packed = reference && model->adapter == NULL ? weights - model->base.table.bytes : 0;
    tokens = tokens > most_useful ? most_useful : tokens;
    *plan = (struct memory_plan){.model = model,
                                 .runner = runner,
                                 .completions = completions,
                                 .longest = longest,
                                 .moments = session_moments(options),
                                 .micro_tokens = tokens < longest ? longest : tokens,
                                 .limit = session_memory_limit(model->backend, options),
                                 .weights = weights,
                                 .reference = packed + values.own,
                                 .state = state.own,
                                 .host = state.host + values.host,
                                 .host_limit = mem_available() / 20 * 19};
}

void memory_plan_teacher(struct memory_plan *plan, struct teacher *teacher)
{
    const struct model *model = teacher->model;
    const struct param_bytes values = param_set_value_sizes(&model->base, model->base.offload);
    plan->teacher = teacher;
    plan->reference = model_weight_bytes(model) - model->base.table.bytes + values.own;
    plan->host += values.host;
}

/* The part of training in what the backend is asked for. */
static struct backend_load training_load(const struct memory_plan *plan)
{
    const int64_t outputs = plan->micro_tokens + plan->completions,
                  chunk = head_chunk(&plan->model->config, plan->model->backend->sizes->logits_bytes);
    struct backend_load load = {.context = (int32_t)plan->longest,
                                .train_tokens = plan->micro_tokens,
                                .train_sequences = 2 * plan->completions, /* each with a prompt */
                                .train_logits_rows = chunk < outputs ? chunk : outputs};
    rollout_load(plan->model, NULL, NULL, &load);
    return load;
}

/* Of the backend's operations in all that a step runs: the teacher's pass, and, with what load says of the rollout, the
 * rest. */
static size_t working_bytes(const struct memory_plan *plan, const struct backend_load *load)
{
    const size_t own = backend_working_bytes(plan->model->backend, load);
    struct backend_load teacher = training_load(plan);
    if (plan->teacher == NULL)
        return own;
    rollout_load(plan->teacher->model, NULL, NULL, &teacher);
    const size_t its = backend_working_bytes(plan->model->backend, &teacher);
    return own > its ? own : its;
}

cohort_status memory_plan_engine(struct memory_plan *plan, const struct tokenizer *tokenizer,
                                 const struct rollout_need *need, struct engine **out, cohort_error *err)
{
    struct arena whole = {0};
    TRY(model_plan_whole(plan->model, &whole, err));
    plan->gathered = whole.used;
    const size_t taken = plan->state + plan->gathered, left = room(plan) > taken ? room(plan) - taken : 0;
    const struct backend_load training = training_load(plan);
    plan->need = *need;
    plan->need.training = true;
    *out = NULL;
    TRY(rollout_choose(plan->model, &plan->need, left, &training, &plan->choice, err));
    plan->kv = plan->choice.pages;
    TRY(engine_create(out, plan->model, tokenizer, &plan->choice.config, err));
    plan->engine = *out;
    return engine_keep_prefixes(*out, err);
}

static cohort_status take_buffers(struct memory_plan *plan, struct arena *arena, cohort_error *err)
{
    const struct model *model = plan->model;
    struct arena rollout = *arena, training = *arena, scoring = *arena, passing = *arena;
    if (arena->base == NULL) /* the host part depends on the tokens: measure with a fresh one */
        tree_runner_free(plan->runner);
    if (arena->base == NULL && plan->teacher != NULL)
        teacher_free(plan->teacher);
    plan->runner->logits_bytes = model->backend->sizes->logits_bytes;
    plan->runner->keep_logits = plan->recompute == RECOMPUTE_NONE;
    const enum decoder_mode mode = plan->recompute == RECOMPUTE_LAYER ? DECODER_RECOMPUTE : DECODER_TRAIN;
    if (plan->engine != NULL) {
        TRY(model_plan_whole(plan->model, &rollout, err));
        TRY(engine_plan(plan->engine, &rollout, err));
    }
    if (plan->teacher != NULL)
        TRY(teacher_plan(plan->teacher, plan->runner, &training, &passing, plan->micro_tokens, plan->completions, err));
    TRY(tree_runner_plan(plan->runner, &training, &model->config, model->type, plan->micro_tokens, plan->completions,
                         mode, err));
    plan->rollout = rollout.used;
    plan->training = training.used > passing.used ? training.used : passing.used;
    if (plan->scorers != NULL)
        TRY(reward_models_plan(plan->scorers, &scoring, err));
    plan->scoring = scoring.used;
    arena->used = buffers(plan);
    struct backend_load load = training_load(plan);
    if (plan->engine != NULL)
        rollout_load(model, &plan->need, &plan->choice.config, &load);
    plan->working = working_bytes(plan, &load);
    if (plan->scorers != NULL) {
        const size_t working = reward_models_working_bytes(plan->scorers);
        plan->working = working > plan->working ? working : plan->working;
    }
    return COHORT_OK;
}

cohort_status memory_plan_measure(struct memory_plan *plan, enum recompute recompute, int64_t micro_tokens,
                                  cohort_error *err)
{
    struct arena arena = {0};
    plan->recompute = recompute;
    plan->micro_tokens = micro_tokens;
    return take_buffers(plan, &arena, err);
}

/* Says what a run that does not fit would have to change: recomputation, then the moments' type, then fewer tokens at
 * once, the first that fits. */
static cohort_status refuse(struct memory_plan *plan, cohort_error *err)
{
    const enum dtype moments[2] = {plan->moments, DTYPE_BF16};
    const int64_t longest = plan->longest;
    const size_t there = room(plan);
    struct memory_plan other = *plan;
    size_t need = 0;
    char missing[300], rollout[100] = "";
    if (plan->rollout > plan->training)
        number_format(rollout, sizeof rollout, ": a rollout of %d at once, KV pages %.2f",
                      (int)plan->choice.config.max_sequences, gigabytes(plan->kv));
    number_format(missing, sizeof missing,
                  "training needs %.2f GB beside the weights (optimizer and gradient %.2f, buffers "
                  "%.2f with recompute %s%s), %.2f GB are there",
                  gigabytes(plan->state + buffers(plan) + plan->working), gigabytes(plan->state),
                  gigabytes(buffers(plan) + plan->working), recompute_names[plan->recompute], rollout,
                  gigabytes(there));
    for (int64_t tokens = plan->micro_tokens;; tokens = tokens / 2 > longest ? tokens / 2 : longest) {
        TRY(memory_plan_measure(&other, RECOMPUTE_LAYER, tokens, err));
        for (int i = 0; i < 2; i++) {
            need = buffers(&other) + other.working + param_set_train_bytes(plan->model->trained, moments[i]);
            if (need > there)
                continue;
            plan->refused = true;
            return error_set(err, COHORT_ERR_MEMORY, "%s; --recompute layer%s --micro-batch-tokens %lld fits (%.2f GB)",
                             missing, moments[i] != moments[0] ? " --moments-dtype bf16" : "", (long long)tokens,
                             gigabytes(need));
        }
        if (tokens == longest)
            break;
    }
    plan->refused = true;
    const bool movable = plan->model->backend->ops->alloc_host != NULL && plan->host == 0;
    char teacher[60] = "";
    if (plan->teacher != NULL)
        number_format(teacher, sizeof teacher, ", beside a teacher of %.2f GB", gigabytes(plan->reference));
    return error_set(err, COHORT_ERR_MEMORY,
                     "%s, and even --recompute layer --moments-dtype bf16 --micro-batch-tokens "
                     "%lld takes %.2f GB%s; %stake shorter sequences, fewer of them a step, or a "
                     "smaller %s",
                     missing, (long long)longest, gigabytes(need), teacher,
                     movable ? "pass --offload optimizer,gradients,reference (docs/OPTIMIZERS.md), or " : "",
                     plan->teacher != NULL ? "teacher or model" : "model");
}

cohort_status memory_plan_choose(struct memory_plan *plan, const struct options *options, cohort_error *err)
{
    const int asked = options_choice(options, OPTION_RECOMPUTE) - 1; /* -1: auto */
    plan->refused = false;
    for (int i = 0; i < N_RECOMPUTE; i++) {
        if (asked >= 0 && asked != i)
            continue;
        TRY(memory_plan_measure(plan, (enum recompute)i, plan->micro_tokens, err));
        if (memory_plan_total(plan) <= plan->limit)
            return COHORT_OK;
    }
    return refuse(plan, err);
}

cohort_status memory_plan_check_host(const struct memory_plan *plan, cohort_error *err)
{
    if (plan->host <= plan->host_limit)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_MEMORY,
                     "--offload puts %.2f GB into the host's memory, %.2f GB are there; offload less, or pass "
                     "--moments-dtype bf16 or another --optim",
                     gigabytes(plan->host), gigabytes(plan->host_limit));
}

cohort_status memory_plan_describe(const struct memory_plan *plan, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, "memory plan, %s: weights %.2f GB%s, ", plan->model->backend->device,
                    gigabytes(plan->weights), param_set_divides(&plan->model->base) ? " (divided)" : ""));
    if (plan->reference > 0)
        TRY(text_printf(out, err, "%s %.2f GB, ", plan->teacher != NULL ? "teacher" : "frozen reference",
                        gigabytes(plan->reference)));
    if (plan->scorers != NULL)
        TRY(text_printf(out, err, "%zu reward model%s %.2f GB, ", plan->scorers->n, plan->scorers->n == 1 ? "" : "s",
                        gigabytes(plan->scorer_weights)));
    TRY(text_printf(out, err,
                    "gradient and optimizer %.2f GB, buffers %.2f GB (training %.2f GB, micro-batch "
                    "of %lld tokens, recompute %s",
                    gigabytes(plan->state), gigabytes(buffers(plan)), gigabytes(plan->training),
                    (long long)plan->micro_tokens, recompute_names[plan->recompute]));
    if (plan->engine != NULL)
        TRY(text_printf(out, err, "; rollout %.2f GB, %.2f GB of it KV pages, %d at once", gigabytes(plan->rollout),
                        gigabytes(plan->kv), (int)plan->choice.config.max_sequences));
    if (plan->gathered > 0)
        TRY(text_printf(out, err, ", %.2f GB whole weights", gigabytes(plan->gathered)));
    if (plan->scorers != NULL)
        TRY(text_printf(out, err, "; scoring %.2f GB", gigabytes(plan->scoring)));
    TRY(text_append(out, ")", 1, err));
    if (plan->working > 0)
        TRY(text_printf(out, err, ", working memory of the device %.2f GB", gigabytes(plan->working)));
    TRY(text_printf(out, err, "; in all %.2f GB, %.2f GB are there", gigabytes(memory_plan_total(plan)),
                    gigabytes(plan->limit)));
    if (plan->host > 0)
        TRY(text_printf(out, err, "; offloaded to the host's memory %.2f GB, %.2f GB are there", gigabytes(plan->host),
                        gigabytes(plan->host_limit)));
    return COHORT_OK;
}

cohort_status memory_plan_allocate(struct memory_plan *plan, struct arena *arena, cohort_error *err)
{
    TRY(take_buffers(plan, arena, err));
    TRY(arena_allocate(arena, plan->model->backend,
                       plan->engine != NULL ? "rollout and training buffers" : "training buffers", err));
    return take_buffers(plan, arena, err);
}
