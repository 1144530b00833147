/* api_hold.h — a request's hold on a model. */
#ifndef SV_API_HOLD_H
#define SV_API_HOLD_H

#include "api_fields.h"
#include "app.h"
#include "http.h"

/* Answers the request before it returns; the model is held. `body` as it was given. */
typedef void (*sv_then)(sv_exchange *r, const sv_app *app, const sv_served *served, json_t *body);

/* Call `then` once the model is there: now, or in a pump. The handler ends with it. `body` (or NULL) is the request's.
 */
void sv_api_hold(sv_exchange *r, const sv_app *app, const sv_served *served, json_t *body, sv_then then);

/* A ticket of this request, with the keep_alive of Ollama's. */
void sv_ticket_fill(sv_ticket *t, const sv_served *served, sv_exchange *r, const json_t *body);
/* The reply to one that failed. */
void sv_ticket_refuse(sv_exchange *r, const sv_ticket *t);

#endif
