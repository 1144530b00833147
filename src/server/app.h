/* app.h — what the routes answer with: the models that are served, and what was asked for on the command line. Made by
 * `zamba serve`, constant while the server runs (the engines have locks of their own). */
#ifndef SV_APP_H
#define SV_APP_H

#include "engine.h"

typedef struct sv_served {
    const char *name; /* as clients call it: --alias, or the last part of the path */
    zamba_model *model;
    sv_engine *engine;
    int64_t created; /* seconds since 1970, of the files */
    uint64_t bytes;  /* of the weights */
} sv_served;

typedef struct sv_app {
    const sv_served *models; /* [n_models], at least one; the first is the default */
    size_t n_models;
    size_t n_ctx;
    size_t slots;
    int log_prompts; /* prompts may be written to the log */
    double timeout;  /* seconds that an answer may take; 0: any */
    double started;  /* of time(): seconds since 1970 */
    struct sv_http *http;
} sv_app;

/* The model that a client named, or NULL: none of that name. NULL and "" name the first. */
const sv_served *sv_app_find(const sv_app *app, const char *name);

#endif
