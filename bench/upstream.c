/* A stand-in for Flowith: one thread, epoll, HTTP/1.1, no disk, no limits of its own.
 *
 *   upstream PORT [CERTIFICATE KEY]        PORT 0 takes a free one; prints "port N"
 *
 * What it answers stands in the request's body, wherever that came through:
 *
 *   bench-plan n=50 rate=50 lead=0 write=1 id=AAAA
 *
 * n tokens, `rate` per second (0: as fast as they are taken) after `lead` ms, `write` of them in
 * each write (0: as many as fit). A path with "chat/completions" gets OpenAI's chunks, or a whole
 * completion unless the body says `"stream":true`; every other path gets Flowith's web dialect:
 * plain text. Each token is one HTTP chunk.
 *
 * Token 0 is the id of the request. Token i is the time at which it is due, t0 + i * step, in
 * units of 10 us of CLOCK_MONOTONIC modulo 64^4 (168 s), as four digits of base 64; at full speed
 * the step is 1 unit. Odd tokens have a space in front. So the reader knows every byte of the
 * answer after token 1, and how late each token is.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#else /* these names only; main() refuses a certificate */
typedef void SSL;
#define SSL_free(ssl) (void)(ssl)
#define SSL_read(ssl, to, size) -1
#define SSL_write(ssl, from, size) -1
#endif

enum { BLOCK = 16384, TURN = 64 };
static const char DIGITS[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
#define EVENT                                                                                      \
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1735689600," \
    "\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":%s,\"logprobs\":null,"                 \
    "\"finish_reason\":%s}]}\n\n"

enum format { TEXT, CHUNKS, WHOLE };

struct conn {
    int fd, slot;                   /* slot: place in the heap, -1 when not in it */
    SSL *ssl;
    char *in, *out;
    size_t in_len, in_cap, head, length;
    size_t out_at, out_len, out_cap;
    int answering, blocked;
    enum format format;
    char id[4];
    long n, i, write, rate;
    int64_t due, start, step;       /* ns, and units of 10 us */
};

static int epoll;
#ifdef WITH_TLS
static SSL_CTX *tls;
#endif
static struct conn **heap;
static int heap_len, heap_cap;

static void *grown(void *p, size_t size) {
    p = realloc(p, size);
    if (!p) abort();
    return p;
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* --- the heap of connections by due time --- */

static void place(struct conn *c, int at) { heap[at] = c, c->slot = at; }

static void sift(struct conn *c, int at) {
    for (int up; at && heap[up = (at - 1) / 2]->due > c->due; at = up) place(heap[up], at);
    for (int down; (down = 2 * at + 1) < heap_len; at = down) {
        if (down + 1 < heap_len && heap[down + 1]->due < heap[down]->due) down++;
        if (heap[down]->due >= c->due) break;
        place(heap[down], at);
    }
    place(c, at);
}

static void schedule(struct conn *c, int64_t due) {
    c->due = due;
    if (c->slot < 0) {
        if (heap_len == heap_cap) heap = grown(heap, (heap_cap = heap_cap * 2 + 64) * sizeof *heap);
        c->slot = heap_len++;
    }
    sift(c, c->slot);
}

static void unschedule(struct conn *c) {
    if (c->slot < 0) return;
    struct conn *last = heap[--heap_len];
    if (last != c) sift(last, c->slot);
    c->slot = -1;
}

/* --- bytes out --- */

static void watch(struct conn *c, int op, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(epoll, op, c->fd, &e);
}

static void hang_up(struct conn *c) {
    unschedule(c);
    if (c->ssl) SSL_free(c->ssl);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static char *room(struct conn *c, size_t size) {
    if (c->out_len + size > c->out_cap)
        c->out = grown(c->out, c->out_cap = c->out_len + size + 1024);
    return c->out + c->out_len;
}

static void say(struct conn *c, const char *text, size_t size) {
    memcpy(room(c, size), text, size);
    c->out_len += size;
}

/* Send what waits. Errors show up as end of input, which closes the connection. */
static void flush(struct conn *c) {
    while (c->out_at < c->out_len) {
        char *from = c->out + c->out_at;
        size_t size = c->out_len - c->out_at;
        ssize_t sent = c->ssl ? SSL_write(c->ssl, from, (int)size)
                              : send(c->fd, from, size, MSG_NOSIGNAL);
        if (sent <= 0) {
            if (!c->blocked) watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            c->blocked = 1;
            return;
        }
        c->out_at += sent;
    }
    c->out_at = c->out_len = 0;
    if (c->blocked) watch(c, EPOLL_CTL_MOD, EPOLLIN);
    c->blocked = 0;
}

/* --- the answer --- */

static size_t token(struct conn *c, char *to) {
    char *p = to;
    if (c->i & 1) *p++ = ' ';
    uint32_t stamp = (uint32_t)(c->start / 10000 + c->i * c->step);
    if (c->i == 0) memcpy(p, c->id, 4);
    else for (int k = 0; k < 4; k++) p[k] = DIGITS[stamp >> (18 - 6 * k) & 63];
    return p + 4 - to;
}

static void say_chunk(struct conn *c, const char *text, size_t size) {
    char *to = room(c, size + 16);
    int head = 3;
    if (size < 16) { /* as tokens are: sprintf would be half of what they cost */
        to[0] = "0123456789abcdef"[size];
        memcpy(to + 1, "\r\n", 2);
    } else {
        head = sprintf(to, "%zx\r\n", size);
    }
    memcpy(to + head, text, size);
    memcpy(to + head + size, "\r\n", 2);
    c->out_len += head + size + 2;
}

static void say_event(struct conn *c, const char *delta, const char *reason) {
    char event[512];
    say_chunk(c, event, (size_t)sprintf(event, EVENT, delta, reason));
}

/* The tokens' events differ in the token only, so everything else is made once. */
static void say_token(struct conn *c) {
    static char events[2][512];
    static size_t sizes[2], at[2];
    for (int odd = 0; !sizes[1] && odd < 2; odd++) {
        sizes[odd] = sprintf(events[odd], EVENT, odd ? "{\"content\":\"     \"}"
                                                     : "{\"content\":\"    \"}", "null");
        at[odd] = strstr(events[odd], "content\":\"") - events[odd] + 10;
    }
    char text[8];
    int odd = c->i & 1;
    if (c->format == TEXT) {
        size_t size = token(c, text);
        say_chunk(c, text, size);
    } else {
        token(c, events[odd] + at[odd]);
        say_chunk(c, events[odd], sizes[odd]);
    }
    c->i++;
}

static void finish(struct conn *c) {
    if (c->format == CHUNKS) {
        say_event(c, "{}", "\"stop\"");
        say_chunk(c, "data: [DONE]\n\n", 14);
    }
    say(c, "0\r\n\r\n", 5);
    c->answering = 0;
    flush(c);
}

static void say_whole(struct conn *c) {
    static const char front[] =
        "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1735689600,\"model\":"
        "\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"";
    static const char back[] =
        "\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,"
        "\"completion_tokens\":1,\"total_tokens\":2}}";
    size_t size = sizeof front + sizeof back - 2 + c->n * 4 + c->n / 2;
    char head[160];
    say(c, head, sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                               "Content-Length: %zu\r\n\r\n", size));
    say(c, front, sizeof front - 1);
    for (; c->i < c->n; c->i++) c->out_len += token(c, room(c, 5));
    say(c, back, sizeof back - 1);
    c->answering = 0;
    flush(c);
}

/* The connection's time has come: send what is due. */
static void go_on(struct conn *c, int64_t now) {
    if (c->format == WHOLE) {
        say_whole(c);
        return;
    }
    for (int turn = 0; turn < TURN && c->i < c->n; turn++) {
        if (c->rate && c->start + c->i * c->step * 10000 > now) break;
        for (long k = 0; c->i < c->n && (c->write ? k < c->write : c->out_len < BLOCK); k++)
            say_token(c);
        flush(c);
        if (c->blocked) return;
    }
    if (c->i == c->n) finish(c);
    else schedule(c, c->rate ? c->start + c->i * c->step * 10000 : now + 1);
}

static long number(const char *plan, const char *name, long otherwise) {
    const char *found = strstr(plan, name);
    return found ? atol(found + strlen(name)) : otherwise;
}

static int has(const char *text, size_t size, const char *word) {
    return memmem(text, size, word, strlen(word)) != NULL;
}

/* A whole request is there: read the plan and begin. */
static void answer(struct conn *c) {
    char plan[128] = "", *body = c->in + c->head;
    size_t tail = c->length < 4096 ? c->length : 4096; /* the last message is near the end */
    char *found = memmem(body + c->length - tail, tail, "bench-plan ", 11);
    if (!found) found = memmem(body, c->length, "bench-plan ", 11);
    if (found) {
        size_t left = body + c->length - found;
        memcpy(plan, found, left < 127 ? left : 127);
    }
    char *id = strstr(plan, " id=");
    char *line = memchr(c->in, '\n', c->head);
    if (!id || !line) {
        static const char no[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 8\r\n\r\nno plan\n";
        say(c, no, sizeof no - 1);
        flush(c);
        return;
    }
    c->format = TEXT;
    if (has(c->in, line - c->in, "chat/completions")) {
        int streams = has(body, c->length, "\"stream\":true") || has(body, c->length, "\"stream\": true");
        c->format = streams ? CHUNKS : WHOLE;
    }
    memcpy(c->id, id + 4, 4);
    c->n = number(plan, " n=", 50);
    c->rate = number(plan, " rate=", 0);
    c->write = number(plan, " write=", 1);
    c->step = c->rate ? 100000 / c->rate : 1;
    c->i = 0;
    c->start = (now_ns() / 10000 + number(plan, " lead=", 0) * 100) * 10000;
    c->answering = 1;
    if (c->format == WHOLE) {
        schedule(c, c->start + (c->rate ? c->n * c->step * 10000 : 0));
        return;
    }
    char head[160];
    say(c, head, sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked"
                               "\r\n\r\n", c->format == TEXT ? "text/plain; charset=utf-8"
                                                             : "text/event-stream"));
    if (c->format == CHUNKS) say_event(c, "{\"role\":\"assistant\",\"content\":\"\"}", "null");
    if (c->start > now_ns()) flush(c); /* else the head leaves with the first token */
    schedule(c, c->start);
}

/* --- bytes in --- */

static void look_for_request(struct conn *c) {
    if (!c->head) {
        char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
        if (!end) return;
        *end = 0;
        c->head = end + 4 - c->in;
        char *length = strcasestr(c->in, "\ncontent-length:");
        c->length = length ? strtoul(length + 16, NULL, 10) : 0;
    }
    if (c->in_len < c->head + c->length) return;
    answer(c);
    c->in_len -= c->head + c->length;
    memmove(c->in, c->in + c->head + c->length, c->in_len);
    c->head = 0;
}

/* False when the connection is over. */
static int take_in(struct conn *c) {
    for (;;) {
        if (c->in_cap - c->in_len < 2048)
            c->in = grown(c->in, c->in_cap = c->in_cap ? c->in_cap * 4 : 4096);
        size_t space = c->in_cap - c->in_len - 1;
#ifdef WITH_TLS
        ERR_clear_error(); /* what another connection left would be taken for this one's end */
#endif
        ssize_t got = c->ssl ? SSL_read(c->ssl, c->in + c->in_len, (int)space)
                             : recv(c->fd, c->in + c->in_len, space, 0);
        if (got <= 0) {
#ifdef WITH_TLS
            int why = c->ssl ? SSL_get_error(c->ssl, (int)got) : SSL_ERROR_NONE;
            if (c->ssl) return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
#endif
            return got < 0 && (errno == EAGAIN || errno == EINTR);
        }
        c->in_len += got;
        look_for_request(c);
        if (!c->ssl && (size_t)got < space) return 1;
    }
}

static void welcome(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        c->fd = fd, c->slot = -1;
#ifdef WITH_TLS
        if (tls) {
            c->ssl = SSL_new(tls);
            SSL_set_fd(c->ssl, fd);
            SSL_set_accept_state(c->ssl);
        }
#endif
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
    if (errno == EMFILE) {
        fprintf(stderr, "upstream: too few file descriptors\n");
        exit(1);
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_IGN); /* SSL_write has no MSG_NOSIGNAL */
    if (argc == 4) {
#ifndef WITH_TLS
        return 2;
#else
        tls = SSL_CTX_new(TLS_server_method());
        SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        if (SSL_CTX_use_certificate_file(tls, argv[2], SSL_FILETYPE_PEM) != 1 ||
            SSL_CTX_use_PrivateKey_file(tls, argv[3], SSL_FILETYPE_PEM) != 1) return 2;
#endif
    }
    address.sin_port = htons(argc > 1 ? atoi(argv[1]) : 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) {
        perror("upstream");
        return 1;
    }
    getsockname(listener, (void *)&address, &size);
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    epoll = epoll_create1(0);
    struct epoll_event events[512], first = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &first);
    for (;;) {
        int64_t wait = heap_len ? heap[0]->due - now_ns() : 1000000000;
        if (wait < 0) wait = 0;
        struct timespec t = {wait / 1000000000, wait % 1000000000};
        int count = epoll_pwait2(epoll, events, 512, &t, NULL);
        for (int k = 0; k < count; k++) {
            struct conn *c = events[k].data.ptr;
            if (!c) {
                welcome(listener);
            } else if (events[k].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !take_in(c)) {
                hang_up(c);
            } else if (events[k].events & EPOLLOUT) {
                flush(c);
                if (!c->blocked && c->answering && c->slot < 0) schedule(c, now_ns());
            }
        }
        int64_t now = now_ns();
        while (heap_len && heap[0]->due <= now) {
            struct conn *c = heap[0];
            unschedule(c);
            go_on(c, now);
        }
    }
}
