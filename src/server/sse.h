/* sse.h — events of a stream as text/event-stream, on top of http.h. */
#ifndef SV_SSE_H
#define SV_SSE_H

#include "http.h"

/* Begins a stream of 200 text/event-stream that nothing on the way keeps back. */
void sv_sse_begin(sv_exchange *r);
/* One event, whole: "event: name" (NULL: without) and `data`, whatever line ends it holds. */
void sv_sse_event(sv_exchange *r, const char *name, const char *data, size_t n);
void sv_sse_json(sv_exchange *r, const char *name, const json_t *value);
/* A line that clients pass over. */
void sv_sse_comment(sv_exchange *r, const char *text);

#endif
