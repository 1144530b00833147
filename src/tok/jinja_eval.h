/* jinja_eval.h — what expressions (jinja_eval.c) and statements (jinja_run.c) of a running template share: scopes,
 * macros, loops. */
#ifndef ZB_JINJA_EVAL_H
#define ZB_JINJA_EVAL_H

#include "tok/jinja_ast.h"

/* Variables of a loop body, macro, ...; the outermost scope has a value (or MISSING) for every name of the template. */
typedef struct zb_jscope {
    struct zb_jscope *parent; /* NULL: outermost, vals[sym] */
    int32_t *syms;
    zb_jval *vals;
    size_t n, cap;
} zb_jscope;

typedef struct zb_jmacro {
    const zb_jnode *node; /* ZB_JN_MACRO or ZB_JN_CALLER     */
    zb_jscope *scope;     /* where it was defined            */
} zb_jmacro;

/* The `loop` variable, and the iteration itself: items may be skipped by a condition, so they are looked for one by one
 * and those that were looked at ahead of time wait in `ahead`. */
typedef struct zb_jloop {
    zb_jseq seq;
    size_t at; /* of the next item of seq to look at */
    const zb_jnode *node;
    zb_jscope *scope; /* around the loop; `trial` inside it is the condition's own */
    zb_jscope trial;
    zb_jlist ahead; /* items [ahead.pos, ahead.n) */
    int64_t index0; /* of the current item */
    zb_jval current, before, changed;
} zb_jloop;

typedef enum zb_jflow { ZB_JFLOW_ON, ZB_JFLOW_BREAK, ZB_JFLOW_CONTINUE } zb_jflow;

zb_jval zb_jeval(zb_jrun *r, zb_jscope *s, const zb_jnode *n);
/* A chain of filters over the text of a block. */
zb_jval zb_jeval_filters(zb_jrun *r, zb_jscope *s, const zb_jnode *n, zb_jval text);
/* The call of a call block: `caller` is one more named argument. */
zb_jval zb_jeval_call(zb_jrun *r, zb_jscope *s, const zb_jnode *n, const zb_jval *caller);
void zb_jassign(zb_jrun *r, zb_jscope *s, const zb_jnode *target, zb_jval v);
zb_jflow zb_jexec(zb_jrun *r, zb_jscope *s, const zb_jnodes *body, zb_jbuf *out);

void zb_jscope_set(zb_jrun *r, zb_jscope *s, int32_t sym, zb_jval v);
zb_jval zb_jscope_get(zb_jrun *r, const zb_jscope *s, const zb_jnode *name);

int zb_jloop_next(zb_jrun *r, zb_jloop *l); /* 0: no more items */

#endif
