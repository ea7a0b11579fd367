// The conversation with one crisp-pull: layers are claimed, fetched by it, published here.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"
#include "image/loose.h"
#include "image/store_pull.h"
#include "image/store_spare.h"

#define REQUEST_MAX (1024 * 1024)

struct pull_run {
    struct pull_op *op;
    struct image_store *store;
    char *staging; // made when there is something to fetch
    struct pull_program program;
    bool spare;     // the program had been started before
    bool heard;     // it has said something
    bool stillborn; // it had not, when it died
    struct pb_frame_reader reader;
    Pull__FromPull *resolved_frame; // holds `resolved`
    const Pull__PullResolved *resolved;
    // Per layer: undecided; ours to bring, but not told yet; told; brought, not published; there, with our
    // reference.
    enum { OPEN, CLAIMED, FETCHING, BROUGHT, HELD } * layers;
    struct layer **claimed; // those of them that are not OPEN, and behind them a place for the mending one
    unsigned granted;       // FETCHING ones
    size_t n_open;
    bool done;
    uint64_t fetched_bytes;
    bool unchanged; // the reference means what it did: op->image_id, unless that was removed meanwhile
    struct mending mend;
    uint64_t fetch_ns, inflate_ns, write_ns; // summed over the layers
    uint64_t commit_ns;
    size_t n_fetched;
};

static int start(struct pull_run *run, struct error *err)
{
    struct arena *arena = arena_new(REQUEST_MAX);
    char name[17];
    int r = str_random_hex(name, 16);

    run->staging = r == 0 ? str_printf("%s/%s", run->store->staging_dir, name) : NULL;
    run->spare = !run->op->no_spare && spare_take(run->op, &run->program);
    if (!arena || !run->staging)
        r = error_errno(err, ENOMEM, "start a pull");
    else if (!run->spare)
        r = pull_program_start(run->store, &run->program, err);
    if (r == 0)
        r = pull_request_send(run->op, run->program.sock, run->staging, arena, err);
    if (r == -EPIPE)
        run->stillborn = run->spare;
    arena_free(arena);
    return r;
}

// Layers

// Claims layer i if nobody has it or is fetching it. `lock` is held. 1: decided now.
static int claim_layer(struct pull_run *run, size_t i)
{
    struct image_store *s = run->store;
    const char *diff_id = run->resolved->layers[i]->diff_id;
    struct layer *layer = map_get(s->layers, diff_id);

    if (layer && layer->fetcher)
        return 0; // wait
    if (layer) {
        layer->refs++;
        run->claimed[i] = layer;
        run->layers[i] = HELD;
        return 1;
    }
    layer = calloc(1, sizeof(*layer));
    if (!layer)
        return -ENOMEM;
    layer->diff_id = strdup(diff_id);
    layer->fetcher = run->op;
    layer->refs = 1;
    layer->epoch = s->lost_epoch;
    if (!layer->diff_id || map_set(s->layers, diff_id, layer) < 0) {
        free(layer->diff_id);
        free(layer);
        return -ENOMEM;
    }
    run->claimed[i] = layer;
    run->layers[i] = CLAIMED;
    return 1;
}

// The node's bound. A pull holds a slot for each of its layers that is on its way, up to as many as a pull
// may have; as many again it knows of ahead, so that a layer that is done is followed by the next at once.
// store->lock is held.
static bool take_slot(struct pull_run *run)
{
    struct image_store *s = run->store;

    if (run->granted >= 2 * s->parallel_layers)
        return false;
    if (run->granted < s->parallel_layers) {
        if (s->slots_used >= s->node_layers)
            return false;
        s->slots_used++;
    }
    run->granted++;
    return true;
}

static void give_slot(struct pull_run *run)
{
    run->granted--;
    if (run->granted < run->store->parallel_layers)
        run->store->slots_used--;
}

static int send_decision(struct pull_run *run, size_t i, Pull__LayerDecision__Action action,
                         struct error *err)
{
    Pull__ToPull m = PULL__TO_PULL__INIT;
    Pull__LayerDecision decision = PULL__LAYER_DECISION__INIT;

    decision.index = (uint32_t)i;
    decision.action = action;
    m.kind_case = PULL__TO_PULL__KIND_DECISION;
    m.decision = &decision;
    return pb_frame_send(run->program.sock, &m.base, NULL, 0, err);
}

static int decide_layer(struct pull_run *run, size_t i, struct error *err)
{
    bool granted;
    int r = 0;

    pthread_mutex_lock(&run->store->lock);
    if (run->layers[i] == OPEN)
        r = claim_layer(run, i);
    granted = run->layers[i] == CLAIMED && take_slot(run);
    pthread_mutex_unlock(&run->store->lock);
    if (r < 0)
        return error_errno(err, -r, "claim a layer");
    if (granted) {
        run->layers[i] = FETCHING;
        pull_progress_set(run->op, i, IMAGE_LAYER_FETCHING);
        return send_decision(run, i, PULL__LAYER_DECISION__ACTION__FETCH, err);
    }
    if (r == 0 || run->layers[i] != HELD)
        return 0;
    pull_progress_set(run->op, i, IMAGE_LAYER_PRESENT);
    return send_decision(run, i, PULL__LAYER_DECISION__ACTION__HAVE, err);
}

static int decide_layers(struct pull_run *run, struct error *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < run->resolved->n_layers; i++)
        if (run->layers[i] == OPEN || run->layers[i] == CLAIMED)
            r = decide_layer(run, i, err);
    return r;
}

static void count_layer(struct pull_run *run, const Pull__LayerDone *done)
{
    run->n_fetched++;
    run->fetch_ns += done->fetch_ns;
    run->inflate_ns += done->inflate_ns;
    run->write_ns += done->write_ns;
}

static int take_layer(struct pull_run *run, Pull__LayerDone *done, struct error *err)
{
    struct image_store *s = run->store;
    _cleanup_free_ char *from = str_printf("%s/%u", run->staging, done->index);
    struct layer *layer;
    int r;

    if (!run->resolved || done->index >= run->resolved->n_layers || run->layers[done->index] != FETCHING)
        return error_set(err, STATUS_INTERNAL, EPROTO, "crisp-pull reports a layer that it was not to fetch");
    r = loose_check(done->loose, false, err);
    if (r < 0)
        return r;
    if (!from)
        return error_errno(err, ENOMEM, "publish a layer");
    pthread_mutex_lock(&s->lock);
    run->layers[done->index] = BROUGHT;
    give_slot(run);
    pull_ops_wake(s);
    pthread_mutex_unlock(&s->lock);
    r = decide_layers(run, err); // before the disk is waited for
    if (r < 0)
        return r;
    pthread_mutex_lock(&s->lock);
    layer = map_get(s->layers, run->resolved->layers[done->index]->diff_id);
    layer->bytes = done->bytes;
    layer->inodes = done->inodes;
    layer->loose = done->loose; // out of the message
    done->loose = NULL;
    pthread_mutex_unlock(&s->lock);
    r = layer_publish(s, layer, from, err);
    if (r < 0)
        return r;
    run->layers[done->index] = HELD;
    pull_progress_set(run->op, done->index, IMAGE_LAYER_DONE);
    count_layer(run, done);
    return 0;
}

// Gives back what the pull held; layers it was fetching are others' to fetch.
static void release_layers(struct pull_run *run)
{
    struct image_store *s = run->store;

    if (!run->layers || !run->claimed)
        return;
    layers_release(s, run->claimed, run->resolved->n_layers);
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < run->resolved->n_layers; i++) {
        if (run->layers[i] == FETCHING)
            give_slot(run);
        if (run->layers[i] != HELD && run->layers[i] != OPEN) {
            (void)map_remove(s->layers, run->claimed[i]->diff_id);
            image_layer_free(run->claimed[i]);
        }
    }
    pull_ops_wake(s);
    pthread_mutex_unlock(&s->lock);
}

// Messages

// The reference itself, if it has a tag, and its digest.
static int pull_names(const struct pull_op *op, const Pull__PullResolved *resolved, char ***names,
                      struct error *err)
{
    _cleanup_free_ char *name = reference_name(&op->ref);
    _cleanup_free_ char *digest = name ? str_printf("%s@%s", name, resolved->manifest_digest) : NULL;

    *names = digest ? strv_new(1, digest) : NULL;
    if (!*names || (op->ref.tag && strv_append(names, op->key) < 0))
        return error_errno(err, ENOMEM, "pull %s", op->key);
    return 0;
}

static int take_resolved(struct pull_run *run, Pull__FromPull **m, struct error *err)
{
    const Pull__PullResolved *resolved = (*m)->resolved;
    int r;

    if (run->resolved || !resolved->config || !digest_is_valid(resolved->config_digest) ||
        !(digest_is_valid(resolved->manifest_digest) ||
          (run->op->archive_fd >= 0 && !*resolved->manifest_digest)) ||
        resolved->n_layers > IMAGE_LAYERS_MAX || resolved->n_layers != resolved->config->n_diff_ids ||
        !source_is_sane(resolved))
        return error_set(err, STATUS_INTERNAL, EPROTO, "crisp-pull's answer makes no sense");
    for (size_t i = 0; i < resolved->n_layers; i++)
        if (!digest_is_valid(resolved->layers[i]->diff_id) ||
            !str_eq(resolved->layers[i]->diff_id, resolved->config->diff_ids[i]))
            return error_set(err, STATUS_INTERNAL, EPROTO, "crisp-pull's answer makes no sense");
    run->layers = calloc(resolved->n_layers + 1, sizeof(*run->layers));
    run->claimed = calloc(resolved->n_layers + 1, sizeof(struct layer *));
    if (!run->layers || !run->claimed || pull_progress_begin(run->op, resolved) < 0)
        return error_errno(err, ENOMEM, "pull");
    if (mkdir(run->staging, 0700) < 0)
        return error_errno(err, errno, "make %s", run->staging);
    run->resolved = resolved;
    run->resolved_frame = steal_ptr(m);
    strv_freep(&run->op->names);
    r = run->op->archive_fd >= 0 ? import_names(run->op, resolved, &run->op->names, err)
                                 : pull_names(run->op, resolved, &run->op->names, err);
    return r < 0 ? r : decide_layers(run, err);
}

static int handle_message(struct pull_run *run, Pull__FromPull **m, struct error *err)
{
    switch ((*m)->kind_case) {
    case PULL__FROM_PULL__KIND_RESOLVED:
        return take_resolved(run, m, err);
    case PULL__FROM_PULL__KIND_LAYER_DONE:
        return take_layer(run, (*m)->layer_done, err);
    case PULL__FROM_PULL__KIND_AMOUNTS:
        pull_progress_amounts(run->op, (*m)->amounts);
        return 0;
    case PULL__FROM_PULL__KIND_DONE:
        run->done = true;
        run->fetched_bytes = (*m)->done->bytes_fetched;
        if (run->op->archive_fd < 0)
            scheme_note(run->store, run->op->ref.domain, (*m)->done->plain_http);
        run->unchanged = !run->resolved && *(*m)->done->unchanged_digest;
        if (run->unchanged)
            run->op->image_id = unchanged_image(run->op, (*m)->done->unchanged_digest);
        return 0;
    case PULL__FROM_PULL__KIND_FAILED:
        if (run->op->archive_fd < 0)
            scheme_note(run->store, run->op->ref.domain, false);
        return error_set(err, (enum status)(*m)->failed->status, (*m)->failed->errnum, "%s",
                         (*m)->failed->message);
    default:
        return error_set(err, STATUS_INTERNAL, EPROTO, "crisp-pull talks nonsense");
    }
}

static int read_messages(struct pull_run *run, struct error *err)
{
    long n = pb_frame_reader_feed(&run->reader, run->program.sock);

    if (n == -EAGAIN || n == -EINTR)
        return 0;
    run->stillborn = n <= 0 && run->spare && !run->heard;
    run->heard = true;
    if (n <= 0)
        return error_set(err, STATUS_INTERNAL, EPIPE,
                         "crisp-pull died; its last words are in the daemon's log");
    while (!run->done) {
        Pull__FromPull *m = NULL;
        size_t n_fds = 0;
        int r = pb_frame_reader_take(&run->reader, &pull__from_pull__descriptor, NULL,
                                     (ProtobufCMessage **)&m, NULL, &n_fds);
        if (r < 0)
            return error_set(err, STATUS_INTERNAL, EPROTO, "crisp-pull talks nonsense");
        if (r == 0)
            return 0;
        r = handle_message(run, &m, err);
        if (m)
            pull__from_pull__free_unpacked(m, NULL);
        if (r < 0)
            return r;
    }
    return 0;
}

static int converse(struct pull_run *run, struct error *err)
{
    struct pollfd fds[] = {{.fd = run->program.sock, .events = POLLIN},
                           {.fd = run->op->cancel_fd, .events = POLLIN},
                           {.fd = run->op->wake_fd, .events = POLLIN}};
    uint64_t count;

    while (!run->done) {
        int r = 0;

        if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
            return error_errno(err, errno, "poll");
        if (fds[1].revents)
            return error_set(err, STATUS_CANCELLED, ECANCELED, "nobody waits for it any more");
        if (fds[2].revents) {
            (void)!read(run->op->wake_fd, &count, sizeof(count));
            if (run->resolved)
                r = decide_layers(run, err);
        }
        if (r == 0 && fds[0].revents)
            r = read_messages(run, err);
        if (r < 0)
            return r;
    }
    return 0;
}

// The end

// `write` is held: nothing is condemned before it is released.
static int check_layers(const struct pull_run *run, struct error *err)
{
    const struct layer *bad = NULL;

    pthread_mutex_lock(&run->store->lock);
    for (size_t i = 0; !bad && i < run->resolved->n_layers; i++)
        bad = run->claimed[i]->condemned ? run->claimed[i] : NULL;
    pthread_mutex_unlock(&run->store->lock);
    return bad ? error_set(err, STATUS_INTERNAL, EIO, "layer %s was damaged meanwhile; pull again",
                           bad->diff_id)
               : 0;
}

static int commit(struct pull_run *run, struct error *err)
{
    struct pull_op *op = run->op;
    int r;

    if (!run->resolved)
        return error_set(err, STATUS_INTERNAL, EPROTO, "crisp-pull's answer makes no sense");
    for (size_t i = 0; i < run->resolved->n_layers; i++)
        if (run->layers[i] != HELD)
            return error_set(err, STATUS_INTERNAL, EPROTO, "crisp-pull left a layer out");
    r = store_mend_prepare(run->store, run->resolved->config_digest, run->resolved->config->diff_ids,
                           run->resolved->n_layers, run->staging, op->cancel_fd, &run->mend, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&run->store->write);
    r = check_layers(run, err);
    if (r == 0)
        r = store_mend_publish(run->store, &run->mend, err);
    if (r == 0)
        r = records_commit(run->store, run->resolved, op->names, run->mend.layer != NULL, err);
    pthread_mutex_unlock(&run->store->write);
    if (r < 0)
        return r;
    run->claimed[run->resolved->n_layers] = run->mend.layer;
    settle_wake(run->store);
    if (run->store->sync_before_answer)
        r = settle_wait(run->store, run->claimed, run->resolved->n_layers + 1, &op->cancelled, err);
    if (r < 0)
        return r;
    op->archive_images = run->resolved->archive_images;
    op->image_id = strdup(run->resolved->config_digest);
    return op->image_id ? 0 : error_errno(err, ENOMEM, "pull %s", op->key);
}

static void clean_up(struct pull_run *run)
{
    struct error err = ERROR_INIT;

    pull_program_end(&run->program, run->done);
    store_mend_done(run->store, &run->mend);
    if (run->resolved)
        release_layers(run);
    pb_frame_reader_done(&run->reader);
    if (run->resolved && trash_put(run->store, run->staging, &err) < 0)
        log_warn("delete a pull's staging folder", "path", run->staging, "error", err.message);
    pthread_mutex_lock(&run->store->write);
    if (records_collect(run->store, &err) < 0)
        log_warn("delete unneeded layers", "error", err.message);
    pthread_mutex_unlock(&run->store->write);
    if (run->resolved_frame)
        pull__from_pull__free_unpacked(run->resolved_frame, NULL);
    free(run->layers);
    free(run->claimed);
    free(run->staging);
}

// Milliseconds of a time, or a number, as text for the log.
static const char *text_ms(uint64_t ns, char out[32])
{
    (void)snprintf(out, 32, "%llu", (unsigned long long)(ns / (uint64_t)NS_PER_MS));
    return out;
}

static const char *text_number(uint64_t n, char out[32])
{
    (void)snprintf(out, 32, "%llu", (unsigned long long)n);
    return out;
}

// fetch_ms (waiting for bytes), inflate_ms (and hashing) and write_ms are sums over the layers, which go on
// at the same time; commit_ms is recording it.
static void log_pull(const struct pull_run *run, int64_t started_ns)
{
    char *const *names = run->op->names;
    const char *name = run->op->archive_fd >= 0 && names[0] ? names[0] : run->op->key;
    char bytes[32], ms[32], fetched[32], here[32], fetch[32], inflate[32], write_[32], commit_[32];

    log_info(run->op->archive_fd < 0 ? "image pulled" : "image imported", "image", name, "id",
             run->op->image_id, "bytes", text_number(run->fetched_bytes, bytes), "ms",
             text_ms((uint64_t)(clock_mono_ns() - started_ns), ms), "layers_fetched",
             text_number(run->n_fetched, fetched), "layers_here",
             text_number(run->resolved->n_layers - run->n_fetched, here), "fetch_ms",
             text_ms(run->fetch_ns, fetch), "inflate_ms", text_ms(run->inflate_ns, inflate), "write_ms",
             text_ms(run->write_ns, write_), "commit_ms", text_ms(run->commit_ns, commit_));
}

// 1: once more. What was there when it began is gone, and it has to be done in full; or something had ended
// the crisp-pull that waited for it.
static int run_pull(struct pull_op *op)
{
    struct pull_run run = {.op = op, .store = op->store, .program = PULL_PROGRAM_NONE};
    int64_t started_ns = clock_mono_ns();

    pb_frame_reader_init(&run.reader);
    op->result = start(&run, &op->error);
    if (op->result == 0)
        op->result = converse(&run, &op->error);
    if (op->result == 0 && !run.unchanged) {
        int64_t commit_started_ns = clock_mono_ns();
        op->result = commit(&run, &op->error);
        run.commit_ns = (uint64_t)(clock_mono_ns() - commit_started_ns);
    }
    if (op->result == 0 && op->image_id && run.unchanged && run.store->sync_before_answer)
        op->result = unchanged_wait(op, &op->error);
    if (op->error.errnum == ENOSPC || op->error.errnum == EDQUOT)
        error_wrap(&op->error, "no space or no inodes are left for %s", run.store->root);
    if (op->result < 0 && op->archive_fd < 0)
        error_wrap(&op->error, "pull %s", op->key);
    if (op->result == 0 && !run.unchanged)
        log_pull(&run, started_ns);
    else if (op->image_id)
        log_info("image is up to date", "image", op->key, "id", op->image_id);
    op->in_full = op->in_full || run.unchanged;
    op->no_spare = op->no_spare || run.stillborn;
    if (run.unchanged && op->image_id) {
        spare_keep(op, &run.program);
        pull_op_answer(op); // nothing was changed, and crisp-pull's end is nobody's concern
    }
    clean_up(&run);
    return run.stillborn || (op->result == 0 && !op->image_id);
}

void pull_op_run(struct pull_op *op)
{
    for (int tries = 0; tries < 3; tries++) {
        op->error = (struct error)ERROR_INIT;
        if (run_pull(op) == 0)
            return;
    }
    op->result = error_set(&op->error, STATUS_INTERNAL, EPROTO, "crisp-pull's answer makes no sense");
}
