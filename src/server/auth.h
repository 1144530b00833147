/* auth.h — who may ask: keys, and the Host and Origin that a browser was led to. */
#ifndef SV_AUTH_H
#define SV_AUTH_H

#include "http.h"

typedef struct sv_auth_key {
    unsigned char hash[32];
    char *name;
} sv_auth_key;

typedef struct sv_auth {
    sv_auth_key *keys;
    size_t n_keys;
    int loopback; /* the server is heard on this machine only */
    char **hosts; /* names that Host may hold, lower case; [n_hosts] */
    size_t n_hosts;
    int any_host;
    char **origins; /* that may ask from another site, [n_origins] */
    size_t n_origins;
    int any_origin;
} sv_auth;

zamba_status sv_auth_init(sv_auth *a, const sv_http_options *o, int loopback, zamba_error *err);
void sv_auth_free(sv_auth *a);
/* The name of the key, or NULL: none such. Takes the same time whichever it is. */
const char *sv_auth_check(const sv_auth *a, const char *secret);
/* Host as the header has it (with or without port). */
int sv_auth_host(const sv_auth *a, const char *host);
/* Same origin as `host` (0: neither; 1: same; 2: named, answer with CORS). */
int sv_auth_origin(const sv_auth *a, const char *origin, const char *host);

void sv_sha256(const void *data, size_t n, unsigned char hash[32]);

#endif
