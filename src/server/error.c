/* error.c — errors as each API shapes them, and what a status of the library is in HTTP. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "http_impl.h"

static const char *type_of(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_exceeded";
    case 501:
        return "not_supported_error";
    case 503:
        return "unavailable_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

/* Text that may not be UTF-8: what is none becomes '?'. */
static json_t *text_of(const char *text)
{
    json_t *value = json_string(text);
    if (value)
        return value;
    char clean[1024];
    size_t n = 0;
    for (; text[n] && n < sizeof clean - 1; n++)
        clean[n] = (unsigned char)text[n] < 0x80 ? text[n] : '?';
    clean[n] = 0;
    return json_string(clean);
}

json_t *sv_error_body(int ollama, int status, const char *type, const char *param, const char *code,
                      const char *message)
{
    if (ollama)
        return json_pack("{s:o}", "error", text_of(message));
    return json_pack("{s:{s:o, s:s, s:o, s:o}}", "error", "message", text_of(message), "type",
                     type ? type : type_of(status), "param", param ? text_of(param) : json_null(), "code",
                     code ? text_of(code) : json_null());
}

json_t *sv_http_error_json(const sv_exchange *r, int status, const char *type, const char *param, const char *code,
                           const char *message)
{
    return sv_error_body(sv_path_is_ollama(sv_http_path(r)), status, type, param, code, message);
}

static void fail(sv_exchange *r, int status, const char *type, const char *param, const char *code, const char *message)
{
    sv_http_reply_json(r, status, sv_http_error_json(r, status, type, param, code, message));
}

void sv_http_error(sv_exchange *r, int status, const char *type, const char *param, const char *code, const char *fmt,
                   ...)
{
    char message[1024];
    va_list list;
    va_start(list, fmt);
    vsnprintf(message, sizeof message, fmt, list);
    va_end(list);
    fail(r, status, type, param, code, message);
}

void sv_http_fail(sv_exchange *r, zamba_status status, const zamba_error *err, const char *param, double retry_after)
{
    int http = 500;
    const char *code = NULL;
    char seconds[32];
    switch (status) {
    case ZAMBA_E_ARG:
        http = 400;
        break;
    case ZAMBA_E_CONTEXT:
        http = 400;
        code = "context_length_exceeded";
        break;
    case ZAMBA_E_NOT_FOUND:
        http = 404;
        break;
    case ZAMBA_E_FORMAT:
    case ZAMBA_E_MISMATCH:
        http = 422;
        break;
    case ZAMBA_E_UNSUPPORTED:
        http = 501;
        break;
    case ZAMBA_E_MEMORY:
    case ZAMBA_E_CANCELLED:
        http = 503;
        break;
    default:
        break;
    }
    if (retry_after > 0) {
        http = 429;
        code = "queue_full";
    }
    if (http == 429 || http == 503) {
        const double wait = retry_after > 0 ? ceil(retry_after < 3600 ? retry_after : 3600) : 1;
        snprintf(seconds, sizeof seconds, "%.0f", wait);
        sv_http_add_header(r, "Retry-After", seconds);
    }
    fail(r, http, NULL, param, code, err && err->message[0] ? err->message : zamba_status_name(status));
}
