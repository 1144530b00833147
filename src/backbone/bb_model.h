/* bb_model.h — a backbone before its weights are known, and its options as config.json says them. */
#ifndef ZB_BB_MODEL_H
#define ZB_BB_MODEL_H

#include "backbone/backbone.h"
#include "io/json.h"

/* All memory, weights of zeros, nothing derived yet. */
zamba_status zb_bb_open(zamba_backbone **out, const zamba_backbone_options *o, const zamba_backbone_run *run,
                        zamba_error *err);

/* What config.json says; NULL: out of memory. */
json_t *zb_bb_config_json(const zamba_backbone_options *o);

#endif
