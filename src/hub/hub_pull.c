/* hub_pull.c — getting a model: what the hub lists, what of it is needed and not here, each file into
 * blobs/ETAG.incomplete and, whole and checked, to its place; the revision is written down last. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hub_http.h"
#include "io/file.h"

hub_pull_options hub_pull_defaults(void)
{
    return (hub_pull_options){.connections = 4, .retries = 5};
}

#if !defined(ZAMBA_HUB_FETCH)

const char *hub_cannot_pull(void)
{
    return "this build cannot get models: libcurl was not there when it was made";
}

zamba_status hub_pull(const hub_pull_options *options, hub_pulled *pulled, zamba_error *err)
{
    *pulled = (hub_pulled){.commit = ""};
    return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: %s", options->word, hub_cannot_pull());
}

#else

const char *hub_cannot_pull(void)
{
    return NULL;
}

enum { MOST_LIST = 32 << 20, READ_BYTES = 1 << 20 };

typedef struct pull pull;

/* One file that is needed. */
typedef struct part {
    pull *pull;
    hub_remote_file *file;
    char url[3072], what[800], blob[PATH_MAX], incomplete[PATH_MAX], place[PATH_MAX];
    int fd, lock;
    hub_sum *sum;
    uint64_t have;    /* bytes that are in the file and in the sum     */
    uint64_t fetched; /* bytes that came over the network              */
    uint64_t asked_from;
    bool done, waited;
    int wrong, meagre; /* sums that did not agree; answers that were short and said to be whole */
} part;

struct pull {
    const hub_pull_options *options;
    hub_session session;
    hub_name name;
    hub_store store;
    hub_remote remote;
    part *parts;
    size_t n_parts;
    zb_buf list;
    char what[480];
};

static void tell(const pull *p, const char *format, ...) ZB_PRINTF(2, 3);
static void tell(const pull *p, const char *format, ...)
{
    char text[900];
    va_list values;
    if (!p->options->note)
        return;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    p->options->note(p->options->user, text);
}

/* ---- The list of files ---- */

static zamba_status list_start(hub_request *r, const hub_reply *reply, zamba_error *err)
{
    pull *p = r->user;
    (void)reply;
    (void)err;
    p->list.n = 0;
    return ZAMBA_OK;
}

static zamba_status list_data(hub_request *r, const void *data, size_t n, zamba_error *err)
{
    pull *p = r->user;
    if (n > MOST_LIST - p->list.n)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: the hub's list of files has more than %d MiB", p->what,
                       MOST_LIST >> 20);
    return zb_buf_append(&p->list, data, n, err);
}

static zamba_status endpoint_url(char *out, size_t n_out, const pull *p, const char *format, ...) ZB_PRINTF(4, 5);
static zamba_status endpoint_url(char *out, size_t n_out, const pull *p, const char *format, ...)
{
    size_t n_end = strlen(p->session.endpoint);
    while (n_end > 0 && p->session.endpoint[n_end - 1] == '/')
        n_end--;
    const int at = snprintf(out, n_out, "%.*s/", (int)n_end, p->session.endpoint);
    va_list values;
    va_start(values, format);
    const bool fits = at > 0 && (size_t)at < n_out &&
                      (size_t)vsnprintf(out + at, n_out - (size_t)at, format, values) < n_out - (size_t)at;
    va_end(values);
    return fits ? ZAMBA_OK : ZAMBA_E_ARG;
}

static zamba_status get_list(pull *p, zamba_error *err)
{
    char url[2048], revision[3 * sizeof p->name.revision];
    /* a slash in a revision is part of its name, not of the address */
    size_t at = 0;
    for (const char *q = p->name.revision; *q; q++) {
        char one[2] = {*q, 0};
        if (*q == '/')
            at += (size_t)snprintf(revision + at, sizeof revision - at, "%%2F");
        else if (hub_url_path(revision + at, sizeof revision - at, one))
            at += strlen(revision + at);
    }
    if (endpoint_url(url, sizeof url, p, "api/models/%s/revision/%s?blobs=true", p->name.repo, revision) != ZAMBA_OK)
        return zb_fail(err, ZAMBA_E_ARG, "%s: its address is too long", p->what);
    hub_request r = {.url = url, .what = p->what, .user = p, .start = list_start, .data = list_data};
    zamba_status st = hub_ask(&p->session, &r, 1, 1, err);
    if (st == ZAMBA_OK)
        st = hub_remote_read(&p->remote, p->list.data ? p->list.data : "", p->list.n, p->name.repo, err);
    if (st == ZAMBA_OK)
        st = hub_choose(&p->remote, &p->name, err);
    return st;
}

/* ---- What the list did not say ---- */

static hub_next head_end(hub_request *r, const hub_reply *reply, zamba_error *err)
{
    part *q = r->user;
    hub_remote_file *f = q->file;
    (void)err;
    if (!*f->etag)
        hub_etag_clean(f->etag, *reply->linked_etag ? reply->linked_etag : reply->etag);
    if (!f->size_known && reply->has_linked_size) {
        f->size = reply->linked_size;
        f->size_known = true;
    } else if (!f->size_known && reply->has_length && reply->status == 200) {
        f->size = reply->length;
        f->size_known = true;
    }
    return HUB_DONE;
}

static zamba_status ask_heads(pull *p, zamba_error *err)
{
    hub_request *heads = calloc(p->n_parts + 1, sizeof *heads);
    size_t n = 0;
    if (!heads)
        return zb_fail_memory(err, p->what, p->n_parts * sizeof *heads);
    for (size_t i = 0; i < p->n_parts; i++) {
        part *q = &p->parts[i];
        if (!*q->file->etag || !q->file->size_known)
            heads[n++] = (hub_request){.url = q->url, .what = q->what, .head = true, .user = q, .end = head_end};
    }
    zamba_status st = n ? hub_ask(&p->session, heads, n, (size_t)p->options->connections, err) : ZAMBA_OK;
    free(heads);
    for (size_t i = 0; i < p->n_parts && st == ZAMBA_OK; i++) {
        const hub_remote_file *f = p->parts[i].file;
        if (!*f->etag || !f->size_known)
            st = zb_fail(err, ZAMBA_E_FORMAT,
                         "%s: the hub tells neither its sum nor its size (does HF_ENDPOINT, %s, name "
                         "a hub?)",
                         p->parts[i].what, p->session.endpoint);
    }
    return st;
}

/* ---- Parts ---- */

static zamba_status make_parts(pull *p, zamba_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < p->remote.n_files; i++)
        n += p->remote.files[i].chosen;
    p->parts = calloc(n + 1, sizeof *p->parts);
    if (!p->parts)
        return zb_fail_memory(err, p->what, n * sizeof *p->parts);
    for (size_t i = 0; i < p->remote.n_files; i++) {
        hub_remote_file *f = &p->remote.files[i];
        char path[1600];
        if (!f->chosen)
            continue;
        part *q = &p->parts[p->n_parts++];
        *q = (part){.pull = p, .file = f, .fd = -1, .lock = -1};
        snprintf(q->what, sizeof q->what, "%s: %s", p->name.repo, f->name);
        if (!hub_url_path(path, sizeof path, f->name) || endpoint_url(q->url, sizeof q->url, p, "%s/resolve/%s/%s",
                                                                      p->name.repo, p->remote.commit, path) != ZAMBA_OK)
            return zb_fail(err, ZAMBA_E_ARG, "%s: its address is too long", q->what);
    }
    return ZAMBA_OK;
}

static zamba_status place_parts(pull *p, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < p->n_parts && st == ZAMBA_OK; i++) {
        part *q = &p->parts[i];
        char name[160];
        snprintf(name, sizeof name, "%s.incomplete", q->file->etag);
        st = hub_path(q->blob, err, p->store.folder, "blobs", q->file->etag, (char *)NULL);
        if (st == ZAMBA_OK)
            st = hub_path(q->incomplete, err, p->store.folder, "blobs", name, (char *)NULL);
        if (st == ZAMBA_OK)
            st = hub_path(q->place, err, p->store.folder, "snapshots", p->remote.commit, q->file->name, (char *)NULL);
    }
    return st;
}

static bool is_stopped(const pull *p)
{
    return p->options->cancelled && p->options->cancelled(p->options->user);
}

static void tick(void *user);

/* Add the first n bytes of an open file to the part's sum; q->have counts them. */
static zamba_status sum_of_file(part *q, int fd, uint64_t n, const char *path, zamba_error *err)
{
    char *bytes = malloc(READ_BYTES);
    zamba_status st = bytes ? ZAMBA_OK : zb_fail_memory(err, path, READ_BYTES);
    while (st == ZAMBA_OK && q->have < n) {
        const uint64_t left = n - q->have;
        const ssize_t got = pread(fd, bytes, left < READ_BYTES ? (size_t)left : READ_BYTES, (off_t)q->have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            st = zb_fail(err, ZAMBA_E_IO, "%s: %s", path,
                         got < 0 ? strerror(errno) : "it became shorter while it was read");
        else if (!hub_sum_add(q->sum, bytes, (size_t)got))
            st = zb_fail_memory(err, path, 0);
        else
            q->have += (uint64_t)got;
        if (st == ZAMBA_OK && is_stopped(q->pull))
            st = zb_fail(err, ZAMBA_E_CANCELLED, "stopped");
        tick(q->pull);
    }
    free(bytes);
    return st;
}

static zamba_status new_sum(part *q, zamba_error *err)
{
    hub_sum_close(q->sum);
    q->have = 0;
    q->sum = hub_sum_open(q->file->etag, q->file->size);
    return q->sum ? ZAMBA_OK : zb_fail_memory(err, q->what, sizeof q->sum);
}

/* Is the blob here? With `verify` its sum is compared too: HUB_AGAIN says that it has to come anew. */
static hub_next look_for_blob(part *q, zamba_error *err)
{
    struct stat st;
    const char *path = stat(q->blob, &st) == 0 ? q->blob : stat(q->place, &st) == 0 ? q->place : NULL;
    /* the place itself counts where there are no links: then it is a file, not a link to something else */
    if (path == q->place) {
        struct stat link;
        if (lstat(q->place, &link) != 0 || !S_ISREG(link.st_mode))
            return HUB_GO;
    }
    if (!path || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != q->file->size)
        return HUB_GO;
    if (q->pull->options->verify && hub_sum_can_tell(q->file->etag)) {
        char got[132];
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        zamba_status status = fd < 0 ? zb_fail(err, ZAMBA_E_IO, "%s: %s", path, strerror(errno)) : new_sum(q, err);
        if (status == ZAMBA_OK)
            status = sum_of_file(q, fd, q->file->size, path, err);
        if (fd >= 0)
            close(fd);
        if (status != ZAMBA_OK)
            return HUB_FAILED;
        const bool good = hub_sum_agrees(q->sum, got) == 1;
        hub_sum_close(q->sum);
        q->sum = NULL;
        if (!good) {
            tell(q->pull, "%s is not what the hub has (its sum is %s); it comes anew", q->what, got);
            q->have = 0;
            return HUB_GO;
        }
    }
    if (path == q->blob &&
        hub_link(&q->pull->store, q->pull->remote.commit, q->file->name, q->file->etag, err) != ZAMBA_OK)
        return HUB_FAILED;
    q->have = q->file->size;
    q->done = true;
    return HUB_DONE;
}

static void close_part(part *q)
{
    if (q->fd >= 0)
        close(q->fd);
    q->fd = -1;
    hub_sum_close(q->sum);
    q->sum = NULL;
    hub_unlock(q->lock);
    q->lock = -1;
}

static zamba_status empty_part(part *q, zamba_error *err)
{
    if (ftruncate(q->fd, 0) != 0)
        return zb_fail(err, ZAMBA_E_IO, "%s: %s", q->incomplete, strerror(errno));
    return new_sum(q, err);
}

/* What came is whole: its sum decides. */
static hub_next finish_part(part *q, zamba_error *err)
{
    char got[132];
    const int agrees = hub_sum_agrees(q->sum, got);
    if (agrees == 0) {
        if (q->wrong++ == 0) { /* a damaged beginning from an earlier time, or on the way */
            tell(q->pull, "%s: the sum of its bytes is %s, not %s; it comes anew", q->what, got, q->file->etag);
            return empty_part(q, err) == ZAMBA_OK ? HUB_AGAIN : HUB_FAILED;
        }
        unlink(q->incomplete);
        zb_fail(err, ZAMBA_E_FORMAT,
                "%s: the sum of its bytes is %s, the hub says %s, twice (a proxy that changes files, or damage there)",
                q->what, got, q->file->etag);
        return HUB_FAILED;
    }
    if (agrees < 0)
        tell(q->pull, "%s: the hub names no sum of it, so only its size was checked", q->what);
    if (fsync(q->fd) != 0 || rename(q->incomplete, q->blob) != 0) {
        zb_fail(err, ZAMBA_E_IO, "%s: %s", q->blob, strerror(errno));
        return HUB_FAILED;
    }
    if (hub_link(&q->pull->store, q->pull->remote.commit, q->file->name, q->file->etag, err) != ZAMBA_OK)
        return HUB_FAILED;
    q->done = true;
    close_part(q);
    return HUB_DONE;
}

static zamba_status open_part(part *q, zamba_error *err)
{
    struct stat st;
    q->fd = open(q->incomplete, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
    if (q->fd < 0 || fstat(q->fd, &st) != 0)
        return zb_fail(err, ZAMBA_E_IO, "%s: %s", q->incomplete, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return zb_fail(err, ZAMBA_E_IO, "%s: is no file", q->incomplete);
    if ((uint64_t)st.st_size > q->file->size)
        return empty_part(q, err);
    zamba_status status = new_sum(q, err);
    return status == ZAMBA_OK ? sum_of_file(q, q->fd, (uint64_t)st.st_size, q->incomplete, err) : status;
}

static hub_next part_begin(hub_request *r, uint64_t *from, zamba_error *err)
{
    part *q = r->user;
    if (q->fd < 0) {
        hub_next next = look_for_blob(q, err);
        if (next != HUB_GO)
            return next;
        if (!hub_lock(&q->pull->store, q->file->etag, &q->lock)) {
            if (!q->waited)
                tell(q->pull, "%s: another program is getting it; waiting", q->what);
            q->waited = true;
            return HUB_LATER;
        }
        /* it may have come meanwhile */
        next = q->waited || !q->pull->options->verify ? look_for_blob(q, err) : HUB_GO;
        if (next == HUB_GO && open_part(q, err) != ZAMBA_OK)
            next = HUB_FAILED;
        if (next != HUB_GO) {
            close_part(q);
            return next;
        }
    }
    while (q->have == q->file->size) { /* of no bytes too */
        const hub_next next = finish_part(q, err);
        if (next != HUB_AGAIN)
            return next;
        if (q->file->size == 0)
            break;
    }
    *from = q->asked_from = q->have;
    return HUB_GO;
}

static zamba_status part_start(hub_request *r, const hub_reply *reply, zamba_error *err)
{
    part *q = r->user;
    const uint64_t size = q->file->size;
    if (reply->status == 206) {
        if (!reply->has_range || reply->range_from != q->have)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: asked for its bytes from %llu on, the server answers with others",
                           q->what, (unsigned long long)q->have);
        if (reply->has_range_total && reply->range_total != size)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: the server has %llu bytes of it, the hub says %llu", q->what,
                           (unsigned long long)reply->range_total, (unsigned long long)size);
        return ZAMBA_OK;
    }
    if (reply->has_length && reply->length != size)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: the server has %llu bytes of it, the hub says %llu", q->what,
                       (unsigned long long)reply->length, (unsigned long long)size);
    return q->have > 0 ? empty_part(q, err) : ZAMBA_OK; /* a server that knows no ranges: all again */
}

static zamba_status part_data(hub_request *r, const void *data, size_t n, zamba_error *err)
{
    part *q = r->user;
    if (n > q->file->size - q->have)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: more bytes come than the %llu that the hub says", q->what,
                       (unsigned long long)q->file->size);
    if (!hub_sum_add(q->sum, data, n))
        return zb_fail_memory(err, q->what, 0);
    for (size_t done = 0; done < n;) { /* at its place: two writers of the same bytes do no harm */
        const ssize_t put = pwrite(q->fd, (const char *)data + done, n - done, (off_t)(q->have + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return zb_fail(err, ZAMBA_E_IO, "%s: %s (what came is kept, ask again to go on)", q->incomplete,
                           strerror(errno));
        done += (size_t)put;
    }
    q->have += n;
    q->fetched += n;
    return ZAMBA_OK;
}

static hub_next part_end(hub_request *r, const hub_reply *reply, zamba_error *err)
{
    part *q = r->user;
    (void)reply;
    if (q->have == q->file->size)
        return finish_part(q, err);
    if (q->have - q->asked_from < READ_BYTES && q->meagre++ >= q->pull->options->retries) {
        zb_fail(err, ZAMBA_E_IO, "%s: the server sent %llu of %llu bytes and calls that all", q->what,
                (unsigned long long)q->have, (unsigned long long)q->file->size);
        return HUB_FAILED;
    }
    return HUB_AGAIN; /* begin() asks for the rest */
}

static void tick(void *user)
{
    const pull *p = user;
    uint64_t done = 0, total = 0;
    if (!p->options->progress)
        return;
    for (size_t i = 0; i < p->n_parts; i++) {
        total += p->parts[i].file->size;
        done += p->parts[i].have;
    }
    p->options->progress(p->options->user, done, total);
}

static zamba_status get_parts(pull *p, zamba_error *err)
{
    hub_request *requests = calloc(p->n_parts + 1, sizeof *requests);
    if (!requests)
        return zb_fail_memory(err, p->what, p->n_parts * sizeof *requests);
    for (size_t i = 0; i < p->n_parts; i++) {
        part *q = &p->parts[i];
        requests[i] = (hub_request){.url = q->url,
                                    .what = q->what,
                                    .user = q,
                                    .begin = part_begin,
                                    .start = part_start,
                                    .data = part_data,
                                    .end = part_end};
    }
    zamba_status st = hub_ask(&p->session, requests, p->n_parts, (size_t)p->options->connections, err);
    free(requests);
    return st;
}

/* ---- All of it ---- */

/* How many bytes are here, whole or begun; the disk has to have room for the others. */
static zamba_status check_room(pull *p, hub_pulled *out, zamba_error *err)
{
    uint64_t here = 0, missing = 0;
    for (size_t i = 0; i < p->n_parts; i++) {
        const part *q = &p->parts[i];
        struct stat st;
        const uint64_t size = q->file->size;
        if (out->bytes + size < size)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: its files have more bytes than there are", p->what);
        out->bytes += size;
        uint64_t have = 0;
        if (stat(q->blob, &st) == 0 && (uint64_t)st.st_size == size)
            have = size;
        else if (stat(q->incomplete, &st) == 0 && (uint64_t)st.st_size <= size)
            have = (uint64_t)st.st_size;
        here += have;
        missing += size - have;
    }
    out->n_files = p->n_parts;
    zamba_status st = missing ? zb_file_room(p->store.folder, missing, err) : ZAMBA_OK;
    if (st == ZAMBA_OK && p->options->planned)
        p->options->planned(p->options->user, out->n_files, out->bytes, here);
    return st;
}

/* What backup programs look for: all of this can be had again. */
static void tag_cache(const hub_store *store)
{
    static const char tag[] = "Signature: 8a477f597d28d172789f06886806bc55\n"
                              "# This folder holds models that can be had again from the hub.\n";
    char path[PATH_MAX];
    if (hub_path(path, NULL, store->cache, "CACHEDIR.TAG", (char *)NULL) != ZAMBA_OK)
        return;
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0)
        return;
    if (write(fd, tag, sizeof tag - 1) < 0) /* without it all is the same */
        unlink(path);
    close(fd);
}

static zamba_status open_store(pull *p, zamba_error *err)
{
    char blobs[PATH_MAX];
    zamba_status st = hub_path(blobs, err, p->store.folder, "blobs", (char *)NULL);
    if (st == ZAMBA_OK)
        st = hub_make_folders(blobs, err);
    if (st == ZAMBA_OK)
        tag_cache(&p->store);
    return st;
}

static double stall_seconds(void)
{
    const char *text = getenv("HF_HUB_DOWNLOAD_TIMEOUT");
    char *end = NULL;
    const double x = text ? strtod(text, &end) : 0;
    return text && end != text && x >= 1 && x < 1e5 ? x : 30;
}

zamba_status hub_pull(const hub_pull_options *options, hub_pulled *pulled, zamba_error *err)
{
    pull *p = calloc(1, sizeof *p);
    zamba_error ignored = {0};
    *pulled = (hub_pulled){.commit = ""};
    err = err ? err : &ignored;
    if (!p)
        return zb_fail_memory(err, options->word, sizeof *p);
    p->options = options;
    p->session = (hub_session){.endpoint = hub_endpoint(),
                               .retries = options->retries,
                               .stall = stall_seconds(),
                               .user = options->user,
                               .note = options->note,
                               .cancelled = options->cancelled};
    zamba_status st = hub_name_parse(&p->name, options->word, err);
    if (st == ZAMBA_OK && hub_is_offline())
        st = zb_fail(err, ZAMBA_E_IO, "%s: the hub is not asked: HF_HUB_OFFLINE says so", options->word);
    if (st == ZAMBA_OK)
        st = hub_store_of(&p->store, p->name.repo, err);
    if (st == ZAMBA_OK)
        st = hub_token(p->session.token, sizeof p->session.token, err);
    if (st == ZAMBA_OK) {
        const bool main_line = strcmp(p->name.revision, "main") == 0;
        snprintf(p->what, sizeof p->what, "%s%s%s", p->name.repo, main_line ? "" : "@",
                 main_line ? "" : p->name.revision);
        st = hub_session_open(&p->session, err);
    }
    if (st == ZAMBA_OK)
        st = get_list(p, err);
    if (st == ZAMBA_OK)
        st = make_parts(p, err);
    if (st == ZAMBA_OK)
        st = ask_heads(p, err);
    if (st == ZAMBA_OK)
        st = place_parts(p, err);
    if (st == ZAMBA_OK)
        st = check_room(p, pulled, err);
    if (st == ZAMBA_OK)
        st = open_store(p, err);
    if (st == ZAMBA_OK) {
        p->session.tick = tick;
        p->session.tick_user = p;
        st = get_parts(p, err);
    }
    if (st == ZAMBA_OK) {
        char snapshot[PATH_MAX];
        snprintf(pulled->commit, sizeof pulled->commit, "%s", p->remote.commit);
        st = hub_path(snapshot, err, p->store.folder, "snapshots", p->remote.commit, (char *)NULL);
        if (st == ZAMBA_OK && hub_find_in(pulled->path, sizeof pulled->path, snapshot, &p->name, err) != ZAMBA_OK)
            st = zb_fail_prefix(err, ZAMBA_E_FORMAT, "%s: all that the hub has is here, but", p->what);
        if (st == ZAMBA_OK)
            st = hub_write_ref(&p->store, p->name.revision, p->remote.commit, err);
    }
    for (size_t i = 0; i < p->n_parts; i++) {
        pulled->fetched += p->parts[i].fetched;
        close_part(&p->parts[i]);
    }
    hub_session_close(&p->session);
    hub_remote_free(&p->remote);
    zb_buf_free(&p->list);
    free(p->parts);
    free(p);
    return st;
}

#endif
