/* fuzz_gguf.c — any bytes as a GGUF file: keys and tensors that lie within it, or an error that names it; then what
 * they say as a config with its plan and tensors, and as a tokenizer. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/gguf_vocab.h"
#include "io/json.h"
#include "model/gguf_names.h"
#include "tok/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            abort();                                                                                                   \
    } while (0)

static unsigned sum_of(const void *data, size_t n)
{
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((const unsigned char *)data)[i]; /* for the sanitizer */
    return sum;
}

static unsigned check_value(const zb_gguf_value *v)
{
    unsigned sum = sum_of(v->data, v->bytes);
    size_t n;
    const char *text = zb_gguf_text(v, &n);
    zb_gguf_texts it = {.value = v};
    REQUIRE(v->is_array || v->n == 1);
    REQUIRE((text != NULL) == (!v->is_array && v->type == ZB_GGUF_TEXT));
    if (text != NULL)
        sum += sum_of(text, n);
    size_t texts = 0;
    while (zb_gguf_next_text(&it, &text, &n)) {
        REQUIRE((const unsigned char *)text >= v->data && (const unsigned char *)text + n <= v->data + v->bytes);
        texts++;
    }
    REQUIRE(texts == (v->type == ZB_GGUF_TEXT ? v->n : 0));
    for (size_t i = 0; i < v->n; i++) {
        int64_t whole = 0;
        double real = 0;
        sum += (unsigned)zb_gguf_int(v, i, &whole) + (unsigned)zb_gguf_real(v, i, &real) + (unsigned)whole;
    }
    return sum;
}

static void check_file(const zb_gguf *g, const uint8_t *data, size_t n)
{
    size_t total = 0;
    unsigned sum = 0;
    for (size_t i = 0; i < g->n_keys; i++) {
        const uint8_t *name = (const uint8_t *)g->keys[i].name;
        REQUIRE(name >= data && name + g->keys[i].n_name <= data + n && g->keys[i].n_name > 0);
        REQUIRE(g->keys[i].value.data >= data && g->keys[i].value.data + g->keys[i].value.bytes <= data + n);
        sum += check_value(&g->keys[i].value);
    }
    for (size_t i = 0; i < g->tensors.n; i++) {
        const zb_tensor *t = &g->tensors.items[i];
        const uint8_t *from = t->data;
        size_t elements = 1;
        REQUIRE(from >= data && from <= data + n && t->bytes <= (size_t)(data + n - from));
        REQUIRE(t->n_dims >= 0 && t->n_dims <= 4 && t->name != NULL && t->name[0] != '\0' && t->file != NULL);
        for (int d = 0; d < t->n_dims; d++)
            elements *= t->shape[d];
        if (t->known)
            REQUIRE(t->bytes == zb_row_bytes(t->dtype, elements));
        REQUIRE(zb_tensors_find(&g->tensors, t->name) == t);
        sum += sum_of(t->data, t->bytes);
        total += t->bytes;
    }
    REQUIRE(total <= n && sum <= UINT32_MAX);
}

static void try_model(zb_gguf *g)
{
    zamba_error err = {0};
    json_t *root = NULL;
    zb_config c = {0};
    zb_plan p;
    zamba_status st = zb_gguf_config(&root, g, "in.gguf", &err);
    if (st == ZAMBA_OK)
        st = zb_config_parse(&c, root, "in.gguf", ZAMBA_DT_FLOOR_AUTO, &err);
    json_decref(root);
    if (st == ZAMBA_OK)
        st = zb_plan_build(&p, &c, "in.gguf", &err);
    if (st == ZAMBA_OK) {
        st = zb_gguf_rename(&g->tensors, &p, "in.gguf", &err);
        for (size_t i = 0; i < p.n_specs && st == ZAMBA_OK; i++) {
            const zb_tensor *t = zb_tensors_find(&g->tensors, p.specs[i].name);
            REQUIRE(t != NULL && t->n_dims == p.specs[i].n_dims);
            if (t->known && p.specs[i].shape[t->n_dims - 1] % zb_dtype_block(t->dtype) == 0)
                REQUIRE(t->bytes == zb_row_bytes(t->dtype, zb_spec_elements(&p.specs[i])));
        }
        zb_plan_free(&p);
    }
    REQUIRE(st == ZAMBA_OK || (err.code == st && strncmp(err.message, "in.gguf: ", 9) == 0));
}

static void try_tokenizer(const zb_gguf *g)
{
    zamba_error err = {0};
    zamba_tokenizer *t = NULL;
    zb_buf json = {0}, config = {0};
    zamba_status st = zb_gguf_tokenizer(&json, &config, g, "in.gguf", &err);
    REQUIRE(st == ZAMBA_OK || (err.code == st && strncmp(err.message, "in.gguf: ", 9) == 0));
    if (st == ZAMBA_OK)
        (void)zb_tokenizer_parse(&t, json.data, json.n, "in.gguf", config.data, config.n, &err);
    zamba_tokenizer_close(t);
    zb_buf_free(&json);
    zb_buf_free(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    zb_gguf g;
    zamba_error err = {0};
    const zamba_status st = zb_gguf_parse(&g, data, n, "in.gguf", &err);
    if (st != ZAMBA_OK) {
        REQUIRE(err.code == st && strncmp(err.message, "in.gguf: ", 9) == 0);
        REQUIRE(g.keys == NULL && g.tensors.items == NULL);
        return 0;
    }
    check_file(&g, data, n);
    try_tokenizer(&g);
    try_model(&g);
    zb_gguf_close(&g);
    return 0;
}
