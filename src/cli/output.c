/* output.c — the two streams: messages on standard error, the result on standard output, which notices a closed pipe
 * and a full disk. Declared in common.h. */
#include "common.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "progress.h"
#include "terminal.h"

static struct {
    int color;
    bool verbose;
    int out_error;   /* errno of the first write that failed */
    int rank;        /* of several processes: only 0 speaks by itself */
    bool failed;     /* cli_error was called */
    char held[2048]; /* the first error of another rank */
} streams;

static void message(const char *label, term_style style, const char *format, va_list values)
{
    const term t = term_of(STDERR_FILENO, streams.color);
    char text[2048];
    vsnprintf(text, sizeof text, format, values);
    progress_clear();
    fprintf(stderr, "%szamba:%s %s%s\n", term_on(&t, style), term_on(&t, TERM_PLAIN), label, text);
    fflush(stderr);
}

static void on_log(void *user, zamba_log_level level, const char *text)
{
    (void)user;
    if (level == ZAMBA_LOG_WARN)
        cli_warn("%s", text);
    else
        cli_note("%s", text);
}

void cli_messages_init(int color, bool verbose)
{
    streams.color = color;
    streams.verbose = verbose;
    zamba_log_set(on_log, NULL);
}

int cli_error(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    if (streams.rank == 0)
        message("", TERM_RED, format, values);
    else if (!streams.failed)
        vsnprintf(streams.held, sizeof streams.held, format, values);
    va_end(values);
    streams.failed = true;
    return 1;
}

void cli_set_rank(int rank)
{
    streams.rank = rank;
}

bool cli_has_failed(void)
{
    return streams.failed;
}

void cli_release_error(void)
{
    const int rank = streams.rank;
    if (rank == 0 || streams.held[0] == '\0')
        return;
    streams.rank = 0;
    cli_error("rank %d: %s", rank, streams.held);
    streams.rank = rank;
    streams.held[0] = '\0';
}

int cli_fail(const zamba_error *err)
{
    return cli_error("%s", err->message[0] ? err->message : zamba_status_name(err->code));
}

void cli_warn(const char *format, ...)
{
    va_list values;
    if (streams.rank > 0)
        return;
    va_start(values, format);
    message("warning: ", TERM_YELLOW, format, values);
    va_end(values);
}

void cli_say(const char *format, ...)
{
    va_list values;
    if (streams.rank > 0)
        return;
    va_start(values, format);
    message("", TERM_DIM, format, values);
    va_end(values);
}

void cli_note(const char *format, ...)
{
    va_list values;
    if (!streams.verbose || streams.rank > 0)
        return;
    va_start(values, format);
    message("", TERM_DIM, format, values);
    va_end(values);
}

int cli_hint(const cli_command *command)
{
    if (streams.rank == 0)
        fprintf(stderr, "Try 'zamba%s%s --help'.\n", command ? " " : "", command ? command->name : "");
    return 2;
}

void out_bytes(const void *data, size_t n)
{
    if (streams.out_error || n == 0)
        return;
    errno = 0;
    if (fwrite(data, 1, n, stdout) != n)
        streams.out_error = errno ? errno : EIO;
}

void out_text(const char *text)
{
    out_bytes(text, strlen(text));
}

void out_format(const char *format, ...)
{
    char small[512];
    va_list values;
    va_start(values, format);
    const int n = vsnprintf(small, sizeof small, format, values);
    va_end(values);
    if (n < 0 || (size_t)n < sizeof small) {
        out_bytes(small, n < 0 ? 0 : (size_t)n);
        return;
    }
    char *large = malloc((size_t)n + 1);
    if (!large) {
        streams.out_error = ENOMEM;
        return;
    }
    va_start(values, format);
    vsnprintf(large, (size_t)n + 1, format, values);
    va_end(values);
    out_bytes(large, (size_t)n);
    free(large);
}

bool out_flush(void)
{
    errno = 0;
    if (!streams.out_error && fflush(stdout) != 0)
        streams.out_error = errno ? errno : EIO;
    return !streams.out_error;
}

bool out_failed(void)
{
    return streams.out_error != 0;
}

int out_finish(int code)
{
    const bool flushed = out_flush();
    errno = 0;
    /* a disk may be full only at close; a program started without standard output has written nothing (EBADF) */
    if (flushed && fclose(stdout) != 0 && errno != EBADF)
        streams.out_error = errno ? errno : EIO;
    if (!streams.out_error)
        return code;
    if (streams.out_error == EPIPE)
        cli_note("standard output: the reader has gone");
    else
        cli_error("standard output: %s", strerror(streams.out_error));
    return code ? code : 1;
}

bool out_json(json_t *value, int indent)
{
    char *text = value ? json_dumps(value, JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15) |
                                               (indent ? JSON_INDENT(indent) : JSON_ENCODE_ANY))
                       : NULL;
    json_decref(value);
    if (!text) {
        cli_error("out of memory for the JSON output");
        return false;
    }
    out_text(text);
    out_text("\n");
    free(text);
    return true;
}
