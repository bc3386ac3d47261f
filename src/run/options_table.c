/* The rows of options_table.h as a table. */
#include "backend/cpu_isa_list.h"
#include "bench/bench_list.h"
#include "format/preset_list.h"
#include "guide/guide_kind_list.h"
#include "recipe/offload_list.h"
#include "recipe/recompute_list.h"
#include "recipe/shard_list.h"
#include "recipe/sft_row_list.h"
#include "recipe/speculative_list.h"
#include "recipe/overlong_list.h"
#include "recipe/turn_rewards_list.h"
#include "run/export_list.h"
#include "run/options_internal.h"
#include "run/output_format.h"
#include "run/sampling_words.h"
#include "run/stop_list.h"
#include "tensor/dtype_list.h"
#include "train/advantage_list.h"
#include "train/best_list.h"
#include "train/loss_list.h"
#include "train/routing_list.h"
#include "train/optimizer_list.h"
#include "train/preference_list.h"
#include "train/schedule_list.h"
#include "train/sft_list.h"

#include <float.h>

#define FOR_PLAN (FOR_INFO | FOR_DRAWN) /* sizes of the memory plan */
#define FOR_COMPUTE                                                                                                    \
    (FOR_GENERATE | FOR_CHAT | FOR_PERPLEXITY | FOR_LOGPROBS | FOR_INFO | FOR_TRAIN | FOR_EVAL | FOR_BENCH | FOR_SERVE)
#define FOR_MODEL   (FOR_COMPUTE | FOR_TOKENIZE)
#define FOR_ADAPTER FOR_COMPUTE
#define FOR_SAMPLE  (FOR_GENERATE | FOR_CHAT | FOR_DRAWN | FOR_EVAL | FOR_SERVE)
#define FOR_TALK    (FOR_GENERATE | FOR_CHAT | FOR_SERVE) /* answers people and clients */
#define FOR_GUIDED  (FOR_GENERATE | FOR_DRAWN | FOR_EVAL)
#define FOR_SCORED  (FOR_DRAWN | FOR_EVAL | FOR_SCORE)
#define FOR_YAML    (FOR_GENERATE | FOR_CHAT | FOR_TRAIN | FOR_EVAL | FOR_SCORE)

#define MANY OPTIONS_INT_MAX /* no upper bound worth stating */
/* Counts of tokens and rows: more than any machine holds, and small enough that sums and products of two of them fit
 * into 64 bits, and the sum of one and a context into 32. */
#define COUNT 268435456
#define BIG   DBL_MAX
#define TINY  DBL_MIN /* more than zero */

/* Types. */
#define SWITCH             .type = OPTION_TYPE_BOOL
#define INT(low, high)     .type = OPTION_TYPE_INT, .minimum = (low), .maximum = (high)
#define FLOAT(low, high)   .type = OPTION_TYPE_FLOAT, .minimum = (low), .maximum = (high)
#define SINGLE(low, high)  FLOAT(low, high), .single = true
#define TEXT               .type = OPTION_TYPE_STRING, .placeholder = "TEXT"
#define FOLDER             .type = OPTION_TYPE_STRING, .placeholder = "DIR"
#define FOLDER_OR(alone_)  FOLDER, .alone = alone_
#define FILE_NAME          .type = OPTION_TYPE_STRING, .placeholder = "FILE"
#define ONE_OF(words)      .type = OPTION_TYPE_ENUM, .choices = words
#define SOME_OF(words)     .type = OPTION_TYPE_LIST, .choices = words
#define TEXTS              .type = OPTION_TYPE_LIST
#define NUMBERS(low, high) .type = OPTION_TYPE_LIST, .minimum = (low), .maximum = (high)
#define BIASES             .type = OPTION_TYPE_LIST, .biases = true
#define PAIRS              .type = OPTION_TYPE_LIST, .pairs = true
#define COUNT_OR_SHARE     FLOAT(0, BIG), .count = true

/* Words that end with NULL. */
#define WORD(id, word, ...) word,
#define WORDS(list)                                                                                                    \
    (const char *const[]) { list(WORD) NULL }
#define AUTO_OR(list)                                                                                                  \
    (const char *const[]) { "auto", list(WORD) NULL }

#define NO_RUN         .resume = RESUME_NO_RUN
#define KEPT           .resume = RESUME_KEPT
#define FREE           .resume = RESUME_FREE
#define PLACE          .resume = RESUME_PLACE
#define ACCEPTED(kind) .resume = RESUME_ACCEPTED, .input = INPUT_##kind
#define HASHED(kind)   .resume = RESUME_HASHED, .input = INPUT_##kind

#define OPTION(id_, name_, type_, fallback_, commands_, group_, resume_, help_)                                        \
    {.id = OPTION_##id_,                                                                                               \
     .name = name_,                                                                                                    \
     .fallback = fallback_,                                                                                            \
     .commands = commands_,                                                                                            \
     .group = group_,                                                                                                  \
     .help = help_,                                                                                                    \
     resume_,                                                                                                          \
     type_},
#define ALSO OPTION
#define ALIAS(...)
#define SYNONYM(...)
static const struct option_spec table[] = {
#include "run/options_table.h"
};

#define OPTION(...)
#define ALSO(...)
#define ALIAS(name_, id_) {.name = name_, .id = OPTION_##id_},
#define SYNONYM(...)
static const struct option_alias aliases[] = {
#include "run/options_table.h"
};

#define OPTION(...)
#define ALSO(...)
#define ALIAS(...)
#define SYNONYM(name_, id_, unset_) {.name = name_, .id = OPTION_##id_, .unset = unset_},
static const struct option_synonym synonyms[] = {
#include "run/options_table.h"
};

const struct option_synonym *options_synonyms(size_t *count)
{
    *count = sizeof synonyms / sizeof synonyms[0];
    return synonyms;
}

const struct option_alias *options_aliases(size_t *count)
{
    *count = sizeof aliases / sizeof aliases[0];
    return aliases;
}

const struct option_spec *options_table(size_t *count)
{
    *count = sizeof table / sizeof table[0];
    return table;
}
