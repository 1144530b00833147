/* page_impl.h — what the files of the page's side share: the page, what every handler does, and the handlers. */
#ifndef SV_PAGE_IMPL_H
#define SV_PAGE_IMPL_H

#include "api_fields.h"
#include "history.h"
#include "page.h"
#include "utf16.h"

typedef struct sv_feed sv_feed;
typedef struct sv_answers sv_answers;

enum { SV_PAGE_PROTOCOL = 1 };

struct sv_page {
    const sv_app *app;
    sv_history *history; /* NULL: built without */
    sv_feed *feed;
    sv_answers *answers;
    struct sv_loads *loads;
    char *runs;
    char epoch[25]; /* of this run of the server */
    sv_route *routes;
    size_t n_routes;
};

static inline sv_page *sv_page_of(const void *app)
{
    return ((const sv_app *)app)->page;
}

/* The reply to a refusal; `current` (taken over, or NULL) is the newer object beside it. */
void sv_page_refuse(sv_exchange *r, const sv_bad *bad, json_t *current);
/* A file to keep: Content-Disposition. */
void sv_page_download(sv_exchange *r, const char *name);
/* X-Zamba-Tab, or "". */
const char *sv_page_tab(const sv_exchange *r);

/* ---- page_feed.c: what changed, to all tabs ---- */

sv_feed *sv_feed_open(sv_page *p);
void sv_feed_leave(sv_feed *f);
void sv_feed_close(sv_feed *f);
/* Takes `o` over. owner NULL: for everybody. */
void sv_feed_tell(sv_feed *f, const char *owner, const char *name, json_t *o);
int sv_feed_has_readers(sv_feed *f);
/* {"tab", "op", "id", kind: object (borrowed, or NULL)} */
void sv_feed_change(sv_feed *f, const char *owner, const char *tab, const char *kind, const char *op, const char *id,
                    const json_t *object);
void sv_page_events(sv_exchange *r, void *app);

/* ---- page_settings.c ---- */

json_t *sv_settings_defaults(void);
int sv_settings_check(const json_t *settings, sv_bad *bad);
/* The later ones count; null takes away. */
json_t *sv_settings_merge(const json_t *chat, const json_t *request);

/* ---- page_static.c ---- */

size_t sv_page_n_static(void);
void sv_page_static_routes(sv_route *out);
const char *sv_page_build(void);

/* ---- page_models.c ---- */

struct sv_loads *sv_loads_open(sv_page *p);
void sv_loads_close(struct sv_loads *l);
/* A few times a second: what was loaded and unloaded goes to the feed. */
void sv_loads_look(struct sv_loads *l);
json_t *sv_page_model_list(const sv_page *p);
void sv_page_models(sv_exchange *r, void *app);
void sv_page_model_load(sv_exchange *r, void *app);
void sv_page_model_unload(sv_exchange *r, void *app);
void sv_page_model(sv_exchange *r, void *app);
void sv_page_live(sv_exchange *r, void *app);

/* ---- page_runs.c ---- */

void sv_page_runs(sv_exchange *r, void *app);
void sv_page_run(sv_exchange *r, void *app);
void sv_page_run_metrics(sv_exchange *r, void *app);
void sv_page_run_samples(sv_exchange *r, void *app);
void sv_page_artifacts(sv_exchange *r, void *app);
void sv_page_artifact(sv_exchange *r, void *app);

/* ---- page_talk_*.c: with a history only ---- */

#if defined(ZAMBA_SQLITE)
extern const sv_route sv_talk_routes[];
extern const size_t sv_n_talk_routes;
#endif
sv_answers *sv_answers_open(sv_page *p);
int sv_answers_drain(sv_answers *all, double seconds);
void sv_answers_close(sv_answers *all);

#endif
