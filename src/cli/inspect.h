/* inspect.h — what `zamba inspect` shows, between its files and for `zamba show`: the gathered facts, how they are
 * printed, and the comparison with transformers. */
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

/* cmd_inspect.c. Release `layers` with free(). */
zamba_status inspect_gather(inspect *x, zamba_error *err); /* of an open model */
json_t *inspect_json(const inspect *x);
void inspect_heading(const term *t, const char *text, const char *note);
void inspect_fact(const term *t, const char *name, const char *format, ...) CLI_PRINTF(3, 4);
void inspect_print_facts(const inspect *x, const term *t);
void inspect_print_parts(const inspect *x, const term *t);

/* inspect_compare.c: beside well-known transformers. */
void inspect_compare_print(const inspect *x, const term *t);
json_t *inspect_compare_json(const inspect *x);

#endif
