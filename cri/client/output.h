// What people see: aligned tables, ages, sizes, messages.
#ifndef CRI_CLIENT_OUTPUT_H
#define CRI_CLIENT_OUTPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 8
#define OUTPUT_TEXT_MAX   32

struct table {
    size_t columns;
    char **cells; // rows one after the other
    size_t n_cells, alloc;
};

// Cells are copied, control characters replaced (a name must not steer a terminal). Running out of memory
// ends the program: there is nothing to undo in a listing.
void table_init(struct table *t, size_t columns, const char *const *titles);
void table_row(struct table *t, const char *const *cells);
void table_print(const struct table *t, FILE *out);
void table_done(struct table *t);

// "5s", "3m20s", "7h", "12d": of a duration in nanoseconds; "-" when it is negative.
void output_age(int64_t duration_ns, char out[OUTPUT_TEXT_MAX]);
// "512B", "4.2MB", "1.1GB": decimal units, as image sizes are commonly given.
void output_size(uint64_t bytes, char out[OUTPUT_TEXT_MAX]);
// "512B", "4.2MiB", "1.1GiB": binary units, as limits of memory are commonly given.
void output_size_binary(uint64_t bytes, char out[OUTPUT_TEXT_MAX]);
// Ends a line of valid UTF-8 after so many columns.
void output_cut(char *line, size_t columns);
// The first 12 digits of an id, without "sha256:".
void output_short_id(const char *id, char out[OUTPUT_TEXT_MAX]);
// "crisp: <message>" on stderr, control characters replaced.
void output_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
