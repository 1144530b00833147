/* page_static.c — the built page's files, as they are in the program: compressed or not, with ETags, under a policy
 * that lets nothing from elsewhere in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "page_files.h"
#include "page_impl.h"

#define POLICY                                                                                                         \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "           \
    "connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "                \
    "frame-ancestors 'none'"

/* Paths that the page draws itself. */
static const char *const views[] = {
    "/",         "/c/{id}", "/c/{id}/tree",   "/compare/{id}", "/notebook", "/notebook/{id}", "/history",
    "/models",   "/model",  "/model/{id...}", "/dashboard",    "/training", "/training/{id}", "/charts",
    "/settings", "/help"};

static const char *type_of(const char *path)
{
    static const char *const types[][2] = {{".html", "text/html; charset=utf-8"},
                                           {".js", "text/javascript; charset=utf-8"},
                                           {".mjs", "text/javascript; charset=utf-8"},
                                           {".css", "text/css; charset=utf-8"},
                                           {".json", "application/json"},
                                           {".webmanifest", "application/manifest+json"},
                                           {".svg", "image/svg+xml"},
                                           {".png", "image/png"},
                                           {".webp", "image/webp"},
                                           {".ico", "image/x-icon"},
                                           {".woff2", "font/woff2"},
                                           {".txt", "text/plain; charset=utf-8"}};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++)
        if (strcmp(dot, types[i][0]) == 0)
            return types[i][1];
    return "application/octet-stream";
}

static const sv_page_file *find(const char *path)
{
    for (size_t i = 0; i < sv_n_page_files; i++)
        if (strcmp(sv_page_files[i].path, path) == 0)
            return sv_page_files + i;
    return NULL;
}

const char *sv_page_build(void)
{
    const sv_page_file *f = find("/index.html");
    return f ? f->sum : "";
}

/* Does the list of codings hold gzip, and not with q=0? */
static int takes_gzip(const char *list)
{
    for (const char *at = list; at && (at = strstr(at, "gzip")) != NULL; at += 4) {
        const char *end = at + 4 + strspn(at + 4, " \t");
        if (at > list && !strchr(" ,\t", at[-1]))
            continue;
        if (*end == ';') {
            end += 1 + strspn(end + 1, " \t");
            return !(strncmp(end, "q=0", 3) == 0 && strspn(end + 3, ".0") == strcspn(end + 3, ", \t"));
        }
        return !*end || *end == ',';
    }
    return 0;
}

/* If-None-Match: a list of tags, or *. */
static int has_tag(const char *list, const char *sum)
{
    return list && (strstr(list, sum) || strcmp(list, "*") == 0);
}

static void send(sv_exchange *r, const sv_page_file *f)
{
    char tag[80];
    const int assets = strncmp(f->path, "/assets/", 8) == 0;
    const int packed = f->packed && takes_gzip(sv_http_header(r, "accept-encoding"));
    snprintf(tag, sizeof tag, "\"%s%s\"", f->sum, packed ? "-gz" : "");
    sv_http_add_header(r, "Content-Security-Policy", POLICY);
    sv_http_add_header(r, "Referrer-Policy", "no-referrer");
    sv_http_add_header(r, "Cross-Origin-Opener-Policy", "same-origin");
    sv_http_add_header(r, "Cross-Origin-Resource-Policy", "same-origin");
    sv_http_add_header(r, "Permissions-Policy", "camera=(), geolocation=(), microphone=()");
    sv_http_add_header(r, "Cache-Control", assets ? "public, max-age=31536000, immutable" : "no-cache");
    sv_http_add_header(r, "ETag", tag);
    if (f->packed)
        sv_http_add_header(r, "Vary", "Accept-Encoding");
    if (has_tag(sv_http_header(r, "if-none-match"), f->sum)) {
        sv_http_reply(r, 304, NULL, "", 0);
        return;
    }
    if (!f->packed || packed) {
        if (packed)
            sv_http_add_header(r, "Content-Encoding", "gzip");
        sv_http_reply(r, 200, type_of(f->path), f->data, f->size ? f->stored : 0);
        return;
    }
    unsigned char *plain = malloc(f->size + 1);
    if (plain && sv_gunzip(plain, f->size, f->data, f->stored))
        sv_http_reply(r, 200, type_of(f->path), plain, f->size);
    else
        sv_http_error(r, 500, NULL, NULL, NULL, "%s cannot be unpacked", f->path);
    free(plain);
}

static void view(sv_exchange *r, void *app)
{
    (void)app;
    const sv_page_file *f = find("/index.html");
    if (f)
        send(r, f);
    else
        sv_http_error(r, 404, NULL, NULL, "unknown_url", "no page was there when the program was built");
}

/* The path is only ever compared with those of the table. */
static void file(sv_exchange *r, void *app)
{
    (void)app;
    const sv_page_file *f = find(sv_http_path(r));
    if (f)
        send(r, f);
    else
        sv_http_error(r, 404, NULL, NULL, "unknown_url", "nothing is at %.200s", sv_http_path(r));
}

enum { PLAIN = SV_ROUTE_OPEN | SV_ROUTE_CHEAP, VIEWS = sizeof views / sizeof *views };

size_t sv_page_n_static(void)
{
    return VIEWS + sv_n_page_files;
}

void sv_page_static_routes(sv_route *out)
{
    for (size_t i = 0; i < VIEWS; i++)
        out[i] = (sv_route){"GET", views[i], view, PLAIN, 0};
    for (size_t i = 0; i < sv_n_page_files; i++)
        out[VIEWS + i] = (sv_route){"GET", sv_page_files[i].path, file, PLAIN, 0};
}
