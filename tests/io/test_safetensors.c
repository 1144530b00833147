/* Good and hostile safetensors files, single and in shards: io/safetensors.c. */
#define _XOPEN_SOURCE 700
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/scratch.h"

#define FILE_NAME  "model.safetensors"
#define INDEX_NAME "model.safetensors.index.json"

static const float floats[6] = {1, 2, 3, 4, 5, 6};
static const uint16_t halves[6] = {0x3C00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600};

static zb_tensor tensor(const char *name, const char *dtype, const void *data, size_t bytes, int n_dims, size_t d0,
                        size_t d1)
{
    zb_tensor t = {.name = (char *)name, .data = data, .bytes = bytes, .shape = {d0, d1}, .n_dims = n_dims};
    snprintf(t.dtype_name, sizeof t.dtype_name, "%s", dtype);
    return t;
}

/* ---- good files ---- */

static void check_same(const zb_tensors *ts, const zb_tensor *want, size_t n)
{
    assert_int_equal(ts->n, n);
    for (size_t i = 0; i < n; i++) {
        const zb_tensor *t = zb_tensors_find(ts, want[i].name);
        if (t == NULL)
            fail_msg("%s was not found", want[i].name);
        assert_string_equal(t->dtype_name, want[i].dtype_name);
        assert_int_equal(t->n_dims, want[i].n_dims);
        for (int d = 0; d < t->n_dims; d++)
            assert_int_equal(t->shape[d], want[i].shape[d]);
        assert_int_equal(t->bytes, want[i].bytes);
        if (t->bytes > 0)
            assert_memory_equal(t->data, want[i].data, t->bytes);
    }
    assert_null(zb_tensors_find(ts, "nothing"));
}

static void test_good(void **state)
{
    (void)state;
    const zb_tensor items[] = {tensor("b.f32", "F32", floats, 24, 2, 2, 3), tensor("a.f16", "F16", halves, 12, 1, 6, 0),
                               tensor("c.bf16", "BF16", halves, 6, 2, 1, 3), tensor("e.empty", "F32", NULL, 0, 2, 0, 7),
                               tensor("d.scalar", "F32", floats, 4, 0, 0, 0)};
    scratch s;
    scratch_open(&s);
    for (size_t skew = 0; skew < 8; skew++) { /* data at every alignment */
        zb_tensors ts;
        zamba_error err;
        scratch_safetensors(&s, FILE_NAME, items, 5, skew);
        CHECK_OK(zb_tensors_open(&ts, s.path, &err), err);
        check_same(&ts, items, 5);
        assert_true(zb_tensors_find(&ts, "a.f16")->known);
        assert_int_equal(zb_tensors_find(&ts, "c.bf16")->dtype, ZB_BF16);
        zb_tensors_close(&ts);
    }
    scratch_close(&s);
}

/* Valid files that hold what we do not compute with: reading is fine, binding refuses them by name. */
static void test_foreign(void **state)
{
    static const char *const types[] = {"I64", "U8", "BOOL", "F64", "I32"};
    static const size_t sizes[] = {8, 1, 1, 8, 4};
    static const char zeros[16];
    scratch s;
    zb_tensors ts;
    zamba_error err;
    (void)state;
    scratch_open(&s);
    for (size_t i = 0; i < 5; i++) {
        const zb_tensor t = tensor("ids", types[i], zeros, 2 * sizes[i], 1, 2, 0);
        scratch_safetensors(&s, FILE_NAME, &t, 1, 0);
        CHECK_OK(zb_tensors_open(&ts, s.path, &err), err);
        assert_false(zb_tensors_find(&ts, "ids")->known);
        assert_string_equal(zb_tensors_find(&ts, "ids")->dtype_name, types[i]);
        zb_tensors_close(&ts);
    }
    const char *no_tensors = "{\"__metadata__\":{\"format\":\"pt\",\"made\":\"by hand\"}}";
    scratch_raw_safetensors(&s, FILE_NAME, strlen(no_tensors), no_tensors, NULL, 0);
    CHECK_OK(zb_tensors_open(&ts, s.path, &err), err);
    assert_int_equal(ts.n, 0);
    assert_null(zb_tensors_find(&ts, "x"));
    zb_tensors_close(&ts);
    scratch_close(&s);
}

/* ---- one damaged file ---- */

#define GOOD_HEADER                                                                                                    \
    "{\"one\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"                                            \
    "\"two\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[24,30]}}"

static unsigned char *good_bytes(size_t *n)
{
    scratch s;
    unsigned char data[30];
    memcpy(data, floats, 24);
    memcpy(data + 24, halves, 6);
    scratch_open(&s);
    scratch_raw_safetensors(&s, FILE_NAME, strlen(GOOD_HEADER), GOOD_HEADER, data, sizeof data);
    unsigned char *bytes = (unsigned char *)scratch_read(scratch_path(&s, FILE_NAME), n);
    scratch_close(&s);
    return bytes;
}

static void test_cut_everywhere(void **state)
{
    size_t n;
    unsigned char *bytes = good_bytes(&n);
    scratch s;
    (void)state;
    scratch_open(&s);
    for (size_t cut = 0; cut <= n; cut++) {
        zb_tensors ts;
        zamba_error err;
        scratch_write(&s, FILE_NAME, bytes, cut);
        const zamba_status st = zb_tensors_open(&ts, s.path, &err);
        if (cut < n)
            check_refused(st, &err, ZAMBA_E_FORMAT, "/" FILE_NAME,
                          cut < 8                            ? "a header needs 8"
                          : cut < 8 + sizeof GOOD_HEADER - 1 ? "header of"
                                                             : "ends at byte",
                          "cut-off download?", NULL);
        else
            CHECK_OK(st, err);
        zb_tensors_close(&ts);
    }
    free(bytes);
    scratch_close(&s);
}

/* Parsing from a block of exactly the right size, so that a sanitizer sees every step outside; any result will do. */
static void test_flip_everywhere(void **state)
{
    size_t n, good = 0;
    unsigned char *bytes = good_bytes(&n);
    (void)state;
    for (size_t at = 0; at < n; at++)
        for (int bit = 0; bit < 8; bit++) {
            zb_tensors ts = {0};
            zamba_error err = {0};
            unsigned char *copy = malloc(n);
            memcpy(copy, bytes, n);
            copy[at] ^= (unsigned char)(1 << bit);
            const zamba_status st = zb_safetensors_parse(&ts, copy, n, "flipped", &err);
            good += st == ZAMBA_OK;
            for (size_t i = 0; st == ZAMBA_OK && i < ts.n; i++)
                assert_true((const unsigned char *)ts.items[i].data >= copy &&
                            (const unsigned char *)ts.items[i].data + ts.items[i].bytes <= copy + n);
            if (st != ZAMBA_OK)
                check_refused(st, &err, st, "flipped", NULL);
            zb_tensors_close(&ts);
            free(copy);
        }
    assert_true(good >= 30 * 8); /* the data at least may be anything */
    free(bytes);
}

static void refuse_header(uint64_t header_bytes, const char *header, size_t n_data, zamba_status code,
                          const char *found, const char *wanted)
{
    static const unsigned char data[256];
    scratch s;
    zb_tensors ts;
    zamba_error err;
    scratch_open(&s);
    scratch_raw_safetensors(&s, FILE_NAME, header_bytes, header, data, n_data);
    const zamba_status st = zb_tensors_open(&ts, s.path, &err);
    check_refused(st, &err, code, "/" FILE_NAME, found, wanted, NULL);
    assert_int_equal(ts.n, 0);
    assert_null(ts.items);
    scratch_close(&s);
}

static void test_length_field(void **state)
{
    static const uint64_t lengths[] = {1, 1u << 20, 1ull << 32, 1ull << 63, UINT64_MAX - 7, UINT64_MAX};
    (void)state;
    refuse_header(0, GOOD_HEADER, 30, ZAMBA_E_FORMAT, "not JSON", "line 1");
    refuse_header(1, GOOD_HEADER, 30, ZAMBA_E_FORMAT, "not JSON", "line 1");
    for (size_t i = 1; i < sizeof lengths / sizeof *lengths; i++) {
        char number[32];
        snprintf(number, sizeof number, "header of %llu bytes", (unsigned long long)lengths[i]);
        refuse_header(lengths[i], GOOD_HEADER, 30, ZAMBA_E_FORMAT, number, "cut-off");
    }
}

static void refuse(const char *header, size_t n_data, const char *found, const char *wanted)
{
    refuse_header(strlen(header), header, n_data, ZAMBA_E_FORMAT, found, wanted);
}

/* {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}} */
static void refuse_tensor(const char *dtype, const char *shape, const char *offsets, size_t n_data, zamba_status code,
                          const char *found, const char *wanted)
{
    char header[512];
    snprintf(header, sizeof header, "{\"the.tensor\":{\"dtype\":%s,\"shape\":%s,\"data_offsets\":%s}}", dtype, shape,
             offsets);
    refuse_header(strlen(header), header, n_data, code, found, wanted);
}

static void test_header_json(void **state)
{
    char deep[4096];
    (void)state;
    refuse("not json at all", 0, "not JSON", "line 1");
    refuse("[]", 0, "the header is not", "JSON object");
    refuse("\"text\"", 0, "the header is not", "JSON object");
    refuse("17", 0, "the header is not", "JSON object");
    refuse("{\"a\":1,\"a\":2}", 0, "duplicate", "a");
    refuse("{\"a\\u0000b\":1}", 0, "not JSON", "NUL");
    refuse("{\"a\xFF\":1}", 0, "not JSON", "unable to decode");
    refuse("{\"a\":1}", 0, "tensor a", "dtype, shape and data_offsets");
    refuse("{\"a\":null}", 0, "tensor a", "dtype, shape and data_offsets");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "tensor a", "data_offsets");
    refuse("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor a", "dtype");
    refuse("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "tensor a", "shape");
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    refuse(deep, 0, "deeper", "64");
}

static void test_offsets(void **state)
{
    (void)state;
    refuse_tensor("\"F32\"", "[2]", "[0,8]", 7, ZAMBA_E_FORMAT, "ends at byte 8", "has 7");
    refuse_tensor("\"F32\"", "[2]", "[8,0]", 8, ZAMBA_E_FORMAT, "the.tensor", "begin <= end");
    refuse_tensor("\"F32\"", "[2]", "[-8,0]", 8, ZAMBA_E_FORMAT, "the.tensor", "begin <= end");
    refuse_tensor("\"F32\"", "[2]", "[0]", 8, ZAMBA_E_FORMAT, "the.tensor", "data_offsets [begin, end]");
    refuse_tensor("\"F32\"", "[2]", "[0,8,8]", 8, ZAMBA_E_FORMAT, "the.tensor", "data_offsets [begin, end]");
    refuse_tensor("\"F32\"", "[2]", "[0,8.0]", 8, ZAMBA_E_FORMAT, "the.tensor", "begin <= end");
    refuse_tensor("\"F32\"", "[2]", "\"0,8\"", 8, ZAMBA_E_FORMAT, "the.tensor", "data_offsets [begin, end]");
    refuse_tensor("\"F32\"", "[2]", "[9223372036854775800,9223372036854775807]", 8, ZAMBA_E_FORMAT, "the.tensor",
                  "the file has 8");
    refuse_tensor("\"F32\"", "[2]", "[0,9223372036854775808]", 8, ZAMBA_E_FORMAT, "the.tensor", "begin <= end");
    refuse_tensor("\"F32\"", "[2]", "[4,12]", 12, ZAMBA_E_FORMAT, "begins at byte 4", "wanted 0");
    refuse_tensor("\"F32\"", "[2]", "[0,8]", 9, ZAMBA_E_FORMAT, "1 bytes", "after the last tensor");
    refuse("{}", 5, "5 bytes", "after the last tensor");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
           "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
           12, "tensor b begins at byte 4", "overlap");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
           "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
           8, "begins at byte 0", "overlap");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
           "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[12,20]}}",
           20, "tensor b begins at byte 12", "hole");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
           "\"b\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,4]}}",
           8, "begins at byte 4", "wanted");
}

static void test_shapes(void **state)
{
    static const char *const dims[] = {"[-1]", "[2,-3]", "[1.5]", "[\"2\"]", "[null]", "[true]", "[[2]]"};
    (void)state;
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        refuse_tensor("\"F32\"", dims[i], "[0,8]", 8, ZAMBA_E_FORMAT, "the.tensor: dimension", "negative, no integer");
    refuse_tensor("\"F32\"", "[4611686018427387904]", "[0,8]", 8, ZAMBA_E_FORMAT, "dimension 0", "too large");
    refuse_tensor("\"F32\"", "[4294967296,4294967296]", "[0,0]", 0, ZAMBA_E_FORMAT, "dimension 1", "too large");
    refuse_tensor("\"F32\"", "[1048576,1048576,1048576,1048576]", "[0,0]", 0, ZAMBA_E_FORMAT, "dimension", "too large");
    refuse_tensor("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]", 4, ZAMBA_E_FORMAT, "9 dimensions", "at most 8");
    refuse_tensor("\"F32\"", "{\"a\":2}", "[0,8]", 8, ZAMBA_E_FORMAT, "the.tensor", "wanted dtype, shape");
    refuse_tensor("\"F32\"", "[3]", "[0,8]", 8, ZAMBA_E_FORMAT, "8 bytes", "want 12");
    refuse_tensor("\"F16\"", "[2]", "[0,8]", 8, ZAMBA_E_FORMAT, "8 bytes", "want 4");
    refuse_tensor("\"F32\"", "[]", "[0,8]", 8, ZAMBA_E_FORMAT, "8 bytes", "want 4");
    refuse_tensor("\"I64\"", "[2]", "[0,8]", 8, ZAMBA_E_FORMAT, "8 bytes", "want 16");
}

static void test_dtypes(void **state)
{
    (void)state;
    refuse_tensor("\"F4\"", "[2]", "[0,8]", 8, ZAMBA_E_UNSUPPORTED, "the.tensor", "unknown dtype F4");
    refuse_tensor("\"f32\"", "[2]", "[0,8]", 8, ZAMBA_E_UNSUPPORTED, "the.tensor", "unknown dtype f32");
    refuse_tensor("\"F32\\u0000\"", "[2]", "[0,8]", 8, ZAMBA_E_UNSUPPORTED, "the.tensor", "unknown dtype");
    refuse_tensor("\"\"", "[2]", "[0,8]", 8, ZAMBA_E_UNSUPPORTED, "the.tensor", "unknown dtype");
    refuse_tensor("\"F32 but much longer than any name of a type\"", "[2]", "[0,8]", 8, ZAMBA_E_UNSUPPORTED,
                  "the.tensor", "unknown dtype");
    refuse_tensor("32", "[2]", "[0,8]", 8, ZAMBA_E_FORMAT, "the.tensor", "wanted dtype");
}

/* ---- shards ---- */

static void write_shards(const scratch *s, const char *index)
{
    const zb_tensor one = tensor("one", "F32", floats, 24, 2, 2, 3), two = tensor("two", "BF16", halves, 6, 1, 3, 0);
    scratch_safetensors(s, "first.safetensors", &one, 1, 0);
    scratch_safetensors(s, "second.safetensors", &two, 1, 0);
    scratch_text(s, INDEX_NAME, index);
}

static void test_shards(void **state)
{
    const zb_tensor want[] = {tensor("one", "F32", floats, 24, 2, 2, 3), tensor("two", "BF16", halves, 6, 1, 3, 0)};
    scratch s;
    zb_tensors ts;
    zamba_error err;
    (void)state;
    scratch_open(&s);
    write_shards(&s, "{\"metadata\":{\"total_size\":30},\"weight_map\":{\"one\":\"first.safetensors\","
                     "\"two\":\"second.safetensors\"}}");
    CHECK_OK(zb_tensors_open(&ts, s.path, &err), err);
    check_same(&ts, want, 2);
    assert_int_equal(ts.n_files, 2);
    assert_non_null(strstr(zb_tensors_find(&ts, "two")->file, "/second.safetensors"));
    zb_tensors_close(&ts);
    char slash[SCRATCH_PATH + 2];
    snprintf(slash, sizeof slash, "%s/", s.path);
    CHECK_OK(zb_tensors_open(&ts, slash, &err), err);
    zb_tensors_close(&ts);
    scratch_close(&s);
}

static void refuse_index(const char *index, zamba_status code, const char *found, const char *wanted)
{
    scratch s;
    zb_tensors ts;
    zamba_error err;
    scratch_open(&s);
    write_shards(&s, index);
    const zamba_status st = zb_tensors_open(&ts, s.path, &err);
    check_refused(st, &err, code, s.path, found, wanted, NULL);
    scratch_close(&s);
}

static void test_index(void **state)
{
    static const char *const names[] = {"../first.safetensors", "/etc/passwd", "sub/first.safetensors",   "..", "",
                                        "a\\\\b.safetensors",   ".hidden",     "first.safetensors\\u0000"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char index[256];
        snprintf(index, sizeof index, "{\"weight_map\":{\"one\":\"%s\"}}", names[i]);
        refuse_index(index, ZAMBA_E_FORMAT, "tensor one", "a plain name in the same folder");
    }
    refuse_index("{\"weight_map\":{\"one\":7}}", ZAMBA_E_FORMAT, "tensor one", "plain name");
    refuse_index("{\"weight_map\":[\"first.safetensors\"]}", ZAMBA_E_FORMAT, INDEX_NAME, "no weight_map");
    refuse_index("{\"weight_map\":null}", ZAMBA_E_FORMAT, INDEX_NAME, "no weight_map");
    refuse_index("{\"weight_map\":{}}", ZAMBA_E_FORMAT, INDEX_NAME, "no weight_map");
    refuse_index("{}", ZAMBA_E_FORMAT, INDEX_NAME, "no weight_map");
    refuse_index("[]", ZAMBA_E_FORMAT, INDEX_NAME, "no weight_map");
    refuse_index("", ZAMBA_E_FORMAT, INDEX_NAME, "not JSON");
    refuse_index("{\"weight_map\":{\"one\":\"third.safetensors\"}}", ZAMBA_E_NOT_FOUND, "third.safetensors",
                 "cannot open");
    refuse_index("{\"weight_map\":{\"one\":\"first.safetensors\",\"two\":\"first.safetensors\"}}", ZAMBA_E_FORMAT,
                 "tensor two should be in first.safetensors", "is not there");
    refuse_index("{\"weight_map\":{\"one\":\"second.safetensors\",\"two\":\"first.safetensors\"}}", ZAMBA_E_FORMAT,
                 "should be in", "stands in another file");
}

static void test_same_tensor_twice(void **state)
{
    const zb_tensor one = tensor("one", "F32", floats, 24, 2, 2, 3);
    scratch s;
    zb_tensors ts;
    zamba_error err;
    (void)state;
    scratch_open(&s);
    scratch_safetensors(&s, "first.safetensors", &one, 1, 0);
    scratch_safetensors(&s, "second.safetensors", (zb_tensor[]){one, tensor("two", "BF16", halves, 6, 1, 3, 0)}, 2, 0);
    scratch_text(&s, INDEX_NAME, "{\"weight_map\":{\"one\":\"first.safetensors\",\"two\":\"second.safetensors\"}}");
    const zamba_status st = zb_tensors_open(&ts, s.path, &err);
    check_refused(st, &err, ZAMBA_E_FORMAT, "tensor one", "also in", "first.safetensors", "second.safetensors", NULL);
    scratch_close(&s);
}

static void test_many_shards(void **state)
{
    scratch s;
    zb_tensors ts;
    zamba_error err;
    zb_buf index = {0};
    (void)state;
    scratch_open(&s);
    for (int i = 0; i < 1001; i++) {
        char text[128];
        snprintf(text, sizeof text, "%s\"t%d\":\"s%d\"", i == 0 ? "{\"weight_map\":{" : ",", i, i);
        CHECK_OK(zb_buf_append(&index, text, strlen(text), &err), err);
        snprintf(text, sizeof text, "s%d", i);
        scratch_raw_safetensors(&s, text, 2, "{}", NULL, 0);
    }
    CHECK_OK(zb_buf_append(&index, "}}", 2, &err), err);
    scratch_text(&s, INDEX_NAME, index.data);
    const zamba_status st = zb_tensors_open(&ts, s.path, &err);
    check_refused(st, &err, ZAMBA_E_FORMAT, INDEX_NAME, "more than 1000 shards", NULL);
    zb_buf_free(&index);
    scratch_close(&s);
}

/* Every shard may be small enough and all of them together too much. */
static void test_many_headers(void **state)
{
    const size_t n = (size_t)12 << 20;
    char *header = malloc(n + 1);
    scratch s;
    zb_tensors ts;
    zamba_error err;
    (void)state;
    memset(header, ' ', n);
    memcpy(header, "{}", 2);
    header[n] = '\0';
    scratch_open(&s);
    scratch_raw_safetensors(&s, "s1", n, header, NULL, 0);
    assert_int_equal(link(scratch_path(&s, "s1"), scratch_path(&s, "s2")), 0);
    assert_int_equal(link(scratch_path(&s, "s1"), scratch_path(&s, "s3")), 0);
    scratch_text(&s, INDEX_NAME, "{\"weight_map\":{\"a\":\"s1\",\"b\":\"s2\",\"c\":\"s3\"}}");
    const zamba_status st = zb_tensors_open(&ts, s.path, &err);
    check_refused(st, &err, ZAMBA_E_FORMAT, "the headers are 37748736 bytes", "at most 33554432", NULL);
    free(header);
    scratch_close(&s);
}

/* ---- folders ---- */

static void test_nothing_to_read(void **state)
{
    static const char *const pickles[] = {"pytorch_model.bin", "consolidated.pt", "model.pth", "model.pkl",
                                          "pytorch_model.bin.index.json"};
    scratch s;
    zb_tensors ts;
    zamba_error err;
    zamba_status st;
    (void)state;
    scratch_open(&s);
    st = zb_tensors_open(&ts, s.path, &err);
    check_refused(st, &err, ZAMBA_E_NOT_FOUND, s.path, FILE_NAME, INDEX_NAME, NULL);
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        scratch_text(&s, pickles[i], "\x80\x02}q\x01.");
        st = zb_tensors_open(&ts, s.path, &err);
        check_refused(st, &err, ZAMBA_E_UNSUPPORTED, s.path, pickles[i], "pickle", "can run any code",
                      "wanted " FILE_NAME, "safe_serialization", NULL);
        scratch_remove(&s, pickles[i]);
    }
    st = zb_tensors_open(&ts, scratch_path(&s, "no such folder"), &err);
    check_refused(st, &err, ZAMBA_E_NOT_FOUND, "cannot open the folder", NULL);
    scratch_text(&s, "file", "");
    st = zb_tensors_open(&ts, scratch_path(&s, "file"), &err);
    assert_int_not_equal(st, ZAMBA_OK);
    scratch_close(&s);
}

static void test_strange_files(void **state)
{
    scratch s;
    zb_tensors ts;
    zamba_error err;
    zamba_status st;
    (void)state;
    scratch_open(&s);
    assert_int_equal(mkfifo(scratch_path(&s, FILE_NAME), 0600), 0);
    alarm(10); /* opening a pipe that nobody writes to must not wait */
    st = zb_tensors_open(&ts, s.path, &err);
    check_refused(st, &err, ZAMBA_E_IO, "/" FILE_NAME, "pipe", "wanted a regular file", NULL);
    scratch_remove(&s, FILE_NAME);
    assert_int_equal(mkdir(scratch_path(&s, FILE_NAME), 0700), 0);
    st = zb_tensors_open(&ts, s.path, &err);
    check_refused(st, &err, ZAMBA_E_IO, "/" FILE_NAME, "a folder", "wanted a regular file", NULL);
    scratch_remove(&s, FILE_NAME);
    assert_int_equal(symlink("blobs/gone", scratch_path(&s, FILE_NAME)), 0); /* a half-deleted download cache */
    st = zb_tensors_open(&ts, s.path, &err);
    check_refused(st, &err, ZAMBA_E_NOT_FOUND, "/" FILE_NAME, "cannot open", NULL);
    scratch_remove(&s, FILE_NAME);
    assert_int_equal(symlink(FILE_NAME, scratch_path(&s, FILE_NAME)), 0);
    st = zb_tensors_open(&ts, s.path, &err);
    check_refused(st, &err, ZAMBA_E_IO, "/" FILE_NAME, "cannot open", NULL);
    scratch_remove(&s, FILE_NAME);
    /* an index that is a pipe, and a shard that is one */
    assert_int_equal(mkfifo(scratch_path(&s, INDEX_NAME), 0600), 0);
    st = zb_tensors_open(&ts, s.path, &err);
    check_refused(st, &err, ZAMBA_E_IO, "/" INDEX_NAME, "pipe", NULL);
    scratch_remove(&s, INDEX_NAME);
    scratch_text(&s, INDEX_NAME, "{\"weight_map\":{\"one\":\"pipe\"}}");
    assert_int_equal(mkfifo(scratch_path(&s, "pipe"), 0600), 0);
    st = zb_tensors_open(&ts, s.path, &err);
    check_refused(st, &err, ZAMBA_E_IO, "/pipe", "wanted a regular file", NULL);
    alarm(0);
    scratch_close(&s);
}

/* Root may read everything, so a child without its rights looks. */
static void test_unreadable(void **state)
{
    const zb_tensor one = tensor("one", "F32", floats, 24, 2, 2, 3);
    scratch s;
    int status;
    (void)state;
    scratch_open(&s);
    scratch_safetensors(&s, FILE_NAME, &one, 1, 0);
    assert_int_equal(chmod(s.path, 0755), 0);
    assert_int_equal(chmod(scratch_path(&s, FILE_NAME), 0), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        zb_tensors ts;
        zamba_error err;
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
            _exit(0); /* cannot be tried here */
        const zamba_status st = zb_tensors_open(&ts, s.path, &err);
        const int good =
            st == ZAMBA_E_IO && strstr(err.message, "/" FILE_NAME ": cannot open: Permission denied") != NULL;
        if (!good)
            fprintf(stderr, "unreadable file: %s\n", st == ZAMBA_OK ? "was read" : err.message);
        _exit(good ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    scratch_close(&s);
}

/* Messages stay whole and readable whatever a name holds. */
static void test_long_names(void **state)
{
    char header[2048], name[1200];
    (void)state;
    for (size_t i = 0; i + 1 < sizeof name; i += 2)
        memcpy(name + i, "\xC3\xA4", 2);
    name[sizeof name - 2] = '\0';
    snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9]}}", name);
    refuse(header, 9, "tensor \xC3\xA4", "9 bytes, its dtype and shape want 8");
    refuse("{\"x\\u001b[31m\\r\\n\\u009b1m\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9]}}", 9,
           "tensor x?[31m????1m: 9 bytes", "want 8"); /* nothing that could steer a terminal */
}

static void test_shape_text(void **state)
{
    char buf[32], tiny[4];
    (void)state;
    assert_string_equal(zb_shape_text(buf, sizeof buf, (size_t[]){256, 64}, 2), "[256, 64]");
    assert_string_equal(zb_shape_text(buf, sizeof buf, NULL, 0), "[]");
    assert_string_equal(zb_shape_text(tiny, sizeof tiny, (size_t[]){256, 64}, 2), "[25");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_cut_everywhere),
        cmocka_unit_test(test_flip_everywhere),
        cmocka_unit_test(test_length_field),
        cmocka_unit_test(test_header_json),
        cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_same_tensor_twice),
        cmocka_unit_test(test_many_shards),
        cmocka_unit_test(test_many_headers),
        cmocka_unit_test(test_nothing_to_read),
        cmocka_unit_test(test_strange_files),
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_shape_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
