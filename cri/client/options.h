// The options of a command: one table says what there is, where it goes and what --help tells of it.
//
// As people know it from other tools: "--name VALUE", "--name=VALUE", "-nVALUE", "-n VALUE", "-ab" for two
// switches, "--switch=false", "--" ends them. Names aren't abbreviated: scripts would break with the next
// option.
#ifndef CRI_CLIENT_OPTIONS_H
#define CRI_CLIENT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum option_kind {
    OPTION_SWITCH, // bool
    OPTION_TEXT,   // const char *, the command line's own; of several the last counts
    OPTION_LIST,   // char **, see str.h: each adds an item; the caller frees it
};

struct option_row {
    const char *name;
    char letter; // 0: none
    enum option_kind kind;
    size_t offset;     // in the command's own struct
    const char *value; // what --help calls it; NULL for a switch
    const char *help;  // may have several lines
};

// A row of type's field.
#define OPTION_ROW(type, field, name, letter, kind, value, help)                                             \
    {                                                                                                        \
        name, letter, kind, offsetof(type, field), value, help                                               \
    }

// What people know from elsewhere and there isn't here: what to do instead.
struct option_hint {
    const char *name; // without dashes
    const char *advice;
};

struct options {
    const char *command;
    const char *usage;  // the words after "Usage: crisp "
    const char *intro;  // what it does
    const char *footer; // NULL: nothing
    const struct option_row *rows;
    size_t n_rows;
    const struct option_hint *hints;
    size_t n_hints;
    bool stops_at_word; // options end at the first word that is none (it is a program's command line)
    int bad_code;       // the exit code of a wrong command line
};

// Reads argv (its first word is the command) into data. -1: go on, and the words that are no options are
// (*words)[0] to (*words)[*n_words - 1], with a NULL behind them (argv is put in order for that). Else the
// exit code: --help was printed, or an error told.
int options_parse(const struct options *o, void *data, int argc, char **argv, char ***words, int *n_words);

// Tells of a wrong word or option, and how to get help. Returns o->bad_code.
int options_bad(const struct options *o, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
