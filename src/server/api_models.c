/* api_models.c — which models are served and what they are, in OpenAI's and Ollama's words. */
#include "api_handlers.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static zamba_model_info info_of(const sv_served *s)
{
    zamba_model_info info = {.size = sizeof info};
    zamba_model_info_get(s->model, &info, NULL);
    return info;
}

static int64_t context_of(const sv_app *app, const zamba_model_info *info)
{
    return app->n_ctx ? (int64_t)app->n_ctx : info->max_positions;
}

/* ---- OpenAI ---- */

static json_t *model_json(const sv_app *app, const sv_served *s)
{
    const zamba_model_info info = info_of(s);
    return json_pack("{s:s,s:s,s:I,s:s,s:I,s:{s:i,s:I,s:i,s:I,s:I}}", "id", s->name, "object", "model", "created",
                     (json_int_t)s->created, "owned_by", "zamba", "max_model_len", (json_int_t)context_of(app, &info),
                     "meta", "n_vocab", info.vocab_size, "n_ctx_train", (json_int_t)info.max_positions, "n_embd",
                     info.hidden_size, "n_params", (json_int_t)info.n_params, "size", (json_int_t)info.weight_bytes);
}

void sv_openai_models(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    json_t *list = json_array();
    for (size_t i = 0; i < app->n_models; i++)
        json_array_append_new(list, model_json(app, app->models + i));
    sv_http_reply_json(r, 200, json_pack("{s:s,s:o}", "object", "list", "data", list));
}

void sv_openai_model(sv_exchange *r, void *user)
{
    sv_bad bad = {0};
    const char *id = sv_http_arg(r);
    const sv_served *s = *id ? sv_api_model(user, id, "model", &bad) : NULL;
    if (s) {
        sv_http_reply_json(r, 200, model_json(user, s));
        return;
    }
    sv_refuse(&bad, 404, "model_not_found", "model", "model: no name");
    sv_api_refuse(r, &bad);
}

/* ---- Ollama ---- */

json_t *sv_ollama_time(int64_t seconds, long nanoseconds)
{
    char text[64];
    const time_t t = (time_t)seconds;
    struct tm tm;
    if (!gmtime_r(&t, &tm))
        return json_string("1970-01-01T00:00:00Z");
    snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
             tm.tm_hour, tm.tm_min, tm.tm_sec, nanoseconds / 1000);
    return json_string(text);
}

static json_t *digest(const zamba_model_info *info)
{
    char text[72];
    snprintf(text, sizeof text, "%064" PRIx64, info->fingerprint);
    return json_string(text);
}

static json_t *details(const zamba_model_info *info)
{
    char size[32];
    const double n = (double)info->n_params;
    if (n >= 1e9)
        snprintf(size, sizeof size, "%.1fB", n / 1e9);
    else
        snprintf(size, sizeof size, "%.1fM", n / 1e6);
    return json_pack("{s:s,s:s,s:s,s:[s],s:s,s:s}", "parent_model", "", "format", "zamba", "family", info->family,
                     "families", info->family, "parameter_size", size, "quantization_level", info->dtype);
}

static json_t *entry(const sv_served *s)
{
    const zamba_model_info info = info_of(s);
    return json_pack("{s:s,s:s,s:I,s:o,s:o}", "name", s->name, "model", s->name, "size", (json_int_t)info.weight_bytes,
                     "digest", digest(&info), "details", details(&info));
}

void sv_ollama_tags(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    json_t *list = json_array();
    for (size_t i = 0; i < app->n_models; i++) {
        json_t *o = entry(app->models + i);
        json_object_set_new(o, "modified_at", sv_ollama_time(app->models[i].created, 0));
        json_array_append_new(list, o);
    }
    sv_http_reply_json(r, 200, json_pack("{s:o}", "models", list));
}

void sv_ollama_ps(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    json_t *list = json_array();
    for (size_t i = 0; i < app->n_models; i++) {
        const zamba_model_info info = info_of(app->models + i);
        json_t *o = entry(app->models + i);
        json_object_set_new(o, "size_vram", json_integer(0));
        json_object_set_new(o, "context_length", json_integer(context_of(app, &info)));
        json_object_set_new(o, "expires_at", sv_ollama_time((int64_t)253402300799, 0)); /* models stay */
        json_array_append_new(list, o);
    }
    sv_http_reply_json(r, 200, json_pack("{s:o}", "models", list));
}

void sv_ollama_show(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    json_t *o = sv_http_json(r);
    sv_bad bad = {0};
    const sv_served *s = NULL;
    if (sv_fields_check(o, sv_fields_ollama_show, &bad)) {
        const char *name = sv_get_str(o, "model", sv_get_str(o, "name", NULL));
        if (name)
            s = sv_api_model(app, name, "model", &bad);
        else
            sv_refuse(&bad, 400, "missing_required_parameter", "model", "model: missing");
    }
    if (!s) {
        sv_api_refuse(r, &bad);
        return;
    }
    const zamba_model_info info = info_of(s);
    json_t *more = json_pack("{s:s,s:I,s:i,s:I,s:i,s:i,s:i,s:i}", "general.architecture", info.family,
                             "general.parameter_count", (json_int_t)info.n_params, "zamba.block_count", info.n_layers,
                             "zamba.context_length", (json_int_t)context_of(app, &info), "zamba.embedding_length",
                             info.hidden_size, "zamba.attention.head_count", info.n_heads, "zamba.hybrid_count",
                             info.n_hybrid, "zamba.vocab_size", info.vocab_size);
    json_t *can = json_pack("[s,s]", "completion", "embedding");
    if (zamba_model_chat(s->model) && sv_tools_probe(s->model) != SV_TOOLS_NONE)
        json_array_append_new(can, json_string("tools"));
    sv_http_reply_json(r, 200,
                       json_pack("{s:s,s:s,s:s,s:s,s:o,s:o,s:o,s:o}", "license", "", "modelfile", "", "parameters", "",
                                 "template", "", "details", details(&info), "model_info", more, "capabilities", can,
                                 "modified_at", sv_ollama_time(s->created, 0)));
}

void sv_ollama_version(sv_exchange *r, void *user)
{
    (void)user;
    sv_http_reply_json(r, 200, json_pack("{s:s}", "version", zamba_version()));
}
