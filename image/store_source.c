// The manifest and the config that an image was made of, as the registry had them. In the database only: few
// ask for them (verbose ImageStatus, export).
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/reference.h"
#include "image/store.h"

#define SOURCE_MAX (1u << 20) // as crisp-pull has it
#define TYPE_MAX   255

void image_source_done(struct image_source *source)
{
    free(source->manifest_digest);
    free(source->manifest_type);
    free(source->chain_id);
    free(source->manifest);
    free(source->config);
    *source = (struct image_source){0};
}

static bool is_text(const ProtobufCBinaryData *data)
{
    _cleanup_free_ char *text = NULL;

    if (data->len > SOURCE_MAX)
        return false;
    text = strndup(data->data ? (const char *)data->data : "", data->len);
    return text && strlen(text) == data->len && str_is_utf8(text);
}

static bool is_digest_or_empty(const char *text)
{
    return *text == '\0' || digest_is_valid(text);
}

bool source_is_sane(const Pull__PullResolved *resolved)
{
    return is_digest_or_empty(resolved->platform_digest) && is_digest_or_empty(resolved->chain_id) &&
           strlen(resolved->platform_type) <= TYPE_MAX && str_is_utf8(resolved->platform_type) &&
           is_text(&resolved->manifest_json) && is_text(&resolved->config_json);
}

bool source_is_news(const struct image_record *record, const Pull__PullResolved *resolved)
{
    if (resolved->config_json.len == 0)
        return false; // too large to be kept
    // An archive may have no manifest; that of a registry stays.
    return !record->source_digest ||
           (*resolved->platform_digest && !str_eq(record->source_digest, resolved->platform_digest));
}

int source_write(struct image_store *s, const char *id, const Pull__PullResolved *resolved, struct error *err)
{
    return db_exec(s->db, err,
                   "INSERT OR REPLACE INTO image_source (image_id, manifest_digest, manifest_type, chain_id,"
                   "                                     manifest, config) VALUES (?, ?, ?, ?, ?, ?)",
                   "ssssbb", id, resolved->platform_digest, resolved->platform_type, resolved->chain_id,
                   resolved->manifest_json.len > 0 ? (const void *)resolved->manifest_json.data : "",
                   resolved->manifest_json.len, resolved->config_json.data, resolved->config_json.len);
}

static int load_digest(struct db_row *row, void *data, struct error *err)
{
    struct image_store *s = data;
    struct image_record *record = map_get(s->records, db_row_text(row, 0));

    if (!record)
        return 0;
    free(record->source_digest);
    record->source_digest = strdup(db_row_text(row, 1));
    return record->source_digest ? 0 : error_errno(err, ENOMEM, "load images");
}

int sources_load(struct image_store *s, struct error *err)
{
    return db_query(s->db, err, load_digest, s, "SELECT image_id, manifest_digest FROM image_source", "");
}

static char *copy_blob(struct db_row *row, int column, size_t *len)
{
    const void *data = db_row_blob(row, column, len);
    char *copy = malloc(*len + 1);

    if (copy) {
        memcpy(copy, data ? data : "", *len);
        copy[*len] = '\0';
    }
    return copy;
}

static int take_source(struct db_row *row, void *data, struct error *err)
{
    struct image_source *out = data;

    out->manifest_digest = strdup(db_row_text(row, 0));
    out->manifest_type = strdup(db_row_text(row, 1));
    out->chain_id = strdup(db_row_text(row, 2));
    out->manifest = copy_blob(row, 3, &out->manifest_len);
    out->config = copy_blob(row, 4, &out->config_len);
    if (!out->manifest_digest || !out->manifest_type || !out->chain_id || !out->manifest || !out->config)
        return error_errno(err, ENOMEM, "read an image's record");
    return 0;
}

int image_store_source(struct image_store *s, const char *image_id, struct image_source *out,
                       struct error *err)
{
    int r;

    *out = (struct image_source){0};
    r = db_query(s->db, err, take_source, out,
                 "SELECT manifest_digest, manifest_type, chain_id, manifest, config FROM image_source"
                 " WHERE image_id = ?",
                 "s", image_id);
    if (r == 0 && !out->config)
        r = error_set(
            err, STATUS_FAILED_PRECONDITION, ENOENT,
            "image %s was pulled by an older version, which kept no copy of its manifest and config; "
            "pull it again",
            image_id);
    if (r < 0)
        image_source_done(out);
    return r;
}
