/* bb_options.h — the table of a backbone's options, for text, JSON and checks, and what follows from them at once. */
#ifndef ZB_BB_OPTIONS_H
#define ZB_BB_OPTIONS_H

#include "backbone/backbone.h"

#define ZB_BB_MOST_EXTRAS 16 /* embeddings; heads (as many as zamba_backbone_metrics tells of) */

typedef enum zb_bb_option_kind { ZB_BB_INT, ZB_BB_CHOICE, ZB_BB_SWITCH, ZB_BB_SHARE } zb_bb_option_kind;

typedef struct zb_bb_option {
    const char *name, *alias; /* alias: NULL, or the other spelling of the documents */
    size_t at;                /* in zamba_backbone_options: an int32_t, of SHARE a double */
    zb_bb_option_kind kind;
    int32_t least, most;
    const char *const *names; /* CHOICE: [most + 1] */
} zb_bb_option;

const zb_bb_option *zb_bb_options_table(size_t *n);
const zb_bb_option *zb_bb_option_find(const char *name); /* NULL: none */
int32_t *zb_bb_option_int(zamba_backbone_options *o, const zb_bb_option *row);

/* Of checked options. */
int32_t zb_bb_head_dim(const zamba_backbone_options *o);
zamba_backbone_layer zb_bb_layer_kind(const zamba_backbone_options *o, size_t layer);

#endif
