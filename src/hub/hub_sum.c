/* hub_sum.c — is a file what the hub says it is? The name of a blob is the sha256 of its bytes (large files), or git's
 * sha1 of it ("blob SIZE\0" in front). Some mirrors name small files by the plain sha1: that is taken as well. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub_impl.h"

bool hub_sum_can_tell(const char *etag)
{
    const size_t n = strspn(etag, "0123456789abcdef");
    return (n == 40 || n == 64) && !etag[n];
}

#if defined(ZAMBA_HUB_FETCH)

#include <openssl/evp.h>

struct hub_sum {
    char wanted[132];
    EVP_MD_CTX *sums[2]; /* sha256; or sha1 as git does and plain; or none */
};

hub_sum *hub_sum_open(const char *etag, uint64_t size)
{
    hub_sum *s = calloc(1, sizeof *s);
    char head[40];
    if (!s)
        return NULL;
    snprintf(s->wanted, sizeof s->wanted, "%s", etag);
    const int n_sums = !hub_sum_can_tell(etag) ? 0 : strlen(etag) == 64 ? 1 : 2;
    bool good = true;
    for (int i = 0; i < n_sums && good; i++) {
        s->sums[i] = EVP_MD_CTX_new();
        good = s->sums[i] && EVP_DigestInit_ex(s->sums[i], n_sums == 1 ? EVP_sha256() : EVP_sha1(), NULL) == 1;
        if (good && n_sums == 2 && i == 0) {
            const int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)size);
            good = EVP_DigestUpdate(s->sums[0], head, (size_t)n + 1) == 1;
        }
    }
    if (good)
        return s;
    hub_sum_close(s);
    return NULL;
}

bool hub_sum_add(hub_sum *s, const void *data, size_t n)
{
    for (int i = 0; i < 2; i++)
        if (s->sums[i] && EVP_DigestUpdate(s->sums[i], data, n) != 1)
            return false;
    return true;
}

int hub_sum_agrees(hub_sum *s, char *got)
{
    int agrees = -1;
    got[0] = 0;
    for (int i = 0; i < 2 && s->sums[i] && agrees != 1; i++) {
        unsigned char bytes[EVP_MAX_MD_SIZE];
        unsigned n = 0;
        char hex[2 * EVP_MAX_MD_SIZE + 1];
        agrees = 0;
        if (EVP_DigestFinal_ex(s->sums[i], bytes, &n) != 1)
            continue;
        for (unsigned k = 0; k < n; k++)
            snprintf(hex + 2 * k, 3, "%02x", bytes[k]);
        agrees = strcmp(hex, s->wanted) == 0;
        if (i == 0 || agrees)
            snprintf(got, 132, "%s", hex);
    }
    return agrees;
}

void hub_sum_close(hub_sum *s)
{
    if (!s)
        return;
    EVP_MD_CTX_free(s->sums[0]);
    EVP_MD_CTX_free(s->sums[1]);
    free(s);
}

#endif
