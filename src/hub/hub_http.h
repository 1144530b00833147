/* hub_http.h — requests to the hub, many at once in one thread: redirects, tokens, retries, what errors mean. Knows
 * nothing of models and files. */
#ifndef HUB_HTTP_H
#define HUB_HTTP_H

#include "hub_impl.h"

/* What the headers of a response said. */
typedef struct hub_reply {
    long status;
    char etag[200], linked_etag[200], commit[72], error_code[64], error_message[200];
    uint64_t length, linked_size, range_from, range_total;
    bool has_length, has_linked_size, has_range, has_range_total;
    double wait; /* seconds until the server wants to be asked again, or below 0 */
} hub_reply;

typedef enum hub_next {
    HUB_GO,    /* ask                                              */
    HUB_LATER, /* call begin again in a moment                     */
    HUB_DONE,  /* nothing (more) to do                             */
    HUB_AGAIN, /* once more from the beginning, without delay      */
    HUB_FAILED /* `err` says why                                   */
} hub_next;

typedef struct hub_request hub_request;
struct hub_request {
    const char *url, *what; /* `what` stands in front of messages */
    bool head;
    void *user;
    /* Before every attempt; may be NULL. *from is the first byte that is wanted. */
    hub_next (*begin)(hub_request *r, uint64_t *from, zamba_error *err);
    /* The body of an answer to it begins: 200, or 206 if *from was above 0. */
    zamba_status (*start)(hub_request *r, const hub_reply *reply, zamba_error *err);
    zamba_status (*data)(hub_request *r, const void *data, size_t n, zamba_error *err);
    /* The body is there to its end. HUB_DONE, HUB_AGAIN or HUB_FAILED. */
    hub_next (*end)(hub_request *r, const hub_reply *reply, zamba_error *err);
    void *handle; /* of the loop */
};

typedef struct hub_session {
    const char *endpoint;
    char token[512];
    int retries;
    double stall; /* seconds without a byte after which a connection counts as cut */
    void *user;
    void (*note)(void *user, const char *text);
    bool (*cancelled)(void *user);
    void (*tick)(void *user);
    void *tick_user;
    bool reached; /* something was answered: then a network that fails may come back */
    void *multi;
} hub_session;

zamba_status hub_session_open(hub_session *s, zamba_error *err);
void hub_session_close(hub_session *s);

/* Ask all, `at_once` at a time. Ends with the first failure; `begin` may have been called for the others. */
zamba_status hub_ask(hub_session *s, hub_request *requests, size_t n, size_t at_once, zamba_error *err);

/* A piece of a URL's path: what is not plain becomes %XX, slashes stay. False if it does not fit. */
bool hub_url_path(char *out, size_t n_out, const char *text);

#endif
