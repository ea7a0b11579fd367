// Which registries on the machine itself have no TLS: they need not be asked by https each time first.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "image/reference.h"
#include "image/store.h"

#define HOSTS_MAX   16
#define REMEMBER_NS (600 * NS_PER_SEC)

struct schemes {
    struct {
        char *domain; // that answered by http; NULL: free
        int64_t until_ns;
    } hosts[HOSTS_MAX];
};

int schemes_open(struct image_store *s, struct error *err)
{
    s->schemes = calloc(1, sizeof(*s->schemes));
    return s->schemes ? 0 : error_errno(err, ENOMEM, "open the image store");
}

void schemes_close(struct image_store *s)
{
    for (size_t i = 0; s->schemes && i < HOSTS_MAX; i++)
        free(s->schemes->hosts[i].domain);
    free(s->schemes);
    s->schemes = NULL;
}

bool scheme_is_plain(struct image_store *s, const char *domain)
{
    int64_t now = clock_mono_ns();
    bool plain = false;

    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < HOSTS_MAX; i++)
        plain = plain || (s->schemes->hosts[i].domain && now < s->schemes->hosts[i].until_ns &&
                          str_eq(s->schemes->hosts[i].domain, domain));
    pthread_mutex_unlock(&s->lock);
    return plain;
}

void scheme_note(struct image_store *s, const char *domain, bool plain)
{
    size_t at = 0;

    if (!reference_domain_is_loopback(domain))
        return;
    pthread_mutex_lock(&s->lock);
    // The host's own place; else the one that is free, or was noted the longest time ago.
    for (size_t i = 0; i < HOSTS_MAX; i++) {
        if (s->schemes->hosts[i].domain && str_eq(s->schemes->hosts[i].domain, domain)) {
            at = i;
            break;
        }
        if (s->schemes->hosts[i].until_ns < s->schemes->hosts[at].until_ns)
            at = i;
    }
    bool own = s->schemes->hosts[at].domain && str_eq(s->schemes->hosts[at].domain, domain);
    if (plain && !own) {
        free(s->schemes->hosts[at].domain);
        s->schemes->hosts[at].domain = strdup(domain);
    }
    if (plain || own)
        s->schemes->hosts[at].until_ns = plain ? clock_mono_ns() + REMEMBER_NS : 0;
    pthread_mutex_unlock(&s->lock);
}
