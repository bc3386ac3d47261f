/* Any bytes as the body of a request to generate, in each of the four forms: it is read, or refused with a status of HTTP
 * below 500 and a message. The first byte says which form. */
#include "support/fuzz.h"

#include "base/file.h"
#include "serve/ask.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct tokenizer *tokenizer;
static struct chat_template *chat;
static struct guide_vocabulary *vocabulary;

static void set_up(void)
{
    char folder[] = "/tmp/cohort-ask-XXXXXX";
    cohort_error err = {0};
    if (mkdtemp(folder) == NULL || tokenizer_write_bytes(folder, &err) != COHORT_OK ||
        tokenizer_load(&tokenizer, folder, &err) != COHORT_OK ||
        chat_template_open(&chat, tokenizer, NULL, &err) != COHORT_OK ||
        guide_vocabulary_create(&vocabulary, tokenizer, tokenizer_size(tokenizer), &err) != COHORT_OK)
        abort();
    if (file_remove_all(folder, &err) != COHORT_OK)
        abort();
}

static bool read_body(const uint8_t *data, size_t size)
{
    static const enum ask_form forms[] = {ASK_CHAT, ASK_COMPLETION, ASK_MESSAGES, ASK_RESPONSES};
    static const int32_t eos = 258;
    if (tokenizer == NULL)
        set_up();
    if (size == 0)
        return false;
    static struct model model = {.config = {.vocab_size = 264}};
    const struct session session = {.tokenizer = tokenizer, .chat = chat, .model = &model};
    const struct engine_request pattern = {.eos_ids = &eos, .n_eos = 1, .sampling = {.temperature = 1.0f}};
    const struct ask_context context = {.session = &session,
                                        .pattern = &pattern,
                                        .vocabulary = vocabulary,
                                        .model = "m",
                                        .context = 4096,
                                        .max_score = 2048,
                                        .lenient = (data[0] & 4) != 0};
    struct ask ask = {0};
    struct fault fault = {0};
    const cohort_status status = ask_read(&ask, forms[data[0] & 3], &context, (const char *)data + 1, size - 1, &fault);
    if (status != COHORT_OK && (fault.err.message[0] == '\0' || fault_http(&fault) < 400 || fault_http(&fault) >= 500))
        abort();
    if (status == COHORT_OK && (ask.n_prompts == 0 || ask.n < 1 || ask.prompts[0].ids.count == 0))
        abort();
    ask_free(&ask);
    return status == COHORT_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)read_body(data, size);
    return 0;
}

#ifndef COHORT_LIBFUZZER
static const char *const texts[] = {
    "0{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 0.5, \"stop\": [\"a\", \"b\"]}",
    "0{\"messages\": [{\"role\": \"system\", \"content\": [{\"type\": \"text\", \"text\": \"s\"}]}, {\"role\": "
    "\"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"a\", \"type\": \"function\", \"function\": "
    "{\"name\": "
    "\"f\", \"arguments\": \"{}\"}}]}, {\"role\": \"tool\", \"tool_call_id\": \"a\", \"content\": \"5\"}], \"tools\": "
    "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {}}}], \"tool_choice\": \"auto\"}",
    "0{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"response_format\": {\"type\": \"json_schema\", "
    "\"json_schema\": {\"schema\": {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}}}}, "
    "\"logprobs\": true, \"top_logprobs\": 3, \"max_tokens\": 9}",
    "1{\"prompt\": [\"a\", \"b\"], \"n\": 2, \"logit_bias\": {\"97\": -1}, \"seed\": 7, \"logprobs\": 0, \"echo\": "
    "false}",
    "1{\"prompt\": [[1, 2], [3]], \"max_tokens\": 5, \"stop_token_ids\": [1], \"stream\": true, \"stream_options\": "
    "{\"include_usage\": true}, \"guided_regex\": \"[ab]+\"}",
    "2{\"max_tokens\": 5, \"system\": \"s\", \"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", "
    "\"text\": \"x\"}, {\"type\": \"tool_result\", \"tool_use_id\": \"a\", \"content\": \"5\"}]}, {\"role\": "
    "\"assistant\", \"content\": [{\"type\": \"tool_use\", \"id\": \"a\", \"name\": \"f\", \"input\": {}}, {\"type\": "
    "\"thinking\", \"thinking\": \"t\"}]}], \"tools\": [{\"name\": \"f\", \"input_schema\": {}}], \"tool_choice\": "
    "{\"type\": \"auto\"}, \"stop_sequences\": [\"a\"]}",
    "3{\"input\": [{\"role\": \"user\", \"content\": \"x\"}, {\"type\": \"function_call\", \"call_id\": \"a\", "
    "\"name\": "
    "\"f\", \"arguments\": \"{}\"}, {\"type\": \"function_call_output\", \"call_id\": \"a\", \"output\": \"5\"}], "
    "\"instructions\": \"i\", \"text\": {\"format\": {\"type\": \"json_object\"}}, \"reasoning\": {\"effort\": "
    "\"low\"}}",
    "3{\"input\": \"x\", \"tools\": [{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}]}"};
static const char *const words[] = {"\"n\": ",
                                    "null",
                                    "[]",
                                    "{}",
                                    "\"\"",
                                    "-1",
                                    "1e308",
                                    "99999999999999999999",
                                    "\"role\": \"assistant\"",
                                    "\"content\": ",
                                    "\"messages\": ",
                                    "\"prompt\": ",
                                    "\"tools\": ",
                                    "\\u0000",
                                    "\\ud800",
                                    "[[[[[[[[",
                                    "\"guided_choice\": [\"a\"]",
                                    "\"grammar\": \"root ::= [a-c]+\"",
                                    "\"chat_template_kwargs\": {\"enable_thinking\": false}",
                                    "true"};

int main(int argc, char **argv)
{
    const struct fuzz_target target = {.name = "ask",
                                       .one = LLVMFuzzerTestOneInput,
                                       .accepted = read_body,
                                       .words = words,
                                       .n_words = sizeof words / sizeof words[0],
                                       .max_size = 1200};
    return fuzz_run_texts(&target, texts, sizeof texts / sizeof texts[0], argc, argv);
}
#endif
