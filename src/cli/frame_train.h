/* frame_train.h — the steps of training a frame model, with progress, run folder, checkpoints and measurements; where
 * batches come from, and what is measured, is the caller's. */
#ifndef CLI_FRAME_TRAIN_H
#define CLI_FRAME_TRAIN_H

#include "frame_model.h"
#include "run_folder.h"

typedef struct frame_training {
    const cli_args *args;
    zamba_backbone *model;
    zamba_backbone_trainer *trainer;
    run_folder *run;
    const char *folder; /* of the model below the run's: "policy" */
    json_t *settings;   /* what else the run's config says; taken over */
    uint64_t random;    /* of the order of data: all that `next` remembers from step to step */
    uint64_t mark;      /* of the data, see frame_mark: a run is gone on with on the same    */
    void *user;
    /* The batch of a step, from 1. Returns an exit code. */
    int (*next)(void *user, int64_t step, zamba_backbone_batch *batch);
    /* Measure; NULL: nothing to measure on. `last`: all steps are made. Returns an exit code. */
    int (*measure)(void *user, int64_t step, bool last, double *loss);
} frame_training;

/* Open the trainer with the command line's options, go on from the run's last checkpoint with --resume, train, save
 * into RUN/folder. Returns an exit code; closes trainer and run. */
int frame_train(frame_training *t, zamba_backbone_loss loss, zamba_backbone_which rows, double dropout);

/* Numbers for the order of data: the same seed, the same on every machine. */
uint64_t frame_random(uint64_t *state);

/* The mark of these numbers behind those that `mark` is of; the first has 0. */
uint64_t frame_mark(uint64_t mark, const float *x, size_t n);

#endif
