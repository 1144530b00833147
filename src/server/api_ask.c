/* api_ask.c — from checked JSON to what the engine is asked; see api_ask.h. */
#define _GNU_SOURCE
#include "api_ask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void sv_ask_free(sv_ask *a)
{
    sv_prompts_free(a->prompts, a->n_prompts);
    free(a->stop);
    free(a->bias);
    free(a->constraint_text);
    sv_shared_grammar_unref(a->grammar);
    *a = (sv_ask){0};
}

static int no_memory(sv_bad *bad)
{
    return sv_refuse(bad, 503, "unavailable", NULL, "no memory for the request");
}

static uint64_t random_seed(void)
{
    uint64_t seed = 0;
    while (getrandom(&seed, sizeof seed, 0) < 0 && errno == EINTR)
        ;
    return seed;
}

/* ---- Parts that several APIs have ---- */

static int read_stop(sv_ask *a, const json_t *v, const char *field, sv_bad *bad)
{
    const size_t n = json_is_string(v) ? 1 : json_array_size(v);
    a->stop = calloc(n ? n : 1, sizeof *a->stop);
    if (!a->stop)
        return no_memory(bad);
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_is_string(v) ? v : json_array_get(v, i));
        if (strlen(text) > 4096)
            return sv_refuse(bad, 400, "string_above_max_length", field, "%s: a string of %zu bytes, wanted up to 4096",
                             field, strlen(text));
        if (*text) /* an empty one stops nothing, with the originals too */
            a->stop[a->request.n_stop++] = text;
    }
    a->request.stop = a->stop;
    return 1;
}

static int read_bias(sv_ask *a, const json_t *v, sv_bad *bad)
{
    const size_t n = json_object_size(v);
    zamba_model_info info = {.size = sizeof info};
    zamba_model_info_get(a->served->model, &info, NULL);
    a->bias = calloc(n ? n : 1, sizeof *a->bias);
    if (!a->bias)
        return no_memory(bad);
    size_t k = 0;
    for (void *it = json_object_iter((json_t *)v); it; it = json_object_iter_next((json_t *)v, it)) {
        const long id = strtol(json_object_iter_key(it), NULL, 10);
        const float bias = (float)json_number_value(json_object_iter_value(it));
        if (id >= info.vocab_size)
            return sv_refuse(bad, 400, "invalid_value", "logit_bias", "logit_bias: token id %ld, wanted 0 to %d", id,
                             info.vocab_size - 1);
        a->bias[k++] = (zamba_logit_bias){(int32_t)id, bias};
    }
    a->request.sampler.logit_bias = a->bias;
    a->request.sampler.n_logit_bias = n;
    return 1;
}

/* The engine wants masses above zero; zero means only the best, in every API. */
static float mass(double x)
{
    return x < 1e-6 ? 1e-6f : (float)x;
}

static void read_sampling(sv_ask *a, const json_t *o)
{
    zamba_sampler_options *s = &a->request.sampler;
    s->temperature = (float)sv_get_num(o, "temperature", (double)s->temperature);
    s->top_p = mass(sv_get_num(o, "top_p", (double)s->top_p));
    s->min_p = (float)sv_get_num(o, "min_p", (double)s->min_p);
    s->typical_p = mass(sv_get_num(o, "typical_p", (double)s->typical_p));
    s->top_k = (int32_t)sv_get_int(o, "top_k", s->top_k);
    if (s->top_k < 0)
        s->top_k = 0;
    s->repeat_penalty = (float)sv_get_num(o, "repetition_penalty", (double)s->repeat_penalty);
    s->repeat_penalty = (float)sv_get_num(o, "repeat_penalty", (double)s->repeat_penalty);
    s->presence_penalty = (float)sv_get_num(o, "presence_penalty", (double)s->presence_penalty);
    s->frequency_penalty = (float)sv_get_num(o, "frequency_penalty", (double)s->frequency_penalty);
    s->repeat_last_n = (int32_t)sv_get_int(o, "repeat_last_n", s->repeat_last_n);
}

static int constrain(sv_ask *a, sv_constraint_kind kind, const json_t *v, const char *field, sv_bad *bad)
{
    if (!v && kind != SV_JSON)
        return 1;
    if (json_is_string(v) && !json_string_length(v))
        return 1;
    if (a->constraint != SV_FREE)
        return sv_refuse(bad, 400, "invalid_value", field, "%s: beside %s, wanted one of them", field,
                         a->constraint_field);
    a->constraint = kind;
    a->constraint_field = field;
    a->constraint_text = json_is_string(v) ? strdup(json_string_value(v))
                         : v               ? json_dumps(v, JSON_COMPACT)
                                           : strdup("");
    return a->constraint_text ? 1 : no_memory(bad);
}

static int read_response_format(sv_ask *a, const json_t *format, sv_bad *bad)
{
    const char *type = sv_get_str(format, "type", "text");
    const json_t *schema = sv_field_get(format, "schema");
    const char *field = "response_format.schema";
    if (strcmp(type, "json_schema") == 0 && !schema) {
        schema = sv_field_get(sv_field_get(format, "json_schema"), "schema");
        field = "response_format.json_schema";
        if (!schema)
            return sv_refuse(bad, 400, "missing_required_parameter", field, "%s: missing", field);
    }
    if (strcmp(type, "json_schema") == 0 || (strcmp(type, "json_object") == 0 && schema))
        return constrain(a, SV_SCHEMA, schema, field, bad);
    if (strcmp(type, "json_object") == 0)
        return constrain(a, SV_JSON, NULL, "response_format", bad);
    if (strcmp(type, "grammar") == 0 || strcmp(type, "regex") == 0) {
        const int regex = *type == 'r';
        field = regex ? "response_format.pattern" : "response_format.grammar";
        const json_t *v = sv_field_get(format, regex ? "pattern" : "grammar");
        if (!v)
            return sv_refuse(bad, 400, "missing_required_parameter", field, "%s: missing", field);
        return constrain(a, regex ? SV_REGEX : SV_GBNF, v, field, bad);
    }
    return 1;
}

static int read_constraints(sv_ask *a, const json_t *o, sv_bad *bad)
{
    static const struct {
        const char *name;
        sv_constraint_kind kind;
    } fields[] = {{"grammar", SV_GBNF},       {"guided_grammar", SV_GBNF}, {"regex", SV_REGEX},
                  {"guided_regex", SV_REGEX}, {"json_schema", SV_SCHEMA},  {"guided_json", SV_SCHEMA}};
    int ok = read_response_format(a, sv_field_get(o, "response_format"), bad);
    for (size_t i = 0; ok && i < sizeof fields / sizeof *fields; i++)
        ok = constrain(a, fields[i].kind, sv_field_get(o, fields[i].name), fields[i].name, bad);
    return ok;
}

/* ---- The APIs ---- */

int sv_ask_openai(sv_ask *a, const json_t *o, sv_bad *bad)
{
    zamba_sampler_options *s = &a->request.sampler;
    *s = zamba_sampler_defaults();
    s->temperature = 1; /* OpenAI's defaults: the model's own distribution */
    s->top_k = 0;
    s->top_p = 1;
    s->min_p = 0;
    s->repeat_last_n = -1;
    read_sampling(a, o);
    a->n = (size_t)sv_get_int(o, "n", 1);
    a->seed = sv_field_get(o, "seed") ? (uint64_t)sv_get_int(o, "seed", 0) : random_seed();
    a->stream = sv_get_bool(o, "stream", 0);
    a->include_usage = sv_get_bool(sv_field_get(o, "stream_options"), "include_usage", 0);
    a->progress = sv_get_bool(o, "return_progress", 0);
    a->request.ignore_eos = sv_get_bool(o, "ignore_eos", 0);
    a->request.seconds = sv_get_num(o, "timeout_s", 0);
    a->request.state_id = sv_get_str(o, "state", NULL);
    a->request.keep_state = sv_get_bool(o, "keep_state", 0);
    a->request.top_logprobs = a->request.prompt_logprobs = -1;
    if (sv_field_get(o, "stream_options") && !a->stream)
        return sv_refuse(bad, 400, "invalid_value", "stream_options", "stream_options: without stream");
    return read_stop(a, sv_field_get(o, "stop"), "stop", bad) && read_bias(a, sv_field_get(o, "logit_bias"), bad) &&
           read_constraints(a, o, bad) && sv_ask_compile(a, bad);
}

int sv_ask_ollama(sv_ask *a, const json_t *o, sv_bad *bad)
{
    const json_t *options = sv_field_get(o, "options"), *format = sv_field_get(o, "format");
    zamba_sampler_options *s = &a->request.sampler;
    *s = zamba_sampler_defaults();
    s->temperature = 0.8f; /* Ollama's defaults */
    s->top_k = 40;
    s->top_p = 0.9f;
    s->min_p = 0;
    s->repeat_penalty = 1.1f;
    s->repeat_last_n = 64;
    read_sampling(a, options);
    const int64_t seed = sv_get_int(options, "seed", -1);
    a->n = 1;
    a->seed = seed == -1 ? random_seed() : (uint64_t)seed;
    a->stream = sv_get_bool(o, "stream", 1);
    const int64_t most = sv_get_int(options, "num_predict", -1);
    a->request.max_tokens = most < 0 ? -1 : (int32_t)most;
    a->request.top_logprobs = sv_get_bool(o, "logprobs", 0) ? (int32_t)sv_get_int(o, "top_logprobs", 0) : -1;
    a->request.prompt_logprobs = -1;
    if (format && !constrain(a, json_is_string(format) ? SV_JSON : SV_SCHEMA, json_is_string(format) ? NULL : format,
                             "format", bad))
        return 0;
    if (json_is_string(format) && !json_string_length(format))
        a->constraint = SV_FREE;
    return read_stop(a, sv_field_get(options, "stop"), "options.stop", bad) && sv_ask_compile(a, bad);
}

/* The answer has to be a call: of the function that `choice` names, or of any. */
static int constrain_to_calls(sv_ask *a, const json_t *choice, const json_t *tools, sv_bad *bad)
{
    const char *wanted = json_string_value(json_object_get(json_object_get(choice, "function"), "name"));
    const int tagged = a->tools == SV_TOOLS_TAGGED;
    if (!tagged && a->tools != SV_TOOLS_BARE)
        return sv_refuse(bad, 400, "unsupported_value", "tool_choice",
                         "tool_choice: how the chat template of \"%s\" writes calls is not known here, wanted none or "
                         "auto",
                         a->served->name);
    json_t *functions = json_array();
    for (size_t i = 0; i < json_array_size(tools); i++) {
        json_t *f = json_object_get(json_array_get(tools, i), "function");
        const char *name = json_string_value(json_object_get(f, "name"));
        if (!wanted || (name && strcmp(name, wanted) == 0))
            json_array_append(functions, f);
    }
    const size_t n = json_array_size(functions);
    json_t *calls = json_pack("{s:s,s:s,s:b,s:o}", "begin", tagged ? "<tool_call>\n" : "", "end",
                              tagged ? "\n</tool_call>" : "", "many", tagged && !wanted, "tools", functions);
    const int ok = n ? constrain(a, SV_CALLS, calls, "tool_choice", bad)
                     : sv_refuse(bad, 400, "invalid_value", "tool_choice", "tool_choice: no tool is called \"%.100s\"",
                                 wanted ? wanted : "");
    json_decref(calls);
    return ok && sv_ask_compile(a, bad);
}

int sv_ask_chat(sv_ask *a, const json_t *o, const json_t *messages, const json_t *tools, sv_bad *bad)
{
    const json_t *choice = sv_field_get(o, "tool_choice");
    if (json_is_string(choice) && strcmp(json_string_value(choice), "none") == 0)
        tools = NULL;
    if (json_array_size(tools)) {
        a->tools = sv_tools_probe(a->served->model);
        if (a->tools == SV_TOOLS_NONE)
            return sv_refuse(bad, 400, "unsupported_parameter", "tools",
                             "tools: the chat template of \"%s\" has no place for tools", a->served->name);
    }
    if (json_is_object(choice) || (json_is_string(choice) && strcmp(json_string_value(choice), "required") == 0)) {
        if (!json_array_size(tools))
            return sv_refuse(bad, 400, "invalid_value", "tool_choice", "tool_choice: a call is wanted, without tools");
        if (!constrain_to_calls(a, choice, tools, bad))
            return 0;
    }
    json_t *request = sv_chat_request(messages, tools, 1, sv_field_get(o, "chat_template_kwargs"), bad);
    a->prompts = calloc(1, sizeof *a->prompts);
    a->n_prompts = a->prompts ? 1 : 0;
    const int ok = a->prompts ? request && sv_chat_render(a->served->model, request, a->prompts, NULL, NULL, 1, bad)
                              : no_memory(bad);
    json_decref(request);
    return ok;
}
