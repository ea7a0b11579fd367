#include "cri/client/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/output.h"

#define HELP_COLUMN 32 // where the explanations begin

struct parser {
    const struct options *o;
    void *data;
    int argc;
    char **argv;
    int next; // word of argv
    int code; // -1: go on
};

int options_bad(const struct options *o, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    output_error("%s; try `crisp %s --help`", text, o->command);
    return o->bad_code;
}

// Columns, not bytes.
static int width_of(const char *text)
{
    int n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void print_row(const struct option_row *row)
{
    char head[128];
    const char *text = row->help;

    (void)snprintf(head, sizeof(head), "  %c%c%c --%s%s%s", row->letter ? '-' : ' ',
                   row->letter ? row->letter : ' ', row->letter ? ',' : ' ', row->name, row->value ? " " : "",
                   row->value ? row->value : "");
    int width = width_of(head);
    if (width > HELP_COLUMN - 2)
        (void)printf("%s\n%*s", head, HELP_COLUMN, "");
    else
        (void)printf("%s%*s", head, HELP_COLUMN - width, "");
    for (;;) {
        size_t len = strcspn(text, "\n");
        (void)printf("%.*s\n", (int)len, text);
        if (text[len] == '\0')
            return;
        text += len + 1;
        (void)printf("%*s", HELP_COLUMN, "");
    }
}

static void print_help(const struct options *o)
{
    (void)printf("Usage: crisp %s\n\n%s\n", o->usage, o->intro);
    for (size_t i = 0; i < o->n_rows; i++)
        print_row(&o->rows[i]);
    print_row(&(struct option_row){.name = "help", .help = "this text"});
    if (o->footer)
        (void)printf("\n%s", o->footer);
}

static int unknown(const struct options *o, const char *name, size_t len)
{
    for (size_t i = 0; i < o->n_hints; i++) {
        if (strlen(o->hints[i].name) == len && strncmp(o->hints[i].name, name, len) == 0) {
            output_error("%s has no option %s%.*s: %s", o->command, len > 1 ? "--" : "-", (int)len, name,
                         o->hints[i].advice);
            return o->bad_code;
        }
    }
    return options_bad(o, "%s has no option %s%.*s", o->command, len > 1 ? "--" : "-", (int)len, name);
}

static int set_switch(struct parser *p, const struct option_row *row, const char *value)
{
    bool *target = (bool *)((char *)p->data + row->offset);

    if (value && !str_eq(value, "true") && !str_eq(value, "false"))
        return options_bad(p->o, "--%s=%s: must be true or false", row->name, value);
    *target = !value || str_eq(value, "true");
    return -1;
}

// value: NULL takes the next word.
static int set_value(struct parser *p, const struct option_row *row, const char *value)
{
    void *target = (char *)p->data + row->offset;

    if (!value && p->next == p->argc)
        return options_bad(p->o, "--%s needs a value (%s)", row->name, row->value);
    if (!value)
        value = p->argv[p->next++];
    if (row->kind == OPTION_TEXT) {
        *(const char **)target = value;
        return -1;
    }
    if (strv_append((char ***)target, value) == 0)
        return -1;
    output_error("--%s: %s", row->name, strerrordesc_np(ENOMEM));
    return p->o->bad_code;
}

static int parse_long(struct parser *p, const char *word)
{
    size_t len = strcspn(word, "=");
    const char *value = word[len] == '=' ? word + len + 1 : NULL;

    if (str_eq(word, "help")) {
        print_help(p->o);
        return 0;
    }
    for (size_t i = 0; i < p->o->n_rows; i++) {
        const struct option_row *row = &p->o->rows[i];
        if (strlen(row->name) == len && strncmp(row->name, word, len) == 0)
            return row->kind == OPTION_SWITCH ? set_switch(p, row, value) : set_value(p, row, value);
    }
    return unknown(p->o, word, len);
}

// "-it", "-m100m", "-m=100m", "-m 100m".
static int parse_letters(struct parser *p, const char *letters)
{
    for (; *letters; letters++) {
        const struct option_row *row = NULL;
        for (size_t i = 0; i < p->o->n_rows && !row; i++)
            row = p->o->rows[i].letter == *letters ? &p->o->rows[i] : NULL;
        if (!row && *letters == 'h') {
            print_help(p->o);
            return 0;
        }
        if (!row)
            return unknown(p->o, letters, 1);
        if (row->kind == OPTION_SWITCH) {
            (void)set_switch(p, row, NULL);
            continue;
        }
        const char *rest = letters[1] == '=' ? letters + 2 : letters + 1;
        return set_value(p, row, letters[1] ? rest : NULL);
    }
    return -1;
}

int options_parse(const struct options *o, void *data, int argc, char **argv, char ***words, int *n_words)
{
    struct parser p = {.o = o, .data = data, .argc = argc, .argv = argv, .next = 1, .code = -1};
    int n = 0;
    bool over = false;

    while (p.next < argc && p.code < 0) {
        char *word = argv[p.next++];
        if (over || word[0] != '-' || word[1] == '\0') {
            argv[1 + n++] = word; // never behind what is still to be read
            over = over || o->stops_at_word;
        } else if (str_eq(word, "--")) {
            over = true;
        } else {
            p.code = word[1] == '-' ? parse_long(&p, word + 2) : parse_letters(&p, word + 1);
        }
    }
    if (p.code >= 0)
        return p.code;
    argv[1 + n] = NULL; // there is room: argv[argc] is NULL, too
    *words = argv + 1;
    *n_words = n;
    return -1;
}
