/* fuzz_packed.c — packed matrices of any sizes, pieces and bytes: refused by name, or made into a matrix of the right
 * size whose columns are in some order.
 *
 * The input is text first: a line with rows and columns of the matrix and how far from an aligned address tensors
 * stand, a line with quantization_config, a line "NAME TYPE SIZE SIZE ..." for each tensor, an empty line. The bytes
 * after it fill the tensors in turn, from the front again where they do not suffice. Each tensor is a block of its own,
 * so that a sanitizer sees every step outside. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "io/json.h"
#include "model/packed.h"
#include "quant/quant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            abort();                                                                                                   \
    } while (0)

enum { MOST_TENSORS = 32, MOST_SIZE = 256, MOST_BYTES = 1 << 17, LINE = 1024 };

typedef struct reader {
    const uint8_t *data;
    size_t n, at;
    char line[LINE];
} reader;

/* The next line; longer ones are cut. 0: it is empty, or there is none. */
static int next_line(reader *r)
{
    const uint8_t *from = r->data + r->at, *end = memchr(from, '\n', r->n - r->at);
    const size_t n = end != NULL ? (size_t)(end - from) : r->n - r->at, kept = n < LINE ? n : LINE - 1;
    memcpy(r->line, from, kept);
    r->line[kept] = '\0';
    r->at += n + (end != NULL);
    return n > 0;
}

/* One that a safetensors file could hold under that line, without its bytes. */
static int parse_tensor(zb_tensor *t, char *line)
{
    char *rest, *name = strtok_r(line, " ", &rest), *type = strtok_r(NULL, " ", &rest), *size;
    *t = (zb_tensor){.file = "in"};
    if (name == NULL || type == NULL || strlen(type) >= sizeof t->dtype_name)
        return 0;
    snprintf(t->dtype_name, sizeof t->dtype_name, "%s", type);
    t->known = zb_dtype_parse(type, &t->dtype);
    t->bytes = t->known ? zb_dtype_bytes(t->dtype) : strcmp(type, "I32") == 0 ? 4 : 1;
    while (t->n_dims < ZB_MAX_DIMS && (size = strtok_r(NULL, " ", &rest)) != NULL) {
        t->shape[t->n_dims] = strtoul(size, NULL, 10);
        if (!zb_mul(t->bytes, t->shape[t->n_dims++], &t->bytes))
            return 0;
    }
    if (t->bytes > MOST_BYTES)
        return 0;
    t->name = strdup(name);
    REQUIRE(t->name != NULL);
    return 1;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const zb_tensor *)a)->name, ((const zb_tensor *)b)->name);
}

static void fill(zb_tensors *ts, const uint8_t *from, size_t n, size_t skew)
{
    size_t at = 0;
    for (size_t i = 0; i < ts->n; i++) {
        const size_t bytes = ts->items[i].bytes;
        uint8_t *block = malloc(bytes + skew > 0 ? bytes + skew : 1);
        REQUIRE(block != NULL);
        for (size_t k = 0; k < bytes; k++, at++)
            block[skew + k] = n > 0 ? from[at % n] : 0;
        ts->items[i].data = block + skew;
    }
}

static void check_message(const zamba_error *err, zamba_status st)
{
    REQUIRE(err->code == st && (strncmp(err->message, "in: ", 4) == 0 || strncmp(err->message, "tensor ", 7) == 0));
}

static void check_matrix(const zb_packed *p, size_t rows, size_t cols)
{
    const zb_tensor *t = &p->tensor;
    const size_t row_bytes = zb_row_bytes(t->dtype, cols);
    float row[MOST_SIZE];
    unsigned char seen[MOST_SIZE] = {0};
    REQUIRE(t->data != NULL && t->known && cols % zb_dtype_block(t->dtype) == 0 && t->bytes == rows * row_bytes);
    REQUIRE(t->n_dims == 2 && t->shape[0] == rows && t->shape[1] == cols && zb_tensor_type(t)[0] != '\0');
    for (size_t r = 0; r < rows; r++) /* for the sanitizer */
        zb_row_to_f32(row, (const char *)t->data + r * row_bytes, t->dtype, cols);
    for (size_t k = 0; k < cols && p->order != NULL; k++)
        REQUIRE(p->order[k] < cols && seen[p->order[k]]++ == 0);
}

static void try_matrix(zb_packed *p, const zb_tensors *ts, const zb_packing *packing, const zb_spec *s)
{
    zamba_error err = {0};
    char name[64];
    *p = (zb_packed){0};
    const zb_tensor *numbers = zb_packed_name(name, sizeof name, packing, s->name) ? zb_tensors_find(ts, name) : NULL;
    zamba_status st = numbers != NULL ? zb_packed_find(p, packing, ts, numbers, s, &err) : ZAMBA_OK;
    REQUIRE(p->n_pieces >= 0 && p->n_pieces <= ZB_PACKED_PIECES);
    if (st == ZAMBA_OK && p->n_pieces > 0) {
        st = zb_packed_make(p, &err);
        if (st == ZAMBA_OK)
            check_matrix(p, s->shape[0], s->shape[1]);
    }
    if (st != ZAMBA_OK) {
        check_message(&err, st);
        p->n_pieces = 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    reader r = {.data = data, .n = n};
    zb_tensor items[MOST_TENSORS];
    zb_tensors ts = {.items = items};
    zb_packing packing;
    zb_packed made[2];
    char names[2][16] = {"m.weight", "twin.weight"};
    zb_spec s[2];
    zamba_error err = {0};
    json_t *config = NULL;
    size_t rows = 0, cols = 0, skew = 0;
    if (n == 0 || !next_line(&r) || sscanf(r.line, "%3zu %3zu %3zu", &rows, &cols, &skew) != 3 || rows == 0 ||
        cols == 0 || rows > MOST_SIZE || cols > MOST_SIZE || !next_line(&r) ||
        zb_json_parse(&config, r.line, strlen(r.line), "in", zb_json_small, NULL) != ZAMBA_OK)
        return 0;
    zamba_status st = zb_packing_parse(&packing, config, "in", &err);
    json_decref(config);
    if (st != ZAMBA_OK) {
        check_message(&err, st);
        return 0;
    }
    while (next_line(&r))
        ts.n += ts.n < MOST_TENSORS && parse_tensor(&items[ts.n], r.line);
    fill(&ts, data + r.at, n - r.at, skew % 16);
    qsort(items, ts.n, sizeof *items, by_name);
    for (size_t i = 1; i < ts.n && st == ZAMBA_OK; i++) /* as the reader refuses them */
        st = strcmp(items[i - 1].name, items[i].name) == 0 ? ZAMBA_E_FORMAT : ZAMBA_OK;
    for (size_t i = 0; i < ts.n && st == ZAMBA_OK; i++)
        (void)zb_packed_idle_bias(&ts, &items[i]);
    for (int i = 0; i < 2 && st == ZAMBA_OK; i++) {
        s[i] = (zb_spec){.name = names[i], .n_dims = 2, .shape = {rows, cols}, .quantizable = 1};
        try_matrix(&made[i], &ts, &packing, &s[i]);
    }
    if (st == ZAMBA_OK && made[0].n_pieces > 0 && made[1].n_pieces > 0) {
        REQUIRE(zb_packed_difference(&made[0], &made[0]) == NULL);
        if (zb_packed_difference(&made[0], &made[1]) == NULL && packing.method != ZB_PACK_BNB)
            REQUIRE(made[0].tensor.bytes == made[1].tensor.bytes &&
                    memcmp(made[0].tensor.data, made[1].tensor.data, made[0].tensor.bytes) == 0);
    }
    for (int i = 0; i < 2 && st == ZAMBA_OK; i++)
        if (made[i].n_pieces > 0) {
            zb_free_aligned((void *)(uintptr_t)made[i].tensor.data);
            zb_free_aligned((uint32_t *)(uintptr_t)made[i].order);
        }
    for (size_t i = 0; i < ts.n; i++) {
        free((char *)(uintptr_t)items[i].data - skew % 16);
        free(items[i].name);
    }
    return 0;
}
