/* api_models.c — which models are served and what they are, in OpenAI's and Ollama's words. */
#include "api_handlers.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

/* ---- OpenAI ---- */

/* What the model itself says is there once it was loaded. */
static json_t *model_json(const sv_facts *f)
{
    const sv_served *s = f->served;
    json_t *o = json_pack("{s:s,s:s,s:I,s:s,s:b}", "id", s->name, "object", "model", "created", (json_int_t)s->created,
                          "owned_by", "zamba", "loaded", f->loaded);
    if (f->known) {
        json_object_set_new(o, "max_model_len", json_integer((json_int_t)f->n_ctx));
        json_object_set_new(o, "meta",
                            json_pack("{s:i,s:I,s:i,s:I,s:I}", "n_vocab", f->info.vocab_size, "n_ctx_train",
                                      (json_int_t)f->info.max_positions, "n_embd", f->info.hidden_size, "n_params",
                                      (json_int_t)f->info.n_params, "size", (json_int_t)f->info.weight_bytes));
    }
    return o;
}

void sv_openai_models(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    json_t *list = json_array();
    for (size_t i = 0; i < sv_models_n(app->models); i++) {
        sv_facts f;
        sv_models_facts(app->models, i, &f);
        json_array_append_new(list, model_json(&f));
    }
    sv_http_reply_json(r, 200, json_pack("{s:s,s:o}", "object", "list", "data", list));
}

void sv_openai_model(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    sv_bad bad = {0};
    const char *id = sv_http_arg(r);
    const sv_served *s = *id ? sv_api_model(app, id, "model", &bad) : NULL;
    for (size_t i = 0; s && i < sv_models_n(app->models); i++)
        if (sv_models_at(app->models, i) == s) {
            sv_facts f;
            sv_models_facts(app->models, i, &f);
            sv_http_reply_json(r, 200, model_json(&f));
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

/* Zero for a model that was not loaded yet. */
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
    if (n == 0)
        snprintf(size, sizeof size, "%s", "");
    else if (n >= 1e9)
        snprintf(size, sizeof size, "%.1fB", n / 1e9);
    else
        snprintf(size, sizeof size, "%.1fM", n / 1e6);
    return json_pack("{s:s,s:s,s:s,s:[s],s:s,s:s}", "parent_model", "", "format", "zamba", "family", info->family,
                     "families", info->family, "parameter_size", size, "quantization_level", info->dtype);
}

static json_t *entry(const sv_facts *f, uint64_t size)
{
    return json_pack("{s:s,s:s,s:I,s:o,s:o}", "name", f->served->name, "model", f->served->name, "size",
                     (json_int_t)size, "digest", digest(&f->info), "details", details(&f->info));
}

void sv_ollama_tags(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    json_t *list = json_array();
    for (size_t i = 0; i < sv_models_n(app->models); i++) {
        sv_facts f;
        sv_models_facts(app->models, i, &f);
        json_t *o = entry(&f, f.known ? f.info.weight_bytes : f.served->bytes);
        json_object_set_new(o, "modified_at", sv_ollama_time(f.served->created, 0));
        json_array_append_new(list, o);
    }
    sv_http_reply_json(r, 200, json_pack("{s:o}", "models", list));
}

void sv_ollama_ps(sv_exchange *r, void *user)
{
    const int64_t never = 253402300799; /* the end of the year 9999 */
    const sv_app *app = user;
    json_t *list = json_array();
    for (size_t i = 0; i < sv_models_n(app->models); i++) {
        sv_facts f;
        sv_models_facts(app->models, i, &f);
        if (!f.loaded)
            continue;
        json_t *o = entry(&f, f.taken);
        json_object_set_new(o, "size_vram", json_integer(0));
        json_object_set_new(o, "context_length", json_integer((json_int_t)f.n_ctx));
        json_object_set_new(o, "expires_at", sv_ollama_time(f.expires < never ? f.expires : never, 0));
        json_array_append_new(list, o);
    }
    sv_http_reply_json(r, 200, json_pack("{s:o}", "models", list));
}

static void show_held(sv_exchange *r, const sv_app *app, const sv_served *s, json_t *body)
{
    zamba_model_info info = {.size = sizeof info};
    (void)app;
    (void)body;
    zamba_model_info_get(s->model, &info, NULL);
    json_t *more =
        json_pack("{s:s,s:I,s:i,s:I,s:i,s:i,s:i,s:i}", "general.architecture", info.family, "general.parameter_count",
                  (json_int_t)info.n_params, "zamba.block_count", info.n_layers, "zamba.context_length",
                  (json_int_t)s->n_ctx, "zamba.embedding_length", info.hidden_size, "zamba.attention.head_count",
                  info.n_heads, "zamba.hybrid_count", info.n_hybrid, "zamba.vocab_size", info.vocab_size);
    json_t *can = json_pack("[s,s]", "completion", "embedding");
    if (zamba_model_chat(s->model) && sv_tools_probe(s->model) != SV_TOOLS_NONE)
        json_array_append_new(can, json_string("tools"));
    sv_http_reply_json(r, 200,
                       json_pack("{s:s,s:s,s:s,s:s,s:o,s:o,s:o,s:o}", "license", "", "modelfile", "", "parameters", "",
                                 "template", "", "details", details(&info), "model_info", more, "capabilities", can,
                                 "modified_at", sv_ollama_time(s->created, 0)));
}

/* Loads it: what a model is it says itself. */
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
    if (s)
        sv_api_hold(r, app, s, o, show_held);
    else
        sv_api_refuse(r, &bad);
}

void sv_ollama_version(sv_exchange *r, void *user)
{
    (void)user;
    sv_http_reply_json(r, 200, json_pack("{s:s}", "version", zamba_version()));
}
