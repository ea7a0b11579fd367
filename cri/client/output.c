#include "cri/client/output.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"

static void *or_die(void *p)
{
    if (!p) {
        (void)fputs("crisp: out of memory\n", stderr);
        exit(1);
    }
    return p;
}

static char *printable(const char *s)
{
    char *copy = or_die(str_sanitize_utf8(s ? s : ""));

    for (char *p = copy; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return copy;
}

static size_t width_of(const char *s)
{
    size_t n = 0;

    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

void table_init(struct table *t, size_t columns, const char *const *titles)
{
    *t = (struct table){.columns = columns < TABLE_COLUMNS_MAX ? columns : TABLE_COLUMNS_MAX};
    table_row(t, titles);
}

void table_row(struct table *t, const char *const *cells)
{
    if (t->n_cells + t->columns > t->alloc) {
        t->alloc = t->alloc ? t->alloc * 2 : 16 * t->columns;
        t->cells = or_die(reallocarray(t->cells, t->alloc, sizeof(*t->cells)));
    }
    for (size_t i = 0; i < t->columns; i++)
        t->cells[t->n_cells++] = printable(cells[i]);
}

void table_print(const struct table *t, FILE *out)
{
    size_t widths[TABLE_COLUMNS_MAX] = {0};

    for (size_t i = 0; i < t->n_cells; i++) {
        size_t width = width_of(t->cells[i]);
        if (width > widths[i % t->columns])
            widths[i % t->columns] = width;
    }
    for (size_t i = 0; i < t->n_cells; i++) {
        size_t column = i % t->columns;
        if (column + 1 == t->columns)
            (void)fprintf(out, "%s\n", t->cells[i]);
        else
            (void)fprintf(out, "%s%*s", t->cells[i], (int)(widths[column] - width_of(t->cells[i]) + 3), "");
    }
}

void table_done(struct table *t)
{
    for (size_t i = 0; i < t->n_cells; i++)
        free(t->cells[i]);
    free(t->cells);
    *t = (struct table){0};
}

void output_age(int64_t duration_ns, char out[OUTPUT_TEXT_MAX])
{
    int64_t s = duration_ns / NS_PER_SEC;

    if (duration_ns < 0)
        (void)snprintf(out, OUTPUT_TEXT_MAX, "-");
    else if (s < 120)
        (void)snprintf(out, OUTPUT_TEXT_MAX, "%llds", (long long)s);
    else if (s < 600)
        (void)snprintf(out, OUTPUT_TEXT_MAX, "%lldm%llds", (long long)(s / 60), (long long)(s % 60));
    else if (s < 7200)
        (void)snprintf(out, OUTPUT_TEXT_MAX, "%lldm", (long long)(s / 60));
    else if (s < 172800)
        (void)snprintf(out, OUTPUT_TEXT_MAX, "%lldh", (long long)(s / 3600));
    else
        (void)snprintf(out, OUTPUT_TEXT_MAX, "%lldd", (long long)(s / 86400));
}

static void format_size(uint64_t bytes, double step, const char *const units[7], char out[OUTPUT_TEXT_MAX])
{
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= step - 0.05 && unit < 6) {
        value /= step;
        unit++;
    }
    (void)snprintf(out, OUTPUT_TEXT_MAX, unit ? "%.1f%s" : "%.0f%s", value, units[unit]);
}

void output_size(uint64_t bytes, char out[OUTPUT_TEXT_MAX])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};

    format_size(bytes, 1000, units, out);
}

void output_size_binary(uint64_t bytes, char out[OUTPUT_TEXT_MAX])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};

    format_size(bytes, 1024, units, out);
}

void output_cut(char *line, size_t columns)
{
    for (; *line; line++) {
        if (((unsigned char)*line & 0xc0) == 0x80)
            continue;
        if (columns-- == 0) {
            *line = '\0';
            return;
        }
    }
}

void output_short_id(const char *id, char out[OUTPUT_TEXT_MAX])
{
    const char *colon = id ? strchr(id, ':') : NULL;

    (void)snprintf(out, OUTPUT_TEXT_MAX, "%.12s", colon ? colon + 1 : id ? id : "");
}

void output_error(const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0)
        return;
    char *clean = printable(text);
    (void)fprintf(stderr, "crisp: %s\n", clean);
    free(clean);
    free(text);
}
