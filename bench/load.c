/*
 * The load generator: one client for all peers, TLS 1.3 with a client certificate.
 *
 * What it sends and what must come back are two cycles of octets of equal length;
 * every octet that comes is compared. It prints one JSON object, or one line on
 * standard error and ends with status 1.
 *
 *     cc -O2 -o load load.c -lssl -lcrypto
 *     load MODE --port P --ca F --cert F --key F [--greeting] [--framing F] ...
 *
 * Modes, each for --count requests, connections or rounds, or for --seconds:
 *     lock-step    a request, its reply, the next: every latency
 *     stream       as many requests under way as --depth allows; 0 is no limit
 *     handshakes   connections with one request each, one after the other
 *     turn-over    from the holder's close to the next client's admission
 *     knock        lock-step in quiet, then while others open --knocks connections, or
 *                  for ten seconds
 *     flood        the same at a --pace, while others do for --seconds what --flood says
 *     slow         connections with a round trip of --pace, while others do the same
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_S = 20, KNOCK_S = 10, CYCLE = 1 << 18, RECORD = 1 << 14, READ_AHEAD = 1 << 17 };

/* How a peer answers: each reply is as long as its request. */
enum framing {
    ECHOED,   /* the same line */
    REVERSED, /* the line from its end to its beginning (openssl s_server -rev) */
    COMMAND,  /* "ECHO TEXT" by "200 TEXT" CR LF (tcpsvc) */
    BINARY,   /* the same octets, of all values */
};
static const char *const FRAMINGS[] = {"echoed", "reversed", "command", "binary", NULL};

/* Who knocks. */
enum knock {
    BARE,     /* connects, says nothing, and is seen to its end by the peer */
    STRANGER, /* has no certificate */
    KNOWN,    /* has one, and is turned away */
};
static const char *const KNOCKS[] = {"bare", "stranger", "known", NULL};

/* What others do in a flood. */
enum flood {
    CONNECT,      /* connect, are refused, and connect again */
    WHO,          /* on a control connection: ask WHO, without waiting for replies */
    STATUS,       /* the same with STATUS */
    ASK,          /* ask WHO, and wait for each reply */
    TELNET,       /* offer telnet options */
    KEY_UPDATE,   /* renew TLS's keys, and ask for the same */
    ONE_BYTE,     /* send TLS records of one byte */
    CLOSING,      /* are refused, do not close, and renew TLS's keys */
    BURST,        /* open and close BURST_EACH TCP connections at once, once a second */
    SILENT,       /* open SILENT_A_SECOND connections a second, and say nothing */
};
static const char *const FLOODS[] = {"connect", "who", "status", "ask", "telnet",
                                     "key-update", "one-byte", "closing", "burst",
                                     "silent", NULL};
enum { SILENT_A_SECOND = 80, KEPT = 512, BURST_EACH = 12 };

static struct {
    const char *ca, *cert, *key;
    const char *also[16]; /* further clients: CERT:KEY */
    size_t others;
    double pace;          /* seconds from one request to the next; 0: at once */
    enum flood flood;
    int port;
    bool greeting;      /* the peer speaks first: a line */
    bool busy;          /* the peer turns the second client away, by "421" */
    enum framing framing;
    enum knock knock;
    size_t size;        /* octets of a request with its line's end */
    size_t chunk;       /* octets that are given to TLS at a time */
    double seconds;     /* for how long; 0 is for as many as --count */
    uint64_t count;     /* requests, connections or rounds */
    uint64_t warmup;    /* requests before those that are measured */
    uint64_t depth;     /* requests under way; 0 is no limit */
    uint64_t knocks, atOnce;
} want = {
    .framing = ECHOED, .size = 64, .chunk = RECORD, .count = 1000,
    .knocks = 10000, .atOnce = 32,
};

static unsigned char *requests, *replies; /* the two cycles */
static size_t cycle;                      /* octets of each: whole requests */

static SSL_CTX *known, *stranger;

static void die(const char *format, ...)
{
    va_list arguments;
    unsigned long error = ERR_peek_last_error();

    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (error != 0)
        fprintf(stderr, ": %s", ERR_reason_error_string(error));
    fputc('\n', stderr);
    exit(1);
}

static double now(void) /* seconds */
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Whether what began then, and was done so often, is to go on. */
static bool goesOn(double begun, uint64_t done)
{
    if (want.seconds > 0)
        return done == 0 || now() - begun < want.seconds;
    return done < want.count;
}

static double busy(void) /* seconds of a core */
{
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

static void *allocated(size_t octets)
{
    void *memory = malloc(octets);

    if (memory == NULL)
        die("no memory for %zu octets", octets);
    return memory;
}

/* ---- Latencies ---- */

struct latencies {
    double *seconds;
    size_t number, room;
};

static void add(struct latencies *all, double seconds)
{
    if (all->number == all->room) {
        all->room = all->room ? 2 * all->room : 1 << 16;
        all->seconds = realloc(all->seconds, all->room * sizeof *all->seconds);
        if (all->seconds == NULL)
            die("no memory for %zu latencies", all->room);
    }
    all->seconds[all->number++] = seconds;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double quantile(const struct latencies *sorted, double q)
{
    size_t at = (size_t)(q * (double)sorted->number);

    return sorted->seconds[at < sorted->number ? at : sorted->number - 1];
}

static void printLatencies(const char *name, struct latencies *all)
{
    double sum = 0;

    if (all->number == 0)
        die("nothing was measured");
    qsort(all->seconds, all->number, sizeof *all->seconds, ascending);
    for (size_t i = 0; i < all->number; i++)
        sum += all->seconds[i];
    printf("\"%s\": {\"number\": %zu, \"mean_us\": %.3f, \"p50_us\": %.3f, "
           "\"p99_us\": %.3f, \"max_us\": %.3f}",
           name, all->number, sum / (double)all->number * 1e6,
           quantile(all, 0.5) * 1e6, quantile(all, 0.99) * 1e6,
           quantile(all, 1) * 1e6);
}

/* ---- What is said ---- */

static void makeCycles(void)
{
    size_t number = want.size < CYCLE ? CYCLE / want.size : 1;
    uint32_t random = 2463534242u;

    cycle = number * want.size;
    requests = allocated(cycle);
    replies = allocated(cycle);
    for (size_t i = 0; i < number; i++) {
        unsigned char *request = requests + i * want.size;
        unsigned char *reply = replies + i * want.size;
        size_t text = want.size - 1; /* without the line's end */

        for (size_t k = 0; k < want.size; k++) {
            random ^= random << 13, random ^= random >> 17, random ^= random << 5;
            if (want.framing == BINARY)
                request[k] = (unsigned char)(random >> 24);
            else
                request[k] = (unsigned char)('a' + (random >> 8) % 26);
        }
        if (want.framing == BINARY) {
            memcpy(reply, request, want.size);
            continue;
        }
        request[text] = '\n';
        if (want.framing == COMMAND) {
            memcpy(request, "ECHO ", 5);
            memcpy(reply, "200 ", 4);
            memcpy(reply + 4, request + 5, text - 5);
            memcpy(reply + text - 1, "\r\n", 2);
        } else {
            memcpy(reply, request, want.size);
            for (size_t k = 0; want.framing == REVERSED && k < text; k++)
                reply[k] = request[text - 1 - k];
        }
    }
}

static void compare(const unsigned char *got, uint64_t at, size_t length)
{
    const unsigned char *wanted = replies + at % cycle;

    for (size_t k = 0; k < length && memcmp(got, wanted, length) != 0; k++)
        if (got[k] != wanted[k])
            die("octet %llu of the replies is %#04x in place of %#04x: \"%.*s\"",
                (unsigned long long)at + k, got[k], wanted[k], (int)(length - k),
                (const char *)got + k);
}

/* ---- A connection ---- */

static SSL_CTX *makeContext(const char *certificate, const char *key)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    if (context == NULL || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION))
        die("no TLS 1.3");
    if (!SSL_CTX_load_verify_locations(context, want.ca, NULL))
        die("%s", want.ca);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (certificate != NULL) {
        if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
            die("%s", certificate);
        if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
            die("%s", key);
    }
    SSL_CTX_set_mode(context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    /* One read() for many records. */
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, READ_AHEAD);
    return context;
}

static int tcp(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)want.port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        die("socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("connect to port %d: %s", want.port, strerror(errno));
    return fd;
}

static SSL *tls(SSL_CTX *context)
{
    SSL *ssl = SSL_new(context);

    if (ssl == NULL || !SSL_set_fd(ssl, tcp()) || !SSL_set1_host(ssl, "localhost"))
        die("a connection cannot be made");
    if (SSL_connect(ssl) != 1)
        die("handshake");
    return ssl;
}

/* Wait for the peer's end as well: some peers serve the next only then. */
static void closed(SSL *ssl, bool wait)
{
    char octets[RECORD];
    int fd = SSL_get_fd(ssl);

    SSL_shutdown(ssl);
    if (wait) {
        shutdown(fd, SHUT_WR);
        while (SSL_read(ssl, octets, sizeof octets) > 0 ||
               read(fd, octets, sizeof octets) > 0)
            ;
    }
    close(fd);
    SSL_free(ssl);
}

static void sendAll(SSL *ssl, const unsigned char *octets, size_t length)
{
    size_t written;

    for (; length > 0; octets += written, length -= written)
        if (!SSL_write_ex(ssl, octets, length < want.chunk ? length : want.chunk, &written))
            die("the peer takes no more");
}

static void exchange(SSL *ssl, uint64_t number)
{
    unsigned char octets[RECORD];
    uint64_t at = number * want.size, end = at + want.size;
    size_t length;

    sendAll(ssl, requests + at % cycle, want.size);
    for (; at < end; at += length) {
        size_t room = end - at < sizeof octets ? end - at : sizeof octets;

        if (!SSL_read_ex(ssl, octets, room, &length))
            die("no reply to request %llu", (unsigned long long)number);
        compare(octets, at, length);
    }
}

/* The first three characters of the greeting, a number; 0 if there came none. */
static int greeted(SSL *ssl)
{
    char line[512];
    size_t length = 0;

    while (length + 1 < sizeof line && (length == 0 || line[length - 1] != '\n'))
        if (SSL_read(ssl, line + length, 1) != 1)
            return 0;
        else
            length++;
    line[length] = '\0';
    return atoi(line);
}

/* A client that is served: past the greeting, or past its first reply. */
static SSL *admitted(void)
{
    SSL *ssl = tls(known);

    if (want.greeting) {
        int code = greeted(ssl);

        if (code != 220)
            die("greeted by %d in place of 220", code);
    } else {
        exchange(ssl, 0);
    }
    return ssl;
}

/* ---- The modes ---- */

static uint64_t knocking; /* processes */

static bool someoneKnocks(void)
{
    int status;

    while (knocking > 0 && waitpid(-1, &status, WNOHANG) > 0) {
        knocking--;
        if (status != 0)
            die("one of those who knock failed");
    }
    return knocking > 0;
}

static void lockStep(SSL *ssl, struct latencies *all)
{
    double begun = now(), before = begun;

    for (uint64_t i = 0; knocking && want.pace == 0
                             ? someoneKnocks() && now() - begun < KNOCK_S
                             : goesOn(begun, i);
         i++) {
        double after;

        if (want.pace > 0) {
            struct timespec pause = {.tv_nsec = (long)(want.pace * 1e9)};

            nanosleep(&pause, NULL);
            before = now();
        }
        exchange(ssl, i);
        after = now();
        add(all, after - before);
        before = after;
    }
}

static void warmUp(SSL *ssl)
{
    for (uint64_t i = 0; i < want.warmup; i++)
        exchange(ssl, i);
}

static void measureLockStep(void)
{
    struct latencies all = {0};
    SSL *ssl = admitted();
    double begun, took;

    warmUp(ssl);
    begun = now();
    lockStep(ssl, &all);
    took = now() - begun;
    printf("{\"seconds\": %.6f, \"per_second\": %.1f, \"cipher\": \"%s\", ", took,
           (double)all.number / took, SSL_get_cipher(ssl));
    printLatencies("latency", &all);
    printf("}\n");
    closed(ssl, true);
}

static bool mayGoOn(SSL *ssl, short *events)
{
    switch (SSL_get_error(ssl, 0)) {
    case SSL_ERROR_WANT_READ:
        *events |= POLLIN;
        return true;
    case SSL_ERROR_WANT_WRITE:
        *events |= POLLOUT;
        return true;
    default:
        return false;
    }
}

/* Gives the number of octets that went each way. */
static uint64_t stream(SSL *ssl, double begun)
{
    static unsigned char octets[RECORD];
    uint64_t total = want.seconds > 0 ? UINT64_MAX : want.count * want.size;
    uint64_t sent = 0, got = 0;
    size_t length;

    while (got < total) {
        struct pollfd ready = {.fd = SSL_get_fd(ssl)};
        uint64_t limit = total;
        bool moved = false;

        if (want.depth != 0 && (got / want.size + want.depth) * want.size < total)
            limit = (got / want.size + want.depth) * want.size;
        if (sent < limit) {
            size_t at = sent % cycle, room = cycle - at;

            if (room > limit - sent)
                room = limit - sent;
            if (room > want.chunk)
                room = want.chunk;
            if (SSL_write_ex(ssl, requests + at, room, &length))
                sent += length, moved = true;
            else if (!mayGoOn(ssl, &ready.events))
                die("the peer takes no more after %llu octets", (unsigned long long)sent);
        }
        for (;;) {
            size_t at = got % cycle;
            size_t room = cycle - at < sizeof octets ? cycle - at : sizeof octets;

            if (!SSL_read_ex(ssl, octets, room, &length))
                break;
            if (got + length > sent)
                die("the peer answers what was not asked");
            compare(octets, got, length);
            got += length, moved = true;
        }
        if (!mayGoOn(ssl, &ready.events))
            die("the peer ends after %llu of %llu octets", (unsigned long long)got,
                (unsigned long long)total);
        /* Time is up: only what has begun is brought to its end. */
        if (total == UINT64_MAX && !goesOn(begun, got))
            total = (sent + want.size - 1) / want.size * want.size;
        else if (!moved && poll(&ready, 1, PATIENCE_S * 1000) <= 0)
            die("no answer in %d s: %llu octets sent, %llu got", PATIENCE_S,
                (unsigned long long)sent, (unsigned long long)got);
    }
    return total;
}

static void measureStream(void)
{
    SSL *ssl = admitted();
    double begun, took, octets, worked;

    warmUp(ssl);
    fcntl(SSL_get_fd(ssl), F_SETFL, O_NONBLOCK);
    worked = busy();
    begun = now();
    octets = (double)stream(ssl, begun);
    took = now() - begun;
    printf("{\"seconds\": %.6f, \"busy\": %.3f, \"per_second\": %.1f, "
           "\"mb_per_second\": %.3f}\n",
           took, (busy() - worked) / took, octets / (double)want.size / took,
           octets / took / 1e6);
    fcntl(SSL_get_fd(ssl), F_SETFL, 0);
    closed(ssl, true);
}

static void measureHandshakes(void)
{
    struct latencies all = {0};
    double begun = now(), before = begun, after = begun;

    for (uint64_t i = 0; goesOn(begun, i); i++) {
        SSL *ssl = admitted();

        if (want.greeting)
            exchange(ssl, i);
        if (SSL_session_reused(ssl))
            die("the session was resumed: no full handshake");
        closed(ssl, true);
        after = now();
        add(&all, after - before);
        before = after;
    }
    printf("{\"seconds\": %.6f, \"per_second\": %.1f, ", after - begun,
           (double)all.number / (after - begun));
    printLatencies("latency", &all);
    printf("}\n");
}

static void measureTurnOver(void)
{
    struct latencies handshake = {0}, turnOver = {0};
    unsigned retried = 0;
    double all = now();

    for (uint64_t i = 0; goesOn(all, i); i++) {
        SSL *holder, *next;
        double begun = now();

        holder = admitted();
        add(&handshake, now() - begun);
        if (want.busy) {
            next = tls(known);
            if (greeted(next) != 421)
                die("a second client was not turned away");
            closed(next, true);
        }
        begun = now();
        closed(holder, false);
        if (want.greeting)
            while (greeted(next = tls(known)) != 220) {
                closed(next, false);
                retried++;
            }
        else
            next = admitted();
        add(&turnOver, now() - begun);
        closed(next, true);
    }
    printf("{\"retried\": %u, ", retried);
    printLatencies("handshake", &handshake);
    printf(", ");
    printLatencies("turn_over", &turnOver);
    printf("}\n");
}

/* What the others have done, and the longest that connect() has taken one of them, in
 * microseconds: shared by all processes. */
static struct {
    uint64_t done, slowest;
} *floods;

static void did(void)
{
    __atomic_fetch_add(&floods->done, 1, __ATOMIC_RELAXED);
}

static int timedTcp(void)
{
    double begun = now();
    int fd = tcp();
    uint64_t took = (uint64_t)((now() - begun) * 1e6);

    if (took > __atomic_load_n(&floods->slowest, __ATOMIC_RELAXED))
        __atomic_store_n(&floods->slowest, took, __ATOMIC_RELAXED);
    return fd;
}

static void shareCounts(void)
{
    floods = mmap(NULL, sizeof *floods, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (floods == MAP_FAILED)
        die("no shared memory");
}

static void knockOnce(void)
{
    char octets[RECORD];
    SSL *ssl;
    int fd = tcp();

    if (want.knock == BARE) {
        struct timeval little = {.tv_usec = 20000};

        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &little, sizeof little);
        while (read(fd, octets, sizeof octets) > 0)
            ;
        close(fd);
        did();
        return;
    }
    ssl = SSL_new(want.knock == KNOWN ? known : stranger);
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) == 1)
        while (SSL_read(ssl, octets, sizeof octets) > 0)
            ;
    close(fd);
    SSL_free(ssl);
    did();
}

/* Let others do their part, each in a process that ends with this one. */
static void beside(void (*part)(uint64_t k))
{
    const struct sched_param idle = {0};

    for (uint64_t k = 0; k < want.atOnce; k++) {
        pid_t child = fork();

        if (child < 0)
            die("fork: %s", strerror(errno));
        knocking++;
        if (child > 0)
            continue;
        /* The holder's client must not wait for those who knock: they have what it
         * leaves of the core. */
        sched_setscheduler(0, SCHED_IDLE, &idle);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        part(k);
        _exit(0);
    }
}

static void knock(uint64_t k)
{
    for (uint64_t i = k; i < want.knocks; i += want.atOnce)
        knockOnce();
}

/* The holder's client gets its core whenever it wants it, if that is permitted. */
static void comeFirst(void)
{
    const struct sched_param first = {.sched_priority = 1};

    sched_setscheduler(0, SCHED_FIFO, &first);
}

static void measureKnock(void)
{
    struct latencies quiet = {0}, knocked = {0};
    SSL *ssl = admitted();
    double begun, took;

    shareCounts();
    warmUp(ssl);
    lockStep(ssl, &quiet);
    begun = now();
    beside(knock);
    lockStep(ssl, &knocked);
    took = now() - begun;
    printf("{\"knocks\": %llu, \"knocks_per_second\": %.1f, ",
           (unsigned long long)floods->done, (double)floods->done / took);
    printLatencies("quiet", &quiet);
    printf(", ");
    printLatencies("knocked", &knocked);
    printf("}\n");
    closed(ssl, true);
}

/* ---- A flood ---- */

static const unsigned char CONTROL[] = "\x10tcpsvc-control/1";

static void sleepFor(double seconds)
{
    struct timespec pause = {.tv_sec = (time_t)seconds,
                             .tv_nsec = (long)((seconds - (time_t)seconds) * 1e9)};

    nanosleep(&pause, NULL);
}

/* One TCP connection without TLS. */
static void floodBare(void)
{
    static int kept[KEPT];
    static size_t next;
    int fd;

    for (int i = 0; want.flood == BURST && i < BURST_EACH; i++) {
        close(timedTcp());
        did();
    }
    if (want.flood == BURST) {
        struct timespec t;

        clock_gettime(CLOCK_REALTIME, &t);
        sleepFor(1 - (double)t.tv_nsec * 1e-9); /* all at the same moment */
        return;
    }
    fd = timedTcp();
    did();
    if (kept[next])
        close(kept[next]);
    kept[next] = fd;
    next = (next + 1) % KEPT;
    sleepFor((double)want.atOnce / SILENT_A_SECOND);
}

/* Say something again and again, read what comes, until the peer ends it. */
static void pour(SSL *ssl)
{
    static unsigned char octets[RECORD];
    static const char *const LINES[] = {[WHO] = "WHO\n", [STATUS] = "STATUS\n",
                                        [TELNET] = "\xff\xfd\x01"};
    size_t length = 0, written;

    if (want.flood == WHO || want.flood == STATUS || want.flood == TELNET)
        for (const char *line = LINES[want.flood]; length + 8 < 4096;
             length += strlen(line))
            memcpy(octets + length, line, strlen(line));
    fcntl(SSL_get_fd(ssl), F_SETFL, O_NONBLOCK);
    for (;;) {
        static unsigned char answers[RECORD];
        struct pollfd ready = {.fd = SSL_get_fd(ssl), .events = POLLIN};
        bool sent = false;
        int got;

        if (want.flood == KEY_UPDATE || want.flood == CLOSING) {
            SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED);
            sent = SSL_do_handshake(ssl) == 1;
        } else if (want.flood == ONE_BYTE) {
            sent = SSL_write_ex(ssl, "\n", 1, &written);
        } else {
            sent = SSL_write_ex(ssl, octets, length, &written);
        }
        if (!sent) {
            if (SSL_want_write(ssl))
                ready.events |= POLLOUT;
            else if (!SSL_want_read(ssl))
                return;
        }
        while ((got = SSL_read(ssl, answers, sizeof answers)) > 0)
            did();
        if (got == 0 || SSL_get_error(ssl, got) == SSL_ERROR_SSL ||
            SSL_get_error(ssl, got) == SSL_ERROR_SYSCALL)
            if (want.flood != CLOSING || SSL_get_error(ssl, got) == SSL_ERROR_SYSCALL)
                return;
        if (!sent && poll(&ready, 1, 1000) < 0)
            return;
    }
}

/* One connection of a flood. */
static void floodOnce(SSL_CTX *context)
{
    SSL *ssl;
    int fd, code;

    if (want.flood == BURST || want.flood == SILENT) {
        floodBare();
        return;
    }
    ssl = SSL_new(context);
    fd = timedTcp();
    SSL_set_fd(ssl, fd);
    if (want.flood != CONNECT && want.flood != CLOSING)
        SSL_set_alpn_protos(ssl, CONTROL, sizeof CONTROL - 1);
    if (SSL_connect(ssl) == 1) {
        code = greeted(ssl);
        if (want.flood == CONNECT) {
            if (code == 421)
                did();
        } else if (want.flood == CLOSING) {
            if (code == 421)
                pour(ssl);
        } else if (code == 220 && want.flood == ASK) {
            while (SSL_write(ssl, "WHO\n", 4) == 4 && greeted(ssl) == 200)
                did();
        } else if (code == 220) {
            pour(ssl);
        } else {
            usleep(100000);
        }
    }
    ERR_clear_error();
    close(fd);
    SSL_free(ssl);
}

static void flood(uint64_t k)
{
    char *pair = want.others ? strdup(want.also[k % want.others]) : NULL;
    char *key = pair ? strchr(pair, ':') : NULL;
    SSL_CTX *context = known;

    if (key != NULL) {
        *key = '\0';
        context = makeContext(pair, key + 1);
    }
    for (;;)
        floodOnce(context);
}

static void measureFlood(void)
{
    struct latencies quiet = {0}, flooded = {0};
    SSL *ssl = admitted();
    double begun, took;

    comeFirst();
    shareCounts();
    warmUp(ssl);
    lockStep(ssl, &quiet);
    begun = now();
    beside(flood);
    lockStep(ssl, &flooded);
    took = now() - begun;
    printf("{\"floods_per_second\": %.1f, \"connect_max_us\": %llu, ",
           (double)floods->done / took, (unsigned long long)floods->slowest);
    printLatencies("quiet", &quiet);
    printf(", ");
    printLatencies("flooded", &flooded);
    printf("}\n");
    closed(ssl, true);
}

/* Carry bytes between TLS and the network with a delay of half a round trip each way,
 * until the first line has come. Gives its code; 0 if the connection ended before. */
static int slowly(void)
{
    SSL *ssl = SSL_new(known);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    int fd = tcp(), code = 0, got = 0;
    char bytes[RECORD], line[512];

    SSL_set_bio(ssl, in, out);
    SSL_set_connect_state(ssl);
    while (code == 0) {
        ssize_t length;

        if (got <= 0)
            SSL_do_handshake(ssl);
        while ((length = BIO_read(out, bytes, sizeof bytes)) > 0) {
            sleepFor(want.pace / 2);
            if (write(fd, bytes, (size_t)length) != length)
                goto ended;
        }
        if (SSL_is_init_finished(ssl) &&
            (got = SSL_read(ssl, line, sizeof line - 1)) > 0) {
            line[got] = '\0';
            code = atoi(line);
            break;
        }
        if ((length = read(fd, bytes, sizeof bytes)) <= 0)
            break;
        sleepFor(want.pace / 2);
        BIO_write(in, bytes, (int)length);
    }
ended:
    ERR_clear_error();
    close(fd);
    SSL_free(ssl);
    return code;
}

static void measureSlow(void)
{
    struct latencies all = {0};
    uint64_t refused = 0;
    double begun;

    shareCounts();
    beside(flood);
    sleepFor(2);
    begun = now();
    for (uint64_t i = 0; goesOn(begun, i); i++) {
        double before = now();

        if (slowly() == 220)
            add(&all, now() - before);
        else
            refused++;
        sleepFor(0.05);
    }
    printf("{\"admitted\": %zu, \"failed\": %llu}\n", all.number,
           (unsigned long long)refused);
}

/* ---- The command line ---- */

static const struct {
    const char *name;
    void (*run)(void);
} MODES[] = {
    {"lock-step", measureLockStep}, {"stream", measureStream},
    {"handshakes", measureHandshakes}, {"turn-over", measureTurnOver},
    {"knock", measureKnock},         {"flood", measureFlood},
    {"slow", measureSlow},
};

static int oneOf(const char *const *names, const char *name)
{
    for (int i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    die("%s: unknown", name);
    return -1;
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (end == text || *end != '\0')
        die("%s: a number is wanted", text);
    return value;
}

static void parse(int argc, char **argv)
{
    static const struct option OPTIONS[] = {
        {"port", required_argument, NULL, 'p'},    {"ca", required_argument, NULL, 'a'},
        {"cert", required_argument, NULL, 'c'},    {"key", required_argument, NULL, 'k'},
        {"greeting", no_argument, NULL, 'g'},      {"busy", no_argument, NULL, 'b'},
        {"framing", required_argument, NULL, 'f'}, {"size", required_argument, NULL, 's'},
        {"chunk", required_argument, NULL, 'u'},   {"count", required_argument, NULL, 'n'},
        {"warmup", required_argument, NULL, 'w'},  {"depth", required_argument, NULL, 'd'},
        {"seconds", required_argument, NULL, 't'},
        {"knock", required_argument, NULL, 'o'},   {"knocks", required_argument, NULL, 'm'},
        {"at-once", required_argument, NULL, 'l'}, {"also", required_argument, NULL, 'r'},
        {"pace", required_argument, NULL, 'e'},    {"flood", required_argument, NULL, 'i'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1)
        switch (option) {
        case 'p': want.port = (int)number(optarg); break;
        case 'a': want.ca = optarg; break;
        case 'c': want.cert = optarg; break;
        case 'k': want.key = optarg; break;
        case 'g': want.greeting = true; break;
        case 'b': want.busy = true; break;
        case 'f': want.framing = (enum framing)oneOf(FRAMINGS, optarg); break;
        case 's': want.size = number(optarg); break;
        case 'u': want.chunk = number(optarg); break;
        case 't': want.seconds = strtod(optarg, NULL); break;
        case 'n': want.count = number(optarg); break;
        case 'w': want.warmup = number(optarg); break;
        case 'd': want.depth = number(optarg); break;
        case 'o': want.knock = (enum knock)oneOf(KNOCKS, optarg); break;
        case 'm': want.knocks = number(optarg); break;
        case 'l': want.atOnce = number(optarg); break;
        case 'e': want.pace = strtod(optarg, NULL); break;
        case 'i': want.flood = (enum flood)oneOf(FLOODS, optarg); break;
        case 'r':
            if (want.others == sizeof want.also / sizeof *want.also)
                die("--also: too many");
            want.also[want.others++] = optarg;
            break;
        default: exit(64);
        }
    if (want.port == 0 || want.ca == NULL || want.cert == NULL || want.key == NULL)
        die("--port, --ca, --cert and --key are wanted");
    if (want.size < 8 || want.chunk == 0 || want.count == 0 || want.atOnce == 0)
        die("--size of at least 8, --chunk, --count and --at-once of at least 1");
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    parse(argc, argv);
    makeCycles();
    known = makeContext(want.cert, want.key);
    stranger = makeContext(NULL, NULL);
    SSL_CTX_set_verify(stranger, SSL_VERIFY_NONE, NULL);
    for (size_t i = 0; i < sizeof MODES / sizeof *MODES; i++)
        if (optind == argc - 1 && strcmp(argv[optind], MODES[i].name) == 0) {
            MODES[i].run();
            return 0;
        }
    die("expected one mode: lock-step, stream, handshakes, turn-over, knock, flood or slow");
    return 1;
}
