/* progress.h — shows on standard error that long work goes on: a bar on a terminal, plain lines elsewhere, JSON lines
 * for programs, or nothing. Work that is over at once shows nothing unless a form was asked for by name. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "terminal.h"

typedef struct progress {
    int mode;
    bool always; /* the form was asked for by name: show the first and last line too */
    bool drawn;  /* a bar stands on the terminal */
    term terminal;
    const char *task, *unit;
    size_t done, total, shown; /* shown: `done` of the last line                          */
    size_t first;              /* what was done before: neither in the rate nor in the time left */
    char note[64];             /* stands behind the numbers: "" or what the caller puts there    */
    double start, last;
} progress;

/* `mode` and `color` are the values of --progress and --color. total 0: not known. The unit "bytes" is shown in MiB and
 * the like. Texts are kept, not copied. */
void progress_begin(progress *p, int mode, int color, const char *task, const char *unit, size_t total);
void progress_update(progress *p, size_t done);
void progress_end(progress *p);

/* Take away a bar that is being drawn, so that a message can be written. */
void progress_clear(void);

#endif
