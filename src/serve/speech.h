/* What an answer says, as it comes: thinking, content and calls of tools, piece by piece, none of which has to be taken
 * back. The whole of the pieces is the same however the text came.
 *
 * Tags (<think>, </think>, what begins a call in the model's form) and white space beside them belong to no piece. Text
 * that may yet become one of these is held. A call is held until it is whole; one that cannot be read is content, tags
 * and all. */
#ifndef COHORT_SERVE_SPEECH_H
#define COHORT_SERVE_SPEECH_H

#include "text/response.h"

struct speech_sink {
    void *context;
    cohort_status (*thinking)(void *context, const char *text, size_t length, cohort_error *err);
    cohort_status (*content)(void *context, const char *text, size_t length, cohort_error *err);
    /* The call's arguments are JSON text. */
    cohort_status (*call)(void *context, const char *name, const char *id, const char *arguments, size_t length,
                          cohort_error *err);
};

enum speech_state { SPEECH_CONTENT, SPEECH_THINKING, SPEECH_CALL };
struct speech {
    bool plain; /* all of it is content, as it stands */
    bool calls; /* calls are looked for */
    bool one;   /* what follows the first call is left out (parallel_tool_calls: false) */
    enum response_form form;
    const json_t *tools; /* borrowed */
    enum speech_state state;
    bool fresh; /* behind a tag: white space is left out */
    size_t at;  /* bytes of the text that were dealt with */
    int64_t n_calls, n_broken;
    int64_t thought; /* bytes of thinking */
};
/* Zero-initialise, set the first five, then: */
void speech_begin(struct speech *speech, bool in_thinking);
/* text: all of the answer that is certain, longer than before or equal; last: nothing follows. */
cohort_status speech_feed(struct speech *speech, const char *text, size_t length, bool last,
                          const struct speech_sink *sink, cohort_error *err);

#endif
