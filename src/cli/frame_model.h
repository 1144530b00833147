/* frame_model.h — what `zamba backbone` and `zamba replay` share: the options of a frame model from the command line,
 * opening one, and frames from files. */
#ifndef CLI_FRAME_MODEL_H
#define CLI_FRAME_MODEL_H

#include "common.h"
#include "zamba_backbone.h"

/* The preset (`fallback` where none is given) with the options of the command line over it. Returns an exit code. */
int frame_options(const cli_args *args, const char *fallback, zamba_backbone_options *o);

/* True if the command line says anything of what the model is; *name is then the option. */
bool frame_options_given(const cli_args *args, const char **name);
/* One of them: "dropout". */
bool frame_option_given(const cli_args *args, const char *name);

/* How it is run. weights "auto" is f32. */
zamba_backbone_run frame_run(const cli_args *args);

/* The folder `path`, or (NULL) a new model of the command line's options. Returns an exit code. */
int frame_model_open(const cli_args *args, const char *path, const zamba_backbone_run *run, zamba_backbone **out);

/* An f32 tensor of a .safetensors file, or a whole file of little-endian f32 numbers (then one dimension). "-" is
 * standard input. */
typedef struct frame_numbers {
    float *data; /* released with free() */
    size_t n;
    int64_t shape[4];
    int n_dims;
} frame_numbers;
/* Returns an exit code. */
int frame_numbers_read(const char *path, const char *tensor, frame_numbers *out);

/* Write n numbers to standard output as they lie in memory. */
void frame_numbers_out(const float *x, size_t n);

#endif
