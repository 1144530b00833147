/* bb_model.h — a backbone before its weights are known. */
#ifndef ZB_BB_MODEL_H
#define ZB_BB_MODEL_H

#include "backbone/backbone.h"

/* All memory, weights of zeros, nothing derived yet. */
zamba_status zb_bb_open(zamba_backbone **out, const zamba_backbone_options *o, const zamba_backbone_run *run,
                        zamba_error *err);

#endif
