// CDI files as text: JSON by jansson, YAML by libyaml, both into jansson's tree.
#include <jansson.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cdi.h"

#define DEPTH_MAX  32
#define VALUES_MAX 200000 // of one file; aliases count each time: a few lines could stand for billions

struct yaml_reader {
    const char *file;
    yaml_document_t *document;
    size_t left;
    struct error *err;
};

static int bad_yaml(struct yaml_reader *r, const yaml_node_t *node, const char *what)
{
    return error_set(r->err, STATUS_INVALID_ARGUMENT, EINVAL, "%s:%zu: %s", r->file,
                     node->start_mark.line + 1, what);
}

// Whole numbers as vendors' tools write them: decimal, 0x1f, 0o17, and 017 (YAML 1.1's octal).
static bool plain_number(const char *text, json_t **out)
{
    bool negative = *text == '-';
    const char *digits = text + (negative || *text == '+');
    int base = 10;
    if (digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'o')) {
        base = digits[1] == 'x' ? 16 : 8;
        digits += 2;
    } else if (digits[0] == '0' && digits[1]) {
        base = 8;
    }
    static const char all[] = "0123456789abcdefABCDEF";
    const size_t len = strlen(digits);
    char allowed[sizeof(all)] = "";
    memcpy(allowed, all, base == 16 ? sizeof(all) - 1 : (size_t)base);
    if (len == 0 || len > 15 || strspn(digits, allowed) != len)
        return false;
    json_int_t value = strtoll(digits, NULL, base);
    *out = json_integer(negative ? -value : value);
    return true;
}

static json_t *plain_scalar(const char *text)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    json_t *number;
    for (size_t i = 0; i < ARRAY_SIZE(nulls); i++) {
        if (str_eq(text, nulls[i]))
            return json_null();
    }
    if (str_eq(text, "true") || str_eq(text, "True") || str_eq(text, "TRUE"))
        return json_true();
    if (str_eq(text, "false") || str_eq(text, "False") || str_eq(text, "FALSE"))
        return json_false();
    return plain_number(text, &number) ? number : json_string(text);
}

static json_t *scalar(struct yaml_reader *r, const yaml_node_t *node)
{
    const char *text = (const char *)node->data.scalar.value;
    if (strlen(text) != node->data.scalar.length) {
        (void)bad_yaml(r, node, "a NUL byte in a text");
        return NULL;
    }
    json_t *v = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? plain_scalar(text) : json_string(text);
    if (!v)
        (void)error_errno(r->err, ENOMEM, "%s", r->file);
    return v;
}

static json_t *convert(struct yaml_reader *r, int id, int depth);

// Takes item over.
static int add_item(struct yaml_reader *r, json_t *list, json_t *item)
{
    if (!item)
        return -EINVAL;
    return json_array_append_new(list, item) < 0 ? error_errno(r->err, ENOMEM, "%s", r->file) : 0;
}

static int add_pair(struct yaml_reader *r, json_t *map, const yaml_node_pair_t *pair, int depth)
{
    const yaml_node_t *key = yaml_document_get_node(r->document, pair->key);
    if (key->type != YAML_SCALAR_NODE ||
        strlen((const char *)key->data.scalar.value) != key->data.scalar.length)
        return bad_yaml(r, key, "a key has to be a text");
    const char *name = (const char *)key->data.scalar.value;
    if (json_object_get(map, name))
        return error_set(r->err, STATUS_INVALID_ARGUMENT, EINVAL, "%s:%zu: %.100s: is given twice", r->file,
                         key->start_mark.line + 1, name);
    json_t *value = convert(r, pair->value, depth);
    if (!value)
        return -EINVAL;
    return json_object_set_new(map, name, value) < 0 ? error_errno(r->err, EILSEQ, "%s", r->file) : 0;
}

static json_t *convert(struct yaml_reader *r, int id, int depth)
{
    const yaml_node_t *node = yaml_document_get_node(r->document, id);
    if (depth == DEPTH_MAX || r->left == 0) {
        (void)bad_yaml(r, node, "is nested too deeply, or too large");
        return NULL;
    }
    r->left--;
    if (node->type == YAML_SCALAR_NODE)
        return scalar(r, node);
    bool is_list = node->type == YAML_SEQUENCE_NODE;
    json_t *out = is_list ? json_array() : json_object();
    int rc = out ? 0 : error_errno(r->err, ENOMEM, "%s", r->file);
    for (yaml_node_item_t *i = node->data.sequence.items.start;
         rc == 0 && is_list && i < node->data.sequence.items.top; i++)
        rc = add_item(r, out, convert(r, *i, depth + 1));
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start;
         rc == 0 && !is_list && p < node->data.mapping.pairs.top; p++)
        rc = add_pair(r, out, p, depth + 1);
    if (rc == 0)
        return out;
    json_decref(out);
    return NULL;
}

static int syntax_error(const char *file, const yaml_parser_t *parser, struct error *err)
{
    if (parser->error == YAML_MEMORY_ERROR)
        return error_errno(err, ENOMEM, "%s", file);
    return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s:%zu: not valid YAML: %s", file,
                     parser->problem_mark.line + 1, parser->problem ? parser->problem : "unreadable");
}

static json_t *read_document(const char *file, yaml_parser_t *parser, struct error *err)
{
    yaml_document_t document, second;
    if (!yaml_parser_load(parser, &document)) {
        (void)syntax_error(file, parser, err);
        return NULL;
    }
    struct yaml_reader r = {.file = file, .document = &document, .left = VALUES_MAX, .err = err};
    json_t *out = NULL;
    if (yaml_document_get_root_node(&document))
        out = convert(&r, 1, 0); // the root is the first node
    else
        (void)error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s: is empty", file);
    yaml_document_delete(&document);
    if (!out)
        return NULL;
    // Asking once more tells a second document and errors behind the first.
    int rc = 0;
    if (!yaml_parser_load(parser, &second)) {
        rc = syntax_error(file, parser, err);
    } else {
        const yaml_node_t *more = yaml_document_get_root_node(&second);
        if (more)
            rc = error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                           "%s:%zu: a second document (---) in one file", file, more->start_mark.line + 1);
        yaml_document_delete(&second);
    }
    if (rc == 0)
        return out;
    json_decref(out);
    return NULL;
}

static json_t *load_yaml(const char *file, const char *text, size_t len, struct error *err)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        (void)error_errno(err, ENOMEM, "%s", file);
        return NULL;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    json_t *out = read_document(file, &parser, err);
    yaml_parser_delete(&parser);
    return out;
}

json_t *cdi_text_load(const char *file, const char *text, size_t len, bool yaml, struct error *err)
{
    json_error_t bad;
    if (yaml)
        return load_yaml(file, text, len, err);
    json_t *out = json_loadb(text, len, JSON_REJECT_DUPLICATES, &bad);
    if (!out && json_error_code(&bad) == json_error_out_of_memory)
        (void)error_errno(err, ENOMEM, "%s", file);
    else if (!out)
        (void)error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s:%d: not valid JSON: %s", file,
                        bad.line > 0 ? bad.line : 1, bad.text);
    return out;
}
