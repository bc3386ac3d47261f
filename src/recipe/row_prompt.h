/* Rows of data as ids: which columns count, what a conversation renders to, and that its content stays content
 * (invariant I12). Every command that reads rows with text uses these functions. */
#ifndef COHORT_RECIPE_ROW_PROMPT_H
#define COHORT_RECIPE_ROW_PROMPT_H

#include "recipe/session.h"

/* The error that a row has none of the columns that expected names in words. Says what it has. */
cohort_status row_lacks(const json_t *row, const char *where, const char *expected, cohort_error *err);

/* How rows are read, as the options say. */
struct row_style {
    bool chat; /* a prompt that is text is a user's message, and a completion beside it the assistant's (--chat) */
    enum chat_thinking thinking; /* where the row does not say */
    bool trust;                  /* control tokens in content count (--trust-content) */
    bool asks;                   /* rows ask for an answer that is rewarded: they must not hold it */
    const char *system;          /* message before conversations that have none of their own (--system); NULL: none */
};
/* Options used: chat, thinking, trust_content. asks is left false, system NULL. */
struct row_style row_style(const struct options *options);

/* The column, or NULL where it is absent or null: in a file of mixed rows null stands for the columns of other rows. */
const json_t *row_column(const json_t *row, const char *name);

/* Whether the row's prompt is messages, which go through the chat template, and no text that is taken as it stands. */
bool row_is_conversation(const json_t *row, const struct row_style *style);

/* A text and which of its bytes are content. */
struct rendered {
    struct text text;
    struct content_spans spans;
};
void rendered_free(struct rendered *rendered);

/* What a row says beside its messages. Free with row_settings_free. */
struct row_settings {
    struct chat_options chat; /* tools, chat_template_kwargs, and its own enable_thinking or the style's */
    json_t *tools;            /* that were read from JSON text */
};
/* Images are refused. conversation: the row's text goes through the chat template; otherwise it is the caller's own
 * rendering, and these columns are not read. */
cohort_status row_settings(const json_t *row, const char *where, const struct row_style *style, bool conversation,
                           struct row_settings *out, cohort_error *err);
void row_settings_free(struct row_settings *settings);

/* Appends messages as a prompt, ready for the assistant's turn; if the last message is the assistant's, the model
 * continues it. Of chat, what says who speaks next is not read. */
cohort_status row_render_prompt(const struct session *session, const json_t *messages, const char *where,
                                const struct chat_options *chat, struct rendered *out, cohort_error *err);

/* Appends the ids of bytes [from, to) of a rendering. */
cohort_status row_encode(const struct session *session, const struct text *text, const struct content_spans *spans,
                         size_t from, size_t to, bool trust, struct token_list *ids, cohort_error *err);

/* A data row's prompt as ids: "prompt" as text (as it stands, or with style->chat as a user's message), "prompt" as a
 * list of messages, or "messages". text gets the rendered prompt. */
cohort_status row_prompt(const struct session *session, const json_t *row, const char *where,
                         const struct row_style *style, struct token_list *ids, struct text *text, cohort_error *err);

/* The row's messages (a new reference), or NULL where its prompt is text to be taken as it stands. */
cohort_status row_messages(const json_t *row, const char *where, const struct row_style *style, json_t **out,
                           cohort_error *err);
/* As row_prompt with other messages than the row's: ids and text are replaced. */
cohort_status row_prompt_messages(const struct session *session, const json_t *row, const json_t *messages,
                                  const char *where, const struct row_style *style, struct token_list *ids,
                                  struct text *text, cohort_error *err);

/* Once all rows were read: tells what the chat template lacks, if one of them was rendered with it (chat_template_notes). */
cohort_status row_tell_template(const struct session *session, bool learns, const cohort_observer *observer,
                                cohort_error *err);

#endif
