/* What a chat template does, found by rendering conversations of one word a message. */
#ifndef COHORT_TEXT_CHAT_PROBE_H
#define COHORT_TEXT_CHAT_PROBE_H

#include "text/chat_template.h"

/* What stands as content beside an assistant's calls of tools. */
enum chat_beside { BESIDE_TEXT, BESIDE_NULL, BESIDE_EMPTY, BESIDE_ABSENT, BESIDE_FORMS };
enum chat_calls {
    CALLS_UNKNOWN, /* the template takes no such message */
    CALLS_WRITTEN,
    CALLS_LOST /* nothing of the calls is written, or "None" in the place of the content */
};

struct chat_findings {
    int32_t turn_end;  /* the special token behind an assistant's message; -1: none */
    unsigned left_out; /* see chat_left_out */
    enum chat_calls calls[BESIDE_FORMS];
    bool parses_arguments; /* of a call: it takes an object, and fails for the JSON text of one */
    char *unprompted; /* what stands before an assistant's words, where prompts end without it; NULL: they have it, or
                          nothing stands there */
};

/* Whether the template writes nothing of such messages, given as text or (parts) as a list of parts. Of a role other than
 * system, user, assistant and tool, or where no probe could be rendered: false. */
bool chat_left_out(const struct chat_findings *found, const char *role, bool parts);

/* Fills found, whose fields are as after opening, and adds to chat's markers what opens and closes turns. */
cohort_status chat_probe(struct chat_template *chat, const struct tokenizer *tokenizer, struct chat_findings *found,
                         cohort_error *err);

#endif
