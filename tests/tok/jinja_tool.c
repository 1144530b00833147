/* jinja_tool.c — runs templates for test_jinja_against_jinja2.py: one JSON object per line in, {"template": text,
 * "context": object, "vars": {name: trusted text}}, one per line out, {"text": ..., "trusted": "110..."} or
 * {"error": status, "message": ...}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tok/jinja.h"

#define MAX_VARS 16

static json_t *answer(const json_t *request)
{
    const json_t *source = json_object_get(request, "template");
    json_t *vars = json_object_get(request, "vars"), *out = json_object();
    zb_jinja_var named[MAX_VARS];
    zb_jinja_text text = {0};
    zb_jinja *t = NULL;
    zamba_error err = {0};
    size_t n_vars = 0;
    const char *name;
    json_t *value;
    json_object_foreach(vars, name, value)
    {
        if (n_vars < MAX_VARS)
            named[n_vars++] = (zb_jinja_var){name, json_string_value(value), json_string_length(value)};
    }
    zamba_status st = zb_jinja_parse(&t, json_string_value(source), json_string_length(source), &err);
    if (st == ZAMBA_OK)
        st = zb_jinja_render(t, json_object_get(request, "context"), named, n_vars, &text, &err);
    if (st == ZAMBA_OK) {
        for (size_t i = 0; i < text.n; i++)
            text.trusted[i] = (unsigned char)('0' + (text.trusted[i] != 0));
        json_object_set_new(out, "text", json_stringn(text.text, text.n));
        json_object_set_new(out, "trusted", json_stringn((const char *)text.trusted, text.n));
    } else {
        json_object_set_new(out, "error", json_string(zamba_status_name(st)));
        json_object_set_new(out, "message", json_string(err.message));
    }
    zb_jinja_text_free(&text);
    zb_jinja_free(t);
    return out;
}

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    while ((n = getline(&line, &capacity, stdin)) > 0) {
        json_t *request = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, NULL);
        if (request == NULL) {
            fprintf(stderr, "jinja_tool: a line that is not JSON\n");
            free(line);
            return 1;
        }
        json_t *out = answer(request);
        char *text = json_dumps(out, JSON_COMPACT);
        puts(text != NULL ? text : "{\"error\": \"E_FORMAT\", \"message\": \"the text is not UTF-8\"}");
        free(text);
        json_decref(out);
        json_decref(request);
    }
    free(line);
    return 0;
}
