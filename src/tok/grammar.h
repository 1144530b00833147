/* grammar.h — from a grammar's text to an automaton, inside the library. Three readers (regular expressions, GBNF, JSON
 * schemas) build expressions; those become one network of states over bytes in which a state can call a rule; a network
 * is walked lazily, one set of states and stacks after the other. What ids have to do with it is grammar.c's.
 *
 * Nothing here backtracks. Whatever the text says, building is linear in at most ZB_GRAMMAR_MAX_SIZE states, and
 * walking stops with an error at its limits of memory and work. */
#ifndef ZB_GRAMMAR_H
#define ZB_GRAMMAR_H

#include <jansson.h>
#include "core/mem.h"

#define ZB_GRAMMAR_MAX_TEXT  ((size_t)1 << 20)
#define ZB_GRAMMAR_MAX_SIZE  500000 /* states of a grammar with its repetitions written out                       */
#define ZB_GRAMMAR_MAX_DEPTH 400    /* of expressions in expressions                                              */

/* ---- Expressions (grammar_build.c) ------------------------------------------------------------------------------ */

typedef struct zb_range { /* of code points */
    uint32_t lo, hi;
} zb_range;

typedef enum zb_expr_kind { ZB_X_SEQ, ZB_X_ALT, ZB_X_BYTES, ZB_X_CLASS, ZB_X_REPEAT, ZB_X_REF } zb_expr_kind;

typedef struct zb_expr {
    uint8_t kind;
    uint16_t depth;
    uint32_t size;  /* states that it takes, repetitions written out               */
    int32_t at, n;  /* children, bytes or ranges; REPEAT: the child; REF: the rule */
    int32_t lo, hi; /* REPEAT: how often; hi -1: without end                       */
    int32_t rule;   /* the rule that a repetition made of it, or -1                */
} zb_expr;

typedef struct zb_build_rule {
    char *name;
    int32_t expr; /* -1: not defined yet */
} zb_build_rule;

#define ZB_X_EMPTY   0 /* the empty text; also what a failed call returns */
#define ZB_X_NOTHING 1 /* no text at all                                  */

/* A grammar being read. The first failure stays; calls after it do nothing and return ZB_X_EMPTY. */
typedef struct zb_build {
    zb_expr *exprs;
    int32_t *kids;
    zb_range *ranges;
    zb_build_rule *rules;
    zb_buf bytes;
    size_t n_exprs, n_kids, n_ranges, n_rules, max_exprs, max_kids, max_ranges, max_rules;
    zamba_status st;
    zamba_error err;
} zb_build;

void zb_build_open(zb_build *b);
void zb_build_close(zb_build *b);
int32_t zb_build_fail(zb_build *b, zamba_status code, const char *fmt, ...) ZB_PRINTF(3, 4);

int32_t zb_build_bytes(zb_build *b, const char *text, size_t n);
int32_t zb_build_text(zb_build *b, const char *text);
/* A character of these ranges in any order, or of none of them. Surrogates are no characters. */
int32_t zb_build_class(zb_build *b, const zb_range *ranges, size_t n, int negated);
int32_t zb_build_seq(zb_build *b, const int32_t *x, size_t n);
int32_t zb_build_alt(zb_build *b, const int32_t *x, size_t n);
int32_t zb_build_repeat(zb_build *b, int32_t x, int32_t lo, int32_t hi);
int32_t zb_build_rule_new(zb_build *b, const char *name, size_t n); /* returns the rule */
int32_t zb_build_ref(zb_build *b, int32_t rule);
/* A new rule that is x, and a reference to it. */
int32_t zb_build_named(zb_build *b, const char *name, int32_t x);

#define ZB_SEQ(b, ...)                                                                                                 \
    zb_build_seq(b, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))
#define ZB_ALT(b, ...)                                                                                                 \
    zb_build_alt(b, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* Sorted, joined, without surrogates, negated if asked for; in place. `ranges` has room for n + 2 more. */
size_t zb_ranges_tidy(zb_range *ranges, size_t n, int negated);

/* ---- Readers: each returns the expression of the whole ---------------------------------------------------------- */

/* ZB_REGEX_WHOLE: the text as a whole; ZB_REGEX_IN_JSON: a part of it (^ and $ anchor), the text being what stands
 * between the quotes of a JSON string. */
typedef enum zb_regex_use { ZB_REGEX_WHOLE, ZB_REGEX_IN_JSON } zb_regex_use;
int32_t zb_regex_read(zb_build *b, const char *text, size_t n, zb_regex_use use);
int32_t zb_gbnf_read(zb_build *b, const char *text, size_t n);
int32_t zb_schema_read(zb_build *b, const char *text, size_t n);
int32_t zb_schema_of(zb_build *b, struct json_t *schema); /* which has to outlive the call only */
int32_t zb_tools_read(zb_build *b, const char *text, size_t n);

/* Pieces of JSON (grammar_json.c); made at the first use. */
typedef struct zb_json_parts {
    zb_build *b;
    int32_t space, letter, string, integer, number, value, object; /* -1: not yet */
} zb_json_parts;

void zb_json_parts_open(zb_json_parts *p, zb_build *b);
int32_t zb_json_space(zb_json_parts *p);
int32_t zb_json_letter(zb_json_parts *p); /* a character of a string */
int32_t zb_json_string(zb_json_parts *p);
int32_t zb_json_integer(zb_json_parts *p);
int32_t zb_json_number(zb_json_parts *p);
int32_t zb_json_value(zb_json_parts *p);
int32_t zb_json_object(zb_json_parts *p);
/* A list between brackets: of `lo` to `hi` items (-1: any number) with commas between. */
int32_t zb_json_list(zb_json_parts *p, const char *open, const char *close, int32_t item, int32_t lo, int32_t hi);
/* "," and space */
int32_t zb_json_comma(zb_json_parts *p);
/* Numbers from lo to hi, each up to 10^16 - 1 from 0; real nonzero: with fractions; open_lo, open_hi: without the bound
 * itself. */
#define ZB_JSON_BIG INT64_C(9999999999999999)
int32_t zb_json_between(zb_json_parts *p, int64_t lo, int64_t hi, int real, int open_lo, int open_hi);
/* The regular expression of a format, or NULL. */
const char *zb_json_format(const char *name);

/* ---- The network (grammar_net.c) -------------------------------------------------------------------------------- */

typedef enum zb_net_kind { ZB_N_FAIL, ZB_N_BYTE, ZB_N_SPLIT, ZB_N_CALL, ZB_N_FINAL, ZB_N_ACCEPT } zb_net_kind;

typedef struct zb_net_state {
    uint8_t kind, lo, hi; /* BYTE: lo <= byte <= hi                  */
    int32_t next;         /* CALL: where the call returns to         */
    int32_t other;        /* SPLIT: the other way, or -1; CALL: rule */
} zb_net_state;

typedef struct zb_net_rule {
    int32_t start;
    int32_t order; /* rules that a rule may call before any byte have a higher one */
    uint8_t nullable;
} zb_net_rule;

typedef struct zb_net {
    zb_net_state *states;
    zb_net_rule *rules;
    int32_t *by_order;
    size_t n_states, n_rules, max_states;
    int32_t root;       /* a rule                                           */
    int32_t accept;     /* the state behind everything                      */
    uint8_t class[256]; /* bytes that no state tells apart have the same    */
    int32_t n_classes;
} zb_net;

/* Errors  E_ARG: a rule that calls itself before any character, no text matches; E_UNSUPPORTED: too large. */
zamba_status zb_net_make(zb_net *net, zb_build *b, int32_t x, zamba_error *err);
void zb_net_free(zb_net *net);

/* ---- The walk (grammar_walk.c) ---------------------------------------------------------------------------------- */

#define ZB_WALK_DEAD    (-1)
#define ZB_WALK_UNKNOWN (-2)

typedef struct zb_walk_span {
    size_t at;
    uint32_t n;
} zb_walk_span;

typedef struct zb_walk_set {
    size_t at; /* of its items */
    uint32_t n;
    uint8_t accepts;
    ptrdiff_t moves;   /* [n_classes] from here on, or -1                */
    uint64_t *allowed; /* a bit for each id, grammar.c's, or NULL: owned */
} zb_walk_set;

typedef struct zb_walk_call {
    int32_t next; /* of the same rule, or -1 */
    uint64_t edge;
} zb_walk_call;

/* Sets of (state of the network, stack), and the stacks: a node has edges (state to return to, node below). Both are
 * numbered, and what is equal has one number. A node has a higher number than those below it. */
typedef struct zb_walk {
    const zb_net *net;
    uint64_t *edges, *items;
    int32_t *moves;
    zb_walk_span *nodes;
    zb_walk_set *sets;
    size_t n_edges, max_edges, n_items, max_items, n_moves, max_moves, n_nodes, max_nodes, n_sets, max_sets;
    int32_t *node_slots, *set_slots;
    size_t node_mask, set_mask;
    size_t bytes; /* all that is held                       */
    size_t work;  /* left for this call, see zb_walk_begin  */
    /* scratch of one step */
    uint64_t *todo, *found, *gathered, *seen;
    uint32_t *seen_when;
    zb_walk_call *calls;
    int32_t *heads, *heap;
    size_t n_todo, max_todo, n_found, max_found, n_gathered, max_gathered, n_seen, seen_mask, n_calls, max_calls,
        n_heap;
    uint32_t when;
} zb_walk;

#define ZB_WALK_MAX_ITEMS 65536
#define ZB_WALK_MAX_WORK  ((size_t)20 << 20) /* items looked at in one call from outside          */
#define ZB_WALK_SOFT      ((size_t)24 << 20) /* bytes at which what nobody stands on is forgotten  */
#define ZB_WALK_HARD      ((size_t)64 << 20) /* bytes that are never held                          */

zamba_status zb_walk_open(zb_walk *w, const zb_net *net, int32_t *start, zamba_error *err);
void zb_walk_close(zb_walk *w);
static inline void zb_walk_begin(zb_walk *w)
{
    w->work = ZB_WALK_MAX_WORK;
}
/* Makes a move that is not known yet. */
zamba_status zb_walk_make_move(zb_walk *w, int32_t set, uint8_t byte, int32_t *next, zamba_error *err);
static inline zamba_status zb_walk_move(zb_walk *w, int32_t set, uint8_t byte, int32_t *next, zamba_error *err)
{
    const ptrdiff_t at = w->sets[set].moves;
    if (at >= 0 && (*next = w->moves[at + w->net->class[byte]]) != ZB_WALK_UNKNOWN)
        return ZAMBA_OK;
    return zb_walk_make_move(w, set, byte, next, err);
}
/* Forget all but the sets in roots[n], which get their new numbers. After an error nothing has changed. */
zamba_status zb_walk_collect(zb_walk *w, int32_t **roots, size_t n, zamba_error *err);

#endif
