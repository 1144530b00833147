/* router.h — from a request's path to its route: percent-decoding and patterns. Knows no sockets. */
#ifndef SV_ROUTER_H
#define SV_ROUTER_H

#include "http.h"

typedef struct sv_router {
    const sv_route *tables[4];
    size_t sizes[4], n_tables;
} sv_router;

/* Zero: no room for another table. */
int sv_router_add(sv_router *r, const sv_route *routes, size_t n);

/* Bytes [n] decoded in place of a new string, or NULL: no memory or (*bad) %-signs that are none, controls, no UTF-8.
 * plus: '+' is a space, as in queries. */
char *sv_url_decode(const char *text, size_t n, int plus, int *bad);

/* The route of this method and raw path (without query). *arg, or NULL, is its {id}, released with free().
 * NULL: none; then `allow` [n_allow] holds the methods that the path has, "" if the path is unknown. */
const sv_route *sv_router_find(const sv_router *r, const char *method, const char *path, size_t n_path, char **arg,
                               char *allow, size_t n_allow);

/* Is that a path of Ollama's API? */
int sv_path_is_ollama(const char *path);

#endif
