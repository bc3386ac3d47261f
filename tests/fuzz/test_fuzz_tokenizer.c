/* The tokenizer on files and texts that nobody meant to write. An input that begins with '{' is a
 * tokenizer.json, which must be refused or work; any other is a text, whose ids must decode to it,
 * at once and as a stream alike. Seeds are small valid files, in the pipelines of several families, and a short text. */
#include "support/fuzz.h"

#include "base/file.h"
#include "base/rng.h"
#include "text/tokenizer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tokenizer *fixed;

static void require(bool holds, const char *property)
{
    if (holds)
        return;
    fprintf(stderr, "broken: %s\n", property);
    abort();
}

static void check_decode(const struct tokenizer *tokenizer, const struct token_list *list, struct text *whole)
{
    for (int skip = 1; skip >= 0; skip--) {
        struct token_stream stream = {0};
        struct text streamed = {0};
        whole->length = 0;
        require(tokenizer_decode(tokenizer, list->ids, list->count, skip == 1, whole, NULL) == COHORT_OK, "decode");
        for (size_t i = 0; i < list->count; i++) {
            size_t before = streamed.length;
            require(token_stream_push(&stream, tokenizer, list->ids[i], skip == 1, &streamed, NULL) == COHORT_OK,
                    "stream");
            size_t added = streamed.length - before;
            require(added == 0 || utf8_check(streamed.data + before, added) == added, "whole characters");
        }
        require(token_stream_finish(&stream, tokenizer, &streamed, NULL) == COHORT_OK, "stream end");
        token_stream_free(&stream);
        require(streamed.length == whole->length, "stream length");
        require(streamed.length == 0 || memcmp(streamed.data, whole->data, streamed.length) == 0, "stream text");
        text_free(&streamed);
    }
}

static void try_text(const struct tokenizer *tokenizer, const char *text, size_t length)
{
    for (int parse = 0; parse < 2; parse++) {
        struct token_list list = {0};
        struct text whole = {0};
        cohort_error err = {0};
        if (tokenizer_encode(tokenizer, text, length, parse == 1, &list, &err) == COHORT_OK) {
            require(utf8_check(text, length) == length, "only UTF-8 is encoded");
            for (size_t i = 0; i < list.count; i++)
                require(list.ids[i] >= 0 && list.ids[i] < tokenizer_size(tokenizer), "ids in range");
            check_decode(tokenizer, &list, &whole);
            if (tokenizer == fixed) {
                struct form_buffer nfc = {0};
                const char *normal = NULL;
                size_t normal_length = 0;
                require(form_normalize(FORM_NFC, text, length, &nfc, &normal, &normal_length, NULL) == COHORT_OK,
                        "NFC");
                /* With added tokens each piece is normalised by itself, so only without is the text
                 * that of NFC. */
                require(parse == 1 || (whole.length == normal_length &&
                                       (normal_length == 0 || memcmp(whole.data, normal, normal_length) == 0)),
                        "ids decode to the normalised text");
                form_buffer_free(&nfc);
            }
        } else {
            require(err.message[0] != '\0', "a message");
            require(list.count == 0, "nothing is left of a failure");
        }
        text_free(&whole);
        token_list_free(&list);
    }
}

/* The text as content, cut into spans at random: no control token comes of it, and of the fixed tokenizer's the ids are
 * those of plain text. */
static void try_content(const struct tokenizer *tokenizer, const char *text, size_t length)
{
    struct token_list list = {0}, plain = {0};
    struct content_spans spans = {0};
    for (size_t at = 0; at < length;) {
        size_t to = at + 1 + (size_t)(unsigned char)text[at] % 9;
        to = to > length ? length : to;
        require(content_spans_push(&spans, at, to, CONTENT_FOREIGN, NULL) == COHORT_OK, "span");
        at = to;
    }
    if (tokenizer_encode_content(tokenizer, text, length, &spans, &list, NULL) == COHORT_OK) {
        for (size_t i = 0; i < list.count; i++) {
            size_t n = 0; /* a byte must be encoded, even where its token is marked special */
            const char *spelled = tokenizer_text(tokenizer, list.ids[i], &n);
            require(spelled != NULL, "a token");
            require(n <= 2 || list.ids[i] == tokenizer->unk || (n == 6 && memcmp(spelled, "<0x", 3) == 0) ||
                        !tokenizer_is_special(tokenizer, list.ids[i]),
                    "content is content");
        }
        require(tokenizer != fixed ||
                    (tokenizer_encode(tokenizer, text, length, false, &plain, NULL) == COHORT_OK &&
                     plain.count == list.count &&
                     (list.count == 0 || memcmp(plain.ids, list.ids, list.count * sizeof *list.ids) == 0)),
                "content has the ids of plain text");
    }
    content_spans_free(&spans);
    token_list_free(&list);
    token_list_free(&plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (fixed == NULL) {
        char folder[] = "/tmp/cohort-fuzz-XXXXXX";
        require(mkdtemp(folder) != NULL, "a temporary folder");
        require(tokenizer_write_bytes(folder, NULL) == COHORT_OK, "write");
        require(tokenizer_load(&fixed, folder, NULL) == COHORT_OK, "load");
        require(file_remove_all(folder, NULL) == COHORT_OK, "remove");
    }
    if (size == 0 || data[0] != '{') {
        try_text(fixed, (const char *)data, size);
        try_content(fixed, (const char *)data, size);
        /* The same bytes as ids, some out of range: seldom UTF-8. */
        struct token_list list = {0};
        struct text whole = {0};
        for (size_t i = 0; i < size; i++)
            require(token_list_push(&list, data[i] == '#' ? INT32_MIN : data[i] + (data[i] == '$' ? 0x7000 : 0),
                                    NULL) == COHORT_OK,
                    "push");
        check_decode(fixed, &list, &whole);
        text_free(&whole);
        token_list_free(&list);
        return 0;
    }
    static const char SAMPLE[] =
        " I'm a <|im_end|> b 12\n\n  caf\xC3\xA9 e\xCC\x81 \xF0\x9F\x98\x80<think>\tabc\xE2\x96\x81 a";
    struct token_list every = {0};
    struct text decoded = {0};
    struct tokenizer *tokenizer = NULL;
    cohort_error err = {0};
    if (tokenizer_parse(&tokenizer, (const char *)data, size, "fuzz.json", &err) != COHORT_OK) {
        require(tokenizer == NULL && strstr(err.message, "fuzz.json") != NULL, "a message that names the file");
        return 0;
    }
    try_text(tokenizer, SAMPLE, sizeof SAMPLE - 1);
    try_content(tokenizer, SAMPLE, sizeof SAMPLE - 1);
    for (int32_t id = -1; id < 400; id++) /* each token behind each kind of other */
        require(token_list_push(&every, id * 7 % 401, NULL) == COHORT_OK, "push");
    check_decode(tokenizer, &every, &decoded);
    every.count = 0;
    require(tokenizer_encode_text(tokenizer, SAMPLE, 0, false, &every, NULL) == COHORT_OK || every.count == 0,
            "an empty text");
    text_free(&decoded);
    token_list_free(&every);
    tokenizer_destroy(tokenizer);
    return 0;
}

#ifndef COHORT_LIBFUZZER

static const char *const WORDS[] = {
    "null",
    "true",
    "-1",
    "4194303",
    "1e99",
    "\"\"",
    "[]",
    "{}",
    "\"NFC\"",
    "\"type\"",
    "\"a b\"",
    "[\"a\",\"b\"]",
    "\\u0000",
    "\\ud800",
    ",",
    ":",
    "\"",
    "(",
    "[",
    "a*",
    "(?=b)",
    "\\\\p{L}",
    "<|im_end|>",
    "<think>",
    "\xCC\x81",
    "\xE1\x84\x80\xE1\x85\xA1",
    "\xF0\x9F\x98\x80",
    "\xED\xA0\x80",
    "\xF4\x90",
    "#",
    "$",
    "\r\n",
    "   ",
    "\"ignore_merges\":true",
    "\"normalized\":true",
    "\"lstrip\":true",
    "\"single_word\":true",
    "\"invert\":true",
    "\"Removed\"",
    "\"MergedWithNext\"",
    "\"String\"",
    "\"Sequence\"",
    "\xE2\x96\x81",
    "<0x41>",
};
enum { N_WORDS = sizeof WORDS / sizeof WORDS[0] };

#define SPLIT(behavior, invert)                                                                                        \
    "{'type':'Split','pattern':{'Regex':'[ab]| +'},'behavior':'" behavior "','invert':" invert "}"
#define LIST(kind, ...) "{'type':'Sequence','" kind "':[" __VA_ARGS__ "]}"
static const char *const PARTS[4][8] = {
    {"null", "{'type':'NFC'}",
     LIST("normalizers",
          "{'type':'Prepend','prepend':'\xE2\x96\x81'},{'type':'Replace','pattern':{'String':' '},'content':"
          "'\xE2\x96\x81'}"),
     LIST("normalizers", "{'type':'NFKD'},{'type':'StripAccents'},{'type':'Lowercase'}"),
     "{'type':'Strip','strip_left':true,'strip_right':true}", "{'type':'ByteLevel'}",
     "{'type':'Replace','pattern':{'Regex':'[0-9]|$'},'content':'a b'}", "{'type':'NFD'}"},
    {"null", "{'type':'ByteLevel','add_prefix_space':true,'use_regex':true}",
     "{'type':'Metaspace','replacement':'\xE2\x96\x81','prepend_scheme':'first','split':false}",
     "{'type':'Metaspace','replacement':'\xE2\x96\x81','prepend_scheme':'always','split':true}",
     LIST("pretokenizers", SPLIT("MergedWithPrevious", "false") ",{'type':'ByteLevel','use_regex':false}"),
     LIST("pretokenizers", SPLIT("Contiguous", "true") ",{'type':'Digits','individual_digits':false}"),
     LIST("pretokenizers", "{'type':'Whitespace'},{'type':'Punctuation','behavior':'Removed'}"),
     LIST("pretokenizers", "{'type':'WhitespaceSplit'},{'type':'CharDelimiterSplit','delimiter':'b'}")},
    {"{'type':'ByteLevel'}", "{'type':'Fuse'}",
     "{'type':'Metaspace','replacement':'\xE2\x96\x81','prepend_scheme':'first'}",
     LIST("decoders",
          "{'type':'Replace','pattern':{'String':'\xE2\x96\x81'},'content':' '},{'type':'ByteFallback'},{'type':"
          "'Fuse'},{'type':'Strip','content':' ','start':1,'stop':0}"),
     "{'type':'ByteFallback'}",
     LIST("decoders", "{'type':'Strip','content':'a','start':1,'stop':2},{'type':'ByteLevel'}"),
     LIST("decoders", "{'type':'ByteLevel'},{'type':'Fuse'},{'type':'Strip','content':' ','start':2,'stop':0}"),
     "{'type':'Replace','pattern':{'Regex':'a*'},'content':'b'}"},
    {"null", "{'type':'ByteLevel'}",
     "{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'<s>'}},{'Sequence':{'id':'A'}}],'special_tokens':{'"
     "<s>':"
     "{'ids':[258]}}}",
     "null", "null", "null", "null", "null"},
};

static json_t *read_part(const char *quoted)
{
    char copy[512];
    json_error_t position;
    snprintf(copy, sizeof copy, "%s", quoted);
    for (char *at = copy; *at != '\0'; at++)
        if (*at == '\'')
            *at = '"';
    json_t *part = json_loads(copy, JSON_DECODE_ANY, &position);
    require(part != NULL, quoted);
    return part;
}

/* Valid file n, compact: the tokenizer of bytes with two merges, a few tokens of characters, and parts that n chooses. */
static char *make_seed(const char *bytes_json, uint64_t n)
{
    static const char *const names[] = {"normalizer", "pre_tokenizer", "decoder", "post_processor"};
    static const char *const more[] = {"ab",
                                       "abc",
                                       "\xE2\x96\x81",
                                       ("\xE2\x96\x81"
                                        "a"),
                                       "<unk>",
                                       "<0x0A>",
                                       "<0xC3>",
                                       "<0xA9>"};
    json_error_t position;
    json_t *root = json_loads(bytes_json, 0, &position);
    json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
    json_array_clear(json_object_get(root, "added_tokens"));
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        json_object_set_new(vocab, more[i], json_integer((json_int_t)(256 + i)));
    json_object_set_new(model, "merges", json_pack("[s, [s, s], [s, s]]", "a b", "ab", "c", more[2], "a"));
    json_object_set_new(model, "unk_token", n % 3 == 0 ? json_null() : json_string("<unk>"));
    json_object_set_new(model, "byte_fallback", json_boolean(n % 2 == 0));
    json_object_set_new(model, "fuse_unk", json_boolean(n % 5 == 0));
    json_array_append_new(json_object_get(root, "added_tokens"),
                          json_pack("{s:i, s:s, s:b, s:b, s:b, s:b}", "id", 264, "content", "<|im_end|>", "special", 1,
                                    "normalized", n % 7 == 0, "lstrip", n % 2 == 0, "rstrip", n % 3 == 0));
    struct rng_block draw = rng_philox(4, RNG_TEST, n, 0);
    for (size_t i = 0; i < 4 && n > 0; i++)
        json_object_set_new(root, names[i], read_part(PARTS[i][draw.word[i] % 8u]));
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

static char *read_bytes_json(void)
{
    char folder[] = "/tmp/cohort-fuzz-XXXXXX";
    char path[64];
    struct text json = {0};
    require(mkdtemp(folder) != NULL, "a temporary folder");
    require(tokenizer_write_bytes(folder, NULL) == COHORT_OK, "write");
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    require(file_read(path, 0, &json, NULL) == COHORT_OK, "read");
    require(file_remove_all(folder, NULL) == COHORT_OK, "remove");
    return json.data;
}

int main(int argc, char **argv)
{
    static const char TEXT[] = "The <|im_start|> caf\xC3\xA9 e\xCC\x81\xCC\xA3 \xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8 "
                               "\xF0\x9F\x98\x80 12\r\n  \t x'll "
                               "\xE4\xB8\xAD\xE6\x96\x87 "
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa<think>";
    enum { FILES = 64 };
    static struct fuzz_seed seeds[2 * FILES]; /* as many files as texts */
    static struct fuzz_target target = {
        .name = "tokenizer", .one = LLVMFuzzerTestOneInput, .seeds = seeds, .words = WORDS, .n_words = N_WORDS};
    char *bytes_json = read_bytes_json(), *files[FILES];
    int valid = 0;
    for (uint64_t i = 0; i < FILES; i++) {
        struct tokenizer *tokenizer = NULL;
        cohort_error err = {0};
        files[i] = make_seed(bytes_json, i);
        seeds[2 * i] = (struct fuzz_seed){files[i], strlen(files[i])};
        seeds[2 * i + 1] = (struct fuzz_seed){TEXT, sizeof TEXT - 1};
        valid += tokenizer_parse(&tokenizer, files[i], strlen(files[i]), "seed.json", &err) == COHORT_OK;
        require(i > 0 || valid == 1, err.message);
        tokenizer_destroy(tokenizer);
    }
    require(valid > FILES / 2, "most seeds are valid");
    target.n_seeds = sizeof seeds / sizeof *seeds;
    const int status = fuzz_run(&target, argc, argv);
    tokenizer_destroy(fixed);
    for (size_t i = 0; i < FILES; i++)
        free(files[i]);
    mem_free(bytes_json);
    return status;
}
#endif
