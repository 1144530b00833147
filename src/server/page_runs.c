/* page_runs.c — run folders of `zamba train`, as they grow, and charts that other commands wrote beside them. What a
 * client names is only ever compared with what a look into the folder found; no part of a request becomes a path. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "page_impl.h"

enum { MOST_RUNS = 2000, MOST_PIECE = 1 << 20, MOST_CONFIG = 1 << 20, MOST_SVG = 16 << 20, LIVE_SECONDS = 60 };

#define POLICY "default-src 'none'; style-src 'unsafe-inline'; sandbox"

static int64_t milliseconds(const struct stat *st)
{
    return (int64_t)st->st_mtime * 1000;
}

/* A regular file below a folder that was opened; -1: there is none. Links out of it are followed: whoever may write
 * there may read there. */
static int open_file(int folder, const char *name, struct stat *st)
{
    const int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, st) == 0 && S_ISREG(st->st_mode))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static int open_folder(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* At most `most` bytes from `from`; released with free. NULL: no memory. */
static char *read_piece(int fd, off_t from, size_t most, size_t *n)
{
    char *data = malloc(most + 1);
    *n = 0;
    while (data && *n < most) {
        const ssize_t got = pread(fd, data + *n, most - *n, from + (off_t)*n);
        if (got <= 0)
            break;
        *n += (size_t)got;
    }
    if (data)
        data[*n] = 0;
    return data;
}

/* ---- runs ---- */

/* Does a line of the last of metrics.jsonl say that it is the last step? */
static int came_to_end(const char *tail)
{
    for (const char *at = tail; (at = strstr(at, "\"step\": ")) != NULL; at++) {
        long long step, total;
        if (sscanf(at, "\"step\": %lld, \"total_steps\": %lld", &step, &total) == 2 && total > 0 && step >= total)
            return 1;
    }
    return 0;
}

/* A file name as an id: names that are no UTF-8 are not shown. */
static json_t *run_json(int runs, const char *name)
{
    struct stat metrics, samples, st;
    const int folder = *name == '.' ? -1 : open_folder(runs, name);
    if (folder < 0)
        return NULL;
    const int fd = open_file(folder, "metrics.jsonl", &metrics), sampled = open_file(folder, "samples.jsonl", &samples),
              config = open_file(folder, "config.json", &st);
    json_t *o = NULL, *id = json_string(name);
    if ((fd >= 0 || config >= 0) && id) {
        int64_t updated = fd >= 0 ? milliseconds(&metrics) : milliseconds(&st);
        if (sampled >= 0 && milliseconds(&samples) > updated)
            updated = milliseconds(&samples);
        size_t n = 0;
        const off_t from = fd >= 0 && metrics.st_size > 2048 ? metrics.st_size - 2048 : 0;
        char *tail = fd >= 0 ? read_piece(fd, from, 2048, &n) : NULL;
        const int finished = tail && came_to_end(tail);
        free(tail);
        const int live = !finished && time(NULL) - updated / 1000 < LIVE_SECONDS;
        o = json_pack("{s:O,s:O,s:I,s:b,s:b,s:I,s:I}", "id", id, "name", id, "updated", (json_int_t)updated, "live",
                      live, "finished", finished, "metrics_bytes", (json_int_t)(fd >= 0 ? metrics.st_size : 0),
                      "samples_bytes", (json_int_t)(sampled >= 0 ? samples.st_size : 0));
    }
    json_decref(id);
    if (fd >= 0)
        close(fd);
    if (sampled >= 0)
        close(sampled);
    if (config >= 0)
        close(config);
    close(folder);
    return o;
}

static int newest_first(const void *a, const void *b)
{
    const json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "updated"));
    const json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "updated"));
    return (x < y) - (x > y);
}

static json_t *sorted(json_t *list)
{
    const size_t n = json_array_size(list);
    json_t **items = calloc(n + 1, sizeof *items), *out = json_array();
    for (size_t i = 0; items && i < n; i++)
        items[i] = json_array_get(list, i);
    if (items)
        qsort(items, n, sizeof *items, newest_first);
    for (size_t i = 0; items && i < n; i++)
        json_array_append(out, items[i]);
    free(items);
    json_decref(list);
    return out;
}

static json_t *list_runs(const sv_page *p)
{
    json_t *list = json_array();
    DIR *dir = p->runs ? opendir(p->runs) : NULL;
    for (const struct dirent *f; dir && json_array_size(list) < MOST_RUNS && (f = readdir(dir)) != NULL;) {
        json_t *run = run_json(dirfd(dir), f->d_name);
        if (run)
            json_array_append_new(list, run);
    }
    if (dir)
        closedir(dir);
    return sorted(list);
}

void sv_page_runs(sv_exchange *r, void *app)
{
    sv_http_reply_json(r, 200, json_pack("{s:o}", "runs", list_runs(sv_page_of(app))));
}

static void no_run(sv_exchange *r)
{
    sv_http_error(r, 404, NULL, "id", "run_not_found", "no such run (wanted a folder of zamba train in --runs)");
}

/* The folder that the request names, opened by the name that was found; -1 and the reply. */
static int find_run(sv_exchange *r, const sv_page *p, json_t **run)
{
    const char *wanted = sv_http_arg(r);
    DIR *dir = p->runs ? opendir(p->runs) : NULL;
    int folder = -1;
    *run = NULL;
    for (const struct dirent *f; dir && folder < 0 && (f = readdir(dir)) != NULL;) {
        if (strcmp(f->d_name, wanted) != 0)
            continue;
        *run = run_json(dirfd(dir), f->d_name);
        if (*run)
            folder = open_folder(dirfd(dir), f->d_name);
    }
    if (dir)
        closedir(dir);
    if (folder < 0) {
        json_decref(*run);
        no_run(r);
    }
    return folder;
}

void sv_page_run(sv_exchange *r, void *app)
{
    json_t *run;
    struct stat st;
    const int folder = find_run(r, sv_page_of(app), &run);
    if (folder < 0)
        return;
    const int fd = open_file(folder, "config.json", &st);
    size_t n = 0;
    char *text = fd >= 0 ? read_piece(fd, 0, MOST_CONFIG, &n) : NULL;
    json_t *config = text ? json_loadb(text, n, 0, NULL) : NULL;
    json_object_set_new(run, "config", config ? config : json_null());
    free(text);
    if (fd >= 0)
        close(fd);
    close(folder);
    sv_http_reply_json(r, 200, run);
}

/* Whole lines from a place on; the last one may be being written. */
static void send_lines(sv_exchange *r, const sv_page *p, const char *name)
{
    json_t *run;
    struct stat st = {0};
    const char *asked = sv_http_query(r, "from");
    char *end = NULL;
    long long from = asked ? strtoll(asked, &end, 10) : 0;
    if (asked && (*end || end == asked || from < 0)) {
        sv_http_error(r, 400, NULL, "from", "invalid_value", "from: wanted a number of bytes");
        return;
    }
    const int folder = find_run(r, p, &run);
    if (folder < 0)
        return;
    json_decref(run);
    const int fd = open_file(folder, name, &st);
    if (from > (long long)st.st_size)
        from = 0;
    size_t n = 0, used = 0;
    char *text = fd >= 0 ? read_piece(fd, (off_t)from, MOST_PIECE, &n) : NULL;
    json_t *lines = json_array();
    for (char *line = text; line && used < n;) {
        char *stop = memchr(line, '\n', n - used);
        if (!stop)
            break;
        json_t *o = json_loadb(line, (size_t)(stop - line), 0, NULL);
        if (o)
            json_array_append_new(lines, o);
        used = (size_t)(stop + 1 - text);
        line = stop + 1;
    }
    if (n == MOST_PIECE && used == 0) /* a line longer than a piece is passed over */
        used = n;
    const int more = from + (long long)used < (long long)st.st_size && used > 0;
    free(text);
    if (fd >= 0)
        close(fd);
    close(folder);
    sv_http_reply_json(r, 200,
                       json_pack("{s:I,s:I,s:b,s:o}", "from", (json_int_t)from, "next",
                                 (json_int_t)from + (json_int_t)used, "more", more && n == MOST_PIECE, "lines", lines));
}

void sv_page_run_metrics(sv_exchange *r, void *app)
{
    send_lines(r, sv_page_of(app), "metrics.jsonl");
}

void sv_page_run_samples(sv_exchange *r, void *app)
{
    send_lines(r, sv_page_of(app), "samples.jsonl");
}

/* ---- charts ---- */

/* Names become ids by a hash, so that an id is no path. */
static void id_of(char out[17], const char *run, const char *name)
{
    uint64_t key = 0xcbf29ce484222325;
    for (const char *c = run; *c; c++)
        key = (key ^ (unsigned char)*c) * 0x100000001b3;
    key = (key ^ '/') * 0x100000001b3;
    for (const char *c = name; *c; c++)
        key = (key ^ (unsigned char)*c) * 0x100000001b3;
    snprintf(out, 17, "%016llx", (unsigned long long)key);
}

static int is_svg(const char *name)
{
    const size_t n = strlen(name);
    return *name != '.' && n > 4 && strcmp(name + n - 4, ".svg") == 0;
}

/* By what the file says of itself: needle maps and charts of size against quality have titles. */
static const char *kind_of(const char *name, int fd)
{
    size_t n = 0;
    char *head = read_piece(fd, 0, 8192, &n);
    const char *kind = "other";
    if (head && (strcasestr(name, "needle") || strstr(head, "eedle")))
        kind = "needle";
    else if (head && (strcasestr(name, "quality") || strstr(head, "size against") || strstr(head, "bits per weight") ||
                      strstr(head, "erplexity")))
        kind = "quality";
    free(head);
    return kind;
}

typedef struct hunt {
    json_t *list;       /* all of them, or */
    const char *wanted; /* the one of this id: */
    int fd;
    struct stat st;
} hunt;

static void look_into(hunt *h, DIR *dir, const char *run)
{
    char id[17];
    struct stat st;
    for (const struct dirent *f; dir && h->fd < 0 && (f = readdir(dir)) != NULL;) {
        if (!is_svg(f->d_name) || (h->list && json_array_size(h->list) >= MOST_RUNS))
            continue;
        id_of(id, run, f->d_name);
        if (h->wanted && strcmp(h->wanted, id) != 0)
            continue;
        const int fd = open_file(dirfd(dir), f->d_name, &st);
        if (fd >= 0 && h->wanted) {
            h->fd = fd;
            h->st = st;
        } else if (fd >= 0) {
            json_t *name = json_string(f->d_name);
            if (name)
                json_array_append_new(h->list,
                                      json_pack("{s:s,s:s?,s:o,s:s,s:I,s:I}", "id", id, "run", *run ? run : NULL,
                                                "name", name, "kind", kind_of(f->d_name, fd), "bytes",
                                                (json_int_t)st.st_size, "updated", (json_int_t)milliseconds(&st)));
            close(fd);
        }
    }
}

/* The folder itself, then each run in it. */
static void look_around(hunt *h, const sv_page *p)
{
    DIR *dir = p->runs ? opendir(p->runs) : NULL;
    look_into(h, dir, "");
    if (dir)
        rewinddir(dir);
    for (const struct dirent *f; dir && h->fd < 0 && (f = readdir(dir)) != NULL;) {
        const int folder = *f->d_name == '.' ? -1 : open_folder(dirfd(dir), f->d_name);
        DIR *inner = folder >= 0 ? fdopendir(folder) : NULL;
        if (folder >= 0 && !inner)
            close(folder);
        json_t *name = inner ? json_string(f->d_name) : NULL;
        if (name)
            look_into(h, inner, f->d_name);
        json_decref(name);
        if (inner)
            closedir(inner);
    }
    if (dir)
        closedir(dir);
}

void sv_page_artifacts(sv_exchange *r, void *app)
{
    hunt h = {.list = json_array(), .fd = -1};
    look_around(&h, sv_page_of(app));
    sv_http_reply_json(r, 200, json_pack("{s:o}", "artifacts", sorted(h.list)));
}

void sv_page_artifact(sv_exchange *r, void *app)
{
    hunt h = {.wanted = sv_http_arg(r), .fd = -1};
    look_around(&h, sv_page_of(app));
    size_t n = 0;
    char *data = h.fd >= 0 && h.st.st_size <= MOST_SVG ? read_piece(h.fd, 0, (size_t)h.st.st_size, &n) : NULL;
    if (h.fd >= 0)
        close(h.fd);
    if (data) {
        sv_http_add_header(r, "Content-Security-Policy", POLICY);
        sv_http_add_header(r, "Cross-Origin-Resource-Policy", "same-origin");
        sv_http_reply(r, 200, "image/svg+xml", data, n);
    } else {
        sv_http_error(r, 404, NULL, "id", "not_found", "no such chart (was its file removed?)");
    }
    free(data);
}
