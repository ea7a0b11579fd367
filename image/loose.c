#include "image/loose.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "base/str.h"

#define PARTS_MAX 4096 // more than an image has layers

static bool is_clean(const char *path)
{
    size_t total = strlen(path);

    if (total == 0 || total >= PATH_MAX)
        return false;
    for (const char *s = path;; s++) {
        size_t n = strcspn(s, "/");
        if (n == 0 || n > NAME_MAX || (n == 1 && *s == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
            return false;
        s += n;
        if (*s == '\0')
            return true;
    }
}

static int bad(const char *what, struct error *err)
{
    return error_set(err, STATUS_DATA_LOSS, EBADMSG, "what is known of a layer makes no sense: \"%.100s\"",
                     what);
}

int loose_check(const Pull__Loose *loose, bool mend, struct error *err)
{
    if (!loose)
        return 0;
    for (size_t i = 0; i < loose->n_implicit_dirs; i++)
        if (!str_eq(loose->implicit_dirs[i], ".") && !is_clean(loose->implicit_dirs[i]))
            return bad(loose->implicit_dirs[i], err);
    for (size_t i = 0; i < loose->n_links; i++) {
        if (!is_clean(loose->links[i]->name))
            return bad(loose->links[i]->name, err);
        if (!is_clean(loose->links[i]->target))
            return bad(loose->links[i]->target, err);
    }
    if (mend ? loose->n_implicit_dirs || loose->n_links || loose->opaque_root : loose->n_parts || loose->top)
        return bad("parts", err);
    return loose->n_parts > PARTS_MAX ? bad("too many parts", err) : 0;
}
