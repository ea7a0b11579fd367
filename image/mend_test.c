// What a Loose that means harm could do, were it not refused before: nothing outside of the layers.
#include "image/mend.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

static char top[64], layers[96], outside[96], to[96];

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
}

static int setup(void **state)
{
    char path[128];

    (void)state;
    (void)snprintf(top, sizeof(top), "/tmp/crisp-mend-test-XXXXXX");
    assert_non_null(mkdtemp(top));
    (void)snprintf(layers, sizeof(layers), "%s/layers", top);
    (void)snprintf(outside, sizeof(outside), "%s/outside", top);
    (void)snprintf(to, sizeof(to), "%s/mend", top);
    assert_int_equal(mkdir(layers, 0755), 0);
    assert_int_equal(mkdir(outside, 0755), 0);
    write_file(outside, "secret", "of the host");
    for (const char *name = "ab"; *name; name++) {
        (void)snprintf(path, sizeof(path), "%s/%c", layers, *name);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    (void)snprintf(path, sizeof(path), "%s/a", layers);
    write_file(path, "f", "a layer's");
    (void)snprintf(path, sizeof(path), "%s/a/out", layers);
    return symlink(outside, path);
}

static int teardown(void **state)
{
    (void)state;
    return file_remove_tree(top, NULL);
}

static bool has(const char *dir, const char *name)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static void mend(const char *name, const char *target, const char *dir)
{
    Pull__Loose loose = PULL__LOOSE__INIT, *parts = NULL;
    Pull__LooseLink link = PULL__LOOSE_LINK__INIT, *links[] = {&link};
    struct mend_layer list[] = {{"a", NULL}, {"b", &loose}};
    char *dirs[] = {(char *)dir};
    struct mend_stats stats;
    struct error err = ERROR_INIT;

    link.name = (char *)name;
    link.target = (char *)target;
    loose.links = links;
    loose.n_links = name != NULL;
    loose.implicit_dirs = dirs;
    loose.n_implicit_dirs = dir != NULL;
    (void)mend_make(layers, list, 2, to, -1, &stats, &parts, &err);
    if (parts)
        pull__loose__free_unpacked(parts, NULL);
    assert_true(has(outside, "secret"));
    assert_false(has(outside, "new"));
    assert_false(has(top, "new"));
    assert_false(has("/", "crisp-mend-test-new"));
    assert_false(has(to, "stolen"));
    (void)file_remove_tree(to, NULL);
}

static void test_names(void **state)
{
    char path[160];

    (void)state;
    mend("stolen", "../../outside/secret", NULL);
    mend("stolen", "../b/../../outside/secret", NULL);
    mend("stolen", "out/secret", NULL);
    (void)snprintf(path, sizeof(path), "%s/secret", outside);
    mend("stolen", path, NULL);
    mend("/crisp-mend-test-new", "f", NULL);
    mend("../new", "f", NULL);
    mend("x/../../new", "f", NULL);
    mend("../outside/new", "f", NULL);
    mend("out/new", "f", NULL);
    mend(NULL, NULL, "../new");
    mend(NULL, NULL, "../outside");
    mend(NULL, NULL, "/crisp-mend-test-new");
    mend(NULL, NULL, "out");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_names, setup, teardown)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
