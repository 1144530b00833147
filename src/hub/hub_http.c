/* hub_http.c — see hub_http.h. One thread and libcurl's multi interface. Redirects are followed here, not by libcurl:
 * the token goes to the hub's own origin (scheme, host and port of the endpoint) and to nobody else, whatever version
 * of libcurl this is. */
#include "hub_http.h"

#if defined(ZAMBA_HUB_FETCH)

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    MOST_REDIRECTS = 10,
    MOST_OTHER_BODY = 1 << 20, /* bytes of a body that nobody reads: pages of errors */
    MOST_WAIT = 600,           /* seconds that a server may ask for                  */
    PROGRESS = 256 << 10,      /* bytes that make a failed attempt count as progress */
};

typedef enum hub_state { WAITING, RUNNING, ENDED } hub_state;

/* A request as the loop sees it. */
typedef struct flight {
    hub_request *request;
    hub_session *session;
    hub_state state;
    CURL *easy;
    struct curl_slist *headers;
    char url[4096]; /* of this hop                                    */
    bool redirected, foreign;
    int hops, tries, wrong;
    double alive;       /* when the last byte came                     */
    double at;          /* not before                                  */
    uint64_t from;      /* byte that was asked for                     */
    uint64_t got;       /* bytes of the body in this attempt           */
    bool started, fail; /* start() was called; a callback said no      */
    hub_reply reply;
    zamba_error err;
    char detail[CURL_ERROR_SIZE];
} flight;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void note(const hub_session *s, const char *format, ...) ZB_PRINTF(2, 3);
static void note(const hub_session *s, const char *format, ...)
{
    char text[600];
    va_list values;
    if (!s->note)
        return;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    s->note(s->user, text);
}

bool hub_url_path(char *out, size_t n_out, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
    size_t at = 0;
    for (; *text; text++) {
        const bool keep = strchr(plain, *text) != NULL;
        if (at + (keep ? 1 : 3) >= n_out)
            return false;
        if (keep)
            out[at++] = *text;
        else
            at += (size_t)snprintf(out + at, n_out - at, "%%%02X", (unsigned char)*text);
    }
    out[at] = 0;
    return true;
}

/* ---- Origins ---- */

typedef struct origin {
    char scheme[8], host[256], port[8];
} origin;

static bool origin_of(origin *out, const char *url)
{
    CURLU *u = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL;
    const bool good = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
                      curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                      curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                      curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK;
    if (good) {
        snprintf(out->scheme, sizeof out->scheme, "%s", scheme);
        snprintf(out->host, sizeof out->host, "%s", host);
        snprintf(out->port, sizeof out->port, "%s", port);
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return good && (strcasecmp(out->scheme, "https") == 0 || strcasecmp(out->scheme, "http") == 0);
}

static bool same_origin(const origin *a, const origin *b)
{
    return strcasecmp(a->scheme, b->scheme) == 0 && strcasecmp(a->host, b->host) == 0 && strcmp(a->port, b->port) == 0;
}

/* ---- Headers ---- */

/* The digits that a text begins with; not good without any, or with more than sizes have. */
static uint64_t number_of(const char *text, bool *good)
{
    const size_t n = strspn(text, "0123456789");
    *good = n > 0 && n < 18;
    return *good ? strtoull(text, NULL, 10) : 0;
}

static void take_text(char *out, size_t n_out, const char *text)
{
    size_t n = 0;
    for (; *text && n + 1 < n_out; text++)
        out[n++] = (unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e ? '?' : *text;
    out[n] = 0;
}

static void take_header(hub_reply *r, const char *name, const char *value)
{
    if (strcasecmp(name, "etag") == 0) {
        take_text(r->etag, sizeof r->etag, value);
    } else if (strcasecmp(name, "x-linked-etag") == 0) {
        take_text(r->linked_etag, sizeof r->linked_etag, value);
    } else if (strcasecmp(name, "x-repo-commit") == 0) {
        take_text(r->commit, sizeof r->commit, value);
    } else if (strcasecmp(name, "x-error-code") == 0) {
        take_text(r->error_code, sizeof r->error_code, value);
    } else if (strcasecmp(name, "x-error-message") == 0) {
        take_text(r->error_message, sizeof r->error_message, value);
    } else if (strcasecmp(name, "content-length") == 0) {
        r->length = number_of(value, &r->has_length);
    } else if (strcasecmp(name, "x-linked-size") == 0) {
        r->linked_size = number_of(value, &r->has_linked_size);
    } else if (strcasecmp(name, "content-range") == 0 && strncasecmp(value, "bytes ", 6) == 0) {
        r->range_from = number_of(value + 6, &r->has_range);
        const char *slash = strchr(value, '/');
        if (slash)
            r->range_total = number_of(slash + 1, &r->has_range_total);
    } else if (strcasecmp(name, "ratelimit") == 0) { /* "api";r=0;t=55: none left for 55 s */
        const char *t = strstr(value, ";t="), *left = strstr(value, ";r=0;");
        bool good = false;
        const uint64_t wait = t && left ? number_of(t + 3, &good) : 0;
        if (good)
            r->wait = (double)wait + 1;
    }
}

static size_t on_header(char *data, size_t size, size_t n, void *user)
{
    flight *f = user;
    char line[512];
    n *= size;
    const size_t len = n < sizeof line ? n : sizeof line - 1;
    memcpy(line, data, len);
    line[len] = 0;
    line[strcspn(line, "\r\n")] = 0;
    if (strncmp(line, "HTTP/", 5) == 0) { /* another response; what the hub said of a linked file stays */
        const hub_reply old = f->reply;
        f->reply = (hub_reply){.wait = -1};
        const char *status = strchr(line, ' ');
        f->reply.status = status ? strtol(status, NULL, 10) : 0;
        if (f->redirected) {
            memcpy(f->reply.linked_etag, old.linked_etag, sizeof old.linked_etag);
            memcpy(f->reply.commit, old.commit, sizeof old.commit);
            f->reply.linked_size = old.linked_size;
            f->reply.has_linked_size = old.has_linked_size;
        }
        return n;
    }
    char *colon = strchr(line, ':');
    if (colon && !memchr(line, 0, (size_t)(colon - line))) {
        *colon = 0;
        take_header(&f->reply, line, colon + 1 + strspn(colon + 1, " \t"));
    }
    return n;
}

/* ---- Bodies ---- */

/* A 2xx whose body is to be read. A server may answer a range with everything, which start() sees by the status. */
static bool is_good(const flight *f)
{
    return f->reply.status == 200 || (f->reply.status == 206 && f->from > 0);
}

static bool begin_body(flight *f)
{
    if (f->started || !is_good(f))
        return true;
    f->started = true;
    f->session->reached = true;
    hub_request *r = f->request;
    if (r->start && r->start(r, &f->reply, &f->err) != ZAMBA_OK)
        f->fail = true;
    return !f->fail;
}

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
    flight *f = user;
    n *= size;
    if (!begin_body(f))
        return 0;
    f->got += n;
    f->alive = now();
    if (!f->started)
        return f->got <= MOST_OTHER_BODY ? n : 0;
    hub_request *r = f->request;
    if (r->data && r->data(r, data, n, &f->err) != ZAMBA_OK)
        f->fail = true;
    return f->fail ? 0 : n;
}

/* ---- Attempts ---- */

static bool add_header(flight *f, const char *line)
{
    struct curl_slist *more = curl_slist_append(f->headers, line);
    if (more)
        f->headers = more;
    return more != NULL;
}

static void set_protocols(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

/* Certificates of one's own (a company's proxy), as the command curl and Python's requests take them. */
static void set_certificates(CURL *easy)
{
    static const char *const names[] = {"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value && *value) {
            curl_easy_setopt(easy, CURLOPT_CAINFO, value);
            return;
        }
    }
}

static bool send_hop(flight *f)
{
    const hub_session *s = f->session;
    const hub_request *r = f->request;
    origin here, hub;
    CURL *easy = f->easy ? f->easy : curl_easy_init();
    if (!easy)
        return false;
    f->easy = easy;
    curl_easy_reset(easy);
    curl_slist_free_all(f->headers);
    f->headers = NULL;
    bool good = add_header(f, "Accept-Encoding: identity");
    f->foreign = !origin_of(&here, f->url) || !origin_of(&hub, s->endpoint) || !same_origin(&here, &hub);
    if (*s->token && !f->foreign) {
        char line[sizeof s->token + 32];
        snprintf(line, sizeof line, "Authorization: Bearer %s", s->token);
        good = good && add_header(f, line);
    }
    char agent[64];
    snprintf(agent, sizeof agent, "zamba/%s", zamba_version());
    curl_easy_setopt(easy, CURLOPT_URL, f->url);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, agent);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, f->headers);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, 20L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L << 10);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, f);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, f->detail);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, f);
    set_protocols(easy);
    set_certificates(easy);
    if (r->head)
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    if (f->from > 0) {
        char range[40];
        snprintf(range, sizeof range, "%llu-", (unsigned long long)f->from);
        curl_easy_setopt(easy, CURLOPT_RANGE, range);
    }
    f->started = f->fail = false;
    f->got = 0;
    f->alive = now();
    f->detail[0] = 0;
    if (!good || curl_multi_add_handle(s->multi, easy) != CURLM_OK)
        return false;
    f->state = RUNNING;
    return true;
}

static void stop(flight *f)
{
    if (f->easy) {
        if (f->state == RUNNING)
            curl_multi_remove_handle(f->session->multi, f->easy);
        curl_easy_cleanup(f->easy);
    }
    curl_slist_free_all(f->headers);
    f->easy = NULL;
    f->headers = NULL;
    f->state = ENDED;
}

static zamba_status begin_attempt(flight *f)
{
    hub_request *r = f->request;
    f->from = 0;
    f->hops = 0;
    f->redirected = false;
    f->reply = (hub_reply){.wait = -1};
    const hub_next next = r->begin ? r->begin(r, &f->from, &f->err) : HUB_GO;
    if (next == HUB_FAILED)
        return f->err.code;
    if (next == HUB_LATER) {
        f->at = now() + 0.25;
    } else if (next == HUB_DONE) {
        stop(f);
    } else {
        if ((size_t)snprintf(f->url, sizeof f->url, "%s", r->url) >= sizeof f->url)
            return zb_fail(&f->err, ZAMBA_E_ARG, "%s: its address is too long", r->what);
        if (!send_hop(f))
            return zb_fail_memory(&f->err, r->what, sizeof *f);
    }
    return ZAMBA_OK;
}

/* ---- What went wrong ---- */

static zamba_status explain(flight *f)
{
    const hub_reply *y = &f->reply;
    const hub_session *s = f->session;
    const char *what = f->request->what, *code = y->error_code;
    const char *login =
        *s->token ? "the token that was sent does not allow it" : "no token was sent (HF_TOKEN, or `hf auth login`)";
    char said[260] = "";
    if (*y->error_message)
        snprintf(said, sizeof said, " The hub says: %s", y->error_message);
    if (strcmp(code, "GatedRepo") == 0)
        return zb_fail(
            &f->err, ZAMBA_E_IO,
            "%s: its owner wants terms to be accepted first (%ld): open %s/%.*s in a browser, accept, and set "
            "HF_TOKEN to a token of that account; %s",
            what, y->status, s->endpoint, (int)strcspn(what, ":@"), what, login);
    if (strcmp(code, "RevisionNotFound") == 0)
        return zb_fail(&f->err, ZAMBA_E_NOT_FOUND,
                       "%s: there is no such revision (404); wanted a branch, tag or commit", what);
    if (strcmp(code, "EntryNotFound") == 0)
        return zb_fail(&f->err, ZAMBA_E_NOT_FOUND, "%s: there is no such file (404)", what);
    if (y->status == 401 && *s->token && strstr(y->error_message, "Invalid credentials"))
        return zb_fail(&f->err, ZAMBA_E_IO,
                       "%s: the hub does not know the token (401): make another one at %s/settings/tokens and put it "
                       "into HF_TOKEN, or unset it",
                       what, s->endpoint);
    if (y->status == 404 || y->status == 401 || strcmp(code, "RepoNotFound") == 0)
        return zb_fail(&f->err, ZAMBA_E_NOT_FOUND,
                       "%s: %s has no such model, or it is private (%ld): see to the name; if it is yours, %s.%s", what,
                       s->endpoint, y->status, login, said);
    if (y->status == 403)
        return zb_fail(&f->err, ZAMBA_E_IO, "%s: access is refused (403): %s.%s", what, login, said);
    if (y->status == 429)
        return zb_fail(&f->err, ZAMBA_E_IO, "%s: too many requests (429): try again later%s.%s", what,
                       *s->token ? "" : ", or set HF_TOKEN, which raises the limit", said);
    return zb_fail(&f->err, ZAMBA_E_IO, "%s: %s answered %ld.%s", what,
                   f->foreign ? "the storage behind the hub" : s->endpoint, y->status, said);
}

static zamba_status explain_transport(flight *f, CURLcode code)
{
    const char *what = f->request->what;
    const char *detail = f->detail[0] ? f->detail : curl_easy_strerror(code);
    origin o = {{0}, {0}, {0}};
    origin_of(&o, f->url);
    if (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_COULDNT_CONNECT)
        return zb_fail(&f->err, ZAMBA_E_IO,
                       "%s: %s cannot be reached: %s (is there a network? HF_ENDPOINT names "
                       "another hub)",
                       what, o.host, detail);
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE || code == CURLE_SSL_CONNECT_ERROR)
        return zb_fail(&f->err, ZAMBA_E_IO,
                       "%s: no safe connection to %s: %s (behind a proxy with certificates of its "
                       "own, CURL_CA_BUNDLE names them)",
                       what, o.host, detail);
    return zb_fail(&f->err, ZAMBA_E_IO, "%s: the connection to %s broke: %s (what came is kept, ask again to go on)",
                   what, o.host, detail);
}

static bool may_come_back(const flight *f, CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        return f->session->reached;
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_WRITE_ERROR: /* a page of an error that was too long */
        return true;
    default:
        return false;
    }
}

/* Try again later, or give up with what `f->err` says. */
static zamba_status try_later(flight *f, double wait)
{
    const hub_session *s = f->session;
    if (f->started && f->got >= PROGRESS)
        f->tries = 0;
    if (f->tries >= s->retries || wait > MOST_WAIT)
        return f->err.code;
    const double delay = 0.5 * (double)(1 << (f->tries < 6 ? f->tries : 6));
    f->tries++;
    wait = wait < 0 ? delay : wait;
    f->at = now() + wait;
    f->state = WAITING;
    note(s, "%s; trying again in %.3g s (%d of %d)", f->err.message, wait, f->tries, s->retries);
    return ZAMBA_OK;
}

/* ---- The end of a hop ---- */

static zamba_status follow(flight *f, const char *target)
{
    origin from, to;
    const char *what = f->request->what;
    if (!target || !origin_of(&to, target) || !origin_of(&from, f->url))
        return zb_fail(&f->err, ZAMBA_E_IO, "%s: the hub leads to an address that is none (%ld)", what,
                       f->reply.status);
    if (++f->hops > MOST_REDIRECTS)
        return zb_fail(&f->err, ZAMBA_E_IO, "%s: more than %d redirects", what, MOST_REDIRECTS);
    if (strcasecmp(from.scheme, "https") == 0 && strcasecmp(to.scheme, "https") != 0)
        return zb_fail(&f->err, ZAMBA_E_IO, "%s: the hub leads from an encrypted connection to one that is not, %s",
                       what, to.host);
    if ((size_t)snprintf(f->url, sizeof f->url, "%s", target) >= sizeof f->url)
        return zb_fail(&f->err, ZAMBA_E_IO, "%s: the hub leads to an address that is too long", what);
    f->redirected = true;
    return send_hop(f) ? ZAMBA_OK : zb_fail_memory(&f->err, what, sizeof *f);
}

static bool leads_away(const flight *f, const char *target)
{
    origin from, to;
    return !target || !origin_of(&to, target) || !origin_of(&from, f->url) || !same_origin(&from, &to);
}

static zamba_status end_body(flight *f)
{
    hub_request *r = f->request;
    const hub_next next = r->end ? r->end(r, &f->reply, &f->err) : HUB_DONE;
    if (next == HUB_FAILED)
        return f->err.code;
    if (next == HUB_AGAIN) {
        f->state = WAITING;
        f->at = 0;
    } else {
        stop(f);
    }
    return ZAMBA_OK;
}

static zamba_status end_hop(flight *f, CURLcode code)
{
    char *target = NULL;
    curl_off_t wait = 0;
    const long status = f->reply.status;
    curl_multi_remove_handle(f->session->multi, f->easy);
    f->state = WAITING;
    f->at = 0;
    if (f->fail)
        return f->err.code;
    if (code != CURLE_OK && !(code == CURLE_WRITE_ERROR && status >= 300)) {
        explain_transport(f, code);
        return may_come_back(f, code) ? try_later(f, -1) : f->err.code;
    }
    f->session->reached = true;
    if (status == 301 || status == 302 || status == 303 || status == 307 || status == 308) {
        curl_easy_getinfo(f->easy, CURLINFO_REDIRECT_URL, &target);
        /* of a linked file the hub tells all before it leads to where the bytes are */
        if (f->request->head && leads_away(f, target) && (*f->reply.linked_etag || *f->reply.commit))
            return end_body(f);
        return follow(f, target);
    }
    if (is_good(f)) {
        if (!begin_body(f))
            return f->err.code;
        return end_body(f);
    }
    if (status == 416 && f->from > 0 && f->wrong++ == 0) { /* begin() is asked to start anew: `from` is not to be had */
        f->reply.status = 200;
        if (f->request->start) {
            f->reply = (hub_reply){.status = 200, .wait = -1};
            if (f->request->start(f->request, &f->reply, &f->err) != ZAMBA_OK)
                return f->err.code;
        }
        return ZAMBA_OK;
    }
    explain(f);
    /* an address that was good for a while only: a new one comes from the hub */
    if (f->redirected && f->foreign && (status == 401 || status == 403 || status == 404 || status == 410))
        return try_later(f, -1);
    if (status == 408 || status == 425 || status == 429 || (status >= 500 && status != 501)) {
        double pause = f->reply.wait;
        if (curl_easy_getinfo(f->easy, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK && wait > 0)
            pause = (double)wait;
        if (pause > MOST_WAIT)
            zb_fail_prefix(&f->err, f->err.code, "it asks for %.0f s of patience", pause);
        return try_later(f, pause);
    }
    return f->err.code;
}

/* ---- The loop ---- */

/* A connection on which nothing comes any more; libcurl's own limit of speed takes seconds longer to see it. */
static zamba_status end_stalled(flight *f)
{
    snprintf(f->detail, sizeof f->detail, "nothing came for %.3g s", f->session->stall);
    return end_hop(f, CURLE_OPERATION_TIMEDOUT);
}

static zamba_status wait_for_more(hub_session *s)
{
    int n = 0;
    return curl_multi_poll(s->multi, NULL, 0, 50, &n) == CURLM_OK ? ZAMBA_OK : ZAMBA_E_IO;
}

static zamba_status one_round(hub_session *s, flight *flights, size_t n, size_t at_once, size_t *left, zamba_error *err)
{
    size_t running = 0;
    int active = 0;
    *left = 0;
    for (size_t i = 0; i < n; i++)
        running += flights[i].state == RUNNING;
    const double t = now();
    for (size_t i = 0; i < n; i++) {
        flight *f = &flights[i];
        if (f->state == WAITING && running < at_once && f->at <= t) {
            if (begin_attempt(f) != ZAMBA_OK) {
                *err = f->err;
                return err->code;
            }
            running += f->state == RUNNING;
        }
        *left += f->state != ENDED;
    }
    if (curl_multi_perform(s->multi, &active) != CURLM_OK)
        return zb_fail(err, ZAMBA_E_IO, "the network library failed");
    int queued = 0;
    for (CURLMsg *m; (m = curl_multi_info_read(s->multi, &queued)) != NULL;) {
        flight *f = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        const CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&f);
        if (end_hop(f, code) != ZAMBA_OK) {
            *err = f->err;
            return err->code;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (flights[i].state == RUNNING && now() - flights[i].alive > s->stall &&
            end_stalled(&flights[i]) != ZAMBA_OK) {
            *err = flights[i].err;
            return err->code;
        }
    }
    return ZAMBA_OK;
}

zamba_status hub_ask(hub_session *s, hub_request *requests, size_t n, size_t at_once, zamba_error *err)
{
    zamba_error ignored = {0};
    zamba_status st = ZAMBA_OK;
    size_t left = n;
    flight *flights = calloc(n + 1, sizeof *flights);
    err = err ? err : &ignored;
    if (!flights)
        return zb_fail_memory(err, "requests", n * sizeof *flights);
    for (size_t i = 0; i < n; i++)
        flights[i] = (flight){.request = &requests[i], .session = s};
    while (left > 0 && st == ZAMBA_OK) {
        if (s->cancelled && s->cancelled(s->user))
            st = zb_fail(err, ZAMBA_E_CANCELLED, "stopped");
        if (st == ZAMBA_OK)
            st = one_round(s, flights, n, at_once, &left, err);
        if (s->tick)
            s->tick(s->tick_user);
        if (st == ZAMBA_OK && left > 0 && wait_for_more(s) != ZAMBA_OK)
            st = zb_fail(err, ZAMBA_E_IO, "the network library failed");
    }
    for (size_t i = 0; i < n; i++)
        stop(&flights[i]);
    free(flights);
    return st;
}

zamba_status hub_session_open(hub_session *s, zamba_error *err)
{
    origin o;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return zb_fail(err, ZAMBA_E_IO, "the network library cannot be used");
    if (!origin_of(&o, s->endpoint)) {
        curl_global_cleanup();
        return zb_fail(err, ZAMBA_E_ARG, "HF_ENDPOINT: '%.200s' is no address (wanted https://...)", s->endpoint);
    }
    s->multi = curl_multi_init();
    if (!s->multi) {
        curl_global_cleanup();
        return zb_fail_memory(err, "connections", 0);
    }
    curl_multi_setopt(s->multi, CURLMOPT_PIPELINING, 0L); /* each file a connection of its own */
    const bool local =
        strncmp(o.host, "127.", 4) == 0 || strcmp(o.host, "[::1]") == 0 || strcmp(o.host, "localhost") == 0;
    if (*s->token && strcasecmp(o.scheme, "http") == 0 && !local)
        note(s, "the token goes to %s over a connection that is not encrypted", o.host);
    return ZAMBA_OK;
}

void hub_session_close(hub_session *s)
{
    if (!s->multi)
        return;
    curl_multi_cleanup(s->multi);
    s->multi = NULL;
    curl_global_cleanup();
}

#endif
