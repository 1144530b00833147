/* eval_score.c — see eval_score.h. A group of items goes through three batches: what the requests of each item share;
 * the rest of each context; the continuations, the only tokens whose logits are computed. */
#include "eval_score.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "eval_tasks.h"
#include "kl.h"
#include "progress.h"

enum {
    LOGIT_BYTES = 64 << 20,  /* of one batch                                        */
    GROUP_TOKENS = 512,      /* a group has enough to fill the cores                */
    MOST_ITEMS = 64,         /* of a group                                          */
    STATE_BYTES = 512 << 20, /* of the states of a group; one item may need more    */
};

/* ---- Tokens ---- */

bool eval_encode(eval_request *out, const zamba_tokenizer *t, const char *context, size_t n_context,
                 const char *continuation, size_t n_continuation, size_t max_length, char *why, size_t n_why)
{
    zamba_error err = {0};
    int32_t *whole = NULL, *alone = NULL;
    size_t n_whole = 0, n_alone = 0, n_bos_piece = 0;
    int32_t bos = zamba_tokenizer_bos(t);
    const char *piece = bos >= 0 ? zamba_tokenizer_piece(t, bos, &n_bos_piece) : NULL;
    const bool has_bos = piece && n_bos_piece && n_context >= n_bos_piece && memcmp(context, piece, n_bos_piece) == 0;
    const unsigned flags = ZAMBA_TOKENIZE_SPECIAL | (has_bos || n_context == 0 ? 0 : ZAMBA_TOKENIZE_BOS);
    const size_t n_space = eval_trailing_space(context, n_context), n_text = n_context + n_continuation;
    char *text = malloc(n_text + 1);
    *out = (eval_request){0};
    if (!text) {
        snprintf(why, n_why, "out of memory");
        return false;
    }
    memcpy(text, context, n_context);
    memcpy(text + n_context, continuation, n_continuation);
    zamba_status st = zamba_tokenize(t, text, n_text, flags, &whole, &n_whole, &err);
    if (st == ZAMBA_OK && n_context)
        st = zamba_tokenize(t, context, n_context - n_space, flags, &alone, &n_alone, &err);
    free(text);
    bos = bos >= 0 ? bos : zamba_tokenizer_eos(t);
    /* without any context the beginning of text is the context; it may be what the continuation begins with */
    const bool put_bos = n_alone == 0 && !(n_context == 0 && n_whole && whole[0] == bos);
    const size_t skip = n_alone == 0 && !put_bos ? 1 : n_alone, lead = put_bos ? 1 : skip;
    if (st != ZAMBA_OK)
        snprintf(why, n_why, "%s", err.message);
    else if (n_whole <= skip)
        snprintf(why, n_why, "the answer has no tokens of its own");
    else if (put_bos && bos < 0)
        snprintf(why, n_why, "the context is empty, and the tokenizer has no beginning of text");
    else if (n_whole - skip > max_length)
        snprintf(why, n_why, "the answer has %zu tokens, the context holds %zu (--ctx-size?)", n_whole - skip,
                 max_length);
    else if (!(out->ids = malloc((lead + n_whole - skip) * sizeof *out->ids)))
        snprintf(why, n_why, "out of memory");
    if (out->ids) {
        out->n_last = n_whole - skip;
        out->n = lead + out->n_last;
        if (put_bos)
            out->ids[0] = bos;
        else
            memcpy(out->ids, n_alone ? alone : whole, lead * sizeof *out->ids);
        memcpy(out->ids + lead, whole + skip, out->n_last * sizeof *out->ids);
        if (out->n > max_length + 1) {
            memmove(out->ids, out->ids + (out->n - max_length - 1), (max_length + 1) * sizeof *out->ids);
            out->n = max_length + 1;
        }
    }
    zamba_free(whole);
    zamba_free(alone);
    return out->ids != NULL;
}

void eval_request_free(eval_request *r)
{
    free(r->ids);
    free(r->each);
    *r = (eval_request){0};
}

double eval_ln_p(const float *logits, size_t vocab, int32_t id, bool *best, bool *finite)
{
    float most;
    double ln_sum;
    int32_t top;
    (void)kl_normalizer(logits, vocab, &most, &top, &ln_sum);
    const double ln_p = (double)logits[id] - (double)most - ln_sum;
    *best = top == id;
    *finite &= !!isfinite(ln_p);
    return ln_p;
}

/* ---- Groups ---- */

/* One request on its way. */
typedef struct lane {
    eval_request *request;
    zamba_sequence *sequence;
    bool forked;         /* the sequence is its own                  */
    size_t read, scored; /* ids read; ids of the continuation scored */
} lane;

typedef struct work {
    const eval_scorer *s;
    size_t vocab, capacity, rows;
    float *logits;           /* [rows, vocab] */
    zamba_sequence **bases;  /* [MOST_ITEMS], opened when first needed, used again by every group */
    zamba_batch_item *batch; /* [n_room] */
    lane *lanes;             /* [n_room] of the group */
    size_t *which, n_room;   /* lanes of the batch; how many fit */
} work;

/* How many ids from the first on all requests of an item have in common, without those whose logits are needed. */
static size_t shared_ids(const eval_item *item)
{
    const eval_request *a = &item->requests[0];
    size_t n = a->n - 1 - a->n_last;
    for (size_t i = 1; i < item->n_requests; i++) {
        const eval_request *b = &item->requests[i];
        const size_t most = b->n - 1 - b->n_last;
        size_t same = 0;
        n = n < most ? n : most;
        while (same < n && a->ids[same] == b->ids[same])
            same++;
        n = same;
    }
    return n;
}

static int forward(const work *w, size_t n)
{
    zamba_error err = {0};
    if (n && zamba_forward(w->s->model, w->batch, n, NULL, &err) != ZAMBA_OK)
        return cli_fail(&err);
    return 0;
}

/* Read the shared ids of every item and give every request a sequence. */
static int begin(work *w, const eval_item *items, size_t n_items, size_t *n_lanes)
{
    zamba_error err = {0};
    size_t n_batch = 0;
    *n_lanes = 0;
    for (size_t i = 0; i < n_items; i++) {
        const size_t n = shared_ids(&items[i]);
        if (!w->bases[i] && zamba_sequence_open(&w->bases[i], w->s->model, w->capacity, &err) != ZAMBA_OK)
            return cli_fail(&err);
        zamba_sequence_reset(w->bases[i]);
        if (n)
            w->batch[n_batch++] = (zamba_batch_item){
                .sequence = w->bases[i], .tokens = items[i].requests[0].ids, .n_tokens = n, .want = ZAMBA_LOGITS_NONE};
    }
    const int code = forward(w, n_batch);
    if (code)
        return code;
    for (size_t i = 0; i < n_items; i++) {
        const size_t n = zamba_sequence_length(w->bases[i]);
        for (size_t k = items[i].n_requests; k-- > 0;) { /* the first goes on with the sequence itself, so it is last */
            lane l = {.request = &items[i].requests[k], .sequence = w->bases[i], .forked = k > 0, .read = n};
            if (k && zamba_sequence_fork(&l.sequence, w->bases[i], &err) != ZAMBA_OK)
                return cli_fail(&err);
            w->lanes[(*n_lanes)++] = l;
        }
    }
    return 0;
}

/* The rest of the contexts: all but the last id of each, whose logits are the first that count. */
static int contexts(work *w, size_t n_lanes)
{
    size_t n_batch = 0;
    for (size_t i = 0; i < n_lanes; i++) {
        lane *l = &w->lanes[i];
        const size_t n = l->request->n - 1 - l->request->n_last - l->read;
        if (n)
            w->batch[n_batch++] = (zamba_batch_item){
                .sequence = l->sequence, .tokens = l->request->ids + l->read, .n_tokens = n, .want = ZAMBA_LOGITS_NONE};
        l->read += n;
    }
    return forward(w, n_batch);
}

/* The last id of each context and the continuations without their last, in batches of at most w->rows rows. */
static int continuations(work *w, size_t n_lanes)
{
    bool finite = true;
    for (size_t first = 0; first < n_lanes;) {
        size_t n_batch = 0, rows = 0, i = first;
        for (; i < n_lanes && rows < w->rows; i++) {
            const lane *l = &w->lanes[i];
            const size_t left = l->request->n_last - l->scored, n = left < w->rows - rows ? left : w->rows - rows;
            w->batch[n_batch] = (zamba_batch_item){.sequence = l->sequence,
                                                   .tokens = l->request->ids + l->read,
                                                   .n_tokens = n,
                                                   .want = ZAMBA_LOGITS_ALL,
                                                   .logits = w->logits + rows * w->vocab};
            w->which[n_batch++] = i;
            rows += n;
        }
        const int code = forward(w, n_batch);
        if (code)
            return code;
        for (size_t b = 0; b < n_batch; b++) {
            lane *l = &w->lanes[w->which[b]];
            for (size_t r = 0; r < w->batch[b].n_tokens; r++) {
                bool best;
                const double ln_p =
                    eval_ln_p(w->batch[b].logits + r * w->vocab, w->vocab, l->request->ids[++l->read], &best, &finite);
                if (l->request->each)
                    l->request->each[l->scored] = ln_p;
                l->scored++;
                l->request->ln_p += ln_p;
                l->request->n_best += best;
            }
        }
        while (first < n_lanes && w->lanes[first].scored == w->lanes[first].request->n_last)
            first++;
    }
    return finite ? 0 : cli_error("the logits are not finite");
}

/* How many items from items[0] on go together. */
static size_t group_size(const work *w, const eval_item *items, size_t n_items, size_t most_states)
{
    size_t n = 0, tokens = 0, states = 0;
    while (n < n_items && n < MOST_ITEMS && tokens < GROUP_TOKENS) {
        const eval_item *item = &items[n];
        states += item->n_requests;
        if (n && (states > most_states || states > w->n_room))
            break;
        tokens += shared_ids(item);
        n++;
    }
    return n;
}

int eval_score(const eval_scorer *s, eval_item *items, size_t n_items)
{
    zamba_error err = {0};
    zamba_model_info info = {.size = sizeof info};
    zamba_memory_info memory = {.size = sizeof memory};
    work w = {.s = s, .n_room = MOST_ITEMS * 4};
    int code = 0;
    if (zamba_model_info_get(s->model, &info, &err) != ZAMBA_OK ||
        zamba_model_memory(s->model, &memory, &err) != ZAMBA_OK)
        return cli_fail(&err);
    w.vocab = (size_t)info.vocab_size;
    w.rows = LOGIT_BYTES / (w.vocab * sizeof(float));
    w.rows = w.rows < 16 ? 16 : w.rows;
    for (size_t i = 0; i < n_items; i++) {
        w.n_room = items[i].n_requests > w.n_room ? items[i].n_requests : w.n_room;
        for (size_t k = 0; k < items[i].n_requests; k++)
            w.capacity = items[i].requests[k].n > w.capacity ? items[i].requests[k].n : w.capacity;
    }
    const uint64_t state = memory.state_per_sequence + memory.kv_per_token * w.capacity;
    const size_t most_states = (size_t)(STATE_BYTES / (state ? state : 1));
    w.logits = malloc(w.rows * w.vocab * sizeof *w.logits);
    w.bases = calloc(MOST_ITEMS, sizeof *w.bases);
    w.batch = calloc(w.n_room, sizeof *w.batch);
    w.lanes = calloc(w.n_room, sizeof *w.lanes);
    w.which = calloc(w.n_room, sizeof *w.which);
    if (!w.logits || !w.bases || !w.batch || !w.lanes || !w.which)
        code = cli_error("out of memory");
    progress bar;
    progress_begin(&bar, s->progress, s->color, s->task, "items", n_items);
    for (size_t at = 0; code == 0 && at < n_items;) {
        const size_t n = group_size(&w, items + at, n_items - at, most_states);
        size_t n_lanes = 0;
        code = begin(&w, items + at, n, &n_lanes);
        if (code == 0)
            code = contexts(&w, n_lanes);
        if (code == 0)
            code = continuations(&w, n_lanes);
        for (size_t i = 0; i < n_lanes; i++)
            if (w.lanes[i].forked)
                zamba_sequence_close(w.lanes[i].sequence);
        at += n;
        progress_update(&bar, at);
    }
    progress_end(&bar);
    for (size_t i = 0; w.bases && i < MOST_ITEMS; i++)
        zamba_sequence_close(w.bases[i]);
    free(w.logits);
    free(w.bases);
    free(w.batch);
    free(w.lanes);
    free(w.which);
    return code;
}
