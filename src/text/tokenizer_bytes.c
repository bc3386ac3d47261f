/* A tokenizer of bytes, for models made from scratch: small, exact for any text, and readable by
 * every tool that reads Qwen's. */
#include "text/tokenizer_internal.h"

#include "base/file.h"
#include "base/json_text.h"
#include "text/chat_template.h"

#include <stdlib.h>
#include <string.h>

static const char QWEN_SPLIT[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
                                 "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
                                 "\\s+(?!\\S)|\\s+";

/* Qwen3 marks the thinking tags as not special: decoding keeps them. */
static const struct {
    const char *content;
    int special;
} ADDED[] = {
    {"<|endoftext|>", 1}, {"<|im_start|>", 1}, {"<|im_end|>", 1}, {"<think>", 0}, {"</think>", 0},
};
enum { N_ADDED = sizeof ADDED / sizeof ADDED[0], N_BYTES = 256 };

static json_t *make_vocab(void)
{
    json_t *vocab = json_object();
    bool whole = vocab != NULL;
    for (int byte = 0; byte < N_BYTES && whole; byte++) {
        char key[5] = {0};
        utf8_encode(byte_level_char((unsigned char)byte), key);
        whole = json_object_set_new(vocab, key, json_integer(byte)) == 0;
    }
    if (whole)
        return vocab;
    json_decref(vocab);
    return NULL; /* with which json_pack fails too */
}

static json_t *make_added(void)
{
    json_t *added = json_array();
    bool whole = added != NULL;
    for (int i = 0; i < N_ADDED && whole; i++) {
        json_t *token =
            json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", N_BYTES + i, "content", ADDED[i].content,
                      "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", ADDED[i].special);
        whole = json_array_append_new(added, token) == 0;
    }
    if (whole)
        return added;
    json_decref(added);
    return NULL;
}

static json_t *make_byte_level(void)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 0, "use_regex",
                     0);
}

static json_t *make_tokenizer(void)
{
    json_t *split = json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", QWEN_SPLIT, "behavior",
                              "Isolated", "invert", 0);
    json_t *model = json_pack("{s:s, s:n, s:n, s:s, s:s, s:b, s:b, s:b, s:o, s:[]}", "type", "BPE", "dropout",
                              "unk_token", "continuing_subword_prefix", "", "end_of_word_suffix", "", "fuse_unk", 0,
                              "byte_fallback", 0, "ignore_merges", 0, "vocab", make_vocab(), "merges");
    return json_pack("{s:s, s:n, s:n, s:o, s:{s:s}, s:{s:s, s:[o, o]}, s:o, s:o, s:o}", "version", "1.0", "truncation",
                     "padding", "added_tokens", make_added(), "normalizer", "type", "NFC", "pre_tokenizer", "type",
                     "Sequence", "pretokenizers", split, make_byte_level(), "post_processor", make_byte_level(),
                     "decoder", make_byte_level(), "model", model);
}

static json_t *make_config(void)
{
    return json_pack("{s:b, s:n, s:s, s:b, s:s, s:s, s:i, s:s, s:b, s:s, s:n}", "add_prefix_space", 0, "bos_token",
                     "chat_template", chat_template_qwen3(), "clean_up_tokenization_spaces", 0, "eos_token",
                     ADDED[2].content, "errors", "replace", "model_max_length", 131072, "pad_token", ADDED[0].content,
                     "split_special_tokens", 0, "tokenizer_class", "PreTrainedTokenizerFast", "unk_token");
}

/* Takes json, which is NULL when memory ran out. */
static cohort_status write_json(const char *dir, const char *name, json_t *json, cohort_error *err)
{
    char *path = NULL;
    struct text content = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(json_text_write(json, JSON_INDENT(2), &content, err));
    TRY_GOTO(file_join(&path, dir, name, err));
    TRY_GOTO(file_write_atomic(path, content.data, content.length, err));
cleanup:
    mem_free(path);
    text_free(&content);
    json_decref(json);
    return status;
}

cohort_status tokenizer_write_bytes(const char *dir, cohort_error *err)
{
    TRY(file_make_dirs(dir, err));
    TRY(write_json(dir, "tokenizer.json", make_tokenizer(), err));
    return write_json(dir, "tokenizer_config.json", make_config(), err);
}
