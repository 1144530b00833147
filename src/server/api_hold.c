/* api_hold.c — requests that need a model and answer at once: the model is held while they do, and waited for before.
 * Runs (api_run.c) hold theirs themselves. */
#include "api_hold.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct held {
    const sv_app *app;
    json_t *body;
    sv_then then;
    sv_ticket ticket;
} held;

void sv_ticket_fill(sv_ticket *t, const sv_served *served, sv_exchange *r, const json_t *body)
{
    const int ollama = strncmp(sv_http_path(r), "/api/", 5) == 0;
    *t = (sv_ticket){.served = served,
                     .key = sv_http_key(r),
                     .keep_alive = ollama ? sv_get_seconds(body, "keep_alive", NAN) : NAN,
                     .wake = sv_http_wake,
                     .user = r};
}

void sv_ticket_refuse(sv_exchange *r, const sv_ticket *t)
{
    const zamba_status st = t->err.code;
    if (t->retry_after > 0 || st == ZAMBA_E_CANCELLED)
        sv_http_fail(r, st, &t->err, NULL, t->retry_after);
    else if (st == ZAMBA_E_MEMORY)
        sv_http_error(r, 503, NULL, "model", "model_has_no_room", "%s", t->err.message);
    else
        sv_http_error(r, 500, NULL, "model", "model_not_loaded", "model %.80s could not be loaded: %.300s",
                      t->served->name, t->err.message);
}

static void close_held(void *user)
{
    held *h = user;
    sv_models_release(&h->ticket);
    free(h);
}

static void run_held(sv_exchange *r, void *user)
{
    held *h = user;
    int stuck;
    const sv_hold state = sv_models_look(&h->ticket, &stuck);
    if (state == SV_HOLD_HELD)
        h->then(r, h->app, h->ticket.served, h->body);
    else if (state == SV_HOLD_FAILED)
        sv_ticket_refuse(r, &h->ticket);
}

void sv_api_hold(sv_exchange *r, const sv_app *app, const sv_served *served, json_t *body, sv_then then)
{
    held *h = calloc(1, sizeof *h);
    if (!h) {
        sv_http_error(r, 503, NULL, NULL, NULL, "no memory for the request");
        return;
    }
    h->app = app;
    h->body = body;
    h->then = then;
    sv_ticket_fill(&h->ticket, served, r, body);
    sv_models_hold(app->models, &h->ticket);
    sv_http_pump(r, run_held, close_held, h);
}
