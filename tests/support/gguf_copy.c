/* gguf_copy.c — see gguf_copy.h. */
#include "support/gguf_copy.h"

#include <stdlib.h>
#include <string.h>

static int goes_over(const gguf_change *c, const char *name, size_t n)
{
    for (size_t i = 0; i < 24 && c->without[i] != NULL; i++) {
        const size_t m = strlen(c->without[i]), whole = c->without[i][m - 1] != '*';
        if (n >= m - !whole && memcmp(name, c->without[i], m - !whole) == 0 && (!whole || n == m))
            return 0;
    }
    return 1;
}

void gguf_copy(const char *from, const char *to, const gguf_change *change)
{
    zb_gguf g;
    zb_gguf_writer *w;
    zamba_error err;
    size_t bytes = change->tensor != NULL ? sizeof(float) : 0;
    CHECK_OK(zb_gguf_open(&g, from, &err), err);
    CHECK_OK(zb_gguf_create(&w, to, &err), err);
    for (size_t i = 0; i < g.n_keys; i++)
        if (goes_over(change, g.keys[i].name, g.keys[i].n_name))
            zb_gguf_put_value(w, g.keys[i].name, g.keys[i].n_name, &g.keys[i].value);
    if (change->put != NULL)
        change->put(w);
    for (size_t i = 0; i < g.tensors.n; i++) {
        const zb_tensor *t = &g.tensors.items[i];
        if (goes_over(change, t->name, strlen(t->name)))
            zb_gguf_declare(w, t->name, t->dtype, t->shape, t->n_dims);
    }
    if (change->tensor != NULL)
        zb_gguf_declare(w, change->tensor, ZB_F32, change->shape, change->n_dims);
    CHECK_OK(zb_gguf_begin(w, &err), err);
    for (size_t i = 0; i < g.tensors.n; i++)
        if (goes_over(change, g.tensors.items[i].name, strlen(g.tensors.items[i].name)))
            CHECK_OK(zb_gguf_append(w, g.tensors.items[i].data, g.tensors.items[i].bytes, &err), err);
    for (int d = 0; d < change->n_dims; d++)
        bytes *= change->shape[d];
    void *zeros = calloc(bytes + 1, 1);
    assert_non_null(zeros);
    CHECK_OK(zb_gguf_append(w, zeros, bytes, &err), err);
    free(zeros);
    CHECK_OK(zb_gguf_finish(w, &err), err);
    zb_gguf_close(&g);
}
