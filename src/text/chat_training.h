/* Conversations for training: which bytes of a rendering are the assistant's own, that is, what a model that is asked
 * with the rest would write. */
#ifndef COHORT_TEXT_CHAT_TRAINING_H
#define COHORT_TEXT_CHAT_TRAINING_H

#include "text/chat_template.h"

enum chat_trained {
    CHAT_LAST, /* the last message, which must be the assistant's, up to the end of its turn; what comes before is the
                  prompt as the model gets it */
    CHAT_ALL   /* every message of the assistant. Of a template with {% generation %} what stands within such blocks;
                  else what the template writes between the prompt for a message and the end of its turn. Where a template
                  leaves an earlier turn's thinking out, each turn stands as it was written, with its thinking; one that
                  rewrites earlier turns in another way is refused. */
};
struct chat_training {
    struct text text;
    struct content_spans spans;   /* what of text is content */
    struct content_spans trained; /* ascending; their kind has no meaning */
};
/* Zero-initialise out; free it with chat_training_free, also after a failure. Of options, what says who speaks next is not
 * read. Errors: those of chat_template_render, and with the reason what cannot be told apart. */
cohort_status chat_training_render(struct chat_training *out, const struct chat_template *chat, const json_t *messages,
                                   const struct chat_options *options, enum chat_trained trained, const char *where,
                                   cohort_error *err);
void chat_training_free(struct chat_training *training);

#endif
