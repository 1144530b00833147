/* jinja_ast.h — a parsed template: one node type for expressions and statements, and the tokens it is made from. A node
 * is immutable and lies in the template's arena. */
#ifndef ZB_JINJA_AST_H
#define ZB_JINJA_AST_H

#include "tok/jinja_value.h"

typedef enum zb_jnode_kind {
    /* expressions */
    ZB_JN_CONST,   /* value                                                    */
    ZB_JN_NAME,    /* sym                                                      */
    ZB_JN_NS_NAME, /* sym.value, as a target only                              */
    ZB_JN_LIST,    /* list                                                     */
    ZB_JN_TUPLE,   /* list                                                     */
    ZB_JN_DICT,    /* list: key, value, key, value, ...                        */
    ZB_JN_ATTR,    /* a.value                                                  */
    ZB_JN_ITEM,    /* a[b]                                                     */
    ZB_JN_SLICE,   /* a[b:c:d], each of b, c, d may be NULL                    */
    ZB_JN_CALL,    /* a(args)                                                  */
    ZB_JN_FILTER,  /* a|value(args); a NULL: the text of a block               */
    ZB_JN_TEST,    /* a is value(args)                                         */
    ZB_JN_NOT,     /* not a                                                    */
    ZB_JN_NEG,     /* -a                                                       */
    ZB_JN_POS,     /* +a                                                       */
    ZB_JN_BINARY,  /* a op b, op as zb_jbinary takes it                        */
    ZB_JN_CONCAT,  /* list joined by ~                                         */
    ZB_JN_COMPARE, /* a, then list of ZB_JN_OPERAND                            */
    ZB_JN_OPERAND, /* op a; op is one of zb_jop                                */
    ZB_JN_AND,     /* a and b                                                  */
    ZB_JN_OR,      /* a or b                                                   */
    ZB_JN_COND,    /* a if b else c (c may be NULL)                            */
    /* statements */
    ZB_JN_OUTPUT,   /* list of expressions                                      */
    ZB_JN_IF,       /* list of ZB_JN_BRANCH                                     */
    ZB_JN_BRANCH,   /* if a (NULL: else) list                                   */
    ZB_JN_FOR,      /* for a in b if c: list; else: other                       */
    ZB_JN_SET,      /* a = b                                                    */
    ZB_JN_SET_TEXT, /* a = the text of list, through filter b or NULL          */
    ZB_JN_MACRO,    /* macro sym(other): list; op: ZB_JUSES_ flags              */
    ZB_JN_PARAM,    /* sym = a (NULL: no default), in `other` of a macro        */
    ZB_JN_CALLER,   /* call(other) a: list; op: ZB_JUSES_ flags                 */
    ZB_JN_FILTERED, /* the text of list through filter b                       */
    ZB_JN_WITH,     /* other (ZB_JN_SET), list                                  */
    ZB_JN_SCOPE,    /* list, with variables of its own                          */
    ZB_JN_BREAK,
    ZB_JN_CONTINUE
} zb_jnode_kind;

#define ZB_JUSES_CALLER  1
#define ZB_JUSES_KWARGS  2
#define ZB_JUSES_VARARGS 4

typedef enum zb_jop {
    ZB_JOP_POW = 'p',
    ZB_JOP_FLOORDIV = 'f',
    ZB_JOP_EQ = 'E',
    ZB_JOP_NE = 'N',
    ZB_JOP_LE = 'L',
    ZB_JOP_GE = 'G',
    ZB_JOP_LT = '<',
    ZB_JOP_GT = '>',
    ZB_JOP_IN = 'i',
    ZB_JOP_NOT_IN = 'n'
} zb_jop;

typedef struct zb_jnode zb_jnode;

typedef struct zb_jnodes {
    const zb_jnode **at;
    size_t n, cap;
} zb_jnodes;

typedef struct zb_jargs {
    zb_jnodes args;
    zb_jnodes named; /* ZB_JN_PARAM: value holds the name, a the value */
    const zb_jnode *star, *star_star;
} zb_jargs;

struct zb_jnode {
    uint8_t kind;
    char op;
    int32_t line, sym;
    zb_jval value;
    const zb_jnode *a, *b, *c, *d;
    zb_jnodes list, other;
    const zb_jargs *args;
    zb_jfilter_fn filter; /* NULL: not known here */
    zb_jtest_fn test;
};

typedef enum zb_jtoken_kind {
    ZB_JT_END,
    ZB_JT_DATA,
    ZB_JT_PRINT_BEGIN,
    ZB_JT_PRINT_END,
    ZB_JT_BLOCK_BEGIN,
    ZB_JT_BLOCK_END,
    ZB_JT_NAME,
    ZB_JT_STRING,
    ZB_JT_INT,
    ZB_JT_FLOAT,
    ZB_JT_OP
} zb_jtoken_kind;

typedef struct zb_jtoken {
    zb_jtoken_kind kind;
    char op; /* OP: the character, or a zb_jop for those of two */
    int line;
    const zb_jstr *text; /* DATA, NAME, STRING */
    int64_t i;
    double f;
} zb_jtoken;

/* The lexer: jinja2's rules for white space around tags, with trim_blocks and lstrip_blocks. */
typedef struct zb_jlexer {
    zb_jrun *r;
    const char *p; /* newlines are \n only; a last one is gone */
    size_t n, at;
    int line;
    int mode;          /* '%' or '{' inside a tag, 0 between them                 */
    int begin;         /* tag to open after the data that was just given, or 0    */
    int line_starting; /* the last match ended a line                             */
    size_t n_open;     /* brackets open in this tag                               */
    char open[ZB_JMAX_DEPTH];
} zb_jlexer;

void zb_jlexer_open(zb_jrun *r, zb_jlexer *x, const char *source, size_t n);
zb_jtoken zb_jlexer_next(zb_jlexer *x);

struct zb_jinja {
    zb_arena arena;
    zb_jnodes body;
    const zb_jstr **syms; /* names of variables: a node's sym is an index */
    size_t n_syms;
};

/* Index of the name among the template's variables, or -1. */
int32_t zb_jsym_find(const zb_jinja *t, const char *name, size_t n);

#endif
