/* status.c — error messages and the one log callback. Owns no other state. */
#include "core/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    zamba_log_fn fn;
    void *user;
} log_target;

#define STRINGIFY(x)          #x
#define VERSION_TEXT(a, b, c) STRINGIFY(a) "." STRINGIFY(b) "." STRINGIFY(c)

const char *zamba_version(void)
{
    return VERSION_TEXT(ZAMBA_VERSION_MAJOR, ZAMBA_VERSION_MINOR, ZAMBA_VERSION_PATCH);
}

const char *zamba_status_name(zamba_status status)
{
    switch (status) {
#define STATUS_CASE(name, value, text)                                                                                 \
    case ZAMBA_##name:                                                                                                 \
        return #name;
        ZAMBA_STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
    }
    return "?";
}

void zamba_free(void *ptr)
{
    free(ptr);
}

void zamba_log_set(zamba_log_fn fn, void *user)
{
    log_target.fn = fn;
    log_target.user = user;
}

/* Cut at a character border, so that a long path cannot leave half a UTF-8 character at the end. What is not UTF-8
 * is left to make_printable. */
static void end_on_character(char *text, size_t capacity)
{
    const size_t n = strlen(text);
    size_t tail = 0; /* continuation bytes at the end */
    if (n + 1 < capacity)
        return;
    while (tail < 3 && tail < n && ((unsigned char)text[n - 1 - tail] & 0xC0) == 0x80)
        tail++;
    const unsigned char lead = tail < n ? (unsigned char)text[n - 1 - tail] : 0;
    const size_t wanted = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (wanted > tail)
        text[n - 1 - tail] = '\0';
}

/* Bytes of the UTF-8 character at p (NUL-terminated), or 0 if there is none or it is a control character. */
static size_t printable_length(const unsigned char *p)
{
    if (p[0] < 0x80)
        return p[0] >= 0x20 && p[0] != 0x7F;
    const size_t n = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    if ((p[0] == 0xC2 && p[1] < 0xA0) || (p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) ||
        (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
        return 0;
    return n;
}

/* Messages quote file names and contents that anybody may have written, and end on terminals and in JSON: what is no
 * UTF-8 or could steer a terminal becomes '?'. */
static void make_printable(char *text)
{
    while (*text != '\0') {
        const size_t n = printable_length((const unsigned char *)text);
        if (n == 0)
            *text = '?';
        text += n == 0 ? 1 : n;
    }
}

zamba_status zb_fail(zamba_error *err, zamba_status code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, fmt);
        err->code = code;
        vsnprintf(err->message, sizeof err->message, fmt, args);
        end_on_character(err->message, sizeof err->message);
        make_printable(err->message);
        va_end(args);
    }
    return code;
}

zamba_status zb_fail_prefix(zamba_error *err, zamba_status code, const char *fmt, ...)
{
    if (err != NULL) {
        char joined[2 * sizeof err->message];
        va_list args;
        va_start(args, fmt);
        const int n = vsnprintf(joined, sizeof err->message, fmt, args);
        va_end(args);
        const size_t used = n < 0 ? 0 : strlen(joined);
        snprintf(joined + used, sizeof joined - used, ": %s", err->message);
        memcpy(err->message, joined, sizeof err->message - 1);
        err->message[sizeof err->message - 1] = '\0';
        end_on_character(err->message, sizeof err->message);
        make_printable(err->message);
        err->code = code;
    }
    return code;
}

zamba_status zb_fail_memory(zamba_error *err, const char *what, size_t n_bytes)
{
    return zb_fail(err, ZAMBA_E_MEMORY, "%s: no memory for %zu bytes", what, n_bytes);
}

void zb_log(zamba_log_level level, const char *fmt, ...)
{
    if (log_target.fn == NULL)
        return;
    char message[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    make_printable(message);
    log_target.fn(log_target.user, level, message);
}
