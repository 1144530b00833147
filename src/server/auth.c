/* auth.c — keys are kept and compared as SHA-256 of what the client sends, all of them every time; names of hosts as
 * lower-case text. See auth.h. */
#include "auth.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- SHA-256 (FIPS 180-4) ---- */

static const uint32_t rounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turn(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static void sha256_block(uint32_t h[8], const unsigned char *p)
{
    uint32_t w[64], v[8];
    for (size_t i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (size_t i = 16; i < 64; i++) {
        const uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
    }
    memcpy(v, h, sizeof v);
    for (size_t i = 0; i < 64; i++) {
        const uint32_t e = v[4], a = v[0];
        const uint32_t t1 =
            v[7] + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & v[5]) ^ (~e & v[6])) + rounds[i] + w[i];
        const uint32_t t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (size_t i = 0; i < 8; i++)
        h[i] += v[i];
}

void sv_sha256(const void *data, size_t n, unsigned char hash[32])
{
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    unsigned char last[128] = {0};
    const unsigned char *p = data;
    const size_t rest = n % 64, tail = rest < 56 ? 64 : 128;
    for (size_t i = 0; i + 64 <= n; i += 64)
        sha256_block(h, p + i);
    if (rest)
        memcpy(last, p + n - rest, rest);
    last[rest] = 0x80;
    for (size_t i = 0; i < 8; i++)
        last[tail - 1 - i] = (unsigned char)((uint64_t)n * 8 >> 8 * i);
    for (size_t i = 0; i < tail; i += 64)
        sha256_block(h, last + i);
    for (size_t i = 0; i < 32; i++)
        hash[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

/* ---- keys ---- */

const char *sv_auth_check(const sv_auth *a, const char *secret)
{
    unsigned char hash[32];
    const char *name = NULL;
    sv_sha256(secret, strlen(secret), hash);
    for (size_t k = 0; k < a->n_keys; k++) {
        unsigned differ = 0;
        for (size_t i = 0; i < sizeof hash; i++)
            differ |= (unsigned)(hash[i] ^ a->keys[k].hash[i]);
        name = differ ? name : a->keys[k].name;
    }
    return name;
}

/* ---- Host and Origin ---- */

/* The name in "name", "name:port", "[::1]:port", lower case, without brackets and a last point. Zero: it is none. */
static int host_name(const char *host, char *out, size_t n_out)
{
    const char *from = host, *end;
    if (*host == '[') {
        from = host + 1;
        end = strchr(from, ']');
        if (!end || (end[1] && end[1] != ':'))
            return 0;
    } else {
        end = from + strcspn(from, ":");
    }
    const char *port = *host == '[' ? end + 1 : end;
    if (*port == ':')
        for (port++; *port; port++)
            if (!isdigit((unsigned char)*port))
                return 0;
    size_t n = (size_t)(end - from);
    if (n > 1 && from[n - 1] == '.')
        n--;
    if (n == 0 || n >= n_out)
        return 0;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)tolower((unsigned char)from[i]);
    out[n] = 0;
    return 1;
}

static int is_literal(const char *name, int *is_loopback)
{
    struct in_addr v4;
    struct in6_addr v6;
    *is_loopback = 0;
    if (inet_pton(AF_INET, name, &v4) == 1) {
        *is_loopback = ntohl(v4.s_addr) >> 24 == 127;
        return 1;
    }
    if (inet_pton(AF_INET6, name, &v6) == 1) {
        *is_loopback = memcmp(&v6, &in6addr_loopback, sizeof v6) == 0;
        return 1;
    }
    return 0;
}

int sv_auth_host(const sv_auth *a, const char *host)
{
    char name[256];
    int loopback;
    if (!host_name(host, name, sizeof name))
        return 0;
    if (a->any_host || strcmp(name, "localhost") == 0)
        return 1;
    /* Whom a name was made to lead here is told by the name; an address cannot be led elsewhere. */
    if (is_literal(name, &loopback) && (loopback || !a->loopback))
        return 1;
    for (size_t i = 0; i < a->n_hosts; i++)
        if (strcmp(a->hosts[i], name) == 0)
            return 1;
    return 0;
}

int sv_auth_origin(const sv_auth *a, const char *origin, const char *host)
{
    for (size_t i = 0; i < a->n_origins; i++)
        if (strcasecmp(a->origins[i], origin) == 0)
            return 2;
    if (a->any_origin)
        return 2;
    const char *rest = strncasecmp(origin, "http://", 7) == 0    ? origin + 7
                       : strncasecmp(origin, "https://", 8) == 0 ? origin + 8
                                                                 : NULL;
    return rest && host && strcasecmp(rest, host) == 0;
}

/* ---- */

static int add_text(char ***list, size_t *n, const char *text)
{
    char **more = realloc(*list, (*n + 1) * sizeof *more);
    if (!more)
        return 0;
    *list = more;
    more[*n] = strdup(text);
    return more[*n] != NULL && ++*n;
}

static int add_host(sv_auth *a, const char *host)
{
    char name[256];
    /* an IPv6 address without its brackets */
    const int bare = strchr(host, ':') && strchr(host, ':') != strrchr(host, ':') && *host != '[';
    if (bare)
        return add_text(&a->hosts, &a->n_hosts, host);
    return !host_name(host, name, sizeof name) || add_text(&a->hosts, &a->n_hosts, name);
}

zamba_status sv_auth_init(sv_auth *a, const sv_http_options *o, int loopback, zamba_error *err)
{
    char own[256] = "";
    *a = (sv_auth){.loopback = loopback};
    int ok = (a->keys = calloc(o->n_keys + 1, sizeof *a->keys)) != NULL;
    for (size_t i = 0; ok && i < o->n_keys; i++) {
        sv_sha256(o->keys[i].secret, strlen(o->keys[i].secret), a->keys[i].hash);
        a->keys[i].name = strdup(o->keys[i].name);
        ok = a->keys[i].name != NULL;
        a->n_keys += (size_t)ok;
    }
    if (ok && o->host)
        ok = add_host(a, o->host);
    if (ok && !loopback && gethostname(own, sizeof own - 1) == 0 && own[0])
        ok = add_host(a, own);
    for (size_t i = 0; ok && i < o->n_hosts; i++) {
        a->any_host |= strcmp(o->hosts[i], "*") == 0;
        ok = add_host(a, o->hosts[i]);
    }
    for (size_t i = 0; ok && i < o->n_origins; i++) {
        a->any_origin |= strcmp(o->origins[i], "*") == 0;
        ok = add_text(&a->origins, &a->n_origins, o->origins[i]);
    }
    if (ok)
        return ZAMBA_OK;
    sv_auth_free(a);
    if (err)
        snprintf(err->message, sizeof err->message, "out of memory");
    return ZAMBA_E_MEMORY;
}

void sv_auth_free(sv_auth *a)
{
    for (size_t i = 0; i < a->n_keys; i++)
        free(a->keys[i].name);
    for (size_t i = 0; i < a->n_hosts; i++)
        free(a->hosts[i]);
    for (size_t i = 0; i < a->n_origins; i++)
        free(a->origins[i]);
    free(a->keys);
    free(a->hosts);
    free(a->origins);
    *a = (sv_auth){0};
}
