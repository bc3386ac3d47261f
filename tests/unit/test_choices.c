/* Every choice that the option table offers has a meaning in code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "backend/backend.h"
#include "format/model_preset.h"
#include "guide/guide.h"
#include "recipe/episodes.h"
#include "recipe/memory_plan.h"
#include "recipe/offload_list.h"
#include "recipe/run_inputs.h"
#include "recipe/runs_view.h"
#include "recipe/shard_list.h"
#include "recipe/sft_row.h"
#include "recipe/speculative_list.h"
#include "run/output_format.h"
#include "run/sampling_words.h"
#include "run/stop_list.h"
#include "train/advantage.h"
#include "train/best.h"
#include "train/loss.h"
#include "train/optimizer_list.h"
#include "train/preference.h"
#include "train/routing.h"
#include "train/schedule.h"
#include "train/sft.h"

#include <string.h>

static enum option_command a_command(const struct option_spec *spec)
{
    return (enum option_command)(spec->commands & ~(spec->commands - 1));
}

static struct options *with(const struct option_spec *spec, const char *word)
{
    struct options *options = NULL;
    assert_int_equal(options_create(&options, a_command(spec), NULL), COHORT_OK);
    assert_int_equal(options_set(options, spec->name, word, "test", NULL), COHORT_OK);
    return options;
}

/* The words of optim, of which two may name one optimizer, and those of offload. */
enum {
#define WORD_OF(id, word, ...) OPTIM_##id,
    OPTIM_LIST(WORD_OF)
};
enum {
#define STOPS_ON(id, word) STOP_ON_##id,
    STOP_ON_LIST(STOPS_ON)
};
/* Words that are read as words, by their place. */
enum {
#define BEST_OF(id, word) BEST_OF_##id,
    PREFERENCE_METRIC_LIST(BEST_OF)
};
enum { KTO_METRIC_LIST(BEST_OF) };
enum { REWARD_METRIC_LIST(BEST_OF) };
enum {
#define MOVED(id, word) OFFLOAD_##id,
    OFFLOAD_LIST(MOVED)
};
enum {
#define GUESSED_BY(id, word) GUESSED_##id,
    SPECULATIVE_LIST(GUESSED_BY)
};

enum {
#define DIVIDED_BY(id, word) SHARD_##id,
    SHARD_LIST(DIVIDED_BY)
};

/* What the words of lists stand for. */
static const struct meaning {
    enum option_id option;
    const char *word;
    int value;
} meanings[] = {
#define LOSS(id, word, ...)      {OPTION_LOSS_TYPE, word, LOSS_##id},
#define LEVEL(id, word, ...)     {OPTION_IMPORTANCE_SAMPLING_LEVEL, word, LOSS_LEVEL_##id},
#define ESTIMATOR(id, word)      {OPTION_KL_ESTIMATOR, word, LOSS_KL_##id},
#define SCALE(id, word)          {OPTION_SCALE_REWARDS, word, ADVANTAGE_SCALE_##id},
#define BASELINE(id, word)       {OPTION_ADVANTAGE_ESTIMATOR, word, ADVANTAGE_##id},
#define SUMMED(id, word)         {OPTION_MULTI_OBJECTIVE_AGGREGATION, word, ADVANTAGE_##id},
#define SCHEDULE(id, word)       {OPTION_LR_SCHEDULER_TYPE, word, SCHEDULE_##id},
#define FORM(id, word)           {OPTION_FORMAT, word, OUTPUT_##id},
#define LOGGED(id, word)         {OPTION_LOG_FORMAT, word, OUTPUT_##id},
#define STOPS(id, word)          {OPTION_STOP_ON, word, STOP_ON_##id},
#define EXPORTED(id, word)       {OPTION_FORMAT, word, EXPORT_##id},
#define TABLED(id, word)         {OPTION_TABLE, word, EXPORT_##id},
#define ORDERED(id, word)        {OPTION_ORDER, word, COHORT_##id},
#define RECOMPUTED(id, word)     {OPTION_RECOMPUTE, word, RECOMPUTE_##id + 1},
#define INPUT_OF(id, word)       {OPTION_ACCEPT_CHANGED, word, INPUT_##id},
#define SFT_WORD(id, word)       {OPTION_LOSS_TYPE, word, SFT_LOSS_##id},
#define CUT(id, word)            {OPTION_TRUNCATION_MODE, word, TRUNCATION_##id},
#define PACKED(id, word)         {OPTION_PACKING_STRATEGY, word, PACKING_##id},
#define EVALUATED(id, word)      {OPTION_EVAL_STRATEGY, word, EVAL_##id},
#define BETTER(id, word)         {OPTION_METRIC_FOR_BEST_MODEL, word, BEST_BY_##id},
#define OPTIMIZED(id, word, ...) {OPTION_OPTIM, word, OPTIM_##id},
#define OFFLOADED(id, word, ...) {OPTION_OFFLOAD, word, OFFLOAD_##id},
#define PRESET(id, word, ...)    {OPTION_PRESET, word, PRESET_##id},
#define ISA(id, word, ...)       {OPTION_ISA, word, CPU_ISA_##id},
#define SPACED(id, word)         {OPTION_GUIDED_WHITESPACE, word, GUIDE_SPACE_##id},
#define ENFORCED(id, word)       {OPTION_GUIDED_UNSUPPORTED, word, GUIDE_UNSUPPORTED_##id},
#define REPLAYED(id, word)       {OPTION_ROUTER_REPLAY, word, ROUTER_REPLAY_##id},
#define PAIRED(id, word, ...)    {OPTION_LOSS_TYPE, word, PREFERENCE_##id},
#define COMPARED(id, word, ...)  {OPTION_LOSS_TYPE, word, PREFERENCE_##id - PREFERENCE_CPO_SIGMOID},
#define MARKED(id, word, ...)    {OPTION_LOSS_TYPE, word, PREFERENCE_##id - PREFERENCE_KTO},
#define DIVERGED(id, word)       {OPTION_F_DIVERGENCE_TYPE, word, PREFERENCE_DIVERGENCE_##id},
#define REWARDED(id, word)       {OPTION_TURN_REWARDS, word, TURN_REWARDS_##id},
#define WRITTEN(id, word)        {OPTION_GUIDED_GRAMMAR_KIND, word, GUIDE_NOTATION_##id},
#define CALLED(id, word)         {OPTION_GUIDED_TOOLS, word, GUIDE_TOOLS_##id},
#define OF_WHAT(id, word)        {OPTION_GUIDED_LOGPROB, word, GUIDE_LOGPROB_##id},
#define FITTED(id, word)         {OPTION_OVERLONG, word, OVERLONG_##id},
#define SAMPLED(id, word)        {OPTION_SAMPLING_ORDER, word, SAMPLING_ORDER_##id},
#define CONFIGURED(id, word)     {OPTION_GENERATION_CONFIG, word, GENERATION_CONFIG_##id},
#define DIVIDED(id, word)        {OPTION_SHARD, word, SHARD_##id},
#define GUESSED(id, word)        {OPTION_SPECULATIVE, word, GUESSED_##id + 1},
#define PREFERRED(id, word)      {OPTION_METRIC_FOR_BEST_MODEL, word, BEST_OF_##id},
    OPTIM_LIST(OPTIMIZED) OFFLOAD_LIST(OFFLOADED) EVAL_STRATEGY_LIST(EVALUATED) BEST_METRIC_LIST(BETTER)
        SFT_LOSS_LIST(SFT_WORD) TRUNCATION_LIST(CUT) PACKING_LIST(PACKED) LOSS_LIST(LOSS) LOSS_LEVEL_LIST(LEVEL)
            LOSS_KL_LIST(ESTIMATOR) ADVANTAGE_SCALE_LIST(SCALE) ADVANTAGE_ESTIMATOR_LIST(BASELINE)
                ADVANTAGE_AGGREGATION_LIST(SUMMED) SCHEDULE_LIST(SCHEDULE) ANSWER_FORMAT_LIST(FORM) STOP_ON_LIST(STOPS)
                    OUTPUT_FORMAT_LIST(LOGGED) EXPORT_FORMAT_LIST(EXPORTED) EXPORT_TABLE_LIST(TABLED)
                        COMPLETION_ORDER_LIST(ORDERED) RECOMPUTE_LIST(RECOMPUTED) INPUT_KIND_LIST(INPUT_OF)
                            PRESET_LIST(PRESET) CPU_ISA_LIST(ISA) GUIDE_WHITESPACE_LIST(SPACED)
                                GUIDE_UNSUPPORTED_LIST(ENFORCED) GUIDE_LOGPROB_LIST(OF_WHAT)
                                    GUIDE_NOTATION_LIST(WRITTEN) GUIDE_TOOLS_LIST(CALLED) ROUTER_REPLAY_LIST(REPLAYED)
                                        DPO_LOSS_LIST(PAIRED) CPO_LOSS_LIST(COMPARED) KTO_LOSS_LIST(MARKED)
                                            PREFERENCE_DIVERGENCE_LIST(DIVERGED) PREFERENCE_METRIC_LIST(PREFERRED)
                                                KTO_METRIC_LIST(PREFERRED) REWARD_METRIC_LIST(PREFERRED)
                                                    TURN_REWARDS_LIST(REWARDED) OVERLONG_LIST(FITTED)
                                                        SAMPLING_ORDER_LIST(SAMPLED) GENERATION_CONFIG_LIST(CONFIGURED)
                                                            SHARD_LIST(DIVIDED)
                                                                SPECULATIVE_LIST(GUESSED){OPTION_RECOMPUTE, "auto", 0},
    {OPTION_ISA, "auto", CPU_ISA_AUTO},
    {OPTION_SPECULATIVE, "auto", 0},
};

/* The index that a word is read as is the value of its enum. */
static void check_meaning(const struct option_spec *spec, const char *word)
{
    size_t i = 0;
    while (i < sizeof meanings / sizeof *meanings &&
           (meanings[i].option != spec->id || strcmp(meanings[i].word, word) != 0))
        i++;
    if (i == sizeof meanings / sizeof *meanings)
        fail_msg("%s: nothing in this test says what '%s' stands for", spec->name, word);
    struct options *options = with(spec, word);
    assert_int_equal(spec->type == OPTION_TYPE_ENUM ? options_choice(options, spec->id)
                                                    : options_list_choice(options, spec->id, 0),
                     meanings[i].value);
    options_destroy(options);
}

static void check_type(const struct option_spec *spec, const char *word)
{
    struct options *options = with(spec, word);
    enum dtype type = DTYPE_F16;
    const bool is_auto = strcmp(word, "auto") == 0;
    if (spec->id == OPTION_MOMENTS_DTYPE)
        type = session_moments(options);
    else
        assert_int_equal(session_asked_type(options, &type), !is_auto);
    assert_int_equal(type, is_auto ? DTYPE_F16 : strcmp(word, "bf16") == 0 ? DTYPE_BF16 : DTYPE_F32);
    options_destroy(options);
}

static void test_table(void **state)
{
    (void)state;
    size_t count = 0;
    const struct option_spec *table = options_table(&count);
    for (size_t i = 0; i < count; i++) {
        const struct option_spec *spec = &table[i];
        for (size_t k = 0; spec->choices != NULL && spec->choices[k] != NULL; k++) {
            const char *word = spec->choices[k];
            for (size_t j = 0; j < k; j++)
                assert_string_not_equal(word, spec->choices[j]);
            switch (spec->id) {
            case OPTION_DTYPE:
            case OPTION_MOMENTS_DTYPE: check_type(spec, word); break;
            case OPTION_KIND: break; /* command_bench.c makes its table from the same list */
            default: check_meaning(spec, word); break;
            }
        }
    }
    for (int kind = 0; kind < INPUT_KINDS; kind++)
        assert_string_equal(options_row(FOR_GRPO, "accept_changed", 14)->choices[kind],
                            input_kind_name((enum input_kind)kind));
    for (int i = 0; i < N_PRESETS; i++)
        assert_string_equal(options_row(FOR_INIT, "preset", 6)->choices[i], model_preset_names[i]);
    for (int i = 0; i < N_RECOMPUTE; i++)
        assert_string_equal(options_row(FOR_GRPO, "recompute", 9)->choices[i + 1], recompute_names[i]);
}

/* --threads takes what a backend takes. */
static void test_threads(void **state)
{
    (void)state;
    size_t count = 0, n = 0;
    const struct option_spec *table = options_table(&count);
    for (size_t i = 0; i < count; i++) {
        struct backend *backend = NULL;
        if (table[i].id != OPTION_THREADS)
            continue;
        n++;
        cohort_error err = {0};
        if (backend_cpu_create(&backend, CPU_ISA_AUTO, (int)table[i].maximum, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        backend_destroy(backend);
        assert_int_equal(backend_cpu_create(&backend, CPU_ISA_AUTO, (int)table[i].maximum + 1, &err),
                         COHORT_ERR_ARGUMENT);
    }
    assert_int_equal(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
