/* The hello-world image: says what had to work for its words to be read. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    char host[256] = "?";
    gethostname(host, sizeof(host) - 1);
    printf("Hello from a container!\n\n"
           "For you to read this, the runtime has\n"
           " 1. pulled the image \"hello-world\" from a registry and unpacked its layer,\n"
           " 2. made a pod (this one is called %s) with its namespaces and its network,\n"
           " 3. made a container in it and run this program as process %d,\n"
           " 4. written these lines to the container's log, from where your client read them.\n",
           host, (int)getpid());
    return 0;
}
