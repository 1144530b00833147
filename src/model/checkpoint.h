/* checkpoint.h — a model on disk whatever it came in: a folder of safetensors, or one GGUF file. Gives its plan,
 * its texts and its tensors under the names of the plan; what a GGUF calls them is known to gguf_names.c alone. */
#ifndef ZB_CHECKPOINT_H
#define ZB_CHECKPOINT_H

#include "io/gguf.h"
#include "model/plan.h"

typedef struct zb_checkpoint {
    char *path;
    int is_gguf;
    int merged;   /* GGUF in llama.cpp's layout: every use has its own block, adapters merged into it        */
    zb_gguf gguf; /* its tensors go with zb_checkpoint_tensors; the keys point into their mapping            */
} zb_checkpoint;

/* Find out what it is; a GGUF file is mapped and checked. */
zamba_status zb_checkpoint_open(zb_checkpoint *c, const char *path, zamba_error *err);
void zb_checkpoint_close(zb_checkpoint *c); /* safe on a zeroed one */

/* The plan of its config. On an error it is empty: nothing is to be released. */
zamba_status zb_checkpoint_plan(const zb_checkpoint *c, zb_plan *plan, zamba_dt_floor floor, zamba_error *err);

/* All its tensors; those of a GGUF file get the names and shapes of the plan, and are checked: missing or misshapen
 * ones are named as the file names them. Taken once; *out owns the mapping that the keys point into. */
zamba_status zb_checkpoint_tensors(zb_checkpoint *c, zb_plan *plan, zb_tensors *out, zamba_error *err);

/* Texts that belong to a checkpoint, by their names in a folder ("config.json", "tokenizer.json", ...); the list ends
 * with NULL. */
extern const char *const zb_checkpoint_texts[];

/* One of them, appended to *text. E_NOT_FOUND (and no message) if there is none. */
zamba_status zb_checkpoint_text(const zb_checkpoint *c, const char *name, zb_buf *text, zamba_error *err);

#endif
