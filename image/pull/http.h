// HTTP transfers on libcurl's multi interface: one thread, any number at once.
#ifndef IMAGE_PULL_HTTP_H
#define IMAGE_PULL_HTTP_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

struct http;

#define HTTP_CHALLENGES_MAX 4
#define HTTP_SINK_PAUSE     1

// Bounds on every transfer.
struct http_limits {
    long stall_seconds; // give up after so long below min_rate; waits of ours (a paused sink) don't count
    long min_rate;      // bytes a second
};

// Is it worth to try again, and when?
struct http_outcome {
    bool transient;
    long retry_after; // seconds; 0: the server didn't say
};

// How a server is known and how we are to it.
struct http_tls {
    const char *ca_file;              // PEM; "" or NULL: the system's store
    bool system_too;                  // trust the system's store besides ca_file
    const char *cert_file, *key_file; // PEM, the client's; "" or NULL: none
    bool skip_verify;
};

// One request. Redirects are followed, from https only to https; a server other than that of `url` gets
// neither the authorization nor the client's certificate, and has to have a certificate that ca_file or the
// system knows. The caller fills the first part (strings stay the caller's), http_start() to http_done() own
// the rest.
struct http_request {
    const char *url;
    const char *accept;        // may be NULL
    const char *authorization; // the header's value, a secret; never follows a redirect to another host
    unsigned authorization_no; // the caller's own: which one it is
    const char *form;          // POST this body, a secret, and follow no redirect; NULL: GET
    struct http_tls tls;
    // HTTP/1.1 on a connection that is no other request's meanwhile: what a paused sink doesn't take stays
    // with the sender. Over HTTP/2 libcurl lets a stream send up to 32 MiB ahead, and keeps them in memory.
    bool own_connection;
    bool head;       // ask for the headers only
    uint64_t offset; // ask for bytes from here on
    // Gets the body of a 200 or 206 answer: 0 taken, HTTP_SINK_PAUSE not taken and to be offered again after
    // http_resume(), -1 to give up. NULL: it is collected in `body`. Bodies of other answers always are.
    int (*sink)(void *data, const void *bytes, size_t len);
    void *sink_data;
    size_t body_max; // bytes collected; more is a failure

    long status; // 0 before an answer
    char content_type[128];
    char content_range[128];
    char content_digest[128];              // Docker-Content-Digest
    char *challenges[HTTP_CHALLENGES_MAX]; // values of WWW-Authenticate
    size_t n_challenges;
    struct buf body;
    bool done;
    CURLcode result; // once done
    char detail[CURL_ERROR_SIZE];
    bool body_full;
    char *location;       // where a redirect led; NULL: none did
    unsigned n_redirects; // so far
    CURL *easy;
    struct curl_slist *headers;
};

int http_new(struct http **out, struct error *err);
// Before the first request.
void http_set_limits(struct http *http, const struct http_limits *limits);
void http_free(struct http *http);
// Did the attempt fail in a way that another one soon may not: the connection broke or was refused, 408, 429
// or a 5xx other than 501?
bool http_is_transient(const struct http_request *request);
// What a finished 429 or 503 asked to wait, in seconds; 0: it did not say.
long http_retry_after(const struct http_request *request);
// Have two URLs the same scheme, host and port?
bool http_is_same_server(const char *a, const char *b);
// Both of a finished request.
struct http_outcome http_outcome(const struct http_request *request);
int http_start(struct http *http, struct http_request *request, struct error *err);
void http_resume(struct http_request *request);
// Ends the transfer if need be and releases what http_start() made.
void http_done(struct http *http, struct http_request *request);
// Drives all transfers; waits up to timeout_ms for one of them or of the n extra descriptors, whose revents
// are then set.
int http_step(struct http *http, struct curl_waitfd *extra, unsigned n, int timeout_ms, struct error *err);
// http_start() and http_step() until it is done.
int http_run(struct http *http, struct http_request *request, struct error *err);

#endif
