/* cmd_list.c — `zamba list` and `zamba rm`: what is here, and what need not be. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"
#include "hub.h"
#include "terminal.h"

typedef struct models {
    hub_entry *entries;
    size_t n;
    size_t n_ours; /* the first of them are folders in models/ */
} models;

static bool is_zamba(const hub_entry *e)
{
    return strncmp(e->type, "zamba", 5) == 0;
}

/* Folders with a config, and GGUF files, in one of the places of models by name. A name that was seen hides others. */
static int add_folder(models *m, const char *folder)
{
    char **names = hub_names_of_folder(folder);
    for (size_t i = 0; names && names[i]; i++) {
        char path[PATH_MAX], config[PATH_MAX];
        struct stat st;
        bool seen = names[i][0] == '.';
        for (size_t k = 0; k < m->n && !seen; k++)
            seen = strcmp(m->entries[k].name, names[i]) == 0;
        if (seen || (size_t)snprintf(path, sizeof path, "%s/%s", folder, names[i]) >= sizeof path ||
            (size_t)snprintf(config, sizeof config, "%s/config.json", path) >= sizeof config || stat(config, &st) != 0)
            continue;
        zamba_error err = {0};
        hub_entry *larger = realloc(m->entries, (m->n + 1) * sizeof *larger);
        if (larger)
            m->entries = larger;
        if (!larger || hub_describe(&larger[m->n], names[i], path, &err) != ZAMBA_OK) {
            hub_free_folder_names(names);
            return larger ? cli_fail(&err) : cli_error("out of memory");
        }
        m->n++;
    }
    hub_free_folder_names(names);
    return 0;
}

static int gather(models *m)
{
    char folder[PATH_MAX], real[PATH_MAX], last[PATH_MAX] = "";
    zamba_error err = {0};
    hub_entry *cached = NULL;
    size_t n_cached = 0;
    int code = 0;
    for (size_t i = 0; code == 0 && cli_models_folder(i, folder, sizeof folder); i++) {
        if (!realpath(folder, real) || strcmp(real, last) == 0)
            continue;
        memcpy(last, real, sizeof last);
        code = add_folder(m, real);
    }
    m->n_ours = m->n;
    if (code == 0 && hub_list(&cached, &n_cached, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    hub_entry *all = code == 0 && n_cached ? realloc(m->entries, (m->n + n_cached) * sizeof *all) : NULL;
    if (all) {
        memcpy(all + m->n, cached, n_cached * sizeof *cached);
        free(cached);
        m->entries = all;
        m->n += n_cached;
    } else if (n_cached) {
        hub_list_free(cached, n_cached);
        code = code ? code : cli_error("out of memory");
    }
    return code;
}

static void time_text(int64_t when, const char *format, char out[32])
{
    const time_t t = (time_t)when;
    struct tm parts;
    if (!localtime_r(&t, &parts) || strftime(out, 32, format, &parts) == 0)
        snprintf(out, 32, "?");
}

static json_t *entry_json(const hub_entry *e, bool ours)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:I, s:I, s:s, s:o, s:b}", "name", cli_json_text(e->name, strlen(e->name)),
                     "path", cli_json_text(e->path, strlen(e->path)), "type", cli_json_text(e->type, strlen(e->type)),
                     "dtype", cli_json_text(e->dtype, strlen(e->dtype)), "bytes", (json_int_t)e->bytes, "modified",
                     (json_int_t)e->when, "source", ours ? "models" : "hub", "commit",
                     *e->commit ? json_string(e->commit) : json_null(), "complete", (int)e->complete);
}

static void print_row(const hub_entry *e, const term *t, int n_name, int n_type)
{
    char bytes[32], when[32], type[96];
    snprintf(type, sizeof type, "%s%s%s", e->type, *e->dtype ? " " : "", e->dtype);
    time_text(e->when, "%Y-%m-%d %H:%M", when);
    out_format("%-*s  %10s  %-*s  %s%s%s\n", n_name, e->name, cli_bytes((double)e->bytes, bytes), n_type, type, when,
               e->complete ? "" : term_on(t, TERM_YELLOW), e->complete ? "" : "  not complete");
    if (!e->complete)
        out_text(term_on(t, TERM_PLAIN));
}

int cmd_list(const cli_args *args)
{
    models m = {0};
    const term t = term_of(STDOUT_FILENO, (int)args->color);
    int code = cli_no_more_words(args, 0), n_name = 4, n_type = 4;
    if (code == 0)
        code = gather(&m);
    json_t *list = args->json ? json_array() : NULL;
    for (size_t i = 0; i < m.n && code == 0; i++) {
        const hub_entry *e = &m.entries[i];
        const int name = (int)strlen(e->name), type = (int)(strlen(e->type) + strlen(e->dtype) + 1);
        n_name = name > n_name ? name : n_name;
        n_type = type > n_type ? type : n_type;
    }
    if (code == 0 && !args->json)
        out_format("%s%-*s  %10s  %-*s  %s%s\n", term_on(&t, TERM_DIM), n_name, "name", "size", n_type, "type",
                   "changed", term_on(&t, TERM_PLAIN));
    size_t hidden = 0;
    for (size_t i = 0; i < m.n && code == 0; i++) {
        const hub_entry *e = &m.entries[i];
        if (!args->all && !is_zamba(e))
            hidden++;
        else if (list)
            json_array_append_new(list, entry_json(e, i < m.n_ours));
        else
            print_row(e, &t, n_name, n_type);
    }
    if (code == 0 && args->json)
        code = out_json(json_pack("{s:o}", "models", list), 0) ? 0 : 1;
    else if (code == 0 && hidden)
        cli_note("%zu of the cache %s no Zamba (--all)", hidden, hidden == 1 ? "is" : "are");
    hub_list_free(m.entries, m.n);
    return code;
}

int cmd_rm(const cli_args *args)
{
    if (args->words.n == 0) {
        cli_error("wanted the name of a model: Org/Name");
        return cli_hint(args->command);
    }
    int code = 0;
    for (size_t i = 0; i < args->words.n; i++) {
        const char *word = args->words.items[i];
        uint64_t bytes = 0;
        char text[32];
        zamba_error err = {0};
        hub_name name;
        if (hub_name_parse(&name, word, NULL) != ZAMBA_OK && cli_is_model(word))
            code = cli_error("%s: only models of the hub's cache are removed; this folder is yours", word);
        else if (hub_remove(word, args->dry_run, &bytes, &err) != ZAMBA_OK)
            code = cli_fail(&err);
        else if (args->json)
            code = out_json(json_pack("{s:o, s:I, s:b}", "name", cli_json_text(word, strlen(word)), "bytes",
                                      (json_int_t)bytes, "removed", (int)!args->dry_run),
                            0)
                       ? code
                       : 1;
        else
            out_format("%s: %s%s\n", word, cli_bytes((double)bytes, text),
                       args->dry_run ? " would be freed" : " freed");
    }
    return code;
}
