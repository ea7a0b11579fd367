// Stop signals: CRI's enumeration, the names that images use, and numbers.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/policy.h"

// The kernel's real-time signals are 32 to 64; C libraries keep 32 and 33 for themselves.
#define RTMIN 34
#define RTMAX 64

static const struct {
    Cri__Signal cri;
    int number;
} signals[] = {
    {CRI__SIGNAL__SIGABRT, SIGABRT},     {CRI__SIGNAL__SIGALRM, SIGALRM},     {CRI__SIGNAL__SIGBUS, SIGBUS},
    {CRI__SIGNAL__SIGCHLD, SIGCHLD},     {CRI__SIGNAL__SIGCLD, SIGCHLD},      {CRI__SIGNAL__SIGCONT, SIGCONT},
    {CRI__SIGNAL__SIGFPE, SIGFPE},       {CRI__SIGNAL__SIGHUP, SIGHUP},       {CRI__SIGNAL__SIGILL, SIGILL},
    {CRI__SIGNAL__SIGINT, SIGINT},       {CRI__SIGNAL__SIGIO, SIGIO},         {CRI__SIGNAL__SIGIOT, SIGABRT},
    {CRI__SIGNAL__SIGKILL, SIGKILL},     {CRI__SIGNAL__SIGPIPE, SIGPIPE},     {CRI__SIGNAL__SIGPOLL, SIGIO},
    {CRI__SIGNAL__SIGPROF, SIGPROF},     {CRI__SIGNAL__SIGPWR, SIGPWR},       {CRI__SIGNAL__SIGQUIT, SIGQUIT},
    {CRI__SIGNAL__SIGSEGV, SIGSEGV},     {CRI__SIGNAL__SIGSTKFLT, SIGSTKFLT}, {CRI__SIGNAL__SIGSTOP, SIGSTOP},
    {CRI__SIGNAL__SIGSYS, SIGSYS},       {CRI__SIGNAL__SIGTERM, SIGTERM},     {CRI__SIGNAL__SIGTRAP, SIGTRAP},
    {CRI__SIGNAL__SIGTSTP, SIGTSTP},     {CRI__SIGNAL__SIGTTIN, SIGTTIN},     {CRI__SIGNAL__SIGTTOU, SIGTTOU},
    {CRI__SIGNAL__SIGURG, SIGURG},       {CRI__SIGNAL__SIGUSR1, SIGUSR1},     {CRI__SIGNAL__SIGUSR2, SIGUSR2},
    {CRI__SIGNAL__SIGVTALRM, SIGVTALRM}, {CRI__SIGNAL__SIGWINCH, SIGWINCH},   {CRI__SIGNAL__SIGXCPU, SIGXCPU},
    {CRI__SIGNAL__SIGXFSZ, SIGXFSZ},
};

int policy_signal_number(Cri__Signal signal)
{
    // SIGRTMIN, then RTMINPLUS1 to 15, then RTMAXMINUS14 down to 1, then RTMAX: 34 to 64 without a gap.
    if (signal >= CRI__SIGNAL__SIGRTMIN && signal <= CRI__SIGNAL__SIGRTMAX)
        return RTMIN + (int)(signal - CRI__SIGNAL__SIGRTMIN);
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        if (signals[i].cri == signal)
            return signals[i].number;
    }
    return 0;
}

Cri__Signal policy_signal_of_number(int number)
{
    if (number >= RTMIN && number <= RTMAX)
        return (Cri__Signal)(CRI__SIGNAL__SIGRTMIN + (number - RTMIN));
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        if (signals[i].number == number)
            return signals[i].cri;
    }
    return CRI__SIGNAL__RUNTIME_DEFAULT;
}

// "RTMIN+3", "RTMAX-2" (after "SIG").
static int parse_realtime(const char *name)
{
    bool from_min = strncasecmp(name, "RTMIN", 5) == 0;
    if (!from_min && strncasecmp(name, "RTMAX", 5) != 0)
        return 0;
    uint64_t offset = 0;
    if (name[5] != '\0' &&
        (name[5] != (from_min ? '+' : '-') || str_parse_u64(name + 6, 0, RTMAX - RTMIN, &offset) < 0))
        return 0;
    return from_min ? RTMIN + (int)offset : RTMAX - (int)offset;
}

static int parse_name(const char *name)
{
    uint64_t number;
    if (str_parse_u64(name, 1, RTMAX, &number) == 0)
        return (int)number;
    if (strncasecmp(name, "SIG", 3) == 0)
        name += 3;
    int realtime = parse_realtime(name);
    if (realtime)
        return realtime;
    // The descriptor of the enumeration has the names: "SIGTERM".
    char full[32];
    int n = snprintf(full, sizeof(full), "SIG%s", name);
    if (n < 0 || (size_t)n >= sizeof(full))
        return 0;
    for (char *p = full; *p; p++)
        *p = (char)(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
    const ProtobufCEnumValue *v =
        protobuf_c_enum_descriptor_get_value_by_name(&cri__signal__descriptor, full);
    return v ? policy_signal_number((Cri__Signal)v->value) : 0;
}

int policy_stop_signal(const Cri__ContainerConfig *config, const char *image_signal)
{
    int number = policy_signal_number(config->stop_signal);
    if (number == 0 && !str_empty(image_signal))
        number = parse_name(image_signal);
    return number ? number : SIGTERM;
}
