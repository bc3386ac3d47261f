#include "recipe/choices.h"

#include "base/clock.h"
#include "base/number.h"
#include "recipe/data_open.h"
#include "recipe/json_rows.h"
#include "recipe/likelihood.h"
#include "recipe/rank_inputs.h"
#include "recipe/row_prompt.h"
#include "train/metrics.h"

#include <math.h>
#include <string.h>

/* How a choice's log-likelihood is divided. acc_norm is the harness's: by characters. */
enum { BY_SUM, BY_CHARACTERS, BY_BYTES, BY_TOKENS, N_MEASURES };
static const char *const measures[N_MEASURES] = {"acc", "acc_norm", "acc_bytes", "acc_tokens"};

enum {
    MOST_CHOICES = 1024,
    AT_ONCE = 32 /* questions of a rank that are computed between two looks at the observer */
};

struct choice {
    int32_t *tokens;
    int32_t n_tokens;
    double length[N_MEASURES];
    double logprob; /* of all its tokens */
};

struct question {
    struct token_list prompt;
    struct choice *choices;
    struct completion_tokens *completions;
    float **logp; /* [n] */
    size_t n;
    int32_t right;
    size_t chosen[N_MEASURES];
};

struct choices {
    struct session *session;
    const struct options *options;
    const cohort_observer *observer;
    struct row_style style;
    struct likelihood likelihood;
    struct question *questions;
    size_t n;
    int64_t longest;
};

/* ---- Reading ---- */

/* A list of texts; in the form of ARC {"text": [...], "label": [...]}. */
static cohort_status texts_of(const json_t *row, const char *where, const json_t **texts, const json_t **labels,
                              cohort_error *err)
{
    const json_t *value = row_column(row, "choices");
    *labels = json_is_object(value) ? json_object_get(value, "label") : NULL;
    *texts = json_is_object(value) ? json_object_get(value, "text") : value;
    bool good = json_is_array(*texts) && json_array_size(*texts) > 1 && json_array_size(*texts) <= MOST_CHOICES;
    for (size_t i = 0; good && i < json_array_size(*texts); i++)
        good = json_string_length(json_array_get(*texts, i)) > 0;
    if (value == NULL)
        return row_lacks(row, where, "a column \"choices\", a list of texts (or --columns choices=NAME)", err);
    return good
               ? COHORT_OK
               : error_set(err, COHORT_ERR_FORMAT, "%s: \"choices\" is not a list of 2 to %d texts, none of them empty",
                           where, (int)MOST_CHOICES);
}

/* The place of the answer among n choices: a number from 0, a letter, one of the labels, or the choice itself. */
static bool find_answer(const json_t *answer, const json_t *texts, const json_t *labels, int32_t *right)
{
    const size_t n = json_array_size(texts);
    int64_t number = -1;
    const char *word = json_string_value(answer);
    if (json_is_integer(answer))
        number = json_integer_value(answer);
    for (size_t i = 0; word != NULL && number < 0 && i < n; i++)
        if (json_equal(answer, json_array_get(labels, i)) || json_equal(answer, json_array_get(texts, i)))
            number = (int64_t)i;
    if (word != NULL && number < 0 && strlen(word) == 1 && word[0] >= 'A' && word[0] <= 'Z')
        number = word[0] - 'A';
    if (word != NULL && number < 0 && !number_read_integer(word, strlen(word), &number))
        return false;
    *right = (int32_t)number;
    return number >= 0 && number < (int64_t)n;
}

static cohort_status answer_of(const json_t *row, const char *where, const json_t *texts, const json_t *labels,
                               int32_t *right, cohort_error *err)
{
    static const char *const names[] = {"answer", "answerKey", "label", "gold"};
    const json_t *answer = NULL;
    for (size_t i = 0; answer == NULL && i < sizeof names / sizeof names[0]; i++)
        answer = row_column(row, names[i]);
    if (answer == NULL)
        return row_lacks(row, where, "a column \"answer\" (or --columns answer=NAME)", err);
    return find_answer(answer, texts, labels, right)
               ? COHORT_OK
               : error_set(
                     err, COHORT_ERR_FORMAT,
                     "%s: \"answer\" is none of the %zu choices: expected a number from 0, a letter from A, or the "
                     "choice itself",
                     where, json_array_size(texts));
}

static double characters(const char *text, size_t length)
{
    double n = 0.0;
    for (size_t i = 0; i < length; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

static cohort_status copy_tokens(struct choice *choice, const struct token_list *ids, size_t from, const char *where,
                                 cohort_error *err)
{
    if (ids->count <= from)
        return error_set(err, COHORT_ERR_FORMAT, "%s: a choice has no token of its own behind the question", where);
    choice->n_tokens = (int32_t)(ids->count - from);
    TRY(mem_alloc(&choice->tokens, (size_t)choice->n_tokens, sizeof *choice->tokens, "choices", err));
    memcpy(choice->tokens, ids->ids + from, (size_t)choice->n_tokens * sizeof *choice->tokens);
    return COHORT_OK;
}

/* Behind text a choice begins with a blank, and question and choice are encoded as one text, whose tokens beyond the question's
 * own are the choice's; blanks at the end of the question belong to the choice. (lm-evaluation-harness, _encode_pair.) */
static cohort_status encode_behind_text(const struct choices *c, struct question *q, struct choice *choice,
                                        const struct text *asked, const json_t *text, const char *where,
                                        cohort_error *err)
{
    struct text whole = {0};
    struct token_list ids = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_append(&whole, asked->data, asked->length, err));
    TRY_GOTO(text_append(&whole, " ", 1, err));
    TRY_GOTO(text_append(&whole, json_string_value(text), json_string_length(text), err));
    TRY_GOTO(tokenizer_encode_text(c->session->tokenizer, whole.data, whole.length, true, &ids, err));
    TRY_GOTO(copy_tokens(choice, &ids, q->prompt.count, where, err));
cleanup:
    text_free(&whole);
    token_list_free(&ids);
    return status;
}

static cohort_status encode_answer(const struct choices *c, struct choice *choice, const json_t *text,
                                   const char *where, cohort_error *err)
{
    struct token_list ids = {0};
    cohort_status status =
        tokenizer_encode(c->session->tokenizer, json_string_value(text), json_string_length(text), false, &ids, err);
    if (status == COHORT_OK)
        status = copy_tokens(choice, &ids, 0, where, err);
    token_list_free(&ids);
    return status;
}

/* The question as ids: a conversation as rendered, or its text without the blanks at its end. */
static cohort_status encode_question(const struct choices *c, struct question *q, const json_t *row, const char *where,
                                     struct text *asked, bool *conversation, cohort_error *err)
{
    TRY(row_prompt(c->session, row, where, &c->style, &q->prompt, asked, err));
    *conversation = row_is_conversation(row, &c->style);
    size_t end = asked->length;
    while (!*conversation && end > 0 && strchr(" \t\r\n", asked->data[end - 1]) != NULL)
        end--;
    if (end == asked->length)
        return COHORT_OK;
    q->prompt.count = 0;
    return tokenizer_encode_text(c->session->tokenizer, asked->data, end, true, &q->prompt, err);
}

static cohort_status read_question(struct choices *c, struct question *q, const json_t *row, const char *where,
                                   cohort_error *err)
{
    const json_t *texts = NULL, *labels = NULL;
    struct text asked = {0};
    bool conversation = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(texts_of(row, where, &texts, &labels, err));
    TRY_GOTO(answer_of(row, where, texts, labels, &q->right, err));
    TRY_GOTO(encode_question(c, q, row, where, &asked, &conversation, err));
    if (q->prompt.count == 0) {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: the question is empty", where);
        goto cleanup;
    }
    q->n = json_array_size(texts);
    TRY_GOTO(mem_alloc(&q->choices, q->n, sizeof *q->choices, "choices", err));
    TRY_GOTO(mem_alloc(&q->completions, q->n, sizeof *q->completions, "choices", err));
    TRY_GOTO(mem_alloc(&q->logp, q->n, sizeof *q->logp, "choices", err));
    for (size_t i = 0; i < q->n; i++) {
        const json_t *text = json_array_get(texts, i);
        struct choice *choice = &q->choices[i];
        TRY_GOTO(conversation ? encode_answer(c, choice, text, where, err)
                              : encode_behind_text(c, q, choice, &asked, text, where, err));
        choice->length[BY_SUM] = 1.0;
        choice->length[BY_CHARACTERS] = characters(json_string_value(text), json_string_length(text));
        choice->length[BY_BYTES] = (double)json_string_length(text);
        choice->length[BY_TOKENS] = (double)choice->n_tokens;
        q->completions[i] = (struct completion_tokens){.tokens = choice->tokens, .n_tokens = choice->n_tokens};
        TRY_GOTO(mem_alloc(&q->logp[i], (size_t)choice->n_tokens, sizeof(float), "log-probs", err));
        const int64_t length = (int64_t)q->prompt.count + choice->n_tokens;
        c->longest = length > c->longest ? length : c->longest;
        if (length > c->session->model->max_context) {
            status = error_set(err, COHORT_ERR_FORMAT,
                               "%s: question and choice have %lld tokens, the model's context holds %d", where,
                               (long long)length, (int)c->session->model->max_context);
            goto cleanup;
        }
    }
cleanup:
    text_free(&asked);
    return status;
}

/* Whether all ranks have the same model and questions. */
static cohort_status compare_ranks(const struct choices *c, const struct dataset *data, cohort_error *err)
{
    struct run_inputs inputs = {0};
    if (ranks_count(options_ranks(c->options)) == 1)
        return COHORT_OK;
    const cohort_status status =
        run_inputs_add(&inputs, INPUT_DATA, options_string(c->options, OPTION_DATA), data->sha256, err);
    if (status == COHORT_OK)
        return rank_inputs_compare_session(options_ranks(c->options), c->options, c->session, &inputs, err);
    run_inputs_free(&inputs);
    return status;
}

static cohort_status read_questions(struct choices *c, cohort_error *err)
{
    const size_t limit = (size_t)options_int_or(c->options, OPTION_EVAL_LIMIT, 0);
    struct dataset data = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(data_open(&data, c->options, OPTION_DATA, limit, true, c->observer, err));
    TRY_GOTO(mem_alloc(&c->questions, data.n_rows, sizeof *c->questions, "questions", err));
    for (size_t i = 0; i < data.n_rows && status == COHORT_OK; i++) {
        char place[DATA_PLACE];
        json_t *row = NULL;
        TRY_GOTO(data_report(&data, i, c->options, c->observer, err));
        TRY_GOTO(dataset_row(&data, i, &row, err));
        dataset_place(&data, i, place);
        status = read_question(c, &c->questions[c->n++], row, place, err);
        json_decref(row);
    }
    if (status == COHORT_OK)
        status = compare_ranks(c, &data, err);
cleanup:
    dataset_free(&data);
    return status;
}

/* ---- Computing ---- */

static cohort_status compute(struct choices *c, size_t from, size_t to, cohort_error *err)
{
    struct tree *trees = NULL;
    float **logp = NULL;
    size_t n = 0;
    cohort_status status = COHORT_OK;
    for (size_t i = from; i < to; i++)
        n += c->questions[i].n;
    TRY_GOTO(mem_alloc(&trees, to - from, sizeof *trees, "questions", err));
    TRY_GOTO(mem_alloc(&logp, n, sizeof *logp, "log-probs", err));
    n = 0;
    for (size_t i = from; i < to; i++) {
        const struct question *q = &c->questions[i];
        trees[i - from] = (struct tree){.prompt = q->prompt.ids,
                                        .n_prompt = (int32_t)q->prompt.count,
                                        .completions = q->completions,
                                        .n_completions = (int32_t)q->n};
        for (size_t k = 0; k < q->n; k++)
            logp[n++] = q->logp[k];
    }
    status = likelihood_of(&c->likelihood, trees, (int32_t)(to - from), 1.0f, logp, err);
cleanup:
    mem_free(trees);
    mem_free(logp);
    return status;
}

/* Of equals the first, as numpy's argmax. */
static cohort_status choose(struct question *q, size_t index, cohort_error *err)
{
    for (size_t k = 0; k < q->n; k++) {
        for (int32_t t = 0; t < q->choices[k].n_tokens; t++)
            q->choices[k].logprob += (double)q->logp[k][t];
        if (!isfinite(q->choices[k].logprob))
            return error_set(err, COHORT_ERR_NUMERIC,
                             "question %zu: the log-prob of a choice is %g; the weights are damaged", index,
                             q->choices[k].logprob);
    }
    for (int m = 0; m < N_MEASURES; m++)
        for (size_t k = 1; k < q->n; k++) {
            const struct choice *best = &q->choices[q->chosen[m]], *other = &q->choices[k];
            if (other->logprob / other->length[m] > best->logprob / best->length[m])
                q->chosen[m] = k;
        }
    return COHORT_OK;
}

static cohort_status compute_all(struct choices *c, cohort_error *err)
{
    const double start = clock_seconds();
    const size_t at_once = AT_ONCE * (size_t)ranks_count(c->likelihood.runner.ranks);
    TRY(likelihood_open(&c->likelihood, c->session, session_pass_tokens(c->session->model), c->longest, err));
    for (size_t i = 0; i < c->n; i += at_once) {
        const size_t to = i + at_once < c->n ? i + at_once : c->n;
        TRY(compute(c, i, to, err));
        for (size_t k = i; k < to; k++)
            TRY(choose(&c->questions[k], k, err));
        const cohort_progress progress = {.phase = "evaluate",
                                          .done = (int64_t)to,
                                          .total = (int64_t)c->n,
                                          .unit = "questions",
                                          .per_second = (double)to / (clock_seconds() - start)};
        TRY(stop_check(options_stop(c->options), err));
        if (!observer_progress(c->observer, &progress))
            return error_set(err, COHORT_ERR_CANCELLED, "stopped on request");
    }
    return COHORT_OK;
}

/* ---- Printing ---- */

static cohort_status write_question(const struct question *q, size_t index, struct text *out, cohort_error *err)
{
    TRY(text_printf(out, err, "{\"index\": %zu, \"answer\": %d", index, (int)q->right));
    for (int m = 0; m < N_MEASURES; m++)
        TRY(text_printf(out, err, ", \"%s\": %d", measures[m], q->chosen[m] == (size_t)q->right));
    TRY(text_printf(out, err, ", \"logprobs\": ["));
    for (size_t k = 0; k < q->n; k++)
        TRY(text_printf(out, err, "%s%.9g", k > 0 ? ", " : "", q->choices[k].logprob));
    TRY(text_printf(out, err, "], \"tokens\": ["));
    for (size_t k = 0; k < q->n; k++)
        TRY(text_printf(out, err, "%s%d", k > 0 ? ", " : "", (int)q->choices[k].n_tokens));
    return text_append(out, "]}\n", 3, err);
}

/* The share of right answers, and the standard error of a mean of zeros and ones. */
static void measure(const struct choices *c, struct metrics *metrics)
{
    const double n = (double)c->n;
    for (int m = 0; m < N_MEASURES; m++) {
        double right = 0.0;
        for (size_t i = 0; i < c->n; i++)
            right += c->questions[i].chosen[m] == (size_t)c->questions[i].right;
        const double share = right / n;
        metrics_setf(metrics, share, "eval_%s", measures[m]);
        metrics_setf(metrics, n > 1.0 ? sqrt(share * (1.0 - share) / (n - 1.0)) : NAN, "eval_%s/stderr", measures[m]);
    }
    metrics_set(metrics, "eval_questions", n);
}

static cohort_status print(const struct choices *c, cohort_error *err)
{
    struct metrics metrics = {0};
    struct text out = {0};
    cohort_status status = COHORT_OK;
    measure(c, &metrics);
    if (json_rows_asked(c->options)) {
        for (size_t i = 0; i < c->n; i++)
            TRY_GOTO(write_question(&c->questions[i], i, &out, err));
        TRY_GOTO(metrics_write(&metrics, &out, err));
    } else {
        for (int m = 0; m < N_MEASURES; m++)
            TRY_GOTO(text_printf(&out, err, "eval_%-34s %.6g +- %.2g (n %zu)\n", measures[m],
                                 metrics.items[2 * m].value, metrics.items[2 * m + 1].value, c->n));
    }
    observer_output(c->observer, &out);
cleanup:
    metrics_free(&metrics);
    text_free(&out);
    return status;
}

static void question_free(struct question *q)
{
    for (size_t k = 0; k < q->n; k++) {
        if (q->choices != NULL)
            mem_free(q->choices[k].tokens);
        if (q->logp != NULL)
            mem_free(q->logp[k]);
    }
    mem_free(q->choices);
    mem_free(q->completions);
    mem_free(q->logp);
    token_list_free(&q->prompt);
}

cohort_status choices_run(struct session *session, const struct options *options, const cohort_observer *observer,
                          cohort_error *err)
{
    struct choices c = {.session = session, .options = options, .observer = observer, .style = row_style(options)};
    cohort_status status = COHORT_OK;
    c.likelihood.runner.ranks = options_ranks(options);
    TRY_GOTO(read_questions(&c, err));
    TRY_GOTO(compute_all(&c, err));
    TRY_GOTO(ranks_agree(c.likelihood.runner.ranks, print(&c, err), err, err));
cleanup:
    for (size_t i = 0; i < c.n; i++)
        question_free(&c.questions[i]);
    mem_free(c.questions);
    likelihood_close(&c.likelihood);
    return status;
}
