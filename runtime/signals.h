#ifndef RUNTIME_SIGNALS_H
#define RUNTIME_SIGNALS_H

#include <stdbool.h>

// Would the kernel drop this signal if it were sent to the first process of a pid namespace now? It does so as
// long as the process neither handles nor blocks it (kernel/signal.c, SIGNAL_UNKILLABLE; SIGKILL and SIGSTOP
// from outside excepted). false also when the process is gone.
bool signal_would_be_lost(int pid, int signal);

#endif
