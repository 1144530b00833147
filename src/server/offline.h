/* offline.h — the routes without a socket: a request is handed in as JSON, its handler and pumps run in the workers as
 * they do behind HTTP, and the reply is there to be read. No keys, no limits of rates: who asks is this process. */
#ifndef SV_OFFLINE_H
#define SV_OFFLINE_H

#include "http.h"

/* A server that listens nowhere. `app` is given to handlers; workers 0: chosen. */
zamba_status sv_offline_open(sv_http **out, int workers, void *app, zamba_error *err);
/* Every request must have been released before. NULL is fine. */
void sv_offline_close(sv_http *h);

/* The one reader of bodies; NULL: `why` says what is wrong and where. */
json_t *sv_offline_read(const char *text, size_t n, char *why, size_t n_why);

/* Ask a route of the APIs by POST; takes a reference of `body` over, which must not ask for a stream. `finished` is
 * called once, from a worker's thread, when the reply can be read: it must not block. NULL: no memory, or no such
 * route. */
sv_exchange *sv_offline_ask(sv_http *h, const char *path, json_t *body, void (*finished)(sv_exchange *r, void *user),
                            void *user);
/* Nobody waits for it any more: it ends soon, without a reply, and `finished` is called. */
void sv_offline_leave(sv_exchange *r);
/* The reply once it is finished; the request's. Status 0: there is none. */
int sv_offline_reply(const sv_exchange *r, const char **bytes, size_t *n);
/* Once it is finished. NULL is fine. */
void sv_offline_release(sv_exchange *r);

#endif
