/* svg_chart.c — see svg_chart.h. A drawn line carries its scale in data- attributes, so that a script on the page can
 * tell values from the path. */
#include "svg_chart.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEFT = 46, RIGHT = 10, TOP = 8, BOTTOM = 24, MOST_TICKS = 12 };

typedef struct axis {
    double low, high; /* of the picture */
    double from, to;  /* in pixels      */
    double ticks[MOST_TICKS];
    size_t n;
    double step;
} axis;

void svg_chart_escape(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (*text == '<' || *text == '>' || *text == '&' || *text == '"')
            fprintf(f, "&#%d;", *text);
        else if ((unsigned char)*text >= ' ' || *text == '\n' || *text == '\t')
            fputc(*text, f);
    }
}

const char *svg_chart_number(double x, int digits, char buffer[32])
{
    static const struct {
        double from;
        const char *unit;
    } units[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e4, "k"}};
    for (size_t i = 0; i < 4; i++) {
        if (fabs(x) >= units[i].from * 0.99999) {
            const double one = units[i].from == 1e4 ? 1e3 : units[i].from;
            snprintf(buffer, 32, "%.*g%s", digits, x / one, units[i].unit);
            return buffer;
        }
    }
    if (fabs(x) >= 1000)
        snprintf(buffer, 32, "%.0f", x);
    else if (x != 0 && fabs(x) < 1e-3)
        snprintf(buffer, 32, "%.*e", digits > 2 ? digits - 2 : 0, x);
    else
        snprintf(buffer, 32, "%.*g", digits, x);
    char *e = strchr(buffer, 'e'); /* 3e-04: 3e-4 */
    if (e && (e[1] == '-' || e[1] == '+') && e[2] == '0' && e[3])
        memmove(e + 2, e + 3, strlen(e + 3) + 1);
    return buffer;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Every drawn value in order; NULL: none, or out of memory. */
static double *sorted_values(const svg_chart *c, size_t *n)
{
    size_t room = 0;
    *n = 0;
    for (size_t s = 0; s < c->n_series; s++)
        room += c->series[s].n * 2;
    double *all = malloc((room + 1) * sizeof *all);
    for (size_t s = 0; all && s < c->n_series; s++) {
        const chart_series *one = &c->series[s];
        for (size_t i = 0; i < one->n; i++) {
            if (isfinite(one->y[i]))
                all[(*n)++] = one->y[i];
            if (one->form == CHART_BAND && isfinite(one->top[i]))
                all[(*n)++] = one->top[i];
        }
    }
    if (all && *n == 0) {
        free(all);
        return NULL;
    }
    if (all)
        qsort(all, *n, sizeof *all, ascending);
    return all;
}

/* Round steps; the axis grows to whole steps where `whole`. */
static void set_ticks(axis *a, size_t wanted, bool whole)
{
    if (!(a->high > a->low)) {
        const double room = fabs(a->low) > 1e-300 ? fabs(a->low) * 0.1 : 1;
        a->high += room;
        a->low -= a->low == 0 ? 0 : room;
    }
    const double rough = (a->high - a->low) / (double)wanted, power = pow(10, floor(log10(rough)));
    const double part = rough / power;
    a->step = power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 2.5 ? 2.5 : part <= 5 ? 5 : 10);
    if (whole) {
        a->low = floor(a->low / a->step + 1e-9) * a->step;
        a->high = ceil(a->high / a->step - 1e-9) * a->step;
    }
    a->n = 0;
    const double first = ceil(a->low / a->step - 1e-9);
    for (double k = first; a->n < MOST_TICKS && k * a->step <= a->high + a->step * 1e-6; k++)
        a->ticks[a->n++] = k * a->step + 0.0; /* not -0 */
}

static double place(const axis *a, double v)
{
    return a->from + (v - a->low) / (a->high - a->low) * (a->to - a->from);
}

static void find_axes(const svg_chart *c, axis *x, axis *y)
{
    size_t n;
    double *all = sorted_values(c, &n);
    *x = (axis){.low = INFINITY, .high = -INFINITY, .from = LEFT, .to = c->width - RIGHT};
    *y = (axis){.low = 0, .high = 1, .from = c->height - BOTTOM, .to = TOP};
    if (all) {
        size_t last = n - 1 - (size_t)(c->cut * (double)(n - 1));
        /* of few values too: one of each series may go that would squeeze all others into a tenth */
        for (size_t k = 1; c->cut > 0 && k <= c->n_series && n > k + 1 && last == n - 1; k++)
            if (all[n - 1 - k] > all[0] && all[n - 1 - k] - all[0] < 0.1 * (all[n - 1] - all[0]))
                last = n - 1 - k;
        y->low = all[0];
        y->high = all[last];
        if (c->from_zero && y->low > 0)
            y->low = 0;
    }
    free(all);
    for (size_t s = 0; s < c->n_series; s++) {
        if (c->series[s].n > 0) {
            x->low = fmin(x->low, c->series[s].x[0]);
            x->high = fmax(x->high, c->series[s].x[c->series[s].n - 1]);
        }
    }
    if (!(x->low <= x->high)) {
        x->low = 0;
        x->high = 1;
    }
    if (x->low > 0 && x->low < 0.05 * x->high)
        x->low = 0;
    set_ticks(x, (size_t)(c->width / 110), false);
    set_ticks(y, (size_t)(c->height / 48), true);
}

static void write_path(FILE *f, const axis *x, const axis *y, const double *xs, const double *ys, size_t n, bool back)
{
    bool pen = back; /* the way back of a band goes on where the way there ended */
    for (size_t k = 0; k < n; k++) {
        const size_t i = back ? n - 1 - k : k;
        if (!isfinite(ys[i]))
            continue;
        fprintf(f, "%s%.1f %.1f", pen ? "L" : "M", place(x, xs[i]), place(y, ys[i]));
        pen = true;
    }
}

static void write_series(FILE *f, const chart_series *s, const axis *x, const axis *y)
{
    if (s->form == CHART_BAND) {
        fprintf(f, "<path class=\"band f%zu s%zu\" d=\"", s->colour, s->colour);
        write_path(f, x, y, s->x, s->top, s->n, false);
        write_path(f, x, y, s->x, s->y, s->n, true);
        fputs("Z\"/>\n", f);
        return;
    }
    fprintf(f, "<path class=\"line s%zu\" data-key=\"", s->colour);
    svg_chart_escape(f, s->name);
    fputs("\" d=\"", f);
    write_path(f, x, y, s->x, s->y, s->n, false);
    fputs("\"/>\n", f);
    if (s->form == CHART_DOTS && s->n <= 60)
        for (size_t i = 0; i < s->n; i++)
            if (isfinite(s->y[i]))
                fprintf(f, "<circle class=\"dot f%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\"/>", s->colour,
                        place(x, s->x[i]), place(y, s->y[i]));
}

/* With as many digits as tell neighbouring ticks apart, and one unit for the whole axis. */
static const char *tick_text(const axis *a, double v, char buffer[32])
{
    const double most = fmax(fabs(a->low), fabs(a->high));
    const double unit = most >= 9.99e8 ? 1e9 : most >= 9.99e5 ? 1e6 : most >= 9.99e3 ? 1e3 : 1;
    const int digits = (int)ceil(log10(most / a->step)) + 2;
    char plain[32];
    svg_chart_number(v / unit, digits < 2 ? 2 : digits > 6 ? 6 : digits, plain);
    snprintf(buffer, 32, "%.20s%s", plain, unit == 1 || v == 0 ? "" : unit == 1e9 ? "G" : unit == 1e6 ? "M" : "k");
    return buffer;
}

void svg_chart_write(FILE *f, const svg_chart *c, const char *class)
{
    axis x, y;
    char text[32];
    find_axes(c, &x, &y);
    fprintf(f, "<svg class=\"chart %s\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" data-x=\"%.10g %.10g %.1f %.1f\" ",
            class, c->width, c->height, x.low, x.high, x.from, x.to);
    fprintf(f, "data-y=\"%.10g %.10g %.1f %.1f\" data-unit=\"", y.low, y.high, y.from, y.to);
    svg_chart_escape(f, c->unit ? c->unit : "step");
    fputs("\"><title>", f);
    svg_chart_escape(f, c->title);
    fputs("</title>\n", f);
    for (size_t i = 0; i < y.n; i++) {
        const double at = place(&y, y.ticks[i]);
        fprintf(f, "<path class=\"%s\" d=\"M%d %.1fH%.1f\"/><text class=\"end\" x=\"%d\" y=\"%.1f\">%s</text>\n",
                i == 0 ? "axis" : "rule", LEFT, at, x.to, LEFT - 7, at + 3.5, tick_text(&y, y.ticks[i], text));
    }
    for (size_t i = 0; i < x.n; i++) {
        const double at = place(&x, x.ticks[i]);
        const char *anchor = at > x.to - 14 ? "end" : "mid";
        fprintf(f, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", anchor, at > x.to - 14 ? x.to : at,
                c->height - 7, tick_text(&x, x.ticks[i], text));
    }
    /* a nested picture cuts off what leaves it */
    fprintf(f, "<svg x=\"0\" y=\"%d\" width=\"%.1f\" height=\"%.1f\" viewBox=\"0 %d %.1f %.1f\">\n", TOP - 3, c->width,
            c->height - BOTTOM - TOP + 5, TOP - 3, c->width, c->height - BOTTOM - TOP + 5);
    for (size_t s = 0; s < c->n_series; s++)
        if (c->series[s].form == CHART_BAND)
            write_series(f, &c->series[s], &x, &y);
    for (size_t s = 0; s < c->n_series; s++)
        if (c->series[s].form != CHART_BAND)
            write_series(f, &c->series[s], &x, &y);
    fprintf(f, "</svg>\n<path class=\"cursor\" d=\"M0 %dV%.1f\"/></svg>\n", TOP, y.from);
}

void svg_chart_style(FILE *f)
{
    static const char *const light[SVG_CHART_COLOURS] = {"#2563d8", "#d4660a", "#17875a", "#8a3fd1",
                                                         "#c9304b", "#0d8296", "#b2367f", "#6b7280"};
    static const char *const dark[SVG_CHART_COLOURS] = {"#7fabff", "#ffb066", "#62d6a2", "#c69bff",
                                                        "#ff8a9b", "#5fd3e6", "#f290c8", "#aab2c0"};
    fputs(":root{", f);
    for (size_t i = 0; i < SVG_CHART_COLOURS; i++)
        fprintf(f, "--c%zu:%s;", i, light[i]);
    fputs("--page:#f5f6f8;--card:#ffffff;--ink:#181d27;--soft:#5b6472;--rule:#e3e6eb;--axis:#a9b1bd}\n"
          "@media(prefers-color-scheme:dark){:root{",
          f);
    for (size_t i = 0; i < SVG_CHART_COLOURS; i++)
        fprintf(f, "--c%zu:%s;", i, dark[i]);
    fputs("--page:#0f1218;--card:#171b23;--ink:#e7eaf0;--soft:#98a1b0;--rule:#272d38;--axis:#4c5564}}\n", f);
    for (size_t i = 0; i < SVG_CHART_COLOURS; i++)
        fprintf(f, ".s%zu{stroke:var(--c%zu)}.f%zu{fill:var(--c%zu)}.b%zu{background:var(--c%zu)}\n", i, i, i, i, i, i);
    fputs("svg.chart{display:block;width:100%;height:auto;touch-action:pan-y}\n"
          ".chart text{font-size:11px;fill:var(--soft);font-variant-numeric:tabular-nums}\n"
          ".chart .mid{text-anchor:middle}.chart .end{text-anchor:end}\n"
          ".chart .rule{stroke:var(--rule)}.chart .axis{stroke:var(--axis)}\n"
          ".line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}\n"
          ".band{opacity:.22;stroke-width:1}.dot{stroke:var(--card);stroke-width:1.2}\n"
          ".cursor{stroke:var(--soft);stroke-width:1;visibility:hidden}\n",
          f);
}
