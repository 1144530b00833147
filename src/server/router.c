/* router.c — patterns against paths. See router.h. */
#include "router.h"

#include <stdlib.h>
#include <string.h>

int sv_router_add(sv_router *r, const sv_route *routes, size_t n)
{
    if (r->n_tables == sizeof r->tables / sizeof *r->tables)
        return 0;
    r->tables[r->n_tables] = routes;
    r->sizes[r->n_tables++] = n;
    return 1;
}

int sv_path_is_ollama(const char *path)
{
    return strncmp(path, "/api/", 5) == 0;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Well-formed UTF-8 without controls: no overlong forms, surrogates, or what is beyond U+10FFFF. */
static int is_clean(const unsigned char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        const unsigned c = s[i];
        const size_t len = c < 0x80                ? 1
                           : c >= 0xC2 && c < 0xE0 ? 2
                           : c >= 0xE0 && c < 0xF0 ? 3
                           : c >= 0xF0 && c < 0xF5 ? 4
                                                   : 0;
        if (len == 0 || len > n - i || c < 0x20 || c == 0x7F)
            return 0;
        for (size_t k = 1; k < len; k++)
            if ((s[i + k] & 0xC0) != 0x80)
                return 0;
        if ((c == 0xE0 && s[i + 1] < 0xA0) || (c == 0xED && s[i + 1] > 0x9F) || (c == 0xF0 && s[i + 1] < 0x90) ||
            (c == 0xF4 && s[i + 1] > 0x8F))
            return 0;
        i += len;
    }
    return 1;
}

char *sv_url_decode(const char *text, size_t n, int plus, int *bad)
{
    char *out = malloc(n + 1);
    size_t m = 0;
    *bad = 0;
    if (!out)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        int c = (unsigned char)text[i];
        if (c == '%') {
            const int high = n - i > 2 ? hex(text[i + 1]) : -1, low = n - i > 2 ? hex(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                *bad = 1;
                break;
            }
            c = high * 16 + low;
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        out[m++] = (char)c;
    }
    out[m] = 0;
    if (!*bad && !is_clean((const unsigned char *)out, m))
        *bad = 1;
    if (*bad) {
        free(out);
        return NULL;
    }
    return out;
}

/* One segment of the pattern against one of the path: equal once decoded. */
static int same_segment(const char *pattern, size_t n_pattern, const char *path, size_t n_path)
{
    int bad;
    char *plain = sv_url_decode(path, n_path, 0, &bad);
    const int same = plain && strlen(plain) == n_pattern && memcmp(plain, pattern, n_pattern) == 0;
    free(plain);
    return same;
}

static int matches(const char *pattern, const char *path, size_t n, char **arg)
{
    const char *end = path + n;
    int bad;
    for (;;) {
        if (*pattern != '/' || path == end || *path != '/')
            return *pattern == 0 && path == end;
        pattern++;
        path++;
        const size_t n_pattern = strcspn(pattern, "/");
        const char *slash = memchr(path, '/', (size_t)(end - path));
        const size_t n_path = (size_t)((slash ? slash : end) - path);
        if (strcmp(pattern, "{id...}") == 0) {
            if (path == end)
                return 0;
            free(*arg);
            *arg = sv_url_decode(path, (size_t)(end - path), 0, &bad);
            return *arg != NULL;
        }
        if (n_pattern == 4 && memcmp(pattern, "{id}", 4) == 0) {
            if (n_path == 0)
                return 0;
            free(*arg);
            *arg = sv_url_decode(path, n_path, 0, &bad);
            if (!*arg)
                return 0;
        } else if (!same_segment(pattern, n_pattern, path, n_path)) {
            return 0;
        }
        pattern += n_pattern;
        path += n_path;
    }
}

static void allow_add(char *allow, size_t n, const char *method)
{
    const size_t have = strlen(allow), more = strlen(method);
    if (strstr(allow, method) || have + more + 3 > n)
        return;
    if (have)
        memcpy(allow + have, ", ", 3);
    memcpy(allow + have + (have ? 2 : 0), method, more + 1);
}

const sv_route *sv_router_find(const sv_router *r, const char *method, const char *path, size_t n_path, char **arg,
                               char *allow, size_t n_allow)
{
    allow[0] = 0;
    *arg = NULL;
    if (n_path > 1 && path[n_path - 1] == '/')
        n_path--;
    const int head = strcmp(method, "HEAD") == 0;
    for (size_t t = 0; t < r->n_tables; t++) {
        for (size_t i = 0; i < r->sizes[t]; i++) {
            const sv_route *route = &r->tables[t][i];
            char *found = NULL;
            if (!matches(route->pattern, path, n_path, &found)) {
                free(found);
                continue;
            }
            if (strcmp(route->method, method) == 0 || (head && strcmp(route->method, "GET") == 0)) {
                *arg = found;
                return route;
            }
            free(found);
            allow_add(allow, n_allow, route->method);
            if (strcmp(route->method, "GET") == 0)
                allow_add(allow, n_allow, "HEAD");
        }
    }
    return NULL;
}
