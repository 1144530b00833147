/* api_usage.h — pieces of OpenAI's replies that chat, completions and embeddings share. */
#ifndef SV_API_USAGE_H
#define SV_API_USAGE_H

#include "api_run.h"

/* prefix and the exchange's own id: "chatcmpl-5f..." */
json_t *sv_reply_id(const sv_exchange *r, const char *prefix);
json_t *sv_usage_json(const sv_run *run);
/* llama-server's "timings". */
json_t *sv_timings_json(const sv_run *run);
/* llama-server's "prompt_progress". */
json_t *sv_progress_json(const sv_run *run, const sv_event *ev);
/* Why a stream waits before its model is there. */
json_t *sv_wait_json(const sv_run *run);
/* "stop" or "length"; "tool_calls" where it called. */
const char *sv_finish_reason(const sv_choice *c);
/* Events of a stream while the model is waited for or the prompt is read: the chunk if that was asked for, else a
 * comment. Takes `chunk` over. */
void sv_send_progress(sv_run *run, json_t *chunk, const sv_event *ev);
void sv_send_error(sv_run *run, int status, const char *message);

#endif
