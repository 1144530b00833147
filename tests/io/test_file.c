/* test_file.c — mapping, reading and replacing files: what is no regular file, what is missing, a full disk, and what
 * was there before staying as it was. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "support/scratch.h"

static scratch folder;

static const char *in_folder(const char *name)
{
    return scratch_path(&folder, name);
}

static int make_folder(void **state)
{
    (void)state;
    scratch_open(&folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    scratch_close(&folder);
    return 0;
}

static void put(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void check_content(const char *path, const void *want, size_t n)
{
    zb_buf b = {0};
    zamba_error err = {0};
    CHECK_OK(zb_file_read(&b, path, n + 100, &err), err);
    assert_int_equal(b.n, n);
    if (n > 0)
        assert_memory_equal(b.data, want, n);
    zb_buf_free(&b);
}

/* Map and read must refuse alike. */
static void refused(const char *path, zamba_status want, const char *part)
{
    zb_file f;
    zb_buf b = {0};
    zamba_error err = {0};
    memset(&f, 0xA5, sizeof f);
    assert_int_equal(zb_file_map(&f, path, &err), want);
    assert_true(f.data == NULL && f.path == NULL && f.size == 0);
    if (strstr(err.message, part) == NULL || strncmp(err.message, path, strlen(path)) != 0)
        fail_msg("map %s: \"%s\" does not say \"%s\"", path, err.message, part);
    err.message[0] = '\0';
    assert_int_equal(zb_file_read(&b, path, 1000, &err), want);
    if (strstr(err.message, part) == NULL || strncmp(err.message, path, strlen(path)) != 0)
        fail_msg("read %s: \"%s\" does not say \"%s\"", path, err.message, part);
    zb_buf_free(&b);
    zb_file_unmap(&f);
}

static void test_map_and_read(void **state)
{
    (void)state;
    static unsigned char data[10000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7);
    const char *path = in_folder("data.bin");
    put(path, data, sizeof data);
    zb_file f;
    zamba_error err = {0};
    CHECK_OK(zb_file_map(&f, path, &err), err);
    assert_int_equal(f.size, sizeof data);
    assert_memory_equal(f.data, data, sizeof data);
    assert_string_equal(f.path, path);
    zb_file_unmap(&f);
    assert_true(f.data == NULL && f.path == NULL && f.size == 0);
    zb_file_unmap(&f);
    assert_true(zb_file_exists(path));

    zb_buf b = {0};
    CHECK_OK(zb_buf_append(&b, "head", 4, &err), err);
    CHECK_OK(zb_file_read(&b, path, sizeof data, &err), err); /* exactly the limit; appended */
    assert_int_equal(b.n, 4 + sizeof data);
    assert_memory_equal(b.data, "head", 4);
    assert_memory_equal(b.data + 4, data, sizeof data);
    assert_int_equal(b.data[b.n], 0);
    assert_int_equal(zb_file_read(&b, path, sizeof data - 1, &err), ZAMBA_E_FORMAT);
    assert_non_null(strstr(err.message, "10000 bytes, at most 9999"));
    assert_int_equal(b.n, 4 + sizeof data);
    zb_buf_free(&b);

    const char *empty = in_folder("empty");
    put(empty, "", 0);
    CHECK_OK(zb_file_map(&f, empty, &err), err);
    assert_true(f.data == NULL && f.size == 0 && f.path != NULL);
    zb_file_unmap(&f);
    CHECK_OK(zb_file_read(&b, empty, 0, &err), err);
    assert_true(b.n == 0 && b.data != NULL && b.data[0] == '\0');
    zb_buf_free(&b);

    const char *link = in_folder("link");
    assert_int_equal(symlink("data.bin", link), 0);
    CHECK_OK(zb_file_map(&f, link, &err), err); /* as the hub's cache has them */
    assert_int_equal(f.size, sizeof data);
    zb_file_unmap(&f);
}

static void test_refused(void **state)
{
    (void)state;
    refused(in_folder("nothing"), ZAMBA_E_NOT_FOUND, "cannot open");
    refused(in_folder("nothing/below"), ZAMBA_E_NOT_FOUND, "cannot open");
    refused("", ZAMBA_E_NOT_FOUND, "cannot open");
    refused(folder.path, ZAMBA_E_IO, "a folder, wanted a regular file");
    put(in_folder("plain"), "x", 1);
    refused(in_folder("plain/below"), ZAMBA_E_IO, "cannot open");
    const char *fifo = in_folder("fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    refused(fifo, ZAMBA_E_IO, "device, pipe or socket"); /* and does not wait for a writer */
    refused("/dev/zero", ZAMBA_E_IO, "device, pipe or socket");
    const char *dangling = in_folder("dangling"), *loop = in_folder("loop");
    assert_int_equal(symlink("nowhere", dangling), 0);
    refused(dangling, ZAMBA_E_NOT_FOUND, "cannot open");
    assert_int_equal(symlink("loop", loop), 0);
    refused(loop, ZAMBA_E_IO, "cannot open");
    assert_false(zb_file_exists(loop) || zb_file_exists(folder.path) || zb_file_exists(fifo) || zb_file_exists(""));
    if (geteuid() != 0) { /* root may read everything */
        const char *secret = in_folder("secret");
        put(secret, "x", 1);
        assert_int_equal(chmod(secret, 0), 0);
        refused(secret, ZAMBA_E_IO, "cannot open");
    }
}

static void test_replace(void **state)
{
    (void)state;
    const char *path = in_folder("saved");
    zamba_error err = {0};
    const zb_file_part first[] = {{"abc", 3}, {NULL, 0}, {"de", 2}};
    CHECK_OK(zb_file_write(path, first, 3, &err), err);
    check_content(path, "abcde", 5);
    const size_t before = scratch_count(&folder);
    CHECK_OK(zb_file_write(path, (const zb_file_part[]){{"new", 3}}, 1, &err), err);
    check_content(path, "new", 3);
    CHECK_OK(zb_file_write(path, NULL, 0, &err), err);
    check_content(path, "", 0);
    assert_int_equal(scratch_count(&folder), before); /* nothing temporary stays */
}

/* A saved file keeps who may read it, and a link stays a link to the file that is replaced. */
static void test_replace_keeps_mode_and_links(void **state)
{
    (void)state;
    const char *path = in_folder("private"), *link = in_folder("to-private");
    struct stat sb;
    zamba_error err = {0};
    put(path, "old", 3);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(symlink("private", link), 0);
    const size_t before = scratch_count(&folder);
    CHECK_OK(zb_file_write(link, (const zb_file_part[]){{"new", 3}}, 1, &err), err);
    check_content(path, "new", 3);
    assert_int_equal(lstat(link, &sb), 0);
    assert_true(S_ISLNK(sb.st_mode));
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);
    assert_int_equal(scratch_count(&folder), before);
}

static void test_replace_that_fails(void **state)
{
    (void)state;
    zamba_error err = {0};
    const zb_file_part part = {"new content", 11};
    assert_int_equal(zb_file_write(folder.path, &part, 1, &err), ZAMBA_E_IO);
    assert_non_null(strstr(err.message, "a folder"));
    assert_int_equal(zb_file_write(in_folder("no/such/place"), &part, 1, &err), ZAMBA_E_IO);
    assert_non_null(strstr(err.message, "No such file"));
    assert_int_equal(zb_file_write("", &part, 1, &err), ZAMBA_E_IO);

    /* a disk that is full: in the middle of a big file, the old one stays, nothing is left beside it */
    const char *path = in_folder("kept");
    put(path, "precious", 8);
    const size_t before = scratch_count(&folder);
    static char big[100000];
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 20000;
    void (*const handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const zb_file_part parts[] = {{big, 10000}, {big, sizeof big}};
    const zamba_status st = zb_file_write(path, parts, 2, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(st, ZAMBA_E_IO);
    assert_memory_equal(err.message, path, strlen(path));
    assert_non_null(strstr(err.message, "cannot write"));
    check_content(path, "precious", 8);
    assert_int_equal(scratch_count(&folder), before);
}

static void test_devices(void **state)
{
    (void)state;
    zamba_error err = {0};
    const zb_file_part part = {"text", 4};
    if (access("/dev/full", W_OK) == 0) {
        assert_int_equal(zb_file_write("/dev/full", &part, 1, &err), ZAMBA_E_IO);
        assert_non_null(strstr(err.message, "/dev/full: cannot write"));
    }
    CHECK_OK(zb_file_write("/dev/null", &part, 1, &err), err);
    int ends[2];
    char got[8] = "", path[64];
    assert_int_equal(pipe(ends), 0);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[1]);
    CHECK_OK(zb_file_write(path, &part, 1, &err), err);
    assert_int_equal(read(ends[0], got, sizeof got), 4);
    assert_memory_equal(got, "text", 4);
    close(ends[0]);
    close(ends[1]);
}

static void test_path_join(void **state)
{
    (void)state;
    char buf[10];
    zamba_error err = {0};
    CHECK_OK(zb_path_join(buf, sizeof buf, "a/b", "c", &err), err);
    assert_string_equal(buf, "a/b/c");
    CHECK_OK(zb_path_join(buf, sizeof buf, "/", "c", &err), err);
    assert_string_equal(buf, "/c");
    CHECK_OK(zb_path_join(buf, sizeof buf, "a/", "b", &err), err);
    assert_string_equal(buf, "a/b");
    CHECK_OK(zb_path_join(buf, sizeof buf, "abc", "defgh", &err), err);
    assert_string_equal(buf, "abc/defgh");
    assert_int_equal(zb_path_join(buf, sizeof buf, "abcd", "efghi", &err), ZAMBA_E_ARG);
    assert_non_null(strstr(err.message, "too long"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_and_read),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_replace_keeps_mode_and_links),
        cmocka_unit_test(test_replace_that_fails),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_path_join),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
