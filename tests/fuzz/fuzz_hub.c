/* fuzz_hub.c — any bytes as the hub's list of files, as a model's name, a file's, an ETag: what is taken is safe to be
 * a path. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hub_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            abort();                                                                                                   \
    } while (0)

/* Written apart from hub_file_name_is_safe(), so that both have to be wrong. */
static void require_inside(const char *path)
{
    REQUIRE(path[0] && path[0] != '/' && !strchr(path, '\\'));
    for (const char *p = path; p; p = strchr(p, '/')) {
        p += *p == '/';
        REQUIRE(!(p[0] == '.' && (p[1] == '/' || !p[1])));
        REQUIRE(!(p[0] == '.' && p[1] == '.' && (p[2] == '/' || !p[2])));
    }
    for (const char *p = path; *p; p++)
        REQUIRE((unsigned char)*p >= 0x20 && *p != 0x7F);
}

static void try_name(const char *text)
{
    hub_name name;
    char quant[32], stem[64], etag[132], path[450];
    unsigned part, parts;
    if (hub_name_parse(&name, text, NULL) == ZAMBA_OK) {
        require_inside(name.repo);
        require_inside(name.revision);
        REQUIRE(!*name.file || hub_file_name_is_safe(name.file));
        REQUIRE(strchr(name.repo, '/') == strrchr(name.repo, '/') && !strstr(name.repo, "--"));
    }
    if (hub_file_name_is_safe(text))
        require_inside(text);
    hub_quant_of_file(quant, text);
    REQUIRE(strlen(quant) < 20);
    if (hub_split_file(text, stem, sizeof stem, &part, &parts))
        REQUIRE(part >= 1 && part <= parts && strlen(stem) + 20 == strlen(text));
    hub_etag_clean(etag, text);
    REQUIRE(!strpbrk(etag, "./\\") && strlen(etag) <= 128);
    hub_name_of_path(path, sizeof path, text);
}

static void try_list(const char *text, size_t n, const char *word)
{
    hub_remote r;
    hub_name name;
    if (hub_name_parse(&name, word, NULL) != ZAMBA_OK || hub_remote_read(&r, text, n, name.repo, NULL) != ZAMBA_OK)
        return;
    REQUIRE(hub_is_commit(r.commit));
    const bool chosen = hub_choose(&r, &name, NULL) == ZAMBA_OK;
    for (size_t i = 0; i < r.n_files && chosen; i++)
        if (r.files[i].chosen)
            require_inside(r.files[i].name);
    hub_remote_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = malloc(n + 1);
    if (!text)
        return 0;
    memcpy(text, data, n);
    text[n] = 0;
    try_name(text);
    try_list(text, n, "a/b");
    try_list(text, n, "a/b:Q4_K_M");
    free(text);
    return 0;
}
