/* gguf_names.h — what the plan's tensors and the config's values are called in a GGUF file; docs/FORMAT.md says it in
 * prose. Two layouts: ours ("compact": shared tensors once, under the first layer of their block, adapters apart) and
 * that of the open llama.cpp proposal (each use of a shared block with its own copy, the adapters merged into it). A
 * file of the second is the plan of a model with as many blocks as uses and no adapters, so one set of names does. */
#ifndef ZB_GGUF_NAMES_H
#define ZB_GGUF_NAMES_H

#include "io/gguf_write.h"
#include "model/checkpoint.h"

/* Name and row-major shape of a tensor in the file; the latter returns the number of dimensions. */
void zb_gguf_name(char *buf, size_t n, const zb_plan *p, const zb_spec *s);
int zb_gguf_shape(size_t shape[4], const zb_plan *p, const zb_spec *s);

/* Give the tensors of a file the names and shapes of the plan. Missing and misshapen ones are errors. */
zamba_status zb_gguf_rename(zb_tensors *ts, zb_plan *p, const char *path, zamba_error *err);

/* Everything that stands before the tensors: what the model is, its vocabulary and chat template as other programs read
 * them, and the texts of the checkpoint word for word. `plan` is that of the file to be written (its config read
 * with ZAMBA_DT_FLOOR_AUTO); with `merged` it is in llama.cpp's layout. `file_type`: general.file_type
 * (zb_gguf_file_type, or that of a quantized preset). */
zamba_status zb_gguf_put_model(zb_gguf_writer *w, const zb_checkpoint *c, const zb_plan *plan, int merged,
                               uint32_t file_type, zamba_error *err);

/* 1 if a file is in llama.cpp's layout: it does not say that it is in ours. */
int zb_gguf_merged(const zb_gguf *g);

/* general.file_type of a file whose matrices are mostly of this type. */
uint32_t zb_gguf_file_type(zb_dtype t);

/* The config of a file without the text of config.json, from its keys, as that text would say it. *out is released with
 * json_decref. */
zamba_status zb_gguf_config(json_t **out, const zb_gguf *g, const char *path, zamba_error *err);

#endif
