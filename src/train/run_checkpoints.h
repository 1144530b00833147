/* run_checkpoints.h — the checkpoints of a run's folder, whatever they are of: RUN/checkpoint-000123, the last few
 * kept, RUN/latest naming the newest. What stands in one is its trainer's. */
#ifndef ZB_RUN_CHECKPOINTS_H
#define ZB_RUN_CHECKPOINTS_H

#include "core/status.h"

#define ZB_RUN_STATE     "trainer_state.json"
#define ZB_RUN_OPTIMIZER "optimizer.safetensors"

typedef struct zb_run_save {
    const char *run;
    int64_t step;
    size_t bytes;             /* that it takes: whether there is room is asked before */
    int32_t keep;             /* checkpoints up to this step that stay; 0: all        */
    const char *const *owned; /* as zb_folder_out_commit has it                       */
    zamba_status (*write)(void *user, const char *folder, zamba_error *err);
    void *user;
} zb_run_save;

/* Write a checkpoint beside its place, sync it, rename it, then name it in RUN/latest and let old ones go. *saved is
 * the trainer's own note of the checkpoint that holds its present step, which is not written twice; *path (NULL: not
 * wanted) is released with zamba_free(). */
zamba_status zb_run_checkpoint(const zb_run_save *s, char **saved, char **path, zamba_error *err);

#endif
