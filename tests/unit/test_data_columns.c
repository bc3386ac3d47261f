/* The columns of rows: --columns, and the forms in which published sets come, as canonical columns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "run/data_columns.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 4 };

/* What a row becomes; status and err say how it went. columns: those of --columns with commas between, or NULL. */
static char *canonical(const char *text, const char *columns, struct text *notes, cohort_status *status,
                       cohort_error *err)
{
    struct data_columns parsed = {.recognise = true};
    struct data_form form = {0};
    char copy[256] = "", *items[MOST] = {NULL};
    size_t n = 0;
    strncpy(copy, columns == NULL ? "" : columns, sizeof copy - 1);
    for (char *item = strtok(copy, ","); item != NULL; item = strtok(NULL, ","))
        items[n++] = item;
    json_t *row = json_loads(text, JSON_ALLOW_NUL, NULL);
    assert_non_null(row);
    *status = data_columns_parse(&parsed, (const char *const *)items, n, err);
    if (*status == COHORT_OK)
        *status = data_form_find(&form, &parsed, row, "d.jsonl", notes, err);
    if (*status == COHORT_OK)
        *status = data_columns_apply(&parsed, &form, row, "d.jsonl:1", err);
    char *out = *status == COHORT_OK ? json_dumps(row, JSON_COMPACT) : NULL;
    json_decref(row);
    data_columns_free(&parsed);
    return out;
}

static void becomes(const char *text, const char *columns, const char *wanted, const char *note)
{
    struct text notes = {0};
    cohort_error err = {0};
    cohort_status status = COHORT_OK;
    char *is = canonical(text, columns, &notes, &status, &err);
    if (is == NULL)
        fail_msg("%s: %s", text, err.message);
    if (strcmp(is, wanted) != 0)
        fail_msg("%s\nbecomes\n%s\nexpected\n%s", text, is, wanted);
    if (note == NULL ? notes.length > 0 : notes.data == NULL || strstr(notes.data, note) == NULL)
        fail_msg("%s: notes '%s'", text, notes.data == NULL ? "" : notes.data);
    free(is);
    text_free(&notes);
}

static void refused(const char *text, const char *columns, const char *says)
{
    struct text notes = {0};
    cohort_error err = {0};
    cohort_status status = COHORT_OK;
    char *is = canonical(text, columns, &notes, &status, &err);
    if (is != NULL)
        fail_msg("%s becomes %s", text, is);
    if (strstr(err.message, says) == NULL)
        fail_msg("%s: '%s' has no '%s'", text, err.message, says);
    text_free(&notes);
}

static void test_mapping(void **state)
{
    (void)state;
    becomes("{\"question\":\"q\",\"answer\":\"a\"}", "prompt=question",
            "{\"question\":\"q\",\"answer\":\"a\",\"prompt\":\"q\"}", NULL);
    becomes("{\"a\":1,\"b\":2}", "a=b,b=a", "{\"a\":2,\"b\":1}", NULL);
    becomes("{\"prompt\":\"p\",\"x\":{\"y\":{\"z\":3}}}", "answer=x.y.z",
            "{\"prompt\":\"p\",\"x\":{\"y\":{\"z\":3}},\"answer\":3}", NULL);
    becomes("{\"prompt\":\"p\",\"x\":{\"y\":1},\"x.y\":2}", "answer=x.y",
            "{\"prompt\":\"p\",\"x\":{\"y\":1},\"x.y\":2,\"answer\":2}", NULL);
    /* What is named counts, whatever else the row could be read by. */
    becomes("{\"messages\":[1],\"problem\":\"p\",\"solution\":\"s\"}", "prompt=problem,completion=solution",
            "{\"problem\":\"p\",\"solution\":\"s\",\"prompt\":\"p\",\"completion\":\"s\"}", NULL);
    becomes("{\"prompt\":\"p\",\"messages\":[1]}", "prompt=prompt", "{\"prompt\":\"p\"}", NULL);
    becomes("{\"prompt\":\"p\",\"messages\":[1]}", "messages=messages", "{\"messages\":[1]}", NULL);
    becomes("{\"prompt\":\"p\",\"text\":\"t\",\"c\":\"c\"}", "completion=c",
            "{\"prompt\":\"p\",\"c\":\"c\",\"completion\":\"c\"}", NULL);
    becomes("{\"c\":[{\"from\":\"human\",\"value\":\"q\"}]}", "messages=c",
            "{\"c\":[{\"from\":\"human\",\"value\":\"q\"}],\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}",
            NULL);
    becomes("{\"prompt\":\"p\",\"q\":null}", "prompt=q", "{\"prompt\":null,\"q\":null}", NULL);
    refused("{\"id\":1,\"body\":\"x\"}", "prompt=question",
            "d.jsonl:1: no column \"question\", which --columns names for prompt; it has id, body");
    refused("{\"a\":1}", "prompt=a.b", "no column \"a.b\"");
    refused("{\"a\":1}", "prompt", "expected CANONICAL=COLUMN");
    refused("{\"a\":1}", "=a", "expected CANONICAL=COLUMN");
    refused("{\"a\":1}", "prompt=", "expected CANONICAL=COLUMN");
    refused("{\"a\":1}", "prompt=a,prompt=a", "names 'prompt=a' twice");
    /* The first that there is. */
    becomes("{\"b\":\"q\"}", "prompt=a,prompt=b", "{\"b\":\"q\",\"prompt\":\"q\"}", NULL);
    becomes("{\"a\":\"p\",\"b\":\"q\"}", "prompt=a,prompt=b", "{\"a\":\"p\",\"b\":\"q\",\"prompt\":\"p\"}", NULL);
    refused("{\"c\":1}", "prompt=a,prompt=b", "no column \"a\"");
}

/* --columns says what a form lacks, and no more. */
static void test_completed_forms(void **state)
{
    (void)state;
    becomes("{\"question\":\"q\",\"final\":\"7\"}", "answer=final",
            "{\"question\":\"q\",\"final\":\"7\",\"answer\":\"7\",\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"7\"}]}",
            "note: d.jsonl: rows with \"question\" and \"answer\"");
    becomes("{\"problem\":\"p\",\"solution\":\"s\",\"final\":7}", "answer=final",
            "{\"problem\":\"p\",\"solution\":\"s\",\"final\":7,\"answer\":7,"
            "\"prompt\":[{\"role\":\"user\",\"content\":\"p\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"s\"}]}",
            "problem");
    /* A completion of the row's own goes behind the prompt that is made. */
    becomes("{\"question\":\"q\",\"answer\":\"7\",\"why\":\"because\"}", "completion=why",
            "{\"question\":\"q\",\"answer\":\"7\",\"why\":\"because\","
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"because\"}],"
            "\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}]}",
            "question");
    becomes("{\"task\":\"t\",\"response\":\"r\"}", "instruction=task",
            "{\"task\":\"t\",\"response\":\"r\",\"instruction\":\"t\","
            "\"prompt\":[{\"role\":\"user\",\"content\":\"t\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"r\"}]}",
            "Dolly");
}

static void test_forms(void **state)
{
    (void)state;
    becomes("{\"instruction\":\"Sum\",\"context\":\"1 2\",\"response\":\"3\",\"category\":\"qa\"}", NULL,
            "{\"instruction\":\"Sum\",\"context\":\"1 2\",\"response\":\"3\",\"category\":\"qa\","
            "\"prompt\":[{\"role\":\"user\",\"content\":\"Sum\\n\\n1 2\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"3\"}]}",
            "Dolly");
    becomes("{\"question\":\"2+2?\",\"answer\":\"4\"}", NULL,
            "{\"question\":\"2+2?\",\"answer\":\"4\",\"prompt\":[{\"role\":\"user\",\"content\":\"2+2?\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"4\"}]}",
            "note: d.jsonl: rows with \"question\" and \"answer\"");
    becomes("{\"question\":\"q\",\"answer\":\"It is\\n3*4=12\\n#### 1,200 \\n\"}", NULL,
            "{\"question\":\"q\",\"answer\":\"1,200\",\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"It is\\n3*4=12\\n#### 1,200 \\n\"}],"
            "\"solution\":\"It is\\n3*4=12\\n#### 1,200 \\n\"}",
            "#### VALUE");
    becomes("{\"question\":\"q\",\"answer\":\"#### a\\nb\"}", NULL, /* a heading, not the end */
            "{\"question\":\"q\",\"answer\":\"#### a\\nb\",\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"#### a\\nb\"}]}",
            "question");
    becomes("{\"question\":\"q\",\"answer\":4}", NULL,
            "{\"question\":\"q\",\"answer\":4,\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}]}", "question");
    becomes("{\"problem\":\"p\",\"solution\":\"s\",\"answer\":\"7\"}", NULL,
            "{\"problem\":\"p\",\"solution\":\"s\",\"answer\":\"7\",\"prompt\":[{\"role\":\"user\",\"content\":\"p\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"s\"}]}",
            "problem");
    becomes("{\"instruction\":\"Sum\",\"input\":\"1 2\",\"output\":\"3\"}", NULL,
            "{\"instruction\":\"Sum\",\"input\":\"1 2\",\"output\":\"3\","
            "\"prompt\":[{\"role\":\"user\",\"content\":\"Sum\\n\\n1 2\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"3\"}]}",
            "Alpaca");
    becomes("{\"instruction\":\"i\",\"input\":\"\",\"output\":\"o\",\"system\":\"s\",\"history\":[[\"a\",\"b\"]]}",
            NULL,
            "{\"instruction\":\"i\",\"input\":\"\",\"output\":\"o\",\"system\":\"s\",\"history\":[[\"a\",\"b\"]],"
            "\"prompt\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"a\"},"
            "{\"role\":\"assistant\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"i\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"o\"}]}",
            "Alpaca");
    becomes(
        "{\"system\":\"s\",\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"GPT\",\"value\":\"b\"}]"
        "}",
        NULL,
        "{\"system\":\"s\",\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"GPT\",\"value\":\"b\"}],"
        "\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"a\"},"
        "{\"role\":\"assistant\",\"content\":\"b\"}]}",
        "ShareGPT");
    becomes("{\"conversations\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":\"[]\"}", NULL,
            "{\"conversations\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":\"[]\","
            "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
            "ShareGPT");
    becomes("{\"conversation\":[{\"role\":\"user\",\"content\":\"a\"}],\"model\":\"m\"}", NULL,
            "{\"conversation\":[{\"role\":\"user\",\"content\":\"a\"}],\"model\":\"m\","
            "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
            "messages=conversation");
    becomes("{\"conversation\":[{\"input\":\"a\",\"output\":\"b\"},{\"input\":\"c\",\"output\":\"d\"}]}", NULL,
            "{\"conversation\":[{\"input\":\"a\",\"output\":\"b\"},{\"input\":\"c\",\"output\":\"d\"}],"
            "\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"},"
            "{\"role\":\"user\",\"content\":\"c\"},{\"role\":\"assistant\",\"content\":\"d\"}]}",
            "conversation");
    /* A solution is learned, whatever it comes to. */
    becomes(
        "{\"question\":\"q\",\"solution\":\"s\",\"answer\":\"7\"}", NULL,
        "{\"question\":\"q\",\"solution\":\"s\",\"answer\":\"7\",\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],"
        "\"completion\":[{\"role\":\"assistant\",\"content\":\"s\"}]}",
        "rows with \"question\" and \"solution\"");
    becomes("{\"problem\":\"p\",\"answer\":\"7\"}", NULL,
            "{\"problem\":\"p\",\"answer\":\"7\",\"prompt\":[{\"role\":\"user\",\"content\":\"p\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"7\"}]}",
            "rows with \"problem\" and \"answer\"");
    /* Messages as JSON text, ShareGPT's too. */
    becomes("{\"messages\":\"[{\\\"role\\\":\\\"user\\\",\\\"content\\\":\\\"a\\\"}]\"}", NULL,
            "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", NULL);
    becomes("{\"x\":\"[{\\\"from\\\":\\\"human\\\",\\\"value\\\":\\\"a\\\"}]\"}", "messages=x",
            "{\"x\":\"[{\\\"from\\\":\\\"human\\\",\\\"value\\\":\\\"a\\\"}]\","
            "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
            NULL);
    /* What is canonical stays as it is, whatever stands beside it. */
    becomes("{\"prompt\":\"p\",\"question\":\"q\",\"answer\":\"a\"}", NULL,
            "{\"prompt\":\"p\",\"question\":\"q\",\"answer\":\"a\"}", NULL);
    becomes("{\"text\":\"p\",\"instruction\":\"q\",\"output\":\"a\"}", NULL,
            "{\"text\":\"p\",\"instruction\":\"q\",\"output\":\"a\"}", NULL);
    becomes("{\"question\":\"q\"}", NULL, "{\"question\":\"q\"}", NULL);
    becomes("{\"question\":\"q\",\"answer\":\"a\",\"prompt\":null}", NULL,
            "{\"question\":\"q\",\"answer\":\"a\",\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"a\"}]}",
            "question");
    /* A mapping of something else leaves the form to be found. */
    becomes("{\"problem\":\"p\",\"solution\":\"s\",\"final\":\"7\"}", "answer=final",
            "{\"problem\":\"p\",\"solution\":\"s\",\"final\":\"7\",\"answer\":\"7\","
            "\"prompt\":[{\"role\":\"user\",\"content\":\"p\"}],"
            "\"completion\":[{\"role\":\"assistant\",\"content\":\"s\"}]}",
            "problem");
}

static void test_forms_refused(void **state)
{
    (void)state;
    refused(
        "{\"question\":\"q\",\"answer\":\"a\",\"problem\":\"p\",\"solution\":\"s\"}", NULL,
        "d.jsonl: the rows have \"question\" and \"solution\", and also \"problem\" and \"solution\": say which is the "
        "prompt, with --columns prompt=question,completion=solution or --columns prompt=problem,completion=solution");
    refused("{\"messages\":\"hello\"}", NULL,
            "d.jsonl:1: \"messages\" is text: expected a list of messages, or the JSON text of one (messages:1:5: ");
    refused("{\"messages\":\"{}\"}", NULL, "(it is no list)");
    refused("{\"id\":null,\"body\":\"x\"}", "prompt=question", "it has id (null), body");
    refused("{\"conversations\":[],\"instruction\":\"q\",\"output\":\"a\"}", NULL, "messages=conversations");
    refused("{\"question\":3,\"answer\":\"a\"}", NULL, "d.jsonl:1: \"question\": expected text");
    refused("{\"instruction\":\"q\",\"output\":\"a\",\"input\":[1]}", NULL, "\"input\": expected text");
    refused("{\"instruction\":\"q\",\"output\":\"a\",\"history\":[[\"a\"]]}", NULL, "\"history\"[0]: expected");
    refused("{\"instruction\":\"q\",\"output\":\"a\",\"history\":\"x\"}", NULL, "\"history\": expected");
    refused("{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"narrator\",\"value\":\"b\"}]}", NULL,
            "d.jsonl:1: \"conversations\"[1]: \"from\" is 'narrator', expected human or user, gpt or assistant, "
            "system, or tool");
    refused("{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\"}]}", NULL,
            "\"conversations\"[1]");
    refused("{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},3]}", NULL, "\"conversations\"[1]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mapping), cmocka_unit_test(test_completed_forms),
                                       cmocka_unit_test(test_forms), cmocka_unit_test(test_forms_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
