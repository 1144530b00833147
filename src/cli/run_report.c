/* run_report.c — see run_report.h. One page for one run or many: many share the charts, a colour each. Long runs are
 * thinned to what a screen can show: a band from the least to the greatest value, and a mean that moves along. */
#include "run_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common.h"
#include "svg_chart.h"

enum {
    MOST_POINTS = 360,
    MOST_SAMPLES = 200,
    OPEN_SAMPLES = 6,
    FULL_WIDTH = 1080,
    MIDDLE_WIDTH = 740,
    HALF_WIDTH = 530,
    SLIM = 356
};

/* ---- Numbers ---------------------------------------------------------------------------------------------------- */

static bool counts(const zamba_train_metrics *m)
{
    return !m->skipped && isfinite(m->loss);
}

run_summary run_summarize(const run_data *d)
{
    run_summary s = {.loss = NAN,
                     .learning_rate = NAN,
                     .grad_norm = NAN,
                     .tokens_per_second = NAN,
                     .seconds_left = NAN,
                     .valid_loss = NAN,
                     .perplexity = NAN,
                     .bits_per_byte = NAN,
                     .best_loss = NAN,
                     .best_perplexity = NAN,
                     .best_bits = NAN,
                     .best_step = -1};
    const size_t n = d->n_steps, tail = n / 20 < 1 ? 1 : n / 20 > 100 ? 100 : n / 20;
    double loss = 0, norm = 0, seconds = 0, tokens = 0;
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        s.n_skipped += d->steps[i].skipped != 0;
        s.seconds += isfinite(d->steps[i].seconds) ? d->steps[i].seconds : 0;
    }
    for (size_t i = n; i > 0 && n - i < tail; i--) {
        const zamba_train_metrics *m = &d->steps[i - 1];
        if (isfinite(m->seconds) && isfinite(m->tokens_per_second)) {
            seconds += m->seconds;
            tokens += m->seconds * m->tokens_per_second;
        }
        if (counts(m)) {
            loss += m->loss;
            norm += m->grad_norm;
            used++;
        }
    }
    if (n > 0) {
        const zamba_train_metrics *last = &d->steps[n - 1];
        s.step = last->step;
        s.total_steps = last->total_steps;
        s.tokens = last->tokens;
        s.learning_rate = last->learning_rate;
        if (last->total_steps > last->step)
            s.seconds_left = seconds / (double)tail * (double)(last->total_steps - last->step);
    }
    if (used > 0) {
        s.loss = loss / (double)used;
        s.grad_norm = norm / (double)used;
    }
    if (seconds > 0)
        s.tokens_per_second = tokens / seconds;
    const run_valid *best = run_data_best(d);
    if (d->n_valids > 0) {
        const run_valid last = d->valids[d->n_valids - 1];
        s.valid_loss = last.loss;
        s.perplexity = run_valid_perplexity(last);
        s.bits_per_byte = run_valid_bits(last);
    }
    if (best) {
        s.best_loss = best->loss;
        s.best_perplexity = run_valid_perplexity(*best);
        s.best_bits = run_valid_bits(*best);
        s.best_step = best->step;
    }
    return s;
}

const char *run_duration(double seconds, char buffer[32])
{
    const long long s = isfinite(seconds) && seconds > 0 ? (long long)fmin(seconds + 0.5, 1e12) : 0;
    if (s >= 3600)
        snprintf(buffer, 32, "%lld h %02lld min", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(buffer, 32, "%lld min %02lld s", s / 60, s % 60);
    else
        snprintf(buffer, 32, "%lld s", s);
    return buffer;
}

/* ---- Curves ----------------------------------------------------------------------------------------------------- */

typedef double (*step_value)(const zamba_train_metrics *m);

static double step_loss(const zamba_train_metrics *m)
{
    return counts(m) ? m->loss : NAN;
}

static double step_rate(const zamba_train_metrics *m)
{
    return m->learning_rate;
}

static double step_norm(const zamba_train_metrics *m)
{
    return m->grad_norm;
}

static double step_speed(const zamba_train_metrics *m)
{
    return m->tokens_per_second;
}

static double step_accuracy(const zamba_train_metrics *m)
{
    return m->accuracy;
}

static double step_margin(const zamba_train_metrics *m)
{
    return m->margin;
}

static double step_chosen(const zamba_train_metrics *m)
{
    return m->chosen_reward;
}

static double step_rejected(const zamba_train_metrics *m)
{
    return m->rejected_reward;
}

static double step_divergence(const zamba_train_metrics *m)
{
    return m->divergence;
}

static double valid_loss(const run_valid *v)
{
    return v->loss;
}

static double valid_perplexity(const run_valid *v)
{
    return run_valid_perplexity(*v);
}

static double valid_bits(const run_valid *v)
{
    return run_valid_bits(*v);
}

/* A curve that was thinned; its arrays are one block. */
typedef struct curve {
    double *x, *mean, *low, *high;
    size_t n;
} curve;

static bool curve_open(curve *c, size_t n)
{
    *c = (curve){.x = malloc((4 * n + 1) * sizeof(double))};
    if (c->x) {
        c->mean = c->x + n;
        c->low = c->mean + n;
        c->high = c->low + n;
    }
    return c->x != NULL;
}

/* Steps in groups. `smooth`: the mean moves along with the curve, over about a 40th of it, and at least some steps. */
static bool curve_of_steps(curve *c, const run_data *d, step_value value, bool smooth)
{
    const size_t n = d->n_steps, points = n < MOST_POINTS ? n : MOST_POINTS;
    const double window = smooth ? fmax(fmin(8, (double)n / 4 + 1), (double)n / 40) : 1;
    double sum = 0, weight = 0;
    if (!curve_open(c, points))
        return false;
    for (size_t p = 0; p < points; p++) {
        const size_t from = n * p / points, to = n * (p + 1) / points;
        double low = INFINITY, high = -INFINITY, plain = 0;
        size_t used = 0;
        for (size_t i = from; i < to; i++) {
            const double v = value(&d->steps[i]);
            if (!isfinite(v))
                continue;
            low = fmin(low, v);
            high = fmax(high, v);
            plain += v;
            used++;
            sum += (v - sum) * fmax(1 / window, 1 / (0.1 * weight + 1)); /* at first over a tenth of what there is */
            weight++;
        }
        if (used == 0)
            continue;
        c->x[c->n] = (double)d->steps[to - 1].step;
        c->low[c->n] = low;
        c->high[c->n] = high;
        c->mean[c->n] = smooth ? sum : plain / (double)used;
        c->n++;
    }
    return true;
}

static bool curve_of_valids(curve *c, const run_data *d, double (*value)(const run_valid *))
{
    if (!curve_open(c, d->n_valids))
        return false;
    for (size_t i = 0; i < d->n_valids; i++) {
        const double v = value(&d->valids[i]);
        if (!isfinite(v))
            continue;
        c->x[c->n] = (double)d->valids[i].step;
        c->mean[c->n] = c->low[c->n] = c->high[c->n] = v;
        c->n++;
    }
    return true;
}

/* ---- Charts ----------------------------------------------------------------------------------------------------- */

typedef struct page {
    FILE *f;
    const run_data *runs;
    size_t n_runs;
    bool failed;
} page;

/* What one chart shows of each run: curves of steps, of held-out data, or both. */
typedef struct card {
    const char *title, *note;
    struct {
        const char *name;
        step_value step;
        double (*valid)(const run_valid *);
        bool smooth;
    } curves[2];
    size_t n_curves;
    bool from_zero;
    enum { THIRD, HALF, FULL } width;
    double cut;
} card;

static void write_keys(page *p, const chart_series *series, size_t n)
{
    char text[32];
    fputs("<div class=\"keys\"><span class=\"at\"></span>", p->f);
    for (size_t i = 0; i < n; i++) {
        const chart_series *s = &series[i];
        if (s->form == CHART_BAND || s->n == 0)
            continue;
        fprintf(p->f, "<span class=\"key\"><i class=\"b%zu\"></i>", s->colour);
        svg_chart_escape(p->f, s->name);
        fprintf(p->f, " <b>%s</b></span>", svg_chart_number(s->y[s->n - 1], 4, text));
    }
    fputs("</div>", p->f);
}

static void write_card(page *p, const card *c)
{
    static const char *const widths[] = {"third", "half", "full"};
    const int width = p->n_runs > 1 && c->width == HALF ? THIRD : c->width; /* there it has a neighbour more */
    const size_t most = p->n_runs * c->n_curves;
    curve *curves = calloc(most, sizeof *curves);
    chart_series *series = calloc(2 * most, sizeof *series);
    char *names = calloc(most, 128);
    size_t n = 0, n_points = 0;
    if (!curves || !series || !names)
        p->failed = true;
    for (size_t i = 0; i < most && !p->failed; i++) {
        const size_t run = i / c->n_curves, k = i % c->n_curves;
        const run_data *d = &p->runs[run];
        curve *one = &curves[i];
        p->failed = !(c->curves[k].step ? curve_of_steps(one, d, c->curves[k].step, c->curves[k].smooth)
                                        : curve_of_valids(one, d, c->curves[k].valid));
        n_points += one->n;
        char *name = names + 128 * i;
        if (p->n_runs == 1)
            snprintf(name, 128, "%s", c->curves[k].name);
        else if (c->n_curves == 1)
            snprintf(name, 128, "%s", d->name);
        else
            snprintf(name, 128, "%.100s, %s", d->name, c->curves[k].name);
        const bool held_out = c->curves[k].valid != NULL;
        const size_t colour = (p->n_runs > 1 ? run : held_out ? 1 : k) % SVG_CHART_COLOURS;
        if (p->n_runs == 1 && c->curves[k].step && d->n_steps > 1)
            series[n++] = (chart_series){
                .colour = colour, .form = CHART_BAND, .x = one->x, .y = one->low, .top = one->high, .n = one->n};
        series[n++] = (chart_series){.name = name,
                                     .colour = colour,
                                     .form = held_out ? CHART_DOTS : CHART_LINE,
                                     .x = one->x,
                                     .y = one->mean,
                                     .n = one->n};
    }
    if (!p->failed && n_points > 0) {
        svg_chart chart = {.title = c->title,
                           .series = series,
                           .n_series = n,
                           .width = SLIM,
                           .height = 210,
                           .from_zero = c->from_zero,
                           .cut = c->cut};
        fprintf(p->f, "<section class=\"card %s\"><h2>%s", widths[width], c->title);
        if (c->note)
            fprintf(p->f, " <small>%s</small>", c->note);
        fputs("</h2>", p->f);
        write_keys(p, series, n);
        svg_chart_write(p->f, &chart, "slim");
        if (width == FULL) {
            chart.width = MIDDLE_WIDTH;
            chart.height = 280;
            svg_chart_write(p->f, &chart, "middle");
        }
        if (width != THIRD) {
            chart.width = width == FULL ? FULL_WIDTH : HALF_WIDTH;
            chart.height = width == FULL ? 330 : 230;
            svg_chart_write(p->f, &chart, "wide");
        }
        fputs("</section>\n", p->f);
    }
    for (size_t i = 0; curves && i < most; i++)
        free(curves[i].x);
    free(curves);
    free(series);
    free(names);
}

static void write_cards(page *p)
{
    static const card one[] = {
        {.title = "Loss",
         .curves = {{"training", step_loss, NULL, true}, {"held-out", NULL, valid_loss, false}},
         .n_curves = 2,
         .width = FULL,
         .cut = 0.02},
        {.title = "Held-out perplexity",
         .width = HALF,
         .curves = {{"perplexity", NULL, valid_perplexity, false}},
         .n_curves = 1,
         .cut = 0.05},
        {.title = "Held-out bits per byte",
         .width = HALF,
         .curves = {{"bits", NULL, valid_bits, false}},
         .n_curves = 1,
         .cut = 0.05},
        {.title = "Learning rate", .curves = {{"rate", step_rate, NULL, false}}, .n_curves = 1, .from_zero = true},
        {.title = "Gradient norm",
         .note = "before clipping",
         .curves = {{"norm", step_norm, NULL, true}},
         .n_curves = 1,
         .from_zero = true,
         .cut = 0.01},
        {.title = "Tokens per second",
         .curves = {{"tokens/s", step_speed, NULL, true}},
         .n_curves = 1,
         .from_zero = true},
        {.title = "Preference accuracy", .curves = {{"accuracy", step_accuracy, NULL, true}}, .n_curves = 1},
        {.title = "Reward margin", .curves = {{"margin", step_margin, NULL, true}}, .n_curves = 1},
        {.title = "Rewards",
         .curves = {{"chosen", step_chosen, NULL, true}, {"rejected", step_rejected, NULL, true}},
         .n_curves = 2},
        {.title = "Divergence from the teacher",
         .curves = {{"divergence", step_divergence, NULL, true}},
         .n_curves = 1},
    };
    static const card more[] = {
        {.title = "Training loss",
         .note = "smoothed",
         .curves = {{"training", step_loss, NULL, true}},
         .n_curves = 1,
         .width = FULL,
         .cut = 0.02},
        {.title = "Held-out loss", .curves = {{"held-out", NULL, valid_loss, false}}, .n_curves = 1, .cut = 0.05},
    };
    const size_t n_one = sizeof one / sizeof *one, first = p->n_runs > 1;
    bool of_tokens = false;
    for (size_t r = 0; r < p->n_runs; r++)
        of_tokens |= strcmp(run_data_unit(&p->runs[r]), "tokens") == 0;
    fputs("<div class=\"grid\">\n", p->f);
    for (size_t i = 0; p->n_runs > 1 && i < sizeof more / sizeof *more; i++)
        write_card(p, &more[i]);
    for (size_t i = first; i < n_one; i++) {
        card c = one[i];
        if (!of_tokens && c.curves[0].valid == valid_perplexity)
            continue;
        if (!of_tokens && c.curves[0].step == step_speed) {
            c.title = "Frames per second";
            c.curves[0].name = "frames/s";
        }
        write_card(p, &c);
    }
    fputs("</div>\n", p->f);
}

/* ---- Pictures that the run itself made ----------------------------------------------------------------------------
 */

static double *numbers_of(const json_t *list, size_t n)
{
    double *x = calloc(n + 1, sizeof *x);
    for (size_t i = 0; x && i < n; i++) {
        const json_t *v = json_array_get(list, i);
        x[i] = json_is_number(v) ? json_number_value(v) : NAN;
    }
    return x;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void write_plot(page *p, const json_t *plot)
{
    enum { MOST_SERIES = 6, MOST_X = 20000 };
    const json_t *list = json_object_get(plot, "series"), *xs = json_object_get(plot, "x");
    const size_t n_x = json_array_size(xs), n_series = json_array_size(list);
    chart_series series[MOST_SERIES];
    double *x = numbers_of(xs, n_x > MOST_X ? MOST_X : n_x), *y[MOST_SERIES] = {0};
    size_t n = 0;
    for (; x && n < n_series && n < MOST_SERIES; n++) {
        const json_t *one = json_array_get(list, n);
        y[n] = numbers_of(json_object_get(one, "y"), n_x > MOST_X ? MOST_X : n_x);
        if (!y[n])
            break;
        series[n] = (chart_series){
            .name = text_of(one, "name"), .colour = n, .x = x, .y = y[n], .n = n_x > MOST_X ? MOST_X : n_x};
    }
    p->failed |= !x || (n < n_series && n < MOST_SERIES);
    if (!p->failed && n > 0 && n_x > 0) {
        svg_chart chart = {.title = text_of(plot, "title"),
                           .series = series,
                           .n_series = n,
                           .unit = text_of(plot, "unit"),
                           .width = SLIM,
                           .height = 210};
        fputs("<section class=\"card full\"><h2>", p->f);
        svg_chart_escape(p->f, chart.title);
        fputs(" <small>", p->f);
        svg_chart_escape(p->f, text_of(plot, "note"));
        fputs("</small></h2>", p->f);
        write_keys(p, series, n);
        svg_chart_write(p->f, &chart, "slim");
        chart.width = MIDDLE_WIDTH;
        svg_chart_write(p->f, &chart, "middle");
        chart.width = FULL_WIDTH;
        svg_chart_write(p->f, &chart, "wide");
        fputs("</section>\n", p->f);
    }
    for (size_t i = 0; i < MOST_SERIES; i++)
        free(y[i]);
    free(x);
}

static void write_plots(page *p, const run_data *d)
{
    size_t i;
    json_t *plot;
    if (json_array_size(d->plots) == 0)
        return;
    fputs("<h2 class=\"part\">What it does</h2>\n<div class=\"grid\">\n", p->f);
    json_array_foreach(d->plots, i, plot) write_plot(p, plot);
    fputs("</div>\n", p->f);
}

/* ---- The page --------------------------------------------------------------------------------------------------- */

static const char STYLE[] =
    "*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;-webkit-text-size-adjust:100%}\n"
    "main{max-width:1160px;margin:0 auto;padding:28px 20px 40px}\n"
    "h1{font-size:26px;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}h2{font-size:15px;margin:0 0 2px}\n"
    "h2 small,.soft{color:var(--soft);font-weight:400}p{margin:0}\n"
    ".bar{height:6px;border-radius:3px;background:var(--rule);margin:12px 0 0;overflow:hidden}"
    ".bar i{display:block;height:100%;background:var(--c0);border-radius:3px}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:18px 0 12px}\n"
    ".tile,.card{background:var(--card);border:1px solid var(--rule);border-radius:10px}\n"
    ".tile{padding:12px 14px}.tile span{display:block;color:var(--soft);font-size:13px}\n"
    ".tile b{display:block;font-size:23px;line-height:1.3;font-weight:650;font-variant-numeric:tabular-nums}\n"
    ".grid{display:grid;grid-template-columns:repeat(6,1fr);gap:12px}\n"
    ".card{padding:14px 14px 8px;min-width:0}.third{grid-column:span 2}.half{grid-column:span "
    "3}.full{grid-column:1/-1}\n"
    ".keys{display:flex;flex-wrap:wrap;gap:0 14px;font-size:13px;color:var(--soft);margin-bottom:6px;min-height:20px;"
    "font-variant-numeric:tabular-nums}\n"
    ".keys b{color:var(--ink);font-weight:600}.key i{display:inline-block;width:10px;height:10px;border-radius:3px;"
    "margin-right:6px}.at{order:9;margin-left:auto}\n"
    ".half .slim,.full .slim,.full .middle{display:none}\n"
    "@media(max-width:940px){.third,.half{grid-column:span 3}.chart.wide{display:none}.chart.slim{display:block}"
    ".full .chart.middle{display:block}.full .chart.slim{display:none}}\n"
    "@media(max-width:720px){.third,.half{grid-column:1/-1}.full .chart.middle{display:none}"
    ".full .chart.slim{display:block}main{padding:20px 12px 32px}h1{font-size:22px}.tile b{font-size:20px}"
    ".tiles{grid-template-columns:1fr 1fr;gap:8px}.grid{gap:8px}}\n"
    ".part{margin:28px 0 10px;font-size:18px}\n"
    ".samples{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,420px),1fr));gap:10px;"
    "align-items:start}details .samples{margin-top:6px}\n"
    ".sample{padding:12px 16px}.sample h3{font-size:13px;margin:0 0 6px;color:var(--soft);"
    "font-weight:600}\n"
    ".sample p{white-space:pre-wrap;overflow-wrap:anywhere;max-width:78ch}.sample .prompt{color:var(--soft)}\n"
    "summary{cursor:pointer;color:var(--soft);padding:8px 2px}\n"
    ".scroll{overflow-x:auto;padding:4px 0}table{border-collapse:collapse;width:100%;font-size:14px}\n"
    "th,td{text-align:left;padding:7px 14px;border-bottom:1px solid var(--rule);vertical-align:top}"
    "tr:last-child td,tr:last-child th{border-bottom:0}\n"
    "th{font-weight:600;color:var(--soft)}td{font-variant-numeric:tabular-nums;overflow-wrap:anywhere}"
    "td.num,th.num{text-align:right;white-space:nowrap}td.key,th.key{white-space:nowrap}.best{font-weight:700}\n"
    "td.key i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:8px}\n"
    ".pairs{columns:2;column-gap:32px;padding:8px 16px}.pairs div{display:flex;justify-content:space-between;gap:16px;"
    "break-inside:avoid;padding:5px 0;border-bottom:1px solid var(--rule);font-size:14px}\n"
    ".pairs span:first-child{color:var(--soft)}.pairs span:last-child{text-align:right;overflow-wrap:anywhere;"
    "min-width:0}@media(max-width:760px){.pairs{columns:1}}\n"
    "footer{margin-top:28px;color:var(--soft);font-size:13px}\n";

/* Values under the pointer: found again from the paths and the scales in their picture. */
static const char SCRIPT[] =
    "document.querySelectorAll('svg.chart').forEach(function(svg){\n"
    "var card=svg.closest('.card'),keys=card.querySelectorAll('.key b'),at=card.querySelector('.at'),\n"
    "lines=[].map.call(svg.querySelectorAll('.line'),function(p){return(p.getAttribute('d').match(/-?[\\d.]+ "
    "-?[\\d.]+/g)||[]).map(function(t){return t.split(' ').map(Number)})}).filter(function(l){return l.length}),\n"
    "x=svg.dataset.x.split(' ').map(Number),y=svg.dataset.y.split(' ').map(Number),cursor=svg.lastElementChild,"
    "rest=[].map.call(keys,function(b){return b.textContent});\n"
    "function value(s,p){return s[0]+(p-s[2])/(s[3]-s[2])*(s[1]-s[0])}\n"
    "function show(v){var a=Math.abs(v);return a>=1e4?Math.round(v).toLocaleString('en'):a&&a<1e-3?"
    "v.toExponential(2).replace('e-0','e-'):String(+v.toPrecision(4))}\n"
    "svg.addEventListener('pointermove',function(e){\n"
    "var r=svg.getBoundingClientRect(),px=(e.clientX-r.left)/r.width*svg.viewBox.baseVal.width,best=null;\n"
    "lines.forEach(function(l){l.forEach(function(p){if(best===null||Math.abs(p[0]-px)<Math.abs(best-px))best=p[0]})});"
    "\n"
    "if(best===null)return;\n"
    "lines.forEach(function(l,i){var q=l[0];l.forEach(function(p){if(p[0]<=best+.05)q=p});"
    "if(keys[i])keys[i].textContent=show(value(y,q[1]))});\n"
    "at.textContent=svg.dataset.unit+' '+Math.round(value(x,best)).toLocaleString('en');\n"
    "cursor.setAttribute('transform','translate('+best+' 0)');cursor.style.visibility='visible'});\n"
    "svg.addEventListener('pointerleave',function(){cursor.style.visibility='hidden';at.textContent='';"
    "keys.forEach(function(b,i){b.textContent=rest[i]})})});\n";

static void tile(page *p, const char *label, const char *value, const char *note)
{
    fprintf(p->f, "<div class=\"tile\"><span>%s</span><b>%s</b><span>%s</span></div>\n", label, value, note);
}

static void head(page *p, const char *title, bool going_on)
{
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
          "<meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\">",
          p->f);
    if (going_on)
        fputs("<meta http-equiv=\"refresh\" content=\"30\">", p->f);
    fputs("<title>", p->f);
    svg_chart_escape(p->f, title);
    fputs("</title>\n<style>\n", p->f);
    svg_chart_style(p->f);
    fputs(STYLE, p->f);
    fputs("</style></head><body><main>\n", p->f);
}

static void foot(page *p)
{
    char when[64] = "";
    const time_t now = time(NULL);
    struct tm parts;
    if (localtime_r(&now, &parts))
        strftime(when, sizeof when, ", %Y-%m-%d %H:%M", &parts);
    fprintf(p->f, "<footer>Written by zamba %s%s. This page needs nothing but itself.</footer>\n</main>\n<script>\n%s",
            zamba_version(), when, SCRIPT);
    fputs("</script></body></html>\n", p->f);
}

static void write_head_of_run(page *p, const run_data *d, bool going_on)
{
    const run_summary s = run_summarize(d);
    char a[32], b[32], value[64], note[96];
    const bool of_tokens = strcmp(run_data_unit(d), "tokens") == 0;
    fputs("<header><h1>", p->f);
    svg_chart_escape(p->f, d->name);
    fprintf(p->f, "</h1><p class=\"soft\">%s step %s",
            d->finished ? "Finished,"
            : going_on  ? "Going on:"
                        : "Stopped at",
            cli_number((uint64_t)s.step, a));
    if (s.total_steps > 0)
        fprintf(p->f, " of %s", cli_number((uint64_t)s.total_steps, b));
    fprintf(p->f, ", after %s", run_duration(s.seconds, a));
    if (going_on && isfinite(s.seconds_left))
        fprintf(p->f, "; about %s left", run_duration(s.seconds_left, a));
    if (s.n_skipped > 0)
        fprintf(p->f, "; %zu step%s skipped", s.n_skipped, s.n_skipped == 1 ? "" : "s");
    fputs(".</p>", p->f);
    if (s.total_steps > 0)
        fprintf(p->f, "<div class=\"bar\"><i style=\"width:%.2f%%\"></i></div>",
                fmin(100, 100.0 * (double)s.step / (double)s.total_steps));
    fputs("</header>\n<div class=\"tiles\">\n", p->f);
    if (isfinite(s.loss)) {
        snprintf(value, sizeof value, "%.4f", s.loss);
        tile(p, "Training loss", value, "mean of the last steps");
    }
    if (isfinite(s.valid_loss)) {
        snprintf(value, sizeof value, "%.4f", s.valid_loss);
        snprintf(note, sizeof note, "best %.4f at step %s", s.best_loss, cli_number((uint64_t)s.best_step, a));
        tile(p, "Held-out loss", value, note);
    }
    if (isfinite(s.valid_loss) && of_tokens) {
        snprintf(value, sizeof value, "%s", svg_chart_number(s.perplexity, 4, a));
        snprintf(note, sizeof note, "best %s", svg_chart_number(s.best_perplexity, 4, a));
        tile(p, "Perplexity", value, note);
    }
    if (isfinite(s.bits_per_byte)) {
        snprintf(value, sizeof value, "%.4f", s.bits_per_byte);
        snprintf(note, sizeof note, "best %.4f", s.best_bits);
        tile(p, "Bits per byte", value, note);
    }
    if (s.tokens > 0) {
        snprintf(note, sizeof note, "seen by step %s", cli_number((uint64_t)s.step, b));
        tile(p, of_tokens ? "Tokens" : "Frames", svg_chart_number((double)s.tokens, 4, a), note);
    }
    if (isfinite(s.tokens_per_second))
        tile(p, of_tokens ? "Tokens per second" : "Frames per second",
             cli_number((uint64_t)(s.tokens_per_second + 0.5), a), "over the last steps");
    fputs("</div>\n", p->f);
}

static void write_sample(page *p, const run_sample *s, const char *of)
{
    char a[32];
    fprintf(p->f, "<article class=\"card sample\"><h3>");
    if (of) {
        svg_chart_escape(p->f, of);
        fputs(", ", p->f);
    }
    fprintf(p->f, "step %s</h3><p><span class=\"prompt\">", cli_number((uint64_t)s->step, a));
    svg_chart_escape(p->f, s->prompt);
    fputs("</span>", p->f);
    svg_chart_escape(p->f, s->text);
    fputs("</p></article>\n", p->f);
}

/* The newest first; most of the older ones folded away, and of very many only some. */
static void write_samples(page *p, const run_data *d)
{
    const size_t n = d->n_samples, every = n > MOST_SAMPLES ? (n + MOST_SAMPLES - 1) / MOST_SAMPLES : 1;
    size_t shown = 0;
    if (n == 0)
        return;
    fputs("<h2 class=\"part\">What it writes</h2>\n<div class=\"samples\">\n", p->f);
    for (size_t i = n; i > 0; i--) {
        if ((n - i) % every != 0 && i != 1)
            continue;
        if (shown == OPEN_SAMPLES)
            fputs("</div><details><summary>Earlier samples</summary><div class=\"samples\">\n", p->f);
        write_sample(p, &d->samples[i - 1], NULL);
        shown++;
    }
    fputs(shown > OPEN_SAMPLES ? "</div></details>\n" : "</div>\n", p->f);
}

/* ---- Settings --------------------------------------------------------------------------------------------------- */

typedef struct setting {
    char *key, *value;
} setting;

typedef struct settings {
    setting *at;
    size_t n, capacity;
    bool failed;
} settings;

static void settings_free(settings *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->at[i].key);
        free(s->at[i].value);
    }
    free(s->at);
}

/* Data sets as the command line has them, "books.txt:60 talk.txt:40"; NULL: the value is something else. */
static char *sources_text(const json_t *value)
{
    size_t i, room = 1, n = json_array_size(value);
    const json_t *one;
    json_array_foreach((json_t *)value, i, one)
    {
        const char *path = json_string_value(json_object_get(one, "path"));
        if (!path || !json_is_number(json_object_get(one, "weight")))
            return NULL;
        room += strlen(path) + 32;
    }
    char *text = n > 0 ? calloc(room, 1) : NULL;
    size_t at = 0;
    json_array_foreach((json_t *)value, i, one)
    {
        if (!text)
            break;
        at += (size_t)snprintf(text + at, room - at, "%s%s", i > 0 ? " " : "",
                               json_string_value(json_object_get(one, "path")));
        if (n > 1)
            at += (size_t)snprintf(text + at, room - at, ":%.6g", json_number_value(json_object_get(one, "weight")));
    }
    return text;
}

static void add_setting(settings *s, const char *key, const json_t *value)
{
    char *text = json_is_string(value) ? strdup(json_string_value(value)) : sources_text(value);
    if (!text)
        text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(10));
    char *copy = strdup(key);
    if (s->n == s->capacity) {
        const size_t larger = 2 * s->capacity + 32;
        setting *moved = realloc(s->at, larger * sizeof *moved);
        if (moved) {
            s->at = moved;
            s->capacity = larger;
        }
    }
    if (!text || !copy || s->n == s->capacity) {
        s->failed = true;
        free(text);
        free(copy);
        return;
    }
    s->at[s->n++] = (setting){copy, text};
}

/* Objects inside become keys with a point. */
static void flatten(settings *s, const char *prefix, const json_t *object, int depth)
{
    const char *name;
    json_t *value;
    char key[256];
    json_object_foreach((json_t *)object, name, value)
    {
        snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", name);
        if (json_is_object(value) && json_object_size(value) > 0 && depth < 6)
            flatten(s, key, value, depth + 1);
        else
            add_setting(s, key, value);
    }
}

static void write_settings(page *p, const run_data *d)
{
    settings s = {0};
    if (d->config)
        flatten(&s, "", d->config, 0);
    if (s.n > 0) {
        fputs("<h2 class=\"part\">Settings</h2>\n<div class=\"card pairs\">\n", p->f);
        for (size_t i = 0; i < s.n; i++) {
            fputs("<div><span>", p->f);
            svg_chart_escape(p->f, s.at[i].key);
            fputs("</span><span>", p->f);
            svg_chart_escape(p->f, s.at[i].value);
            fputs("</span></div>\n", p->f);
        }
        fputs("</div>\n", p->f);
    }
    p->failed |= s.failed;
    settings_free(&s);
}

static const char *value_of(const settings *s, const char *key)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->at[i].key, key) == 0)
            return s->at[i].value;
    return NULL;
}

/* Only what is not the same everywhere. */
static void write_differences(page *p)
{
    settings *all = calloc(p->n_runs, sizeof *all);
    size_t rows = 0;
    if (!all) {
        p->failed = true;
        return;
    }
    for (size_t r = 0; r < p->n_runs; r++)
        if (p->runs[r].config)
            flatten(&all[r], "", p->runs[r].config, 0);
    for (size_t r = 0; r < p->n_runs; r++) {
        for (size_t i = 0; i < all[r].n; i++) {
            const char *key = all[r].at[i].key, *value = all[r].at[i].value;
            bool differs = false, earlier = false;
            for (size_t k = 0; k < p->n_runs; k++) {
                const char *other = value_of(&all[k], key);
                differs |= !other || strcmp(other, value) != 0;
                earlier |= k < r && other;
            }
            if (!differs || earlier)
                continue;
            if (rows++ == 0) {
                fputs("<h2 class=\"part\">Settings that differ</h2>\n<div class=\"card scroll\"><table><tr><th></th>",
                      p->f);
                for (size_t k = 0; k < p->n_runs; k++) {
                    fputs("<th>", p->f);
                    svg_chart_escape(p->f, p->runs[k].name);
                    fputs("</th>", p->f);
                }
                fputs("</tr>\n", p->f);
            }
            fputs("<tr><th class=\"key\">", p->f);
            svg_chart_escape(p->f, key);
            fputs("</th>", p->f);
            for (size_t k = 0; k < p->n_runs; k++) {
                const char *other = value_of(&all[k], key);
                fputs("<td>", p->f);
                svg_chart_escape(p->f, other ? other : "–");
                fputs("</td>", p->f);
            }
            fputs("</tr>\n", p->f);
        }
    }
    if (rows > 0)
        fputs("</table></div>\n", p->f);
    for (size_t r = 0; r < p->n_runs; r++) {
        p->failed |= all[r].failed;
        settings_free(&all[r]);
    }
    free(all);
}

/* ---- Several runs ----------------------------------------------------------------------------------------------- */

static void cell(page *p, const char *format, double value, bool best)
{
    char text[32] = "–";
    if (isfinite(value))
        snprintf(text, sizeof text, format, value);
    fprintf(p->f, "<td class=\"num%s\">%s</td>", best ? " best" : "", text);
}

static void write_table(page *p)
{
    char a[32], b[32];
    double least = INFINITY;
    for (size_t r = 0; r < p->n_runs; r++)
        least = fmin(least, run_summarize(&p->runs[r]).best_loss); /* fmin passes over NaN */
    fputs("<div class=\"card scroll\"><table><tr><th>Run</th><th class=\"num\">Step</th><th class=\"num\">Tokens</th>"
          "<th class=\"num\">Training loss</th><th class=\"num\">Held-out loss</th><th class=\"num\">Perplexity</th>"
          "<th class=\"num\">Bits per byte</th><th class=\"num\">Best loss</th><th class=\"num\">at step</th>"
          "<th class=\"num\">Tokens/s</th><th class=\"num\">Time</th></tr>\n",
          p->f);
    for (size_t r = 0; r < p->n_runs; r++) {
        const run_summary s = run_summarize(&p->runs[r]);
        const bool best = s.best_loss == least;
        fprintf(p->f, "<tr><td class=\"key\"><i class=\"b%zu\"></i>", r % SVG_CHART_COLOURS);
        svg_chart_escape(p->f, p->runs[r].name);
        fprintf(p->f, "</td><td class=\"num\">%s</td><td class=\"num\">%s</td>", cli_number((uint64_t)s.step, a),
                svg_chart_number((double)s.tokens, 4, b));
        cell(p, "%.4f", s.loss, false);
        cell(p, "%.4f", s.valid_loss, false);
        cell(p, "%.4g", s.perplexity, false);
        cell(p, "%.4f", s.bits_per_byte, false);
        cell(p, "%.4f", s.best_loss, best);
        cell(p, "%.0f", s.best_step >= 0 ? (double)s.best_step : NAN, false);
        cell(p, "%.0f", s.tokens_per_second, false);
        fprintf(p->f, "<td class=\"num\">%s</td></tr>\n", run_duration(s.seconds, a));
    }
    fputs("</table></div>\n<div style=\"height:12px\"></div>\n", p->f);
}

char *run_report_html(const run_data *runs, size_t n_runs, bool going_on, size_t *n)
{
    char *text = NULL;
    page p = {.f = open_memstream(&text, n), .runs = runs, .n_runs = n_runs};
    if (!p.f)
        return NULL;
    if (n_runs == 1) {
        head(&p, runs[0].name, going_on);
        write_head_of_run(&p, &runs[0], going_on);
        write_cards(&p);
        write_plots(&p, &runs[0]);
        write_samples(&p, &runs[0]);
        write_settings(&p, &runs[0]);
    } else {
        head(&p, "Training runs compared", false);
        fprintf(p.f,
                "<header><h1>%zu training runs</h1><p class=\"soft\">The same steps side by side; bold: the least "
                "held-out loss.</p></header>\n<div style=\"height:14px\"></div>\n",
                n_runs);
        write_table(&p);
        write_cards(&p);
        write_differences(&p);
        fputs("<h2 class=\"part\">What they write</h2>\n<div class=\"samples\">\n", p.f);
        for (size_t r = 0; r < n_runs; r++)
            if (runs[r].n_samples > 0)
                write_sample(&p, &runs[r].samples[runs[r].n_samples - 1], runs[r].name);
        fputs("</div>\n", p.f);
    }
    foot(&p);
    p.failed |= ferror(p.f) != 0;
    if (fclose(p.f) != 0 || p.failed) {
        free(text);
        return NULL;
    }
    return text;
}
