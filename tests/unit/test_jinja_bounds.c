/* What a template may not do: run for ever, nest without end, fill the memory, say nothing about its mistakes. All of
 * it runs on a stack of 256 KB. And who wrote what of a rendering (invariant I12). */
#include "base/json_text.h"
#include "support/sanitized.h"
#include "text/jinja.h"

#include <pthread.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { STACK_BYTES = 256 * 1024 };

static json_t *parse_json(const char *text)
{
    json_t *json = NULL;
    cohort_error err = {0};
    if (json_text_parse(&json, text, strlen(text), "test", 1, JSON_TEXT_ANY, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return json;
}

/* ---- errors ---- */

/* Renders with messages, user (foreign) and answer (the assistant's). */
static cohort_status render(const char *source, size_t length, const struct jinja_settings *settings,
                            struct jinja_output *out, cohort_error *err)
{
    static const enum jinja_origin elements[] = {JINJA_FOREIGN, JINJA_ASSISTANT};
    struct jinja_template *template = NULL;
    json_t *messages =
        parse_json("[{\"role\": \"user\", \"content\": \"Fußball\", \"n\": 5, \"parts\": [{\"text\": \"p\"}]},"
                   "{\"role\": \"assistant\", \"content\": \" <think>x</think> Yes \", \"args\": {\"k\": [1]}}]");
    json_t *user = json_string("us er"), *answer = json_string("answer");
    const struct jinja_variable variables[] = {{"messages", messages, JINJA_FOREIGN, elements},
                                               {"user", user, JINJA_FOREIGN, NULL},
                                               {"answer", answer, JINJA_ASSISTANT, NULL}};
    cohort_status status = jinja_parse(&template, source, length, "chat_template.jinja", err);
    if (status == COHORT_OK)
        status = jinja_render(template, variables, sizeof variables / sizeof *variables, settings, out, err);
    jinja_destroy(template);
    json_decref(messages);
    json_decref(user);
    json_decref(answer);
    return status;
}

static const struct {
    const char *source, *message;
    cohort_status status;
} MISTAKES[] = {
    {"\n\n{{ foo.bar }}", "chat_template.jinja:3: 'foo' is undefined", COHORT_ERR_FORMAT},
    {"{% for m in messages %}\n{{ m.x.y }}{% endfor %}", ":2: a dict has no attribute 'x'", COHORT_ERR_FORMAT},
    {"{{ messages[7].role }}", ":1: a list has no element 7", COHORT_ERR_FORMAT},
    {"{{ raise_exception('No ' ~ user) }}", ":1: the template says: No us er", COHORT_ERR_FORMAT},
    {"{% macro m(a) %}{{ a.b }}{% endmacro %}{{ m() }}", "the parameter 'a' was not given", COHORT_ERR_FORMAT},
    {"{{ messages.append(1) }}", "'append' of a list may not be called", COHORT_ERR_FORMAT},
    {"{{ user.__class__.x }}", "a str has no attribute '__class__'", COHORT_ERR_FORMAT},
    {"{{ user|nix }}", ":1: a filter named 'nix' is not supported", COHORT_ERR_UNSUPPORTED},
    {"{{ user is nix }}", ":1: a test named 'nix' is not supported", COHORT_ERR_UNSUPPORTED},
    {"\n{% include 'x' %}", ":2: {% include %} is not supported", COHORT_ERR_UNSUPPORTED},
    {"{% import 'x' as y %}", "{% import %} is not supported", COHORT_ERR_UNSUPPORTED},
    {"{% extends 'x' %}", "{% extends %} is not supported", COHORT_ERR_UNSUPPORTED},
    {"{% block x %}{% endblock %}", "{% block %} is not supported", COHORT_ERR_UNSUPPORTED},
    {"{% for a in b recursive %}{% endfor %}", "recursive loops are not supported", COHORT_ERR_UNSUPPORTED},
    {"{% nix %}", ":1: unknown tag 'nix'", COHORT_ERR_FORMAT},
    {"a\n{% if user %}\n", "expected {% elif %} or {% else %} or {% endif %}, the template ends", COHORT_ERR_FORMAT},
    {"{% for a in b %}{% endif %}", "expected {% else %} or {% endfor %}, found 'endif'", COHORT_ERR_FORMAT},
    {"{{ user", "expected '}}', the template ends", COHORT_ERR_FORMAT},
    {"{{ 'abc }}", "a string has no end", COHORT_ERR_FORMAT},
    {"{# abc", "a comment {# has no end #}", COHORT_ERR_FORMAT},
    {"{{ 99999999999999999999 }}", "does not fit 64 bits", COHORT_ERR_UNSUPPORTED},
    {"{{ 9223372036854775807 + 1 }}", "does not fit 64 bits", COHORT_ERR_FORMAT},
    {"{{ 5 * user * user }}", ":1: '*' is not defined for a str and a str", COHORT_ERR_FORMAT},
    {"\xff", "chat_template.jinja: byte 0 is not UTF-8", COHORT_ERR_FORMAT},
};

static void test_mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof MISTAKES / sizeof *MISTAKES; i++) {
        struct jinja_output out = {0};
        cohort_error err = {0};
        const cohort_status status = render(MISTAKES[i].source, strlen(MISTAKES[i].source), NULL, &out, &err);
        if (status != MISTAKES[i].status || strstr(err.message, MISTAKES[i].message) == NULL)
            fail_msg("%s: expected \"%s\", found %d \"%s\"", MISTAKES[i].source, MISTAKES[i].message, (int)status,
                     err.message);
        jinja_output_free(&out);
    }
}

/* ---- bounds ---- */

#define LOOP         "{% for i in range(100000) %}"
#define END          "{% endfor %}"
#define GROW(change) "{% set ns = namespace(x='ab', l=[1]) %}" LOOP "{% set " change " %}" END

static const struct {
    const char *source, *message;
} HOSTILE[] = {
    {LOOP LOOP LOOP "x" END END END, "more steps"},
    {LOOP LOOP END END, "more steps"},
    {LOOP "{{ range(100000)|length }}" END, "more"},
    {LOOP "{{ range(100000)|map('string')|list|length }}" END, "more"},
    {LOOP "{% if 99999999 in range(100000) %}{% endif %}" END, "more"},
    {"{% set s = 'a' * 200000000 %}" LOOP "{% if 'b' in s %}{% endif %}" END, "more"},
    {"{% set s = 'a' * 200000000 %}" LOOP "{% if s == s ~ '' %}{% endif %}" END, "more"},
    {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nests deeper"},
    {"{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{% call a() %}{% endcall %}{% endmacro %}{{ a() }}", ""},
    {"{% macro m(x) %}{{ [x]|map('m') }}{{ m([x]) }}{% endmacro %}{{ m(1) }}", ""},
    {GROW("ns.x = ns.x ~ ns.x"), "more bytes"},
    {GROW("ns.x = ns.x + ns.x"), "more bytes"},
    {GROW("ns.l = ns.l + ns.l"), "more"},
    {GROW("ns.x = [ns.x, ns.x]") "{{ ns.x == [ns.x, ns.x] }}", ""},
    {GROW("ns.l = [ns.l]") "{{ ns.l }}", ""},
    {GROW("ns.l = [ns.l]") "{{ ns.l|tojson }}", ""},
    {GROW("ns.l = {'a': ns.l}") "{{ ns.l|tojson(indent=2) }}", ""},
    {"{% set ns = namespace(a=[1], b=[1]) %}" LOOP "{% set ns.a, ns.b = [ns.a], [ns.b] %}" END "{{ ns.a == ns.b }}",
     ""},
    {"{% set ns = namespace(a=[1], b=[2]) %}" LOOP "{% set ns.a, ns.b = [ns.a], [ns.b] %}" END "{{ ns.a < ns.b }}", ""},
    {GROW("ns.x = ns.x|replace('', 'abcdefgh')"), "more"},
    {GROW("ns.x = ns.x|indent(1000, true)"), "more"},
    {GROW("ns.x = ns.x|tojson"), "more"},
    {GROW("ns.x = ns.x|upper ~ ns.x"), "more"},
    {GROW("ns.x = ns.x.join(ns.x|list)"), "more"},
    {"{{ 'a' * 9223372036854775807 }}", "more bytes"},
    {"{{ [1] * 1000000000 }}", "more bytes"},
    {"{{ 'a'|center(9223372036854775807) }}", "more bytes"},
    {"{{ 'a'.ljust(1000000000000) }}", "more bytes"},
    {"{{ 'a'.zfill(1000000000000) }}", "more bytes"},
    {"{{ 'a'|indent(9223372036854775807) }}", "more bytes"},
    {"{{ [1]|tojson(indent=4611686018427387904) }}", "more bytes"},
    {"{{ '%999999999d' % 1 }}", "width or precision is none or too large"},
    {"{{ strftime_now('%c' * 100000) }}", "too long"},
    {"{{ range(0, 9223372036854775807) }}", "too long"},
    {"{{ range(-9223372036854775807, 9223372036854775807, 3) }}", "too long"},
    {LOOP "{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' * 999 }}" END,
     "more"},
    {"{% set ns = namespace(x='') %}" LOOP "{% set ns.x = ns.x ~ user ~ 'b' %}" END, "more"},
    {LOOP "{% set x %}" LOOP "abc" END "{% endset %}" END, "more"},
    {LOOP "{% generation %}{{ user }}{% endgeneration %}{{ user }}a{{ answer }}" END LOOP "{{ messages }}" END, "more"},
    {"{% set ns = namespace(d={}) %}" LOOP "{% set ns.d = dict(ns.d, **{i|string: i}) %}" END, "more"},
    {"{% set s = 'ab ' * 1000000 %}" LOOP "{% set x = s.split() %}" END, "more"},
    {"{% set s = 'ab' * 1000000 %}" LOOP "{% set x = s.rsplit('q', 1) %}{% set y = s.find('bb') %}" END, "more"},
    {"{% set s = ' ' * 1000000 %}" LOOP "{% set x = s.strip() %}" END, "more"},
    {"{% set s = 'é' * 1000000 %}" LOOP "{% set x = s[-1] %}" END, "more"},
    {"{% set s = 'é' * 1000000 %}" LOOP "{% set x = s|length %}" END, "more"},
    {"{% set s = 'a' * 1000000 %}" LOOP "{% set x = s is upper or s.isalpha() %}" END, "more"},
};

struct hostile_run {
    const char *source;
    size_t length;
    cohort_status status;
    cohort_error err;
};

static bool full;

static void *run_hostile(void *context)
{
    struct hostile_run *run = context;
    struct jinja_output out = {0};
    const struct jinja_settings tenth = {.max_steps = 1000 * 1000, .max_bytes = 13 * 1000 * 1000};
    run->status = render(run->source, run->length, full ? NULL : &tenth, &out, &run->err);
    jinja_output_free(&out);
    return NULL;
}

/* Of this process: others may keep the machine busy. */
static double cpu_seconds(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* On a thread with a small stack. message: what the error says; NULL: it may be none, only the time counts. */
static void check_hostile(const char *source, size_t length, const char *message)
{
    struct hostile_run run = {.source = source, .length = length};
    pthread_attr_t attributes;
    pthread_t thread;
    const double start = cpu_seconds();
    assert_int_equal(pthread_attr_init(&attributes), 0);
    if (!SANITIZED)
        assert_int_equal(pthread_attr_setstacksize(&attributes, STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attributes, run_hostile, &run), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attributes);
    const double took = cpu_seconds() - start;
    if (message != NULL && (run.status == COHORT_OK || strstr(run.err.message, message) == NULL))
        fail_msg("%.100s: expected \"%s\", found %d \"%s\"", source, message, (int)run.status, run.err.message);
    if (full)
        print_message("%.3f s %.140s: %s\n", took, source, run.err.message);
    if (took > (SLOW ? 20.0 : full ? 1.0 : 0.3))
        fail_msg("%.100s: took %.2f s", source, took);
}

static void test_hostile(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof HOSTILE / sizeof *HOSTILE; i++)
        check_hostile(HOSTILE[i].source, strlen(HOSTILE[i].source), HOSTILE[i].message);
}

/* before, n times opening, "1", n times closing, after. */
static void check_nested(const char *before, const char *opening, size_t n, const char *closing, const char *after)
{
    struct text source = {0};
    assert_int_equal(text_append(&source, before, strlen(before), NULL), COHORT_OK);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(text_append(&source, opening, strlen(opening), NULL), COHORT_OK);
    assert_int_equal(text_append(&source, "1", 1, NULL), COHORT_OK);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(text_append(&source, closing, strlen(closing), NULL), COHORT_OK);
    assert_int_equal(text_append(&source, after, strlen(after), NULL), COHORT_OK);
    check_hostile(source.data, source.length, NULL);
    text_free(&source);
}

static void test_hostile_nesting(void **state)
{
    (void)state;
    static const struct {
        const char *before, *opening, *closing, *after;
    } shapes[] = {{"{{ ", "(", ")", " }}"},
                  {"{{ ", "[", "]", " }}"},
                  {"{{ ", "{1:", "}", " }}"},
                  {"{{ ", "not ", "", " }}"},
                  {"{{ ", "-", "", " }}"},
                  {"{{ ", "0 if 0 else ", "", " }}"},
                  {"{{ ", "1 if ", "", " }}"},
                  {"{{ ", "x[", "]", " }}"},
                  {"{{ ", "'a'[1:", "]", " }}"},
                  {"{{ ", "x(a=", ")", " }}"},
                  {"{{ ", "x|d(", ")", " }}"},
                  {"{{ ", "x is in(", ")", " }}"},
                  {"{{ ", "1 or 1 and not 1 == 1 + 1 ~ 1 * 1 ** x|d(", ")", " }}"},
                  {"{{ ", "0 or 1 and 1 == 1 + 1 ~ 1 * 1 ** -(", ")", " }}"},
                  {"{{ ", "x is divisibleby y[", "]", " }}"},
                  {"{{ x", ".y", "", " }}"},
                  {"{{ x", "|d", "", " }}"},
                  {"{{ x", "()", "", " }}"},
                  {"", "{% if 1 %}", "{% endif %}", ""},
                  {"", "{% for a in [1] %}", "{% endfor %}", ""},
                  {"", "{% macro m() %}", "{% endmacro %}", ""},
                  {"", "{% call m() %}", "{% endcall %}", ""},
                  {"", "{% set x %}", "{% endset %}", ""},
                  {"", "{% filter upper %}", "{% endfilter %}", ""},
                  {"", "{% with %}", "{% endwith %}", ""},
                  {"", "{% generation %}", "{% endgeneration %}", ""},
                  {"", "{% if 0 %}{% else %}", "{% endif %}", ""},
                  {"{% set ", "(", ")", " = 1 %}"},
                  {"{% for ", "(", ")", " in x %}{% endfor %}"}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t n = 11; n < 20000; n *= 3) /* 99 is the deepest that is parsed */
            check_nested(shapes[i].before, shapes[i].opening, n, shapes[i].closing, shapes[i].after);
}

/* What is long but not deep is rendered. */
static void test_long(void **state)
{
    (void)state;
    static const char *const chains[] = {"1 + ", "1 ~ ", "1 or ", "1 and ", "1 < 2 and "};
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++) {
        struct text source = {0};
        struct jinja_output out = {0};
        cohort_error err = {0};
        assert_int_equal(text_append(&source, "{{ ", 3, NULL), COHORT_OK);
        for (size_t k = 0; k < 10000; k++)
            assert_int_equal(text_append(&source, chains[i], strlen(chains[i]), NULL), COHORT_OK);
        assert_int_equal(text_append(&source, "1 }}", 4, NULL), COHORT_OK);
        if (render(source.data, source.length, NULL, &out, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        jinja_output_free(&out);
        text_free(&source);
    }
}

static void test_settings(void **state)
{
    (void)state;
    static const char loop[] = "{% for i in range(100) %}{{ i }}{% endfor %}";
    static const char nest[] = "{{ [[[[[[1]]]]]] }}";
    static const struct {
        struct jinja_settings settings;
        const char *source, *message;
    } limits[] = {{{.max_steps = 50}, loop, "more steps"},
                  {{.max_bytes = 1000}, loop, "more bytes"},
                  {{.max_depth = 5}, nest, "nests deeper"}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct jinja_output out = {0};
        cohort_error err = {0};
        assert_int_equal(render(limits[i].source, strlen(limits[i].source), NULL, &out, &err), COHORT_OK);
        assert_int_equal(render(limits[i].source, strlen(limits[i].source), &limits[i].settings, &out, &err),
                         COHORT_ERR_FORMAT);
        assert_non_null(strstr(err.message, limits[i].message));
        jinja_output_free(&out);
    }
}

/* ---- who wrote what ---- */

/* The output is text, and each of its bytes was written by the template (t), a foreign value (f) or the assistant
 * (a). */
static const struct {
    const char *source, *text, *tags;
} ORIGINS[] = {
    {"a{{ user }}b{{ answer }}", "aus erbanswer", "tffffftaaaaaa"},
    {"{{ 'x' + user + answer ~ 'y' }}", "xus eranswery", "tfffffaaaaaat"},
    {"{{ (user + answer)[3:7] }}", "eran", "ffaa"},
    {"{{ (user ~ answer)[::-1] }}", "rewsnare su", "aaaaaafffff"},
    {"{{ ('  ' ~ user ~ ' ')|trim }}", "us er", "fffff"},
    {"{{ (user ~ ' ' ~ answer).split()|join('-') }}", "us-er-answer", "fftfftaaaaaa"},
    {"{{ user|upper ~ answer|upper }}", "US ERANSWER", "fffffaaaaaa"},
    {"{{ (user ~ '!' ~ answer)|upper }}", "US ER!ANSWER", "ffffftaaaaaa"},
    {"{{ user|replace(' ', answer) }}", "usanswerer", "ffaaaaaaff"},
    {"{{ answer.replace('w', '_') }}", "ans_er", "aaataa"},
    {"{{ [user, answer, 'c']|join(', ') }}", "us er, answer, c", "fffffttaaaaaattt"},
    {"{{ user|default('x') }}{{ nix|default(answer) }}", "us eranswer", "fffffaaaaaa"},
    {"{% set x %}a{{ user }}{% endset %}{{ x }}{{ x }}", "aus eraus er", "tffffftfffff"},
    {"{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(user) ~ m(answer) }}", "<us er><answer>",
     "tffffftt"
     "aaaaaat"},
    {"{% filter upper %}a{{ user }}{% endfilter %}", "AUS ER", "tfffff"},
    {"{% for c in user %}{{ c }}.{% endfor %}", "u.s. .e.r.", "ftftftftft"},
    {"{{ user[0] }}{{ answer[-1] }}{{ user.title() }}", "urUs Er", "fafffff"},
    {"{% for m in messages %}{{ m.role }}{% endfor %}", "userassistant", "ffffaaaaaaaaa"},
    {"{% for m in messages[::-1] %}{{ m['role'][0] }}{% endfor %}", "au", "af"},
    {"{{ messages|map(attribute='role')|join }}", "userassistant", "ffffaaaaaaaaa"},
    {"{{ messages[0].content|upper }}", "FUSSBALL", "ffffffff"},
    {"{{ messages[1].content.split('</think>')[-1].strip() }}", "Yes", "aaa"},
    {"{{ messages[0].n }}{{ messages[0].n ~ 'x' }}", "55x", "ttt"},
    {"{{ messages[0].parts[0].text }}{% for p in messages[0].parts %}{{ p.text }}{% endfor %}", "pp", "ff"},
    {"{% for k, v in messages[1].args.items() %}{{ k }}={{ v }}{% endfor %}", "k=[1]", "ataaa"},
    {"{{ messages[0].parts|tojson }}", "[{\"text\": \"p\"}]", "fffffffffffffff"},
    {"{{ messages[1].args|tojson }}", "{\"k\": [1]}", "aaaaaaaaaa"},
    {"{{ user|tojson }}{{ {'a': user, 'b': answer}|tojson }}", "\"us er\"{\"a\": \"us er\", \"b\": \"answer\"}",
     "fffffff"
     "ttttttfffffff"
     "ttttttt"
     "aaaaaaaa"
     "t"},
    {"{{ [user] }}{{ [1, answer] }}", "['us er'][1, 'answer']",
     "tffffffft"
     "tttt"
     "aaaaaaaa"
     "t"},
    {"{{ '%s|%s' % (user, answer) }}", "us er|answer", "ffffftaaaaaa"},
    {"{{ '{}|{}'.format(user, answer) }}", "us er|answer", "ffffftaaaaaa"},
    {"{{ ('<' ~ user ~ '<')|e }}", "&lt;us er&lt;", "ttttffffftttt"},
    {"{{ (user ~ '\n' ~ answer)|indent(2) }}", "us er\n  answer",
     "fffffttt"
     "aaaaaa"},
    {"{{ user.center(9, '*') }}", "**us er**", "ttffffftt"},
    {"{{ user.partition(' ')|join('|') }}", "us| |er", "fftftff"},
    {"{{ (user|list)|sort|join }}", " ersu", "fffff"},
    {"{{ dict(a=user).a }}{{ namespace(b=answer).b }}", "us eranswer", "fffffaaaaaa"},
    {"{{ user if answer else 'x' }}{{ nix or answer }}", "us eranswer", "fffffaaaaaa"},
    {"{{ user * 2 }}{{ user|reverse }}", "us erus erre su", "fffffffffffffff"},
    {"{{ user|string|safe + answer }}", "us eranswer", "fffffaaaaaa"},
    {"{{ user|truncate(4, true, '..', 0) }}", "us..", "fftt"},
    {"{{ user|length }}{{ user == answer }}{{ none }}", "5FalseNone", "tttttttttt"},
};

static void test_origins(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ORIGINS / sizeof *ORIGINS; i++) {
        struct jinja_output out = {0};
        cohort_error err = {0};
        char tags[256];
        if (render(ORIGINS[i].source, strlen(ORIGINS[i].source), NULL, &out, &err) != COHORT_OK)
            fail_msg("%s: %s", ORIGINS[i].source, err.message);
        assert_string_equal(out.text.data, ORIGINS[i].text);
        memset(tags, 't', out.text.length);
        tags[out.text.length] = '\0';
        for (size_t k = 0; k < out.n_spans; k++) {
            assert_true(out.spans[k].from < out.spans[k].to && out.spans[k].origin != JINJA_TEMPLATE);
            if (k > 0)
                assert_true(out.spans[k - 1].to < out.spans[k].from || out.spans[k - 1].origin != out.spans[k].origin);
            memset(tags + out.spans[k].from, out.spans[k].origin == JINJA_FOREIGN ? 'f' : 'a',
                   out.spans[k].to - out.spans[k].from);
        }
        if (strcmp(tags, ORIGINS[i].tags) != 0)
            fail_msg("%s: expected\n%s\n%s, found\n%s", ORIGINS[i].source, ORIGINS[i].text, ORIGINS[i].tags, tags);
        jinja_output_free(&out);
    }
}

/* ---- what is said of a template ---- */

static void add_literal(const char *bytes, size_t length, void *context)
{
    struct text *all = context;
    assert_int_equal(text_append(all, bytes, length, NULL), COHORT_OK);
    assert_int_equal(text_append(all, "|", 1, NULL), COHORT_OK);
}

static void test_queries(void **state)
{
    (void)state;
    static const char source[] = "a{{ 'b' 'c' }}{% if tools %}d{{ messages['key'].attr|default('e') }}{% endif %}";
    struct jinja_template *template = NULL;
    struct text all = {0};
    assert_int_equal(jinja_parse(&template, source, strlen(source), "t", NULL), COHORT_OK);
    jinja_literals(template, add_literal, &all);
    assert_string_equal(all.data, "a|bc|d|key|e|");
    assert_true(jinja_mentions(template, "tools") && jinja_mentions(template, "attr") &&
                jinja_mentions(template, "key"));
    assert_false(jinja_mentions(template, "documents") || jinja_mentions(template, "tool"));
    assert_false(jinja_marks_generation(template));
    jinja_destroy(template);
    text_free(&all);
    assert_int_equal(jinja_parse(&template, "{% generation %}{% endgeneration %}", 35, "t", NULL), COHORT_OK);
    assert_true(jinja_marks_generation(template));
    jinja_destroy(template);
    jinja_destroy(NULL);
}

/* Marks of generation go along with the bytes that a macro or block wrote; output is used again. */
static void test_generation(void **state)
{
    (void)state;
    static const char source[] =
        "{% macro m(x) %}[{% generation %}{{ x }}{% endgeneration %}]{% endmacro %}"
        "{% set y = m('ab') %}<{{ y }}{{ y[1:3] }}{% generation %}{% set z %}q{% endset %}{{ z }}"
        "{% endgeneration %}>";
    static const struct jinja_span wanted[] = {{2, 4, JINJA_TEMPLATE}, {5, 8, JINJA_TEMPLATE}};
    struct jinja_output out = {0};
    cohort_error err = {0};
    for (int i = 0; i < 2; i++) {
        if (render(source, strlen(source), NULL, &out, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        assert_string_equal(out.text.data, "<[ab]abq>");
        assert_int_equal(out.n_generation, 2);
        for (size_t k = 0; k < 2; k++)
            assert_true(out.generation[k].from == wanted[k].from && out.generation[k].to == wanted[k].to);
    }
    assert_int_equal(render("x", 1, NULL, &out, &err), COHORT_OK);
    assert_true(out.text.length == 1 && out.n_generation == 0 && out.n_spans == 0);
    jinja_output_free(&out);
}

/* --full is the default bounds, within a second each, with their times; else a tenth of them. */
int main(int argc, char **argv)
{
    full = argc == 2 && strcmp(argv[1], "--full") == 0;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mistakes),        cmocka_unit_test(test_hostile),
                                       cmocka_unit_test(test_hostile_nesting), cmocka_unit_test(test_long),
                                       cmocka_unit_test(test_settings),        cmocka_unit_test(test_origins),
                                       cmocka_unit_test(test_queries),         cmocka_unit_test(test_generation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
