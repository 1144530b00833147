/* hub_name.c — names of models, of files and of revisions: what may be one. Nothing that comes from the hub or from a
 * command line becomes part of a path before it went through here. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "hub_impl.h"

enum { MOST_PART = 96 }; /* characters of Org and of Name, as the hub has it */

bool hub_ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

bool hub_is_commit(const char *text)
{
    const size_t n = strspn(text, "0123456789abcdef");
    return (n == 40 || n == 64) && !text[n];
}

/* Slash-separated segments, none of them "", "." or "..", and without bytes that mean something to a file system, a
 * terminal or another system's paths. */
static bool segments_are_safe(const char *text, size_t most)
{
    const size_t n = strlen(text);
    if (n == 0 || n > most)
        return false;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f || c == '\\')
            return false;
    }
    for (const char *p = text;;) {
        const size_t len = strcspn(p, "/");
        if (len == 0 || len > 255 || (len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        if (!p[len])
            return true;
        p += len + 1;
    }
}

bool hub_file_name_is_safe(const char *name)
{
    /* A drive ("C:...") has no place in a repository either. */
    return segments_are_safe(name, 500) && !(isalpha((unsigned char)name[0]) && name[1] == ':');
}

bool hub_revision_is_safe(const char *revision)
{
    return segments_are_safe(revision, 190) && !strpbrk(revision, " ~^:?*[@#%") && revision[0] != '-' &&
           !hub_ends_with(revision, ".lock");
}

/* One half of Org/Name, [n]. */
static bool part_is_safe(const char *p, size_t n)
{
    if (n == 0 || n > MOST_PART || strchr("-.", p[0]) || strchr("-.", p[n - 1]))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)p[i]) && !strchr("-_.", p[i]))
            return false;
        if (i && p[i] == p[i - 1] && (p[i] == '-' || p[i] == '.')) /* "--" parts the names of folders in the cache */
            return false;
    }
    return true;
}

/* Names of the hub's own pages and of our folder models/ are nobody's. */
static bool is_reserved(const char *p, size_t n)
{
    static const char *const words[] = {"models", "datasets", "spaces", "api"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == n && memcmp(words[i], p, n) == 0)
            return true;
    return false;
}

static zamba_status take(char *out, size_t n_out, const char *from, size_t n, const char *word, const char *what,
                         zamba_error *err)
{
    if (n == 0 || n >= n_out)
        return zb_fail(err, ZAMBA_E_ARG, "%.200s: the %s is %s (wanted Org/Name[@revision][:QUANT])", word, what,
                       n == 0 ? "empty" : "too long");
    memcpy(out, from, n);
    out[n] = 0;
    return ZAMBA_OK;
}

zamba_status hub_name_parse(hub_name *out, const char *word, zamba_error *err)
{
    static const char *const fronts[] = {"hf://", "https://huggingface.co/", "https://hf.co/", "huggingface.co/",
                                         "hf.co/"};
    const char *p = word;
    *out = (hub_name){.revision = "main"};
    for (size_t i = 0; i < sizeof fronts / sizeof *fronts; i++) {
        if (strncmp(p, fronts[i], strlen(fronts[i])) == 0) {
            p += strlen(fronts[i]);
            break;
        }
    }
    const size_t n_path = strcspn(p, "@:"), n_org = strcspn(p, "/");
    const char *rest = p + n_org + 1;
    const size_t n_name = n_org < n_path ? strcspn(rest, "/@:") : 0;
    if (n_org >= n_path || !part_is_safe(p, n_org) || !part_is_safe(rest, n_name) || is_reserved(p, n_org))
        return zb_fail(err, ZAMBA_E_ARG,
                       "'%.200s' is no name of a model on the hub (wanted Org/Name, such as Zyphra/Zamba2-1.2B)", word);
    zamba_status st = take(out->repo, sizeof out->repo, p, n_org + 1 + n_name, word, "name", err);
    if (st == ZAMBA_OK && hub_ends_with(out->repo, ".git"))
        st = zb_fail(err, ZAMBA_E_ARG, "'%.200s': the name of a model does not end in .git", word);
    if (st == ZAMBA_OK && hub_ends_with(out->repo, ".gguf"))
        st =
            zb_fail(err, ZAMBA_E_ARG, "'%.200s' is no name of a model on the hub (a file is Org/Name/file.gguf)", word);
    if (st == ZAMBA_OK && rest[n_name] == '/')
        st = take(out->file, sizeof out->file, rest + n_name + 1, n_path - (size_t)(rest + n_name + 1 - p), word,
                  "file's name", err);
    for (const char *q = p + n_path; st == ZAMBA_OK && *q;) {
        const char kind = *q++;
        const size_t n = strcspn(q, kind == '@' ? "@:" : "@");
        st = kind == '@' ? take(out->revision, sizeof out->revision, q, n, word, "revision", err)
                         : take(out->quant, sizeof out->quant, q, n, word, "quantization", err);
        q += n;
    }
    if (st != ZAMBA_OK)
        return st;
    if (*out->file && (!hub_file_name_is_safe(out->file) || !hub_ends_with(out->file, ".gguf") || *out->quant))
        return zb_fail(err, ZAMBA_E_ARG, "'%.200s': the file to get is named as Org/Name/file.gguf", word);
    if (!hub_revision_is_safe(out->revision))
        return zb_fail(err, ZAMBA_E_ARG, "'%.200s': '%.100s' is no branch, tag or commit", word, out->revision);
    for (const char *q = out->quant; *q; q++)
        if (!isalnum((unsigned char)*q) && !strchr("_-.", *q))
            return zb_fail(err, ZAMBA_E_ARG, "'%.200s': '%.40s' is no quantization (such as Q4_K_M)", word, out->quant);
    return ZAMBA_OK;
}

bool hub_split_file(const char *file, char *stem, size_t n_stem, unsigned *part, unsigned *parts)
{
    /* "-00001-of-00003.gguf" */
    enum { TAIL = 20 };
    const size_t n = strlen(file);
    if (n <= TAIL || n - TAIL >= n_stem)
        return false;
    const char *tail = file + n - TAIL;
    if (tail[0] != '-' || memcmp(tail + 6, "-of-", 4) != 0 || strcmp(tail + 15, ".gguf") != 0)
        return false;
    unsigned numbers[2] = {0, 0};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 5; i++) {
            const char c = tail[(k ? 10 : 1) + i];
            if (c < '0' || c > '9')
                return false;
            numbers[k] = numbers[k] * 10 + (unsigned)(c - '0');
        }
    }
    if (numbers[0] < 1 || numbers[0] > numbers[1])
        return false;
    memcpy(stem, file, n - TAIL);
    stem[n - TAIL] = 0;
    *part = numbers[0];
    *parts = numbers[1];
    return true;
}

/* Is this piece of a file's name a quantization: Q4_K_M, IQ4_NL, BF16, F16, F32, UD-Q4_K_XL's tail ...? */
static bool is_quant(const char *p, size_t n)
{
    if (n < 2 || n > 15)
        return false;
    const char c = (char)toupper((unsigned char)p[0]), d = (char)toupper((unsigned char)p[1]);
    if (c == 'B' && n == 4)
        return strncasecmp(p, "BF16", 4) == 0;
    if (c == 'F' && n == 3)
        return strncasecmp(p, "F16", 3) == 0 || strncasecmp(p, "F32", 3) == 0;
    size_t i = c == 'Q' ? 1 : (c == 'I' || c == 'T') && d == 'Q' ? 2 : 0;
    if (i == 0 || !isdigit((unsigned char)p[i]))
        return false;
    for (; i < n; i++)
        if (!isalnum((unsigned char)p[i]) && p[i] != '_')
            return false;
    return true;
}

void hub_quant_of_file(char out[32], const char *file)
{
    char stem[512];
    unsigned part, parts;
    const char *slash = strrchr(file, '/');
    out[0] = 0;
    if (!hub_split_file(slash ? slash + 1 : file, stem, sizeof stem, &part, &parts)) {
        snprintf(stem, sizeof stem, "%s", slash ? slash + 1 : file);
        if (hub_ends_with(stem, ".gguf"))
            stem[strlen(stem) - 5] = 0;
    }
    /* the last piece between points or dashes that is one */
    for (char *p = stem; *p;) {
        const size_t n = strcspn(p, "-.");
        if (is_quant(p, n)) {
            snprintf(out, 32, "%.*s", (int)n, p);
            for (char *q = out; *q; q++)
                *q = (char)toupper((unsigned char)*q);
        }
        p += n + (p[n] != 0);
    }
}
