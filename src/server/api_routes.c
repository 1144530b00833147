/* api_routes.c — the table of the APIs' routes. */
#include "http.h"

const sv_route sv_api_routes[] = {{NULL, NULL, NULL, 0, 0}}; /* an empty one ends it */
const size_t sv_n_api_routes = sizeof sv_api_routes / sizeof *sv_api_routes - 1;
