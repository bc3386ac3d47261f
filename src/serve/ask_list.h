/* The fields of requests to generate. X(name, forms, reader, least, most):
 *   forms   CHAT, COMPLETION, MESSAGES (Anthropic's), RESPONSES: who has it
 *   reader  NUMBER(member), WHOLE(member) or SWITCH(member) of struct ask, within [least, most];
 *           ELSEWHERE: a function of ask.c or of another reader takes it;
 *           NOTHING: accepted, and without consequence */
#ifndef COHORT_SERVE_ASK_LIST_H
#define COHORT_SERVE_ASK_LIST_H

/* clang-format off */
#define ASK_OPENAI (ASK_CHAT | ASK_COMPLETION)
#define ASK_ANY (ASK_OPENAI | ASK_MESSAGES | ASK_RESPONSES)
#define ASK_TALK (ASK_CHAT | ASK_MESSAGES | ASK_RESPONSES)
#define ASK_FIELD_LIST(X)                                                                                              \
    X("model", ASK_ANY, ELSEWHERE, 0, 0)                                                                               \
    X("messages", ASK_CHAT | ASK_MESSAGES, ELSEWHERE, 0, 0)                                                            \
    X("input", ASK_RESPONSES, ELSEWHERE, 0, 0)                                                                         \
    X("instructions", ASK_RESPONSES, ELSEWHERE, 0, 0)                                                                  \
    X("system", ASK_MESSAGES, ELSEWHERE, 0, 0)                                                                         \
    X("prompt", ASK_COMPLETION, ELSEWHERE, 0, 0)                                                                       \
    X("max_tokens", ASK_OPENAI | ASK_MESSAGES, ELSEWHERE, 0, 0)                                                        \
    X("max_completion_tokens", ASK_CHAT, ELSEWHERE, 0, 0)                                                              \
    X("max_output_tokens", ASK_RESPONSES, ELSEWHERE, 0, 0)                                                             \
    X("temperature", ASK_ANY, NUMBER(sampling.temperature), 0, 100)                                                    \
    X("top_p", ASK_ANY, NUMBER(sampling.top_p), 0, 1)                                                                  \
    X("top_k", ASK_ANY, ELSEWHERE, 0, 0)                                                                               \
    X("min_p", ASK_ANY, NUMBER(sampling.min_p), 0, 1)                                                                  \
    X("xtc_probability", ASK_ANY, NUMBER(sampling.xtc_probability), 0, 1)                                              \
    X("xtc_threshold", ASK_ANY, NUMBER(sampling.xtc_threshold), 0, 0.5)                                                \
    X("repetition_penalty", ASK_ANY, NUMBER(sampling.repetition_penalty), 0, 100)                                      \
    X("presence_penalty", ASK_ANY, NUMBER(sampling.presence_penalty), -100, 100)                                       \
    X("frequency_penalty", ASK_ANY, NUMBER(sampling.frequency_penalty), -100, 100)                                     \
    X("repetition_context_size", ASK_ANY, WHOLE(sampling.repetition_context), 1, INT32_MAX)                            \
    X("presence_context_size", ASK_ANY, WHOLE(sampling.presence_context), 1, INT32_MAX)                                \
    X("frequency_context_size", ASK_ANY, WHOLE(sampling.frequency_context), 1, INT32_MAX)                              \
    X("logit_bias", ASK_ANY, ELSEWHERE, 0, 0)                                                                          \
    X("n", ASK_OPENAI, WHOLE(n), 1, ASK_MOST_N)                                                                        \
    X("best_of", ASK_COMPLETION, ELSEWHERE, 0, 0)                                                                      \
    X("seed", ASK_ANY, ELSEWHERE, 0, 0)                                                                                \
    X("stop", ASK_OPENAI | ASK_RESPONSES, ELSEWHERE, 0, 0)                                                             \
    X("stop_sequences", ASK_MESSAGES, ELSEWHERE, 0, 0)                                                                 \
    X("stop_token_ids", ASK_ANY, ELSEWHERE, 0, 0)                                                                      \
    X("ignore_eos", ASK_ANY, SWITCH(ignore_eos), 0, 0)                                                                 \
    X("min_tokens", ASK_ANY, WHOLE(min_tokens), 0, INT32_MAX)                                                          \
    X("repetition_detection", ASK_ANY, ELSEWHERE, 0, 0)                                                                \
    X("stream", ASK_ANY, SWITCH(stream), 0, 0)                                                                         \
    X("stream_options", ASK_OPENAI | ASK_RESPONSES, ELSEWHERE, 0, 0)                                                   \
    X("logprobs", ASK_OPENAI, ELSEWHERE, 0, 0)                                                                         \
    X("top_logprobs", ASK_CHAT, ELSEWHERE, 0, 0)                                                                       \
    X("prompt_logprobs", ASK_OPENAI, ELSEWHERE, 0, 0)                                                                  \
    X("logprobs_mode", ASK_OPENAI, ELSEWHERE, 0, 0)                                                                    \
    X("return_token_ids", ASK_OPENAI, SWITCH(return_token_ids), 0, 0)                                                  \
    X("echo", ASK_COMPLETION, SWITCH(echo), 0, 0)                                                                      \
    X("suffix", ASK_COMPLETION, ELSEWHERE, 0, 0)                                                                       \
    X("response_format", ASK_OPENAI, ELSEWHERE, 0, 0)                                                                  \
    X("text", ASK_RESPONSES, ELSEWHERE, 0, 0)                                                                          \
    X("structured_outputs", ASK_ANY, ELSEWHERE, 0, 0)                                                                  \
    X("guided_json", ASK_ANY, ELSEWHERE, 0, 0)                                                                         \
    X("guided_regex", ASK_ANY, ELSEWHERE, 0, 0)                                                                        \
    X("guided_choice", ASK_ANY, ELSEWHERE, 0, 0)                                                                       \
    X("guided_grammar", ASK_ANY, ELSEWHERE, 0, 0)                                                                      \
    X("guided_after_think", ASK_TALK, ELSEWHERE, 0, 0)                                                                 \
    X("grammar", ASK_OPENAI, ELSEWHERE, 0, 0)                                                                          \
    X("json_schema", ASK_OPENAI, ELSEWHERE, 0, 0)                                                                      \
    X("tools", ASK_TALK, ELSEWHERE, 0, 0)                                                                              \
    X("tool_choice", ASK_TALK, ELSEWHERE, 0, 0)                                                                        \
    X("parallel_tool_calls", ASK_CHAT | ASK_RESPONSES, ELSEWHERE, 0, 0)                                                \
    X("thinking", ASK_MESSAGES, ELSEWHERE, 0, 0)                                                                       \
    X("chat_template_kwargs", ASK_TALK, ELSEWHERE, 0, 0)                                                               \
    X("enable_thinking", ASK_TALK, ELSEWHERE, 0, 0)                                                                    \
    X("reasoning_effort", ASK_CHAT, ELSEWHERE, 0, 0)                                                                   \
    X("reasoning", ASK_RESPONSES, ELSEWHERE, 0, 0)                                                                     \
    X("add_generation_prompt", ASK_CHAT, ELSEWHERE, 0, 0)                                                              \
    X("continue_final_message", ASK_CHAT, ELSEWHERE, 0, 0)                                                             \
    X("previous_response_id", ASK_RESPONSES, ELSEWHERE, 0, 0)                                                          \
    X("background", ASK_RESPONSES, ELSEWHERE, 0, 0)                                                                    \
    X("user", ASK_ANY, NOTHING, 0, 0)                                                                                  \
    X("metadata", ASK_ANY, NOTHING, 0, 0)                                                                              \
    X("store", ASK_ANY, NOTHING, 0, 0)                                                                                 \
    X("service_tier", ASK_ANY, NOTHING, 0, 0)                                                                          \
    X("safety_identifier", ASK_ANY, NOTHING, 0, 0)                                                                     \
    X("prompt_cache_key", ASK_ANY, NOTHING, 0, 0)                                                                      \
    X("prompt_cache_retention", ASK_ANY, NOTHING, 0, 0)                                                                \
    X("verbosity", ASK_CHAT, NOTHING, 0, 0)                                                                            \
    X("include", ASK_RESPONSES, NOTHING, 0, 0)                                                                         \
    X("truncation", ASK_RESPONSES, NOTHING, 0, 0)                                                                      \
    X("client_metadata", ASK_RESPONSES, NOTHING, 0, 0)
/* clang-format on */

#endif
