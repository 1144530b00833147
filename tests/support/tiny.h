/* tiny.h — a checkpoint with random weights for any config.json, written from the plan's own tensor list: for shapes
 * that no golden has. */
#ifndef ZB_TINY_H
#define ZB_TINY_H

#include "support/scratch.h"

/* Write config.json and model.safetensors (f32, the same numbers each time) into the folder. */
void tiny_write(const scratch *s, const char *config_text);

/* The same, but matrices keep the size of what they multiply, as real ones do: small errors stay small. */
void tiny_write_tame(const scratch *s, const char *config_text);

/* tiny_write, and open it with one thread. */
zamba_model *tiny_model(const scratch *s, const char *config_text);

/* Sizes that are all odd, so that nothing falls on a border by luck: Mamba-1 and Mamba-2. */
extern const char tiny_odd1[], tiny_odd2[];

/* n ids below `vocab` that look random, the same each time for a seed. */
void tiny_ids(int32_t *ids, size_t n, size_t vocab, uint64_t seed);

#endif
