// A data race on purpose, in a program that has gRPC in it as crispd has: built under ThreadSanitizer only,
// where the test is that it is reported in spite of the suppressions (hack/tsan.supp).
#include <pthread.h>
#include <stddef.h>

#include <grpc/grpc.h>

static int counter;

static void *count(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100000; i++)
        counter++;
    return NULL;
}

int main(void)
{
    pthread_t other;

    grpc_init();
    if (pthread_create(&other, NULL, count, NULL) != 0)
        return 2;
    (void)count(NULL);
    (void)pthread_join(other, NULL);
    grpc_shutdown();
    return 0;
}
