/* quant_svg.c — a picture of file sizes against divergence: sizes along, the divergence's logarithm up. Plain SVG that
 * follows the page's light or dark colours. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "quantize_run.h"

enum { WIDTH = 900, HEIGHT = 540, LEFT = 86, RIGHT = 30, TOP = 78, BOTTOM = 62, MOST_POINTS = 64 };

static const char HEAD[] =
    "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 900 540\" width=\"900\" height=\"540\" role=\"img\">\n"
    "<style>\n"
    "svg { background: #ffffff; color: #1f2430; font: 13px system-ui, -apple-system, \"Segoe UI\", sans-serif }\n"
    "text { fill: #1f2430 } .dim { fill: #667085 } .title { font-size: 18px; font-weight: 600 }\n"
    ".grid { stroke: #e4e7ec; stroke-width: 1 } .axis { stroke: #98a2b3; stroke-width: 1 }\n"
    ".front { fill: none; stroke: #2f6fde; stroke-width: 2; stroke-opacity: .45 }\n"
    ".dot { fill: #2f6fde } .weak { fill: #98a2b3 } .name { font-weight: 600 }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "svg { background: #14171f } text { fill: #e6e9ef } .dim { fill: #98a2b3 }\n"
    ".grid { stroke: #2a2f3a } .axis { stroke: #667085 }\n"
    ".front { stroke: #7aa7ff } .dot { fill: #7aa7ff } .weak { fill: #667085 }\n"
    "}\n</style>\n";

/* Less is what packing the rows of the comparison does: the same model. */
#define LEAST_KLD 1e-7

typedef struct text {
    char *data;
    size_t n, room;
    bool failed;
} text;

static void add(text *t, const char *format, ...) CLI_PRINTF(2, 3);
static void add(text *t, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    const int need = vsnprintf(NULL, 0, format, values);
    va_end(values);
    if (t->failed || need < 0)
        return;
    if (t->n + (size_t)need + 1 > t->room) {
        const size_t room = 2 * (t->n + (size_t)need + 1024);
        char *larger = realloc(t->data, room);
        t->failed = !larger;
        if (!larger)
            return;
        t->data = larger;
        t->room = room;
    }
    va_start(values, format);
    vsnprintf(t->data + t->n, t->room - t->n, format, values);
    va_end(values);
    t->n += (size_t)need;
}

/* Letters that mean something in XML are written so that they do not; control characters are left out. */
static void add_escaped(text *t, const char *words)
{
    for (; *words; words++) {
        if (*words == '<' || *words == '>' || *words == '&' || *words == '"')
            add(t, "&#%d;", *words);
        else if ((unsigned char)*words >= ' ')
            add(t, "%c", *words);
    }
}

typedef struct place {
    double x, y;
} place;

typedef struct box {
    double x0, y0, x1, y1;
} box;

typedef struct chart {
    const quant_point *points[MOST_POINTS]; /* by size */
    place at[MOST_POINTS];
    size_t n;
    double least_size, greatest_size, least_log, greatest_log; /* of the axes; sizes in MB */
    box taken[2 * MOST_POINTS];
    size_t n_taken;
} chart;

static double along(const chart *c, double mb)
{
    return LEFT + (mb - c->least_size) / (c->greatest_size - c->least_size) * (WIDTH - LEFT - RIGHT);
}

static double up(const chart *c, double kld)
{
    return TOP + (c->greatest_log - log10(kld)) / (c->greatest_log - c->least_log) * (HEIGHT - TOP - BOTTOM);
}

/* 1, 2 or 5 times a power of ten: some five steps over the range. */
static double step_for(double range)
{
    const double rough = range / 6, unit = pow(10, floor(log10(rough)));
    const double n = rough / unit;
    return unit * (n <= 1 ? 1 : n <= 2 ? 2 : n <= 5 ? 5 : 10);
}

static int by_size(const void *a, const void *b)
{
    const quant_point *x = *(const quant_point *const *)a, *y = *(const quant_point *const *)b;
    return x->bytes != y->bytes ? (x->bytes > y->bytes) - (x->bytes < y->bytes) : (x->kld > y->kld) - (x->kld < y->kld);
}

static bool lay_out(chart *c, const quant_point *points, size_t n)
{
    double least = INFINITY, greatest = -INFINITY;
    c->least_log = INFINITY;
    c->greatest_log = -INFINITY;
    for (size_t i = 0; i < n && c->n < MOST_POINTS; i++) {
        if (!(points[i].kld >= LEAST_KLD))
            continue;
        const double mb = (double)points[i].bytes / 1e6, l = log10(points[i].kld);
        least = mb < least ? mb : least;
        greatest = mb > greatest ? mb : greatest;
        c->least_log = l < c->least_log ? l : c->least_log;
        c->greatest_log = l > c->greatest_log ? l : c->greatest_log;
        c->points[c->n++] = &points[i];
    }
    if (c->n == 0)
        return false;
    const double room = greatest > least ? 0.08 * (greatest - least) : 0.1 * greatest;
    c->least_size = least - room < 0 ? 0 : least - room;
    c->greatest_size = greatest + 1.6 * room;
    c->least_log = floor(c->least_log - 0.1);
    c->greatest_log = ceil(c->greatest_log + 0.1);
    qsort(c->points, c->n, sizeof *c->points, by_size);
    for (size_t i = 0; i < c->n; i++) {
        c->at[i] = (place){along(c, (double)c->points[i]->bytes / 1e6), up(c, c->points[i]->kld)};
        c->taken[c->n_taken++] = (box){c->at[i].x - 6, c->at[i].y - 6, c->at[i].x + 6, c->at[i].y + 6};
    }
    return true;
}

static void draw_axes(text *t, const chart *c)
{
    const double step = step_for(c->greatest_size - c->least_size);
    const bool gb = c->greatest_size >= 2000;
    for (double l = c->least_log; l <= c->greatest_log + 1e-9; l++) {
        const double y = up(c, pow(10, l));
        add(t, "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>", LEFT, y, WIDTH - RIGHT, y);
        add(t, "<text class=\"dim\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", LEFT - 10, y + 4.5,
            pow(10, l));
    }
    for (double mb = ceil(c->least_size / step) * step; mb <= c->greatest_size; mb += step) {
        const double x = along(c, mb);
        add(t, "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>", x, TOP, x, HEIGHT - BOTTOM);
        add(t, "<text class=\"dim\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n", x, HEIGHT - BOTTOM + 20,
            gb ? mb / 1000 : mb);
    }
    add(t, "<line class=\"axis\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>\n", LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT,
        HEIGHT - BOTTOM);
    add(t, "<text class=\"dim\" x=\"%d\" y=\"%d\" text-anchor=\"end\">size of the file, %s</text>\n", WIDTH - RIGHT,
        HEIGHT - 16, gb ? "GB" : "MB");
}

/* No larger file is worse and no smaller one better: joined by a line. */
static void find_front(const chart *c, bool *front)
{
    double best = INFINITY;
    for (size_t i = 0; i < c->n; i++) {
        front[i] = c->points[i]->kld < best;
        best = front[i] ? c->points[i]->kld : best;
    }
}

static bool is_free(const chart *c, size_t own, box b)
{
    if (b.x0 < LEFT || b.x1 > WIDTH - 4 || b.y0 < TOP - 14 || b.y1 > HEIGHT - BOTTOM - 2)
        return false;
    for (size_t i = 0; i < c->n_taken; i++) {
        const box *o = &c->taken[i];
        if (i != own && b.x0 < o->x1 && b.x1 > o->x0 && b.y0 < o->y1 && b.y1 > o->y0)
            return false;
    }
    return true;
}

/* A name beside its point, where there is room: right, left, above, below, and further away. */
static void draw_name(text *t, chart *c, size_t i)
{
    static const struct {
        double dx, dy;
        int anchor; /* -1: ends there, 0: in the middle, 1: begins there */
    } tries[] = {{10, 4, 1},   {-10, 4, -1}, {0, -11, 0}, {0, 20, 0},     {8, -9, 1},    {8, 17, 1},  {-8, -9, -1},
                 {-8, 17, -1}, {14, -20, 1}, {14, 30, 1}, {-14, -20, -1}, {-14, 30, -1}, {0, -28, 0}, {0, 36, 0}};
    const double width = 7.9 * (double)strlen(c->points[i]->name);
    size_t k = 0;
    box b = {0};
    for (; k < sizeof tries / sizeof *tries; k++) {
        const double x = c->at[i].x + tries[k].dx, y = c->at[i].y + tries[k].dy;
        const double x0 = tries[k].anchor < 0 ? x - width : tries[k].anchor == 0 ? x - width / 2 : x;
        b = (box){x0, y - 11, x0 + width, y + 3};
        if (is_free(c, i, b))
            break;
    }
    k = k == sizeof tries / sizeof *tries ? 0 : k;
    if (c->n_taken < sizeof c->taken / sizeof *c->taken)
        c->taken[c->n_taken++] = b;
    add(t, "<text class=\"name\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", c->at[i].x + tries[k].dx,
        c->at[i].y + tries[k].dy,
        tries[k].anchor < 0    ? "end"
        : tries[k].anchor == 0 ? "middle"
                               : "start");
    add_escaped(t, c->points[i]->name);
    add(t, "</text>\n");
}

static void draw_points(text *t, chart *c)
{
    bool front[MOST_POINTS], begun = false;
    find_front(c, front);
    add(t, "<path class=\"front\" d=\"");
    for (size_t i = 0; i < c->n; i++)
        if (front[i]) {
            add(t, "%s%.1f %.1f", begun ? " L" : "M", c->at[i].x, c->at[i].y);
            begun = true;
        }
    add(t, "\"/>\n");
    for (size_t i = 0; i < c->n; i++) {
        const quant_point *p = c->points[i];
        add(t, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"><title>", front[i] ? "dot" : "weak", c->at[i].x,
            c->at[i].y);
        add_escaped(t, p->name);
        add(t, ": %.1f MB, %.3f bits a weight, KL %.6f, same top %.2f %%</title></circle>\n", (double)p->bytes / 1e6,
            p->bits, p->kld, 100 * p->same_top);
    }
    for (size_t i = 0; i < c->n; i++)
        draw_name(t, c, i);
}

/* Those that have no place on the axis. */
static void draw_rest(text *t, const quant_point *points, size_t n)
{
    size_t shown = 0;
    for (size_t i = 0; i < n; i++) {
        if (points[i].kld >= LEAST_KLD)
            continue;
        if (shown++ == 0)
            add(t, "<text class=\"dim\" x=\"%d\" y=\"%d\">without a difference: ", LEFT, HEIGHT - 16);
        add(t, "%s", shown > 1 ? ", " : "");
        add_escaped(t, points[i].name);
        add(t, " (%.1f MB)", (double)points[i].bytes / 1e6);
    }
    if (shown > 0)
        add(t, "</text>\n");
}

int quant_svg_write(const char *path, const char *title, const char *note, const quant_point *points, size_t n)
{
    text t = {0};
    chart *c = calloc(1, sizeof *c);
    if (!c)
        return cli_error("out of memory");
    const bool any = lay_out(c, points, n);
    add(&t, "%s<title>", HEAD);
    add_escaped(&t, title);
    add(&t, "</title>\n<text class=\"title\" x=\"%d\" y=\"32\">", LEFT);
    add_escaped(&t, title);
    add(&t, "</text>\n<text class=\"dim\" x=\"%d\" y=\"54\">", LEFT);
    add_escaped(&t, note);
    add(&t, "</text>\n");
    if (any) {
        draw_axes(&t, c);
        draw_points(&t, c);
        draw_rest(&t, points, n);
    } else {
        add(&t, "<text x=\"%d\" y=\"%d\">no type differs from the model</text>\n", LEFT, HEIGHT / 2);
    }
    add(&t, "</svg>\n");
    free(c);
    const int code = t.failed ? cli_error("out of memory") : cli_write_file(path, t.data, t.n);
    free(t.data);
    return code;
}
