/* test_chat.c — conversations to text and ids: every recorded conversation, special tokens only where the template
 * wrote them, the form without a template, where templates are found, and requests that are wrong. */
#include "support/check.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/json.h"
#include "support/alloc_hook.h"
#include "support/scratch.h"
#include "support/tokenizers.h"
#include "tok/chat.h"
#include "tok/tokenizer.h"

#define CASES "tests/tok/fixtures/chat/chat_cases.jsonl"

/* The published instruct template. */
static const char chatml[] = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
                             "message['content'] + '<|im_end|>' + '\n'}}"
                             "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

static zamba_chat *chat_of(const char *source, const zamba_tokenizer *t)
{
    zamba_chat *c = NULL;
    zamba_error err = {0};
    CHECK_OK(zb_chat_parse(&c, source, source != NULL ? strlen(source) : 0, t, &err), err);
    return c;
}

/* Request text with ' for ". */
static char *request_of(const char *text)
{
    char *copy = strdup(text);
    for (char *p = copy; *p != '\0'; p++)
        *p = *p == '\'' ? '"' : *p;
    return copy;
}

static zamba_status ask(const zamba_chat *c, const char *request, char **text, int32_t **ids, size_t *n_ids,
                        zamba_error *err)
{
    char *json = request_of(request);
    size_t n_text;
    const zamba_status st = zamba_chat_render_json(c, json, strlen(json), text, &n_text, ids, n_ids, err);
    if (st == ZAMBA_OK && text != NULL)
        assert_int_equal(strlen(*text), n_text);
    free(json);
    return st;
}

/* ---- The recorded conversations ---- */

static void check_ids(const char *name, const int32_t *ids, size_t n, const json_t *want)
{
    for (size_t i = 0; i < n && i < json_array_size(want); i++)
        if (ids[i] != json_integer_value(json_array_get(want, i)))
            fail_msg("%s: id %zu is %d, wanted %d", name, i, ids[i], (int)json_integer_value(json_array_get(want, i)));
    if (n != json_array_size(want))
        fail_msg("%s: %zu ids, wanted %zu", name, n, json_array_size(want));
}

static void check_conversation(const zamba_chat *c, const json_t *line)
{
    const char *name = json_string_value(json_object_get(line, "name"));
    const json_t *messages = json_object_get(line, "messages");
    const char *rendered = json_string_value(json_object_get(line, "rendered"));
    const int add = json_is_true(json_object_get(line, "add_generation_prompt"));
    zamba_error err = {0};
    char *request = json_dumps(line, 0), *text, *text_again;
    int32_t *ids, *ids_again;
    size_t n_text, n_ids, n_text_again, n_again;
    CHECK_OK(zamba_chat_render_json(c, request, strlen(request), &text, &n_text, &ids, &n_ids, &err), err);
    assert_string_equal(text, rendered);
    assert_int_equal(n_text, strlen(rendered));
    check_ids(name, ids, n_ids, json_object_get(line, "ids_safe"));
    zamba_message list[32];
    const size_t n = json_array_size(messages);
    assert_true(n <= 32);
    for (size_t i = 0; i < n; i++)
        list[i] = (zamba_message){json_string_value(json_object_get(json_array_get(messages, i), "role")),
                                  json_string_value(json_object_get(json_array_get(messages, i), "content"))};
    CHECK_OK(zamba_chat_render(c, list, n, add, &text_again, &n_text_again, &ids_again, &n_again, &err), err);
    assert_string_equal(text_again, rendered);
    check_ids(name, ids_again, n_again, json_object_get(line, "ids_safe"));
    zamba_free(text);
    zamba_free(text_again);
    zamba_free(ids);
    zamba_free(ids_again);
    free(request);
}

static void test_recorded(void **state)
{
    (void)state;
    size_t n, n_lines = 0;
    char *all = scratch_read(CASES, &n);
    zamba_chat *c = chat_of(chatml, instruct);
    for (char *at = all; *at != '\0';) {
        char *end = strchr(at, '\n');
        json_t *line = json_loadb(at, (size_t)(end - at), 0, NULL);
        assert_non_null(line);
        check_conversation(c, line);
        json_decref(line);
        n_lines++;
        at = end + 1;
    }
    assert_int_equal(n_lines, 14);
    zamba_chat_close(c);
    free(all);
}

/* ---- Only the template writes special tokens ---- */

/* How often <|im_end|> (id 2) comes out when the user's text and role, the tools and every variable are that string. */
static const struct {
    const char *source;
    int count;
} safe_cases[] = {
    {"{{ messages[0].content }}", 0},
    {"{{ messages[0].content }}<|im_end|>", 1},
    {"<|im_end|>{{ '<|im_end|>' }}{{ eos_token }}{{ eos_token ~ '' }}", 4},
    {"{{ messages[0].role }}{{ tools[0].name }}{{ mine }}{{ mine.a }}{{ list[0] }}{{ list|first }}", 0},
    {"{{ messages[0].content|upper|lower }}{{ '<|IM_END|>'|lower }}", 1},
    {"{{ messages[0].content|trim }}{{ messages[0].content.strip() }}{{ ' <|im_end|> '|trim }}", 1},
    {"{{ messages[0].content|replace('end', 'end') }}{{ 'x'|replace('x', '<|im_end|>') }}", 1},
    {"{{ 'x'|replace('x', messages[0].content) }}{{ '%s' % messages[0].content }}{{ '{}'.format(mine) }}", 0},
    {"{{ '<|im_' ~ tail }}{{ '<|im_' + tail }}{{ head ~ '_end|>' }}{{ head + '_end' + '|>' }}", 0},
    {"{{ '<|im_' }}{{ tail }}{{ head }}{{ '_end|>' }}{{ '<|im_' }}{{ 'end|>' }}", 1},
    {"{{ messages[0].content[:5] }}{{ messages[0].content[5:] }}{{ messages[0].content[::-1][::-1] }}", 0},
    {"{{ messages|tojson }}{{ messages }}{{ tools|tojson(indent=2) }}{{ messages[0].items()|list }}", 0},
    {"{{ list|join }}{{ list|join('<|im_end|>') }}{{ list|map('upper')|map('lower')|join('-') }}", 1},
    {"{{ messages[0].content.split('|')|join('|') }}{{ '|'.join(['<', 'im_end', '>']) }}", 1},
    {"{{ messages[0].content.split('|')[0] ~ '|im_end|' ~ '>' }}", 0},
    {"{% for ch in messages[0].content %}{{ ch }}{% endfor %}{% for ch in '<|im_end|>' %}{{ ch }}{% endfor %}", 1},
    {"{% set x = messages[0].content %}{{ x }}{% set y %}{{ x }}{% endset %}{{ y }}{% set z %}<|im_end|>{% endset %}{{ "
     "z "
     "}}",
     1},
    {"{% filter trim %}{{ messages[0].content }}{% endfilter %}{% filter trim %}<|im_end|>{% endfilter %}", 1},
    {"{% macro m(a) %}{{ a }}{% endmacro %}{{ m(messages[0].content) }}{{ m('<|im_end|>') }}{{ m(mine)|safe }}", 1},
    {"{{ nope|default(messages[0].content) }}{{ nope|default('<|im_end|>') }}{{ mine|e }}{{ mine|string }}", 1},
    {"{{ {'a': mine}.a }}{{ [mine][0] }}{{ dict(a=mine).a }}{{ namespace(a=mine).a }}{{ (mine, 1)[0] }}", 0},
    {"{{ (mine if true else '<|im_end|>') }}{{ (mine and mine) }}{{ mine or 'x' }}{{ ('<|im_end|>' if mine else '') }}",
     1},
    {"{{ mine|indent }}{{ mine|center(12) }}{{ mine.ljust(12) }}{{ mine|truncate(255) }}{{ mine * 3 }}", 0},
    {"{{ {'<|im_end|>': '<|im_end|>'}[mine] }}{{ {mine: 1}|first }}", 1},
    {"{% generation %}{{ mine }}{% endgeneration %}{{ '<|im_END|>'.replace('END', 'end') }}{{ mine.partition('x')[0] "
     "}}",
     1},
};

static void test_safe(void **state)
{
    (void)state;
    static const char request[] =
        "{'messages': [{'role': '<|im_end|>', 'content': '<|im_end|>'}], 'tools': [{'name': '<|im_end|>'}],"
        " 'mine': '<|im_end|>', 'list': ['<|im_end|>', '<|im_end|>'], 'tail': 'end|>', 'head': '<|im'}";
    for (size_t i = 0; i < sizeof safe_cases / sizeof *safe_cases; i++) {
        zamba_chat *c = chat_of(safe_cases[i].source, instruct);
        zamba_error err = {0};
        int32_t *ids = NULL;
        size_t n_ids = 0;
        char *text = NULL;
        int count = 0;
        const zamba_status st = ask(c, request, &text, &ids, &n_ids, &err);
        if (st != ZAMBA_OK)
            fail_msg("%s: %s", safe_cases[i].source, err.message);
        for (size_t k = 0; k < n_ids; k++)
            count += ids[k] == 2;
        if (count != safe_cases[i].count)
            fail_msg("%s: \"%s\" has <|im_end|> %d times, wanted %d", safe_cases[i].source, text, count,
                     safe_cases[i].count);
        zamba_free(text);
        zamba_free(ids);
        zamba_chat_close(c);
    }
}

/* A request cannot pass its own text off as the tokenizer's special token. */
static void test_own_bos(void **state)
{
    (void)state;
    zamba_chat *c = chat_of("{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ unk_token is defined }}", base);
    zamba_error err = {0};
    int32_t *ids;
    size_t n_ids;
    char *text;
    CHECK_OK(ask(c, "{'messages': [], 'bos_token': '</s>'}", &text, &ids, &n_ids, &err), err);
    assert_string_equal(text, "</s></s>FalseTrue");
    int count = 0;
    for (size_t i = 0; i < n_ids; i++)
        count += ids[i] == 2;
    assert_int_equal(count, 1);
    zamba_free(text);
    zamba_free(ids);
    zamba_chat_close(c);
}

/* ---- Without a template ---- */

static void test_fallback(void **state)
{
    (void)state;
    zamba_chat *c = chat_of(NULL, base);
    zamba_error err = {0};
    int32_t *ids;
    size_t n_ids;
    char *text;
    assert_int_equal(zamba_chat_has_template(c), 0);
    CHECK_OK(ask(c,
                 "{'messages': [{'role': 'system', 'content': 'Be kind.'}, {'role': 'user', 'content': '</s>'}],"
                 " 'add_generation_prompt': true}",
                 &text, &ids, &n_ids, &err),
             err);
    assert_string_equal(text, "<s>system\n Be kind. </s>\n<s>user\n </s> </s>\n<s>assistant\n");
    assert_int_equal(ids[0], 1);
    int bos = 0, eos = 0;
    for (size_t i = 0; i < n_ids; i++) {
        bos += ids[i] == 1;
        eos += ids[i] == 2;
    }
    assert_int_equal(bos, 3);
    assert_int_equal(eos, 2);
    zamba_free(text);
    zamba_free(ids);
    CHECK_OK(ask(c,
                 "{'messages': [{'role': 'user', 'content': [{'type': 'text', 'text': 'a'}, {'type': 'image'},"
                 " {'type': 'text', 'text': 'b'}]}, {'role': 'x', 'content': null}, {'role': 'y'}]}",
                 &text, NULL, NULL, &err),
             err);
    assert_string_equal(text, "<s>user\n ab </s>\n<s>x\n  </s>\n<s>y\n  </s>\n");
    zamba_free(text);
    zamba_chat_close(c);
    c = chat_of(NULL, instruct); /* the tokenizer's own names */
    CHECK_OK(ask(c, "{'messages': [{'role': 'user', 'content': 'hi'}]}", &text, NULL, NULL, &err), err);
    assert_string_equal(text, "<|im_start|>user\n hi <|im_end|>\n");
    zamba_free(text);
    zamba_chat_close(c);
}

/* ---- Requests ---- */

static const struct {
    const char *request;
    zamba_status code;
    const char *message;
} request_errors[] = {
    {"", ZAMBA_E_ARG, "not JSON"},
    {"{", ZAMBA_E_ARG, "not JSON"},
    {"[]", ZAMBA_E_ARG, "found an array, wanted an object"},
    {"null", ZAMBA_E_ARG, "found null, wanted an object"},
    {"{}", ZAMBA_E_ARG, "\"messages\" is nothing, wanted an array"},
    {"{'messages': 'hi'}", ZAMBA_E_ARG, "\"messages\" is a string, wanted an array"},
    {"{'messages': {'role': 'user'}}", ZAMBA_E_ARG, "\"messages\" is an object"},
    {"{'messages': [{'role': 'user', 'content': 'x'}, 'hi']}", ZAMBA_E_ARG, "messages[1] is a string"},
    {"{'messages': [null]}", ZAMBA_E_ARG, "messages[0] is null"},
    {"{'messages': [], 'tools': {}}", ZAMBA_E_ARG, "\"tools\" is an object, wanted an array or null"},
    {"{'messages': [], 'documents': 1}", ZAMBA_E_ARG, "\"documents\" is an integer"},
    {"{'messages': [], 'messages': []}", ZAMBA_E_ARG, "messages"},
    {"{'messages': [{'role': 'user'}]}", ZAMBA_E_FORMAT, "has no attribute 'content'"},
    {"{'messages': [{'role': 'user', 'content': null}]}", ZAMBA_E_FORMAT, "'str' and 'NoneType'"},
    {"{'messages': [{'role': 'user', 'content': [{'type': 'text', 'text': 'x'}]}]}", ZAMBA_E_FORMAT,
     "'str' and 'list'"},
    {"{'messages': [{'content': 'x'}]}", ZAMBA_E_FORMAT, "no attribute 'role'"},
};

static void test_request_errors(void **state)
{
    (void)state;
    zamba_chat *c = chat_of(chatml, instruct);
    for (size_t i = 0; i < sizeof request_errors / sizeof *request_errors; i++) {
        zamba_error err = {0};
        char *text = (char *)&i;
        int32_t *ids = (int32_t *)&i;
        size_t n_ids = 1;
        const zamba_status st = ask(c, request_errors[i].request, &text, &ids, &n_ids, &err);
        if (st != request_errors[i].code || err.code != st || strstr(err.message, request_errors[i].message) == NULL)
            fail_msg("%s: %s \"%s\", wanted %s \"%s\"", request_errors[i].request, zamba_status_name(st), err.message,
                     zamba_status_name(request_errors[i].code), request_errors[i].message);
        assert_null(text);
        assert_null(ids);
        assert_int_equal(n_ids, 0);
        assert_int_equal(ask(c, request_errors[i].request, NULL, NULL, NULL, NULL), st);
    }
    zamba_chat_close(c);
}

static void test_arguments(void **state)
{
    (void)state;
    zamba_chat *c = chat_of(chatml, instruct), *none = (zamba_chat *)&c;
    zamba_error err = {0};
    int32_t *ids;
    char *text;
    size_t n;
    const zamba_message bad[] = {{"user", "x"}, {"user", "\xff"}}, no_role[] = {{NULL, "x"}},
                        no_text[] = {{"user", NULL}};
    check_refused(zamba_chat_render(c, bad, 2, 0, &text, &n, NULL, NULL, &err), &err, ZAMBA_E_ARG, "messages[1]",
                  "UTF-8", NULL);
    check_refused(zamba_chat_render(c, no_role, 1, 0, &text, &n, NULL, NULL, &err), &err, ZAMBA_E_ARG, "messages[0]",
                  "role", NULL);
    check_refused(zamba_chat_render(c, no_text, 1, 0, &text, &n, NULL, NULL, &err), &err, ZAMBA_E_ARG, "content", NULL);
    check_refused(zamba_chat_render(c, NULL, 1, 0, &text, &n, NULL, NULL, &err), &err, ZAMBA_E_ARG, "messages", NULL);
    check_refused(zamba_chat_render(NULL, bad, 1, 0, &text, &n, NULL, NULL, &err), &err, ZAMBA_E_ARG, "template", NULL);
    check_refused(zamba_chat_render(c, bad, 1, 0, &text, &n, &ids, NULL, &err), &err, ZAMBA_E_ARG, "ids", NULL);
    check_refused(zamba_chat_render_json(c, NULL, 0, &text, &n, NULL, NULL, &err), &err, ZAMBA_E_ARG, "request", NULL);
    check_refused(zamba_chat_render_json(NULL, "{}", 2, &text, &n, NULL, NULL, &err), &err, ZAMBA_E_ARG, "template",
                  NULL);
    check_refused(zamba_chat_open(&none, NULL, instruct, &err), &err, ZAMBA_E_ARG, "folder", NULL);
    check_refused(zamba_chat_open(&none, ".", NULL, &err), &err, ZAMBA_E_ARG, "tokenizer", NULL);
    assert_null(none);
    CHECK_OK(zamba_chat_render(c, NULL, 0, 1, &text, &n, &ids, &n, &err), err);
    assert_string_equal(text, "<|im_start|>assistant\n");
    zamba_free(text);
    zamba_free(ids);
    CHECK_OK(zamba_chat_render(c, bad, 1, 0, NULL, NULL, NULL, NULL, &err), err);
    assert_int_equal(zamba_chat_has_template(NULL), 0);
    zamba_chat_close(NULL);
    zamba_chat_close(c);
}

/* What templates find without being given it, and what transformers adds. */
static void test_variables(void **state)
{
    (void)state;
    zamba_chat *c = chat_of("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}{{ x is defined }}"
                            "{% for m in messages %}|{{ m.reasoning_content }},{{ m.thinking }}{% endfor %}",
                            instruct);
    zamba_error err = {0};
    char *text;
    CHECK_OK(ask(c,
                 "{'messages': [{'reasoning': 'a'}, {'thinking': 'b', 'reasoning': null}, {'reasoning_content': 'c',"
                 " 'thinking': 'd'}, {}]}",
                 &text, NULL, NULL, &err),
             err);
    assert_string_equal(text, "TrueTrueFalseFalse|a,a|b,b|c,d|,");
    zamba_free(text);
    CHECK_OK(ask(c, "{'messages': [], 'tools': [], 'documents': [1], 'add_generation_prompt': 1, 'x': null}", &text,
                 NULL, NULL, &err),
             err);
    assert_string_equal(text, "FalseFalse1True");
    zamba_free(text);
    zamba_chat_close(c);
}

/* ---- Where templates are found ---- */

static void check_rendered(const scratch *s, const char *request, int own, const char *want)
{
    zamba_chat *c = NULL;
    zamba_error err = {0};
    char *text = NULL;
    CHECK_OK(zamba_chat_open(&c, s->path, base, &err), err);
    assert_int_equal(zamba_chat_has_template(c), own);
    CHECK_OK(ask(c, request, &text, NULL, NULL, &err), err);
    assert_string_equal(text, want);
    zamba_free(text);
    zamba_chat_close(c);
}

static void test_found(void **state)
{
    (void)state;
    static const char plain[] = "{'messages': []}", tools[] = "{'messages': [], 'tools': [1]}";
    scratch s;
    scratch_open(&s);
    check_rendered(&s, plain, 0, "");
    scratch_text(&s, "tokenizer_config.json", "{\"bos_token\": \"<s>\"}");
    check_rendered(&s, plain, 0, "");
    scratch_text(&s, "tokenizer_config.json", "{\"chat_template\": null}");
    check_rendered(&s, plain, 0, "");
    scratch_text(&s, "tokenizer_config.json", "{\"chat_template\": \"config{{ bos_token }}\"}");
    check_rendered(&s, plain, 1, "config<s>");
    check_rendered(&s, tools, 1, "config<s>");
    scratch_text(&s, "tokenizer_config.json",
                 "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"rag\"}, {\"name\": \"tool_use\", "
                 "\"template\": \"with tools\"}, {\"name\": \"default\", \"template\": \"plain\"}]}");
    check_rendered(&s, plain, 1, "plain");
    check_rendered(&s, tools, 1, "with tools");
    check_rendered(&s, "{'messages': [], 'tools': null}", 1, "plain");
    scratch_text(&s, "chat_template.jinja", "file\n");
    check_rendered(&s, plain, 1, "file");
    assert_int_equal(mkdir(scratch_path(&s, "additional_chat_templates"), 0777), 0);
    scratch_text(&s, "additional_chat_templates/tool_use.jinja", "file for tools");
    check_rendered(&s, tools, 1, "file for tools");
    scratch_remove(&s, "tokenizer_config.json");
    check_rendered(&s, plain, 1, "file");
    scratch_text(&s, "chat_template.jinja", "");
    check_rendered(&s, plain, 1, "");
    scratch_close(&s);
}

/* A template that does not parse does not keep a checkpoint from opening; it is reported when it is wanted. */
static void test_bad_templates(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        zamba_status code;
        const char *message;
    } bad[] = {{"a\n{% if %}", ZAMBA_E_FORMAT, "line 2"},
               {"{% include 'x' %}", ZAMBA_E_UNSUPPORTED, "'include'"},
               {"{{ raise_exception('Only user and assistant') }}", ZAMBA_E_ARG, "Only user and assistant"}};
    scratch s;
    zamba_chat *c;
    zamba_error err = {0};
    char *text;
    scratch_open(&s);
    for (size_t i = 0; i < 3; i++) {
        scratch_text(&s, "chat_template.jinja", bad[i].source);
        CHECK_OK(zamba_chat_open(&c, s.path, base, &err), err);
        assert_int_equal(zamba_chat_has_template(c), 1);
        check_refused(ask(c, "{'messages': []}", &text, NULL, NULL, &err), &err, bad[i].code, "chat template, line",
                      bad[i].message, NULL);
        assert_int_equal(ask(c, "{'messages': []}", &text, NULL, NULL, NULL), bad[i].code);
        zamba_chat_close(c);
    }
    scratch_remove(&s, "chat_template.jinja");
    scratch_text(&s, "tokenizer_config.json", "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"t\"}]}");
    CHECK_OK(zamba_chat_open(&c, s.path, base, &err), err);
    check_refused(ask(c, "{'messages': []}", &text, NULL, NULL, &err), &err, ZAMBA_E_ARG, "default", "tool_use", NULL);
    zamba_chat_close(c);
    static const char *const configs[] = {"{\"chat_template\": 5}", "{\"chat_template\": [5]}",
                                          "{\"chat_template\": [{\"name\": 1, \"template\": \"x\"}]}",
                                          "{\"chat_template\": [{\"name\": \"default\"}]}", "{\"chat_template\": "};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        scratch_text(&s, "tokenizer_config.json", configs[i]);
        check_refused(zamba_chat_open(&c, s.path, base, &err), &err, ZAMBA_E_FORMAT, "tokenizer_config.json", NULL);
        assert_null(c);
    }
    scratch_close(&s);
}

/* ---- Threads ---- */

typedef struct job {
    const zamba_chat *c;
    char word;
    int wrong;
} job;

static void *render_often(void *arg)
{
    job *j = arg;
    char content[] = {j->word, j->word, '\0'}, want[400];
    const zamba_message message = {"user", content};
    int32_t *first = NULL;
    size_t n_first = 0;
    snprintf(want, sizeof want, "%0100duser%s%0100d", 0, content, 0);
    for (int i = 0; i < 50; i++) {
        zamba_error err = {0};
        int32_t *ids = NULL;
        size_t n_text, n_ids = 0;
        char *text = NULL;
        const zamba_status st = zamba_chat_render(j->c, &message, 1, 0, &text, &n_text, &ids, &n_ids, &err);
        if (st != ZAMBA_OK || strcmp(text, want) != 0 ||
            (first != NULL && (n_ids != n_first || memcmp(ids, first, n_ids * sizeof *ids) != 0)))
            j->wrong++;
        zamba_free(text);
        zamba_free(first);
        first = ids;
        n_first = n_ids;
    }
    zamba_free(first);
    return NULL;
}

/* Threads share a chat; what one renders is not seen by the others. */
static void test_threads(void **state)
{
    (void)state;
    char source[1000];
    /* literals with escapes are put together in memory of their own, which must not be added to */
    size_t n = (size_t)sprintf(source, "{{ '");
    for (int i = 0; i < 100; i++)
        n += (size_t)sprintf(source + n, "\\x30");
    snprintf(source + n, sizeof source - n, "' ~ messages[0].role ~ messages[0].content ~ '%0100d' }}", 0);
    zamba_chat *c = chat_of(source, instruct);
    pthread_t threads[4];
    job jobs[4];
    for (int i = 0; i < 4; i++) {
        jobs[i] = (job){c, (char)('a' + i), 0};
        assert_int_equal(pthread_create(&threads[i], NULL, render_often, &jobs[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].wrong, 0);
    }
    zamba_chat_close(c);
}

/* ---- Without memory ---- */

static const char *failing_folder;

static zamba_status run_all(zamba_error *err)
{
    static const char request[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"hello\"}], \"tools\": [{\"a\": 1}]}";
    static const zamba_message messages[] = {{"user", "hello"}, {"assistant", "there"}};
    zamba_chat *c;
    char *text = NULL;
    int32_t *ids = NULL;
    size_t n_text, n_ids;
    zamba_status st = zamba_chat_open(&c, failing_folder, instruct, err);
    if (st == ZAMBA_OK)
        st = zamba_chat_render_json(c, request, sizeof request - 1, &text, &n_text, &ids, &n_ids, err);
    zamba_free(text);
    zamba_free(ids);
    text = NULL;
    ids = NULL;
    if (st == ZAMBA_OK)
        st = zamba_chat_render(c, messages, 2, 1, &text, &n_text, &ids, &n_ids, err);
    zamba_free(text);
    zamba_free(ids);
    zamba_chat_close(c);
    /* jansson's reader takes a string it has no memory for as no string */
    if (st == ZAMBA_E_ARG && strstr(err->message, "not JSON") != NULL)
        st = err->code = ZAMBA_E_FORMAT;
    return st;
}

static void test_no_memory(void **state)
{
    (void)state;
    if (!ALLOC_HOOK)
        skip();
    scratch s;
    scratch_open(&s);
    scratch_text(&s, "tokenizer_config.json",
                 "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"{{ tools }}\"}]}");
    scratch_text(&s, "chat_template.jinja", chatml);
    failing_folder = s.path;
    check_every_failure("chat", run_all, ZAMBA_E_FORMAT, 0, 1);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded),       cmocka_unit_test(test_safe),      cmocka_unit_test(test_own_bos),
        cmocka_unit_test(test_fallback),       cmocka_unit_test(test_arguments), cmocka_unit_test(test_variables),
        cmocka_unit_test(test_request_errors), cmocka_unit_test(test_found),     cmocka_unit_test(test_bad_templates),
        cmocka_unit_test(test_no_memory),      cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, open_tokenizers, close_tokenizers);
}
