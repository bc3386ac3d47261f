/* cohort perplexity: how well a model predicts texts, by windows that slide (transformers' guide to the perplexity of models
 * of fixed length). A window sees `window` tokens and counts those that the one before did not: every token of a text but its
 * first is counted once, with at least window - stride tokens before it as soon as the text has so many. */
#include "base/clock.h"
#include "base/file.h"
#include "command/command.h"
#include "recipe/data_open.h"
#include "recipe/json_rows.h"
#include "recipe/likelihood.h"
#include "recipe/row_prompt.h"

#include <math.h>
#include <string.h>

enum { DEFAULT_WINDOW = 1024, AT_ONCE = 64 }; /* windows that are computed between two looks at the observer */

/* One text. */
struct document {
    struct token_list ids;
    int64_t bytes; /* of the tokens that are counted */
};

struct perplexity {
    const struct options *options;
    const cohort_observer *observer;
    struct session session;
    struct likelihood likelihood;
    struct document *documents;
    size_t n_documents, capacity;
    int32_t window, stride;
    int64_t n_tokens, n_bytes; /* that are counted in all */
    int64_t n_done;
    double start;
    /* Sums of -log p and of its square, in doubles. */
    double sum, squares;
    /* Windows that wait to be computed. */
    struct tree trees[AT_ONCE];
    struct completion_tokens counted[AT_ONCE];
    float *logp[AT_ONCE];
    float *values; /* [AT_ONCE, window] */
    int32_t n_waiting;
};

static cohort_status add_text(struct perplexity *p, const char *text, size_t length, const char *where,
                              cohort_error *err)
{
    struct text first = {0};
    TRY(mem_grow(&p->documents, &p->capacity, p->n_documents + 1, sizeof *p->documents, "texts", err));
    struct document *d = &p->documents[p->n_documents];
    memset(d, 0, sizeof *d);
    cohort_status status = tokenizer_encode_text(p->session.tokenizer, text, length, false, &d->ids, err);
    if (status == COHORT_OK && d->ids.count > 0)
        status = tokenizer_decode(p->session.tokenizer, d->ids.ids, 1, true, &first, err);
    if (status != COHORT_OK) {
        error_context(err, "%s", where);
        token_list_free(&d->ids);
    } else if (d->ids.count < 2) {
        token_list_free(&d->ids); /* nothing in it can be predicted */
    } else {
        d->bytes = (int64_t)length - (int64_t)(first.length < length ? first.length : length);
        p->n_tokens += (int64_t)d->ids.count - 1;
        p->n_bytes += d->bytes;
        p->n_documents++;
    }
    text_free(&first);
    return status;
}

static bool is_text_file(const char *path)
{
    return text_ends(path, ".txt") || text_ends(path, ".md") || text_ends(path, ".raw");
}

static cohort_status read_rows(struct perplexity *p, cohort_error *err)
{
    struct dataset data = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(data_open(&data, p->options, OPTION_DATA, 0, false, p->observer, err));
    for (size_t i = 0; i < data.n_rows && status == COHORT_OK; i++) {
        char place[DATA_PLACE];
        json_t *row = NULL;
        TRY_GOTO(data_report(&data, i, p->options, p->observer, err));
        TRY_GOTO(dataset_row(&data, i, &row, err));
        dataset_place(&data, i, place);
        const json_t *text = row_column(row, "text");
        status = json_is_string(text) ? add_text(p, json_string_value(text), json_string_length(text), place, err)
                                      : row_lacks(row, place, "a column \"text\" (or --columns text=NAME)", err);
        json_decref(row);
    }
cleanup:
    dataset_free(&data);
    return status;
}

static cohort_status read_texts(struct perplexity *p, cohort_error *err)
{
    const char *path = options_string(p->options, OPTION_DATA);
    struct text text = {0};
    enum { MOST = 1 << 30 };
    if (path == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "no text given: name a text file (.txt), or a data file with a "
                         "column text");
    if (!is_text_file(path)) {
        TRY(read_rows(p, err));
    } else {
        cohort_status status = file_read(path, MOST, &text, err);
        if (status == COHORT_OK)
            status = add_text(p, text.data == NULL ? "" : text.data, text.length, path, err);
        text_free(&text);
        TRY(status);
    }
    return p->n_tokens > 0
               ? COHORT_OK
               : error_set(err, COHORT_ERR_FORMAT, "%s: no text of two tokens or more, so nothing is predicted", path);
}

static cohort_status choose_windows(struct perplexity *p, cohort_error *err)
{
    const int64_t context = p->session.model->max_context;
    const int64_t window =
        options_int_or(p->options, OPTION_WINDOW, context < DEFAULT_WINDOW ? context : DEFAULT_WINDOW);
    const int64_t stride = options_int_or(p->options, OPTION_STRIDE, window / 2);
    if (window > context)
        return error_set(err, COHORT_ERR_ARGUMENT, "--window %lld: the model's context holds %lld tokens%s",
                         (long long)window, (long long)context, rope_config_limit(&p->session.model->config.rope));
    if (stride >= window)
        return error_set(
            err, COHORT_ERR_ARGUMENT,
            "--stride %lld is not below --window %lld: the first token of a window would have nothing before "
            "it, and not be counted",
            (long long)stride, (long long)window);
    p->window = (int32_t)window;
    p->stride = (int32_t)stride;
    return mem_alloc(&p->values, (size_t)AT_ONCE * (size_t)window, sizeof *p->values, "log-probs", err);
}

static cohort_status compute(struct perplexity *p, cohort_error *err)
{
    if (p->n_waiting == 0)
        return COHORT_OK;
    TRY(likelihood_of(&p->likelihood, p->trees, p->n_waiting, 1.0f, p->logp, err));
    for (int32_t w = 0; w < p->n_waiting; w++) {
        for (int32_t t = 0; t < p->counted[w].n_tokens; t++) {
            const double nll = -(double)p->logp[w][t];
            if (!isfinite(nll))
                return error_set(err, COHORT_ERR_NUMERIC, "a token's log-prob is %g; the weights are damaged", -nll);
            p->sum += nll;
            p->squares += nll * nll;
        }
        p->n_done += p->counted[w].n_tokens;
    }
    p->n_waiting = 0;
    const cohort_progress progress = {.phase = "evaluate",
                                      .done = p->n_done,
                                      .total = p->n_tokens,
                                      .unit = "tokens",
                                      .per_second = (double)p->n_done / (clock_seconds() - p->start)};
    TRY(stop_check(options_stop(p->options), err));
    return observer_progress(p->observer, &progress) ? COHORT_OK
                                                     : error_set(err, COHORT_ERR_CANCELLED, "stopped on request");
}

/* The window that ends before end and counts the tokens from counted on. */
static cohort_status add_window(struct perplexity *p, const struct document *d, int64_t begin, int64_t counted,
                                int64_t end, cohort_error *err)
{
    const int32_t w = p->n_waiting++;
    p->logp[w] = p->values + (size_t)w * (size_t)p->window;
    p->counted[w] = (struct completion_tokens){.tokens = d->ids.ids + counted, .n_tokens = (int32_t)(end - counted)};
    p->trees[w] = (struct tree){.prompt = d->ids.ids + begin,
                                .n_prompt = (int32_t)(counted - begin),
                                .completions = &p->counted[w],
                                .n_completions = 1};
    return p->n_waiting == AT_ONCE ? compute(p, err) : COHORT_OK;
}

static cohort_status slide(struct perplexity *p, const struct document *d, cohort_error *err)
{
    const int64_t n = (int64_t)d->ids.count;
    for (int64_t begin = 0, counted = 1; counted < n; begin += p->stride) {
        const int64_t end = begin + p->window < n ? begin + p->window : n;
        TRY(add_window(p, d, begin, counted, end, err));
        counted = end;
    }
    return COHORT_OK;
}

static cohort_status print(const struct perplexity *p, cohort_error *err)
{
    const double n = (double)p->n_tokens, mean = p->sum / n, ln2 = log(2.0);
    /* Of the mean, were tokens independent, which they are not: MLX-LM prints the same. */
    const double variance = n > 1 ? (p->squares - n * mean * mean) / (n - 1) : 0.0;
    const double error = sqrt((variance > 0.0 ? variance : 0.0) / n), perplexity = exp(mean);
    const double per_byte = p->n_bytes > 0 ? p->sum / ln2 / (double)p->n_bytes : NAN;
    struct text out = {0};
    cohort_status status =
        json_rows_asked(p->options)
            ? text_printf(
                  &out, err,
                  "{\"perplexity\": %.9g, \"perplexity/stderr\": %.3g, \"bits_per_byte\": %.9g, "
                  "\"bits_per_token\": %.9g, \"nll\": %.9g, \"nll/stderr\": %.3g, \"tokens\": %lld, \"bytes\": %lld, "
                  "\"texts\": %zu, \"window\": %d, \"stride\": %d}\n",
                  perplexity, perplexity * error, per_byte, mean / ln2, mean, error, (long long)p->n_tokens,
                  (long long)p->n_bytes, p->n_documents, (int)p->window, (int)p->stride)
            : text_printf(&out, err,
                          "perplexity      %.6g +- %.2g\nbits per byte   %.6g\nbits per token  %.6g\n"
                          "nll             %.6g +- %.2g\ntokens          %lld in %zu texts, %lld bytes\n"
                          "windows         of %d tokens, each %d further\n",
                          perplexity, perplexity * error, per_byte, mean / ln2, mean, error, (long long)p->n_tokens,
                          p->n_documents, (long long)p->n_bytes, (int)p->window, (int)p->stride);
    if (status == COHORT_OK)
        observer_output(p->observer, &out);
    text_free(&out);
    return status;
}

cohort_status command_perplexity(struct options *options, const struct reward_list *extra,
                                 const cohort_observer *observer, cohort_error *err)
{
    (void)extra;
    struct perplexity *p = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&p, 1, sizeof *p, "perplexity", err));
    p->options = options;
    p->observer = observer;
    TRY_GOTO(session_open(&p->session, options, NULL, SESSION_TOKENIZER_IF_ANY, observer, err));
    if (p->session.tokenizer == NULL) {
        status = error_set(err, COHORT_ERR_IO, "%s: no tokenizer.json, so that text has no ids", p->session.dir);
        goto cleanup;
    }
    TRY_GOTO(read_texts(p, err));
    TRY_GOTO(choose_windows(p, err));
    TRY_GOTO(likelihood_open(&p->likelihood, &p->session, session_pass_tokens(p->session.model), p->window, err));
    p->start = clock_seconds();
    for (size_t i = 0; i < p->n_documents; i++)
        TRY_GOTO(slide(p, &p->documents[i], err));
    TRY_GOTO(compute(p, err));
    TRY_GOTO(print(p, err));
cleanup:
    for (size_t i = 0; i < p->n_documents; i++)
        token_list_free(&p->documents[i].ids);
    mem_free(p->documents);
    mem_free(p->values);
    likelihood_close(&p->likelihood);
    session_close(&p->session);
    mem_free(p);
    return status;
}
