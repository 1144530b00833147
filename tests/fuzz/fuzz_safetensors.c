/* fuzz_safetensors.c — any bytes as a safetensors file: tensors that lie within it, one behind the other, or an error
 * that names the file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    zb_tensors ts = {0};
    zamba_error err = {0};
    const zamba_status st = zb_safetensors_parse(&ts, data, n, "in.safetensors", &err);
    if (st != ZAMBA_OK) {
        REQUIRE(err.code == st && strncmp(err.message, "in.safetensors", 14) == 0);
        zb_tensors_close(&ts);
        return 0;
    }
    size_t total = 0;
    for (size_t i = 0; i < ts.n; i++) {
        const zb_tensor *t = &ts.items[i];
        const uint8_t *bytes = t->data;
        size_t elements = 1;
        unsigned sum = 0;
        char shape[200];
        REQUIRE(bytes >= data + 8 && bytes <= data + n && t->bytes <= (size_t)(data + n - bytes));
        REQUIRE(t->n_dims >= 0 && t->n_dims <= ZB_MAX_DIMS && t->name != NULL && t->file != NULL);
        for (int d = 0; d < t->n_dims; d++)
            elements *= t->shape[d];
        if (t->known)
            REQUIRE(t->bytes == elements * zb_dtype_bytes(t->dtype));
        REQUIRE(strlen(zb_shape_text(shape, sizeof shape, t->shape, t->n_dims)) >= 2);
        for (size_t k = 0; k < t->bytes; k++)
            sum += bytes[k]; /* for the sanitizer */
        total += t->bytes + (sum > UINT32_MAX);
    }
    REQUIRE(total <= n);
    zb_tensors_close(&ts);
    return 0;
}
