#include "image/pull/http.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "image/reference.h"

#define CONNECT_TIMEOUT_MS 10000L
#define REDIRECTS_MAX      5
#define STEP_MS            1000
#define SMALL_BODY_MAX     (64 * 1024)

struct http {
    CURLM *multi;
    struct http_limits limits;
};

int http_new(struct http **out, struct error *err)
{
    struct http *http = calloc(1, sizeof(*http));

    if (!http || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(http->multi = curl_multi_init())) {
        free(http);
        return error_errno(err, ENOMEM, "start the HTTP client");
    }
    curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
    *out = http;
    return 0;
}

void http_set_limits(struct http *http, const struct http_limits *limits)
{
    http->limits = *limits;
}

void http_free(struct http *http)
{
    if (!http)
        return;
    curl_multi_cleanup(http->multi);
    free(http);
}

static bool is_success(const struct http_request *request)
{
    return request->status == 200 || request->status == 206;
}

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
    struct http_request *request = user;
    size_t len = size * count;

    curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &request->status);
    if (request->sink && is_success(request)) {
        int r = request->sink(request->sink_data, data, len);
        return r == 0 ? len : r == HTTP_SINK_PAUSE ? CURL_WRITEFUNC_PAUSE : CURL_WRITEFUNC_ERROR;
    }
    if (buf_append(&request->body, data, len) == 0)
        return len;
    if (!is_success(request))
        return len; // an error's text may be cut
    request->body_full = true;
    return CURL_WRITEFUNC_ERROR;
}

static void copy_value(char *out, size_t size, const char *value, size_t len)
{
    if (len >= size)
        len = size - 1;
    memcpy(out, value, len);
    out[len] = '\0';
}

static bool header_is(const char *line, size_t len, const char *name, const char **value, size_t *value_len)
{
    size_t n = strlen(name);

    if (len <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
        return false;
    line += n + 1;
    len -= n + 1;
    while (len > 0 && (*line == ' ' || *line == '\t')) {
        line++;
        len--;
    }
    while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == '\n' || line[len - 1] == ' '))
        len--;
    *value = line;
    *value_len = len;
    return true;
}

static size_t on_header(char *line, size_t size, size_t count, void *user)
{
    struct http_request *request = user;
    size_t len = size * count, n;
    const char *value;

    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) { // a redirect's headers are not the answer's
        for (size_t i = 0; i < request->n_challenges; i++)
            free(request->challenges[i]);
        request->n_challenges = 0;
        request->content_type[0] = request->content_range[0] = request->content_digest[0] = '\0';
    } else if (header_is(line, len, "content-type", &value, &n)) {
        copy_value(request->content_type, sizeof(request->content_type), value, n);
    } else if (header_is(line, len, "content-range", &value, &n)) {
        copy_value(request->content_range, sizeof(request->content_range), value, n);
    } else if (header_is(line, len, "docker-content-digest", &value, &n)) {
        copy_value(request->content_digest, sizeof(request->content_digest), value, n);
    } else if (header_is(line, len, "www-authenticate", &value, &n) &&
               request->n_challenges < HTTP_CHALLENGES_MAX) {
        char *copy = strndup(value, n);
        if (copy)
            request->challenges[request->n_challenges++] = copy;
    }
    return len;
}

// The header list with one more "Name: value". Frees the list and returns NULL on ENOMEM.
static struct curl_slist *add_header(struct curl_slist *list, const char *name, const char *value)
{
    char *line = str_printf("%s: %s", name, value);
    struct curl_slist *longer = line ? curl_slist_append(list, line) : NULL;

    free(line);
    if (!longer)
        curl_slist_free_all(list);
    return longer;
}

static int set_headers(struct http_request *request, bool at_home)
{
    curl_slist_free_all(request->headers);
    request->headers = add_header(NULL, "Accept", request->accept ? request->accept : "*/*");
    if (request->headers && request->authorization && at_home)
        request->headers = add_header(request->headers, "Authorization", request->authorization);
    return request->headers ? 0 : -ENOMEM;
}

// Like Go's clients: the environment's proxies are never asked about the machine itself.
static bool is_loopback(const char *url)
{
    const char *host = strstr(url, "://");
    char *copy = host ? strndup(host + 3, strcspn(host + 3, "/")) : NULL;
    bool loopback = copy && reference_domain_is_loopback(copy);

    free(copy);
    return loopback;
}

static void set_tls(CURL *easy, const struct http_tls *tls)
{
    if (tls->skip_verify) {
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (!str_empty(tls->ca_file)) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, tls->ca_file);
        if (!tls->system_too) // libcurl may be built to look into /etc/ssl/certs besides
            curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    if (!str_empty(tls->cert_file)) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, tls->cert_file);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, tls->key_file);
    }
}

// Not by CURLOPT_RESUME_FROM, with which any answer without a range, be it a 401, is curl's own error.
static void set_range(struct http_request *request)
{
    char range[32];

    if (request->offset == 0)
        return;
    (void)snprintf(range, sizeof(range), "%llu-", (unsigned long long)request->offset);
    curl_easy_setopt(request->easy, CURLOPT_RANGE, range);
}

static void set_options(const struct http *http, struct http_request *request, const char *url, bool at_home)
{
    // What is said of a server holds for no other one. Only whom to trust does, besides the system: a
    // registry of one's own often keeps its blobs with a server of one's own.
    const struct http_tls elsewhere = {.ca_file = request->tls.ca_file, .system_too = true};
    CURL *easy = request->easy;

    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L); // see follow()
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "crisp/" CRISP_VERSION);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request->headers);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, http->limits.min_rate);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, http->limits.stall_seconds);
    if (request->own_connection)
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    else
        curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L); // one HTTP/2 connection carries them all
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L * 1024);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->detail);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
    if (request->form)
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->form);
    if (request->head)
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    set_range(request);
    set_tls(easy, at_home ? &request->tls : &elsewhere);
    if (is_loopback(url))
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
}

bool http_is_transient(const struct http_request *request)
{
    switch (request->result) {
    case CURLE_OK:
        return request->status == 408 || request->status == 429 ||
               (request->status >= 500 && request->status != 501);
    case CURLE_COULDNT_CONNECT:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

long http_retry_after(const struct http_request *request)
{
    curl_off_t seconds = 0;

    if (request->result != CURLE_OK || !request->easy)
        return 0;
    (void)curl_easy_getinfo(request->easy, CURLINFO_RETRY_AFTER, &seconds);
    return seconds < 0 ? 0 : seconds > LONG_MAX ? LONG_MAX : (long)seconds;
}

static bool url_part_is_same(CURLU *a, CURLU *b, CURLUPart part)
{
    char *x = NULL, *y = NULL;
    bool same = curl_url_get(a, part, &x, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                curl_url_get(b, part, &y, CURLU_DEFAULT_PORT) == CURLUE_OK && strcasecmp(x, y) == 0;

    curl_free(x);
    curl_free(y);
    return same;
}

bool http_is_same_server(const char *a, const char *b)
{
    CURLU *x = curl_url(), *y = curl_url();
    bool same = x && y && curl_url_set(x, CURLUPART_URL, a, 0) == CURLUE_OK &&
                curl_url_set(y, CURLUPART_URL, b, 0) == CURLUE_OK &&
                url_part_is_same(x, y, CURLUPART_SCHEME) && url_part_is_same(x, y, CURLUPART_HOST) &&
                url_part_is_same(x, y, CURLUPART_PORT);

    curl_url_cleanup(x);
    curl_url_cleanup(y);
    return same;
}

static int begin(struct http *http, struct http_request *request)
{
    const char *url = request->location ? request->location : request->url;
    bool at_home = !request->location || http_is_same_server(request->url, url);

    if (set_headers(request, at_home) < 0)
        return -ENOMEM;
    set_options(http, request, url, at_home);
    return curl_multi_add_handle(http->multi, request->easy) == CURLM_OK ? 0 : -ENOMEM;
}

static void forget_challenges(struct http_request *request)
{
    for (size_t i = 0; i < request->n_challenges; i++)
        free(request->challenges[i]);
    request->n_challenges = 0;
}

struct http_outcome http_outcome(const struct http_request *request)
{
    return (struct http_outcome){http_is_transient(request), http_retry_after(request)};
}

int http_start(struct http *http, struct http_request *request, struct error *err)
{
    request->done = request->body_full = false;
    request->status = 0;
    request->n_challenges = 0;
    request->detail[0] = '\0';
    request->location = NULL;
    request->n_redirects = 0;
    buf_init(&request->body, request->body_max ? request->body_max : SMALL_BODY_MAX);
    request->easy = curl_easy_init();
    if (!request->easy || begin(http, request) < 0) {
        http_done(http, request);
        return error_errno(err, ENOMEM, "start a request");
    }
    return 0;
}

// Not the whole URL: it may have a signature in it.
static CURLcode refuse_redirect(struct http_request *request, CURLcode code, const char *why)
{
    (void)snprintf(request->detail, sizeof(request->detail), "%s", why);
    return code;
}

static CURLcode check_redirect(struct http_request *request, const char *to)
{
    const char *from = request->location ? request->location : request->url;

    if (++request->n_redirects > REDIRECTS_MAX)
        return refuse_redirect(request, CURLE_TOO_MANY_REDIRECTS, "too many redirects");
    if (str_has_prefix(to, "https://") || (str_has_prefix(to, "http://") && str_has_prefix(from, "http://")))
        return CURLE_OK;
    return refuse_redirect(request, CURLE_UNSUPPORTED_PROTOCOL, "redirected to a place that is not safe");
}

static bool is_redirect(const struct http_request *request)
{
    switch (request->status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        // A form has a refresh token in it, which would be posted anew wherever the answer points.
        return request->result == CURLE_OK && !request->form;
    default:
        return false;
    }
}

// A finished transfer whose answer points elsewhere goes on there: true. Not left to libcurl, which would
// take the client's certificate along, and not verify that server where we don't verify this one.
static bool follow(struct http *http, struct http_request *request)
{
    char *url = NULL, *to;

    if (!is_redirect(request))
        return false;
    curl_easy_getinfo(request->easy, CURLINFO_REDIRECT_URL, &url);
    to = url ? strdup(url) : NULL;
    request->result = to ? check_redirect(request, to) : url ? CURLE_OUT_OF_MEMORY : CURLE_OK;
    if (!to || request->result != CURLE_OK) {
        free(to);
        return false;
    }
    free(request->location);
    request->location = to;
    request->status = 0;
    forget_challenges(request);
    request->content_type[0] = request->content_range[0] = request->content_digest[0] = '\0';
    buf_done(&request->body);
    buf_init(&request->body, request->body_max ? request->body_max : SMALL_BODY_MAX);
    curl_multi_remove_handle(http->multi, request->easy);
    curl_easy_reset(request->easy);
    if (begin(http, request) == 0)
        return true;
    request->result = CURLE_OUT_OF_MEMORY;
    return false;
}

void http_resume(struct http_request *request)
{
    curl_easy_pause(request->easy, CURLPAUSE_CONT);
}

void http_done(struct http *http, struct http_request *request)
{
    if (request->easy) {
        curl_multi_remove_handle(http->multi, request->easy);
        curl_easy_cleanup(request->easy);
        request->easy = NULL;
    }
    curl_slist_free_all(request->headers);
    request->headers = NULL;
    forget_challenges(request);
    free(request->location);
    request->location = NULL;
    buf_done(&request->body);
}

static void collect_done(struct http *http)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(http->multi, &left))) {
        struct http_request *request = NULL;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &request);
        curl_easy_getinfo(msg->easy_handle, CURLINFO_RESPONSE_CODE, &request->status);
        request->result = msg->data.result;
        request->done = !follow(http, request);
    }
}

// First waits, then works: what the work brings about (a request that is done, bytes that wait for a sink)
// the caller has to see before it waits again. A request just started or resumed has a time-out of zero in
// curl, so that the wait for it is none.
int http_step(struct http *http, struct curl_waitfd *extra, unsigned n, int timeout_ms, struct error *err)
{
    int running;
    CURLMcode r = curl_multi_poll(http->multi, extra, n, timeout_ms, NULL);

    if (r == CURLM_OK)
        r = curl_multi_perform(http->multi, &running);
    collect_done(http);
    if (r != CURLM_OK)
        return error_set(err, STATUS_INTERNAL, EIO, "HTTP client: %s", curl_multi_strerror(r));
    return 0;
}

int http_run(struct http *http, struct http_request *request, struct error *err)
{
    int r = http_start(http, request, err);

    while (r == 0 && !request->done)
        r = http_step(http, NULL, 0, STEP_MS, err);
    return r;
}
