#include "recipe/choices.h"

#include "recipe/memory_plan.h"
#include "train/advantage.h"
#include "train/loss.h"
#include "train/schedule.h"

#include <assert.h>
#include <string.h>

static const struct choice dtypes[] = {{"auto", CHOICE_AUTO}, {"bf16", DTYPE_BF16}, {"f32", DTYPE_F32}};
static const struct choice scales[] = {
    {"group", ADVANTAGE_SCALE_GROUP}, {"batch", ADVANTAGE_SCALE_BATCH}, {"none", ADVANTAGE_SCALE_NONE}};
static const struct choice loss_types[] = {
    {"grpo", LOSS_GRPO}, {"bnpo", LOSS_BNPO}, {"dr_grpo", LOSS_DR_GRPO}, {"dapo", LOSS_DAPO}};
static const struct choice levels[] = {{"token", LOSS_LEVEL_TOKEN}, {"sequence", LOSS_LEVEL_SEQUENCE}};
static const struct choice schedules[] = {
    {"constant", SCHEDULE_CONSTANT}, {"linear", SCHEDULE_LINEAR}, {"cosine", SCHEDULE_COSINE}};
static const struct choice moments[] = {{"f32", DTYPE_F32}, {"bf16", DTYPE_BF16}};
static const struct choice recompute[] = {
    {"auto", CHOICE_AUTO}, {"none", RECOMPUTE_NONE}, {"logits", RECOMPUTE_LOGITS}, {"layer", RECOMPUTE_LAYER}};
static const struct choice formats[] = {{"text", OUTPUT_TEXT}, {"jsonl", OUTPUT_JSONL}};

#define LIST(option, choices)                                                                                          \
    {                                                                                                                  \
        option, choices, sizeof(choices) / sizeof(choices)[0]                                                          \
    }
static const struct choice_list lists[] = {
    LIST("dtype", dtypes),
    LIST("scale_rewards", scales),
    LIST("loss_type", loss_types),
    LIST("importance_sampling_level", levels),
    LIST("lr_scheduler_type", schedules),
    LIST("moments_dtype", moments),
    LIST("recompute", recompute),
    LIST("format", formats),
};

const struct choice_list *choice_lists(size_t *count)
{
    *count = sizeof lists / sizeof lists[0];
    return lists;
}

int choice_of(const struct options *options, const char *option)
{
    const int index = options_choice(options, option);
    size_t i = 0;
    while (i < sizeof lists / sizeof lists[0] && strcmp(lists[i].option, option) != 0)
        i++;
    assert(i < sizeof lists / sizeof lists[0] && index >= 0 && (size_t)index < lists[i].count);
    assert(strcmp(lists[i].choices[index].word, options_choice_word(options, option)) == 0);
    return lists[i].choices[index].value;
}
