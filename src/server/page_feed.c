/* page_feed.c — what changed, told to every tab as a stream of events: the last ones are kept, so that a tab whose
 * connection broke misses nothing. Its thread is also the page's clock: heartbeats, and models that come and go. */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "page_impl.h"
#include "sse.h"

#define KEPT       1024               /* events */
#define KEPT_BYTES ((size_t)16 << 20) /* of them */
#define BEAT       15.0               /* seconds */
#define TICK       0.25

typedef struct change {
    uint64_t seq;
    char *owner; /* NULL: for everybody */
    const char *name;
    char *text;
    size_t n;
} change;

typedef struct reader {
    sv_feed *feed;
    sv_exchange *r;
    struct reader *next;
    char *owner;
    uint64_t at; /* the next that it gets */
    int begun, missed, said_bye;
    double beat;
} reader;

struct sv_feed {
    sv_page *page;
    pthread_mutex_t lock;
    pthread_cond_t over;
    pthread_t thread;
    int has_thread, closing, leaving;
    change ring[KEPT]; /* seq % KEPT */
    uint64_t first, next;
    size_t bytes;
    reader *readers;
};

static void drop_first(sv_feed *f)
{
    change *c = f->ring + f->first++ % KEPT;
    f->bytes -= c->n;
    free(c->owner);
    free(c->text);
    *c = (change){0};
}

void sv_feed_tell(sv_feed *f, const char *owner, const char *name, json_t *o)
{
    pthread_mutex_lock(&f->lock);
    const uint64_t seq = f->next;
    json_object_set_new(o, "seq", json_integer((json_int_t)seq));
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    if (text) {
        const change c = {seq, owner ? strdup(owner) : NULL, name, text, strlen(text)};
        while (f->next - f->first >= KEPT || (f->bytes + c.n > KEPT_BYTES && f->first < f->next))
            drop_first(f);
        f->ring[seq % KEPT] = c;
        f->bytes += c.n;
        f->next++;
        for (reader *x = f->readers; x; x = x->next)
            sv_http_wake(x->r);
    }
    pthread_mutex_unlock(&f->lock);
}

void sv_feed_change(sv_feed *f, const char *owner, const char *tab, const char *kind, const char *op, const char *id,
                    const json_t *object)
{
    json_t *o = json_pack("{s:s,s:s,s:s}", "tab", tab, "op", op, "id", id);
    const json_t *chat = json_object_get(object, "chat");
    if (strcmp(kind, "node") == 0 && chat)
        json_object_set(o, "chat", (json_t *)chat);
    json_object_set_new(o, kind, object ? json_incref((json_t *)object) : json_null());
    sv_feed_tell(f, owner, kind, o);
}

int sv_feed_has_readers(sv_feed *f)
{
    pthread_mutex_lock(&f->lock);
    const int any = f->readers != NULL;
    pthread_mutex_unlock(&f->lock);
    return any;
}

/* ---- a tab ---- */

static void hello(reader *x)
{
    json_t *o =
        json_pack("{s:s,s:I,s:b}", "epoch", x->feed->page->epoch, "seq", (json_int_t)(x->at - 1), "missed", x->missed);
    sv_sse_json(x->r, "hello", o);
    json_decref(o);
    x->missed = 0;
    x->beat = sv_now();
}

static void run(sv_exchange *r, void *user)
{
    reader *x = user;
    sv_feed *f = x->feed;
    pthread_mutex_lock(&f->lock);
    if (!x->begun) {
        x->begun = 1;
        sv_sse_begin(r);
        hello(x);
    }
    if (x->at < f->first) { /* it was too slow */
        x->at = f->next;
        x->missed = 1;
        hello(x);
    }
    while (x->at < f->next && sv_http_room(r)) {
        const change *c = f->ring + x->at++ % KEPT;
        if (c->owner && strcmp(c->owner, x->owner) != 0)
            continue;
        sv_sse_event(r, c->name, c->text, c->n);
        x->beat = sv_now();
    }
    if (sv_now() - x->beat >= BEAT) {
        sv_sse_comment(r, "here");
        x->beat = sv_now();
    }
    const int bye = f->leaving && !x->said_bye;
    if (bye)
        x->said_bye = 1;
    pthread_mutex_unlock(&f->lock);
    if (bye) {
        sv_sse_event(r, "bye", "{}", 2);
        sv_http_end(r);
    }
}

static void done(void *user)
{
    reader *x = user;
    sv_feed *f = x->feed;
    pthread_mutex_lock(&f->lock);
    reader **at = &f->readers;
    while (*at && *at != x)
        at = &(*at)->next;
    if (*at)
        *at = x->next;
    pthread_mutex_unlock(&f->lock);
    free(x->owner);
    free(x);
}

void sv_page_events(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    sv_feed *f = p->feed;
    const char *after = sv_http_query(r, "after"), *epoch = sv_http_query(r, "epoch");
    reader *x = calloc(1, sizeof *x);
    char *owner = strdup(sv_http_key(r));
    if (!x || !owner) {
        free(x);
        free(owner);
        sv_http_error(r, 503, NULL, NULL, NULL, "no memory for the request");
        return;
    }
    *x = (reader){.feed = f, .r = r, .owner = owner, .beat = sv_now()};
    pthread_mutex_lock(&f->lock);
    const uint64_t seen = after ? strtoull(after, NULL, 10) : 0;
    const int known = after && (!epoch || strcmp(epoch, p->epoch) == 0) && seen < f->next && seen + 1 >= f->first;
    x->at = known ? seen + 1 : f->next;
    x->missed = after && !known;
    x->next = f->readers;
    f->readers = x;
    pthread_mutex_unlock(&f->lock);
    sv_http_pump(r, run, done, x);
}

/* ---- the clock ---- */

static void *tick(void *feed)
{
    sv_feed *f = feed;
    pthread_mutex_lock(&f->lock);
    while (!f->closing) {
        const double now = sv_now();
        for (reader *x = f->readers; x; x = x->next)
            if (now - x->beat >= BEAT)
                sv_http_wake(x->r);
        sv_cond_wait_until(&f->over, &f->lock, now + TICK);
        if (f->closing)
            break;
        pthread_mutex_unlock(&f->lock);
        sv_loads_look(f->page->loads);
        pthread_mutex_lock(&f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

sv_feed *sv_feed_open(sv_page *p)
{
    sv_feed *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->page = p;
    f->first = f->next = 1;
    pthread_mutex_init(&f->lock, NULL);
    sv_cond_init(&f->over);
    f->has_thread = pthread_create(&f->thread, NULL, tick, f) == 0;
    return f;
}

void sv_feed_leave(sv_feed *f)
{
    pthread_mutex_lock(&f->lock);
    f->leaving = 1;
    for (reader *x = f->readers; x; x = x->next)
        sv_http_wake(x->r);
    pthread_mutex_unlock(&f->lock);
}

void sv_feed_close(sv_feed *f)
{
    if (!f)
        return;
    if (f->has_thread) {
        pthread_mutex_lock(&f->lock);
        f->closing = 1;
        pthread_cond_signal(&f->over);
        pthread_mutex_unlock(&f->lock);
        pthread_join(f->thread, NULL);
    }
    while (f->first < f->next)
        drop_first(f);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->over);
    free(f);
}
