/* app.h — what the routes answer with: the models that are served, and what was asked for on the command line. Made by
 * `zamba serve`, constant while the server runs (the engines have locks of their own). */
#ifndef SV_APP_H
#define SV_APP_H

#include "models.h"

typedef struct sv_app {
    sv_models *models;
    size_t slots;
    int log_prompts; /* prompts may be written to the log */
    double timeout;  /* seconds that an answer may take; 0: any */
    double started;  /* of time(): seconds since 1970 */
    struct sv_http *http;
    struct sv_page *page;
    uint64_t cache_bytes, states_bytes; /* of states read and saved, of each model; 0: none, as it comes */
} sv_app;

#endif
