/* inspect.h — what `zamba inspect` shows, between its files: the gathered facts, and the comparison with transformers.
 */
#ifndef CLI_INSPECT_H
#define CLI_INSPECT_H

#include <jansson.h>

#include "common.h"
#include "terminal.h"

enum { INSPECT_MOST_PARTS = 16 };

typedef struct inspect_layer {
    zamba_layer_info info;
    int32_t slot; /* of the KV cache, or -1 */
    int64_t rank; /* of its adapters, 0: none */
    bool adapts_mlp, adapts_q, adapts_k, adapts_v;
} inspect_layer;

typedef struct inspect_part {
    const char *name;
    size_t n_tensors;
    uint64_t stored, used, bytes; /* parameters as stored, as a token multiplies by them, bytes as stored */
} inspect_part;

typedef struct inspect {
    const cli_args *args;
    zamba_model *model;
    zamba_model_info info;
    zamba_memory_info memory;
    inspect_layer *layers;
    inspect_part parts[INSPECT_MOST_PARTS];
    size_t n_parts;
    size_t context;   /* tokens that the memory is counted for */
    uint64_t kv_held; /* bytes of the KV pages at that context */
} inspect;

/* inspect_compare.c: beside well-known transformers. */
void inspect_compare_print(const inspect *x, const term *t);
json_t *inspect_compare_json(const inspect *x);

#endif
