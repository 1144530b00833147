/* metrics.h — the routes /metrics and /props, whose app is an sv_app. */
#ifndef SV_METRICS_H
#define SV_METRICS_H

#include "http.h"

extern const sv_route sv_metrics_routes[];
extern const size_t sv_n_metrics_routes;

#endif
