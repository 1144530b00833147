/* backbone_trainer.h — the trainer of the frame model as its own files share it: backbone_trainer.c makes the steps,
 * backbone_checkpoint.c saves and resumes. */
#ifndef ZB_BACKBONE_TRAINER_H
#define ZB_BACKBONE_TRAINER_H

#include "backbone/back.h"
#include "train/optimizer.h"

struct zamba_backbone_trainer {
    zamba_backbone_train_options o;
    zamba_backbone *b;
    zb_pool *pool; /* NULL: one thread */
    zb_bb_tape tape;
    zb_params params; /* of the backbone: its values and the tape's gradients */
    zb_spec *specs;
    size_t *at;
    zb_optimizer optimizer;
    int64_t step;    /* steps, those that were skipped included */
    double dropout;  /* of this trainer's steps                 */
    uint64_t chosen; /* seed of what the present step leaves out */
    int graded;      /* the gradients are those of a zamba_backbone_trainer_backward */
    char *saved;     /* the checkpoint that holds the present step, or NULL */
    char *data;      /* what was saved beside the trainer that this one goes on from, or NULL */
};

#endif
