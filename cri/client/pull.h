// Pulling an image, and showing how it goes.
#ifndef CRI_CLIENT_PULL_H
#define CRI_CLIENT_PULL_H

#include "api/crisp/images.pb-c.h"
#include "cri/client/cli.h"

enum pull_show {
    PULL_SHOW_AUTO,  // bars where stderr is a terminal, lines elsewhere
    PULL_SHOW_BARS,  // redrawn in place
    PULL_SHOW_LINES, // a line for each layer that has come
    PULL_SHOW_NONE,
};

// Pulls by crisp's own service, by the CRI's PullImage where that isn't there. *id is the caller's to free.
// auth may be NULL. A pull has no time-out unless one was given.
int pull_image(struct cli *cli, const char *image, Cri__AuthConfig *auth, enum pull_show show, char **id,
               struct error *err);

// pull_show.c: one pull's (or import's) display, on stderr.
struct pull_view {
    enum pull_show show;
    const char *image;
    Crisp__PullProgress *last; // NULL: nothing is known yet
    size_t drawn;              // lines on the terminal, above the cursor
    int64_t started_ns;
};
void pull_view_begin(struct pull_view *v, const char *image, enum pull_show show);
// Takes the message over.
void pull_view_update(struct pull_view *v, Crisp__PullProgress *progress);
void pull_view_end(struct pull_view *v, const char *verb, bool went_well);
// One layer's line, at most `columns` wide, without its end; for tests, too.
void pull_view_line(const Crisp__LayerProgress *layer, size_t columns, char *out, size_t size);

#endif
