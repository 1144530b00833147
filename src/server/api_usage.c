/* api_usage.c — usage, timings, progress and errors as OpenAI's clients and llama-server's know them. */
#include "api_usage.h"

#include <stdio.h>
#include <string.h>

#include "sse.h"

json_t *sv_reply_id(const sv_exchange *r, const char *prefix)
{
    const char *id = sv_http_id(r), *dash = strchr(id, '-');
    char whole[80];
    snprintf(whole, sizeof whole, "%s-%s", prefix, dash ? dash + 1 : id);
    return json_string(whole);
}

json_t *sv_usage_json(const sv_run *run)
{
    const sv_usage u = sv_run_usage(run);
    return json_pack("{s:I,s:I,s:I,s:{s:I}}", "prompt_tokens", (json_int_t)u.prompt, "completion_tokens",
                     (json_int_t)u.generated, "total_tokens", (json_int_t)(u.prompt + u.generated),
                     "prompt_tokens_details", "cached_tokens", (json_int_t)u.cached);
}

json_t *sv_timings_json(const sv_run *run)
{
    const sv_usage u = sv_run_usage(run);
    const double read = (double)(u.prompt - u.cached);
    return json_pack("{s:I,s:I,s:f,s:f,s:I,s:f,s:f,s:f}", "cache_n", (json_int_t)u.cached, "prompt_n", (json_int_t)read,
                     "prompt_ms", 1e3 * u.prefill_s, "prompt_per_second", u.prefill_s > 0 ? read / u.prefill_s : 0.0,
                     "predicted_n", (json_int_t)u.generated, "predicted_ms", 1e3 * u.decode_s, "predicted_per_second",
                     u.decode_s > 0 ? (double)u.generated / u.decode_s : 0.0, "queued_ms", 1e3 * u.queued_s);
}

json_t *sv_progress_json(const sv_run *run, const sv_event *ev)
{
    return json_pack("{s:I,s:I,s:I,s:I}", "total", (json_int_t)ev->total, "cache", (json_int_t)ev->cached, "processed",
                     (json_int_t)ev->done, "time_ms", (json_int_t)(1e3 * (sv_api_now() - run->begun)));
}

json_t *sv_wait_json(const sv_run *run)
{
    return json_pack("{s:s,s:s,s:I}", "model", run->ask.served->name, "waits_for", "room", "time_ms",
                     (json_int_t)(1e3 * (sv_api_now() - run->begun)));
}

const char *sv_finish_reason(const sv_choice *c)
{
    if (c->called)
        return "tool_calls";
    const zamba_stop stop = c->last->stop;
    return stop == ZAMBA_STOP_LENGTH || stop == ZAMBA_STOP_CONTEXT ? "length" : "stop";
}

void sv_send_progress(sv_run *run, json_t *chunk, const sv_event *ev)
{
    char text[80];
    if (ev->kind == SV_QUEUED && run->ask.progress) {
        json_object_set_new(chunk, "load_progress", sv_wait_json(run));
        sv_sse_json(run->r, NULL, chunk);
    } else if (ev->kind == SV_QUEUED) {
        sv_sse_comment(run->r, "the model is not loaded, others are in use");
    } else if (run->ask.progress) {
        json_object_set_new(chunk, "prompt_progress", sv_progress_json(run, ev));
        sv_sse_json(run->r, NULL, chunk);
    } else {
        snprintf(text, sizeof text, "prompt %zu/%zu", ev->done, ev->total);
        sv_sse_comment(run->r, text);
    }
    json_decref(chunk);
}

void sv_send_error(sv_run *run, int status, const char *message)
{
    json_t *o = sv_http_error_json(run->r, status, NULL, NULL, NULL, message);
    sv_sse_json(run->r, NULL, o);
    json_decref(o);
}
