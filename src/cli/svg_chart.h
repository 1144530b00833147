/* svg_chart.h — lines over a common axis as SVG for a page that has svg_chart_style() in it. Knows nothing of what the
 * numbers are. */
#ifndef CLI_SVG_CHART_H
#define CLI_SVG_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { SVG_CHART_COLOURS = 8 };

typedef enum chart_form { CHART_LINE, CHART_DOTS, CHART_BAND } chart_form; /* DOTS: a line with marks */

typedef struct chart_series {
    const char *name;
    size_t colour;   /* 0 .. SVG_CHART_COLOURS - 1                                 */
    chart_form form; /* BAND: the surface from y to top, faint, without a name      */
    const double *x, *y, *top;
    size_t n; /* x ascending; points that are no numbers are left out        */
} chart_series;

typedef struct svg_chart {
    const char *title;
    const chart_series *series;
    size_t n_series;
    const char *unit; /* of x: "step" if NULL                                   */
    double width, height;
    bool from_zero; /* the axis begins at 0                                        */
    double cut;     /* this share of the highest values may leave the picture, or one that dwarfs the others */
} svg_chart;

/* The rules that all charts of a page share: colours for light and dark pages as CSS variables --c0 ..., --ink ... */
void svg_chart_style(FILE *f);
void svg_chart_write(FILE *f, const svg_chart *c, const char *class);

/* A number as axes show it, with about so many digits. */
const char *svg_chart_number(double x, int digits, char buffer[32]);

/* Text in HTML and SVG. */
void svg_chart_escape(FILE *f, const char *text);

#endif
