/* Any bytes as a chat template: it is refused or rendered within its bounds, and what is rendered is UTF-8 with spans
 * that lie within it in order. An input is a template, a NUL, and bytes that choose how its variables are mutated. */
#include "support/fuzz.h"
#include "support/json_mutate.h"

#include "base/json_text.h"
#include "base/utf8.h"
#include "text/chat_template.h"
#include "text/jinja.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char VARIABLES[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Sei kurz \xc3\xa9\"}, {\"role\": \"user\", \"content\": \" "
    "hi \"},"
    "{\"role\": \"assistant\", \"content\": \"<think>\\nx\\n</think>\\n\\nyes\", \"tool_calls\": [{\"function\": "
    "{\"name\": "
    "\"f\", \"arguments\": {\"a\": 1, \"b\": [2.5, null, true]}}}]}, {\"role\": \"tool\", \"content\": [{\"type\": "
    "\"text\", "
    "\"text\": \"t\"}]}], \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": "
    "{\"type\": "
    "\"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}}}}], \"add_generation_prompt\": true, \"n\": -7, "
    "\"f\": 1e22,"
    "\"s\": \"a,b \xf0\x9f\xa6\x99\", \"d\": {\"k\": \"v\", \"items\": {}}, \"e\": [], \"z\": null}";

static void check_spans(const struct jinja_span *spans, size_t n, size_t length, bool origins)
{
    for (size_t i = 0; i < n; i++)
        if (spans[i].from >= spans[i].to || spans[i].to > length || (i > 0 && spans[i].from < spans[i - 1].to) ||
            (origins && spans[i].origin != JINJA_FOREIGN && spans[i].origin != JINJA_ASSISTANT))
            abort();
}

static bool rendered(const uint8_t *data, size_t size)
{
    static const char *const words[] = {"role", "content", "user", "assistant",
                                        "tool", "<think>", "text", "\xf0\x9f\xa6\x99"};
    static const char *const names[] = {"messages", "tools", "add_generation_prompt", "n", "f", "s", "d", "e", "z"};
    enum { N_NAMES = sizeof names / sizeof *names };
    const uint8_t *end = size > 0 ? memchr(data, '\0', size) : NULL;
    const size_t length = end != NULL ? (size_t)(end - data) : size;
    struct genome genome = {.bytes = data + length, .size = size - length};
    struct jinja_template *template = NULL;
    cohort_error err = {0};
    cohort_status status = jinja_parse(&template, (const char *)data, length, "fuzz", &err);
    if (status != COHORT_OK) {
        if (template != NULL || strncmp(err.message, "fuzz:", 5) != 0 ||
            (status != COHORT_ERR_FORMAT && status != COHORT_ERR_UNSUPPORTED))
            abort();
        return false;
    }
    json_t *values = NULL;
    if (json_text_parse(&values, VARIABLES, sizeof VARIABLES - 1, "variables", 1, 0, &err) != COHORT_OK)
        abort();
    if (end != NULL)
        json_mutate(values, &genome, words, sizeof words / sizeof *words);
    struct jinja_variable variables[N_NAMES];
    size_t n = 0;
    for (size_t i = 0; i < N_NAMES; i++) {
        const json_t *value = json_object_get(values, names[i]);
        if (value != NULL)
            variables[n++] =
                (struct jinja_variable){names[i], value, i % 2 == 0 ? JINJA_FOREIGN : JINJA_ASSISTANT, NULL};
    }
    const struct jinja_settings settings = {.max_steps = 200000, .max_bytes = 4 << 20, .now = 1};
    struct jinja_output out = {0};
    status = jinja_render(template, variables, n, &settings, &out, &err);
    if (status == COHORT_OK) {
        if (utf8_check(out.text.data, out.text.length) != out.text.length)
            abort();
        check_spans(out.spans, out.n_spans, out.text.length, true);
        check_spans(out.generation, out.n_generation, out.text.length, false);
    } else if (status != COHORT_ERR_FORMAT || strncmp(err.message, "fuzz:", 5) != 0 || err.message[6] == '\0') {
        abort();
    }
    jinja_output_free(&out);
    jinja_destroy(template);
    json_decref(values);
    return status == COHORT_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)rendered(data, size);
    return 0;
}

#ifndef COHORT_LIBFUZZER
#define SEED(text)                                                                                                     \
    {                                                                                                                  \
        text, sizeof text - 1                                                                                          \
    }

int main(int argc, char **argv)
{
    static struct fuzz_seed seeds[] = {
        {NULL, 0},
        SEED(
            "{%- macro m(a, b='x', c=a) -%}[{{ a }}{{ b|upper ~ c }}{{ caller() if caller }}]{%- endmacro -%}{{ m(s) }}"
            "{% call(x, y=1) m(n, *[1]) %}{{ x }}{% endcall %}{{ m(**{'a': 1}) }}"),
        SEED("{% set ns = namespace(a=1, l=[]) %}{% for k, v in d.items() if k is string %}{% set ns.l = ns.l + [k] %}"
             "{{ loop.index }}{{ loop.last }}{{ loop.nextitem }}{% else %}x{% endfor %}{{ ns.l|join(', ') }}\0abc"),
        SEED("{{ messages[::-1][1:-1]|map(attribute='role')|list|sort|unique|join }}{{ s[::2] }}{{ s|replace('a', "
             "'bb') }}"
             "{{ s.split(',')[-1].strip('b ')|title }}{{ 'x%s%5d' % (s, n) }}{{ '{}'.format(f) }}"),
        SEED("{{ tools|tojson(indent=2, ensure_ascii=true) }}{{ d|dictsort }}{{ messages|selectattr('role', 'in', "
             "['user'])|"
             "first|tojson }}{{ [1, (2,), {'a': n // 2 % 3 ** 2}, none, true, 1.5e3] }}"),
        SEED("{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% elif loop.index > 3 %}{% break %}{% "
             "endif %}"
             "{% generation %}{{ m.content|default('', true)|trim }}{% endgeneration %}\n{% endfor %}\0\1\2\3\4\5\6"),
        SEED("{% set x %}a{{ s }}b{% endset %}{{ x|indent(2)|center(20)|truncate(9) }}{% filter upper %}{{ x }}{% "
             "endfilter %}"
             "{% with y = x|list %}{{ y|batch(2)|list }}{% endwith %}{# c #}{% raw %}{{ }}{% endraw %}\n {%- if e "
             "%}{%+ endif %}"),
        SEED("{{ range(n, 20, 3)|sum }}{{ '12'|int + 1.5|round(1) }}{{ z is none and n is odd or s is not defined }}"
             "{{ raise_exception('no') if q.x is defined else strftime_now('%Y') }}{{ s in d }}{{ 1 < 2 <= 3 != 4 }}"),
    };
    static const char *const words[] = {"{{ ",
                                        " }}",
                                        "{%- ",
                                        " -%}",
                                        "{% if ",
                                        "{% endif %}",
                                        "{% for x in ",
                                        "{% endfor %}",
                                        "{% set ns.",
                                        "|tojson",
                                        "|join",
                                        "|map('",
                                        ".split(",
                                        "[::-1]",
                                        "[1:]",
                                        " ~ ",
                                        " ** ",
                                        "namespace(",
                                        "loop.",
                                        "messages",
                                        "caller()",
                                        "is defined",
                                        "{#",
                                        "#}",
                                        "\\u00e9",
                                        "{% generation %}",
                                        "\xc3\xa9",
                                        "**",
                                        "*[",
                                        "|sort(attribute='",
                                        "not in ",
                                        "|replace('', 'ab')",
                                        "range(99999)",
                                        "|safe",
                                        " if ",
                                        " else ",
                                        "\\"};
    const char *published = chat_template_qwen3();
    seeds[0] = (struct fuzz_seed){published, strlen(published)};
    static struct fuzz_target target = {.name = "jinja",
                                        .one = LLVMFuzzerTestOneInput,
                                        .seeds = seeds,
                                        .n_seeds = sizeof seeds / sizeof *seeds,
                                        .words = words,
                                        .n_words = sizeof words / sizeof *words};
    for (size_t i = 1; i < target.n_seeds; i++) {
        if (!rendered(seeds[i].data, seeds[i].size) && i != 2 && i != 7) {
            fprintf(stderr, "seed %zu is refused\n", i);
            return 1;
        }
    }
    return fuzz_run(&target, argc, argv);
}
#endif
