/* tb_events.h — writes the event files that TensorBoard reads: numbers and texts by step. */
#ifndef CLI_TB_EVENTS_H
#define CLI_TB_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tb_events tb_events;

typedef struct tb_scalar {
    const char *tag;
    double value; /* written as f32; NaN is left out */
} tb_scalar;

/* A new events.out.tfevents.* in `folder`. resume_step >= 0: what earlier files of the folder say about later steps no
 * longer counts. NULL: it could not be made, see errno. */
tb_events *tb_events_open(const char *folder, int64_t resume_step);

/* False: it could not be written. Texts are shown as Markdown. */
bool tb_events_scalars(tb_events *t, int64_t step, const tb_scalar *scalars, size_t n);
bool tb_events_text(tb_events *t, int64_t step, const char *tag, const char *text);

bool tb_events_close(tb_events *t); /* NULL is fine */

#endif
