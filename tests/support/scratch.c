/* scratch.c — temporary folders, hand-made checkpoint files, limits on a child. */
#define _XOPEN_SOURCE   700
#define _DEFAULT_SOURCE 1
#include "support/scratch.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "io/json.h"

void scratch_open(scratch *s)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(s->path, sizeof s->path, "%.400s/zamba-test-XXXXXX", tmp != NULL && tmp[0] != '\0' ? tmp : "/tmp");
    assert_non_null(mkdtemp(s->path));
}

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *at)
{
    (void)sb, (void)type, (void)at;
    return remove(path);
}

void scratch_close(scratch *s)
{
    nftw(s->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *scratch_path(const scratch *s, const char *name)
{
    static char paths[8][SCRATCH_PATH + 256];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", s->path, name);
    return path;
}

static void write_parts(const char *path, const zb_file_part *parts, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(fwrite(parts[i].data, 1, parts[i].n, f), parts[i].n);
    assert_int_equal(fclose(f), 0);
}

void scratch_write(const scratch *s, const char *name, const void *data, size_t n)
{
    write_parts(scratch_path(s, name), &(zb_file_part){data, n}, n > 0);
}

void scratch_text(const scratch *s, const char *name, const char *text)
{
    scratch_write(s, name, text, strlen(text));
}

char *scratch_read(const char *path, size_t *n)
{
    zb_buf b = {0};
    zamba_error err;
    CHECK_OK(zb_file_read(&b, path, SIZE_MAX / 4, &err), err);
    *n = b.n;
    return b.data;
}

void scratch_copy(const scratch *s, const char *name, const char *from)
{
    size_t n;
    char *data = scratch_read(from, &n);
    scratch_write(s, name, data, n);
    free(data);
}

void scratch_remove(const scratch *s, const char *name)
{
    assert_int_equal(remove(scratch_path(s, name)), 0);
}

size_t scratch_count(const scratch *s)
{
    size_t n = 0;
    DIR *dir = opendir(s->path);
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    return n;
}

void scratch_raw_safetensors(const scratch *s, const char *name, uint64_t header_bytes, const char *header,
                             const void *data, size_t n_data)
{
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(header_bytes >> 8 * i);
    write_parts(scratch_path(s, name), (zb_file_part[]){{length, 8}, {header, strlen(header)}, {data, n_data}},
                n_data > 0 ? 3 : 2);
}

void scratch_safetensors(const scratch *s, const char *name, const zb_tensor *items, size_t n, size_t skew)
{
    json_t *header = json_object();
    zb_buf text = {0}, data = {0};
    zamba_error err;
    for (size_t i = 0; i < n; i++) {
        json_t *shape = json_array();
        for (int d = 0; d < items[i].n_dims; d++)
            json_array_append_new(shape, json_integer((json_int_t)items[i].shape[d]));
        json_object_set_new(header, items[i].name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", items[i].dtype_name, "shape", shape,
                                      "data_offsets", (json_int_t)data.n, (json_int_t)(data.n + items[i].bytes)));
        CHECK_OK(zb_buf_append(&data, items[i].data, items[i].bytes, &err), err);
    }
    char *dump = json_dumps(header, JSON_COMPACT);
    assert_non_null(dump);
    CHECK_OK(zb_buf_append(&text, dump, strlen(dump), &err), err);
    for (size_t pad = (8 - text.n % 8) % 8 + skew; pad > 0; pad--)
        CHECK_OK(zb_buf_append(&text, " ", 1, &err), err);
    scratch_raw_safetensors(s, name, text.n, text.data, data.data, data.n);
    free(dump);
    zb_buf_free(&text);
    zb_buf_free(&data);
    json_decref(header);
}

void check_refused(zamba_status st, const zamba_error *err, zamba_status code, ...)
{
    va_list args;
    if (st == ZAMBA_OK)
        fail_msg("wanted %s, but it went well", zamba_status_name(code));
    if (st != code || err->code != code)
        fail_msg("%s (status %s), wanted %s: %s", zamba_status_name(err->code), zamba_status_name(st),
                 zamba_status_name(code), err->message);
    va_start(args, code);
    for (const char *word = va_arg(args, const char *); word != NULL; word = va_arg(args, const char *))
        if (strstr(err->message, word) == NULL)
            fail_msg("\"%s\" is not in the message: %s", word, err->message);
    va_end(args);
    json_t *text = json_string(err->message); /* takes UTF-8 only */
    if (text == NULL || strlen(err->message) >= sizeof err->message - 1)
        fail_msg("a message that is cut or no UTF-8: %s", err->message);
    json_decref(text);
}

double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double cpu_seconds(const struct rusage *use)
{
    return (double)(use->ru_utime.tv_sec + use->ru_stime.tv_sec) +
           1e-6 * (double)(use->ru_utime.tv_usec + use->ru_stime.tv_usec);
}

size_t check_limits(void (*fn)(void *arg), void *arg, double seconds, size_t megabytes, const char *name)
{
    int status = 0;
    struct rusage use = {0};
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(SANITIZED ? 300 : 30); /* a hang becomes a signal */
        fn(arg);
        _exit(0);
    }
    assert_int_equal(wait4(child, &status, 0, &use), child);
    const double took = cpu_seconds(&use);
    const size_t peak = (size_t)use.ru_maxrss * 1024;
    if (WIFSIGNALED(status))
        fail_msg("%s: ended by signal %d", name, WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        fail_msg("%s: exit code %d", name, WEXITSTATUS(status));
    if (!SANITIZED && took > seconds)
        fail_msg("%s: took %.2f s of CPU time, at most %.2f are allowed", name, took, seconds);
    if (!SANITIZED && peak > megabytes << 20)
        fail_msg("%s: held %zu MB, at most %zu are allowed", name, peak >> 20, megabytes);
    return peak;
}
