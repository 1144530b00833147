/* sse.c — text/event-stream. An event goes out in one write, so that nothing comes between its lines. */
#include "sse.h"

#include <stdlib.h>
#include <string.h>

void sv_sse_begin(sv_exchange *r)
{
    sv_http_add_header(r, "X-Accel-Buffering", "no");
    sv_http_begin(r, 200, "text/event-stream");
}

void sv_sse_event(sv_exchange *r, const char *name, const char *data, size_t n)
{
    size_t lines = 1;
    for (size_t i = 0; i < n; i++)
        lines += data[i] == '\n' || data[i] == '\r';
    const size_t n_name = name ? strlen(name) : 0;
    char *text = malloc(n + lines * 7 + n_name + 16), *p = text;
    if (!text)
        return;
    if (name) {
        memcpy(p, "event: ", 7);
        memcpy(p + 7, name, n_name);
        p += 7 + n_name;
        *p++ = '\n';
    }
    for (size_t i = 0; i <= n;) {
        size_t len = 0;
        while (i + len < n && data[i + len] != '\n' && data[i + len] != '\r')
            len++;
        memcpy(p, "data: ", 6);
        memcpy(p + 6, data + i, len);
        p += 6 + len;
        *p++ = '\n';
        i += len;
        if (i < n && data[i] == '\r' && i + 1 < n && data[i + 1] == '\n')
            i++;
        i++;
    }
    *p++ = '\n';
    sv_http_write(r, text, (size_t)(p - text));
    free(text);
}

void sv_sse_json(sv_exchange *r, const char *name, const json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    if (!text)
        return;
    sv_sse_event(r, name, text, strlen(text));
    free(text);
}

void sv_sse_comment(sv_exchange *r, const char *text)
{
    char line[200];
    size_t n = 0;
    line[n++] = ':';
    line[n++] = ' ';
    for (; *text && n < sizeof line - 2; text++)
        if (*text != '\n' && *text != '\r')
            line[n++] = *text;
    line[n++] = '\n';
    line[n++] = '\n';
    sv_http_write(r, line, n);
}
