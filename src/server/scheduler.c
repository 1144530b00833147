/* scheduler.c — the engine's thread: gives slots to what waits, and step by step feeds all of them through one forward
 * pass: pieces of prompts, a token of every answer. Everything here but what stands under the lock belongs to this
 * thread alone.
 *
 * A job's rows do not depend on the rows beside them, pieces end where cuts change no bits, and every job has a sampler
 * of its own: so an answer depends on its own request only. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "clock.h"
#include "engine_impl.h"

enum {
    LEAST_PIECE = 8,  /* tokens of prompts beside answers, however long they take                        */
    FIRST_PIECE = 32, /* the same while it is not known how long they take                                */
};

/* ---- ends ---- */

static void add_stat(sv_engine *e, uint64_t *counter, uint64_t n)
{
    pthread_mutex_lock(&e->lock);
    *counter += n;
    pthread_mutex_unlock(&e->lock);
}

static void add_time(sv_engine *e, sv_histogram *h, double seconds)
{
    pthread_mutex_lock(&e->lock);
    sv_histogram_add(h, seconds);
    pthread_mutex_unlock(&e->lock);
}

static void fill_end(sv_job *j, sv_event *end, zamba_status status, const char *message)
{
    const double now = sv_now();
    zamba_reply_text text;
    end->kind = SV_END;
    end->status = status;
    end->message = message != NULL ? strdup(message) : NULL;
    end->stop = j->stop;
    end->stop_index = j->stop_index;
    end->n_prompt = j->r.n_prompt;
    end->n_generated = j->n_answer;
    end->n_cached = j->n_cached;
    end->total = j->r.n_prompt;
    end->done = j->n_read;
    end->cached = j->n_cached;
    end->kept_prompt = j->kept_prompt;
    end->queued_s = (j->admitted > 0 ? j->admitted : now) - j->arrived;
    end->prefill_s = j->admitted > 0 ? (j->read_at > 0 ? j->read_at : now) - j->admitted : 0;
    end->decode_s = j->read_at > 0 ? now - j->read_at : 0;
    if (status == ZAMBA_OK && zamba_reply_finish(j->reply, &text, NULL) == ZAMBA_OK &&
        !sv_event_text(end, text.text, text.n_bytes))
        end->status = ZAMBA_E_MEMORY;
    if (status == ZAMBA_OK) {
        end->prompt_tokens = j->prompt_tokens;
        j->prompt_tokens = NULL;
        end->hidden = j->hidden;
        j->hidden = NULL;
    }
}

/* The job is over: its state goes, then its caller is told. */
static void end_job(sv_engine *e, sv_job *j, zamba_status status, const char *message)
{
    sv_event *end = j->end;
    const double held = sv_now() - j->admitted;
    const int cancelled = atomic_load(&j->cancelled);
    j->end = NULL;
    if (j->phase != SV_WAITING)
        e->reserved -= j->reserved;
    fill_end(j, end, status, message);
    if (status == ZAMBA_OK && !cancelled)
        sv_keep_end(e, j, end);
    sv_job_strip(j);
    pthread_mutex_lock(&e->lock);
    zamba_sequence *const late = j->fetched;
    j->fetched = NULL;
    j->gone = 1;
    sv_states_count(e, &e->stats);
    sv_queue_leave(&e->queue, &j->queued);
    if (cancelled)
        e->stats.jobs_cancelled++;
    else if (status != ZAMBA_OK)
        e->stats.jobs_failed++;
    else
        e->stats.jobs_done++;
    if (j->n_answer > 1)
        sv_histogram_add(&e->stats.longest_pause, j->longest_pause);
    if (j->phase != SV_WAITING && !cancelled)
        e->service_s = e->service_s > 0 ? 0.9 * e->service_s + 0.1 * held : held;
    if (e->queue.n_waiting + e->queue.n_running == 0)
        pthread_cond_broadcast(&e->idle);
    pthread_mutex_unlock(&e->lock);
    j->phase = SV_ENDED;
    zamba_sequence_close(late);
    sv_job_emit(j, end);
}

/* ---- beginnings ---- */

static int is_late(const sv_queued *what, const void *now)
{
    return ((const sv_job *)what)->deadline <= *(const double *)now;
}

/* Under the lock: what has a slot and room for its state starts. Jobs do not pass each other by, or a large one would
 * wait for ever. */
static void admit(sv_engine *e)
{
    sv_job *j;
    while (e->n_running < e->o.slots && (j = (sv_job *)sv_queue_head(&e->queue)) != NULL &&
           j->reserved <= e->memory - e->reserved) {
        sv_queue_take(&e->queue, &j->queued);
        e->reserved += j->reserved;
        e->running[e->n_running++] = j;
        j->phase = SV_LOADING;
    }
}

static void refuse_late(sv_engine *e)
{
    const double now = sv_now();
    sv_job *j;
    for (;;) {
        pthread_mutex_lock(&e->lock);
        j = (sv_job *)sv_queue_find(&e->queue, is_late, &now);
        if (j != NULL) /* no longer the queue's: nobody else ends it */
            sv_queue_take(&e->queue, &j->queued);
        pthread_mutex_unlock(&e->lock);
        if (j == NULL)
            return;
        end_job(e, j, ZAMBA_E_CANCELLED, "the request's time was over before its turn came");
        sv_job_unref(j);
    }
}

static int others_go_on(const sv_engine *e)
{
    for (size_t i = 0; i < e->n_running; i++)
        if (e->running[i]->phase != SV_LOADING && e->running[i]->phase != SV_ENDED)
            return 1;
    return 0;
}

/* A state to begin with. */
static void prepare(sv_engine *e, sv_job *j)
{
    zamba_error err = {0};
    if (j->admitted == 0) {
        j->admitted = sv_now();
        add_time(e, &e->stats.queue_wait, j->admitted - j->arrived);
    }
    zamba_status st = sv_begin(e, j, &err);
    while (st == ZAMBA_E_MEMORY && sv_make_room(e))
        st = sv_begin(e, j, &err);
    if (st == ZAMBA_E_MEMORY && others_go_on(e))
        return; /* another step, when they may have ended */
    if (st != ZAMBA_OK)
        end_job(e, j, st, err.message);
    else if (j->phase == SV_READING)
        sv_job_emit_prefill(j);
}

/* ---- what goes into a step ---- */

/* Where the piece under way has to end at the latest. */
static size_t piece_end(const sv_job *j)
{
    return j->next_keep < j->n_keep ? j->keep_at[j->next_keep] : j->r.n_prompt;
}

/* Seconds that prompts may take beside answers, at most. A step without prompts takes its time whatever the bound is:
 * where that leaves less, prompts take half as long as such a step, because they must go on, too. */
static double prompt_seconds(const sv_engine *e)
{
    const double left = e->o.pause_seconds - e->step_s, least = e->step_s / 2;
    return left > least ? left : least;
}

/* Tokens of prompts in the next step: a step takes as long as one without any, and each of them something more. */
static size_t prompt_budget(const sv_engine *e, size_t n_writing)
{
    size_t n = e->o.prefill_tokens;
    if (e->o.pause_seconds > 0 && n_writing > 0) {
        const double fits = e->token_s > 0 ? prompt_seconds(e) / e->token_s : FIRST_PIECE;
        n = fits < (double)n ? (size_t)fits : n;
        n = n < LEAST_PIECE && n < e->o.prefill_tokens ? LEAST_PIECE : n;
    }
    return n;
}

/* Share the budget among the prompts that are read: chunk by chunk, each step beginning with another one. */
static void plan_prompts(sv_engine *e, size_t budget)
{
    size_t left = budget, rows = 0, given = 0;
    int more = 1;
    while (left > 0 && more) {
        more = 0;
        for (size_t k = 0; k < e->n_running && left > 0; k++) {
            sv_job *j = e->running[(e->turn + k) % e->n_running];
            const size_t at = j->n_read + j->n_piece;
            if (j->phase != SV_READING || at >= piece_end(j))
                continue;
            size_t n = SV_CHUNK - (j->base + at) % SV_CHUNK;
            n = n < piece_end(j) - at ? n : piece_end(j) - at;
            if (n > left) {
                if (e->any_cut)
                    n = left;
                else if (given > 0)
                    continue;
            }
            if (j->prompt_tokens != NULL && rows + n > SV_ALL_ROWS)
                continue;
            rows += j->prompt_tokens != NULL ? n : 0;
            j->n_piece += n;
            given += n;
            left -= n < left ? n : left;
            more = 1;
        }
    }
    e->turn++;
}

/* Returns the number of items; *n_tokens of prompts. */
static size_t plan(sv_engine *e, size_t *n_tokens)
{
    size_t n_writing = 0, n = 0;
    float *logits = e->logits;
    for (size_t i = 0; i < e->n_running; i++) {
        e->running[i]->n_piece = 0;
        n_writing += e->running[i]->phase == SV_WRITING;
    }
    plan_prompts(e, prompt_budget(e, n_writing));
    *n_tokens = 0;
    for (size_t i = 0; i < e->n_running; i++) {
        sv_job *j = e->running[i];
        zamba_batch_item item = {.sequence = j->seq, .want = ZAMBA_LOGITS_LAST, .logits = logits};
        if (j->phase == SV_READING && j->n_piece > 0) {
            item.tokens = j->r.prompt + j->n_read;
            item.n_tokens = j->n_piece;
            *n_tokens += j->n_piece;
            if (j->prompt_tokens != NULL)
                item.want = ZAMBA_LOGITS_ALL;
            else if (j->n_read + j->n_piece < j->r.n_prompt)
                item.want = ZAMBA_LOGITS_NONE;
        } else if (j->phase == SV_WRITING || j->phase == SV_CLOSING) {
            item.tokens = &j->answer[j->n_answer - 1];
            item.n_tokens = 1;
            if (j->phase == SV_CLOSING)
                item.want = ZAMBA_LOGITS_NONE;
        } else {
            continue;
        }
        j->n_rows = item.want == ZAMBA_LOGITS_ALL ? item.n_tokens : item.want == ZAMBA_LOGITS_LAST;
        j->logits = logits;
        logits += j->n_rows * (size_t)e->vocab;
        if (j->n_rows == 0)
            item.logits = NULL;
        e->items[n] = item;
        e->item_jobs[n++] = j;
    }
    return n;
}

static void on_hidden(void *user, size_t item, int32_t layer, size_t first_row, size_t n_rows, const float *rows)
{
    sv_engine *e = user;
    sv_job *j = e->item_jobs[item];
    (void)first_row;
    if (layer != e->n_layers || j->sum == NULL || j->phase != SV_READING)
        return;
    for (size_t i = 0; i < n_rows; i++)
        for (size_t k = 0; k < e->hidden; k++)
            j->sum[k] += (double)rows[i * e->hidden + k];
    memcpy(j->hidden + e->hidden, rows + (n_rows - 1) * e->hidden, e->hidden * sizeof *rows);
}

/* All at once; if that is refused, one by one, so that only those end that cannot go on. */
static void compute(sv_engine *e, size_t n)
{
    const zamba_forward_options o = {.size = sizeof o, .on_hidden = on_hidden, .user = e};
    int hidden = 0;
    for (size_t i = 0; i < n; i++)
        hidden |= e->item_jobs[i]->sum != NULL;
    zamba_status all;
    do
        all = zamba_forward(e->model, e->items, n, hidden ? &o : NULL, NULL);
    while (all == ZAMBA_E_MEMORY && sv_make_room(e));
    if (all == ZAMBA_OK)
        return;
    sv_job *const first = e->item_jobs[0];
    for (size_t i = 0; i < n; i++) {
        zamba_error err = {0};
        sv_job *j = e->item_jobs[i];
        e->item_jobs[0] = j; /* where on_hidden finds it */
        const zamba_status st = zamba_forward(e->model, &e->items[i], 1, hidden ? &o : NULL, &err);
        e->item_jobs[0] = first;
        if (st != ZAMBA_OK)
            end_job(e, j, st, err.message);
    }
}

/* ---- what comes out of a step ---- */

static void finish(sv_engine *e, sv_job *j, zamba_stop why)
{
    j->stop = why;
    /* the last id is chosen but not read: a state that is kept has read it */
    if (j->r.keep_state && why != ZAMBA_STOP_EOS && j->n_answer > 0 && j->phase == SV_WRITING &&
        zamba_sequence_length(j->seq) < e->n_ctx) {
        j->phase = SV_CLOSING;
        return;
    }
    end_job(e, j, ZAMBA_OK, NULL);
}

/* The next id; log-probabilities are the model's own, as the sampler tells them, also where a constraint forbids ids.
 */
static zamba_status sample(sv_engine *e, sv_job *j, const float *row, sv_token *out, zamba_error *err)
{
    zamba_sample s;
    zamba_status st;
    *out = (sv_token){0};
    const int32_t n_top = j->r.top_logprobs;
    if (j->r.constraint.state == NULL) {
        st = zamba_sampler_next(j->sampler, row, &s, err);
        if (st != ZAMBA_OK)
            return st;
        out->logprob = s.logprob;
    } else {
        memcpy(e->masked, row, (size_t)e->vocab * sizeof *row);
        j->r.constraint.mask(j->r.constraint.state, e->masked, (size_t)e->vocab);
        st = zamba_sampler_next(j->sampler, e->masked, &s, err);
        if (st != ZAMBA_OK)
            return st;
    }
    out->id = s.id;
    if (n_top > 0) {
        out->top = malloc((size_t)n_top * sizeof *out->top);
        if (out->top == NULL)
            return sv_fail(err, ZAMBA_E_MEMORY, "log-probabilities: out of memory");
    }
    if (j->r.constraint.state == NULL) {
        out->n_top = s.n_top;
        if (s.n_top > 0)
            memcpy(out->top, s.top, s.n_top * sizeof *out->top);
    } else if (n_top >= 0) {
        st = zamba_logprobs(row, e->vocab, s.id, &out->logprob, out->top, (size_t)n_top, &out->n_top, err);
    }
    return st;
}

static int note_answer(sv_job *j, int32_t id)
{
    if (j->n_answer == j->answer_capacity) {
        const size_t capacity = j->answer_capacity > 0 ? 2 * j->answer_capacity : 64;
        int32_t *p = realloc(j->answer, capacity * sizeof *p);
        if (p == NULL)
            return 0;
        j->answer = p;
        j->answer_capacity = capacity;
    }
    j->answer[j->n_answer++] = id;
    return 1;
}

static void count_token(sv_engine *e, sv_job *j)
{
    const double now = sv_now(), pause = now - j->last_token;
    pthread_mutex_lock(&e->lock);
    e->stats.generated_tokens++;
    if (j->n_answer == 1) {
        sv_histogram_add(&e->stats.first_token, now - j->arrived);
    } else {
        sv_histogram_add(&e->stats.between_tokens, pause);
        j->longest_pause = pause > j->longest_pause ? pause : j->longest_pause;
    }
    pthread_mutex_unlock(&e->lock);
    j->last_token = now;
}

static void choose(sv_engine *e, sv_job *j, const float *row)
{
    zamba_error err = {0};
    zamba_reply_text text;
    sv_token token;
    zamba_status st = sample(e, j, row, &token, &err);
    if (st == ZAMBA_OK)
        st = zamba_reply_push(j->reply, token.id, &text, &err);
    if (st == ZAMBA_OK && text.stopped && text.stop == ZAMBA_STOP_EOS) {
        free(token.top);
        finish(e, j, ZAMBA_STOP_EOS);
        return;
    }
    if (st == ZAMBA_OK && !note_answer(j, token.id))
        st = sv_fail(&err, ZAMBA_E_MEMORY, "answer: out of memory");
    if (st != ZAMBA_OK) {
        free(token.top);
        end_job(e, j, st, err.message);
        return;
    }
    count_token(e, j);
    const int complete = j->r.constraint.state != NULL && j->r.constraint.accept != NULL &&
                         j->r.constraint.accept(j->r.constraint.state, token.id);
    j->stop_index = text.stop_index;
    if (!sv_job_emit_token(j, &token, &text)) {
        free(token.top);
        end_job(e, j, ZAMBA_E_MEMORY, "answer: out of memory");
    } else if (text.stopped) {
        finish(e, j, text.stop);
    } else if (complete) {
        finish(e, j, ZAMBA_STOP_EOS);
    } else if ((j->r.max_tokens >= 0 && j->n_answer >= (size_t)j->r.max_tokens) || atomic_load(&j->enough)) {
        finish(e, j, ZAMBA_STOP_LENGTH);
    } else if (zamba_sequence_length(j->seq) >= e->n_ctx) {
        finish(e, j, ZAMBA_STOP_CONTEXT);
    } else {
        j->phase = SV_WRITING;
    }
}

/* Log-probabilities of the prompt's ids: a row tells of the id behind it. */
static zamba_status score_prompt(sv_engine *e, sv_job *j, zamba_error *err)
{
    const size_t n_top = j->r.prompt_logprobs > 0 ? (size_t)j->r.prompt_logprobs : 0;
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < j->n_rows && st == ZAMBA_OK; i++) {
        const size_t at = j->n_read + i + 1;
        if (at >= j->r.n_prompt)
            break;
        sv_token *t = &j->prompt_tokens[at];
        t->id = j->r.prompt[at];
        if (n_top > 0) {
            t->top = malloc(n_top * sizeof *t->top);
            if (t->top == NULL)
                return sv_fail(err, ZAMBA_E_MEMORY, "log-probabilities: out of memory");
        }
        st = zamba_logprobs(j->logits + i * (size_t)e->vocab, e->vocab, t->id, &t->logprob, t->top, n_top, &t->n_top,
                            err);
    }
    return st;
}

static void after_prompt(sv_engine *e, sv_job *j)
{
    zamba_error err = {0};
    zamba_status st = j->prompt_tokens != NULL ? score_prompt(e, j, &err) : ZAMBA_OK;
    if (st != ZAMBA_OK) {
        end_job(e, j, st, err.message);
        return;
    }
    j->n_read += j->n_piece;
    add_stat(e, &e->stats.prompt_tokens, j->n_piece);
    sv_keep_here(e, j);
    sv_job_emit_prefill(j);
    if (j->n_read < j->r.n_prompt)
        return;
    j->read_at = j->last_token = sv_now();
    for (size_t k = 0; j->sum != NULL && k < e->hidden; k++)
        j->hidden[k] = (float)(j->sum[k] / (double)(j->r.n_prompt - j->n_cached));
    if (j->r.max_tokens == 0)
        finish(e, j, ZAMBA_STOP_LENGTH);
    else
        choose(e, j, j->logits + (j->n_rows - 1) * (size_t)e->vocab);
}

/* Nothing can be computed: states are on their way. */
static void wait_a_little(sv_engine *e)
{
    pthread_mutex_lock(&e->lock);
    if (!e->closing)
        sv_cond_wait_until(&e->work, &e->lock, sv_now() + 0.002);
    pthread_mutex_unlock(&e->lock);
}

/* What was learned of the time that steps take. Prompts' tokens are rather thought too dear than too cheap: what takes
 * longer than expected breaks the bound, what takes less only makes smaller pieces. */
static void learn(sv_engine *e, size_t n_tokens, double took)
{
    if (n_tokens == 0) {
        e->step_s = e->step_s > 0 ? 0.8 * e->step_s + 0.2 * took : took;
    } else if (n_tokens >= LEAST_PIECE) {
        const double more = took > e->step_s ? took - e->step_s : 0, each = more / (double)n_tokens,
                     share = e->token_s <= 0     ? 1
                             : each > e->token_s ? 0.5
                                                 : 0.1;
        e->token_s += share * (each - e->token_s);
    }
}

static void count_step(sv_engine *e, size_t n, size_t n_tokens, size_t n_writing, double took)
{
    const double bound = e->o.pause_seconds > 0 ? e->step_s + prompt_seconds(e) : 0;
    pthread_mutex_lock(&e->lock);
    e->stats.steps++;
    e->stats.batch_rows = 0.95 * e->stats.batch_rows + 0.05 * (double)n;
    e->stats.pause_bound = bound;
    if (n_tokens > 0 && n_writing > 0) {
        sv_histogram_add(&e->stats.mixed_step, took);
        e->stats.mixed_tokens += n_tokens;
        e->stats.mixed_late += bound > 0 && took > bound;
    }
    pthread_mutex_unlock(&e->lock);
}

static void step(sv_engine *e)
{
    size_t n_tokens, n_writing = 0;
    const double start = sv_now();
    const size_t n = plan(e, &n_tokens);
    if (n == 0) {
        wait_a_little(e);
        return;
    }
    compute(e, n);
    for (size_t i = 0; i < n; i++) {
        sv_job *j = e->item_jobs[i];
        n_writing += j->phase == SV_WRITING;
        if (j->phase == SV_READING)
            after_prompt(e, j);
        else if (j->phase == SV_WRITING)
            choose(e, j, j->logits);
        else if (j->phase == SV_CLOSING)
            end_job(e, j, ZAMBA_OK, NULL);
    }
    const double took = sv_now() - start;
    count_step(e, n, n_tokens, n_writing, took);
    learn(e, n_tokens, took);
}

/* ---- the thread ---- */

/* What was given up or is late ends before the next step; what has ended leaves its slot. */
static void sweep(sv_engine *e, int all)
{
    const double now = sv_now();
    size_t n = 0;
    for (size_t i = 0; i < e->n_running; i++) {
        sv_job *j = e->running[i];
        if (j->phase != SV_ENDED && (all || atomic_load(&j->cancelled)))
            end_job(e, j, ZAMBA_E_CANCELLED, all ? "the server stopped" : "the caller left");
        else if (j->phase != SV_ENDED && j->deadline <= now)
            end_job(e, j, ZAMBA_E_CANCELLED, "the request's time is over");
        if (j->phase == SV_ENDED)
            sv_job_unref(j);
        else
            e->running[n++] = j;
    }
    e->n_running = n;
}

static void end_waiting(sv_engine *e)
{
    for (;;) {
        pthread_mutex_lock(&e->lock);
        sv_job *j = (sv_job *)sv_queue_head(&e->queue);
        if (j != NULL)
            sv_queue_take(&e->queue, &j->queued);
        pthread_mutex_unlock(&e->lock);
        if (j == NULL)
            return;
        end_job(e, j, ZAMBA_E_CANCELLED, "the server stopped");
        sv_job_unref(j);
    }
}

/* Under the lock. After a second without work the memory of the last rush goes back to the system. */
static void wait_for_work(sv_engine *e)
{
    const double idle_at = sv_now() + 1;
    int trimmed = 0;
    while (e->n_running == 0 && !e->closing) {
        if (trimmed)
            pthread_cond_wait(&e->work, &e->lock);
        else
            sv_cond_wait_until(&e->work, &e->lock, idle_at);
        admit(e);
#if defined(__GLIBC__)
        if (e->n_running == 0 && !e->closing && !trimmed && sv_now() >= idle_at) {
            pthread_mutex_unlock(&e->lock);
            malloc_trim(0);
            pthread_mutex_lock(&e->lock);
            trimmed = 1;
            admit(e);
        }
#else
        trimmed = 1;
#endif
    }
}

void *sv_engine_run(void *engine)
{
    sv_engine *e = engine;
    for (;;) {
        sweep(e, 0);
        refuse_late(e);
        pthread_mutex_lock(&e->lock);
        admit(e);
        wait_for_work(e);
        const int closing = e->closing;
        pthread_mutex_unlock(&e->lock);
        if (closing)
            break;
        for (size_t i = 0; i < e->n_running; i++)
            if (e->running[i]->phase == SV_LOADING)
                prepare(e, e->running[i]);
        step(e);
    }
    sweep(e, 1);
    end_waiting(e);
    return NULL;
}
