/* openapi.c — GET /openapi.json: the routes (api_routes.c) and the tables of fields (api_tables.c) as OpenAPI 3.1. */
#include "api_handlers.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static json_t *content(const char *type, json_t *schema)
{
    return json_pack("{s:{s:o}}", type, "schema", schema);
}

static json_t *reference(const char *name)
{
    char path[80];
    snprintf(path, sizeof path, "#/components/schemas/%s", name);
    return json_pack("{s:s}", "$ref", path);
}

static json_t *object_with(const char *keys)
{
    json_t *list = json_array();
    for (const char *p = keys; *p;) {
        const size_t n = strcspn(p, "|");
        json_array_append_new(list, json_stringn(p, n));
        p += n + (p[n] == '|');
    }
    return json_pack("{s:s,s:o}", "type", "object", "required", list);
}

static json_t *responses(const sv_route *r, const sv_description *d)
{
    static const struct {
        const char *status, *text;
    } errors[] = {{"400", "The request is wrong; the field is named"},
                  {"401", "No key, or a wrong one"},
                  {"403", "Host or origin is not allowed"},
                  {"404", "There is no such thing"},
                  {"408", "The request came too slowly"},
                  {"409", "A state of another model has the id"},
                  {"411", "A body without a length"},
                  {"413", "The body is too large, or there should be none"},
                  {"415", "The body is no JSON"},
                  {"422", "A file that is damaged or of another model"},
                  {"429", "Too much at once; see Retry-After"},
                  {"500", "Something broke"},
                  {"501", "Not supported"},
                  {"503", "Not now"},
                  {"507", "No room for the state"}};
    json_t *all = json_object(), *good = json_object();
    char status[8];
    if (d->reply)
        json_object_set_new(good, "application/json", json_pack("{s:o}", "schema", object_with(d->reply)));
    else
        json_object_set_new(good, "application/octet-stream", json_pack("{s:{}}", "schema"));
    if (d->stream)
        json_object_set_new(good, d->stream, json_pack("{s:{}}", "schema"));
    if (strcmp(r->method, "PUT") == 0 && strstr(r->pattern, "{id"))
        json_object_set_new(all, "200",
                            json_pack("{s:s,s:O}", "description", "One that was there is replaced", "content", good));
    snprintf(status, sizeof status, "%d", d->status);
    json_object_set_new(all, status, json_pack("{s:s,s:o}", "description", "As asked", "content", good));
    const char *shape = strncmp(r->pattern, "/api/", 5) == 0 ? "OllamaError" : "Error";
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        json_object_set_new(all, errors[i].status,
                            json_pack("{s:s,s:o}", "description", errors[i].text, "content",
                                      content("application/json", reference(shape))));
    return all;
}

static json_t *operation(const sv_route *r, const sv_description *d)
{
    json_t *o = json_pack("{s:s,s:[s],s:s,s:o}", "operationId", d->id, "tags", d->tag, "summary", d->summary,
                          "responses", responses(r, d));
    json_t *parameters = json_array();
    if (strstr(r->pattern, "{id"))
        json_array_append_new(
            parameters, json_pack("{s:s,s:s,s:b,s:{s:s,s:s}}", "name", "id", "in", "path", "required", 1, "schema",
                                  "type", "string", "pattern",
                                  strstr(r->pattern, "/states/") ? "^[0-9a-f]{32}$" : "^[^\\u0000-\\u001f\\u007f]+$"));
    if (((r->flags & SV_ROUTE_BODY) && !d->fields) || strncmp(r->pattern, "/v1/states/{", 12) == 0)
        json_array_append_new(parameters,
                              json_pack("{s:s,s:s,s:s,s:{s:s}}", "name", "model", "in", "query", "description",
                                        "the model's name; absent: the one that has the state, or the first", "schema",
                                        "type", "string"));
    json_object_set_new(o, "parameters", parameters);
    json_t *body = d->fields                    ? content("application/json", reference(d->id))
                   : (r->flags & SV_ROUTE_BODY) ? content("application/octet-stream", json_object())
                                                : NULL;
    if (body)
        json_object_set_new(o, "requestBody", json_pack("{s:b,s:o}", "required", 1, "content", body));
    return o;
}

/* Exactly one (or one or more) of these fields is there and not null. */
static void one_of(json_t *schema, const char *names, int or_more)
{
    json_t *list = json_array();
    for (const char *p = names; *p;) {
        const size_t n = strcspn(p, "|");
        json_array_append_new(
            list, json_pack("{s:[s%],s:{s%:{s:{s:s}}}}", "required", p, n, "properties", p, n, "not", "type", "null"));
        p += n + (p[n] == '|');
    }
    json_object_set_new(schema, or_more ? "anyOf" : "oneOf", list);
}

/* "/v1/models/{id...}" is "/v1/models/{id}" there. */
static json_t *paths(void)
{
    json_t *all = json_object();
    for (size_t i = 0; i < sv_n_api_routes; i++) {
        const sv_route *r = sv_api_routes + i;
        char path[128], method[16];
        const char *dots = strstr(r->pattern, "...}");
        if (dots)
            snprintf(path, sizeof path, "%.*s}", (int)(dots - r->pattern), r->pattern);
        else
            snprintf(path, sizeof path, "%s", r->pattern);
        size_t k = 0;
        for (; r->method[k] && k + 1 < sizeof method; k++)
            method[k] = (char)(r->method[k] | 0x20);
        method[k] = 0;
        json_t *item = json_object_get(all, path);
        if (!item) {
            json_object_set_new(all, path, json_object());
            item = json_object_get(all, path);
        }
        json_object_set_new(item, method, operation(r, sv_descriptions + i));
    }
    return all;
}

static json_t *schemas(void)
{
    json_t *o = json_pack("{s:{s:s,s:[s],s:{s:{s:s,s:[s,s],s:{s:{s:s},s:{s:s},s:{s:[s,s]},s:{s:[s,s]}}}}},"
                          "s:{s:s,s:[s],s:{s:{s:s}}}}",
                          "Error", "type", "object", "required", "error", "properties", "error", "type", "object",
                          "required", "message", "type", "properties", "message", "type", "string", "type", "type",
                          "string", "param", "type", "string", "null", "code", "type", "string", "null", "OllamaError",
                          "type", "object", "required", "error", "properties", "error", "type", "string");
    for (size_t i = 0; i < sv_n_api_routes; i++)
        if (sv_descriptions[i].fields) {
            json_t *one = sv_fields_schema(sv_descriptions[i].fields);
            if (sv_descriptions[i].one_of)
                one_of(one, sv_descriptions[i].one_of, sv_descriptions[i].or_more);
            json_object_set_new(o, sv_descriptions[i].id, one);
        }
    return o;
}

void sv_openapi(sv_exchange *r, void *app)
{
    (void)app;
    sv_http_reply_json(r, 200,
                       json_pack("{s:s,s:{s:s,s:s},s:o,s:{s:o,s:{s:{s:s,s:s}}},s:[{s:[]},{}]}", "openapi", "3.1.0",
                                 "info", "title", "zamba serve", "version", zamba_version(), "paths", paths(),
                                 "components", "schemas", schemas(), "securitySchemes", "key", "type", "http", "scheme",
                                 "bearer", "security", "key"));
}
