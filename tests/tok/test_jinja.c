/* test_jinja.c — the template interpreter without Python: what jinja2 gave for every recorded case, which bytes count
 * as trusted, errors with their code and line, and the limits that end hostile templates. */
#include "support/check.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/arena.h"
#include "io/json.h"
#include "support/scratch.h"
#include "tok/jinja.h"

#define FIXTURE "tests/tok/fixtures/jinja/cases.json"

static const zb_jinja_var vars[] = {{"bos_token", "<s>", 3}, {"eos_token", "</s>", 4}};

static zamba_status run(const char *source, size_t n, const json_t *context, zb_jinja_text *out, zamba_error *err)
{
    zb_jinja *t;
    *out = (zb_jinja_text){0};
    zamba_status st = zb_jinja_parse(&t, source, n, err);
    if (st == ZAMBA_OK)
        st = zb_jinja_render(t, context, vars, 2, out, err);
    zb_jinja_free(t);
    return st;
}

/* Context as JSON text with ' for ". */
static json_t *context_of(const char *text)
{
    json_error_t je;
    char *copy = strdup(text);
    for (char *p = copy; *p != '\0'; p++)
        *p = *p == '\'' ? '"' : *p;
    json_t *context = json_loads(copy, 0, &je);
    free(copy);
    if (context == NULL)
        fail_msg("%s: %s", text, je.text);
    return context;
}

/* ---- The recorded cases ---- */

static void check_case(const json_t *c, const json_t *contexts)
{
    const char *name = json_string_value(json_object_get(c, "name"));
    const json_t *source = json_object_get(c, "template"), *text = json_object_get(c, "text");
    const json_t *context = json_object_get(contexts, json_string_value(json_object_get(c, "context")));
    const char *raised = json_string_value(json_object_get(c, "raised"));
    zb_jinja_text out;
    zamba_error err = {0};
    const zamba_status st = run(json_string_value(source), json_string_length(source), context, &out, &err);
    if (text != NULL) {
        if (st != ZAMBA_OK)
            fail_msg("%s: %s: %s", name, zamba_status_name(st), err.message);
        if (out.n != json_string_length(text) || memcmp(out.text, json_string_value(text), out.n) != 0)
            fail_msg("%s: found \"%s\", wanted \"%s\"", name, out.text, json_string_value(text));
    } else {
        const int right = raised != NULL ? st == ZAMBA_E_ARG && strstr(err.message, raised) != NULL
                                         : st == ZAMBA_E_FORMAT || st == ZAMBA_E_UNSUPPORTED;
        if (!right || strncmp(err.message, "chat template, line ", 20) != 0 || err.code != st)
            fail_msg("%s: %s \"%s\", wanted the error \"%s\"", name, zamba_status_name(st), err.message,
                     raised != NULL ? raised : "any");
        assert_null(out.text);
    }
    zb_jinja_text_free(&out);
}

static void test_recorded(void **state)
{
    (void)state;
    json_t *all;
    zamba_error err = {0};
    CHECK_OK(zb_json_read(&all, FIXTURE, zb_json_large, &err), err);
    const json_t *cases = json_object_get(all, "cases");
    assert_true(json_array_size(cases) > 900);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(json_array_get(cases, i), json_object_get(all, "contexts"));
    json_decref(all);
}

/* Cut off anywhere, or with a byte gone wrong, a template gives text or an error, and no more. */
static void test_damaged(void **state)
{
    (void)state;
    json_t *all;
    zamba_error err = {0};
    CHECK_OK(zb_json_read(&all, FIXTURE, zb_json_large, &err), err);
    const json_t *cases = json_object_get(all, "cases");
    size_t texts = 0, errors = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *source = json_object_get(c, "template");
        const char *context = json_string_value(json_object_get(c, "context"));
        const size_t n = json_string_length(source);
        char *copy = malloc(n + 1);
        zb_jinja_text out;
        for (size_t k = 0; k < n; k += 1 + n / (SANITIZED ? 4 : 15)) {
            memcpy(copy, json_string_value(source), n);
            copy[k] = "\x80{%}(\"|\n"[(i + k) % 8];
            for (size_t cut = 0; cut < 2; cut++) {
                const zamba_status st =
                    run(copy, cut ? k : n, json_object_get(json_object_get(all, "contexts"), context), &out, &err);
                texts += st == ZAMBA_OK;
                errors += st != ZAMBA_OK;
                zb_jinja_text_free(&out);
            }
        }
        free(copy);
    }
    assert_true(texts > 500 && errors > 500);
    json_decref(all);
}

/* ---- Trust ---- */

static const char trust_context[] =
    "{'u': 'UvW', 'n': 42, 'f': 1.5, 'b': true, 'nil': null, 'l': ['aa', 'bb'], 'd': {'k': 'vv'}, 'x': '<y>',"
    " 'lines': 'p\\nq'}";

/* Bytes of the text that are trusted are as in `text`; the others are '.' there. */
static const struct {
    const char *source, *text;
} trust_cases[] = {
    {"abc{{ u }}def", "abc...def"},
    {"{{ 'abc' ~ u ~ 1 }}", "abc...1"},
    {"{{ u + 'abc' + u }}", "...abc..."},
    {"{{ bos_token ~ u ~ eos_token }}", "<s>...</s>"},
    {"{{ n }}|{{ n + 1 }}|{{ f * 2 }}|{{ 6 * 7 }}|{{ n|string }}|{{ n|float }}", "..|..|...|42|..|...."},
    {"{{ b }}|{{ true }}|{{ nil }}|{{ none }}|{{ b and 1 }}", "....|True|....|None|1"},
    {"{{ u|upper }}{{ 'x'|upper }}{{ u|lower }}{{ (u ~ 'x')|title }}{{ ('x' ~ u)|capitalize }}", "...X......xX..."},
    {"{{ (' ' ~ u ~ ' y ')|trim }}", "... y"},
    {"{{ u|replace('v', 'VV') }}|{{ 'UvW'|replace('v', u) }}", ".VV.|U...W"},
    {"{{ u.replace('U', 'A').strip('W') }}", "A."},
    {"{{ (u ~ 'abc')[2:5] }}|{{ (u ~ 'abc')[::-1] }}|{{ (u ~ 'abc')[3] }}|{{ u[0] }}", ".ab|cba...|a|."},
    {"{{ (u ~ ',b,' ~ u).split(',')|join('+') }}", "...+b+..."},
    {"{{ l|join(u) }}|{{ ['a', 'b']|join(u) }}|{{ ','.join(l) }}", ".......|a...b|..,.."},
    {"{{ l }}|{{ ['a'] }}|{{ d }}", "............|..a..|..........."},
    {"{{ u|tojson }}|{{ 'q'|tojson }}|{{ d|tojson }}|{{ 1|tojson }}|{{ n|tojson }}", ".....|.q.|...........|1|.."},
    {"{{ '%s-%s' % (u, 'a') }}|{{ '%05d' % n }}|{{ '{}<{}'.format(u, 'b') }}", "...-a|000..|...<b"},
    {"{{ u|default('z') }}{{ nope|default('z') }}{{ nope|default(u) }}", "...z..."},
    {"{% for c in u %}{{ c }}-{% endfor %}", ".-.-.-"},
    {"{% for m in l %}{{ loop.index }}{{ m|first }}{{ m|length }}{{ loop.last }}{% endfor %}", "1..False2..True"},
    {"{% set ns = namespace(t='') %}{% for m in l %}{% set ns.t = ns.t ~ m ~ ';' %}{% endfor %}{{ ns.t }}", "..;..;"},
    {"{% set t %}a{{ u }}b{% endset %}{{ t }}{{ t|upper }}", "a...bA...B"},
    {"{% filter upper %}a{{ u }}b{% endfilter %}", "A...B"},
    {"{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(u) }}{{ m('k') }}{{ m(u)|upper }}", "<...><k><...>"},
    {"{% generation %}a{{ u }}{% endgeneration %}", "a..."},
    {"{{ {'UvW': '<k>'}[u] }}{{ ('<t>' if u else '') }}{{ {u: 1}.keys()|first }}", "<k><t>..."},
    {"{{ x|e }}|{{ '<'|e }}|{{ ('<'|safe) + x }}", ".........|&lt;|<........."},
    {"{{ lines|indent(2) }}|{{ 'p\\nq'|indent(2) }}", "..  .|p\n  q"},
    {"{{ u|list|join }}{{ u|reverse }}{{ u|center(5) }}{{ u.ljust(5, '*') }}", "...... ... ...**"},
    {"{{ u|length }}|{{ 'ab'|length }}|{{ u.find('W') }}|{{ ('4' ~ u)|int }}|{{ '4'|int }}", ".|2|.|0|4"},
    {"{{ l|map('upper')|join('/') }}|{{ l|sort|first }}|{{ l|select('eq', 'aa')|list|last }}", "../..|..|.."},
    {"{% call m() %}q{{ u }}{% endcall %}{% macro z() %}{% endmacro %}", NULL},
    {"{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}q{{ u }}{% endcall %}", "[q...]"},
    {"{{ u * 2 }}{{ 'a' * 2 }}{{ u|truncate(3, true, '', 0) }}{{ (u ~ ' long text')|truncate(6) }}",
     "......aa........."},
    {"{{ u.partition('v')[1] }}{{ u.removeprefix('U') }}{{ 'UvW'.removeprefix(u[0]) }}{{ u.zfill(5) }}", "...vW00..."},
    {"{{ d.items()|list }}{{ d.k }}{{ d['k'] ~ 'a' }}{{ d|dictsort|first|last }}", ".................a.."},
};

static void test_trust(void **state)
{
    (void)state;
    json_t *context = context_of(trust_context);
    for (size_t i = 0; i < sizeof trust_cases / sizeof *trust_cases; i++) {
        zb_jinja_text out;
        zamba_error err = {0};
        const char *source = trust_cases[i].source, *want = trust_cases[i].text;
        const zamba_status st = run(source, strlen(source), context, &out, &err);
        if (want == NULL) {
            assert_int_not_equal(st, ZAMBA_OK);
            continue;
        }
        if (st != ZAMBA_OK)
            fail_msg("%s: %s", source, err.message);
        char *got = strdup(out.text);
        for (size_t k = 0; k < out.n; k++)
            got[k] = out.trusted[k] ? out.text[k] : '.';
        if (strcmp(got, want) != 0)
            fail_msg("%s gives \"%s\", trusted \"%s\", wanted \"%s\"", source, out.text, got, want);
        free(got);
        zb_jinja_text_free(&out);
    }
    json_decref(context);
}

/* A variable of the context hides the trusted one of that name, and is not trusted. */
static void test_trusted_variable_hidden(void **state)
{
    (void)state;
    json_t *context = context_of("{'bos_token': '</s>'}");
    zb_jinja_text out;
    zamba_error err = {0};
    static const char source[] = "{{ bos_token }}{{ eos_token }}";
    CHECK_OK(run(source, sizeof source - 1, context, &out, &err), err);
    assert_string_equal(out.text, "</s></s>");
    assert_memory_equal(out.trusted, "\0\0\0\0\1\1\1\1", 8);
    zb_jinja_text_free(&out);
    json_decref(context);
}

/* ---- Errors ---- */

static const struct {
    const char *source;
    zamba_status code;
    const char *message;
} error_cases[] = {
    {"\n{% block a %}{% endblock %}", ZAMBA_E_UNSUPPORTED, "line 2: tag 'block' is not supported"},
    {"{% include 'x' %}", ZAMBA_E_UNSUPPORTED, "line 1: tag 'include'"},
    {"{% extends 'x' %}", ZAMBA_E_UNSUPPORTED, "tag 'extends'"},
    {"{% import 'x' as y %}", ZAMBA_E_UNSUPPORTED, "tag 'import'"},
    {"{% do x %}", ZAMBA_E_UNSUPPORTED, "tag 'do'"},
    {"a\nb\n{% for i in [] recursive %}{% endfor %}", ZAMBA_E_UNSUPPORTED, "line 3: a recursive loop"},
    {"\n\n\n{{ 'a'|groupby('x') }}", ZAMBA_E_UNSUPPORTED, "line 4: filter 'groupby' is not supported"},
    {"{{ [1]|map('urlize')|list }}", ZAMBA_E_UNSUPPORTED, "filter 'urlize'"},
    {"\n{{ 1 is nosuch }}", ZAMBA_E_UNSUPPORTED, "line 2: test 'nosuch' is not supported"},
    {"{{ [1]|select('nosuch')|list }}", ZAMBA_E_UNSUPPORTED, "test 'nosuch'"},
    {"{{ 'a'.encode() }}", ZAMBA_E_UNSUPPORTED, "method 'encode' of str"},
    {"{{ cycler(1) }}", ZAMBA_E_UNSUPPORTED, "function 'cycler'"},
    {"{{ 99999999999999999999 }}", ZAMBA_E_UNSUPPORTED, "beyond 64 bits"},
    {"{{ 2 ** 64 }}", ZAMBA_E_UNSUPPORTED, "beyond 64 bits"},
    {"{{ 9223372036854775807 + 1 }}", ZAMBA_E_UNSUPPORTED, "beyond 64 bits"},
    {"{{ '9223372036854775808'|int }}", ZAMBA_E_UNSUPPORTED, "beyond 64 bits"},
    {"{{ 1e30|int }}", ZAMBA_E_UNSUPPORTED, "beyond 64 bits"},
    {"{{ (-8) ** 0.5 }}", ZAMBA_E_UNSUPPORTED, "complex"},
    {"{{ '\\N{DASH}' }}", ZAMBA_E_UNSUPPORTED, "\\N{name}"},
    {"{{ '{0.x}'.format(1) }}", ZAMBA_E_UNSUPPORTED, "format field '0.x'"},
    {"{{ '%*d' % (1, 2) }}", ZAMBA_E_UNSUPPORTED, "width of *"},
    {"{{ n\xc3\xa9 }}", ZAMBA_E_UNSUPPORTED, "beyond ASCII"},
    {"{{ '\\ud800' }}", ZAMBA_E_FORMAT, "no character"},
    {"a\xff", ZAMBA_E_FORMAT, "byte 1 is not UTF-8"},
    {"{{ m.x.y }}", ZAMBA_E_FORMAT, "line 1: 'm' is undefined"},
    {"{{ 'a'\n.x\n.y }}", ZAMBA_E_FORMAT, "line 3: 'str object' has no attribute 'x'"},
    {"{% set a = [] %}\n{{ a[3].x }}", ZAMBA_E_FORMAT, "line 2: list object has no element 3"},
    {"{{ (1 if 0).x }}", ZAMBA_E_FORMAT, "no else"},
    {"\n{% if x %}\n{% for i in x %}\n", ZAMBA_E_FORMAT, "line 3: the template ends where a tag 'endfor' is wanted"},
    {"{{ 'a\n }}", ZAMBA_E_FORMAT, "line 1: a string has no end"},
    {"{{ a ! b }}", ZAMBA_E_FORMAT, "unexpected character '!'"},
    {"{{ 1 + }}", ZAMBA_E_FORMAT, "unexpected '}}'"},
    {"{% endfor %}", ZAMBA_E_FORMAT, "tag 'endfor' without its beginning"},
    {"{% if x %}{% endfor %}", ZAMBA_E_FORMAT, "tag 'endfor' without its beginning"},
    {"{{ [1, 'a']|sort }}", ZAMBA_E_FORMAT, "'<' not supported between"},
    {"{{ 'a' + 1 }}", ZAMBA_E_FORMAT, "unsupported operand types for +: 'str' and 'int'"},
    {"{{ [].append(1) }}", ZAMBA_E_FORMAT, "sandbox"},
    {"{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", ZAMBA_E_FORMAT,
     "macro 'f' takes not more than 1 arguments, found 2"},
    {"\n\n{{ raise_exception('roles must\nalternate') }}", ZAMBA_E_ARG, "line 3: roles must"},
    {"{{ raise_exception() }}", ZAMBA_E_FORMAT, "missing argument 'message'"},
    {"{{ 5|tojson(indent='a', nope=1) }}", ZAMBA_E_FORMAT, "a keyword argument that it does not take"},
    {"{{ [1, 2]|join(d=',', d=';') }}", ZAMBA_E_FORMAT, "invalid syntax for function call"},
    {"{{ strftime_now('%Y' * 300) }}", ZAMBA_E_UNSUPPORTED, "strftime_now"},
};

static void test_errors(void **state)
{
    (void)state;
    json_t *context = json_object();
    for (size_t i = 0; i < sizeof error_cases / sizeof *error_cases; i++) {
        zb_jinja_text out;
        zamba_error err = {0};
        const char *source = error_cases[i].source;
        const zamba_status st = run(source, strlen(source), context, &out, &err);
        if (st != error_cases[i].code || strstr(err.message, error_cases[i].message) == NULL ||
            strncmp(err.message, "chat template, line ", 20) != 0)
            fail_msg("%s: %s \"%s\", wanted %s \"%s\"", source, zamba_status_name(st), err.message,
                     zamba_status_name(error_cases[i].code), error_cases[i].message);
        assert_int_equal(run(source, strlen(source), context, &out, NULL), st); /* nowhere to put the message */
    }
    json_decref(context);
}

/* ---- Limits ---- */

static const char *const hostile[] = {
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{% for i in range(100000) %}{% for j in range(100000) %}{{ 'xxxxxxxxxxxxxxxxxxxx' }}{% endfor %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('abcdefgh') }}",
    "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(100000) %}{% set ns.s = 'y' ~ ns.s %}{% endfor %}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(100000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(100000) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
    "{% set ns = namespace() %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson }}",
    "{% set ns = namespace(s=1) %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s == ns.s[:] "
    "}}",
    "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
    "{% set ns = namespace(a=1) %}{% set ns.x = ns %}{{ {'a': ns}|tojson }}",
    "{{ 'a' * 10**9 }}",
    "{{ 'a' * 1000000 * 1000000 }}",
    "{{ [1] * 10**9 }}",
    "{{ [[1] * 1000] * 100000 }}",
    "{{ ('a' * 1000000)|replace('', 'b' * 1000000) }}",
    "{{ ('a' * 1000000)|replace('a', 'b' * 1000000) }}",
    "{% for i in range(100000) %}{{ ('a' * 10000000)|replace('aab', 'b') }}{% endfor %}",
    "{% for i in range(100000) %}{{ ('a' * 1000000).rfind('a' * 1000) }}{% endfor %}",
    "{% for i in range(100000) %}{{ ('a' * 1000000).rsplit('a' * 1000 ~ 'b', 1)|length }}{% endfor %}",
    "{% for i in range(100000) %}{{ ('a' * 1000000).count('a') }}{% endfor %}",
    "{% for i in range(100000) %}{{ ('a' * 1000000)|upper|lower|title|length }}{% endfor %}",
    "{% for i in range(100000) %}{{ ('ab ' * 300000).split()|length }}{% endfor %}",
    "{% for i in range(100000) %}{{ (' ' * 10000000)|trim }}{% endfor %}",
    "{% for i in range(100000) %}{{ ('ab' * 1000000).strip('xyzba') }}{% endfor %}",
    "{{ ('a' * 3000000)|list|length }}{{ ('a' * 3000000)|list|length }}",
    "{{ ('a' * 5000000)|tojson|tojson|tojson|tojson|length }}{{ ('\\\\' * 5000000)|tojson|tojson }}",
    "{{ 'a'|center(10**9) }}{{ 'a'.ljust(10**9) }}",
    "{{ 'a'.zfill(10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ 'a\\nb\\nc'|indent(10**9) }}",
    "{{ [1, [2]]|tojson(indent=10**8) }}",
    "{{ ('a\\n' * 100000)|indent(1000) }}",
    "{{ range(100000)|list|batch(1)|list|batch(1)|list|batch(1)|list|length }}",
    "{{ [1]|batch(10**12, 0)|list }}",
    "{{ [1]|slice(10**12)|list }}",
    "{{ range(100000)|sort|sort|sort|sort|sort|sort|sort|sort|sort|sort|length }}",
    "{% for i in range(1000) %}{{ range(100000)|sum }}{% endfor %}",
    "{% for i in range(1000) %}{{ 99999 in range(100000)|list }}{% endfor %}",
    "{{ range(100000)|map('string')|unique|list|length }}{{ range(100000)|map('string')|unique|list|length }}",
    "{% for a in 'x' * 100000 %}{% for b in 'x' * 100000 %}{{ loop.previtem }}{{ loop.nextitem }}{% endfor %}{% endfor "
    "%}",
    "{% for i in range(100000) if i > 99999 %}{% endfor %}{% for i in range(100000) if range(100000)|list %}{% endfor "
    "%}",
    "{% for i in range(100000) %}{{ loop.length }}{{ loop.revindex }}{% for j in range(1000) %}{% endfor %}{% endfor "
    "%}",
    "{{ (('\xc3\xa9' * 1000000) ~ 'a')[999999] }}{% for i in range(100000) %}{{ ('\xc3\xa9' * 1000000)[999999] }}{% "
    "endfor %}",
    "{{ 2 ** 10 ** 10 ** 10 }}",
    "{{ 1.5 ** 10**18 }}",
    "{{ (-1) ** 9223372036854775807 }}{{ 2 ** 9223372036854775807 }}",
    "{% set d = {'a': 'x' * 1000000} %}{% for i in range(100000) %}{% if d == {'a': 'x' * 1000000} %}{% endif %}{% "
    "endfor %}",
    "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ {s: 1}[s] }}{% endfor %}",
    "{% filter indent %}{% for i in range(100000) %}\n{% endfor %}{% endfilter %}{% for i in range(99999) %}"
    "{% filter upper %}{{ 'a' * 100000 }}{% endfilter %}{% endfor %}",
    "{% for i in range(100000) %}{% set ns = namespace(a=i, b=i, c=i) %}{% set t = ns.a ~ ns.b ~ ns.c ~ 'text text' %}"
    "{% for j in range(50) %}{% set u = t ~ j %}{% endfor %}{% endfor %}",
};

typedef struct made {
    char *text;
    size_t n;
} made;

static made repeated(const char *front, const char *piece, size_t times, const char *middle, const char *back)
{
    made m = {malloc(strlen(front) + (strlen(piece) + strlen(back)) * times + strlen(middle) + 1), 0};
    m.n = (size_t)sprintf(m.text, "%s", front);
    for (size_t i = 0; i < times; i++, m.n += strlen(piece))
        memcpy(m.text + m.n, piece, strlen(piece));
    m.n += (size_t)sprintf(m.text + m.n, "%s", middle);
    for (size_t i = 0; i < times; i++, m.n += strlen(back))
        memcpy(m.text + m.n, back, strlen(back));
    return m;
}

static const struct {
    const char *front, *piece;
    size_t times;
    const char *middle, *back;
} deep[] = {
    {"{{ ", "(", 100000, "1", ")"},
    {"{{ ", "[", 100000, "1", "]"},
    {"{{ ", "{'a':", 100000, "1", "}"},
    {"{{ ", "-", 100000, "1 }}", ""},
    {"{{ ", "not ", 100000, "1 }}", ""},
    {"{{ 1", " + 1", 100000, " }}", ""},
    {"{{ 1", "|string", 100000, " }}", ""},
    {"{{ a", ".b", 100000, " }}", ""},
    {"{{ a", "[0]", 100000, " }}", ""},
    {"{{ 1", " if 1 else 1", 50000, " }}", ""},
    {"{{ 1", " and 1", 100000, " }}", ""},
    {"{{ 1", " ** 1", 100000, " }}", ""},
    {"{{ 1", " < 2", 100000, " }}", ""},
    {"{{ 1", " is defined", 50000, " }}", ""},
    {"{{ f", "()", 100000, " }}", ""},
    {"{{ f(", "f(", 100000, " }}", ")"},
    {"{{ x", "|f(x", 100000, " }}", ")"},
    {"", "{% if 1 %}", 50000, "x", "{% endif %}"},
    {"", "{% for i in [1] %}", 30000, "x", "{% endfor %}"},
    {"", "{% macro m() %}", 30000, "x", "{% endmacro %}"},
    {"", "{% filter upper %}", 30000, "x", "{% endfilter %}"},
    {"", "{% set a %}", 30000, "x", "{% endset %}"},
    {"{% if 0 %}", "{% elif 0 %}", 50000, "{% endif %}", ""},
    {"{% for ", "(", 50000, "a in x %}", ")"},
    {"", "{#", 400000, "", ""},
    {"", "{%", 400000, "", ""},
    {"", "{% raw %}", 100000, "", ""},
    {"{{ '", "\\x41", 200000, "' }}", ""},
    {"{{ ", "'a' ", 200000, " }}", ""},
    {"{{ ", "1 ~ ", 200000, "1 }}", ""},
    {"{{ [", "1,", 400000, "] }}", ""},
    {"{{ {", "1:1,", 200000, "} }}", ""},
    {"{{ f(", "1,", 400000, ") }}", ""},
    {"", "{{1}}", 200000, "", ""},
    {"{{ 1.", "1", 500000, " }}", ""},
    {"{{ ", "1", 500000, " }}", ""},
    {"{{ ", "a", 500000, " }}", ""},
    {"{%", " ", 1000000, "", ""},
};

static void all_hostile(void *arg)
{
    (void)arg;
    json_t *context = json_object();
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i += SANITIZED ? 3 : 1) {
        zb_jinja_text out;
        zamba_error err = {0};
        const double start = seconds_now();
        const zamba_status st = run(hostile[i], strlen(hostile[i]), context, &out, &err);
        const double took = seconds_now() - start;
        if (took > 1 || getenv("ZAMBA_TEST_TIMES") != NULL)
            fprintf(stderr, "%.2f s, %s: %.80s\n", took, st == ZAMBA_OK ? "text" : err.message, hostile[i]);
        if ((took > 2 && !SANITIZED) || (st != ZAMBA_OK && err.message[0] == '\0'))
            _exit(1);
        zb_jinja_text_free(&out);
    }
    json_decref(context);
}

/* Many names: f(a0=1,a1=1,...), '{a0}{a1}...'.format(a0=1, ...), a macro with many parameters, many variables. */
static made many_names(int kind)
{
    static const char *const forms[][5] = {
        {"{{ dict(", "a%d=1,", "z=1) }}", "", ""},
        {"{{ '", "{a%d}", "'.format(", "a%d=1,", "z=1) }}"},
        {"{% macro m(", "a%d,", "z) %}{% endmacro %}{{ m(", "a%d=1,", "z=1) }}"},
        {"", "{%% set a%d = 1 %%}", "{{ a3 }}", "{{ a%d }}", ""},
        {"{% for i in [1] %}", "{%% set a%d = 1 %%}", "{{ a3 }}", "{{ a%d }}", "{% endfor %}"},
        {"{{ '", "%%(a%d)s", "'|format(", "a%d=1,", "z=1) }}"}};
    static const int counts[] = {90000, 40000, 4000, 30000, 4000, 40000};
    made m = {malloc(3000000), 0};
    m.n = (size_t)sprintf(m.text, "%s", forms[kind][0]);
    for (int i = 0; i < counts[kind]; i++)
        m.n += (size_t)sprintf(m.text + m.n, forms[kind][1], i);
    m.n += (size_t)sprintf(m.text + m.n, "%s", forms[kind][2]);
    for (int i = 0; i < counts[kind] && forms[kind][3][0] != '\0'; i++)
        m.n += (size_t)sprintf(m.text + m.n, forms[kind][3], i);
    m.n += (size_t)sprintf(m.text + m.n, "%s", forms[kind][4]);
    return m;
}

static void all_wide(void *arg)
{
    (void)arg;
    json_t *context = json_object();
    for (int kind = 0; kind < 6; kind++) {
        zb_jinja_text out;
        zamba_error err = {0};
        const made m = many_names(kind);
        const double start = seconds_now();
        const zamba_status st = run(m.text, m.n, context, &out, &err);
        const double took = seconds_now() - start;
        if (took > 1 || getenv("ZAMBA_TEST_TIMES") != NULL)
            fprintf(stderr, "%.2f s, %s: many names, form %d\n", took, st == ZAMBA_OK ? "text" : err.message, kind);
        if ((took > 2 && !SANITIZED) || (st != ZAMBA_OK && err.message[0] == '\0'))
            _exit(1);
        zb_jinja_text_free(&out);
        free(m.text);
    }
    json_decref(context);
}

static void all_deep(void *arg)
{
    (void)arg;
    json_t *context = json_object();
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i += SANITIZED ? 3 : 1) {
        zb_jinja_text out;
        zamba_error err = {0};
        const made m = repeated(deep[i].front, deep[i].piece, deep[i].times, deep[i].middle, deep[i].back);
        const double start = seconds_now();
        const zamba_status st = run(m.text, m.n, context, &out, &err);
        const double took = seconds_now() - start;
        if (took > 1 || getenv("ZAMBA_TEST_TIMES") != NULL)
            fprintf(stderr, "%.2f s, %s: %s%s...\n", took, st == ZAMBA_OK ? "text" : err.message, deep[i].front,
                    deep[i].piece);
        if ((took > 2 && !SANITIZED) || (st != ZAMBA_OK && err.message[0] == '\0'))
            _exit(1);
        zb_jinja_text_free(&out);
        free(m.text);
    }
    json_decref(context);
}

static void test_hostile(void **state)
{
    (void)state;
    check_limits(all_hostile, NULL, 2.0 * sizeof hostile / sizeof *hostile, 200, "hostile templates");
    check_limits(all_wide, NULL, 12, 200, "wide templates");
    check_limits(all_deep, NULL, 2.0 * sizeof deep / sizeof *deep, 200, "deep templates");
}

/* What an honest template needs stays far from the limits. */
static void test_large_conversation(void **state)
{
    (void)state;
    enum { N = 2000 };
    static const char source[] =
        "{% set ns = namespace(all='', l=[]) %}"
        "{% for m in messages %}{% set ns.all = ns.all ~ '<|' ~ m.role ~ '|>' ~ m.content|trim ~ '\\n' %}"
        "{% set ns.l = ns.l + [m] %}{% endfor %}{{ ns.all }}{{ ns.l|length }}";
    json_t *context = json_object(), *messages = json_array();
    char content[2001];
    memset(content, 'w', sizeof content - 1);
    content[sizeof content - 1] = '\0';
    for (int i = 0; i < N; i++)
        json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "user", "content", content));
    json_object_set_new(context, "messages", messages);
    zb_jinja_text out;
    zamba_error err = {0};
    CHECK_OK(run(source, sizeof source - 1, context, &out, &err), err);
    assert_int_equal(out.n, N * (8 + 2000 + 1) + 4);
    assert_int_equal(out.trusted[0], 1);
    assert_int_equal(out.trusted[8], 0);
    zb_jinja_text_free(&out);
    json_decref(context);
}

/* ---- The machine around ---- */

static void check_numbers(void)
{
    json_t *context = context_of("{'f': 2.5}");
    zb_jinja_text out;
    zamba_error err = {0};
    static const char source[] =
        "{{ f }} {{ 1.25 }} {{ '3.5'|float }} {{ '%.2f' % f }} {{ f|round(1) }} {{ [f]|tojson }} "
        "{{ '{:.1f}'.format(f) }} {{ 1e-7 }}";
    CHECK_OK(run(source, sizeof source - 1, context, &out, &err), err);
    assert_string_equal(out.text, "2.5 1.25 3.5 2.50 2.5 [2.5] 2.5 1e-07");
    zb_jinja_text_free(&out);
    json_decref(context);
}

static void test_locale(void **state)
{
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "C"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (setlocale(LC_NUMERIC, names[i]) != NULL)
            check_numbers();
        setlocale(LC_NUMERIC, "C");
    }
}

static void test_date(void **state)
{
    (void)state;
    json_t *context = json_object();
    zb_jinja_text out;
    zamba_error err = {0};
    char year[8];
    static const char source[] =
        "{{ strftime_now('%Y') }}|{{ strftime_now('%d %b %Y')|length }}|{{ strftime_now('') }}";
    const time_t now = time(NULL);
    strftime(year, sizeof year, "%Y", localtime(&now));
    CHECK_OK(run(source, sizeof source - 1, context, &out, &err), err);
    assert_memory_equal(out.text, year, 4);
    assert_string_equal(out.text + 4, "|11|");
    zb_jinja_text_free(&out);
    json_decref(context);
}

/* Long chains that end in the arena's limit, pieces larger than a block, an empty one. */
static void test_arena(void **state)
{
    (void)state;
    zb_arena a = {.limit = 1 << 20};
    char *first = zb_arena_alloc(&a, 10), *big = zb_arena_alloc(&a, 300000), *last = zb_arena_alloc(&a, 0);
    assert_true(first != NULL && big != NULL && last != NULL);
    memset(first, 1, 10);
    memset(big, 2, 300000);
    assert_int_equal(first[9], 1);
    assert_int_equal((uintptr_t)first % 16, 0);
    assert_int_equal((uintptr_t)big % 16, 0);
    assert_null(zb_arena_alloc(&a, 1 << 20));
    assert_int_equal(a.at_limit, 1);
    assert_null(zb_arena_alloc(&a, SIZE_MAX));
    assert_null(zb_arena_alloc(&a, SIZE_MAX - 8));
    size_t n = 0;
    while (zb_arena_alloc(&a, 1000) != NULL)
        n++;
    assert_true(n > 300 && n < 1000);
    assert_true(a.used <= a.limit);
    zb_arena_free(&a);
    assert_int_equal(a.used, 0);
    assert_non_null(zb_arena_alloc(&a, 100));
    zb_arena_free(&a);
    zb_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded), cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_trust),    cmocka_unit_test(test_trusted_variable_hidden),
        cmocka_unit_test(test_errors),   cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_locale),   cmocka_unit_test(test_large_conversation),
        cmocka_unit_test(test_date),     cmocka_unit_test(test_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
