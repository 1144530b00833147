/* trainer.h — the trainer as its own files share it: trainer.c makes the steps, train_checkpoint.c saves and resumes.
 */
#ifndef ZB_TRAINER_H
#define ZB_TRAINER_H

#include "model/tape.h"
#include "train/frozen.h"
#include "train/loss.h"
#include "train/optimizer.h"
#include "train/reduction.h"
#include "zamba_train.h"

/* What is added up over the rows of a step, on every process. */
typedef enum zb_sum {
    ZB_SUM_WEIGHT, /* targets, or pairs: what the gradient is divided by */
    ZB_SUM_LOSS,
    ZB_SUM_TOKENS,
    ZB_SUM_DIVERGENCE,
    ZB_SUM_CORRECT, /* pairs whose chosen text has the greater reward */
    ZB_SUM_CHOSEN,
    ZB_SUM_REJECTED,
    ZB_N_SUMS
} zb_sum;

#define ZB_TRAIN_TEXTS 8 /* the most that zb_checkpoint_texts names */

struct zamba_trainer {
    zamba_train_options o; /* texts are not kept */
    char *path;
    zamba_model *m;
    zb_params params;
    zb_tape *tape;
    zb_optimizer optimizer; /* of our share */
    zb_reduction reduction;
    zb_frozen teacher, reference;
    int has_teacher, has_reference;
    zb_buf texts[ZB_TRAIN_TEXTS]; /* of the checkpoint: they are saved again and again, and it may be gone by then */
    unsigned char *was_bf16;      /* [n tensors]: as they came */
    /* one microbatch */
    size_t most_rows, most_examples;
    zb_example *examples; /* [most_examples]                                    */
    int32_t *targets;     /* [most_rows]                                        */
    float *logp, *weights, *divergence;
    float *teacher_logits; /* [most_rows, vocab] or NULL                         */
    zb_pair *pairs;        /* [most_examples / 2] with DPO, or NULL              */
    uint16_t *text_bytes;  /* [vocab] of each id's text, or NULL                 */
    /* where it stands */
    int64_t step;
    uint64_t tokens;
    double mean_loss; /* running mean of the steps that were made, with mean_weight: the sum of its weights */
    double mean_weight;
    int32_t skipped;        /* in a row */
    char *saved;            /* the checkpoint that holds the present step, or NULL */
    int32_t added;          /* batches of the step that is not yet whole */
    double sums[ZB_N_SUMS]; /* of it */
    double begun;           /* when, in seconds */
    double exchanged;       /* seconds of exchange before it */
};

/* All ranks get rank 0's weights; E_MISMATCH if they hold another number of them. */
zamba_status zb_trainer_same_weights(zamba_trainer *t, zamba_error *err);

#endif
