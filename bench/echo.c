/*
 * A plain echo over TCP, what stunnel and the gateway are put in front of: a thread
 * a connection, on the loopback port that is given.
 *
 *     cc -O2 -pthread -o echo echo.c
 */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 1 << 16 };

static void *echo(void *argument)
{
    int fd = (int)(intptr_t)argument;
    char octets[ROOM];
    ssize_t length, written;

    while ((length = read(fd, octets, sizeof octets)) > 0)
        for (ssize_t at = 0; at < length; at += written)
            if ((written = write(fd, octets + at, (size_t)(length - at))) <= 0) {
                close(fd);
                return NULL;
            }
    close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)(argc == 2 ? atoi(argv[1]) : 0)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int on = 1, listening = socket(AF_INET, SOCK_STREAM, 0);
    pthread_attr_t detached;

    signal(SIGPIPE, SIG_IGN);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listening, 128) != 0) {
        perror("echo");
        return 1;
    }
    for (;;) {
        pthread_t thread;
        int fd = accept(listening, NULL, NULL);

        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (pthread_create(&thread, &detached, echo, (void *)(intptr_t)fd) != 0)
            close(fd);
    }
}
