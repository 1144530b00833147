/* svg_heatmap.c — see svg_heatmap.h. Colours are classes, so that one style sheet can give them twice: pale to deep
 * blue on light pages, deep to pale on dark ones; in both the strongest contrast to the page is the highest value. */
#include "svg_heatmap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 21, CELL_HEIGHT = 30, LEFT = 86, TOP = 64, APART = 8, LEGEND_WIDTH = 210 };

typedef struct colour {
    double r, g, b;
} colour;

static const colour light_ramp[] = {{240, 244, 250}, {120, 170, 220}, {8, 58, 120}};
static const colour dark_ramp[] = {{32, 41, 54}, {44, 104, 168}, {186, 222, 255}};

static colour ramp(const colour *stops, double x)
{
    const size_t i = x < 0.5 ? 0 : 1;
    const double t = (x - 0.5 * (double)i) * 2;
    const colour a = stops[i], b = stops[i + 1];
    return (colour){a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t};
}

static void escaped(FILE *f, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&':
            fputs("&amp;", f);
            break;
        case '<':
            fputs("&lt;", f);
            break;
        case '>':
            fputs("&gt;", f);
            break;
        case '"':
            fputs("&quot;", f);
            break;
        default:
            if ((unsigned char)*text >= ' ') /* XML has no other control characters */
                fputc(*text, f);
            else
                fputc(' ', f);
        }
    }
}

static void label(FILE *f, double x, double y, const char *class, const char *text)
{
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
    escaped(f, text);
    fputs("</text>\n", f);
}

/* Relative luminance, 0 to 1: black letters are easier to read than white ones from 0.18 on. */
static double luminance(colour c)
{
    return 0.2126 * pow(c.r / 255, 2.2) + 0.7152 * pow(c.g / 255, 2.2) + 0.0722 * pow(c.b / 255, 2.2);
}

static void colours(FILE *f, const colour *stops, bool dark)
{
    for (size_t i = 0; i < STEPS; i++) {
        const colour c = ramp(stops, (double)i / (STEPS - 1));
        const bool bright = luminance(c) > 0.18;
        fprintf(f, ".c%zu{fill:#%02x%02x%02x}.t%zu{fill:%s}", i, (unsigned)c.r, (unsigned)c.g, (unsigned)c.b, i,
                bright ? "#10151c" : "#f4f7fb");
    }
    fprintf(f, ".page{fill:%s}.ink{fill:%s}.soft{fill:%s}.line{stroke:%s}\n", dark ? "#12171e" : "#ffffff",
            dark ? "#e8edf3" : "#1a2029", dark ? "#a3aebb" : "#56616e", dark ? "#3a4552" : "#c6ced8");
}

static size_t step(double value)
{
    value = value > 0 ? value < 1 ? value : 1 : 0; /* NaN: 0 */
    return (size_t)(value * (STEPS - 1) + 0.5);
}

static void legend(FILE *f, const heatmap *h, double x, double y)
{
    const double w = (double)LEGEND_WIDTH / STEPS;
    label(f, x, y - 8, "soft", h->value_title);
    for (size_t i = 0; i < STEPS; i++)
        fprintf(f, "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"12\" class=\"c%zu\"/>", x + w * (double)i, y,
                w + 0.3, i);
    fprintf(f, "\n<rect x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"12\" fill=\"none\" class=\"line\"/>\n", x, y,
            LEGEND_WIDTH);
    label(f, x, y + 27, "soft mid", "0");
    label(f, x + LEGEND_WIDTH / 2.0, y + 27, "soft mid", "0.5");
    label(f, x + LEGEND_WIDTH, y + 27, "soft mid", "1");
    if (h->mark_title) {
        fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" class=\"ink\"/>", x + 4, y + 44);
        label(f, x + 14, y + 48, "soft", h->mark_title);
    }
}

char *svg_heatmap(const heatmap *h, size_t *n)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, n);
    if (!f)
        return NULL;
    const double cell = h->nx > 24 ? 28 : h->nx > 12 ? 44 : 58;
    const double grid = cell * (double)h->nx, gap = h->apart < h->ny ? APART : 0;
    const double bottom = TOP + CELL_HEIGHT * (double)h->ny + gap;
    const double least = 460; /* room for the title */
    const double width = LEFT + (grid > least ? grid : least) + 24, height = bottom + 158;
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
            "role=\"img\">\n<title>",
            width, height, width, height);
    escaped(f, h->title);
    fputs("</title>\n<style>text{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}"
          ".big{font-size:15px;font-weight:600}.mid{text-anchor:middle}.end{text-anchor:end}.small{font-size:11px}\n",
          f);
    colours(f, light_ramp, false);
    fputs("@media (prefers-color-scheme:dark){", f);
    colours(f, dark_ramp, true);
    fputs("}</style>\n", f);
    fprintf(f, "<rect width=\"%.0f\" height=\"%.0f\" class=\"page\"/>\n", width, height);
    label(f, 16, 28, "ink big", h->title);
    for (size_t y = 0; y < h->ny; y++) {
        const double top = TOP + CELL_HEIGHT * (double)y + (y >= h->apart ? gap : 0);
        label(f, LEFT - 8, top + CELL_HEIGHT / 2.0 + 4, "ink end", h->y_labels[y]);
        for (size_t x = 0; x < h->nx; x++) {
            const heatmap_cell *c = &h->cells[y * h->nx + x];
            const double left = LEFT + cell * (double)x;
            const size_t s = step(c->value);
            fprintf(f, "<g><title>");
            escaped(f, h->x_labels[x]);
            fputs(", ", f);
            escaped(f, h->y_labels[y]);
            fprintf(f,
                    ": %.4f</title><rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\" class=\"c%zu\"/>",
                    c->value, left + 1, top + 1, cell - 2, CELL_HEIGHT - 2, s);
            if (cell > 40)
                fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" class=\"small mid t%zu\">%.2f</text>",
                        left + cell / 2 - (c->mark ? 6 : 0), top + CELL_HEIGHT / 2.0 + 4, s, c->value);
            if (c->mark)
                fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%s\" class=\"t%zu\"/>",
                        cell > 40 ? left + cell / 2 + 15 : left + cell / 2, top + CELL_HEIGHT / 2.0,
                        cell > 40 ? "3.5" : "4", s);
            fputs("</g>\n", f);
        }
    }
    for (size_t x = 0; x < h->nx; x++) /* narrow columns: every second label */
        if (cell > 40 || x % 2 == 0)
            label(f, LEFT + cell * ((double)x + 0.5), bottom + 18, "ink mid", h->x_labels[x]);
    label(f, LEFT + grid / 2, bottom + 38, "soft mid", h->x_title);
    fprintf(f, "<text transform=\"translate(18 %.1f) rotate(-90)\" class=\"soft mid\">",
            TOP + CELL_HEIGHT * (double)h->apart / 2.0);
    escaped(f, h->y_title);
    fputs("</text>\n", f);
    legend(f, h, LEFT, bottom + 72);
    label(f, 16, bottom + 146, "soft small", h->note);
    fputs("</svg>\n", f);
    const bool failed = ferror(f) != 0;
    if (fclose(f) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}
