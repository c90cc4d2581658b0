/* Looks a name up as any program does, by getaddrinfo for both families at once, and prints what came of it:
   its addresses one a line, or the error's name. Compiled against musl and against glibc. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static const char *name_of(int error)
{
    switch (error) {
    case EAI_AGAIN: return "EAI_AGAIN";
    case EAI_NONAME: return "EAI_NONAME";
    case EAI_FAIL: return "EAI_FAIL";
#ifdef EAI_NODATA
    case EAI_NODATA: return "EAI_NODATA";
#endif
    default: return gai_strerror(error);
    }
}

int main(int argc, char **argv)
{
    struct addrinfo hints, *found, *one;
    int error;

    if (argc != 2)
        return 2;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    error = getaddrinfo(argv[1], NULL, &hints, &found);
    if (error) {
        puts(name_of(error));
        return 1;
    }
    for (one = found; one; one = one->ai_next) {
        char text[INET6_ADDRSTRLEN];
        const void *address = one->ai_family == AF_INET
            ? (const void *)&((struct sockaddr_in *)one->ai_addr)->sin_addr
            : (const void *)&((struct sockaddr_in6 *)one->ai_addr)->sin6_addr;
        puts(inet_ntop(one->ai_family, address, text, sizeof text));
    }
    freeaddrinfo(found);
    return 0;
}
