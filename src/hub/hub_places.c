/* hub_places.c — where the cache is, who the hub is, and the token: what the environment says, as other programs of the
 * hub read it. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "hub_impl.h"
#include "io/file.h"

/* A variable's value, NULL if it is not set or empty. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static bool variable_is_true(const char *name)
{
    static const char *const words[] = {"1", "on", "yes", "true"};
    const char *value = variable(name);
    for (size_t i = 0; value && i < sizeof words / sizeof *words; i++)
        if (strcasecmp(value, words[i]) == 0)
            return true;
    return false;
}

zamba_status hub_path(char out[PATH_MAX], zamba_error *err, ...)
{
    va_list parts;
    size_t at = 0;
    bool fits = true;
    va_start(parts, err);
    for (const char *part; (part = va_arg(parts, const char *)) != NULL;) {
        const size_t n = strlen(part), slash = at > 0 && out[at - 1] != '/';
        fits = fits && n < PATH_MAX && at + slash + n < PATH_MAX;
        if (!fits)
            continue;
        if (slash)
            out[at++] = '/';
        memcpy(out + at, part, n);
        at += n;
    }
    va_end(parts);
    if (!fits)
        return zb_fail(err, ZAMBA_E_ARG, "the path of the cache of models is too long (HF_HOME, HF_HUB_CACHE)");
    out[at] = 0;
    return ZAMBA_OK;
}

/* "~/x" is in the home folder; `path` itself otherwise. */
static zamba_status expand(char out[PATH_MAX], const char *path, const char *below, zamba_error *err)
{
    const char *home = variable("HOME");
    if (path[0] != '~' || (path[1] && path[1] != '/'))
        return hub_path(out, err, path, below, (char *)NULL);
    if (!home)
        return zb_fail(err, ZAMBA_E_ARG, "%s: HOME is not set, so there is no home folder", path);
    return path[1] ? hub_path(out, err, home, path + 2, below, (char *)NULL)
                   : hub_path(out, err, home, below, (char *)NULL);
}

/* HF_HOME, or where it is without being named. */
static zamba_status home_folder(char out[PATH_MAX], const char *below, zamba_error *err)
{
    if (variable("HF_HOME"))
        return expand(out, variable("HF_HOME"), below, err);
    char rest[64];
    snprintf(rest, sizeof rest, "huggingface/%s", below);
    return expand(out, variable("XDG_CACHE_HOME") ? variable("XDG_CACHE_HOME") : "~/.cache", rest, err);
}

zamba_status hub_cache_folder(char *out, size_t n_out, zamba_error *err)
{
    char path[PATH_MAX];
    const char *named = variable("HF_HUB_CACHE") ? variable("HF_HUB_CACHE") : variable("HUGGINGFACE_HUB_CACHE");
    zamba_status st = named ? hub_path(path, err, named, (char *)NULL) : home_folder(path, "hub", err);
    if (st == ZAMBA_OK && named)
        st = expand(path, named, "", err);
    for (size_t n = strlen(path); st == ZAMBA_OK && n > 1 && path[n - 1] == '/';)
        path[--n] = 0;
    if (st == ZAMBA_OK && (size_t)snprintf(out, n_out, "%s", path) >= n_out)
        st = zb_fail(err, ZAMBA_E_ARG, "the path of the cache of models is too long (HF_HOME, HF_HUB_CACHE)");
    return st;
}

const char *hub_endpoint(void)
{
    const char *named = variable("HF_ENDPOINT");
    return named ? named : "https://huggingface.co";
}

bool hub_is_offline(void)
{
    return variable_is_true("HF_HUB_OFFLINE") || variable_is_true("TRANSFORMERS_OFFLINE");
}

zamba_status hub_store_of(hub_store *out, const char *repo, zamba_error *err)
{
    char name[256];
    const int n_org = (int)strcspn(repo, "/");
    snprintf(name, sizeof name, "models--%.*s--%s", n_org, repo, repo + n_org + 1);
    zamba_status st = hub_cache_folder(out->cache, sizeof out->cache, err);
    if (st == ZAMBA_OK)
        st = hub_path(out->folder, err, out->cache, name, (char *)NULL);
    if (st == ZAMBA_OK)
        st = hub_path(out->locks, err, out->cache, ".locks", name, (char *)NULL);
    return st;
}

zamba_status hub_make_folders(const char *path, zamba_error *err)
{
    char part[PATH_MAX];
    if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part)
        return zb_fail(err, ZAMBA_E_ARG, "%s: path too long", path);
    for (char *p = part + 1;; p++) {
        if (*p && *p != '/')
            continue;
        const char kept = *p;
        *p = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST && !(kept && (errno == EROFS || errno == EACCES)))
            return zb_fail(err, ZAMBA_E_IO, "%s: %s (HF_HOME or HF_HUB_CACHE names another place)", part,
                           strerror(errno));
        if (!kept)
            return ZAMBA_OK;
        *p = kept;
    }
}

/* A token goes into a header: printable characters without blanks, blanks around it taken away. */
static zamba_status take_token(char *out, size_t n_out, const char *text, size_t n, const char *where, zamba_error *err)
{
    while (n > 0 && strchr(" \t\r\n", text[n - 1]))
        n--;
    while (n > 0 && strchr(" \t\r\n", text[0])) {
        text++;
        n--;
    }
    bool good = n < n_out;
    for (size_t i = 0; i < n && good; i++)
        good = text[i] > ' ' && text[i] < 0x7f;
    if (!good)
        return zb_fail(err, ZAMBA_E_ARG, "%s holds no token of the hub (wanted one word, as hf_...)", where);
    memcpy(out, text, n);
    out[n] = 0;
    return ZAMBA_OK;
}

zamba_status hub_token(char *out, size_t n_out, zamba_error *err)
{
    char path[PATH_MAX];
    out[0] = 0;
    if (variable_is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
        return ZAMBA_OK;
    const char *names[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"};
    for (int i = 0; i < 2; i++) {
        const char *value = variable(names[i]);
        zamba_status st = value ? take_token(out, n_out, value, strlen(value), names[i], err) : ZAMBA_OK;
        if (st != ZAMBA_OK || *out)
            return st;
    }
    zamba_status st =
        variable("HF_TOKEN_PATH") ? expand(path, variable("HF_TOKEN_PATH"), "", err) : home_folder(path, "token", err);
    for (size_t n = strlen(path); st == ZAMBA_OK && n > 1 && path[n - 1] == '/';)
        path[--n] = 0;
    if (st != ZAMBA_OK || !zb_file_exists(path))
        return st;
    zb_buf text = {0};
    st = zb_file_read(&text, path, 4096, err);
    if (st == ZAMBA_OK)
        st = take_token(out, n_out, (const char *)text.data, text.n, path, err);
    zb_buf_free(&text);
    return st;
}
