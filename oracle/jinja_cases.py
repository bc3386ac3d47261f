"""Templates of our own for every construct of Jinja that cohort runs, with what transformers renders.

Writes tests/fixtures/jinja/cases.json: {now, variables, cases: [{template, text, generation}]}. A case without "text" is
one in which jinja2 raises; its message is kept as "error" for the reader, cohort's says it in its own words.
"generation" are the bytes that {% generation %} marks.
"""

import json
import os
import time
from datetime import datetime, timezone
from pathlib import Path

import transformers.utils.chat_template_utils as chat

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "jinja"
NOW = 1764378000

VARIABLES = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Grüße, 世界 \n"},
        {
            "role": "assistant",
            "content": "<think>\nhm\n</think>\n\nHi 'you' \"there\"\\",
            "tool_calls": [{"function": {"name": "f", "arguments": {"b": [1, 2.5, None, True], "a": "x<y>&'\u2028'"}}}],
        },
    ],
    "numbers": [3, 1, 2, 10, -4],
    "words": ["beta", "Alpha", "gamma", "alpha"],
    "mixed": [0, "", [], {}, False, None, 1, "a", [0], {"k": 0}],
    "table": {"one": 1, "Two": "zwei", "items": "shadow", "deep": {"list": [10, {"x": "y"}]}},
    "empty": {},
    "nothing": None,
    "yes": True,
    "no": False,
    "pi": 3.14159,
    "big": 9007199254740993,
    "tiny": 1e-07,
    "huge": 1e22,
    "s": "Hello, World",
    "u": "ÀéîÕü ß ŉ ΑΣ Σ ﬁ ǆ i\u0307İ 🦙",
    "blank": " \t\r\n\u00a0\u2003x\u3000\x1f ",
    "lines": "one\ntwo\r\n\nthree\x0bfour\u2028five\n",
}

EXPRESSIONS = """
1 + 2 * 3 - 4 / 2 | 7 // 2 | -7 // 2 | 7 // -2 | 7 % 3 | -7 % 3 | 7 % -3 | 7.5 // 2 | -7.5 % 2 | 7.5 % -2 | 2 ** 10
2 ** -1 | 2 ** 3 ** 2 | -2 ** 2 | 1 / 3 | 1e3 | 1.5e-7 | 10 / 2 | 1_000 | 0x1F | 0o17 | 0b101 | 1e16
123456789012345678 | 2.0 * big | 1e16 + 2 | 1.2345678901234567e-5 | '<a>'|safe|list | '%s' % undefined_name
none|map('upper')|list | 0|select|list | 1e15 | 0.1 + 0.2 | true + 1 | 5 - true | 3 * 'ab' | 'ab' * 3 | 'ab' * -1
[1, 2] * 2 | [1] + [2] | (1,) + (2, 3) | 'a' + 'b' | 'a' ~ 1 ~ none ~ 2.0 ~ true | 1 + 2 ~ 3 + 4 | 1 ~ 2 * 3
'a' 'b' "c" | not 1 | not not '' | not none == false | 1 < 2 < 3 | 1 < 3 < 2 | 1 == 1.0 | 1 == true | 'a' < 'b'
'Z' < 'a' | [1, 2] < [1, 3] | (1, 2) < (1,) | [1] == (1,) | 'é' > 'z' | 2 in numbers | 5 not in numbers | 'ell' in s
'x' not in s | 'one' in table | 'missing' in table | 1 in [true] | '' in '' | none in mixed | 1 and 2 | 0 and 2
'' or 'd' | 0 or [] or {} | not (1 and 0) or 2 | 1 if yes | 1 if no | 1 if no else 2 | 1 if no else 2 if no else 3
(1 if yes else 2) + 3 | [1, 'a', none, 2.5, true] | (1,) | () | (1, 'b') | {'a': 1, 'b': [2]} | {}
{1: 'x', none: 'y', true: 'z'} | {'a': 1, 'a': 2} | [[], [[]]] | "it's" | ["it's", 'say "hi"', "both ' and \\""]
['\\n\\t\\\\', 'é', '🦙', '\\x07', '\\u00a0', '\\u200b'] | '\\x41\\u00e9\\U0001F999\\101\\q' | 'a\\
b' | '\\é' | numbers
table | mixed | pi | big | tiny | huge | -0.0 | 1.0 | 100.0 | 123456.789 | 5e-324 | 1.7976931348623157e308
numbers[0] | numbers[-1] | numbers[5] is defined | numbers[-6] is defined | numbers[true] | numbers.0
numbers[1.0] is defined | s[0] | s[-1] | u[8] | numbers[1:3] | numbers[:2] | numbers[-2:] | numbers[::-1]
numbers[::2] | numbers[3:0:-1] | numbers[10:] | numbers[:-10] | numbers[-100:100] | s[::-1] | s[2:5] | s[-5:] | s[::3]
u[::-1] | u[1:4] | u[-2:] | (1, 2, 3)[1:] | 'abc'[5:] | 'abc'[2:1] | numbers[none:2] | range(10)[2:5]|list
list is defined | table.one | table['Two'] | table.deep.list[1].x | table['deep']['list'][0]
table.missing is defined | table.get('one') | table.get('zz') | table.get('zz', 5) | table['items'] | table.items()
list(table) is defined | table.keys() | table.values() | messages[0].role | messages[-1]['content']
table.deep['list'][1]['x'] | messages[2].tool_calls[0].function.arguments.b[3] | undefined_name is defined
undefined_name is undefined | undefined_name | undefined_name or 'x' | undefined_name == undefined_other
undefined_name ~ 'x' | [undefined_name] | not undefined_name | undefined_name in numbers | s.foo is defined
none.foo is defined | 5 .foo is defined | s['foo'] is undefined | empty.a is defined | messages|length
messages|first|length | s|length | u|length | table|length | undefined_name|length | s|upper | s|lower | u|upper
u|lower | u|title | u|capitalize | s|capitalize | 'hello-wORLD (foo) [bar]'|title | ' x '|trim | 'xxaxx'|trim('x')
blank|trim | s|replace('l', 'L') | s|replace('l', 'L', 1) | s|replace('', '-') | s|replace('zz', 'y')
'aaa'|replace('aa', 'b') | 5|replace(5, 6) | words|join | words|join(', ') | numbers|join('-')
words|join(attribute=0) | messages|join(', ', attribute='role') | words|first | words|last | []|first is defined
''|last is defined | numbers|list | s|list | table|list | numbers|sort | numbers|sort(reverse=true) | words|sort
words|sort(case_sensitive=true) | words|sort(true) | messages|sort(attribute='role')|map(attribute='role')|list
words|unique|list | words|unique(true)|list | numbers|min | numbers|max | words|min | words|max | []|min is defined
numbers|sum | messages|sum(attribute='content', start='') is defined | numbers|sum(start=100) | numbers|reverse|list
s|reverse | numbers|batch(2)|list | numbers|batch(2, 0)|list | table|dictsort | table|dictsort(true)
table|dictsort(false, 'key', true) | {'b': 1, 'a': 2}|dictsort(by='value') | table|items|list
undefined_name|items|list | numbers|map('string')|list | words|map('upper')|join(' ')
messages|map(attribute='role')|list | messages|map(attribute='tool_calls.0.function.name', default='-')|list
messages|map(attribute='zz', default='d')|list | words|map('replace', 'a', 'A')|list | numbers|select('odd')|list
numbers|select('gt', 1)|list | numbers|reject('even')|list | mixed|select|list | mixed|reject|list
messages|selectattr('role', 'equalto', 'user')|list|length | messages|selectattr('tool_calls')|list|length
messages|rejectattr('tool_calls', 'defined')|map(attribute='role')|join
messages|selectattr('role', 'in', ['user', 'system'])|list|length | numbers|map('abs')|sum
(numbers|map('abs')) is iterable | (numbers|map('abs')) is sequence | true if numbers|select('gt', 100) else false
'42'|int | '42.9'|int | 'x'|int | 'x'|int(7) | 'ff'|int(base=16) | '0xff'|int(0, 16) | 42.9|int | -42.9|int | true|int
' 12 '|int | '1_000'|int | none|int(3) | '3.5'|float | 'x'|float | 'inf'|float | 3|float | '1e3'|float | -5|abs
5.5|abs | 2.5|round | 3.5|round | 2.675|round(2) | 42|round | 42.123|round(1, 'ceil') | 42.19|round(1, 'floor')
-2.5|round | 42|round(0, 'ceil') | undefined_name|default('d') | ''|default('d') | ''|default('d', true)
none|default('d') | none|default('d', boolean=true) | undefined_name|d | undefined_name|default | 5|string + '5'
none|string | '<a>'|safe | '<a>'|escape | '<a>'|e|e | '<a>'|safe|forceescape | '<a>'|safe + '<b>' | '<b>' + '<a>'|safe
('<a>'|safe) ~ '<b>' | '<a>'|safe|upper | ['<a>'|safe] | ('<'|safe).replace('<', '&') | 'a'|center(7) ~ '|'
'ab'|center(7) ~ '|' | 'one two three four five six'|truncate(15) | 'one two three four five six'|truncate(15, true)
'one two three'|truncate(9, false, '', 0) | 'one\\ntwo\\n\\nthree'|indent
'one\\ntwo\\n\\nthree'|indent(2, true, true) | 'a\\nb'|indent('>>') | lines|indent(1)
'%s is %d and %.2f'|format('x', 5, 2.5) | '%s' % 5 | '%s-%s' % (1, 'b')
'%5s|%-5s|%05d|%x|%r|%%' % ('a', 'b', 42, 255, 'q') | '%+d %e %g' % (5, 12345.678, 0.0001) | table|tojson
messages[2]|tojson | mixed|tojson | u|tojson | u|tojson(ensure_ascii=true)
'\\x00\\x1f\\x7f\\u2028"\\\\/\\b\\f'|tojson | table|tojson(indent=2) | numbers|tojson(indent=none)
[]|tojson(indent=2) | {}|tojson(indent=2) | table|tojson(indent='--') | table|tojson(separators=(',', ':'))
{'b': 1, 'a': {'d': 1, 'c': 2}}|tojson(sort_keys=true) | {'b': 1, 'a': 2}|tojson(sort_keys=true, indent=1)
{1: 2, none: 3, true: 4, 2.5: 6}|tojson | (1, 2)|tojson | 1.0|tojson | tiny|tojson | huge|tojson | big|tojson
'inf'|float|tojson | true|tojson | none|tojson | '<a>'|safe|tojson | 1e16|tojson | 0.1|tojson
messages[2].tool_calls|tojson(indent=1) | numbers is iterable | 5 is iterable | s is iterable | table is mapping
numbers is mapping | numbers is sequence | table is sequence | s is sequence | 5 is sequence
undefined_name is sequence | s is string | 5 is string | 5 is number | true is number | 2.5 is number | 5 is integer
true is integer | 2.5 is integer | 2.5 is float | true is boolean | 1 is boolean | true is true | 1 is true
false is false | 0 is false | none is none | nothing is none | undefined_name is none | 3 is odd | 4 is even
9 is divisibleby 3 | 9 is divisibleby(2) | 'a' is eq 'a' | 5 is gt 3 | 5 is lessthan(3) | 5 is in numbers
3 is in(numbers) | 'abc' is lower | 'ABC' is upper | 'aBc' is upper | '' is lower | 1 is sameas 1
none is sameas none | range is callable | s is callable | 'upper' is filter | 'nix' is filter | 'odd' is test
('<'|safe) is escaped | '<' is escaped | 5 is not string | not 5 is string | 3 is odd and 4 is even
'x' is string == true | 5 is == 5 | undefined_name is not defined | s.split() | s.split(', ') | ' a  b '.split()
' a  b '.split(' ') | 'a,b,c'.split(',', 1) | 'a,b,c'.rsplit(',', 1) | 'a b  c d'.split(none, 2) | ''.split()
''.split(',') | 'a,b'.split(',')[-1] | 'xxaxx'.strip('x') | 'xyaxy'.lstrip('yx') | 'xyaxy'.rstrip('xy')
blank.strip() | blank.lstrip()|length | blank.rstrip()|length | s.startswith('He') | s.endswith('ld')
s.startswith(('x', 'H')) | s.startswith('lo', 3) | s.upper() | s.lower() | s.title() | u.title()
"they're bill's".title() | s.swapcase() | 'abc'.capitalize() | 'ǆ'.capitalize() | s.replace('o', '0')
s.replace('o', '0', 1) | ', '.join(words) | lines.splitlines() | lines.splitlines(true) | s.find('o') | s.find('zz')
s.rfind('o') | u.find('Σ') | s.index('W') | s.count('l') | s.count('') | s.count('l', 4) | s.partition(', ')
s.partition('zz') | s.rpartition('o') | s.removeprefix('He') | s.removesuffix('He') | 'ab'.center(7, '*')
'ab'.ljust(5, '.') | 'ab'.rjust(5) ~ '|' | '42'.zfill(5) | '-42'.zfill(5) | 'abc'.islower() | 'ABC'.isupper()
'abc'.isalpha() | 'ab1'.isalnum() | '12'.isdigit() | '½'.isnumeric() | ' '.isspace() | 'é'.isascii()
'{} {}'.format(1, 'b') | '{0}{1}{0}'.format('a', 'b') | '{x}-{{}}'.format(x=5) | numbers.index(10) | numbers.count(1)
(1, 2, 1).count(1) | table.copy() == table | numbers.copy() | namespace(a=1).a | namespace(a=1)['a']
namespace().b is defined | dict(a=1, b=2) | dict({'x': 1}, y=2) | dict([('k', 'v')]) | range(3)|list
range(2, 8, 3)|list | range(5, 0, -2)|list | range(0)|list | range(3)|length | 2 in range(3)
strftime_now('%Y-%m-%d %H:%M:%S') | strftime_now('%d %b %Y, %A %B %j %% %f|%z|%Z') | range(3)[-1]
[x] is defined if true | s [0] | s . upper ( ) | (s)|upper | -1|abs | - 1 + 2 | +1 | (-1)|string
'a' in 'abc' and 'd' not in 'abc' | 1 == 1 and 2 != 3 | 1 <= 1 >= 1 | s|lower|upper|length | (numbers|length - 1) * 2
numbers[numbers|length - 1] | table['o' ~ 'ne'] | messages[0]['ro' + 'le'] | {'a': {'b': [1, 2]}}.a.b[1] | [1, 2, 3,]
{'a': 1,} | dict(a=1,) | [table.one, table['Two']]|join('/') | 'Σ'.lower() | 'ΑΣ'.lower() | 'ß'.upper() | 'ŉ'.upper()
'ﬃ'.title() | 'İ'.lower() | 1.5|string | [1.5, 1e100] | 'a' if s else 'b' | "a" ~ ('b' if no)
""".replace("\\\n", "\\\x00")

BLOCKS = [
    # white space
    "a\n{% if yes %}\nb\n{% endif %}\nc\n",
    "a\n  {% if yes %}  \n  b\n  {% endif %}\nc",
    "a {%- if yes -%} b {%- endif -%} c",
    "a\n\n{%- if yes %}\n\nb{% endif -%}\n\n c",
    "  {%+ if yes %}x{% endif %}",
    "{% if yes +%}\nx{% endif %}",
    "  {{ s }}\n  {{- s -}}\n  x",
    "a {#- c -#} b",
    "a\n  {# c #}\nb",
    "a\n  {# c #} b",
    "{# a\n b #}\n\nc",
    "x\n{#+ c +#}\ny",
    "\n\n{{ s }}\n\n",
    "a\r\nb\rc{{ '\r\n' }}d\r\n",
    "{{ s }}\n",
    "{{ s }}\n\n",
    "",
    "\n",
    "no tags",
    "{{ '{{' }}{{ '}}' }}{{ '%}' }}",
    "{% raw %}{{ x }}{% if %}{% endraw %}",
    "a\n  {% raw %}\n  {{ x }}\n  {% endraw %}\nb",
    "a {%- raw -%} b {%- endraw -%} c",
    "{% raw %}a{%+ endraw +%}\nb",
    "\u00a0\u2003{%- if yes -%}\u3000x{% endif %}",
    "a\n\t{% if yes %}b{% endif %}",
    "{%if yes%}x{%endif%}",
    "{{s}}{{-s}}{{s-}}",
    "{{ {'a': {'b': 1}}['a']['b'] }}",
    "{% set x = {'a': 1} %}{{ x }}",
    "a{{ '' }}\nb",
    "{% if yes: %}x{% endif %}",
    "{{ 1 }}{#a#}{{ 2 }}",
    "{ { % } } {{ '#}' }} }} %} #}",
    "x {{+ 1 }}",
    "a\n{{ none }}\n{% if no %}x{% endif %}\nb",
    # conditions and sets
    "{% if no %}a{% elif yes %}b{% else %}c{% endif %}",
    "{% if no %}a{% elif no %}b{% else %}c{% endif %}",
    "{% if undefined_name %}a{% endif %}b",
    "{% if not undefined_name %}a{% endif %}",
    "{% set x = 1 %}{% set x = x + 1 %}{{ x }}",
    "{% set a, b = 1, 2 %}{{ b }}{{ a }}",
    "{% set (a, b) = [1, 2] %}{{ a + b }}",
    "{% set a, (b, c) = 1, (2, 3) %}{{ c }}",
    "{% set x %}in {{ s }} block{% endset %}[{{ x }}]",
    "{% set x | upper | trim %}  up {{ s }} {% endset %}[{{ x }}]",
    "{% if yes %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% if no %}{% set x = 5 %}{% endif %}{{ x is defined }}",
    "{% if no %}{% set s = 5 %}{% endif %}{{ s }}",
    "{% set s = s ~ '!' %}{{ s }}",
    "{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ x }}{{ y is defined }}",
    "{% set x = (1, 2) %}{{ x }}",
    "{% set x = 1, %}{{ x }}",
    "{% print s, 1 %}",
    "{% set ns = namespace(x=1, y='a') %}{% set ns.x = 2 %}{% set ns.z = ns.x %}{{ ns.x }}{{ ns.y }}{{ ns.z }}",
    "{% set ns = namespace() %}{% for i in numbers %}{% set ns.t = (ns.t or 0) + i %}{% endfor %}{{ ns.t }}",
    "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t ~ m.role[0] %}{% endfor %}{{ ns.t }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a + ns.b }}",
    "{% set ns = namespace(n=0) %}{% set ns.a, ns.n = 1, 2 %}{{ ns.a }}{{ ns.n }}",
    # loops
    "{% for i in numbers %}{{ i }},{% endfor %}",
    "{% for i in [] %}x{% else %}none{% endfor %}",
    (
        "{% for i in numbers %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ "
        "loop.revindex }}{{ loop.revindex0 }}{{ loop.depth }} {% endfor %}"
    ),
    "{% for i in numbers %}{{ loop.previtem }}<{{ i }}<{{ loop.nextitem }} {% endfor %}",
    "{% for i in numbers %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}",
    "{% for i in numbers if i > 1 %}{{ loop.index }}:{{ i }}/{{ loop.length }}{{ loop.last }} {% else %}x{% endfor %}",
    "{% for i in numbers if i > 100 %}{{ i }}{% else %}none{% endfor %}",
    "{% for k, v in table.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in table %}{{ k }};{% endfor %}",
    "{% for k, v in table|items %}{{ loop.index }}{{ k }}{{ loop.last }}{% endfor %}",
    "{% for k, v in table|dictsort %}{{ k }};{% endfor %}",
    "{% for c in 'aé🦙' %}[{{ c }}]{% endfor %}",
    "{% for i in undefined_name %}x{% else %}y{% endfor %}",
    "{% for (a, b) in [(1, 2), [3, 4]] %}{{ a }}{{ b }};{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for i in range(3) %}{% for j in range(i) %}{{ i }}{{ j }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for i in numbers %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in numbers %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in numbers %}{% break %}{% else %}else{% endfor %}",
    "{% for i in numbers %}{% continue %}{% else %}else{% endfor %}",
    "{% for i in numbers %}{{ i }}{% if i == 2 %}{% break %}{% endif %}{% else %}else{% endfor %}",
    "{% for i in numbers %}{% set x %}{{ i }}{% if i == 2 %}{% break %}{% endif %}{% endset %}{{ x }}{% endfor %}",
    "{% set x = 0 %}{% for i in numbers %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}",
    "{% for i in numbers %}{% set s = s ~ i %}{{ s }} {% endfor %}{{ s }}",
    "{% for s in words %}{{ s }}{% endfor %}{{ s }}",
    "{% for i in numbers %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{% endfor %}",
    "{% for m in messages[::-1] %}{{ loop.index0 }}{{ m.role }} {% endfor %}",
    "{% for m in messages %}{% if not loop.last %}{{ messages[loop.index0 + 1].role }}{% endif %}{% endfor %}",
    "{% for i in 1, 2, 3 %}{{ i }}{% endfor %}",
    "{% for i in numbers|sort|reverse %}{{ i }}{{ loop.last }}{% endfor %}",
    "{% for i in numbers if loop is defined %}{{ i }}{% endfor %}",
    (
        "{% set ns = namespace(stop=false) %}{% for i in numbers if not ns.stop %}{{ i }}{% set ns.stop = i == 1 "
        "%}{% endfor %}"
    ),
    (
        "{% set ns = namespace(stop=false) %}{% for i in numbers if not ns.stop %}{{ i }}{{ loop.last }}{% set "
        "ns.stop = i == 1 %}{% endfor %}"
    ),
    "{% for i in [1, 2] %}{% for j in [3, 4] %}{{ loop.last }}{% endfor %}{{ loop.last }}{% endfor %}",
    "{% for x in [1] %}{% set y = 1 %}{% endfor %}{{ y is defined }}",
    "{% for i in messages|selectattr('role', 'eq', 'user') %}{{ loop.length }}{{ i.role }}{% endfor %}",
    "{% set it = numbers|map('abs') %}{{ it|list }}{{ it|list }}",
    "{% for i in [1, 2, 3] if i != 2 %}{{ loop.revindex }}{{ loop.nextitem }}{% endfor %}",
    "{% for i in [3] %}{% for i in [i, i + 1] %}{{ i }}{% endfor %}{{ i }}{% endfor %}",
    # macros and blocks
    (
        "{% macro m(a, b='B', c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}{{ "
        "m(b=1, a=2) }}{{ m() }}"
    ),
    "{% macro m() %}{{ s }}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}",
    "{% macro m() %}{{ i }}{% endmacro %}{% for i in [1] %}{{ m() }}{% endfor %}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro m(x) %}<{{ x }}:{{ caller() }}>{% endmacro %}{% call m(1) %}body {{ s }}{% endcall %}",
    "{% macro m() %}{{ caller(1, b=2) }}{% endmacro %}{% call(a, b, c=3) m() %}{{ a }}{{ b }}{{ c }}{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}",
    "{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    (
        "{% set ns = namespace() %}{% for i in [1, 2] %}{% macro m() %}{{ i }}{{ loop.index }}{% endmacro %}"
        "{% if i == 1 %}{% set ns.m = m %}{% endif %}{{ ns.m() }}{% endfor %}"
    ),
    "{% macro m(a) %}{% set a = a ~ '!' %}{{ a }}{% endmacro %}{% set a = 'x' %}{{ m('y') }}{{ a }}",
    "{% macro m() %}  x  {% endmacro %}[{{ m()|trim }}]{{ m() ~ m() }}{{ m()|length }}",
    "{% macro m(x) -%}\n  {{ x }}\n{%- endmacro %}{{ m(5) }}|",
    "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}{{ m(none) }}",
    "{% macro m() %}{% for i in numbers %}{{ i }}{% break %}{% endfor %}{% endmacro %}{{ m() }}",
    "{{ m is defined }}{% macro m() %}{% endmacro %}{{ m is defined }}{{ m.name }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}",
    "{% filter replace('a', 'b')|upper %}aXa{% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}",
    "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}",
    "{% set a = 5 %}{% with a = a + 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    (
        "{% macro m(l) %}{% for x in l %}{{ x if x is not iterable else m(x) }}{% endfor %}{% endmacro %}{{ m([1, "
        "[2, [3]]]) }}"
    ),
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}",
    "{% macro m(x, y) %}{{ x }}{{ y }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'x': 3, 'y': 4}) }}{{ m(5, *[6]) }}",
    # generation
    "a{% generation %}b{% endgeneration %}c",
    "{% for m in messages %}{{ m.role }}{% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}",
    "x{%- generation -%} é🦙 {%- endgeneration -%}y{% generation %}{% endgeneration %}",
    "{% generation %}a{% endgeneration %}{% generation %}b{% endgeneration %}",
    "{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}{{ q is defined }}",
    "{% set q = 0 %}{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}{{ q }}",
    "{% if yes %}\n  {% generation %}\n  in\n  {% endgeneration %}\n{% endif %}\nout",
    "{% generation %}{% for i in numbers %}{{ i }}{% endfor %}{% endgeneration %}",
    # errors
    "{{ undefined_name.x }}",
    "{{ undefined_name['x'] }}",
    "{{ undefined_name + 1 }}",
    "{{ undefined_name() }}",
    "{{ s() }}",
    "{{ 1 + 'a' }}",
    "{{ 'a' + 1 }}",
    "{{ 1 / 0 }}",
    "{{ 1 % 0 }}",
    "{{ 1 < 'a' }}",
    "{{ [1] < (1,) }}",
    "{{ none < 1 }}",
    "{{ 1 in 5 }}",
    "{{ 1 in 'a' }}",
    "{{ undefined_name in 'a' }}",
    "{{ -'a' }}",
    "{{ -undefined_name }}",
    "{{ numbers['a'].b }}",
    "{{ table.missing.x }}",
    "{{ none.a.b }}",
    "{{ table[[1]].x }}",
    "{{ {[1]: 2} }}",
    "{{ s[1:'a'] }}",
    "{{ numbers[::0] }}",
    "{{ table[1:] }}",
    "{{ 5|length }}",
    "{{ none|length }}",
    "{{ none|list }}",
    "{% for i in none %}{% endfor %}",
    "{% for i in 5 %}{% endfor %}",
    "{% for a, b in [1] %}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% set a, b = 1 %}",
    "{{ undefined_name|tojson }}",
    "{{ namespace()|tojson }}",
    "{{ (numbers|map('abs'))|tojson }}",
    "{{ range(3)|tojson }}",
    "{{ table.items()|tojson }}",
    "{{ (numbers|map('abs'))|length }}",
    "{{ raise_exception('no ' ~ s) }}",
    "{% set s.x = 1 %}",
    "{% set undefined_name.x = 1 %}",
    "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{{ namespace(_x=1) }}",
    "{{ numbers.append(1) }}",
    "{{ table.update({}) }}",
    "{{ table.pop('one') }}",
    "{{ 'a'.split('') }}",
    "{{ 'a'.index('b') }}",
    "{{ ','.join([1]) }}",
    "{{ s.startswith(1) }}",
    "{{ range(1000000) }}",
    "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{% endmacro %}{% call m() %}x{% endcall %}",
    "{% macro m(a) %}{{ a.b }}{% endmacro %}{{ m() }}",
    "{{ s|nofilter }}",
    "{{ s is notest }}",
    "{{ s.format(",
    "{{ s",
    "{% if yes %}",
    "{% endif %}",
    "{% for %}",
    "{% else %}",
    "{{ }}",
    "{% %}",
    "{{ 1 + }}",
    "{{ (1 }}",
    "{{ 1) }}",
    "{{ 'abc }}",
    "{# abc",
    "{% raw %}abc",
    "{% nosuchtag %}",
    "{% break %}",
    "{% for i in numbers %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{% for i in numbers %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% set true = 1 %}",
    "{% set 5 = 1 %}",
    "{{ a b }}",
    "{{ 1 ! 2 }}",
    "{{ s is string is string }}",
    "{{ f(a=1, 2) }}",
    "{% macro m(a=1, b) %}{% endmacro %}",
    "{% call s %}{% endcall %}",
    "{{ '\\u12' }}",
    "{{ s|replace('a') }}",
    "{{ s|upper(1) }}",
    "{{ s|trim(chars=1, nope=2) }}",
    "{% generation %}a",
    "{{ [1, 2 }}",
    "{{ {1} }}",
    "{{ table|dictsort(by='x') }}",
    "{{ numbers|sort(attribute='x') }}",
    "{{ mixed|sort }}",
    "{{ '%d' % 'x' }}",
    "{{ '%5-d' % 1 }}",
    "{{ '%.3.1f' % 1 }}",
    "{{ '%-08.3f|%+ d|%#x|%.0f' % (1.5, 2, 255, 2.5) }}",
    "{{ '%s %s' % 1 }}",
    "{{ '%s' % (1, 2) }}",
    "{{ '{}'.format() }}",
    "{{ s|int.x }}",
    "{% if %}x{% endif %}",
    "{{ loop.index }}",
    "{{ dict(1) }}",
    "{{ strftime_now(5) }}",
    "{{ (1, 2).x.y }}",
    "{{ not }}",
    "{{ - }}",
    "{{ s.upper(1) }}",
    "{{ 2 ** 'a' }}",
    "{{ 'a' * 'b' }}",
    "{{ [] + () }}",
    "{{ {} + {} }}",
    "{{ numbers|first(1) }}",
    "{% set x = %}",
    "{% with a %}{% endwith %}",
    # things that chat templates do
    (
        "{%- for message in messages %}\n    {{- '<|im_start|>' + message.role + '\\n' + (message.content | trim) + "
        "'<|im_end|>' + '\\n' }}\n{%- endfor %}\n{%- if add_generation_prompt is not defined or "
        "add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"
    ),
    (
        "{% set c = messages[2].content %}{% if '</think>' in c %}{% set r = "
        "c.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}{% set c = "
        "c.split('</think>')[-1].lstrip('\\n') %}{% endif %}[{{ r }}][{{ c }}]"
    ),
    (
        "{% for t in messages[2].tool_calls %}{% for k, v in t.function.arguments.items() %}{{ k }}: {{ v if v is "
        "string else v|tojson }};{% endfor %}{% endfor %}"
    ),
    (
        "{%- macro render(content) -%}{%- if content is string -%}{{ content }}{%- else -%}{%- for item in content "
        "-%}{%- if item.type == 'text' -%}{{ item.text }}{%- endif -%}{%- endfor -%}{%- endif -%}{%- endmacro -%}{{ "
        "render([{'type': 'text', 'text': 'a'}, {'type': 'image'}, {'type': 'text', 'text': 'b'}]) }}{{ render(s) }}"
    ),
    (
        "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system = "
        "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system = false %}{% endif %}{{ "
        "system }}{% for m in loop_messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ "
        "raise_exception('roles must alternate') }}{% endif %}{{ m['content'] | trim }}{% endfor %}"
    ),
    "{{ bos_token }}{% for m in messages %}{{ (eos_token if not loop.first else '') ~ m.role }}{% endfor %}",
    "{% set date = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' %}{{ date }}",
    (
        "{%- set ns = namespace(multi=true, last=messages|length - 1) %}{%- for message in messages[::-1] %}{%- set "
        "index = (messages|length - 1) - loop.index0 %}{%- if ns.multi and message.role == 'user' and "
        "not(message.content.startswith('<r>') and message.content.endswith('</r>')) %}{%- set ns.multi = false "
        "%}{%- set ns.last = index %}{%- endif %}{%- endfor %}{{ ns.last }}"
    ),
]


def render(template, variables):
    try:
        compiled = chat._compile_jinja_template(template)
        text, spans = chat._render_with_assistant_indices(
            compiled,
            variables["messages"],
            None,
            None,
            False,
            **{k: v for k, v in variables.items() if k != "messages"},
        )
        if "error" in text and text.startswith("<generator"):
            raise ValueError(text)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    merged = []
    for start, end in spans:
        at = [len(text[:start].encode()), len(text[:end].encode())]
        if at[0] == at[1]:
            continue
        if merged and merged[-1][1] == at[0]:
            merged[-1][1] = at[1]
        else:
            merged.append(at)
    return {"text": text, "generation": merged}


class Frozen(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.fromtimestamp(NOW, timezone.utc).replace(tzinfo=None)


def main():
    os.environ["TZ"] = "UTC"
    time.tzset()
    chat.datetime = Frozen
    templates = []
    for line in EXPRESSIONS.strip().split("\n"):
        templates += ["{{ " + one.replace("\x00", "\n") + " }}" for one in line.split(" | ") if one]
    templates += BLOCKS
    cases = [{"template": template, **render(template, VARIABLES)} for template in templates]
    out = {
        "now": NOW,
        "variables": {**VARIABLES, "tools": None, "documents": None, "add_generation_prompt": False},
        "cases": cases,
    }
    (OUT / "cases.json").write_text(json.dumps(out, ensure_ascii=True, indent=0) + "\n")
    raised = sum("error" in case for case in cases)
    print(f"{len(cases)} cases, {raised} of them raise")


main()
