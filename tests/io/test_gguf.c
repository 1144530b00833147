/* Good and hostile GGUF files, made by hand and by the writer: io/gguf.c, io/gguf_write.c. */
#define _XOPEN_SOURCE 700
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/gguf_write.h"
#include "support/scratch.h"

#define FILE_NAME "model.gguf"

/* ---- files by hand ---- */

static void raw(zb_buf *b, const void *data, size_t n)
{
    zamba_error err;
    CHECK_OK(zb_buf_append(b, data, n, &err), err);
}

static void number(zb_buf *b, uint64_t x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = i < 8 ? (unsigned char)(x >> 8 * i) : 0;
        raw(b, &c, 1);
    }
}

static void text(zb_buf *b, const char *s)
{
    number(b, strlen(s), 8);
    raw(b, s, strlen(s));
}

static void head(zb_buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_keys)
{
    b->n = 0;
    raw(b, "GGUF", 4);
    number(b, version, 4);
    number(b, n_tensors, 8);
    number(b, n_keys, 8);
}

static void key(zb_buf *b, const char *name, uint32_t type)
{
    text(b, name);
    number(b, type, 4);
}

static void key_u32(zb_buf *b, const char *name, uint32_t value)
{
    key(b, name, ZB_GGUF_U32);
    number(b, value, 4);
}

static void key_array(zb_buf *b, const char *name, uint32_t type, uint64_t n)
{
    key(b, name, ZB_GGUF_ARRAY);
    number(b, type, 4);
    number(b, n, 8);
}

/* ne: as the file has them, fastest first. */
static void tensor(zb_buf *b, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset)
{
    text(b, name);
    number(b, n_dims, 4);
    for (uint32_t i = 0; i < n_dims; i++)
        number(b, ne[i], 8);
    number(b, type, 4);
    number(b, offset, 8);
}

static void fill(zb_buf *b, size_t alignment)
{
    while (b->n % alignment != 0)
        number(b, 0, 1);
}

static const float floats[6] = {1, 2, 3, 4, 5, 6};

/* Keys of every kind, three tensors. */
static void good(zb_buf *b, uint32_t version)
{
    head(b, version, 3, 5);
    key(b, "general.architecture", ZB_GGUF_TEXT);
    text(b, "test");
    key_array(b, "a.numbers", ZB_GGUF_I16, 3);
    for (int i = -1; i < 2; i++)
        number(b, (uint64_t)(int64_t)i, 2);
    key_array(b, "a.texts", ZB_GGUF_TEXT, 3);
    text(b, "one");
    text(b, "");
    text(b, "three");
    key(b, "a.flag", ZB_GGUF_BOOL);
    number(b, 1, 1);
    key(b, "a.real", ZB_GGUF_F64);
    const double half = 0.5;
    raw(b, &half, 8);
    tensor(b, "b.weight", 2, (uint64_t[]){3, 2}, 0, 32);
    tensor(b, "a.weight", 1, (uint64_t[]){32}, 8, 64);
    tensor(b, "foreign", 1, (uint64_t[]){32}, 7, 0); /* Q5_1 */
    fill(b, 32);
    for (int i = 0; i < 32; i++)
        number(b, 0xEE, 1);
    raw(b, floats, sizeof floats);
    fill(b, 32);
    for (int i = 0; i < 34; i++)
        number(b, (uint64_t)i, 1);
}

static zamba_status parse(const zb_buf *b, zb_gguf *g, zamba_error *err)
{
    return zb_gguf_parse(g, (const unsigned char *)b->data, b->n, "x.gguf", err);
}

static void test_by_hand(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        zb_buf b = {0};
        zb_gguf g;
        zamba_error err;
        int64_t x;
        double real;
        good(&b, version);
        CHECK_OK(parse(&b, &g, &err), err);
        assert_int_equal(g.version, version);
        assert_int_equal(g.alignment, 32);
        assert_int_equal(g.n_keys, 5);
        size_t n;
        const char *s = zb_gguf_text(zb_gguf_find(&g, "general.architecture"), &n);
        assert_non_null(s);
        assert_int_equal(n, 4);
        assert_memory_equal(s, "test", 4);
        const zb_gguf_value *v = zb_gguf_find(&g, "a.numbers");
        assert_non_null(v);
        assert_true(v->is_array);
        assert_int_equal(v->n, 3);
        for (size_t i = 0; i < 3; i++) {
            assert_true(zb_gguf_int(v, i, &x));
            assert_int_equal(x, (int64_t)i - 1);
            assert_true(zb_gguf_real(v, i, &real));
            assert_true(real == (double)i - 1);
        }
        assert_false(zb_gguf_int(v, 3, &x));
        assert_null(zb_gguf_text(v, &n));
        static const char *const texts[] = {"one", "", "three"};
        zb_gguf_texts it = {.value = zb_gguf_find(&g, "a.texts")};
        for (size_t i = 0; i < 3; i++) {
            assert_true(zb_gguf_next_text(&it, &s, &n));
            assert_int_equal(n, strlen(texts[i]));
            assert_memory_equal(s, texts[i], n);
        }
        assert_false(zb_gguf_next_text(&it, &s, &n));
        assert_true(zb_gguf_int(zb_gguf_find(&g, "a.flag"), 0, &x));
        assert_int_equal(x, 1);
        assert_false(zb_gguf_real(zb_gguf_find(&g, "a.flag"), 0, &real));
        assert_true(zb_gguf_real(zb_gguf_find(&g, "a.real"), 0, &real));
        assert_true(real == 0.5);
        assert_false(zb_gguf_int(zb_gguf_find(&g, "a.real"), 0, &x));
        assert_null(zb_gguf_find(&g, "a.nothing"));
        assert_null(zb_gguf_text(NULL, &n));
        const zb_tensor *t = zb_tensors_find(&g.tensors, "b.weight");
        assert_non_null(t);
        assert_int_equal(t->n_dims, 2);
        assert_int_equal(t->shape[0], 2);
        assert_int_equal(t->shape[1], 3);
        assert_true(t->known);
        assert_int_equal(t->dtype, ZB_F32);
        assert_int_equal(t->bytes, sizeof floats);
        assert_memory_equal(t->data, floats, sizeof floats);
        t = zb_tensors_find(&g.tensors, "a.weight");
        assert_non_null(t);
        assert_int_equal(t->dtype, ZB_Q8_0);
        assert_int_equal(t->bytes, 34);
        assert_int_equal(((const unsigned char *)t->data)[33], 33);
        t = zb_tensors_find(&g.tensors, "foreign");
        assert_non_null(t);
        assert_false(t->known);
        assert_string_equal(t->dtype_name, "Q5_1");
        assert_int_equal(t->bytes, 24);
        zb_gguf_close(&g);
        zb_buf_free(&b);
    }
}

/* Numbers of every type, at their ends. */
static void test_numbers(void **state)
{
    static const struct {
        uint32_t type;
        size_t bytes;
        uint64_t bits;
        int64_t want;
        int fits;
    } cases[] = {{ZB_GGUF_U8, 1, 0xFF, 255, 1},
                 {ZB_GGUF_I8, 1, 0xFF, -1, 1},
                 {ZB_GGUF_U16, 2, 0xFFFF, 65535, 1},
                 {ZB_GGUF_I16, 2, 0x8000, -32768, 1},
                 {ZB_GGUF_U32, 4, 0xFFFFFFFF, 4294967295, 1},
                 {ZB_GGUF_I32, 4, 0x80000000, INT32_MIN, 1},
                 {ZB_GGUF_U64, 8, INT64_MAX, INT64_MAX, 1},
                 {ZB_GGUF_U64, 8, UINT64_MAX, 0, 0},
                 {ZB_GGUF_I64, 8, UINT64_MAX, -1, 1},
                 {ZB_GGUF_F32, 4, 0x3F800000, 0, 0},
                 {ZB_GGUF_F64, 8, 0x3FF0000000000000, 0, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zb_buf b = {0};
        zb_gguf g;
        zamba_error err;
        int64_t x = 0;
        double real;
        head(&b, 3, 0, 1);
        key(&b, "k", cases[i].type);
        number(&b, cases[i].bits, cases[i].bytes);
        CHECK_OK(parse(&b, &g, &err), err);
        assert_int_equal(zb_gguf_int(zb_gguf_find(&g, "k"), 0, &x), cases[i].fits);
        if (cases[i].fits)
            assert_true(x == cases[i].want);
        if (cases[i].type == ZB_GGUF_F32 || cases[i].type == ZB_GGUF_F64) {
            assert_true(zb_gguf_real(zb_gguf_find(&g, "k"), 0, &real));
            assert_true(real == 1.0);
        }
        zb_gguf_close(&g);
        zb_buf_free(&b);
    }
}

/* ---- damaged ---- */

static void test_cut_everywhere(void **state)
{
    zb_buf b = {0};
    zamba_error err;
    zb_gguf g;
    (void)state;
    good(&b, 3);
    for (size_t n = 0; n < b.n; n++) {
        unsigned char *exact = malloc(n + 1); /* so that a sanitizer sees one byte too many */
        memcpy(exact, b.data, n);
        unsigned char *shrunk = realloc(exact, n > 0 ? n : 1);
        const zamba_status st = zb_gguf_parse(&g, shrunk, n, "x.gguf", &err);
        check_refused(st, &err, ZAMBA_E_FORMAT, "x.gguf", NULL);
        free(shrunk);
    }
    zb_buf_free(&b);
}

/* Whatever one byte becomes: an answer, and everything that is found lies in the file. */
static void test_every_byte(void **state)
{
    static const unsigned char values[] = {0, 1, 2, 7, 9, 0x20, 0x7F, 0x80, 0xFF};
    zb_buf b = {0};
    zamba_error err;
    zb_gguf g;
    (void)state;
    good(&b, 3);
    for (size_t at = 0; at < b.n; at++) {
        const char was = b.data[at];
        for (size_t i = 0; i < sizeof values; i++) {
            b.data[at] = (char)values[i];
            if (parse(&b, &g, &err) != ZAMBA_OK)
                continue;
            for (size_t k = 0; k < g.tensors.n; k++) {
                const char *from = g.tensors.items[k].data;
                assert_true(from >= b.data && from + g.tensors.items[k].bytes <= b.data + b.n);
            }
            zb_gguf_close(&g);
        }
        b.data[at] = was;
    }
    zb_buf_free(&b);
}

typedef void (*make_fn)(zb_buf *b, uint64_t x);

static void make_version(zb_buf *b, uint64_t x)
{
    good(b, (uint32_t)x);
}

static void make_no_magic(zb_buf *b, uint64_t x)
{
    good(b, 3);
    b->data[x] = '?';
}

static void make_key_count(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, x);
    key_u32(b, "k", 1);
}

static void make_tensor_count(zb_buf *b, uint64_t x)
{
    head(b, 3, x, 0);
    tensor(b, "t", 1, (uint64_t[]){1}, 0, 0);
}

static void make_key_type(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, 1);
    key(b, "some.key", (uint32_t)x);
    number(b, 0, 16);
}

static void make_element_type(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, 1);
    key_array(b, "some.key", (uint32_t)x, 1);
    number(b, 0, 16);
}

static void make_array_length(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, 1);
    key_array(b, "some.key", ZB_GGUF_F64, x);
    number(b, 0, 16);
}

static void make_bytes_length(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, 1);
    key_array(b, "some.key", ZB_GGUF_U8, x);
    number(b, 0, 8);
}

static void make_texts_length(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, 1);
    key_array(b, "some.key", ZB_GGUF_TEXT, x);
    for (int i = 0; i < 4; i++)
        number(b, 0, 8);
}

static void make_text_length(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, 1);
    key(b, "some.key", ZB_GGUF_TEXT);
    number(b, x, 8);
    number(b, 0, 8);
}

static void make_inner_text_length(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, 1);
    key_array(b, "some.key", ZB_GGUF_TEXT, 2);
    text(b, "one");
    number(b, x, 8);
    number(b, 0, 8);
}

static void make_name_length(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, 1);
    number(b, x, 8);
    for (int i = 0; i < 400; i++)
        raw(b, "k", 1);
}

static void make_name_byte(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, 1);
    number(b, 5, 8);
    raw(b, "na", 2);
    number(b, x, 1);
    raw(b, "me", 2);
    number(b, ZB_GGUF_U8, 4);
    number(b, 0, 1);
}

static void make_tensor_name_byte(zb_buf *b, uint64_t x)
{
    head(b, 3, 1, 0);
    number(b, 5, 8);
    raw(b, "na", 2);
    number(b, x, 1);
    raw(b, "me", 2);
    number(b, 0, 4 + 4 + 8);
}

static void make_bool(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, 1);
    key_array(b, "some.key", ZB_GGUF_BOOL, 2);
    number(b, 1, 1);
    number(b, x, 1);
}

static void make_same_keys(zb_buf *b, uint64_t x)
{
    (void)x;
    head(b, 3, 0, 3);
    key_u32(b, "some.key", 1);
    key_u32(b, "another", 1);
    key_u32(b, "some.key", 1);
}

static void make_same_tensors(zb_buf *b, uint64_t x)
{
    (void)x;
    head(b, 3, 2, 0);
    tensor(b, "some.tensor", 1, (uint64_t[]){1}, 0, 0);
    tensor(b, "some.tensor", 1, (uint64_t[]){1}, 0, 32);
    fill(b, 32);
    number(b, 0, 36);
}

static void make_alignment(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, 1);
    key_u32(b, "general.alignment", (uint32_t)x);
}

static void make_alignment_type(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, 1);
    key(b, "general.alignment", (uint32_t)x);
    number(b, 32, 8);
}

static void make_alignment_array(zb_buf *b, uint64_t x)
{
    head(b, 3, 0, 1);
    key_array(b, "general.alignment", ZB_GGUF_U32, 1);
    number(b, x, 4);
}

static void make_dims(zb_buf *b, uint64_t x)
{
    head(b, 3, 1, 0);
    tensor(b, "some.tensor", (uint32_t)(x < 6 ? x : 0), (uint64_t[]){1, 1, 1, 1, 1}, 0, 0);
    if (x >= 6) {
        b->n -= 4 + 4 + 8;
        number(b, x, 4);
    }
    fill(b, 32);
    number(b, 0, 8);
}

static void make_dim(zb_buf *b, uint64_t x)
{
    head(b, 3, 1, 0);
    tensor(b, "some.tensor", 2, (uint64_t[]){4, x}, 0, 0);
    fill(b, 32);
    number(b, 0, 16);
}

static void make_product(zb_buf *b, uint64_t x)
{
    head(b, 3, 1, 0);
    tensor(b, "some.tensor", 4, (uint64_t[]){x, x, x, x}, 0, 0);
    fill(b, 32);
    number(b, 0, 8);
}

static void make_type(zb_buf *b, uint64_t x)
{
    head(b, 3, 1, 0);
    tensor(b, "some.tensor", 1, (uint64_t[]){256}, (uint32_t)x, 0);
    fill(b, 32);
    for (int i = 0; i < 256; i++)
        number(b, 0, 8);
}

static void make_row(zb_buf *b, uint64_t x)
{
    head(b, 3, 1, 0);
    tensor(b, "some.tensor", 2, (uint64_t[]){x, 32}, 12, 0); /* Q4_K */
    fill(b, 32);
    for (int i = 0; i < 3000; i++)
        number(b, 0, 8);
}

static void make_offset(zb_buf *b, uint64_t x)
{
    head(b, 3, 1, 0);
    tensor(b, "some.tensor", 1, (uint64_t[]){8}, 0, x);
    fill(b, 32);
    number(b, 0, 32);
}

static void make_overlap(zb_buf *b, uint64_t x)
{
    head(b, 3, 2, 0);
    tensor(b, "second", 1, (uint64_t[]){16}, 0, x);
    tensor(b, "first", 1, (uint64_t[]){16}, 0, 0);
    fill(b, 32);
    for (int i = 0; i < 32; i++)
        number(b, 0, 4);
}

static void test_hostile(void **state)
{
    static const struct {
        make_fn make;
        uint64_t x;
        zamba_status code;
        const char *first, *second;
    } cases[] = {
        {make_no_magic, 0, ZAMBA_E_FORMAT, "does not begin with \"GGUF\"", ""},
        {make_no_magic, 3, ZAMBA_E_FORMAT, "does not begin with \"GGUF\"", ""},
        {make_version, 0, ZAMBA_E_UNSUPPORTED, "big-endian", ""},
        {make_version, 1, ZAMBA_E_UNSUPPORTED, "version 1", "wanted 2 or 3"},
        {make_version, 4, ZAMBA_E_UNSUPPORTED, "version 4", "wanted 2 or 3"},
        {make_version, 0x03000000, ZAMBA_E_UNSUPPORTED, "big-endian", ""},
        {make_version, 0x02000000, ZAMBA_E_UNSUPPORTED, "big-endian", ""},
        {make_version, 0xFFFFFFFF, ZAMBA_E_UNSUPPORTED, "version 4294967295", ""},
        {make_key_count, 2, ZAMBA_E_FORMAT, "2 keys", ""},
        {make_key_count, 65537, ZAMBA_E_FORMAT, "65537 keys", ""},
        {make_key_count, UINT64_MAX, ZAMBA_E_FORMAT, "18446744073709551615 keys", ""},
        {make_key_count, (uint64_t)1 << 60, ZAMBA_E_FORMAT, "keys", ""},
        {make_tensor_count, 2, ZAMBA_E_FORMAT, "2 tensors", ""},
        {make_tensor_count, UINT64_MAX, ZAMBA_E_FORMAT, "18446744073709551615 tensors", ""},
        {make_tensor_count, (uint64_t)1 << 58, ZAMBA_E_FORMAT, "tensors", ""},
        {make_key_type, 13, ZAMBA_E_UNSUPPORTED, "some.key", "type 13"},
        {make_key_type, 0xFFFFFFFF, ZAMBA_E_UNSUPPORTED, "some.key", "type 4294967295"},
        {make_element_type, 9, ZAMBA_E_UNSUPPORTED, "some.key", "array of arrays"},
        {make_element_type, 13, ZAMBA_E_UNSUPPORTED, "some.key", "type 13"},
        {make_array_length, 3, ZAMBA_E_FORMAT, "some.key", "24 bytes"},
        {make_array_length, (uint64_t)1 << 61, ZAMBA_E_FORMAT, "some.key", "2305843009213693952 values"},
        {make_array_length, UINT64_MAX, ZAMBA_E_FORMAT, "some.key", "18446744073709551615 values"},
        {make_bytes_length, 9, ZAMBA_E_FORMAT, "some.key", "9 values"},
        {make_texts_length, 5, ZAMBA_E_FORMAT, "some.key", "40 bytes"},
        {make_texts_length, (uint64_t)1 << 61, ZAMBA_E_FORMAT, "some.key", "values"},
        {make_text_length, 9, ZAMBA_E_FORMAT, "some.key", "9 bytes"},
        {make_text_length, UINT64_MAX, ZAMBA_E_FORMAT, "some.key", "18446744073709551615 bytes"},
        {make_text_length, UINT64_MAX - 7, ZAMBA_E_FORMAT, "some.key", "bytes"},
        {make_inner_text_length, 9, ZAMBA_E_FORMAT, "some.key", "9 bytes"},
        {make_inner_text_length, UINT64_MAX - 3, ZAMBA_E_FORMAT, "some.key", "bytes"},
        {make_name_length, 0, ZAMBA_E_FORMAT, "the name of a key", "0 bytes"},
        {make_name_length, 256, ZAMBA_E_FORMAT, "the name of a key", "256 bytes"},
        {make_name_length, UINT64_MAX, ZAMBA_E_FORMAT, "the name of a key", "bytes"},
        {make_name_byte, 0, ZAMBA_E_FORMAT, "na?me", "printable"},
        {make_name_byte, 0x80, ZAMBA_E_FORMAT, "na?me", "printable"},
        {make_name_byte, '\n', ZAMBA_E_FORMAT, "na?me", "printable"},
        {make_tensor_name_byte, 0, ZAMBA_E_FORMAT, "the name of a tensor", "printable"},
        {make_tensor_name_byte, 0xFF, ZAMBA_E_FORMAT, "na?me", "printable"},
        {make_bool, 2, ZAMBA_E_FORMAT, "some.key", "a bool is 2"},
        {make_same_keys, 0, ZAMBA_E_FORMAT, "key some.key", "twice"},
        {make_same_tensors, 0, ZAMBA_E_FORMAT, "tensor some.tensor", "twice"},
        {make_alignment, 0, ZAMBA_E_FORMAT, "general.alignment is 0", "power of two"},
        {make_alignment, 24, ZAMBA_E_FORMAT, "general.alignment is 24", "power of two"},
        {make_alignment, 0x80000000, ZAMBA_E_FORMAT, "general.alignment is 2147483648", "power of two"},
        {make_alignment_type, ZB_GGUF_U64, ZAMBA_E_FORMAT, "general.alignment is u64", "wanted a u32"},
        {make_alignment_type, ZB_GGUF_I32, ZAMBA_E_FORMAT, "general.alignment is i32", "wanted a u32"},
        {make_alignment_array, 32, ZAMBA_E_FORMAT, "general.alignment is an array of u32", "wanted a u32"},
        {make_dims, 5, ZAMBA_E_FORMAT, "some.tensor", "5 dimensions"},
        {make_dims, 0xFFFFFFFF, ZAMBA_E_FORMAT, "some.tensor", "4294967295 dimensions"},
        {make_dim, UINT64_MAX, ZAMBA_E_FORMAT, "some.tensor", "dimension 1"},
        {make_dim, (uint64_t)1 << 63, ZAMBA_E_FORMAT, "some.tensor", "dimension 1"},
        {make_dim, (uint64_t)1 << 60, ZAMBA_E_FORMAT, "some.tensor", "multiply"},
        {make_dim, 3, ZAMBA_E_FORMAT, "some.tensor", "48 bytes from byte 0"},
        {make_product, (uint64_t)1 << 16, ZAMBA_E_FORMAT, "some.tensor", "multiply"},
        {make_product, (uint64_t)1 << 32, ZAMBA_E_FORMAT, "some.tensor", "multiply"},
        {make_product, ((uint64_t)1 << 62) + 1, ZAMBA_E_FORMAT, "some.tensor", "multiply"},
        {make_type, 4, ZAMBA_E_UNSUPPORTED, "some.tensor", "type number 4"},
        {make_type, 31, ZAMBA_E_UNSUPPORTED, "some.tensor", "type number 31"},
        {make_type, 99, ZAMBA_E_UNSUPPORTED, "some.tensor", "type number 99"},
        {make_type, 0xFFFFFFFF, ZAMBA_E_UNSUPPORTED, "some.tensor", "type number 4294967295"},
        {make_row, 255, ZAMBA_E_FORMAT, "some.tensor", "rows of 255, Q4_K wants a multiple of 256"},
        {make_row, 128, ZAMBA_E_FORMAT, "some.tensor", "rows of 128"},
        {make_offset, 4, ZAMBA_E_FORMAT, "some.tensor", "multiple of the alignment, 32"},
        {make_offset, 32, ZAMBA_E_FORMAT, "some.tensor", "32 bytes from byte 32 of the data, which has 32"},
        {make_offset, UINT64_MAX - 31, ZAMBA_E_FORMAT, "some.tensor", "from byte 18446744073709551584"},
        {make_overlap, 32, ZAMBA_E_FORMAT, "first", "overlap"},
        {make_overlap, 0, ZAMBA_E_FORMAT, "second", "overlap"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zb_buf b = {0};
        zb_gguf g;
        zamba_error err;
        cases[i].make(&b, cases[i].x);
        const zamba_status st = parse(&b, &g, &err);
        check_refused(st, &err, cases[i].code, "x.gguf", cases[i].first, cases[i].second, NULL);
        zb_buf_free(&b);
    }
}

/* The same files at the border of what is fine. */
static void test_borders(void **state)
{
    static const struct {
        make_fn make;
        uint64_t x;
    } cases[] = {{make_array_length, 2}, {make_array_length, 0},
                 {make_bytes_length, 8}, {make_texts_length, 4},
                 {make_text_length, 8},  {make_inner_text_length, 8},
                 {make_name_byte, '~'},  {make_bool, 0},
                 {make_alignment, 1},    {make_alignment, 1 << 20},
                 {make_dims, 0},         {make_dims, 4},
                 {make_dim, 0},          {make_dim, 1},
                 {make_row, 0},          {make_row, 256},
                 {make_offset, 0},       {make_overlap, 64},
                 {make_type, 30},        {make_type, 41}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zb_buf b = {0};
        zb_gguf g;
        zamba_error err;
        cases[i].make(&b, cases[i].x);
        if (parse(&b, &g, &err) != ZAMBA_OK)
            fail_msg("case %zu: %s", i, err.message);
        zb_gguf_close(&g);
        zb_buf_free(&b);
    }
}

/* Counts that the file cannot hold cost nothing; many keys and tensors cost little. */
static void parse_many(void *arg)
{
    zb_buf *b = arg;
    zb_gguf g;
    zamba_error err;
    if (parse(b, &g, &err) != ZAMBA_OK)
        _exit(3);
    zb_gguf_close(&g);
}

static void test_many(void **state)
{
    enum { KEYS = 60000, TENSORS = 100000 };
    zb_buf b = {0};
    char name[32];
    (void)state;
    head(&b, 3, TENSORS, KEYS);
    for (int i = 0; i < KEYS; i++) {
        snprintf(name, sizeof name, "key.%d", (int)((i * 7919LL) % KEYS));
        key_u32(&b, name, 1);
    }
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof name, "tensor.%d", (int)((i * 7919LL) % TENSORS));
        tensor(&b, name, 1, (uint64_t[]){1}, 0, (uint64_t)i * 32);
    }
    fill(&b, 32);
    CHECK_OK(zb_buf_reserve(&b, 32 * TENSORS, &(zamba_error){0}), (zamba_error){0});
    memset(b.data + b.n, 0, 32 * TENSORS);
    b.n += 32 * TENSORS;
    check_limits(parse_many, &b, 1.0, 200, "many keys and tensors");
    zb_buf_free(&b);
}

/* ---- the writer ---- */

static zb_gguf_writer *create(const scratch *s)
{
    zb_gguf_writer *w;
    zamba_error err;
    CHECK_OK(zb_gguf_create(&w, scratch_path(s, FILE_NAME), &err), err);
    return w;
}

static const size_t shape23[] = {2, 3}, shape32[] = {32}, shape0[] = {0, 7}, shape4[] = {1, 1, 1, 5};

static void put_some(zb_gguf_writer *w)
{
    zb_gguf_put_string(w, "general.architecture", "test");
    zb_gguf_put_u32(w, "n.u32", 0xFFFFFFFF);
    zb_gguf_put_u64(w, "n.u64", (uint64_t)1 << 40);
    zb_gguf_put_f32(w, "n.f32", 0.25f);
    zb_gguf_put_f64(w, "n.f64", 0.1);
    zb_gguf_put_bool(w, "n.bool", 7);
    zb_gguf_put_text(w, "n.text", "a\0b", 3);
    zb_gguf_put_u32s(w, "n.u32s", (const uint32_t[]){1, 2}, 2);
    zb_gguf_put_i32s(w, "n.i32s", (const int32_t[]){-1, 2}, 2);
    zb_gguf_put_f32s(w, "n.f32s", floats, 6);
    zb_gguf_put_texts(w, "n.texts", 2);
    zb_gguf_add_text(w, "one", 3);
    zb_gguf_add_text(w, "", 0);
    zb_gguf_put_texts(w, "n.none", 0);
    zb_gguf_declare(w, "two.three", ZB_F32, shape23, 2);
    zb_gguf_declare(w, "empty", ZB_F16, shape0, 2);
    zb_gguf_declare(w, "blocks", ZB_Q8_0, shape32, 1);
    zb_gguf_declare(w, "four", ZB_BF16, shape4, 4);
    zb_gguf_declare(w, "scalar", ZB_F32, NULL, 0);
}

static const unsigned char block[34] = {1, 2, 3}, halves[10] = {9, 8, 7};

static void write_some(const scratch *s, size_t piece)
{
    zb_buf all = {0};
    zamba_error err;
    zb_gguf_writer *w = create(s);
    put_some(w);
    const uint64_t bytes = zb_gguf_bytes(w);
    CHECK_OK(zb_gguf_begin(w, &err), err);
    raw(&all, floats, sizeof floats);
    raw(&all, block, sizeof block);
    raw(&all, halves, sizeof halves);
    raw(&all, floats + 4, 4);
    for (size_t at = 0; at < all.n; at += piece)
        CHECK_OK(zb_gguf_append(w, all.data + at, all.n - at < piece ? all.n - at : piece, &err), err);
    CHECK_OK(zb_gguf_finish(w, &err), err);
    struct stat sb;
    assert_int_equal(stat(scratch_path(s, FILE_NAME), &sb), 0);
    assert_int_equal(sb.st_size, bytes);
    zb_buf_free(&all);
}

static void test_written_is_read(void **state)
{
    scratch s;
    zb_gguf g;
    zamba_error err;
    int64_t x;
    double real;
    size_t n, n_again;
    (void)state;
    scratch_open(&s);
    write_some(&s, SIZE_MAX / 2);
    char *first = scratch_read(scratch_path(&s, FILE_NAME), &n);
    for (size_t piece = 1; piece < 80; piece += 13) { /* the same file, however the bytes come */
        write_some(&s, piece);
        char *again = scratch_read(scratch_path(&s, FILE_NAME), &n_again);
        assert_int_equal(n, n_again);
        assert_memory_equal(first, again, n);
        free(again);
    }
    free(first);
    assert_int_equal(scratch_count(&s), 1);
    assert_true(zb_gguf_is(scratch_path(&s, FILE_NAME)));
    assert_false(zb_gguf_is(s.path));
    CHECK_OK(zb_gguf_open(&g, scratch_path(&s, FILE_NAME), &err), err);
    assert_int_equal(g.version, 3);
    assert_int_equal(g.n_keys, 12);
    assert_int_equal(g.tensors.n, 5);
    assert_true(zb_gguf_int(zb_gguf_find(&g, "n.u32"), 0, &x));
    assert_true(x == 0xFFFFFFFF);
    assert_true(zb_gguf_int(zb_gguf_find(&g, "n.u64"), 0, &x));
    assert_true(x == (int64_t)1 << 40);
    assert_true(zb_gguf_real(zb_gguf_find(&g, "n.f32"), 0, &real));
    assert_true(real == 0.25);
    assert_true(zb_gguf_real(zb_gguf_find(&g, "n.f64"), 0, &real));
    assert_true(real == 0.1);
    assert_true(zb_gguf_int(zb_gguf_find(&g, "n.bool"), 0, &x));
    assert_int_equal(x, 1);
    const char *t = zb_gguf_text(zb_gguf_find(&g, "n.text"), &n);
    assert_int_equal(n, 3);
    assert_memory_equal(t, "a\0b", 3);
    assert_true(zb_gguf_int(zb_gguf_find(&g, "n.i32s"), 0, &x));
    assert_int_equal(x, -1);
    assert_true(zb_gguf_real(zb_gguf_find(&g, "n.f32s"), 5, &real));
    assert_true(real == 6);
    zb_gguf_texts it = {.value = zb_gguf_find(&g, "n.texts")};
    assert_true(zb_gguf_next_text(&it, &t, &n));
    assert_int_equal(n, 3);
    assert_true(zb_gguf_next_text(&it, &t, &n));
    assert_int_equal(n, 0);
    assert_false(zb_gguf_next_text(&it, &t, &n));
    const zb_tensor *found = zb_tensors_find(&g.tensors, "two.three");
    assert_memory_equal(found->data, floats, sizeof floats);
    assert_int_equal(found->shape[0], 2);
    assert_memory_equal(zb_tensors_find(&g.tensors, "blocks")->data, block, sizeof block);
    found = zb_tensors_find(&g.tensors, "four");
    assert_int_equal(found->n_dims, 4);
    assert_int_equal(found->shape[3], 5);
    assert_memory_equal(found->data, halves, sizeof halves);
    assert_int_equal(zb_tensors_find(&g.tensors, "empty")->bytes, 0);
    assert_memory_equal(zb_tensors_find(&g.tensors, "scalar")->data, floats + 4, 4);
    /* every key goes over into another file as it is */
    zb_gguf_writer *w;
    CHECK_OK(zb_gguf_create(&w, scratch_path(&s, "copy.gguf"), &err), err);
    for (size_t i = 0; i < g.n_keys; i++)
        zb_gguf_put_value(w, g.keys[i].name, g.keys[i].n_name, &g.keys[i].value);
    CHECK_OK(zb_gguf_begin(w, &err), err);
    CHECK_OK(zb_gguf_finish(w, &err), err);
    zb_gguf copy;
    CHECK_OK(zb_gguf_open(&copy, scratch_path(&s, "copy.gguf"), &err), err);
    assert_int_equal(copy.n_keys, g.n_keys);
    for (size_t i = 0; i < g.n_keys; i++) {
        assert_int_equal(copy.keys[i].value.bytes, g.keys[i].value.bytes);
        assert_int_equal(copy.keys[i].value.is_array, g.keys[i].value.is_array);
        assert_memory_equal(copy.keys[i].value.data, g.keys[i].value.data, g.keys[i].value.bytes);
    }
    zb_gguf_close(&copy);
    zb_gguf_close(&g);
    scratch_close(&s);
}

/* What the writer will not write; nothing is left, what stood there stays. */
static void test_writer_refuses(void **state)
{
    static const size_t odd[] = {2, 33}, huge[] = {SIZE_MAX / 2, 3}, wide[] = {1, SIZE_MAX / 4 + 1};
    scratch s;
    zamba_error err;
    (void)state;
    scratch_open(&s);
    scratch_text(&s, FILE_NAME, "old");
    for (int i = 0; i < 10; i++) {
        static const char *const words[][2] = {
            {"key n.u32", "twice"},   {"tensor two.three", "twice"},   {"odd", "no whole blocks"},
            {"huge", "too large"},    {"group", "GGUF does not have"}, {"1 texts", "missing"},
            {"a text more", "array"}, {"five", "too large"},           {"a name of 0 bytes", "1 to 255"},
            {"wide", "too large"}};
        zb_gguf_writer *w = create(&s);
        put_some(w);
        if (i == 0)
            zb_gguf_put_u32(w, "n.u32", 1);
        else if (i == 1)
            zb_gguf_declare(w, "two.three", ZB_F32, shape23, 2);
        else if (i == 2)
            zb_gguf_declare(w, "odd", ZB_Q4_0, odd, 2);
        else if (i == 3)
            zb_gguf_declare(w, "huge", ZB_F32, huge, 2);
        else if (i == 4)
            zb_gguf_declare(w, "group", ZB_GROUP4, shape32, 1);
        else if (i == 5)
            zb_gguf_put_texts(w, "n.more", 1);
        else if (i == 6)
            zb_gguf_add_text(w, "x", 1);
        else if (i == 7)
            zb_gguf_declare(w, "five", ZB_F32, (const size_t[]){1, 1, 1, 1, 1}, 5);
        else if (i == 9)
            zb_gguf_declare(w, "wide", ZB_F32, wide, 2);
        else
            zb_gguf_put_u32(w, "", 1);
        const zamba_status st = zb_gguf_begin(w, &err);
        check_refused(st, &err, ZAMBA_E_ARG, FILE_NAME, words[i][0], words[i][1], NULL);
        zb_gguf_cancel(w);
    }
    zb_gguf_writer *w = create(&s); /* too few bytes */
    put_some(w);
    CHECK_OK(zb_gguf_begin(w, &err), err);
    CHECK_OK(zb_gguf_append(w, floats, 20, &err), err);
    zamba_status st = zb_gguf_finish(w, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "tensor two.three", "20 of 24 bytes", NULL);
    w = create(&s); /* too many */
    zb_gguf_declare(w, "two.three", ZB_F32, shape23, 2);
    CHECK_OK(zb_gguf_begin(w, &err), err);
    CHECK_OK(zb_gguf_append(w, floats, 24, &err), err);
    st = zb_gguf_append(w, floats, 1, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "1 bytes more", NULL);
    zb_gguf_cancel(w);
    w = create(&s); /* more than any disk holds */
    zb_gguf_declare(w, "large", ZB_F32, (const size_t[]){(size_t)1 << 56}, 1);
    st = zb_gguf_begin(w, &err);
    check_refused(st, &err, ZAMBA_E_IO, "288230376151711808", "the disk has room for", NULL);
    zb_gguf_cancel(w);
    zb_gguf_cancel(NULL);
    w = create(&s);
    st = zb_gguf_finish(w, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "before the beginning", NULL);
    assert_int_equal(scratch_count(&s), 1);
    size_t n;
    char *old = scratch_read(scratch_path(&s, FILE_NAME), &n);
    assert_string_equal(old, "old");
    free(old);
    scratch_close(&s);
    CHECK_OK(zb_gguf_create(&w, scratch_path(&s, "gone/x.gguf"), &err), err);
    st = zb_gguf_begin(w, &err);
    check_refused(st, &err, ZAMBA_E_IO, "gone/x.gguf", "cannot create", NULL);
    zb_gguf_cancel(w);
}

/* ---- sets of files ---- */

static void write_part(const scratch *s, const char *name, const char *tensor_name, uint32_t number, uint32_t count)
{
    zb_gguf_writer *w;
    zamba_error err;
    CHECK_OK(zb_gguf_create(&w, scratch_path(s, name), &err), err);
    zb_gguf_put_u32(w, "split.no", number);
    zb_gguf_put_u32(w, "split.count", count);
    zb_gguf_declare(w, tensor_name, ZB_F32, shape23, 2);
    CHECK_OK(zb_gguf_begin(w, &err), err);
    CHECK_OK(zb_gguf_append(w, floats, sizeof floats, &err), err);
    CHECK_OK(zb_gguf_finish(w, &err), err);
}

static void test_sets(void **state)
{
    scratch s;
    zb_gguf g;
    zamba_error err;
    (void)state;
    scratch_open(&s);
    write_part(&s, "x-00001-of-00003.gguf", "one", 0, 3);
    write_part(&s, "x-00002-of-00003.gguf", "two", 1, 3);
    zamba_status st = zb_gguf_open(&g, scratch_path(&s, "x-00001-of-00003.gguf"), &err);
    check_refused(st, &err, ZAMBA_E_NOT_FOUND, "x-00003-of-00003.gguf", NULL);
    write_part(&s, "x-00003-of-00003.gguf", "three", 2, 3);
    CHECK_OK(zb_gguf_open(&g, scratch_path(&s, "x-00001-of-00003.gguf"), &err), err);
    assert_int_equal(g.tensors.n, 3);
    assert_int_equal(g.tensors.n_files, 3);
    assert_int_equal(g.n_keys, 2);
    for (size_t i = 0; i < 3; i++) {
        assert_memory_equal(g.tensors.items[i].data, floats, sizeof floats);
        assert_non_null(strstr(g.tensors.items[i].file, "-of-00003.gguf"));
    }
    zb_gguf_close(&g);
    st = zb_gguf_open(&g, scratch_path(&s, "x-00002-of-00003.gguf"), &err);
    check_refused(st, &err, ZAMBA_E_UNSUPPORTED, "file 2 of a model in 3 files", "the first", NULL);
    write_part(&s, "x-00003-of-00003.gguf", "one", 2, 3);
    st = zb_gguf_open(&g, scratch_path(&s, "x-00001-of-00003.gguf"), &err);
    check_refused(st, &err, ZAMBA_E_FORMAT, "tensor one", "twice", NULL);
    scratch_text(&s, "x-00003-of-00003.gguf", "no GGUF file");
    st = zb_gguf_open(&g, scratch_path(&s, "x-00001-of-00003.gguf"), &err);
    check_refused(st, &err, ZAMBA_E_FORMAT, "x-00003-of-00003.gguf", "does not begin", NULL);
    write_part(&s, "other.gguf", "one", 0, 3);
    st = zb_gguf_open(&g, scratch_path(&s, "other.gguf"), &err);
    check_refused(st, &err, ZAMBA_E_FORMAT, "other.gguf", "-00001-of-00003.gguf", NULL);
    write_part(&s, "other.gguf", "one", 0, 1001);
    st = zb_gguf_open(&g, scratch_path(&s, "other.gguf"), &err);
    check_refused(st, &err, ZAMBA_E_FORMAT, "split.count", NULL);
    write_part(&s, "other.gguf", "one", 0, 1);
    CHECK_OK(zb_gguf_open(&g, scratch_path(&s, "other.gguf"), &err), err);
    zb_gguf_close(&g);
    st = zb_gguf_open(&g, scratch_path(&s, "nothing.gguf"), &err);
    check_refused(st, &err, ZAMBA_E_NOT_FOUND, "nothing.gguf", NULL);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_cut_everywhere), cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_hostile),        cmocka_unit_test(test_borders),
        cmocka_unit_test(test_many),           cmocka_unit_test(test_written_is_read),
        cmocka_unit_test(test_writer_refuses), cmocka_unit_test(test_sets),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
