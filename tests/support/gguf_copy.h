/* gguf_copy.h — GGUF files that are almost right: copies with keys and tensors left out, put in or misshapen. */
#ifndef ZB_GGUF_COPY_H
#define ZB_GGUF_COPY_H

#include "io/gguf_write.h"
#include "support/check.h"

typedef struct gguf_change {
    const char *without[24];        /* keys and tensors that do not go over; "x*": all that begin with x */
    void (*put)(zb_gguf_writer *w); /* more keys, or NULL                                                */
    const char *tensor;             /* one more tensor of zeros (f32), or NULL                           */
    size_t shape[4];
    int n_dims;
} gguf_change;

void gguf_copy(const char *from, const char *to, const gguf_change *change);

#endif
