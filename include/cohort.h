/* cohort: post-training of language models with group-relative reinforcement learning, in C.
 *
 * The only public header. C99 and C++ clean. Every function that can fail returns a cohort_status and, when the caller
 * passes a cohort_error, fills it with a message that names the file, the place, what was expected and what to do. The
 * library never prints, never exits and reads no environment variable but the key of a judge (judge_key_env).
 *
 * Structs grow at their end from version to version, and every struct but cohort_metric begins with its size.
 *
 *   The caller allocates it   cohort_request, cohort_batch, cohort_observer, cohort_completion, cohort_completion_query,
 *                             cohort_error.
 *                             NAME_init sets the size that the caller's header knows, and the defaults. A program built
 *                             with an older header has a smaller struct: fields that it does not have keep their
 *                             defaults, or are not filled. One built with a newer header works as long as the fields
 *                             that this library does not know are 0; otherwise, and for a struct that was not
 *                             initialised, the call gets COHORT_ERR_ARGUMENT. Only a cohort_error may be all zeros
 *                             instead: it then counts as the first version of that struct.
 *   The library hands it out  cohort_progress, cohort_metrics, cohort_reward_row, cohort_stored_...: by const pointer,
 *                             arrays of them as arrays of pointers. The size is the one that the library knows, so that a program built
 *                             with a newer header can tell which fields are there. */
#ifndef COHORT_H
#define COHORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(COHORT_STATIC)
#define COHORT_API __attribute__((visibility("default")))
#else
#define COHORT_API
#endif

/* What went wrong, coarsely; the message of cohort_error has the detail. */
typedef enum cohort_status {
    COHORT_OK = 0,
    COHORT_ERR_ARGUMENT,    /* the caller or the user gave a value that cannot be used */
    COHORT_ERR_IO,          /* a file or a pipe could not be read or written */
    COHORT_ERR_FORMAT,      /* a file was read and its content is wrong */
    COHORT_ERR_UNSUPPORTED, /* valid, but not something this version does */
    COHORT_ERR_MEMORY,      /* memory could not be had, or the plan does not fit */
    COHORT_ERR_STATE,       /* a call in the wrong order, or a run folder in the wrong state */
    COHORT_ERR_REWARD,      /* a reward program died, hung or answered garbage */
    COHORT_ERR_NUMERIC,     /* NaN or infinity where training cannot go on */
    COHORT_ERR_CANCELLED,   /* stopped on request; what was saved is whole */
    COHORT_ERR_INTERNAL,    /* a mistake of ours */
    COHORT_ERR_DIVERGED /* the run will not recover, and option stop_on says that it ends then; a checkpoint is saved */
} cohort_status;

/* Filled by the call that failed, untouched by calls that succeed. May be NULL in every call. Start from
 * cohort_error_init or from zeros. */
typedef struct cohort_error {
    size_t size;
    cohort_status status;
    char message[1200];
} cohort_error;
static inline void cohort_error_init(cohort_error *err)
{
    err->size = sizeof *err;
    err->status = COHORT_OK;
    err->message[0] = '\0';
}

/* A short English name of the status ("invalid argument"). Static storage. */
COHORT_API const char *cohort_status_name(cohort_status status);

/* Version of the library as "major.minor.patch". Static storage. */
COHORT_API const char *cohort_version(void);

/* ---- Being told how work goes ------------------------------------------------------------------------------------ */

/* Where a long piece of work stands. */
typedef struct cohort_progress {
    size_t size;
    /* "load", "rollout", "reward", "train", "evaluate", ...; "stream": text goes to output as it comes, so that a terminal
     * shows nothing else. Valid during the call. */
    const char *phase;
    int64_t step, steps;  /* optimizer steps done and planned; 0 of 0 where there are none */
    int64_t done, total;  /* of the phase, in unit; total 0: unknown */
    const char *unit;     /* "tokens", "rows", "micro-batches" */
    double per_second;    /* of unit */
    int64_t ended, begun; /* completions of a rollout that have ended, of those that were begun; 0 of 0 elsewhere */
} cohort_progress;

/* A named number; this struct does not grow. */
typedef struct cohort_metric {
    const char *name;
    double value; /* NaN and infinity are null in metrics.jsonl */
} cohort_metric;

/* A line of metrics.jsonl, in its order, "step" first: of an optimizer step, or of the evaluation before the first. Where
 * a resumed run makes an evaluation that was cut, that step's number and the figures of the evaluation alone. */
typedef struct cohort_metrics {
    size_t size;
    const cohort_metric *items; /* [count], valid during the call */
    size_t count;
} cohort_metrics;

/* What text of a conversation is. */
typedef enum cohort_style {
    COHORT_STYLE_PLAIN,
    COHORT_STYLE_THINKING, /* what a model thinks before it answers */
    COHORT_STYLE_CALL      /* a call of a tool */
} cohort_style;

/* Callbacks; each may be NULL. They are called on the thread that called the library. Texts are valid during the
 * call. Start from cohort_observer_init, which sets all of them to NULL. */
typedef struct cohort_observer {
    size_t size;
    void *context;
    /* Results: what a program writes to its standard output. length bytes. */
    void (*output)(void *context, const char *bytes, size_t length);
    /* A note for a person: one line without a newline. */
    void (*message)(void *context, const char *text);
    /* Return false to stop: training saves a checkpoint and the call returns COHORT_ERR_CANCELLED. */
    bool (*progress)(void *context, const cohort_progress *progress);
    /* The metrics of a training step, once it is done. */
    void (*metrics)(void *context, const cohort_metrics *metrics);
    /* Columns of the terminal that output goes to, for the lines of steps; 0, and NULL: none, lines have all they can. */
    int (*columns)(void *context);
    /* Of chat: the next line of whom it talks with, without its newline, in UTF-8; valid until the next call. NULL: there are
     * no more. prompt: what a person is asked with. Before it returns it takes back a stop that only ended an answer
     * (cohort_stop_reset); one that stands ends the command. */
    const char *(*input)(void *context, const char *prompt);
    /* Of chat: what comes to output from here on. */
    void (*style)(void *context, cohort_style style);
} cohort_observer;
/* size: sizeof *observer in the caller's header. */
COHORT_API void cohort_observer_init_sized(cohort_observer *observer, size_t size);
static inline void cohort_observer_init(cohort_observer *observer)
{
    cohort_observer_init_sized(observer, sizeof *observer);
}

/* ---- Stopping from outside --------------------------------------------------------------------------------------- */

/* A request to stop that any thread, or a signal handler, can make while a call is running: loading, generating, scoring, training. The call ends with
 * COHORT_ERR_CANCELLED, within about 200 ms for a model of 0.6 billion parameters on a CPU; training saves a checkpoint first where one is due (that takes
 * its time), and an update of the weights that has begun is finished. A training step that was cut is computed again by --resume, with the same bits.
 *
 * Hand it over with cohort_options_set_stop before cohort_run, cohort_model_open or cohort_trainer_open; it must outlive
 * them. */
typedef struct cohort_stop cohort_stop;
COHORT_API cohort_status cohort_stop_create(cohort_stop **out, cohort_error *err);
COHORT_API void cohort_stop_destroy(cohort_stop *stop);
/* Makes the request. Safe from any thread and in a signal handler; NULL does nothing. */
COHORT_API void cohort_stop_trigger(cohort_stop *stop);
/* Takes it back, so that the object serves again. Only while no call that was given it is running. */
COHORT_API void cohort_stop_reset(cohort_stop *stop);
COHORT_API bool cohort_stop_triggered(const cohort_stop *stop);

/* ---- Commands: everything the program does ----------------------------------------------------------------------- */

typedef enum cohort_command {
    COHORT_GENERATE,
    COHORT_LOGPROBS,
    COHORT_TOKENIZE,
    COHORT_INFO,
    COHORT_INIT,
    COHORT_SFT,
    COHORT_GRPO,
    COHORT_EVAL,
    COHORT_SCORE,
    COHORT_BENCH,
    COHORT_DATA,
    COHORT_MERGE,
    COHORT_RUNS,
    COHORT_FORK,
    COHORT_REPORT,
    COHORT_PLOT,
    COHORT_DPO,
    COHORT_KTO,
    COHORT_ORPO,
    COHORT_CPO,
    COHORT_RLOO,
    COHORT_WATCH,
    COHORT_REWARD,
    COHORT_SERVE,
    COHORT_DISTILL,
    COHORT_CHAT,
    COHORT_PERPLEXITY
} cohort_command;

/* "generate" -> COHORT_GENERATE; false if there is no such command. */
COHORT_API bool cohort_command_find(const char *name, cohort_command *command);
/* Name and one-line summary; static storage. */
COHORT_API const char *cohort_command_name(cohort_command command);
COHORT_API const char *cohort_command_summary(cohort_command command);

/* The options of one command: names, defaults and meaning are those of --help and docs/OPTIONS.md. While cohort_run runs, or a trainer is open with them,
 * they must not be changed: the call gets COHORT_ERR_STATE, and cohort_options_destroy takes effect when cohort_run returns or the trainer is closed. */
typedef struct cohort_options cohort_options;
COHORT_API cohort_status cohort_options_create(cohort_options **out, cohort_command command, cohort_error *err);
COHORT_API void cohort_options_destroy(cohort_options *options);
/* name with dashes or underscores, value as text. origin says where it comes from in messages ("--beta"); NULL: the
 * name. */
COHORT_API cohort_status cohort_options_set(cohort_options *options, const char *name, const char *value,
                                            const char *origin, cohort_error *err);
/* A flat YAML file of options; those already set keep their values. */
COHORT_API cohort_status cohort_options_read_yaml(cohort_options *options, const char *path, cohort_error *err);
/* Whether the command's option "config" names such a file (of init it names a config.json). */
COHORT_API bool cohort_options_reads_yaml(const cohort_options *options);
/* True for options that the command has; setting another says what is near. */
COHORT_API bool cohort_options_has(const cohort_options *options, const char *name);
/* True for options that are switched on by their name alone. */
COHORT_API bool cohort_options_is_switch(const cohort_options *options, const char *name);
/* The option whose value are words without a flag ("data" of COHORT_DATA); NULL: the command takes none. */
COHORT_API const char *cohort_options_bare(const cohort_options *options);
/* What an option's flag means where no value follows it: "true" for a switch, "latest" for resume. NULL: the flag needs a
 * value, or the command has no such option. */
COHORT_API const char *cohort_options_alone(const cohort_options *options, const char *name);
/* One option of a command, as a program that offers them to its own users wants it. */
typedef struct cohort_option {
    size_t size;
    const char *name;     /* with underscores */
    const char *group;    /* heading in --help */
    const char *help;     /* one line, with units */
    const char *fallback; /* the default as text; NULL: unset until given */
    /* "bool", "int", "float", "text", "word" (one of choices), or "list" (of texts, numbers or NAME=VALUE; of choices where
     * there are some) */
    const char *type;
    const char *const *choices; /* [n_choices] */
    size_t n_choices;
    const char *const *names; /* [n_names] other names that are taken: short ones, those of other programs */
    size_t n_names;
} cohort_option;
/* Every option of the command in the order of --help; what visit gets is valid during the call. visit returns false to
 * end it. */
COHORT_API cohort_status cohort_options_list(cohort_command command,
                                             bool (*visit)(void *context, const cohort_option *option), void *context,
                                             cohort_error *err);
/* What a name is of which cohort_options_has says false, such as an option of another program: the message that
 * cohort_options_set would fail with. *needless: a run is the same without it, so that it may be passed over with a
 * note. Free *text with cohort_free. */
COHORT_API cohort_status cohort_options_explain(const cohort_options *options, const char *name, char **text,
                                                bool *needless, cohort_error *err);
/* The value of an option as a flag's text is, by its own name; of a list its i-th item (else i is 0). *value: free it with
 * cohort_free; NULL: it is unset, or there are no more, or the command has no such option. */
COHORT_API cohort_status cohort_options_get(const cohort_options *options, const char *name, size_t i, char **value,
                                            cohort_error *err);
/* The text of --help for a command, of docs/OPTIONS.md. Free with cohort_free. */
COHORT_API cohort_status cohort_help(cohort_command command, char **out, cohort_error *err);
/* The text of --help for a terminal of so many columns; 0: 100. */
COHORT_API cohort_status cohort_help_wide(cohort_command command, int columns, char **out, cohort_error *err);
/* The manual page of a command by its name, "grpo", or of the program (NULL), in the man macros of roff. */
COHORT_API cohort_status cohort_man(const char *command, char **out, cohort_error *err);
/* The completion of the program for a shell, "bash" or "zsh". */
COHORT_API cohort_status cohort_shell_completion(const char *shell, char **out, cohort_error *err);
COHORT_API cohort_status cohort_options_docs(char **out, cohort_error *err);
COHORT_API void cohort_free(void *block);

/* Where a reward function logs about a row: cohort_reward_log_metric, cohort_reward_log_extra. */
typedef struct cohort_reward_log cohort_reward_log;

/* One completion to score in a reward of the caller's. All pointers are valid during the call. */
typedef struct cohort_reward_row {
    size_t size;
    const char *row_json;   /* the data set row as JSON: every column */
    const char *prompt;     /* rendered; a NUL follows, and it may hold others */
    const char *completion; /* decoded, special tokens left out; as the prompt */
    const int32_t *tokens;  /* [n_tokens] */
    int32_t n_tokens;
    const char *finish_reason;               /* "eos", "stop", "length", "cancelled" */
    int64_t prompt_index;                    /* data set row: the same for a group, whose completions are consecutive */
    int32_t completion_index;                /* within the group */
    size_t prompt_length, completion_length; /* in bytes */
    /* Of a prompt that went through the chat template, the completion taken apart: {"thinking", "content", "tool_calls"} as
     * JSON (docs/REWARDS.md). NULL: the prompt is text. */
    const char *parsed_json;
    size_t parsed_length;   /* in bytes */
    cohort_reward_log *log; /* NULL: of the rows of cohort_trainer_rollout, which log nothing */
    /* Of a completion of several turns: its messages and how it ended, as JSON (docs/ENVIRONMENTS.md); else NULL. */
    const char *episode_json;
    /* [n_tokens] log-probs of the tokens at the sampling temperature, of the unfiltered and unpenalised distribution, in
     * nats: those that training begins with. 0 where the model did not draw a token. NULL: not known. */
    const float *logprobs;
} cohort_reward_row;

/* A text taken apart into the same JSON where its model is not at hand: thinking between <think> and </think>, calls as
 * Hermes and Qwen write them, <tool_call>{"name": ..., "arguments": {...}}</tool_call>. length and json_length (may be NULL)
 * in bytes. Free with cohort_free. */
COHORT_API cohort_status cohort_text_parse(const char *text, size_t length, char **json, size_t *json_length,
                                           cohort_error *err);
/* Within a reward function: a number for the metrics of the step, under its own name (several of one name in a step: their
 * mean), and a value for a column of completions.jsonl and of the run's record, in the row that the log is of (NULL is
 * COHORT_ERR_ARGUMENT). json: any value. */
COHORT_API cohort_status cohort_reward_log_metric(cohort_reward_log *log, const char *name, double value,
                                                  cohort_error *err);
COHORT_API cohort_status cohort_reward_log_extra(cohort_reward_log *log, const char *column, const char *json,
                                                 cohort_error *err);

/* Fills rewards[n_rows] for rows[0], ..., rows[n_rows - 1]; NaN: unscorable. A status other than COHORT_OK stops the
 * run with its error (at the last checkpoint), whose message may be set in err. */
typedef cohort_status (*cohort_reward_function)(void *context, const cohort_reward_row *const *rows, size_t n_rows,
                                                double *rewards, cohort_error *err);

/* Adds a reward function to grpo, eval or score, after those of the option "reward". name appears in metrics. */
COHORT_API cohort_status cohort_options_add_reward(cohort_options *options, const char *name,
                                                   cohort_reward_function function, void *context, cohort_error *err);

/* The same for rewards of tokens: token_rewards[i] has rows[i]->n_tokens places, all NaN: fill in what a token is rewarded
 * with, and leave NaN where it is not. A token's advantage then is what comes at it and behind it (docs/GRPO.md, Rewards of
 * tokens); elsewhere the completion's reward is their sum. */
typedef cohort_status (*cohort_token_reward_function)(void *context, const cohort_reward_row *const *rows,
                                                      size_t n_rows, double *const *token_rewards, cohort_error *err);
COHORT_API cohort_status cohort_options_add_token_reward(cohort_options *options, const char *name,
                                                         cohort_token_reward_function function, void *context,
                                                         cohort_error *err);

/* An environment in C, in place of a program of the option "environment": what answers the model's turns in grpo, rloo, distill and eval. It gets what the
 * protocol of docs/ENVIRONMENTS.md sends a program, one JSON object of length bytes (a NUL follows) a call, "hello" first, and answers with the objects that
 * a program would write. It may answer in a later call: with nothing to say to it it is called all the same, request NULL, so that what takes long can be
 * done elsewhere while others decode. A status other than COHORT_OK stops the run with its error. Calls come from the thread that called the library. */
typedef struct cohort_environment cohort_environment;
typedef cohort_status (*cohort_environment_function)(void *context, cohort_environment *environment,
                                                     const char *request, size_t length, cohort_error *err);
/* Within such a call: an answer, one JSON object of length bytes. COHORT_ERR_REWARD where it makes no sense. */
COHORT_API cohort_status cohort_environment_answer(cohort_environment *environment, const char *answer, size_t length,
                                                   cohort_error *err);
/* The environment of these options' command; function NULL: none. name appears in messages. */
COHORT_API cohort_status cohort_options_set_environment(cohort_options *options, const char *name,
                                                        cohort_environment_function function, void *context,
                                                        cohort_error *err);

/* The stop object that cohort_run, cohort_model_open and cohort_trainer_open with these options look at; NULL: none. It stays the caller's. */
COHORT_API cohort_status cohort_options_set_stop(cohort_options *options, const cohort_stop *stop, cohort_error *err);

/* Processes that do one command together over Open MPI, count of them as the caller knows (docs/RANKS.md): each runs the same options, rank 0 writes. join:
 * over NCCL alone, each rank with that GPU of its host; rank 0 listens at host, port. After a failure: whether this rank tells people; closing then may
 * end all processes with exit_code. Options' ranks (or NULL) outlive cohort_run. */
typedef struct cohort_ranks cohort_ranks;
COHORT_API cohort_status cohort_ranks_open(cohort_ranks **out, int32_t count, cohort_error *err);
COHORT_API cohort_status cohort_ranks_join(cohort_ranks **out, int32_t rank, int32_t count, int32_t gpu,
                                           const char *host, int32_t port, cohort_error *err);
COHORT_API bool cohort_ranks_speaks(const cohort_ranks *ranks);
COHORT_API void cohort_ranks_close(cohort_ranks *ranks, int exit_code);
COHORT_API cohort_status cohort_options_set_ranks(cohort_options *options, cohort_ranks *ranks, cohort_error *err);
/* Runs a command to its end. The observer (may be NULL) gets results, notes and progress. */
COHORT_API cohort_status cohort_run(cohort_options *options, const cohort_observer *observer, cohort_error *err);

/* ---- Generation, embedded ---------------------------------------------------------------------------------------- */

/* A loaded model with its tokenizer and a rollout engine: any number of requests at once, by continuous batching. Not thread-safe: one thread at a time,
 * but for cohort_submit and cohort_cancel, which any thread may call at any time (what comes while cohort_step runs takes part from the next one on); a
 * second call of cohort_step while one is running, from its callback or from another thread, gets COHORT_ERR_STATE. Nor can it be used in a child that
 * was forked after it was opened: also COHORT_ERR_STATE. */
typedef struct cohort_model cohort_model;
/* Beside the weights half of what is free, or of what memory_limit leaves, is taken at most, unless one completion needs more. options: of
 * COHORT_GENERATE; used: model, dtype, isa, device, threads, memory_limit, decode_concurrency, prefill_step_size, eos_token, trust_content, context
 * (below). max_context: tokens of prompt and completion together, 0: the model's own (memory grows with it). The options may be destroyed afterwards. */
COHORT_API cohort_status cohort_model_open(cohort_model **out, const cohort_options *options, int32_t max_context,
                                           cohort_error *err);
/* From within a callback of cohort_step it takes effect when that call returns (with COHORT_ERR_STATE). */
COHORT_API void cohort_model_close(cohort_model *model);
/* Lines, each with its newline, about how the model was read that the caller might not expect, such as values that were
 * rounded; "" if there are none. Owned by model. */
COHORT_API const char *cohort_model_notes(const cohort_model *model);

/* Ids of text (added tokens in it become their ids, and no BOS is put before it), or the text of ids (special tokens
 * left out): length bytes with a NUL behind them, and the text may hold NULs of its own. length may be NULL. Free with
 * cohort_free. */
COHORT_API cohort_status cohort_encode(const cohort_model *model, const char *text, int32_t **ids, size_t *count,
                                       cohort_error *err);
COHORT_API cohort_status cohort_decode(const cohort_model *model, const int32_t *ids, size_t count, char **text,
                                       size_t *length, cohort_error *err);
/* Elements of a row of the model's embedding (hidden_size of config.json). */
COHORT_API size_t cohort_model_width(const cohort_model *model);
/* The embedding's rows of ids, [count, cohort_model_width] floats into out, which the caller owns. A prompt with these as
 * its prompt_embeddings gives the completions of the ids, bit for bit. */
COHORT_API cohort_status cohort_embed(const cohort_model *model, const int32_t *ids, size_t count, float *out,
                                      cohort_error *err);

/* The prompt that the chat template makes of [{"role", "content"}, ...] as JSON text, ready for the assistant's turn;
 * where the last message is the assistant's, the model goes on with it. In place of the list it may be an object, as a row
 * of a data set is: {"messages": [...], "tools": [...], "chat_template_kwargs": {...}}. cohort_chat_encode gives its ids, in which the
 * content of messages stays content: a user who types <|im_start|> opens no turn. cohort_chat_prompt gives its text, for
 * people to read: cohort_encode cannot tell content from template in it. length (may be NULL): in bytes, as of
 * cohort_decode. Free with cohort_free. */
COHORT_API cohort_status cohort_chat_encode(const cohort_model *model, const char *messages_json, bool thinking,
                                            int32_t **ids, size_t *count, cohort_error *err);
COHORT_API cohort_status cohort_chat_prompt(const cohort_model *model, const char *messages_json, bool thinking,
                                            char **text, size_t *length, cohort_error *err);

struct cohort_completion;
/* What the model answered to such a prompt, taken apart as in parsed_json of a reward's row. length may be NULL. Free with
 * cohort_free. */
COHORT_API cohort_status cohort_chat_parse(const cohort_model *model, const char *messages_json, bool thinking,
                                           const struct cohort_completion *completion, char **json, size_t *length,
                                           cohort_error *err);

/* What to generate. Start from cohort_request_init. Everything is copied by cohort_submit. */
typedef struct cohort_request {
    size_t size;
    const int32_t *prompt; /* at least one token */
    size_t n_prompt;
    int32_t n; /* completions of this prompt; it is computed once for all of them */
    int32_t max_tokens;
    uint64_t seed, stream; /* the draws are a function of seed, stream, completion index and position alone */
    float temperature;     /* 0: the most likely token */
    float top_p, min_p;
    int32_t top_k;
    float repetition_penalty, presence_penalty, frequency_penalty;
    const char *const *stop; /* strings that end a completion */
    size_t n_stop;
    /* [n_prompt, prompt_width] what the prompt's positions begin with, in place of its ids' rows of the embedding (soft
     * prompts, what another encoder made of an image): rows as cohort_embed gives them, in float. NULL: those of the ids.
     * prompt has an id for each position all the same, which penalties see. prompt_width: cohort_model_width. */
    const float *prompt_embeddings;
    size_t prompt_width;
    /* how many of the last tokens, those of the prompt included, each penalty looks at; 20 */
    int32_t repetition_context, presence_context, frequency_context;
    int32_t min_tokens;            /* before so many tokens neither an EOS nor one of stop_token_ids is drawn */
    bool ignore_eos;               /* an EOS is a token like another */
    const int32_t *stop_token_ids; /* ids that end a completion ("stop"): tokens has them, text has not */
    size_t n_stop_token_ids;
    const int32_t *bias_ids; /* [n_bias] ids to whose logits bias is added; -infinity forbids one */
    const float *bias;
    size_t n_bias;
    int32_t top_logprobs; /* with every token so many of the most likely ones, with their log-probs; to 64 */
    bool prompt_logprobs; /* the log-probs of the prompt's tokens too; all of it is then computed, whatever is known */
    /* Changes the logits [n_logits] of the next draw of completion index, behind history [n_history], prompt and output: before
     * bias, penalties and filters. Log-probs stay those of the model. Called inside cohort_step, which copies the row to the
     * host and back where the model lies on a device; after a stop a second time with the same. NULL: none. */
    void (*logits_processor)(void *context, int32_t index, const int32_t *history, int32_t n_history, float *logits,
                             int32_t n_logits);
    void *logits_context;
    uint64_t caller; /* whose request it is: those of different callers are begun in turns, so that nobody starves */
    /* A completion ends ("repetition") when its last tokens are repetition_min_count times in a row one run of
     * repetition_min_pattern_size (0: 1) to repetition_max_pattern_size tokens. 0: never; the names are vLLM's. */
    int32_t repetition_max_pattern_size, repetition_min_pattern_size, repetition_min_count;
} cohort_request;
/* One completion of up to 256 tokens at temperature 1, without filters and penalties. size: sizeof *request in the
 * caller's header. */
COHORT_API void cohort_request_init_sized(cohort_request *request, size_t size);
static inline void cohort_request_init(cohort_request *request) { cohort_request_init_sized(request, sizeof *request); }

/* The stream by which `cohort generate` draws for a prompt: a function of its ids, and of how many prompts before it (0: none)
 * had the same ones. A request with it and the command's seed gives the command's completions, bit for bit. */
COHORT_API uint64_t cohort_prompt_stream(const int32_t *ids, size_t count, uint64_t before);

typedef struct cohort_completion {
    size_t size;
    int64_t request;
    int32_t index;
    int32_t *tokens; /* [n_tokens], the EOS included */
    float *logprobs; /* [n_tokens] at the sampling temperature, of the unfiltered and unpenalised distribution */
    size_t n_tokens;
    char *text; /* without special tokens and stop string; it may hold NULs */
    const char *
        finish_reason; /* "eos", "stop", "length", "repetition", "cancelled", or "error" if no token could be drawn (the
                                  weights are damaged, or every token is forbidden); static */
    size_t text_length; /* in bytes */
    /* As the request asked; else NULL and 0. */
    size_t n_top;
    int32_t *top_token_ids; /* [n_tokens, n_top] the most likely ids at each place */
    float *top_logprobs;    /* likewise */
    size_t n_prompt;
    float *prompt_logprobs; /* [n_prompt] at the sampling temperature; 0 for the first token */
} cohort_completion;
/* size: sizeof *completion in the caller's header. */
COHORT_API void cohort_completion_init_sized(cohort_completion *completion, size_t size);
static inline void cohort_completion_init(cohort_completion *completion)
{
    cohort_completion_init_sized(completion, sizeof *completion);
}
/* Frees what it holds; it may be used again. */
COHORT_API void cohort_completion_free(cohort_completion *completion);

/* Called for every token as it is drawn, inside cohort_step; it may call cohort_submit, cohort_cancel and cohort_poll.
 * token is -1 in the last call for a completion that ends with "error". text: length bytes that became certain with it;
 * finish_reason is "" until the last. */
typedef void (*cohort_token_callback)(void *context, int64_t request, int32_t index, int32_t token, float logprob,
                                      const char *text, size_t length, const char *finish_reason);
COHORT_API void cohort_on_token(cohort_model *model, cohort_token_callback callback, void *context);

COHORT_API cohort_status cohort_submit(cohort_model *model, const cohort_request *request, int64_t *id,
                                       cohort_error *err);
/* One forward pass for everything in flight. *busy tells whether anything is left. After COHORT_ERR_CANCELLED (the stop
 * object of the options was triggered) nothing is lost: once it is reset, the next call goes on with the same draws. */
COHORT_API cohort_status cohort_step(cohort_model *model, bool *busy, cohort_error *err);
/* Moves one finished completion out, in the order they finished; *found is false if there is none. out: initialised by
 * cohort_completion_init; what it held is overwritten. Free it with cohort_completion_free. */
COHORT_API cohort_status cohort_poll(cohort_model *model, cohort_completion *out, bool *found, cohort_error *err);
COHORT_API void cohort_cancel(cohort_model *model, int64_t id);

/* ---- Training, embedded ------------------------------------------------------------------------------------------ */

/* A run of the command grpo that goes on step by step, with rows that the caller gives. Its steps are those that cohort_run makes from a data set with
 * these rows in this order, bit for bit, and its run folder is the same: metrics, checkpoints, config.yaml. Not thread-safe: one thread at a time; a
 * call from a callback of its own gets COHORT_ERR_STATE, as does one in a child that was forked after it was opened. */
typedef struct cohort_trainer cohort_trainer;
/* options: of COHORT_GRPO, with model, out and max_prompt_length (memory is planned for prompts of that many tokens); data must not be set, and epochs
 * and shuffle_dataset have no say. Without steps the run has no end, which a constant learning rate alone allows. With resume it goes on from a
 * checkpoint. The options stay in use until the trainer is closed; the observer (may be NULL) is copied.
 *
 * Rewards are those of the options (option reward, cohort_options_add_reward); without any there is one called "scores", which the caller gives to
 * cohort_trainer_update. Gradients are summed by micro-batches: where one row of max_prompt_length and max_completion_length is longer than
 * micro_batch_tokens, these grow, and a run over a data set with a shorter longest prompt may round differently. */
COHORT_API cohort_status cohort_trainer_open(cohort_trainer **out, cohort_options *options,
                                             const cohort_observer *observer, cohort_error *err);
/* Saves nothing. From within a callback it takes effect when the call that made it returns (with COHORT_ERR_STATE). */
COHORT_API void cohort_trainer_close(cohort_trainer *trainer);

/* The rows of a step. Start from cohort_batch_init. */
typedef struct cohort_batch {
    size_t size;
    const char *const *rows; /* [n_rows] JSON objects, as the lines of a data set */
    size_t n_rows;           /* at most the option prompts_per_step */
    /* [n_rows] What draws are keyed by, beside seed and step: the row's place in the caller's data, from 0, and how often
     * that data was gone through before; prompt_index of rewards is the place. A pair must not come twice in a batch.
     * NULL: rows are counted from the first step on, prompts_per_step for each; and epoch 0. */
    const int64_t *indices, *epochs;
} cohort_batch;
/* size: sizeof *batch in the caller's header. */
COHORT_API void cohort_batch_init_sized(cohort_batch *batch, size_t size);
static inline void cohort_batch_init(cohort_batch *batch) { cohort_batch_init_sized(batch, sizeof *batch); }

/* One step: num_generations completions of every row, their rewards, and the updates of the weights that a batch makes
 * (num_iterations, unless it is cut into slices: docs/GRPO.md); then what the options say is due: evaluation, a
 * checkpoint. Metrics go to the observer. After an error cohort_trainer_steps tells whether the weights were updated. If not, the call may be made again and draws the same completions. */
COHORT_API cohort_status cohort_trainer_step(cohort_trainer *trainer, const cohort_batch *batch, cohort_error *err);

/* The same in two calls, for rewards that the caller makes in its own time. *rows gets the completions of the batch, a
 * group's consecutive, valid until the next call of step, rollout or update; a rollout that is not followed by an update
 * is forgotten. scores [n_scores]: one for each of them, NaN: unscorable; NULL and 0: by the rewards of the options. */
COHORT_API cohort_status cohort_trainer_rollout(cohort_trainer *trainer, const cohort_batch *batch,
                                                const cohort_reward_row *const **rows, size_t *n_rows,
                                                cohort_error *err);
COHORT_API cohort_status cohort_trainer_update(cohort_trainer *trainer, const double *scores, size_t n_scores,
                                               cohort_error *err);
/* The same with rewards of tokens: scores[i] is [rows[i]->n_tokens], NaN: none at this token; a NULL among them gives the
 * completion none at all. */
COHORT_API cohort_status cohort_trainer_update_tokens(cohort_trainer *trainer, const double *const *scores,
                                                      size_t n_scores, cohort_error *err);

/* Optimizer steps done, those before a resume included. */
COHORT_API int64_t cohort_trainer_steps(const cohort_trainer *trainer);
/* Writes checkpoints/step-N, from which option resume goes on; nothing where it is there. A stop does not end it. */
COHORT_API cohort_status cohort_trainer_save(cohort_trainer *trainer, cohort_error *err);
/* Writes final/, the model alone, and the curve. */
COHORT_API cohort_status cohort_trainer_save_final(cohort_trainer *trainer, cohort_error *err);

/* The trainer's model for generation between steps, without a copy: cohort_submit, cohort_step and the others use the
 * weights as the last step left them, for requests of up to max_prompt_length + max_completion_length tokens in all. It
 * is the trainer's (cohort_model_close does nothing). The calls above get COHORT_ERR_STATE while it has requests that
 * have not finished or completions that were not polled; while one of them runs, the model's do. NULL for NULL. */
COHORT_API cohort_model *cohort_trainer_model(cohort_trainer *trainer);

/* ---- What runs have recorded ------------------------------------------------------------------------------------- */

/* The record of a run (run.db in its folder, docs/RUN.md), open for reading: of a run that is going on as of one that has
 * ended. Any number of readers may look at a run; they change nothing, and hold its trainer up for no longer than a
 * short query. What a call shows is what was committed when it was made: a step appears with all of its rows.
 *
 * Not thread-safe: one thread at a time, and not in a child that was forked after it was opened. Callbacks may make other
 * calls with the same handle. Where one returns false, the call ends with COHORT_OK. Structs and texts that a callback
 * gets are valid during it; texts end in a NUL, and where a length stands beside them they may hold others. Texts that
 * came out of a model or a data set are shown as they were: whoever prints them to a terminal takes care of escape
 * sequences. */
typedef struct cohort_store cohort_store;
/* folder: the run folder. COHORT_ERR_IO where it has no run.db (older versions wrote none), and
 * COHORT_ERR_UNSUPPORTED where a newer version wrote it. */
COHORT_API cohort_status cohort_store_open(cohort_store **out, const char *folder, cohort_error *err);
/* Accepts NULL. From within a callback it takes effect when the call that made it returns. */
COHORT_API void cohort_store_close(cohort_store *store);

/* What is said of a whole run. Times are seconds since 1970. */
typedef struct cohort_stored_run {
    size_t size;
    const char *path;    /* the folder, as it was given */
    const char *name;    /* the last part of it */
    const char *command; /* "sft", "grpo", "dpo" */
    const char *model;   /* the folder or file that option model named */
    /* "running"; "finished"; "stopped": on request; "failed"; "gone": it says that it is running, and its process has
     * ended without a word. */
    const char *status;
    const char *message; /* why it failed, else "" */
    const char *config;  /* config.yaml as it is now */
    /* Of the last start: version of cohort and of SQLite, host, what computes in words, process id. */
    const char *version, *sqlite, *host, *device;
    int64_t pid;
    int64_t starts;     /* how often it was started; 1: never resumed */
    const char *parent; /* path of the run that it was forked from, else "" */
    int64_t parent_step;
    int64_t step, steps;            /* the last that is recorded, -1: none; planned, 0: no end */
    double created, updated, ended; /* ended 0: it has not */
    int64_t keep;                   /* completions of the last so many steps are kept; 0: none, -1: all */
} cohort_stored_run;
/* *run is valid until the next call of this function with the handle, or its close. */
COHORT_API cohort_status cohort_store_run(cohort_store *store, const cohort_stored_run **run, cohort_error *err);
/* The folder of a run by its name in a folder of runs ("runs"), or by its own path. *folder: free it with cohort_free. */
COHORT_API cohort_status cohort_run_find(const char *runs, const char *name, char **folder, cohort_error *err);
/* Text of length bytes as a terminal may be given it: control characters (but newline and tab), DEL, C1 and the marks that
 * turn the direction of writing become \x1b and the like, as do bytes that are not UTF-8. *out: free it with cohort_free. */
COHORT_API cohort_status cohort_shown(const char *text, size_t length, char **out, cohort_error *err);
/* Every run in a folder of runs ("runs"), or the one run that the folder itself is, by name. Folders without run.db are
 * passed over; one that cannot be read is visited with status "unreadable" and its error as message. */
COHORT_API cohort_status cohort_runs_list(const char *folder,
                                          bool (*visit)(void *context, const cohort_stored_run *run), void *context,
                                          cohort_error *err);
/* Whether anything was committed since the last call with this handle; true at the first. Costs next to nothing: made for
 * being asked several times a second. */
COHORT_API cohort_status cohort_store_changed(cohort_store *store, bool *changed, cohort_error *err);

/* What a run reads, by SHA-256. */
typedef struct cohort_stored_input {
    size_t size;
    const char *kind; /* "data", "model", "reward", "tokenizer", "template", ...: the words of option accept_changed */
    const char *path, *sha256;
} cohort_stored_input;
COHORT_API cohort_status cohort_store_inputs(cohort_store *store,
                                             bool (*visit)(void *context, const cohort_stored_input *input),
                                             void *context, cohort_error *err);

/* A step with every metric, in the order in which the run first had them; without step and epoch, which stand apart.
 * Names are docs/GRPO.md's and docs/SFT.md's; an evaluation's begin with "eval_". Step 0 has the evaluation before the
 * first step. */
typedef struct cohort_stored_step {
    size_t size;
    int64_t step;
    double time;  /* seconds since 1970; 0: unknown */
    double epoch; /* NaN: none */
    const cohort_metric *metrics;
    size_t n_metrics;
} cohort_stored_step;
/* Steps from first to last (inclusive), ascending. */
COHORT_API cohort_status cohort_store_steps(cohort_store *store, int64_t first, int64_t last,
                                            bool (*visit)(void *context, const cohort_stored_step *step), void *context,
                                            cohort_error *err);
/* The names of all metrics, in the order in which the run first had them. */
COHORT_API cohort_status cohort_store_names(cohort_store *store, bool (*visit)(void *context, const char *name),
                                            void *context, cohort_error *err);
/* One metric over the steps from first to last that have it: steps[*n] ascending and values[*n], NaN where it was not a
 * number. Free both with cohort_free. A name that the run has not is a curve without points. */
COHORT_API cohort_status cohort_store_curve(cohort_store *store, const char *name, int64_t first, int64_t last,
                                            int64_t **steps, double **values, size_t *n, cohort_error *err);

/* A completion that was trained on, or that an evaluation made. */
typedef struct cohort_stored_completion {
    size_t size;
    int64_t step;
    const char *set; /* "": trained on; else the name of the evaluation's set of prompts, "eval" where it has none */
    int64_t group;   /* place of its prompt in the batch, from 0 */
    int64_t index;   /* within the group */
    int64_t row;     /* of the data set, from 0 */
    const char *prompt, *text;
    const char *thinking;   /* the part of text that is thinking, without its tags; NULL: it has none */
    const char *tool_calls; /* JSON, [{"name", "arguments", ...}, ...] as in docs/REWARDS.md; NULL: it has none */
    const char *extra;      /* JSON object: columns that rewards added; NULL: none */
    size_t prompt_length, text_length, thinking_length, tool_calls_length, extra_length; /* bytes */
    const char *finish_reason; /* "eos", "stop", "length", "cancelled" */
    int64_t tokens;
    double logprob;               /* sum over its tokens, in nats; NaN: not kept */
    double reward;                /* weighted sum; NaN: unscorable */
    double advantage;             /* NaN: of an evaluation */
    const cohort_metric *rewards; /* [n_rewards] by function; NaN: unscorable */
    size_t n_rewards;
} cohort_stored_completion;

typedef enum cohort_completion_order {
    COHORT_BY_STEP,      /* step, group, index ascending */
    COHORT_NEWEST_FIRST, /* the same the other way round */
    COHORT_BEST_FIRST,   /* reward descending; without a reward they are left out */
    COHORT_WORST_FIRST   /* reward ascending, likewise */
} cohort_completion_order;

/* Which completions are asked for. Start from cohort_completion_query_init: all that were trained on, by step. */
typedef struct cohort_completion_query {
    size_t size;
    const char *set;                   /* "": trained on; a name; NULL: all */
    int64_t first_step, last_step;     /* inclusive */
    int64_t group, index;              /* -1: any */
    double reward_below, reward_above; /* exclusive; NaN: any. Unscorable ones are in no range */
    const char *reward_name;           /* the function whose value that is; NULL: the weighted sum */
    const char *finish_reason;         /* NULL: any */
    const char *search;                /* text that it contains, letter case of ASCII apart; NULL: any */
    cohort_completion_order order;
    int64_t limit, skip; /* at most so many (0: all), after passing over so many */
} cohort_completion_query;
/* size: sizeof *query in the caller's header. */
COHORT_API void cohort_completion_query_init_sized(cohort_completion_query *query, size_t size);
static inline void cohort_completion_query_init(cohort_completion_query *query)
{
    cohort_completion_query_init_sized(query, sizeof *query);
}
/* query may be NULL: all that were trained on. */
COHORT_API cohort_status cohort_store_completions(cohort_store *store, const cohort_completion_query *query,
                                                  bool (*visit)(void *context,
                                                                const cohort_stored_completion *completion),
                                                  void *context, cohort_error *err);
/* How many that would be; limit and skip have no say. */
COHORT_API cohort_status cohort_store_count(cohort_store *store, const cohort_completion_query *query, int64_t *count,
                                            cohort_error *err);

/* A turn of a completion in an environment. */
typedef struct cohort_stored_turn {
    size_t size;
    int64_t index;
    const char *role, *name; /* "assistant", "tool", ...; name of the tool or "" */
    const char *text;
    size_t text_length;
    int64_t tokens;
} cohort_stored_turn;
COHORT_API cohort_status cohort_store_turns(cohort_store *store, int64_t step, const char *set, int64_t group,
                                            int64_t index, bool (*visit)(void *context, const cohort_stored_turn *turn),
                                            void *context, cohort_error *err);

/* An evaluation; its figures are metrics of that step. */
typedef struct cohort_stored_evaluation {
    size_t size;
    int64_t step;
    double time;                  /* when it ended, seconds since 1970; 0: unknown */
    double seconds;               /* that it took; NaN: unknown */
    const cohort_metric *metrics; /* those that begin with "eval_" */
    size_t n_metrics;
} cohort_stored_evaluation;
COHORT_API cohort_status cohort_store_evaluations(cohort_store *store, int64_t first, int64_t last,
                                                  bool (*visit)(void *context,
                                                                const cohort_stored_evaluation *evaluation),
                                                  void *context, cohort_error *err);

/* Something that happened: a start, a checkpoint, a pause, a warning, a skipped update. */
typedef struct cohort_stored_event {
    size_t size;
    int64_t id;           /* ascending */
    int64_t step;         /* steps that were done */
    double time;          /* seconds since 1970 */
    const char *kind;     /* "start", "resume", "end", "checkpoint", "warning", "skipped", ... (docs/RUN.md) */
    const char *rule;     /* of a warning: its name, else "" */
    const char *severity; /* of a warning: "note", "warning" or "fatal", else "" */
    const char *text;     /* one line for a person */
    const char *json;     /* more of it for a program, such as the samples of a skipped update; NULL: no more */
} cohort_stored_event;
/* Events with ids beyond after (0: all), ascending. kind NULL: of all kinds. */
COHORT_API cohort_status cohort_store_events(cohort_store *store, int64_t after, const char *kind,
                                             bool (*visit)(void *context, const cohort_stored_event *event),
                                             void *context, cohort_error *err);

/* A row of a query's result. */
typedef struct cohort_stored_row {
    size_t size;
    size_t n;                  /* columns */
    const char *const *names;  /* [n] */
    const char *const *values; /* [n] as text; NULL: null */
    const size_t *lengths;     /* [n] bytes of values */
    /* [n] 'i': a whole number; 'd': a number; 't': text; 'b': bytes; 'n': null */
    const char *kinds;
} cohort_stored_row;
/* One SELECT over the tables of docs/RUN.md. Anything that would change the database, attach another file or set a mode
 * is COHORT_ERR_ARGUMENT. stop (may be NULL) ends it with COHORT_ERR_CANCELLED. While it goes on, the run's write-ahead
 * log cannot be written back: do not hold it in a callback for long. */
COHORT_API cohort_status cohort_store_sql(cohort_store *store, const char *sql, const cohort_stop *stop,
                                          bool (*visit)(void *context, const cohort_stored_row *row), void *context,
                                          cohort_error *err);

/* ---- Steering a run that goes on --------------------------------------------------------------------------------- */

/* A connection with the trainer of a run folder: where it stands within the present step, and requests to it. Of runs of
 * cohort_run alone (sft and grpo), on this machine, by the user whose run it is; a trainer of cohort_trainer_open is its
 * program's. Nothing that a caller does or leaves undone disturbs the training, and no call waits for longer than a
 * second. One thread at a time. */
typedef struct cohort_live cohort_live;
/* COHORT_ERR_STATE: no trainer listens there. */
COHORT_API cohort_status cohort_live_open(cohort_live **out, const char *folder, cohort_error *err);
/* Accepts NULL. */
COHORT_API void cohort_live_close(cohort_live *live);

typedef struct cohort_live_state {
    size_t size;
    const char *phase;    /* of cohort_progress; "save"; "paused" */
    const char *unit;     /* of done and total */
    int64_t step, steps;  /* optimizer steps done and planned */
    int64_t done, total;  /* of the phase; total 0: unknown */
    int64_t ended, begun; /* completions of a rollout */
    double per_second;    /* of unit */
    double seconds;       /* that the phase has lasted */
    int64_t saved_step;   /* of the newest checkpoint, -1: none */
    bool paused;          /* the run waits between two steps */
    bool pausing, saving; /* asked for, and not done yet */
    int64_t memory_bytes; /* of the machine's memory that the trainer has in use; 0: unknown */
} cohort_live_state;
/* *state is valid until the next call with the handle. After a failure the connection is of no use: close it. */
COHORT_API cohort_status cohort_live_read(cohort_live *live, const cohort_live_state **state, cohort_error *err);

typedef enum cohort_live_request {
    COHORT_LIVE_PAUSE,  /* after the present step; the run computes the same numbers as without */
    COHORT_LIVE_RESUME, /* go on, or do not pause */
    COHORT_LIVE_SAVE    /* write checkpoints/step-N after the present step */
} cohort_live_request;
/* *answer: a sentence for a person, valid until the next call with the handle. */
COHORT_API cohort_status cohort_live_ask(cohort_live *live, cohort_live_request request, const char **answer,
                                         cohort_error *err);

#ifdef __cplusplus
}
#endif
#endif /* COHORT_H */
