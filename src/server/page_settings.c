/* page_settings.c — the settings of chats and answers: fields of /v1/chat/completions, checked by its table. */
#include <string.h>

#include "page_impl.h"

static const char *const names[] = {
    "temperature",       "top_p",          "top_k",         "min_p",
    "typical_p",         "repeat_penalty", "repeat_last_n", "presence_penalty",
    "frequency_penalty", "seed",           "max_tokens",    "stop",
    "logprobs",          "top_logprobs",   "ignore_eos",    "response_format",
    "grammar",           "regex",          "json_schema",   "logit_bias",
    "timeout_s",
};

json_t *sv_settings_defaults(void)
{
    const zamba_sampler_options s = zamba_sampler_defaults();
    /* as they were meant: a float's 0.8 is not 0.800000011920929 */
#define SHORT(x) ((double)(long)((x)*10000 + 0.5f) / 10000)
    return json_pack("{s:f,s:f,s:i,s:f,s:f,s:f,s:i,s:f,s:f,s:i}", "temperature", SHORT(s.temperature), "top_p",
                     SHORT(s.top_p), "top_k", (int)s.top_k, "min_p", SHORT(s.min_p), "typical_p", SHORT(s.typical_p),
                     "repeat_penalty", SHORT(s.repeat_penalty), "repeat_last_n", (int)s.repeat_last_n,
                     "presence_penalty", SHORT(s.presence_penalty), "frequency_penalty", SHORT(s.frequency_penalty),
                     "max_tokens", -1);
}

static int is_known(const char *name)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return 1;
    return 0;
}

int sv_settings_check(const json_t *settings, sv_bad *bad)
{
    if (!settings || json_is_null(settings))
        return 1;
    for (void *it = json_object_iter((json_t *)settings); it; it = json_object_iter_next((json_t *)settings, it))
        if (!is_known(json_object_iter_key(it)))
            return sv_refuse(bad, 400, "invalid_value", "settings", "settings: \"%.80s\" is none",
                             json_object_iter_key(it));
    json_t *body = json_copy((json_t *)settings);
    json_object_set_new(body, "messages", json_pack("[{s:s,s:s}]", "role", "user", "content", ""));
    const int ok = sv_fields_check(body, sv_fields_chat, bad);
    json_decref(body);
    return ok;
}

static void lay_over(json_t *below, const json_t *above)
{
    for (void *it = json_object_iter((json_t *)above); it; it = json_object_iter_next((json_t *)above, it)) {
        json_t *value = json_object_iter_value(it);
        if (json_is_null(value))
            json_object_del(below, json_object_iter_key(it));
        else
            json_object_set(below, json_object_iter_key(it), value);
    }
}

json_t *sv_settings_merge(const json_t *chat, const json_t *request)
{
    json_t *all = sv_settings_defaults();
    lay_over(all, chat);
    lay_over(all, request);
    return all;
}
