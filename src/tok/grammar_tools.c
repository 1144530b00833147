/* grammar_tools.c — calls of functions as a grammar: for each function its name and, as the arguments, a value of its
 * own JSON schema (grammar_schema.c), between texts that open and close a call. */
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "tok/grammar.h"

enum { MAX_TOOLS = 1024 };

/* {"name": NAME, "arguments": ...}, as chat templates write it. */
static int32_t call_of(zb_build *b, const json_t *tool)
{
    json_t *name = json_object_get(tool, "name"), *schema = json_object_get(tool, "parameters");
    char *quoted = json_is_string(name) ? json_dumps(name, JSON_ENCODE_ANY) : NULL;
    if (quoted == NULL || (schema != NULL && !json_is_object(schema) && !json_is_null(schema))) {
        free(quoted);
        return zb_build_fail(b, ZAMBA_E_ARG, "tools: wanted objects with a name and, as parameters, a JSON schema");
    }
    json_t *arguments = json_is_object(schema) ? json_copy(schema) : json_object();
    const char *const others[] = {"type", "$ref", "allOf", "anyOf", "oneOf"}; /* they say what it is */
    int said = 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        said |= json_object_get(arguments, others[i]) != NULL;
    if (!said)
        json_object_set_new(arguments, "type", json_string("object"));
    const int32_t value = arguments != NULL ? zb_schema_of(b, arguments) : ZB_X_EMPTY;
    if (arguments == NULL)
        zb_build_fail(b, ZAMBA_E_MEMORY, "tools: out of memory");
    const int32_t x = ZB_SEQ(b, zb_build_text(b, "{\"name\": "), zb_build_text(b, quoted),
                             zb_build_text(b, ", \"arguments\": "), value, zb_build_text(b, "}"));
    json_decref(arguments);
    free(quoted);
    return zb_build_named(b, "call", x);
}

static int32_t text_of(zb_build *b, const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return zb_build_bytes(b, json_is_string(v) ? json_string_value(v) : "", json_string_length(v));
}

int32_t zb_tools_read(zb_build *b, const char *text, size_t n)
{
    json_t *root = NULL;
    int32_t ways[MAX_TOOLS];
    if (b->st == ZAMBA_OK)
        b->st = zb_json_parse(&root, text, n, "tools", zb_json_small, &b->err);
    const json_t *tools = json_object_get(root, "tools");
    const size_t k = json_array_size(tools);
    if (b->st == ZAMBA_OK && (k == 0 || k > MAX_TOOLS))
        zb_build_fail(b, ZAMBA_E_ARG, "tools: %zu of them, wanted 1 to %d", k, MAX_TOOLS);
    for (size_t i = 0; i < k && b->st == ZAMBA_OK; i++)
        ways[i] = call_of(b, json_array_get(tools, i));
    int32_t x = ZB_X_EMPTY;
    if (b->st == ZAMBA_OK)
        x = ZB_SEQ(b, text_of(b, root, "begin"), zb_build_alt(b, ways, k), text_of(b, root, "end"));
    if (json_is_true(json_object_get(root, "many"))) {
        const int32_t one = zb_build_named(b, "calls", x);
        x = ZB_SEQ(b, one, zb_build_repeat(b, ZB_SEQ(b, zb_build_text(b, "\n"), one), 0, -1));
    }
    json_decref(root);
    return x;
}
