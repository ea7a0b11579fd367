// How a pull is shown: bars that are redrawn on a terminal, plain lines elsewhere. All on stderr, for stdout
// has results only.
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "cri/client/output.h"
#include "cri/client/pull.h"

#define ROWS_DEFAULT    24
#define COLUMNS_DEFAULT 80
#define BAR_MAX         40
#define LINE_MAX_BYTES  512

static const char *state_text(Crisp__LayerState state)
{
    switch (state) {
    case CRISP__LAYER_STATE__LAYER_FETCHING:
        return "fetching";
    case CRISP__LAYER_STATE__LAYER_UNPACKING:
        return "unpacking";
    case CRISP__LAYER_STATE__LAYER_DONE:
        return "done";
    case CRISP__LAYER_STATE__LAYER_PRESENT:
        return "here already";
    default:
        return "waiting";
    }
}

static void draw_bar(const Crisp__LayerProgress *layer, size_t width, char *out)
{
    bool all = layer->fetched >= layer->size && layer->size > 0;
    double part = all || layer->size == 0 ? 0 : (double)layer->fetched / (double)layer->size;
    size_t filled = all ? width : (size_t)(part * (double)width);

    out[0] = '[';
    for (size_t i = 0; i < width; i++)
        out[1 + i] = i < filled ? '=' : i == filled ? '>' : ' ';
    out[1 + width] = ']';
    out[2 + width] = '\0';
}

void pull_view_line(const Crisp__LayerProgress *layer, size_t columns, char *out, size_t size)
{
    char id[OUTPUT_TEXT_MAX], fetched[OUTPUT_TEXT_MAX], all[OUTPUT_TEXT_MAX], bar[BAR_MAX + 3];
    bool moving = layer->state == CRISP__LAYER_STATE__LAYER_FETCHING;
    // id, state, bar and two sizes with the blanks between them
    size_t fixed = 12 + 2 + 12 + 2 + 2 + 2 + 7 + 3 + 7;
    size_t width = columns > fixed ? columns - fixed : 0;

    output_short_id(layer->digest, id);
    output_size(layer->fetched, fetched);
    output_size(layer->size, all);
    width = width < BAR_MAX ? width : BAR_MAX;
    if (moving && width >= 5) {
        draw_bar(layer, width, bar);
        (void)snprintf(out, size, "%-12s  %-12s  %s  %s / %s", id, state_text(layer->state), bar, fetched,
                       all);
    } else if (moving) {
        (void)snprintf(out, size, "%-12s  %-12s  %s / %s", id, state_text(layer->state), fetched, all);
    } else {
        (void)snprintf(out, size, "%-12s  %-12s  %s", id, state_text(layer->state), all);
    }
    output_cut(out, columns);
}

static bool is_over(const Crisp__LayerProgress *layer)
{
    return layer->state == CRISP__LAYER_STATE__LAYER_DONE ||
           layer->state == CRISP__LAYER_STATE__LAYER_PRESENT;
}

// Where the terminal has too few lines, those layers that are done are left out first, then the last ones.
static void redraw(struct pull_view *v)
{
    struct winsize window = {0};
    size_t n = v->last ? v->last->n_layers : 0, skip, rows;

    (void)ioctl(STDERR_FILENO, TIOCGWINSZ, &window);
    rows = window.ws_row > 2 ? window.ws_row - 1u : ROWS_DEFAULT - 1;
    skip = n > rows ? n - rows : 0;
    if (v->drawn > 0)
        (void)fprintf(stderr, "\033[%zuA", v->drawn);
    size_t drawn = 0;
    for (size_t i = 0; i < n && drawn < rows; i++) {
        char line[LINE_MAX_BYTES];
        if (skip > 0 && is_over(v->last->layers[i])) {
            skip--;
            continue;
        }
        pull_view_line(v->last->layers[i], window.ws_col ? window.ws_col - 1u : COLUMNS_DEFAULT - 1, line,
                       sizeof(line));
        (void)fprintf(stderr, "\r%s\033[K\n", line);
        drawn++;
    }
    (void)fputs("\033[J", stderr); // what was below, if fewer lines are left
    v->drawn = drawn;
    (void)fflush(stderr);
}

static bool was_over(const struct pull_view *v, size_t i)
{
    return v->last && i < v->last->n_layers && is_over(v->last->layers[i]);
}

static void print_news(const struct pull_view *v, const Crisp__PullProgress *now)
{
    char size[OUTPUT_TEXT_MAX], id[OUTPUT_TEXT_MAX];
    uint64_t sum = 0;

    for (size_t i = 0; i < now->n_layers; i++)
        sum += now->layers[i]->size;
    output_size(sum, size);
    if (!v->last)
        (void)fprintf(stderr, "crisp: %zu layer%s, %s\n", now->n_layers, now->n_layers == 1 ? "" : "s", size);
    for (size_t i = 0; i < now->n_layers; i++) {
        if (!is_over(now->layers[i]) || was_over(v, i))
            continue;
        output_size(now->layers[i]->size, size);
        output_short_id(now->layers[i]->digest, id);
        (void)fprintf(stderr, "crisp: layer %s: %s, %s\n", id, state_text(now->layers[i]->state), size);
    }
}

void pull_view_begin(struct pull_view *v, const char *image, enum pull_show show)
{
    *v = (struct pull_view){.show = show, .image = image, .started_ns = clock_mono_ns()};
    if (show == PULL_SHOW_AUTO)
        v->show = isatty(STDERR_FILENO) ? PULL_SHOW_BARS : PULL_SHOW_LINES;
}

void pull_view_update(struct pull_view *v, Crisp__PullProgress *progress)
{
    if (v->show == PULL_SHOW_LINES)
        print_news(v, progress);
    if (v->last)
        crisp__pull_progress__free_unpacked(v->last, NULL);
    v->last = progress;
    if (v->show == PULL_SHOW_BARS)
        redraw(v);
}

void pull_view_end(struct pull_view *v, const char *verb, bool went_well)
{
    size_t n = v->last ? v->last->n_layers : 0, present = 0;
    uint64_t fetched = 0;
    char size[OUTPUT_TEXT_MAX];

    for (size_t i = 0; i < n; i++) {
        if (v->last->layers[i]->state == CRISP__LAYER_STATE__LAYER_DONE)
            fetched += v->last->layers[i]->size;
        present += v->last->layers[i]->state == CRISP__LAYER_STATE__LAYER_PRESENT;
    }
    output_size(fetched, size);
    double seconds = (double)(clock_mono_ns() - v->started_ns) / (double)NS_PER_SEC;
    if (went_well && v->show != PULL_SHOW_NONE && v->last)
        (void)fprintf(stderr, "crisp: %s %s: %zu new layer%s (%s), %zu here already, %.1f s\n", verb,
                      v->image, n - present, n - present == 1 ? "" : "s", size, present, seconds);
    else if (went_well && v->show != PULL_SHOW_NONE) // another runtime says nothing of layers
        (void)fprintf(stderr, "crisp: %s %s: %.1f s\n", verb, v->image, seconds);
    if (v->last)
        crisp__pull_progress__free_unpacked(v->last, NULL);
    v->last = NULL;
}
