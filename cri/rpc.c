#include "cri/rpc.h"

int rpc_no_memory(struct error *err)
{
    return error_set(err, STATUS_RESOURCE_EXHAUSTED, ENOMEM,
                     "the call takes more than 64 MiB of memory, or the machine has none left");
}
