/* locate.c — from a word on the command line to a checkpoint folder or file, and opening it. Declared in common.h.
 * Places, first that exists: the path itself; models/NAME in the folder of the program and the folders above it (the
 * build tree); share/zamba/models/NAME beside the program's folder (installed); for Org/Name the cache of the hub, and,
 * for commands that talk with a model, the hub itself. */
#include "common.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "getting.h"
#include "hub.h"

enum { LEVELS_UP = 4 }; /* build/release/zamba is two below the project; one or two more for other layouts */

static const cli_args *given; /* what the command line says of the hub */

void cli_locate_init(const cli_args *args)
{
    given = args;
}

static bool exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool cli_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The folder the running program is in; false if the system does not tell. */
static bool program_folder(char *out, size_t n_out)
{
    const ssize_t n = readlink("/proc/self/exe", out, n_out - 1);
    if (n <= 0 || (size_t)n >= n_out - 1)
        return false;
    out[n] = 0;
    char *slash = strrchr(out, '/');
    if (!slash)
        return false;
    *(slash == out ? slash + 1 : slash) = 0;
    return true;
}

bool cli_models_folder(size_t i, char *out, size_t n_out)
{
    char folder[PATH_MAX];
    if (!program_folder(folder, sizeof folder))
        return false;
    if (i == LEVELS_UP + 1)
        return (size_t)snprintf(out, n_out, "%s/../share/zamba/models", folder) < n_out;
    if (i > LEVELS_UP + 1)
        return false;
    for (; i > 0; i--) {
        char *slash = strrchr(folder, '/');
        if (slash)
            *slash = 0;
    }
    return (size_t)snprintf(out, n_out, "%s/models", folder) < n_out;
}

/* The i-th place where a model of this name can be; false after the last. */
static bool place(size_t i, const char *name, char *out, size_t n_out)
{
    char folder[PATH_MAX];
    return cli_models_folder(i, folder, sizeof folder) && (size_t)snprintf(out, n_out, "%s/%s", folder, name) < n_out;
}

static bool find_name(const char *name, char *out, size_t n_out)
{
    if (!*name || *name == '.' || strchr(name, '/'))
        return false;
    for (size_t i = 0; place(i, name, out, n_out); i++)
        if (cli_is_folder(out))
            return true;
    return false;
}

bool cli_is_model(const char *word)
{
    char path[PATH_MAX];
    return *word && (exists(word) || find_name(word, path, sizeof path));
}

bool cli_looks_like_path(const char *word)
{
    if (strpbrk(word, " \t\n"))
        return false;
    return strchr(word, '/') || (word[0] == '.' && word[1]);
}

/* Do the words in front of the slash name a folder here? Then a path was meant. */
static bool begins_with_folder(const char *name)
{
    char first[256];
    const size_t n = strcspn(name, "/");
    if (n == 0 || n >= sizeof first)
        return n != 0;
    memcpy(first, name, n);
    first[n] = 0;
    return cli_is_folder(first);
}

/* A model of the hub: in the cache, or got now. False after no message if the name is none of the hub's, or after a
 * message (*said). */
static bool from_hub(const char *name, char *path, size_t n_path, bool *said)
{
    enum { GETTING = CLI_RUN | CLI_CHAT | CLI_SERVE };
    zamba_error err = {0};
    hub_name parsed;
    *said = false;
    if (hub_name_parse(&parsed, name, NULL) != ZAMBA_OK)
        return false;
    const zamba_status st = hub_find(path, n_path, name, &err);
    if (st == ZAMBA_OK)
        return true;
    *said = true;
    if (st != ZAMBA_E_NOT_FOUND) {
        cli_fail(&err);
    } else if (begins_with_folder(name)) {
        cli_error("%s: no such folder or file (if it is a model of the hub, `zamba pull %s` gets it)", name, name);
    } else if (!given || !given->command || !(given->command->bit & GETTING)) {
        cli_error("%s: no such folder or file, and %s; `zamba pull %s` gets a model of that name", name,
                  strncmp(err.message, name, strlen(name)) == 0 ? err.message + strlen(name) + 2 : err.message, name);
    } else if (given->offline || hub_is_offline()) {
        cli_error("%s; the hub is not asked, as %s says", err.message, given->offline ? "--offline" : "HF_HUB_OFFLINE");
    } else if (hub_cannot_pull()) {
        cli_error("%s; %s", err.message, hub_cannot_pull());
    } else {
        hub_pulled pulled;
        const int code = cli_pull(given, name, false, &pulled);
        if (code > 128) /* a signal: nothing was begun that has to be ended */
            exit(out_finish(code));
        if (code == 0) {
            if ((size_t)snprintf(path, n_path, "%s", pulled.path) < n_path)
                return true;
            cli_error("%s: path too long", pulled.path);
        }
    }
    return false;
}

char *cli_find_model(const char *name)
{
    char path[PATH_MAX];
    bool said = false;
    const char *found = NULL, *from_environment = getenv("ZAMBA_MODEL");
    const bool use_default = !name;
    if (use_default && from_environment && *from_environment)
        name = from_environment;
    else if (use_default)
        name = ZAMBA_DEFAULT_MODEL;
    if (!*name) {
        cli_error("the model's name is empty");
        return NULL;
    }
    if (!(use_default && name != from_environment) && exists(name))
        found = name;
    else if (find_name(name, path, sizeof path) || from_hub(name, path, sizeof path, &said))
        found = path;
    if (said && !found)
        return NULL;
    if (found) {
        char *copy = strdup(found);
        if (!copy)
            cli_error("out of memory");
        return copy;
    }
    if (name == from_environment) {
        cli_error("%s: no such model (it is what the environment variable ZAMBA_MODEL says)", name);
    } else if (!use_default) {
        cli_error(
            "%s: no such folder or file, nor a model of that name (wanted a checkpoint folder with config.json, a GGUF "
            "file, or Org/Name of the hub)",
            name);
    } else {
        cli_error("the model that comes with zamba, %s, was not found; name a checkpoint folder, or set ZAMBA_MODEL",
                  name);
        char last[PATH_MAX] = "";
        for (size_t i = 0; place(i, name, path, sizeof path); i++) {
            if (strcmp(path, last) != 0)
                fprintf(stderr, "  looked for %s\n", path);
            memcpy(last, path, sizeof last);
        }
    }
    return NULL;
}

char *cli_model_path(const cli_args *args, size_t *next)
{
    *next = 0;
    if (args->model)
        return cli_find_model(args->model);
    if (args->words.n > 0) {
        *next = 1;
        return cli_find_model(args->words.items[0]);
    }
    return cli_find_model(NULL);
}

int cli_model_and_text(const cli_args *args, bool have_text, char **model, const char **text)
{
    const char *const *words = args->words.items;
    const size_t n = args->words.n;
    const char *name = args->model;
    size_t used = 0;
    *text = NULL;
    *model = NULL;
    if (!name && n > 0 && (n > 1 || have_text || cli_is_model(words[0]) || cli_looks_like_path(words[0])))
        name = words[used++];
    if (used < n && !have_text)
        *text = words[used++];
    else if (used < n) {
        cli_error("'%s': the text was given already by an option", words[used]);
        return cli_hint(args->command);
    }
    const int code = cli_no_more_words(args, used);
    if (code)
        return code;
    *model = cli_find_model(name);
    return *model ? 0 : 1;
}

/* "FILE:SCALE", or the name of a file that has a colon in it. */
static void split_scale(char *text, double *scale)
{
    char *colon = strrchr(text, ':'), *end = NULL;
    *scale = 1;
    if (!colon || !colon[1] || access(text, F_OK) == 0)
        return;
    const double x = strtod(colon + 1, &end);
    if (*end)
        return;
    *scale = x;
    *colon = '\0';
}

int cli_loras(const cli_args *args, zamba_lora_file **out)
{
    size_t n = 0;
    *out = NULL;
    for (size_t i = 0; i < args->loras.n; i++)
        n += sizeof **out + strlen(args->loras.items[i]) + 1;
    if (n == 0)
        return 0;
    *out = malloc(n);
    if (!*out)
        return cli_error("out of memory");
    char *text = (char *)(*out + args->loras.n);
    for (size_t i = 0; i < args->loras.n; i++) {
        memcpy(text, args->loras.items[i], strlen(args->loras.items[i]) + 1);
        split_scale(text, &(*out)[i].scale);
        (*out)[i].path = text;
        text += strlen(args->loras.items[i]) + 1;
    }
    return 0;
}

zamba_status cli_model_try(const cli_args *args, const char *path, zamba_model **model, double *load_s,
                           zamba_error *err)
{
    zamba_model_options options = zamba_model_defaults();
    zamba_model_info info = {.size = sizeof info};
    options.n_threads = (int32_t)args->threads;
    options.n_threads_batch = (int32_t)args->threads_batch;
    options.dt_floor = (zamba_dt_floor)args->dt_floor;
    options.n_batch = (int32_t)args->batch_size;
    /* debug's numbers are compared with those of programs that compute in f32 */
    options.compute = args->compute != CLI_UNSET        ? (zamba_compute)args->compute
                      : args->command->bit == CLI_DEBUG ? ZAMBA_COMPUTE_F32
                                                        : ZAMBA_COMPUTE_AUTO;
    options.recurrent = args->recurrent;
    options.repack = args->repack == 2 ? -1 : (int32_t)args->repack;
    options.kv_k = (zamba_kv_type)args->cache_type_k;
    options.kv_v = (zamba_kv_type)args->cache_type_v;
    zamba_lora_file *loras;
    if (cli_loras(args, &loras)) {
        *err = (zamba_error){.code = ZAMBA_E_MEMORY, .message = "out of memory"};
        return ZAMBA_E_MEMORY;
    }
    options.loras = loras;
    options.n_loras = args->loras.n;
    const double start = cli_now();
    const zamba_status st = zamba_model_open(model, path, &options, err);
    free(loras);
    if (st != ZAMBA_OK)
        return st;
    const double seconds = cli_now() - start;
    if (load_s)
        *load_s = seconds;
    if (zamba_model_info_get(*model, &info, err) != ZAMBA_OK) {
        zamba_model_close(*model);
        *model = NULL;
        return err->code;
    }
    char params[32], bytes[32];
    cli_note("%s: %s (config: %s), %s parameters, %s of %s, loaded in %.3f s", path, info.family, info.dialect,
             cli_count((double)info.n_params, params), cli_bytes((double)info.weight_bytes, bytes), info.dtype,
             seconds);
    cli_note("%d threads, %s kernels, products in %s, keys in %s, values in %s", info.n_threads, info.kernels,
             info.compute, info.kv_k, info.kv_v);
    return ZAMBA_OK;
}

int cli_model_open(const cli_args *args, const char *path, zamba_model **model, double *load_s)
{
    zamba_error err = {0};
    return cli_model_try(args, path, model, load_s, &err) == ZAMBA_OK ? 0 : cli_fail(&err);
}

int cli_no_more_words(const cli_args *args, size_t used)
{
    if (args->words.n <= used)
        return 0;
    cli_error("'%s' is one word too many (quote text that has spaces)", args->words.items[used]);
    return cli_hint(args->command);
}

char *cli_served_name(const char *path)
{
    char of_hub[450];
    if (hub_name_of_path(of_hub, sizeof of_hub, path))
        return strdup(of_hub);
    char *name = strdup(path);
    size_t n = name ? strlen(name) : 0;
    while (n > 1 && name[n - 1] == '/')
        name[--n] = 0;
    if (n > 5 && strcmp(name + n - 5, ".gguf") == 0)
        name[n - 5] = 0;
    const char *slash = name ? strrchr(name, '/') : NULL;
    if (slash && slash[1])
        memmove(name, slash + 1, strlen(slash + 1) + 1);
    return name;
}
