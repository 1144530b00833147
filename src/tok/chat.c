/* chat.c — from a conversation to text and ids: finds the checkpoint's chat template, checks the request, runs the
 * template (jinja.h) and tokenizes what it wrote, special tokens only where the template wrote them. */
#include "tok/chat.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/gguf_vocab.h"
#include "io/json.h"
#include "tok/jinja.h"
#include "tok/tokenizer.h"
#include "core/utf8.h"

#define MAX_TEMPLATE ((size_t)1 << 20)

static const zb_json_limits request_limits = {(size_t)16 << 20, 200000};

/* The form "<s>role\n text </s>\n" for checkpoints that bring no template. */
static const char built_in[] =
    "{% for message in messages %}"
    "{% set content = message['content'] %}"
    "{% if content is undefined or content is none %}{% set content = '' %}"
    "{% elif content is not string %}"
    "{% set content = content | selectattr('text', 'defined') | map(attribute='text') | join %}"
    "{% endif %}"
    "{{ bos_token | default('') + message['role'] + '\\n ' + content + ' ' + eos_token | default('') + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token | default('') + 'assistant\\n' }}{% endif %}";

/* A template that was found; if it does not parse, the reason waits until it is to be used. */
typedef struct slot {
    zb_jinja *jinja;
    int found;
    zamba_error why;
} slot;

struct zamba_chat {
    const zamba_tokenizer *tokenizer;
    int own; /* the checkpoint brought a template */
    slot plain, tool_use;
};

static zamba_status slot_fill(slot *s, const char *source, size_t n)
{
    zb_jinja_free(s->jinja);
    s->jinja = NULL;
    s->found = 1;
    s->why = (zamba_error){0};
    const zamba_status st = zb_jinja_parse(&s->jinja, source, n, &s->why);
    return st == ZAMBA_E_MEMORY ? st : ZAMBA_OK;
}

/* ---- Finding the template ---- */

static zamba_status read_file(slot *s, const char *folder, const char *name, zamba_error *err)
{
    char path[4096];
    zb_buf text = {0};
    zamba_status st = zb_path_join(path, sizeof path, folder, name, err);
    if (st != ZAMBA_OK || !zb_file_exists(path))
        return st;
    st = zb_file_read(&text, path, MAX_TEMPLATE, err);
    if (st == ZAMBA_OK && slot_fill(s, text.data != NULL ? text.data : "", text.n) != ZAMBA_OK)
        st = zb_fail_memory(err, path, text.n);
    zb_buf_free(&text);
    return st;
}

static zamba_status take_named(zamba_chat *c, const char *name, const json_t *source, const char *path,
                               zamba_error *err)
{
    if (name == NULL || !json_is_string(source))
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: an entry of chat_template is not a name with a template", path);
    c->own = 1;
    slot *s = strcmp(name, "default") == 0 ? &c->plain : strcmp(name, "tool_use") == 0 ? &c->tool_use : NULL;
    if (s != NULL && slot_fill(s, json_string_value(source), json_string_length(source)) != ZAMBA_OK)
        return zb_fail_memory(err, path, json_string_length(source));
    return ZAMBA_OK;
}

/* chat_template of tokenizer_config.json: a text, or templates by name, as a list or an object. */
static zamba_status take_config(zamba_chat *c, const json_t *config, const char *path, zamba_error *err)
{
    json_t *found = json_object_get(config, "chat_template");
    zamba_status st = ZAMBA_OK;
    if (json_is_string(found)) {
        st = take_named(c, "default", found, path, err);
    } else if (json_is_array(found)) {
        for (size_t i = 0; i < json_array_size(found) && st == ZAMBA_OK; i++) {
            const json_t *entry = json_array_get(found, i);
            st = take_named(c, json_string_value(json_object_get(entry, "name")), json_object_get(entry, "template"),
                            path, err);
        }
    } else if (json_is_object(found)) {
        for (void *it = json_object_iter(found); it != NULL && st == ZAMBA_OK; it = json_object_iter_next(found, it))
            st = take_named(c, json_object_iter_key(it), json_object_iter_value(it), path, err);
    } else if (found != NULL && !json_is_null(found)) {
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: chat_template is neither a text nor a list of templates", path);
    }
    return st;
}

static zamba_status read_config(zamba_chat *c, const char *folder, zamba_error *err)
{
    char path[4096];
    json_t *config = NULL;
    zamba_status st = zb_path_join(path, sizeof path, folder, "tokenizer_config.json", err);
    if (st != ZAMBA_OK || !zb_file_exists(path))
        return st;
    st = zb_json_read(&config, path, zb_json_large, err);
    if (st == ZAMBA_OK)
        st = take_config(c, config, path, err);
    json_decref(config);
    return st;
}

static zamba_status take_text(slot *s, const char *text, size_t n, const char *path, zamba_error *err)
{
    if (text == NULL)
        return ZAMBA_OK;
    if (n > MAX_TEMPLATE)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: a chat template of %zu bytes, at most %zu are read", path, n,
                       MAX_TEMPLATE);
    return slot_fill(s, text, n) == ZAMBA_OK ? ZAMBA_OK : zb_fail_memory(err, path, n);
}

/* The texts that a GGUF file carries in the place of a folder's files, else the key that other programs write. */
static zamba_status read_gguf(zamba_chat *c, const char *path, zamba_error *err)
{
    zb_gguf g;
    json_t *config = NULL;
    size_t n = 0;
    zamba_status st = zb_gguf_open(&g, path, err);
    if (st != ZAMBA_OK)
        return st;
    const char *text = zb_gguf_file(&g, "tokenizer_config.json", &n);
    if (text != NULL)
        st = zb_json_parse(&config, text, n, path, zb_json_large, err);
    if (st == ZAMBA_OK && text != NULL)
        st = take_config(c, config, path, err);
    text = zb_gguf_file(&g, "chat_template.jinja", &n);
    if (st == ZAMBA_OK)
        st = take_text(&c->plain, text, n, path, err);
    text = zb_gguf_file(&g, "additional_chat_templates/tool_use.jinja", &n);
    if (st == ZAMBA_OK)
        st = take_text(&c->tool_use, text, n, path, err);
    text = zb_gguf_text(zb_gguf_find(&g, "tokenizer.chat_template"), &n);
    if (st == ZAMBA_OK && !c->own && !c->plain.found && !c->tool_use.found)
        st = take_text(&c->plain, text, n, path, err);
    json_decref(config);
    zb_gguf_close(&g);
    return st;
}

zamba_status zb_chat_parse(zamba_chat **out, const char *source, size_t n, const zamba_tokenizer *t, zamba_error *err)
{
    *out = NULL;
    zamba_chat *c = calloc(1, sizeof *c);
    if (c == NULL)
        return zb_fail_memory(err, "chat template", sizeof *c);
    c->tokenizer = t;
    c->own = source != NULL;
    if (slot_fill(&c->plain, source != NULL ? source : built_in, source != NULL ? n : sizeof built_in - 1) !=
        ZAMBA_OK) {
        zamba_chat_close(c);
        return zb_fail_memory(err, "chat template", n);
    }
    *out = c;
    return ZAMBA_OK;
}

zamba_status zamba_chat_open(zamba_chat **out, const char *folder, const zamba_tokenizer *t, zamba_error *err)
{
    if (out == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "zamba_chat_open: no place for the result");
    *out = NULL;
    if (folder == NULL || t == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "zamba_chat_open: no %s", folder == NULL ? "folder" : "tokenizer");
    zamba_chat *c = calloc(1, sizeof *c);
    if (c == NULL)
        return zb_fail_memory(err, "chat template", sizeof *c);
    c->tokenizer = t;
    const int gguf = zb_gguf_is(folder);
    zamba_status st = gguf ? read_gguf(c, folder, err) : read_config(c, folder, err);
    if (st == ZAMBA_OK && !gguf)
        st = read_file(&c->plain, folder, "chat_template.jinja", err);
    if (st == ZAMBA_OK && !gguf)
        st = read_file(&c->tool_use, folder, "additional_chat_templates/tool_use.jinja", err);
    c->own |= c->plain.found | c->tool_use.found;
    if (st == ZAMBA_OK && !c->own && slot_fill(&c->plain, built_in, sizeof built_in - 1) != ZAMBA_OK)
        st = zb_fail_memory(err, "chat template", sizeof built_in);
    if (st == ZAMBA_OK)
        *out = c;
    else
        zamba_chat_close(c);
    return st;
}

void zamba_chat_close(zamba_chat *c)
{
    if (c == NULL)
        return;
    zb_jinja_free(c->plain.jinja);
    zb_jinja_free(c->tool_use.jinja);
    free(c);
}

int zamba_chat_has_template(const zamba_chat *c)
{
    return c != NULL && c->own;
}

/* ---- The request ---- */

static const char *type_name(const json_t *v)
{
    static const char *const names[] = {"an object", "an array", "a string", "an integer",
                                        "a real",    "true",     "false",    "null"};
    return v == NULL ? "nothing" : names[json_typeof(v)];
}

/* Reasoning goes under several names; as transformers does, templates find it under each that they may ask for. */
static int alias_reasoning(json_t *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    json_t *reasoning = NULL;
    for (size_t i = 0; i < 3 && (reasoning == NULL || json_is_null(reasoning)); i++)
        reasoning = json_object_get(message, names[i]);
    if (reasoning == NULL || json_is_null(reasoning))
        return 0;
    if (json_object_get(message, "thinking") == NULL && json_object_set(message, "thinking", reasoning) != 0)
        return -1;
    return json_object_set(message, "reasoning_content", reasoning);
}

/* Checks what the caller gave and adds the variables that a template always has. */
static zamba_status prepare(json_t *request, zamba_error *err)
{
    static const char *const always[] = {"tools", "documents"};
    int bad = 0;
    if (!json_is_object(request))
        return zb_fail(err, ZAMBA_E_ARG, "chat request: found %s, wanted an object with \"messages\"",
                       type_name(request));
    json_t *messages = json_object_get(request, "messages");
    if (!json_is_array(messages))
        return zb_fail(err, ZAMBA_E_ARG, "chat request: \"messages\" is %s, wanted an array", type_name(messages));
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i);
        if (!json_is_object(message))
            return zb_fail(err, ZAMBA_E_ARG, "chat request: messages[%zu] is %s, wanted an object", i,
                           type_name(message));
        bad |= alias_reasoning(message);
    }
    for (size_t i = 0; i < sizeof always / sizeof *always; i++) {
        const json_t *list = json_object_get(request, always[i]);
        if (list != NULL && !json_is_null(list) && !json_is_array(list))
            return zb_fail(err, ZAMBA_E_ARG, "chat request: \"%s\" is %s, wanted an array or null", always[i],
                           type_name(list));
        if (list == NULL)
            bad |= json_object_set_new(request, always[i], json_null());
    }
    if (json_object_get(request, "add_generation_prompt") == NULL)
        bad |= json_object_set_new(request, "add_generation_prompt", json_false());
    return bad == 0 ? ZAMBA_OK : zb_fail(err, ZAMBA_E_MEMORY, "chat request: no memory");
}

static zamba_status choose(const zamba_chat *c, const json_t *request, const slot **out, zamba_error *err)
{
    const int tools = !json_is_null(json_object_get(request, "tools"));
    const slot *s = tools && c->tool_use.found ? &c->tool_use : &c->plain;
    if (!s->found)
        return zb_fail(err, ZAMBA_E_ARG, "the checkpoint has chat templates, but none named \"default\"%s",
                       c->tool_use.found ? " (\"tool_use\" is used when the request has tools)" : "");
    if (s->jinja == NULL)
        return zb_fail(err, s->why.code, "%s", s->why.message);
    *out = s;
    return ZAMBA_OK;
}

static size_t special_vars(const zamba_tokenizer *t, zb_jinja_var *vars)
{
    static const char *const names[ZB_CHAT_VARS] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    size_t n = 0;
    for (size_t i = 0; i < ZB_CHAT_VARS && t != NULL; i++) {
        size_t len = 0;
        const char *text = zb_tokenizer_special(t, names[i], &len);
        if (text != NULL)
            vars[n++] = (zb_jinja_var){names[i], text, len};
    }
    return n;
}

/* Adds to the request what a template always has, so it is used up. */
static zamba_status render(const zamba_chat *c, json_t *request, char **text, size_t *n_text, int32_t **ids,
                           size_t *n_ids, zamba_error *err)
{
    zb_jinja_var vars[ZB_CHAT_VARS];
    zb_jinja_text out = {0};
    const slot *s = NULL;
    zamba_status st = prepare(request, err);
    if (st == ZAMBA_OK)
        st = choose(c, request, &s, err);
    if (st == ZAMBA_OK)
        st = zb_jinja_render(s->jinja, request, vars, special_vars(c->tokenizer, vars), &out, err);
    if (st == ZAMBA_OK && ids != NULL)
        st = zb_tokenize_trusted(c->tokenizer, out.text, out.n, out.trusted, ZAMBA_TOKENIZE_SPECIAL, ids, n_ids, err);
    if (st == ZAMBA_OK && text != NULL) {
        *text = out.text;
        out.text = NULL;
    }
    if (st == ZAMBA_OK && n_text != NULL)
        *n_text = out.n;
    zb_jinja_text_free(&out);
    return st;
}

static void clear(char **text, size_t *n_text, int32_t **ids, size_t *n_ids)
{
    if (text != NULL)
        *text = NULL;
    if (n_text != NULL)
        *n_text = 0;
    if (ids != NULL)
        *ids = NULL;
    if (n_ids != NULL)
        *n_ids = 0;
}

zamba_status zamba_chat_render_json(const zamba_chat *c, const char *json, size_t n_json, char **text, size_t *n_text,
                                    int32_t **ids, size_t *n_ids, zamba_error *err)
{
    json_t *request = NULL;
    clear(text, n_text, ids, n_ids);
    if (c == NULL || json == NULL || (ids != NULL && n_ids == NULL))
        return zb_fail(err, ZAMBA_E_ARG, "zamba_chat_render_json: no %s",
                       c == NULL      ? "chat template"
                       : json == NULL ? "request"
                                      : "place for the number of ids");
    zamba_status st = zb_json_parse(&request, json, n_json, "chat request", request_limits, err);
    if (st == ZAMBA_E_FORMAT) { /* the caller's text, not a file */
        st = ZAMBA_E_ARG;
        if (err != NULL)
            err->code = st;
    }
    if (st == ZAMBA_OK)
        st = render(c, request, text, n_text, ids, n_ids, err);
    json_decref(request);
    return st;
}

static int is_utf8(const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        const unsigned len = zb_utf8_length(text, left);
        if (len == 0)
            return 0;
        text += len;
        left -= len;
    }
    return 1;
}

/* The JSON form of the messages. */
static zamba_status build_request(json_t **out, const zamba_message *messages, size_t n, int add_generation_prompt,
                                  zamba_error *err)
{
    json_t *request = json_object(), *list = json_array();
    int bad = json_object_set_new(request, "add_generation_prompt", json_boolean(add_generation_prompt != 0));
    bad |= json_object_set(request, "messages", list);
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < n && bad == 0 && st == ZAMBA_OK; i++) {
        const char *parts[2] = {messages[i].role, messages[i].content};
        static const char *const names[2] = {"role", "content"};
        json_t *message = json_object();
        bad |= json_array_append(list, message);
        for (size_t k = 0; k < 2 && st == ZAMBA_OK; k++) {
            if (parts[k] == NULL)
                st = zb_fail(err, ZAMBA_E_ARG, "messages[%zu]: no %s", i, names[k]);
            else if (!is_utf8(parts[k]))
                st = zb_fail(err, ZAMBA_E_ARG, "messages[%zu]: %s is not UTF-8", i, names[k]);
            else
                bad |= json_object_set_new(message, names[k], json_string(parts[k]));
        }
        json_decref(message);
    }
    json_decref(list);
    if (st == ZAMBA_OK && bad != 0)
        st = zb_fail(err, ZAMBA_E_MEMORY, "messages: no memory for %zu of them", n);
    if (st == ZAMBA_OK)
        *out = request;
    else
        json_decref(request);
    return st;
}

zamba_status zamba_chat_render(const zamba_chat *c, const zamba_message *messages, size_t n_messages,
                               int add_generation_prompt, char **text, size_t *n_text, int32_t **ids, size_t *n_ids,
                               zamba_error *err)
{
    clear(text, n_text, ids, n_ids);
    if (c == NULL || (messages == NULL && n_messages > 0) || (ids != NULL && n_ids == NULL))
        return zb_fail(err, ZAMBA_E_ARG, "zamba_chat_render: no %s",
                       c == NULL          ? "chat template"
                       : messages == NULL ? "messages"
                                          : "place for the number of ids");
    json_t *request = NULL;
    zamba_status st = build_request(&request, messages, n_messages, add_generation_prompt, err);
    if (st == ZAMBA_OK)
        st = render(c, request, text, n_text, ids, n_ids, err);
    json_decref(request);
    return st;
}
