/* JSON of nearly the right shape: valid files whose trees were edited, so that the damage gets past the parser. The
 * first byte of an input chooses the reader (tokenizer.json, config.json, a conversation for the chat templates), the
 * others are the edits.
 *
 * What is accepted must work: a tokenizer encodes to ids in range that decode to the text, a config has a table of
 * parameters, a rendered conversation encodes. What is refused is refused with a message. */
#include "support/fuzz.h"
#include "support/json_mutate.h"

#include "base/file.h"
#include "text/chat_training.h"
#include "format/architecture.h"
#include "format/model_config.h"
#include "text/tokenizer_internal.h"
#include "tensor/param.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const TOKENIZER_WORDS[] = {
    "type",       "vocab",    "merges",        "added_tokens", "content",       "special",
    "normalized", "lstrip",   "single_word",   "BPE",          "Sequence",      "Split",
    "ByteLevel",  "NFC",      "Regex",         "String",       "(?=a)",         "a*",
    "[",          "\\p{L}+",  "(a+)+$",        "ab",           "a b",           "\xc4\xa0",
    "id",         "model",    "pre_tokenizer", "decoder",      "Metaspace",     "Removed",
    "Isolated",   "behavior", "invert",        "pattern",      "ignore_merges", "byte_fallback",
    "unk_token",  "dropout",  "truncation"};
static const char *const CONFIG_WORDS[] = {"model_type",
                                           "qwen3",
                                           "llama",
                                           "architectures",
                                           "Qwen3ForCausalLM",
                                           "hidden_size",
                                           "head_dim",
                                           "rope_scaling",
                                           "rope_parameters",
                                           "rope_type",
                                           "default",
                                           "yarn",
                                           "factor",
                                           "layer_types",
                                           "full_attention",
                                           "sliding_attention",
                                           "use_sliding_window",
                                           "max_window_layers",
                                           "sliding_window",
                                           "eos_token_id",
                                           "pad_token_id",
                                           "dtype",
                                           "torch_dtype",
                                           "bfloat16",
                                           "quantization_config",
                                           "tie_word_embeddings",
                                           "attention_bias"};
static const char *const CHAT_WORDS[] = {"role",
                                         "content",
                                         "system",
                                         "user",
                                         "assistant",
                                         "tool",
                                         "developer",
                                         "tool_calls",
                                         "reasoning_content",
                                         "name",
                                         "<|im_start|>",
                                         "<|im_end|>",
                                         "<think>",
                                         "</think>",
                                         "\n\n",
                                         "<tool_response>",
                                         "</tool_response>",
                                         "type",
                                         "text",
                                         "function",
                                         "arguments",
                                         "",
                                         "\xf0\x9f\x98\x80"};
#define COUNT(list) (sizeof(list) / sizeof(list)[0])

static json_t *tokenizer_seed, *config_seed, *chat_seed;
static struct tokenizer *fixed;
static struct chat_template *chat;
static struct {
    const char *name;
    long tried, accepted;
} counts[] = {{"tokenizers", 0, 0}, {"configs", 0, 0}, {"conversations", 0, 0}};

static void require(bool holds, const char *property)
{
    if (holds)
        return;
    fprintf(stderr, "broken: %s\n", property);
    abort();
}

static void begin(void)
{
    char folder[] = "/tmp/cohort-fuzz-XXXXXX", path[64];
    json_error_t at;
    require(mkdtemp(folder) != NULL, "a temporary folder");
    require(tokenizer_write_bytes(folder, NULL) == COHORT_OK, "write");
    require(tokenizer_load(&fixed, folder, NULL) == COHORT_OK, "load");
    require(chat_template_open(&chat, fixed, NULL, NULL) == COHORT_OK, "a template");
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    tokenizer_seed = json_load_file(path, 0, &at);
    require(file_remove_all(folder, NULL) == COHORT_OK, "remove");
    json_t *model = json_object_get(tokenizer_seed, "model");
    json_object_set_new(json_object_get(model, "vocab"), "ab", json_integer(261));
    json_object_set_new(model, "merges", json_pack("[s, [s, s]]", "a b", "b", "c"));
    json_object_set_new(json_object_get(model, "vocab"), "bc", json_integer(262));
    config_seed = json_loads("{\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": "
                             "\"qwen3\", \"vocab_size\": 264, \"hidden_size\": 64, "
                             "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
                             "\"num_key_value_heads\": 2, \"head_dim\": 16, "
                             "\"intermediate_size\": 192, \"max_position_embeddings\": 1024, "
                             "\"rms_norm_eps\": 1e-6, \"rope_theta\": 10000, "
                             "\"eos_token_id\": [2, 1], \"pad_token_id\": 0, \"dtype\": "
                             "\"bfloat16\", \"use_sliding_window\": false, "
                             "\"layer_types\": [\"full_attention\", \"full_attention\"], "
                             "\"rope_scaling\": {\"rope_type\": \"default\"}}",
                             0, &at);
    chat_seed = json_loads("[{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": "
                           "\"hi <think>\"}, {\"role\": "
                           "\"assistant\", \"content\": \"<think>\\nr\\n</think>\\n\\nyes\"}, {\"role\": "
                           "\"user\", \"content\": \"again\"}, "
                           "{\"role\": \"assistant\", \"reasoning_content\": \"hm\", \"content\": \"no\"}]",
                           0, &at);
    require(tokenizer_seed != NULL && config_seed != NULL && chat_seed != NULL, "seeds");
}

static void try_tokenizer(const char *text, size_t length)
{
    static const char sample[] = "I'm abc a<|im_end|>b 12\n\n  caf\xC3\xA9 e\xCC\x81 \xF0\x9F\x98\x80<think>\tabcabc";
    struct tokenizer *tokenizer = NULL;
    struct token_list list = {0};
    struct text back = {0};
    cohort_error err = {0};
    if (tokenizer_parse(&tokenizer, text, length, "fuzz.json", &err) != COHORT_OK) {
        require(tokenizer == NULL && strstr(err.message, "fuzz.json") != NULL, "a message that names the file");
        return;
    }
    counts[0].accepted++;
    if (tokenizer_encode(tokenizer, sample, sizeof sample - 1, true, &list, &err) == COHORT_OK) {
        for (size_t i = 0; i < list.count; i++)
            require(list.ids[i] >= 0 && list.ids[i] < tokenizer_size(tokenizer), "ids in range");
        require(tokenizer_decode(tokenizer, list.ids, list.count, false, &back, &err) == COHORT_OK, "decode");
    } else {
        require(err.message[0] != '\0', "a message");
    }
    text_free(&back);
    token_list_free(&list);
    tokenizer_destroy(tokenizer);
}

static void try_config(const char *text, size_t length)
{
    struct model_config config;
    struct param_table table;
    cohort_error err = {0};
    if (model_config_parse(&config, text, length, "fuzz.json", &err) != COHORT_OK) {
        require(strncmp(err.message, "fuzz.json", 9) == 0, "a message that names the file");
        return;
    }
    counts[1].accepted++;
    require(config.n_heads % config.n_kv_heads == 0 && config.head_dim % 2 == 0, "heads");
    require(architecture_params(&config, STORAGE_F32, &table, &err) == COHORT_OK, "a table of parameters");
    param_table_free(&table);
}

/* However the messages are made, no message opens a turn (invariant I12): there are at most as many turns as messages. */
static void try_chat(const json_t *messages, bool generation, bool thinking)
{
    enum { IM_START = 257 };
    struct text text = {0};
    struct token_list list = {0};
    struct content_spans spans = {0};
    cohort_error err = {0};
    const json_t *first = json_array_get(messages, 0);
    struct chat_options options = {.add_generation_prompt = generation,
                                   .thinking = thinking ? CHAT_THINKING_ON : CHAT_THINKING_OFF,
                                   .tools = thinking && json_is_array(messages) ? messages : NULL,
                                   .settings = json_is_object(first) ? first : NULL};
    if (chat_template_render(chat, messages, &options, "fuzz", &text, &spans, &err) != COHORT_OK) {
        require(strncmp(err.message, "fuzz", 4) == 0 && text.length == 0, "a message with the place, and nothing left");
    } else {
        require(tokenizer_encode_content(fixed, text.data, text.length, &spans, &list, &err) == COHORT_OK,
                "what is rendered can be encoded");
        size_t turns = 0;
        for (size_t i = 0; i < list.count; i++)
            turns += list.ids[i] == IM_START;
        require(turns <= json_array_size(messages) + (generation ? 1 : 0) + (options.tools != NULL ? 1 : 0),
                "no message opens a turn");
        counts[2].accepted++;
    }
    struct chat_training training = {0};
    if (chat_training_render(&training, chat, messages, &options, generation ? CHAT_ALL : CHAT_LAST, "fuzz", &err) !=
        COHORT_OK)
        require(strncmp(err.message, "fuzz", 4) == 0, "a message with the place");
    size_t at = 0;
    for (size_t i = 0; i < training.trained.count; i++) {
        require(training.trained.items[i].from >= at && training.trained.items[i].to <= training.text.length,
                "what is trained lies in the text, in order");
        at = training.trained.items[i].to;
    }
    chat_training_free(&training);
    content_spans_free(&spans);
    token_list_free(&list);
    text_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct genome genome = {.bytes = data, .size = size};
    if (fixed == NULL)
        begin();
    size_t reader = genome_below(&genome, 3);
    counts[reader].tried++;
    switch (reader) {
    case 0: {
        json_t *tree = json_deep_copy(tokenizer_seed);
        json_mutate(tree, &genome, TOKENIZER_WORDS, COUNT(TOKENIZER_WORDS));
        char *text = json_dumps(tree, JSON_COMPACT);
        try_tokenizer(text, strlen(text));
        free(text);
        json_decref(tree);
        break;
    }
    case 1: {
        json_t *tree = json_deep_copy(config_seed);
        json_mutate(tree, &genome, CONFIG_WORDS, COUNT(CONFIG_WORDS));
        char *text = json_dumps(tree, JSON_COMPACT);
        try_config(text, strlen(text));
        free(text);
        json_decref(tree);
        break;
    }
    default: {
        json_t *tree = json_deep_copy(chat_seed);
        bool generation = genome_below(&genome, 2) == 1, thinking = genome_below(&genome, 2) == 1;
        json_mutate(tree, &genome, CHAT_WORDS, COUNT(CHAT_WORDS));
        try_chat(tree, generation, thinking);
        json_decref(tree);
        break;
    }
    }
    return 0;
}

#ifndef COHORT_LIBFUZZER
int main(int argc, char **argv)
{
    static const struct fuzz_seed seeds[] = {{"\0\1\2\3\4\5\6\7\10\11", 10},
                                             {"\1\1\2\3\4\5\6\7\10\11\12\13\14", 13},
                                             {"\2\1\2\3\4\5\6\7\10\11\12\13\14\15\16", 15},
                                             {"\0", 1},
                                             {"\1", 1},
                                             {"\2", 1}};
    static const struct fuzz_target target = {.name = "trees",
                                              .one = LLVMFuzzerTestOneInput,
                                              .seeds = seeds,
                                              .n_seeds = sizeof seeds / sizeof *seeds,
                                              .max_size = 64};
    int code = fuzz_run(&target, argc, argv);
    for (size_t i = 0; i < COUNT(counts); i++) {
        printf("%s: %ld of %ld accepted\n", counts[i].name, counts[i].accepted, counts[i].tried);
        if (argc == 1 && counts[i].accepted * 20 < counts[i].tried) {
            fprintf(stderr, "%s: nearly all are refused: most of the reader is not reached\n", counts[i].name);
            code = 1;
        }
    }
    return code;
}
#endif
