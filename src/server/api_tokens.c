/* api_tokens.c — /tokenize, /detokenize, /apply-template, /tokenizer_info, as vLLM and llama-server have them. */
#include "api_handlers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG = 8 << 20 };

static json_t *ids_json(const int32_t *ids, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return list;
}

/* A conversation of /tokenize or /apply-template. */
static int render(const sv_served *s, const json_t *o, sv_prompt *out, char **text, size_t *n_text, sv_bad *bad)
{
    json_t *request =
        sv_chat_request(sv_field_get(o, "messages"), sv_field_get(o, "tools"),
                        sv_get_bool(o, "add_generation_prompt", 1), sv_field_get(o, "chat_template_kwargs"), bad);
    const int ok = request && sv_chat_render(s->model, request, out, text, n_text, 0, bad);
    json_decref(request);
    return ok;
}

static int tokenize(const sv_served *s, const json_t *o, sv_prompt *p, sv_bad *bad)
{
    const json_t *prompt = sv_field_get(o, "prompt"), *content = sv_field_get(o, "content");
    const json_t *messages = sv_field_get(o, "messages"), *text = prompt ? prompt : content;
    const zamba_tokenizer *t = zamba_model_tokenizer(s->model);
    if (!!prompt + !!content + !!messages != 1)
        return sv_refuse(bad, 400, text || messages ? "invalid_value" : "missing_required_parameter", "prompt",
                         "prompt: wanted one of prompt, content, messages");
    if (messages)
        return render(s, o, p, NULL, NULL, bad);
    if (!t)
        return sv_refuse(bad, 400, "unsupported", "prompt", "prompt: the model has no tokenizer");
    const int bos = sv_get_bool(o, "add_special_tokens", sv_get_bool(o, "add_special", prompt != NULL));
    const unsigned flags =
        (bos ? ZAMBA_TOKENIZE_BOS : 0u) | (sv_get_bool(o, "parse_special", 0) ? (unsigned)ZAMBA_TOKENIZE_SPECIAL : 0u);
    zamba_error err = {0};
    const zamba_status st =
        zamba_tokenize(t, json_string_value(text), json_string_length(text), flags, &p->ids, &p->n, &err);
    return st == ZAMBA_OK ? 1 : sv_refuse_error(bad, st, prompt ? "prompt" : "content", err.message);
}

static void tokenize_held(sv_exchange *r, const sv_app *app, const sv_served *s, json_t *o)
{
    sv_bad bad = {0};
    sv_prompt p = {0};
    (void)app;
    if (!tokenize(s, o, &p, &bad)) {
        sv_api_refuse(r, &bad);
        zamba_free(p.ids);
        return;
    }
    json_t *reply = json_pack("{s:I,s:I}", "count", (json_int_t)p.n, "max_model_len", (json_int_t)s->n_ctx);
    if (sv_get_bool(o, "with_pieces", 0)) {
        json_t *list = json_array();
        for (size_t i = 0; i < p.n; i++)
            json_array_append_new(list,
                                  json_pack("{s:i,s:o}", "id", p.ids[i], "piece", sv_token_text(s->model, p.ids[i])));
        json_object_set_new(reply, "tokens", list);
    } else {
        json_object_set_new(reply, "tokens", ids_json(p.ids, p.n));
    }
    json_t *pieces = json_null();
    if (sv_get_bool(o, "return_token_strs", 0)) {
        pieces = json_array();
        for (size_t i = 0; i < p.n; i++) {
            size_t n = 0;
            const char *piece = zamba_tokenizer_piece(zamba_model_tokenizer(s->model), p.ids[i], &n);
            json_array_append_new(pieces, sv_json_text(piece, piece ? n : 0));
        }
    }
    json_object_set_new(reply, "token_strs", pieces);
    sv_http_reply_json(r, 200, reply);
    zamba_free(p.ids);
}

static void detokenize_held(sv_exchange *r, const sv_app *app, const sv_served *s, json_t *o)
{
    sv_bad bad = {0};
    (void)app;
    const zamba_tokenizer *t = zamba_model_tokenizer(s->model);
    const json_t *tokens = json_object_get(o, "tokens");
    const size_t n = json_array_size(tokens);
    int32_t *ids = malloc(n * sizeof *ids + 1);
    char *text = NULL;
    size_t n_text = 0;
    if (!t)
        sv_refuse(&bad, 400, "unsupported", "tokens", "tokens: the model has no tokenizer");
    if (!ids)
        sv_refuse(&bad, 503, "unavailable", NULL, "no memory for the request");
    for (size_t i = 0; ids && i < n; i++) {
        ids[i] = (int32_t)json_number_value(json_array_get(tokens, i));
        if (t && ids[i] >= zamba_tokenizer_n_vocab(t))
            sv_refuse(&bad, 400, "invalid_value", "tokens", "tokens[%zu]: found %d, wanted 0 to %d", i, ids[i],
                      zamba_tokenizer_n_vocab(t) - 1);
    }
    zamba_error err = {0};
    const unsigned flags = sv_get_bool(o, "skip_special_tokens", 0) ? 0 : ZAMBA_DETOKENIZE_SPECIAL;
    if (!bad.status && zamba_detokenize(t, ids, n, flags, &text, &n_text, &err) != ZAMBA_OK)
        sv_refuse_error(&bad, err.code, "tokens", err.message);
    if (bad.status)
        sv_api_refuse(r, &bad);
    else
        sv_http_reply_json(
            r, 200,
            json_pack("{s:o,s:o}", "prompt", sv_json_text(text, n_text), "content", sv_json_text(text, n_text)));
    zamba_free(text);
    free(ids);
}

static void template_held(sv_exchange *r, const sv_app *app, const sv_served *s, json_t *o)
{
    sv_bad bad = {0};
    char *text = NULL;
    size_t n = 0;
    (void)app;
    if (render(s, o, NULL, &text, &n, &bad))
        sv_http_reply_json(r, 200, json_pack("{s:o}", "prompt", sv_json_text(text, n)));
    else
        sv_api_refuse(r, &bad);
    zamba_free(text);
}

static void read_and_hold(sv_exchange *r, const sv_app *app, const sv_field *fields, sv_then then)
{
    json_t *o;
    const sv_served *s;
    sv_bad bad = {0};
    if (sv_api_read(r, app, fields, &o, &s, &bad))
        sv_api_hold(r, app, s, o, then);
}

void sv_tokenize(sv_exchange *r, void *app)
{
    read_and_hold(r, app, sv_fields_tokenize, tokenize_held);
}

void sv_detokenize(sv_exchange *r, void *app)
{
    read_and_hold(r, app, sv_fields_detokenize, detokenize_held);
}

void sv_apply_template(sv_exchange *r, void *app)
{
    read_and_hold(r, app, sv_fields_template, template_held);
}

/* ---- /tokenizer_info ---- */

/* A file beside the weights; NULL: not there, or no text of a sane size. Released with free. */
static char *beside(const char *folder, const char *name, size_t *n)
{
    char path[4096];
    if (!folder || (size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return NULL;
    FILE *f = fopen(path, "rb");
    char *text = f ? malloc(MAX_CONFIG) : NULL;
    *n = text ? fread(text, 1, MAX_CONFIG, f) : 0;
    if (f)
        fclose(f);
    if (*n > 0 && *n < MAX_CONFIG)
        return text;
    free(text);
    return NULL;
}

static void set_token(json_t *o, const char *name, const zamba_tokenizer *t, int32_t id)
{
    size_t n = 0;
    const char *piece = t && id >= 0 ? zamba_tokenizer_piece(t, id, &n) : NULL;
    if (!json_object_get(o, name))
        json_object_set_new(o, name, piece ? sv_json_text(piece, n) : json_null());
}

static void info_held(sv_exchange *r, const sv_app *app, const sv_served *s, json_t *body)
{
    (void)app;
    (void)body;
    zamba_model_info info = {.size = sizeof info};
    zamba_model_info_get(s->model, &info, NULL);
    const zamba_tokenizer *t = zamba_model_tokenizer(s->model);
    size_t n = 0;
    char *text = beside(info.path, "tokenizer_config.json", &n);
    json_t *o = text ? json_loadb(text, n, JSON_ALLOW_NUL, NULL) : NULL;
    free(text);
    if (!json_is_object(o)) {
        json_decref(o);
        o = json_object();
    }
    text = beside(info.path, "chat_template.jinja", &n);
    if (text)
        json_object_set_new(o, "chat_template", sv_json_text(text, n));
    free(text);
    if (!json_is_string(json_object_get(o, "tokenizer_class")))
        json_object_set_new(o, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    set_token(o, "bos_token", t, t ? zamba_tokenizer_bos(t) : -1);
    set_token(o, "eos_token", t, t ? zamba_tokenizer_eos(t) : -1);
    set_token(o, "pad_token", t, info.pad_id);
    json_object_set_new(o, "bos_token_id",
                        t && zamba_tokenizer_bos(t) >= 0 ? json_integer(zamba_tokenizer_bos(t)) : json_null());
    json_object_set_new(o, "eos_token_id",
                        t && zamba_tokenizer_eos(t) >= 0 ? json_integer(zamba_tokenizer_eos(t)) : json_null());
    json_object_set_new(o, "vocab_size", json_integer(info.vocab_size));
    json_object_set_new(o, "max_model_len", json_integer((json_int_t)s->n_ctx));
    sv_http_reply_json(r, 200, o);
}

void sv_tokenizer_info(sv_exchange *r, void *app)
{
    sv_api_hold_named(r, app, info_held);
}
