/* hub.h — models of the Hugging Face hub: names, the cache on disk that other programs share, and getting what is
 * absent. All that others see of src/hub/. It never prints; who calls it shows what is going on. */
#ifndef HUB_H
#define HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "zamba.h"

/* ---- Names ---- */

/* Org/Name[@revision][:QUANT], or Org/Name/file.gguf[@revision]. In front may stand hf://, hf.co/, huggingface.co/. */
typedef struct hub_name {
    char repo[200];     /* "Org/Name"                     */
    char revision[200]; /* branch, tag or commit: "main"  */
    char file[512];     /* of the repository, or ""       */
    char quant[32];     /* of a GGUF file, or ""          */
} hub_name;

/* E_ARG says what is wrong. Knows no disk and no network: whether a local folder wins is for the caller to see. */
zamba_status hub_name_parse(hub_name *out, const char *word, zamba_error *err);

/* If a path leads into the cache, the name of its model ("Org/Name", or "Org/Name:Q4_K_M"). */
bool hub_name_of_path(char *out, size_t n_out, const char *path);

/* ---- Places: HF_HUB_CACHE, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE ---- */

/* The cache's folder, which may not be there yet. */
zamba_status hub_cache_folder(char *out, size_t n_out, zamba_error *err);
const char *hub_endpoint(void);
bool hub_is_offline(void);

/* NULL, or why this build cannot get models. */
const char *hub_cannot_pull(void);

/* ---- The cache ---- */

/* The checkpoint folder or GGUF file of a name, if all of it is there. Does not ask the hub.
 *  Errors   E_ARG: no name of a model. E_NOT_FOUND: not there, or not all of it (the message says what is missing). */
zamba_status hub_find(char *path, size_t n_path, const char *word, zamba_error *err);

typedef struct hub_entry {
    char *name; /* by which it is found: "Org/Name", "Org/Name@revision", "Org/Name:Q4_K_M"          */
    char *path;
    char *type;      /* "zamba2", another model_type or GGUF architecture, or "?"                         */
    char *license;   /* as its README or its GGUF metadata says, or ""                                    */
    char *dtype;     /* "bfloat16", "gptq", "Q4_K_M", or ""                                               */
    char commit[72]; /* "" outside of the cache                                                           */
    uint64_t bytes;  /* of its files                                                                      */
    int64_t when;    /* the last change of one of them, seconds since 1970                                */
    bool complete;
} hub_entry;

/* What is in the cache and has weights (or is not complete), sorted by name. Damaged folders are passed over. */
zamba_status hub_list(hub_entry **out, size_t *n, zamba_error *err);
void hub_list_free(hub_entry *entries, size_t n);
/* The same of one folder or GGUF file anywhere. hub_entry_free() afterwards. */
zamba_status hub_describe(hub_entry *out, const char *name, const char *path, zamba_error *err);
void hub_entry_free(hub_entry *entry);

/* Sorted names of a folder's entries, NULL at the end; NULL if there is no such folder. */
char **hub_names_of_folder(const char *path);
void hub_free_folder_names(char **names);

/* Remove a model from the cache: without a revision, quantization or file all that is there of it, else the snapshot or
 * the files named, and the bytes that nothing else needs. With `pretend` only counts. */
zamba_status hub_remove(const char *word, bool pretend, uint64_t *bytes, zamba_error *err);

/* ---- Getting ---- */

typedef struct hub_pulled {
    char path[4096]; /* folder or GGUF file                                    */
    char commit[72];
    size_t n_files;
    uint64_t bytes, fetched; /* of all files; of those, what came over the network now */
} hub_pulled;

typedef struct hub_pull_options {
    const char *word;
    int connections; /* files at the same time: 4                                        */
    int retries;     /* in a row without progress, of one file: 5                        */
    bool verify;     /* read files that are there already and compare their sums as well */
    void *user;
    /* All may be NULL; called in the calling thread. */
    void (*planned)(void *user, size_t n_files, uint64_t bytes, uint64_t here);
    void (*progress)(void *user, uint64_t done, uint64_t total);
    void (*note)(void *user, const char *text);
    bool (*cancelled)(void *user); /* asked ten times a second: true ends with E_CANCELLED */
} hub_pull_options;

hub_pull_options hub_pull_defaults(void);

/* Ask the hub what a name is now, and get what is not here. What was got stays when it fails or is stopped, and the
 * next call goes on there; calls of several processes at once wait for each other, file by file. The name is found by
 * hub_find() only when all is there.
 *  Errors   E_ARG, E_UNSUPPORTED (this build; a repository without weights that can be read), E_NOT_FOUND, E_IO
 * (network, disk), E_FORMAT (sums, hostile names), E_CANCELLED. */
zamba_status hub_pull(const hub_pull_options *options, hub_pulled *pulled, zamba_error *err);

#endif
