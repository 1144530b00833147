/* progress.c — see progress.h. One bar at a time; called from the main thread only. */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "options.h"

static progress *drawing; /* whose bar stands on the terminal now */

static bool due(const progress *p, double now, double first, double gap)
{
    return p->last > 0 ? now - p->last >= gap : now - p->start >= first;
}

/* "1:02:03" or "0:07". */
static const char *clock_text(double seconds, char *buffer, size_t n)
{
    const long s = seconds < 0 ? 0 : seconds > 3e6 ? 3000000 : (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(buffer, n, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(buffer, n, "%ld:%02ld", s / 60, s % 60);
    return buffer;
}

/* Bytes in units that can be read; other things counted. */
static const char *amount(const progress *p, size_t n, char buffer[32])
{
    return strcmp(p->unit, "bytes") == 0 ? cli_bytes((double)n, buffer) : cli_number(n, buffer);
}

/* " tokens"; bytes have it in their amount. */
static const char *unit_text(const progress *p)
{
    return strcmp(p->unit, "bytes") == 0 ? "" : p->unit;
}

static const char *rate_text(const progress *p, double rate, char buffer[32])
{
    if (strcmp(p->unit, "bytes") == 0)
        return cli_bytes(rate, buffer);
    snprintf(buffer, 32, "%.4g", rate);
    return buffer;
}

static double eta(const progress *p, double now)
{
    const double done = (double)p->done - (double)p->first;
    return done > 0 && p->total > p->done ? (now - p->start) / done * (double)(p->total - p->done) : 0;
}

static void draw_bar(progress *p, double now)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const term *t = &p->terminal;
    const double rate =
        now > p->start && p->done > p->first ? ((double)p->done - (double)p->first) / (now - p->start) : 0;
    const char *unit = unit_text(p), *gap = *unit ? " " : "";
    char left[32], tail[240], a[32], b[32], c[32];
    if (p->total)
        snprintf(tail, sizeof tail, " %3.0f%%  %s/%s%s%s  %s/s  %s left", 100.0 * (double)p->done / (double)p->total,
                 amount(p, p->done, a), amount(p, p->total, b), gap, unit, rate_text(p, rate, c),
                 clock_text(eta(p, now), left, sizeof left));
    else
        snprintf(tail, sizeof tail, " %s%s%s  %s/s", amount(p, p->done, a), gap, unit, rate_text(p, rate, c));
    if (p->note[0])
        snprintf(tail + strlen(tail), sizeof tail - strlen(tail), "  %s", p->note);
    fprintf(stderr, "\r\033[K%s%s%s ", term_on(t, TERM_BOLD), p->task, term_on(t, TERM_PLAIN));
    const int room = t->width - (int)term_columns(p->task, strlen(p->task)) - (int)strlen(tail) - 3;
    const int cells = room > 40 ? 40 : room;
    if (p->total && cells >= 5) {
        const size_t full =
            p->done >= p->total ? (size_t)cells * 8 : (size_t)((double)p->done / (double)p->total * cells * 8);
        fputs(term_on(t, TERM_GREEN), stderr);
        for (size_t i = 0; i < (size_t)cells; i++) {
            if (i * 8 + 8 <= full)
                fputs(t->utf8 ? "█" : "#", stderr);
            else if (i * 8 < full && t->utf8)
                fputs(eighths[full - i * 8], stderr);
            else
                fputs(t->utf8 ? " " : ".", stderr);
        }
        fputs(term_on(t, TERM_PLAIN), stderr);
    }
    fputs(tail, stderr);
    fflush(stderr);
    p->drawn = true;
    drawing = p;
}

static void write_line(progress *p, double now)
{
    const char *unit = unit_text(p), *gap = *unit ? " " : "";
    char left[32], a[32], b[32];
    p->shown = p->done;
    if (p->mode == CLI_PROGRESS_JSON) {
        fprintf(stderr, "{\"progress\": {\"task\": \"%s\", \"unit\": \"%s\", \"done\": %zu, \"total\": %zu, ", p->task,
                p->unit, p->done, p->total);
        fprintf(stderr, "\"seconds\": %.3f, \"eta\": %.3f}}\n", now - p->start, eta(p, now));
    } else if (p->total) {
        fprintf(stderr, "%s: %s of %s%s%s (%.0f%%), %s left%s%s\n", p->task, amount(p, p->done, a),
                amount(p, p->total, b), gap, unit, 100.0 * (double)p->done / (double)p->total,
                clock_text(eta(p, now), left, sizeof left), p->note[0] ? ", " : "", p->note);
    } else {
        fprintf(stderr, "%s: %s%s%s%s%s\n", p->task, amount(p, p->done, a), gap, unit, p->note[0] ? ", " : "", p->note);
    }
    fflush(stderr);
}

void progress_begin(progress *p, int mode, int color, const char *task, const char *unit, size_t total)
{
    *p = (progress){.mode = mode, .task = task, .unit = unit, .total = total, .start = cli_now()};
    p->terminal = term_of(STDERR_FILENO, color);
    p->always = mode == CLI_PROGRESS_PLAIN || mode == CLI_PROGRESS_JSON;
    if (mode == CLI_PROGRESS_AUTO && !p->terminal.tty)
        p->mode = CLI_PROGRESS_PLAIN;
    if (p->always)
        write_line(p, p->start);
}

void progress_update(progress *p, size_t done)
{
    const double now = cli_now();
    p->done = done;
    if (p->mode == CLI_PROGRESS_AUTO ? due(p, now, 0.3, 0.08) : p->mode != CLI_PROGRESS_NONE && due(p, now, 1.0, 1.0)) {
        if (p->mode == CLI_PROGRESS_AUTO)
            draw_bar(p, now);
        else
            write_line(p, now);
        p->last = now;
    }
}

void progress_clear(void)
{
    if (drawing && drawing->drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        drawing->drawn = false;
    }
    drawing = NULL;
}

void progress_end(progress *p)
{
    if (p->mode == CLI_PROGRESS_AUTO) {
        if (drawing == p)
            progress_clear();
    } else if ((p->always || p->last > 0) && p->shown != p->done) {
        write_line(p, cli_now());
    }
    p->mode = CLI_PROGRESS_NONE;
}
