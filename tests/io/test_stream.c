/* test_stream.c — reading in order: lines of every length across the buffer, zstd in several frames, files that end too
 * soon, are damaged, or are packed by something else. */
#include "support/check.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "io/stream.h"
#include "support/scratch.h"

static scratch dir;

/* Lines whose lengths go through every kind of border; no line end behind the last. */
static char *long_text(size_t *n)
{
    static const size_t lengths[] = {0, 1, 5, 262143, 262144, 262145, 0, 700000, 3, 100000, 100000, 100000, 7};
    char *text = malloc(3000000);
    assert_non_null(text);
    *n = 0;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (size_t k = 0; k < lengths[i]; k++)
            text[(*n)++] = (char)('a' + (i * 7 + k * k % 11) % 26);
        text[(*n)++] = '\n';
    }
    --*n;
    return text;
}

static void pack(const char *name, const char *text, size_t n, size_t n_frames)
{
    const size_t room = ZSTD_compressBound(n) + 1024 * n_frames;
    char *out = malloc(room);
    size_t at = 0;
    assert_non_null(out);
    for (size_t i = 0; i < n_frames; i++) {
        const size_t from = n * i / n_frames, to = n * (i + 1) / n_frames;
        at += ZSTD_compress(out + at, room - at, text + from, to - from, 3);
    }
    scratch_write(&dir, name, out, at);
    free(out);
}

static void check_lines(const char *name, const char *text, size_t n, int packed)
{
    zb_stream *s = NULL;
    zamba_error err = {0};
    const char *line;
    size_t got, at = 0;
    uint64_t count = 0;
    CHECK_OK(zb_stream_open(&s, scratch_path(&dir, name), &err), err);
    assert_int_equal(zb_stream_packed(s), packed);
    for (;;) {
        CHECK_OK(zb_stream_line(s, &line, &got, 1 << 20, &err), err);
        if (line == NULL)
            break;
        count++;
        assert_true(at + got <= n);
        assert_memory_equal(line, text + at, got);
        assert_true(at + got == n || line[got - 1] == '\n');
        assert_null(memchr(line, '\n', got - 1));
        at += got;
    }
    assert_int_equal(at, n);
    assert_int_equal(zb_stream_lines(s), count);
    assert_int_equal(count, 13);
    assert_int_equal(zb_stream_done(s), zb_stream_size(s));
    zb_stream_close(s);
}

static void check_blocks(const char *name, const char *text, size_t n)
{
    zb_stream *s = NULL;
    zamba_error err = {0};
    size_t got = 1, at = 0;
    char *block = malloc(300001);
    assert_non_null(block);
    CHECK_OK(zb_stream_open(&s, scratch_path(&dir, name), &err), err);
    while (got > 0) {
        CHECK_OK(zb_stream_read(s, block, 300001, &got, &err), err);
        assert_true(at + got <= n);
        assert_true(got == 300001 || at + got == n);
        assert_memory_equal(block, text + at, got);
        at += got;
    }
    assert_int_equal(at, n);
    zb_stream_close(s);
    free(block);
}

static void test_lines_and_blocks(void **state)
{
    (void)state;
    size_t n;
    char *text = long_text(&n);
    scratch_write(&dir, "plain.txt", text, n);
    pack("one.txt.zst", text, n, 1);
    pack("many.txt.zst", text, n, 5);
    pack("renamed.txt", text, n, 1); /* by its bytes, whatever its name */
    check_lines("plain.txt", text, n, 0);
    check_lines("one.txt.zst", text, n, 1);
    check_lines("many.txt.zst", text, n, 1);
    check_lines("renamed.txt", text, n, 1);
    check_blocks("plain.txt", text, n);
    check_blocks("many.txt.zst", text, n);
    free(text);
}

static zamba_status read_all(const char *name, size_t max, zamba_error *err)
{
    zb_stream *s = NULL;
    const char *line = "";
    size_t n;
    zamba_status st = zb_stream_open(&s, scratch_path(&dir, name), err);
    while (st == ZAMBA_OK && line != NULL)
        st = zb_stream_line(s, &line, &n, max, err);
    zb_stream_close(s);
    return st;
}

static void test_empty(void **state)
{
    (void)state;
    zamba_error err = {0};
    scratch_write(&dir, "empty.txt", "", 0);
    CHECK_OK(read_all("empty.txt", 10, &err), err);
    pack("empty.zst", "", 0, 1);
    CHECK_OK(read_all("empty.zst", 10, &err), err);
}

static void test_bad_files(void **state)
{
    (void)state;
    zamba_error err = {0};
    size_t n, n_packed;
    char *text = long_text(&n);
    pack("whole.zst", text, n, 1);
    char *packed = scratch_read(scratch_path(&dir, "whole.zst"), &n_packed);
    for (size_t cut = 4; cut < n_packed; cut += 1 + n_packed / 97) { /* wherever it ends too soon */
        scratch_write(&dir, "cut.zst", packed, cut);
        check_refused(read_all("cut.zst", 1 << 20, &err), &err, ZAMBA_E_FORMAT, "cut.zst", NULL);
    }
    check_refused(read_all("cut.zst", 1 << 20, &err), &err, ZAMBA_E_FORMAT, "ends in the middle", NULL);
    for (size_t at = 4; at < n_packed; at += 1 + n_packed / 53) { /* damage may or may not show: it must not crash */
        packed[at] = (char)~packed[at];
        scratch_write(&dir, "damaged.zst", packed, n_packed);
        const zamba_status st = read_all("damaged.zst", 1 << 20, &err);
        assert_true(st == ZAMBA_OK || st == ZAMBA_E_FORMAT);
        packed[at] = (char)~packed[at];
    }
    free(packed);
    free(text);
    scratch_text(&dir, "not.zst", "just text");
    check_refused(read_all("not.zst", 10, &err), &err, ZAMBA_E_FORMAT, "not.zst", "not packed with zstd", NULL);
    scratch_write(&dir, "a.gz", "\x1f\x8b\x08rest", 7);
    check_refused(read_all("a.gz", 10, &err), &err, ZAMBA_E_UNSUPPORTED, "gzip", "zstd", NULL);
    scratch_write(&dir, "a.xz",
                  "\xfd"
                  "7zXZ\0rest",
                  10);
    check_refused(read_all("a.xz", 10, &err), &err, ZAMBA_E_UNSUPPORTED, "xz", NULL);
    scratch_text(&dir, "long.txt", "short\n0123456789\n");
    check_refused(read_all("long.txt", 8, &err), &err, ZAMBA_E_FORMAT, "long.txt, line 2", "8 bytes", NULL);
    check_refused(read_all("nowhere.txt", 8, &err), &err, ZAMBA_E_NOT_FOUND, "nowhere.txt", NULL);
    check_refused(read_all("", 8, &err), &err, ZAMBA_E_IO, "folder", NULL);
}

static int open_scratch(void **state)
{
    (void)state;
    scratch_open(&dir);
    return 0;
}

static int close_scratch(void **state)
{
    (void)state;
    scratch_close(&dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_and_blocks),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_bad_files),
    };
    return cmocka_run_group_tests(tests, open_scratch, close_scratch);
}
