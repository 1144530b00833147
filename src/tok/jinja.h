/* jinja.h — the Jinja of Hugging Face chat templates: parse once, render often. It behaves as transformers runs jinja2
 * (immutable sandbox, trim_blocks, lstrip_blocks, loop controls). Knows nothing of models, files or tokens.
 *
 * Trust: each byte of the rendered text says whether it comes from the template (its text, its literals, the trusted
 * variables) or from the context; it keeps saying so through filters, methods, slices and concatenation. */
#ifndef ZB_JINJA_H
#define ZB_JINJA_H

#include <jansson.h>

#include "core/status.h"

typedef struct zb_jinja zb_jinja; /* immutable once parsed: threads may share it */

/* A trusted variable, overridden by a context variable of the same name. */
typedef struct zb_jinja_var {
    const char *name;
    const char *text;
    size_t n;
} zb_jinja_var;

typedef struct zb_jinja_text {
    char *text; /* NUL-terminated                                  */
    size_t n;
    unsigned char *trusted; /* [n] 1: from the template                        */
} zb_jinja_text;

/* E_FORMAT: not a template; E_UNSUPPORTED: a construct that is not run here. Both name the line. */
zamba_status zb_jinja_parse(zb_jinja **out, const char *source, size_t n, zamba_error *err);
void zb_jinja_free(zb_jinja *t);

/* `context` is an object. On success *out is released with zb_jinja_text_free.
 * E_ARG: the template's raise_exception, with its text. E_FORMAT: any other error of the template, or one of its limits
 * (time, text, memory, depth). E_UNSUPPORTED: a construct that is not run here. */
zamba_status zb_jinja_render(const zb_jinja *t, const json_t *context, const zb_jinja_var *vars, size_t n_vars,
                             zb_jinja_text *out, zamba_error *err);
void zb_jinja_text_free(zb_jinja_text *text);

#endif
