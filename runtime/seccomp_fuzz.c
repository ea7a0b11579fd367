// Fuzzes Localhost profiles: what is read is compiled too. The first byte chooses capabilities and
// architecture.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "runtime/seccomp_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t caps[] = {0, UINT64_C(1) << 21, UINT64_MAX, 0xa80425fb};
    if (size == 0)
        return 0;
    size_t len = size - 1;
    _cleanup_free_ char *text = malloc(len + 1); // as a file is read: with a NUL behind it
    if (!text)
        return 0;
    memcpy(text, data + 1, len);
    text[len] = '\0';
    const struct seccomp_target target = {.native = data[0] & 4 ? SECCOMP_AARCH64 : SECCOMP_X86_64,
                                          .caps = caps[data[0] & 3],
                                          .kernel = SECCOMP_KERNEL(6, 1)};
    struct seccomp_profile profile = {0};
    struct buf program;
    struct error err = ERROR_INIT;
    void *keep = NULL;
    buf_init(&program, BPF_MAXINSNS * sizeof(struct sock_filter));
    if (seccomp_parse_json("file", text, len, &target, &profile, &keep, &err) < 0) {
        if (!err.message[0] || (err.status != STATUS_INVALID_ARGUMENT && err.errnum != ENOMEM))
            abort();
    } else if (seccomp_compile(&profile, &program, &err) == 0 && program.len == 0) {
        abort();
    }
    buf_done(&program);
    seccomp_profile_done(&profile);
    seccomp_json_keep_free(keep);
    return 0;
}
