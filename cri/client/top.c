// crisp top and crisp stats: what containers use, once or again and again.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "api/cri/api.pb-c.h"
#include "base/clock.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/find.h"
#include "cri/client/options.h"
#include "cri/client/output.h"
#include "cri/client/usage.h"
#include "cri/client/values.h"

#define INTERVAL_DEFAULT_NS NS_PER_SEC
#define INTERVAL_MIN_NS     (100 * NS_PER_MS)
#define FIRST_NS            (500 * NS_PER_MS) // between the two looks of a single table

struct top_options {
    bool once;
    const char *interval, *sort, *output;
};

static const struct option_row top_rows[] = {
    OPTION_ROW(struct top_options, once, "once", 0, OPTION_SWITCH, NULL, "print one table and end"),
    OPTION_ROW(struct top_options, interval, "interval", 0, OPTION_TEXT, "TIME", "between two looks (1s)"),
    OPTION_ROW(struct top_options, sort, "sort", 0, OPTION_TEXT, "BY", "cpu, memory or name (cpu)"),
};
static const struct option_row stats_rows[] = {
    OPTION_ROW(struct top_options, once, "no-stream", 0, OPTION_SWITCH, NULL, "print once and end"),
    OPTION_ROW(struct top_options, interval, "interval", 0, OPTION_TEXT, "TIME", "between two looks (1s)"),
    OPTION_ROW(struct top_options, output, "output", 'o', OPTION_TEXT, "FORM",
               "table, or json: an object per line (table)"),
};

#define COLUMNS_TEXT                                                                                         \
    "CPU % is that of one CPU, memory what can't be given back at once. Network and\n"                       \
    "processes are those of the pod; DISK is what the container has written to its root.\n"

static const struct options top_table = {
    .command = "top",
    .usage = "top [--once] [--sort BY] [CONTAINER…]",
    .intro = "Shows what containers use, again and again until SIGINT; once, where the output is\n"
             "no terminal.\n",
    .footer = COLUMNS_TEXT,
    .rows = top_rows,
    .n_rows = ARRAY_SIZE(top_rows),
    .bad_code = CLI_EXIT_USAGE,
};
static const struct options stats_table = {
    .command = "stats",
    .usage = "stats [--no-stream] [-o json] [CONTAINER…]",
    .intro = "Prints what containers use, again and again until SIGINT.\n",
    .footer = COLUMNS_TEXT,
    .rows = stats_rows,
    .n_rows = ARRAY_SIZE(stats_rows),
    .bad_code = CLI_EXIT_USAGE,
};

struct view {
    struct cli *cli;
    bool live;    // redraw the terminal
    bool heading; // a line on all of them, above
    bool json, once;
    enum usage_order order;
    int64_t interval_ns;
    char **ids; // NULL: all
};

static void set_size(char out[OUTPUT_TEXT_MAX], uint64_t bytes)
{
    if (bytes == USAGE_UNKNOWN)
        (void)snprintf(out, OUTPUT_TEXT_MAX, "-");
    else
        output_size_binary(bytes, out);
}

static void add_row(struct table *t, const struct usage *u)
{
    char id[OUTPUT_TEXT_MAX], cpu[OUTPUT_TEXT_MAX] = "-", percent[OUTPUT_TEXT_MAX] = "-";
    char memory[OUTPUT_TEXT_MAX], limit[OUTPUT_TEXT_MAX], rx[OUTPUT_TEXT_MAX], tx[OUTPUT_TEXT_MAX];
    char disk[OUTPUT_TEXT_MAX], pids[OUTPUT_TEXT_MAX] = "-";
    char of_limit[2 * OUTPUT_TEXT_MAX + 4], net[2 * OUTPUT_TEXT_MAX + 4];

    output_short_id(u->id, id);
    if (u->cpu_percent >= 0)
        (void)snprintf(cpu, sizeof(cpu), "%.2f%%", u->cpu_percent);
    if (u->memory_limit != USAGE_UNKNOWN && u->memory_limit > 0)
        (void)snprintf(percent, sizeof(percent), "%.2f%%",
                       100.0 * (double)u->memory / (double)u->memory_limit);
    set_size(memory, u->memory);
    set_size(limit, u->memory_limit);
    set_size(rx, u->rx);
    set_size(tx, u->tx);
    set_size(disk, u->disk);
    if (u->pids != USAGE_UNKNOWN)
        (void)snprintf(pids, sizeof(pids), "%llu", (unsigned long long)u->pids);
    (void)snprintf(of_limit, sizeof(of_limit), "%s / %s", memory, limit);
    (void)snprintf(net, sizeof(net), "%s / %s", rx, tx);
    table_row(t, (const char *const[]){id, u->name, cpu, of_limit, percent, net, disk, pids});
}

static void print_heading(const struct usage_list *list, FILE *out)
{
    double cpu = 0;
    uint64_t memory = 0;
    char size[OUTPUT_TEXT_MAX], when[16] = "";
    time_t now = time(NULL);
    struct tm local;

    for (size_t i = 0; i < list->n; i++) {
        cpu += list->items[i].cpu_percent > 0 ? list->items[i].cpu_percent : 0;
        memory += list->items[i].memory != USAGE_UNKNOWN ? list->items[i].memory : 0;
    }
    output_size_binary(memory, size);
    if (localtime_r(&now, &local))
        (void)strftime(when, sizeof(when), "%H:%M:%S", &local);
    (void)fprintf(out, "%s  %zu container%s  CPU %.1f%%  memory %s\n\n", when, list->n,
                  list->n == 1 ? "" : "s", cpu, size);
}

static void print_table(const struct view *v, const struct usage_list *list, FILE *out)
{
    struct table t;

    if (v->heading)
        print_heading(list, out);
    table_init(&t, 8,
               (const char *const[]){"CONTAINER", "NAME", "CPU %", "MEMORY / LIMIT", "MEM %", "NET RX / TX",
                                     "DISK", "PIDS"});
    for (size_t i = 0; i < list->n; i++)
        add_row(&t, &list->items[i]);
    table_print(&t, out);
    table_done(&t);
}

// Nothing wraps and nothing scrolls: what has no room isn't shown.
static int redraw(const struct view *v, const struct usage_list *list)
{
    char *text = NULL;
    size_t size = 0;
    struct winsize window = {0};
    FILE *memory = open_memstream(&text, &size);

    if (!memory)
        return -ENOMEM;
    print_table(v, list, memory);
    (void)fclose(memory);
    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &window);
    int rows = window.ws_row ? window.ws_row : 24;
    (void)fputs("\033[H", stdout); // to the first line
    char *line = text;
    for (int row = 0; row + 1 < rows && line && *line; row++) {
        char *end = strchr(line, '\n');
        if (end)
            *end = '\0';
        output_cut(line, window.ws_col ? window.ws_col : 80);
        (void)printf("%s\033[K\n", line); // and clear the rest of the line
        line = end ? end + 1 : NULL;
    }
    (void)fputs("\033[J", stdout); // and of the screen
    free(text);
    return fflush(stdout) == 0 ? 0 : -errno;
}

static void set_number(json_t *object, const char *key, uint64_t value)
{
    (void)json_object_set_new(object, key,
                              value == USAGE_UNKNOWN ? json_null() : json_integer((json_int_t)value));
}

static int print_json(const struct usage_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct usage *u = &list->items[i];
        json_t *object = json_pack("{s:s, s:s, s:s, s:s}", "id", u->id, "name", u->name, "pod", u->pod,
                                   "namespace", u->namespace);
        (void)json_object_set_new(object, "cpu_percent",
                                  u->cpu_percent < 0 ? json_null() : json_real(u->cpu_percent));
        set_number(object, "cpu_ns", u->cpu_ns);
        set_number(object, "memory_bytes", u->memory);
        set_number(object, "memory_limit_bytes", u->memory_limit);
        set_number(object, "network_rx_bytes", u->rx);
        set_number(object, "network_tx_bytes", u->tx);
        set_number(object, "disk_bytes", u->disk);
        set_number(object, "disk_inodes", u->inodes);
        set_number(object, "pids", u->pids);
        char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(6));
        json_decref(object);
        if (!text)
            return -ENOMEM;
        (void)printf("%s\n", text);
        free(text);
    }
    return 0;
}

static int show(const struct view *v, const struct usage_list *list)
{
    if (v->json) {
        int rc = print_json(list);
        if (rc < 0)
            return rc;
    } else if (v->live) {
        return redraw(v, list);
    } else {
        print_table(v, list, stdout);
    }
    return fflush(stdout) == 0 ? 0 : -errno;
}

// Sleeps; 1 when a signal came.
static int pause_for(const struct view *v, int64_t ns)
{
    struct ctx ctx = ctx_with_timeout(NULL, ns);

    ctx.cancel_fd = v->cli->signal_fd;
    return ctx_wait_fd(&ctx, -1, 0, NULL) == -ECANCELED;
}

static int run_view(const struct view *v, struct error *err)
{
    struct usage_list before = {0}, now = {0};
    bool shown = false;

    int rc = usage_read(v->cli, v->ids, NULL, &before, err);
    while (rc == 0) {
        if (pause_for(v, shown ? v->interval_ns : FIRST_NS))
            break;
        rc = usage_read(v->cli, v->ids, &before, &now, err);
        if (rc < 0)
            break;
        usage_sort(&now, v->order);
        rc = show(v, &now);
        if (rc < 0)
            (void)error_errno(err, -rc, "write to stdout");
        shown = true;
        usage_free(&before);
        before = now;
        now = (struct usage_list){0};
        if (v->once)
            break;
    }
    usage_free(&before);
    return rc == -ECANCELED ? 0 : rc;
}

static int find_all(struct view *v, char *const *names, struct error *err)
{
    int rc = 0;

    for (; rc == 0 && *names; names++) {
        _cleanup_free_ char *id = NULL;
        rc = find_container(v->cli, *names, &id, err);
        if (rc == 0 && strv_append(&v->ids, id) < 0)
            rc = error_errno(err, ENOMEM, "find containers");
    }
    return rc;
}

static int check(const struct options *table, const struct top_options *o, struct view *v)
{
    static const char *const orders[] = {"cpu", "memory", "name"};
    size_t order = 0;

    while (o->sort && order < ARRAY_SIZE(orders) && !str_eq(o->sort, orders[order]))
        order++;
    if (order == ARRAY_SIZE(orders))
        return options_bad(table, "--sort \"%s\": must be cpu, memory or name", o->sort);
    if (o->sort)
        v->order = (enum usage_order)order;
    v->json = str_eq(o->output, "json");
    if (o->output && !v->json && !str_eq(o->output, "table"))
        return options_bad(table, "--output \"%s\": must be table or json", o->output);
    if (o->interval && (value_duration(o->interval, &v->interval_ns) < 0 || v->interval_ns < INTERVAL_MIN_NS))
        return options_bad(table, "--interval \"%s\": must be a time such as 500ms or 5s, at least 100ms",
                           o->interval);
    return -1;
}

static int view(const struct options *table, struct view *v, int argc, char **argv)
{
    struct top_options o = {0};
    struct error err = ERROR_INIT;
    char **names = NULL;
    int n = 0;

    int code = options_parse(table, &o, argc, argv, &names, &n);
    if (code < 0)
        code = check(table, &o, v);
    if (code >= 0)
        return code;
    v->live = isatty(STDOUT_FILENO) && !o.once && !v->json;
    v->once = o.once || (v->heading && !v->live);
    int rc = find_all(v, names, &err);
    if (rc == 0)
        rc = run_view(v, &err);
    if (rc < 0 && rc != -EPIPE)
        output_error("%s", err.message);
    strv_free(v->ids);
    return rc < 0 ? 1 : 0;
}

int command_top(struct cli *cli, int argc, char **argv)
{
    struct view v = {.cli = cli, .heading = true, .order = USAGE_BY_CPU, .interval_ns = INTERVAL_DEFAULT_NS};

    return view(&top_table, &v, argc, argv);
}

int command_stats(struct cli *cli, int argc, char **argv)
{
    struct view v = {.cli = cli, .order = USAGE_BY_NAME, .interval_ns = INTERVAL_DEFAULT_NS};

    return view(&stats_table, &v, argc, argv);
}
