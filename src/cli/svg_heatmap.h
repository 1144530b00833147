/* svg_heatmap.h — a table of numbers between 0 and 1 as a picture: SVG that stands by itself, readable on light and on
 * dark pages. Knows nothing of what the numbers are. */
#ifndef CLI_SVG_HEATMAP_H
#define CLI_SVG_HEATMAP_H

#include <stdbool.h>
#include <stddef.h>

typedef struct heatmap_cell {
    double value; /* 0 to 1 */
    bool mark;    /* a dot  */
} heatmap_cell;

typedef struct heatmap {
    const char *title, *note; /* above; one line below */
    const char *x_title, *y_title, *value_title, *mark_title;
    const char *const *x_labels, *const *y_labels;
    size_t nx, ny;
    size_t apart;              /* rows from this one on stand apart; ny: none */
    const heatmap_cell *cells; /* [ny, nx] */
} heatmap;

/* The text, released with free(); NULL if out of memory. */
char *svg_heatmap(const heatmap *h, size_t *n);

#endif
