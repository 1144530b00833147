/* test_api_fields.c — the tables of fields: what is refused and by which name, and that every table becomes a schema.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api_fields.h"
#include "api_prompt.h"

typedef struct bad_case {
    const sv_field *fields;
    const char *body;  /* with ' for " */
    const char *param; /* NULL: it is taken */
} bad_case;

#define CHAT "{'messages':[{'role':'user','content':'hi'}]"

static json_t *parse(const char *body)
{
    char *text = strdup(body);
    for (char *p = text; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    json_t *o = json_loads(text, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
    if (!o)
        fail_msg("the test's own JSON is wrong: %s", text);
    free(text);
    return o;
}

static void test_bounds(void **state)
{
    (void)state;
    const bad_case cases[] = {
        {sv_fields_chat, CHAT "}", NULL},
        {sv_fields_chat, CHAT ",'unknown':[1,{}]}", NULL},
        {sv_fields_chat, CHAT ",'n':null,'stop':null,'tools':null}", NULL},
        {sv_fields_chat, CHAT ",'n':1000000000}", "n"},
        {sv_fields_chat, CHAT ",'n':0}", "n"},
        {sv_fields_chat, CHAT ",'n':-1}", "n"},
        {sv_fields_chat, CHAT ",'n':1.5}", "n"},
        {sv_fields_chat, CHAT ",'n':2.0}", NULL},
        {sv_fields_chat, CHAT ",'n':1e300}", "n"},
        {sv_fields_chat, CHAT ",'n':'2'}", "n"},
        {sv_fields_chat, CHAT ",'n':true}", "n"},
        {sv_fields_chat, CHAT ",'top_logprobs':1000000}", "top_logprobs"},
        {sv_fields_chat, CHAT ",'temperature':-0.1}", "temperature"},
        {sv_fields_chat, CHAT ",'temperature':1e308}", "temperature"},
        {sv_fields_chat, CHAT ",'temperature':'NaN'}", "temperature"},
        {sv_fields_chat, CHAT ",'top_p':2}", "top_p"},
        {sv_fields_chat, CHAT ",'max_tokens':-2}", "max_tokens"},
        {sv_fields_chat, CHAT ",'max_tokens':9223372036854775807}", "max_tokens"},
        {sv_fields_chat, CHAT ",'seed':9223372036854775807}", "seed"},
        {sv_fields_chat, CHAT ",'stop':7}", "stop"},
        {sv_fields_chat, CHAT ",'stop':['a',7]}", "stop[1]"},
        {sv_fields_chat, CHAT ",'stop':'a\\u0000b'}", "stop"},
        {sv_fields_chat, CHAT ",'stop':['','a']}", NULL},
        {sv_fields_chat, CHAT ",'logit_bias':{'x':1}}", "logit_bias"},
        {sv_fields_chat, CHAT ",'logit_bias':{'-5':1}}", "logit_bias"},
        {sv_fields_chat, CHAT ",'logit_bias':{'5':101}}", "logit_bias"},
        {sv_fields_chat, CHAT ",'logit_bias':{'5':-100}}", NULL},
        {sv_fields_chat, CHAT ",'logit_bias':[1]}", "logit_bias"},
        {sv_fields_chat, CHAT ",'stream':'yes'}", "stream"},
        {sv_fields_chat, CHAT ",'stream_options':{'include_usage':1}}", "stream_options.include_usage"},
        {sv_fields_chat, CHAT ",'response_format':{'type':'xml'}}", "response_format.type"},
        {sv_fields_chat, CHAT ",'response_format':'json'}", "response_format"},
        {sv_fields_chat, CHAT ",'tool_choice':'sometimes'}", "tool_choice"},
        {sv_fields_chat, CHAT ",'tool_choice':{'type':'function','function':{'name':'f'}}}", NULL},
        {sv_fields_chat, CHAT ",'tools':[{'function':{}}]}", "tools[0].function.name"},
        {sv_fields_chat, CHAT ",'tools':[3]}", "tools[0]"},
        {sv_fields_chat, CHAT ",'functions':[{'name':'f'}]}", "functions"},
        {sv_fields_chat, CHAT ",'functions':[]}", NULL},
        {sv_fields_chat, CHAT ",'state':''}", "state"},
        {sv_fields_chat, "{}", "messages"},
        {sv_fields_chat, "{'messages':null}", "messages"},
        {sv_fields_chat, "{'messages':[]}", "messages"},
        {sv_fields_chat, "{'messages':'hi'}", "messages"},
        {sv_fields_chat, "{'messages':['hi']}", "messages[0]"},
        {sv_fields_chat, "{'messages':[{'content':'x'}]}", "messages[0].role"},
        {sv_fields_chat, "{'messages':[{'role':'user','content':5}]}", "messages[0].content"},
        {sv_fields_chat, "{'messages':[{'role':'user','content':[{'type':'text','text':'a'}]}]}", NULL},
        {sv_fields_chat, "{'messages':[{'role':'user','content':[{'type':'image_url'}]}]}", "messages[0].content[0]"},
        {sv_fields_chat, "{'messages':[{'role':'user','content':[{'type':'text'}]}]}", "messages[0].content[0]"},
        {sv_fields_chat, "[]", ""},
        {sv_fields_chat, "null", ""},
        {sv_fields_completion, "{'prompt':'a'}", NULL},
        {sv_fields_completion, "{'prompt':''}", NULL},
        {sv_fields_completion, "{'prompt':['a','b']}", NULL},
        {sv_fields_completion, "{'prompt':[1,2]}", NULL},
        {sv_fields_completion, "{'prompt':[[1,2],[3]]}", NULL},
        {sv_fields_completion, "{'prompt':[]}", "prompt"},
        {sv_fields_completion, "{'prompt':[[]]}", "prompt[0]"},
        {sv_fields_completion, "{'prompt':[1,'a']}", "prompt[1]"},
        {sv_fields_completion, "{'prompt':['a',1]}", "prompt[1]"},
        {sv_fields_completion, "{'prompt':[[1],['a']]}", "prompt[1][0]"},
        {sv_fields_completion, "{'prompt':[-1]}", "prompt[0]"},
        {sv_fields_completion, "{'prompt':[99999999999]}", "prompt[0]"},
        {sv_fields_completion, "{'prompt':{}}", "prompt"},
        {sv_fields_completion, "{'prompt':'a','logprobs':1000000}", "logprobs"},
        {sv_fields_completion, "{'prompt':'a','logprobs':true}", "logprobs"},
        {sv_fields_completion, "{'prompt':'a','suffix':'b'}", "suffix"},
        {sv_fields_ollama_chat, "{'model':'m','messages':[{'role':'user','content':'a','images':['x']}]}",
         "messages[0].images"},
        {sv_fields_ollama_chat, "{'model':'m','options':{'temperature':'hot'}}", "options.temperature"},
        {sv_fields_ollama_chat, "{'model':'m','format':'xml'}", "format"},
        {sv_fields_ollama_chat, "{'model':'m','format':{'type':'object'},'keep_alive':'5m','think':false}", NULL},
        {sv_fields_ollama_chat, "{'model':'m','think':true}", "think"},
        {sv_fields_ollama_generate, "{'model':'m','template':'{{ .Prompt }}'}", "template"},
        {sv_fields_ollama_generate, "{'prompt':'a'}", "model"},
        {sv_fields_detokenize, "{'tokens':[1,-1]}", "tokens[1]"},
        {sv_fields_state, "{'from':'0123456789012345678901234567890123456789'}", "from"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *o = parse(cases[i].body);
        sv_bad bad = {0};
        const int ok = sv_fields_check(o, cases[i].fields, &bad);
        if (ok != !cases[i].param || (cases[i].param && strcmp(bad.param, cases[i].param) != 0))
            fail_msg("%s: %s, field \"%s\" (%s)", cases[i].body, ok ? "taken" : "refused", bad.param, bad.message);
        if (!ok) {
            assert_int_equal(bad.status, 400);
            assert_non_null(strstr(bad.message, *bad.param ? bad.param : "body"));
        }
        json_decref(o);
    }
}

static void test_many(void **state)
{
    (void)state;
    sv_bad bad = {0};
    json_t *o = parse(CHAT "}"), *stops = json_array(), *bias = json_object();
    for (int i = 0; i < SV_MAX_STOPS + 1; i++)
        json_array_append_new(stops, json_string("x"));
    json_object_set_new(o, "stop", stops);
    assert_false(sv_fields_check(o, sv_fields_chat, &bad));
    assert_string_equal(bad.param, "stop");
    json_array_remove(stops, 0);
    bad = (sv_bad){0};
    assert_true(sv_fields_check(o, sv_fields_chat, &bad));
    for (int i = 0; i < 4097; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        json_object_set_new(bias, key, json_integer(1));
    }
    json_object_set_new(o, "logit_bias", bias);
    assert_false(sv_fields_check(o, sv_fields_chat, &bad));
    assert_string_equal(bad.param, "logit_bias");
    json_decref(o);
}

/* Any value in the place of any field: refused or taken, never worse. */
static void test_any_value(void **state)
{
    (void)state;
    const sv_field *const tables[] = {sv_fields_chat,         sv_fields_completion,        sv_fields_embedding,
                                      sv_fields_tokenize,     sv_fields_detokenize,        sv_fields_template,
                                      sv_fields_state,        sv_fields_ollama_chat,       sv_fields_ollama_show,
                                      sv_fields_ollama_embed, sv_fields_ollama_embeddings, sv_fields_ollama_generate};
    static const char *const values[] = {"null",
                                         "true",
                                         "0",
                                         "-1",
                                         "1e308",
                                         "''",
                                         "'a'",
                                         "[]",
                                         "[null]",
                                         "[[]]",
                                         "[[[1]]]",
                                         "{}",
                                         "{'a':1}",
                                         "[{}]",
                                         "['',1]",
                                         "[1,null]",
                                         "[{'role':null}]",
                                         "{'type':[]}",
                                         "{'function':[]}"};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const sv_field *f = tables[t]; f->name; f++)
            for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
                json_t *o = json_object(), *value = parse(values[v]);
                sv_bad bad = {0};
                json_object_set_new(o, f->name, value);
                const int ok = sv_fields_check(o, tables[t], &bad);
                assert_int_equal(ok, !bad.status);
                if (!ok && !*bad.param)
                    fail_msg("%s: %s refused without a name", f->name, values[v]);
                json_decref(o);
            }
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        json_t *schema = sv_fields_schema(tables[t]);
        assert_non_null(schema);
        for (const sv_field *f = tables[t]; f->name; f++)
            if (!json_object_get(json_object_get(schema, "properties"), f->name))
                fail_msg("%s has no schema", f->name);
        json_decref(schema);
    }
}

static void test_text(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {{"", ""},
                 {"a", "a"},
                 {"\xc3\xa9", "\xc3\xa9"},
                 {"a\xff"
                  "b",
                  "a\xef\xbf\xbd"
                  "b"},
                 {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},
                 {"\xf0\x9f\x98\x80\xc3", "\xf0\x9f\x98\x80\xef\xbf\xbd"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *o = sv_json_text(cases[i].in, strlen(cases[i].in));
        assert_non_null(o);
        assert_string_equal(json_string_value(o), cases[i].out);
        json_decref(o);
    }
}

static void test_tool_calls(void **state)
{
    (void)state;
    static const struct {
        sv_tool_form form;
        const char *text;
        size_t n_calls;
        const char *rest;
    } cases[] = {
        {SV_TOOLS_TAGGED, "no call", 0, NULL},
        {SV_TOOLS_TAGGED, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1}}</tool_call>", 1, ""},
        {SV_TOOLS_TAGGED,
         "well <tool_call>\n{\"name\":\"f\",\"arguments\":{}}\n</tool_call>\n<tool_call>"
         "{\"name\":\"g\",\"arguments\":{}}</tool_call>",
         2, "well"},
        {SV_TOOLS_TAGGED, "<tool_call>{\"name\":\"f\",\"arguments\":{}}", 1, ""},
        {SV_TOOLS_TAGGED, "<tool_call>{\"name\":5}</tool_call>", 0, NULL},
        {SV_TOOLS_TAGGED, "<tool_call>", 0, NULL},
        {SV_TOOLS_TAGGED, "<tool_call>{</tool_call> x <tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>", 1,
         "<tool_call>{</tool_call> x"},
        {SV_TOOLS_BARE, "{\"name\":\"f\",\"parameters\":{}}", 1, ""},
        {SV_TOOLS_BARE, "[{\"name\":\"f\",\"parameters\":{}},{\"name\":\"g\",\"arguments\":{}}]", 2, ""},
        {SV_TOOLS_BARE, "{\"name\":\"f\"}", 0, NULL},
        {SV_TOOLS_OTHER, "{\"name\":\"f\",\"parameters\":{}}", 0, NULL},
        {SV_TOOLS_NONE, "", 0, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *rest = NULL;
        size_t n_rest = 0;
        json_t *calls = sv_tools_parse(cases[i].form, cases[i].text, strlen(cases[i].text), &rest, &n_rest);
        if (json_array_size(calls) != cases[i].n_calls)
            fail_msg("%s: %zu calls", cases[i].text, json_array_size(calls));
        if (cases[i].rest)
            assert_string_equal(rest, cases[i].rest);
        else
            assert_null(rest);
        if (calls) {
            const json_t *f = json_object_get(json_array_get(calls, 0), "function");
            assert_string_equal(json_string_value(json_object_get(f, "name")), "f");
            assert_true(json_is_string(json_object_get(f, "arguments")));
        }
        json_decref(calls);
        free(rest);
    }
    assert_int_equal(sv_tools_plain(SV_TOOLS_TAGGED, "a < b", 5), 5);
    assert_int_equal(sv_tools_plain(SV_TOOLS_TAGGED, "a <tool", 7), 2);
    assert_int_equal(sv_tools_plain(SV_TOOLS_TAGGED, "a <tool_call>{", 14), 2);
    assert_int_equal(sv_tools_plain(SV_TOOLS_BARE, " {\"na", 5), 0);
    assert_int_equal(sv_tools_plain(SV_TOOLS_BARE, " ", 1), 0);
    assert_int_equal(sv_tools_plain(SV_TOOLS_BARE, "Hello", 5), 5);
    assert_int_equal(sv_tools_plain(SV_TOOLS_NONE, "<tool_call>", 11), 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bounds), cmocka_unit_test(test_many),
                                       cmocka_unit_test(test_any_value), cmocka_unit_test(test_text),
                                       cmocka_unit_test(test_tool_calls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
