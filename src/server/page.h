/* page.h — the server's side of the page (docs/PAGE.md): its files, its chats, the answers that run for it, what it is
 * told of the server. Opened beside the models, closed after HTTP and before them. */
#ifndef SV_PAGE_H
#define SV_PAGE_H

#include "app.h"
#include "http.h"

typedef struct sv_page sv_page;

typedef struct sv_page_options {
    const char *data; /* folder of the history; NULL: chats are not kept      */
    const char *runs; /* folder of training runs, or NULL                     */
    void (*say)(void *user, const char *line);
    void *user;
} sv_page_options;

/* `app` outlives it; its `page` and `http` are set before the first request. E_MEMORY. */
zamba_status sv_page_open(sv_page **out, const sv_app *app, const sv_page_options *o, zamba_error *err);
/* Routes of the page, behind those of the APIs: as long as the page is open. */
const sv_route *sv_page_routes(const sv_page *p, size_t *n);
/* The server listens there. */
void sv_page_listens(sv_page *p, const char *url);
/* The server is about to stop: tabs are told, answers go on until the time is over. */
void sv_page_leave(sv_page *p);
int sv_page_drain(sv_page *p, double seconds);
/* After the last request: what is under way is ended and kept as interrupted. */
void sv_page_close(sv_page *p);

/* Where chats are kept unless --data says otherwise: $XDG_DATA_HOME/zamba. Zero: no home. */
int sv_page_data(char *out, size_t n_out);
/* The URL of the server that keeps its chats there; zero: there is none. */
int sv_page_server(const char *data, char *url, size_t n_url);

#endif
