/* api_embeddings.c — texts as vectors, for OpenAI's and Ollama's requests: the final hidden rows of the prompt, their
 * mean or the last, at length 1 (but for Ollama's old /api/embeddings). */
#include "api_handlers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api_usage.h"

enum { OPENAI, OPENAI_BASE64, OLLAMA, OLLAMA_OLD };

static size_t hidden_size(const sv_run *run)
{
    zamba_model_info info = {.size = sizeof info};
    return zamba_model_info_get(run->ask.served->model, &info, NULL) == ZAMBA_OK ? (size_t)info.hidden_size : 0;
}

/* `run->echo` says which row: 0 the mean, 1 the last. */
static const float *row_of(const sv_run *run, const sv_choice *c, size_t n, double *scale)
{
    const float *row = c->last->hidden ? c->last->hidden + (run->echo ? n : 0) : NULL;
    double sum = 0;
    for (size_t i = 0; row && i < n; i++)
        sum += (double)row[i] * (double)row[i];
    *scale = sum > 0 && run->flavour != OLLAMA_OLD ? 1 / sqrt(sum) : 1;
    return row;
}

static json_t *numbers(const float *row, size_t n, double scale)
{
    json_t *list = json_array();
    for (size_t i = 0; row && i < n; i++)
        json_array_append_new(list, json_real((double)(float)((double)row[i] * scale)));
    return list;
}

/* f32 in little-endian order, as OpenAI's clients ask for unless told otherwise. */
static json_t *base64(const float *row, size_t n, double scale)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char *bytes = malloc(4 * n + 3);
    char *text = malloc((4 * n + 2) / 3 * 4 + 1);
    json_t *o = NULL;
    size_t k = 0;
    if (bytes && text && row) {
        for (size_t i = 0; i < n; i++) {
            const float x = (float)((double)row[i] * scale);
            uint32_t bits;
            memcpy(&bits, &x, 4);
            for (size_t b = 0; b < 4; b++)
                bytes[4 * i + b] = (unsigned char)(bits >> (8 * b));
        }
        bytes[4 * n] = bytes[4 * n + 1] = 0;
        for (size_t i = 0; i < 4 * n; i += 3) {
            const uint32_t v = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
            text[k++] = digits[v >> 18];
            text[k++] = digits[v >> 12 & 63];
            text[k++] = i + 1 < 4 * n ? digits[v >> 6 & 63] : '=';
            text[k++] = i + 2 < 4 * n ? digits[v & 63] : '=';
        }
        o = json_stringn(text, k);
    }
    free(bytes);
    free(text);
    return o;
}

static json_t *embeddings_whole(sv_run *run)
{
    const size_t n = hidden_size(run);
    const sv_usage u = sv_run_usage(run);
    json_t *list = json_array();
    for (size_t i = 0; i < run->n_choices; i++) {
        double scale;
        const float *row = row_of(run, run->choices + i, n, &scale);
        json_t *v = run->flavour == OPENAI_BASE64 ? base64(row, n, scale) : numbers(row, n, scale);
        if (run->flavour <= OPENAI_BASE64)
            v = json_pack("{s:s,s:i,s:o}", "object", "embedding", "index", (int)i, "embedding", v);
        json_array_append_new(list, v);
    }
    if (run->flavour <= OPENAI_BASE64)
        return json_pack("{s:s,s:o,s:s,s:{s:I,s:I,s:{s:I}}}", "object", "list", "data", list, "model",
                         run->ask.served->name, "usage", "prompt_tokens", (json_int_t)u.prompt, "total_tokens",
                         (json_int_t)u.prompt, "prompt_tokens_details", "cached_tokens", (json_int_t)u.cached);
    if (run->flavour == OLLAMA)
        return json_pack("{s:s,s:o,s:I,s:I,s:I}", "model", run->ask.served->name, "embeddings", list, "total_duration",
                         (json_int_t)(1e9 * (sv_api_now() - run->begun)), "load_duration",
                         (json_int_t)(1e9 * run->loaded), "prompt_eval_count", (json_int_t)u.prompt);
    json_t *o = json_pack("{s:O}", "embedding", json_array_get(list, 0));
    json_decref(list);
    return o;
}

static const sv_style style = {NULL, NULL, NULL, NULL, NULL, embeddings_whole};

static int fill(sv_run *run, const json_t *o, sv_bad *bad)
{
    sv_ask *a = &run->ask;
    const char *const input = run->flavour == OLLAMA_OLD ? "prompt" : "input";
    const json_t *v = sv_field_get(o, input);
    const int64_t n = (int64_t)hidden_size(run);
    if (sv_get_int(o, "dimensions", n) != n)
        return sv_refuse(bad, 400, "unsupported_value", "dimensions", "dimensions: %lld, wanted the model's %lld",
                         (long long)sv_get_int(o, "dimensions", n), (long long)n);
    a->request.sampler = zamba_sampler_defaults();
    a->request.top_logprobs = a->request.prompt_logprobs = -1;
    a->request.want_hidden = 1;
    run->echo = strcmp(sv_get_str(o, "pooling", "mean"), "last") == 0;
    if (!sv_prompts_read(&a->prompts, &a->n_prompts, a->served->model, v, 1, input, bad))
        return 0;
    for (size_t i = 0; i < a->n_prompts && run->flavour >= OLLAMA && sv_get_bool(o, "truncate", 1); i++)
        if (a->prompts[i].n > a->served->n_ctx)
            a->prompts[i].n = a->served->n_ctx;
    return 1;
}

static void answer(sv_exchange *r, void *app, const sv_field *fields, int flavour)
{
    json_t *o;
    const sv_served *served;
    sv_bad bad = {0};
    if (!sv_api_read(r, app, fields, &o, &served, &bad))
        return;
    if (flavour == OPENAI && strcmp(sv_get_str(o, "encoding_format", "float"), "base64") == 0)
        flavour = OPENAI_BASE64;
    const json_t *input = sv_field_get(o, flavour == OLLAMA_OLD ? "prompt" : "input");
    if (flavour == OLLAMA && (json_is_array(input) ? !json_array_size(input) : !json_string_length(input))) {
        sv_http_reply_json(r, 200, json_pack("{s:s,s:[]}", "model", served->name, "embeddings"));
        return;
    }
    if (flavour == OLLAMA_OLD && !json_string_length(input)) {
        sv_http_reply_json(r, 200, json_pack("{s:[]}", "embedding"));
        return;
    }
    sv_run_begin(r, app, &style, o, served, flavour, fill);
}

void sv_openai_embeddings(sv_exchange *r, void *app)
{
    answer(r, app, sv_fields_embedding, OPENAI);
}

void sv_ollama_embed(sv_exchange *r, void *app)
{
    answer(r, app, sv_fields_ollama_embed, OLLAMA);
}

void sv_ollama_embeddings(sv_exchange *r, void *app)
{
    answer(r, app, sv_fields_ollama_embeddings, OLLAMA_OLD);
}
