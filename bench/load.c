/* A crowd of callers in one thread: sends requests to a chat API and checks every answer.
 *
 *   load port=8000 path=/v1/chat/completions body=request.json key=secret callers=32 seconds=1
 *        n=50 rate=0 stream=1 text=0 each=0 ramp=0 limit=20 mark0=0 mark1=0
 *
 * The body holds a plan for upstream.c ("... id=AAAA"); each request gets an id of its own in it.
 * A caller sends one request after the other on a kept connection until `seconds` are over, or
 * `each` requests if that is given. The callers begin evenly spread over `ramp` seconds. An answer
 * is right if its text is exactly the id and then the n - 1 tokens that follow from its first time
 * stamp (see upstream.c), if that stamp lies within the request, if finish_reason is "stop" and,
 * streamed, [DONE] came; with text=1 the body is the bare text. A path that ends in /responses or
 * /messages has that API's events, streamed only, and its own last ones. `limit` seconds end the
 * run; what is unfinished then is counted as such.
 *
 * Prints "mark 0" and "mark 1" at those seconds, so that somebody can read the CPU time there, and
 * at the end one line of JSON. Lateness of a token: arrival minus the time that stands in it.
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
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const char DIGITS[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
static int8_t value[256];
enum { HEAD, SIZE, DATA, DATA_END, TRAILER, SIZED }; /* where in the response we are */

struct text {
    char *at;
    size_t len, cap;
};

struct caller {
    int fd, place, sending, answers;
    char *request;
    size_t sent, left;              /* left: bytes of this chunk or body */
    struct text head, line;         /* what is not whole yet: header lines, a line of events */
    int closes, finished, done;
    double began;
    /* the text: token i, byte `at` of `want` */
    long i;
    int at, want_len;
    char want[8], id[4];
    uint32_t t0;
};

static int port, callers = 1, streams = 1, bare, epoll, running;
static long n = 50, rate, each, step;
static double seconds = 1, ramp, limit = 20, mark0, mark1, begun, now;
static char *path = "/v1/chat/completions", *key = "", *request;
static size_t request_len, id_at;
static uint32_t next_id, now_10us;
static long answers, wrong, tokens, bytes, window_tokens;
static char first_wrong[240];
struct numbers {
    double *all;
    size_t len, cap;
};
static struct numbers latency, first_token, lateness, steady;

static void keep(struct numbers *numbers, double number) {
    if (numbers->len == numbers->cap)
        numbers->all = realloc(numbers->all, (numbers->cap = numbers->cap * 2 + 1024) * sizeof(double));
    numbers->all[numbers->len++] = number;
}

static void add(struct text *text, const char *p, size_t len) {
    if (text->len + len + 1 > text->cap)
        text->at = realloc(text->at, text->cap = (text->len + len + 1) * 2);
    memcpy(text->at + text->len, p, len);
    text->at[text->len += len] = 0;
}

/* Seconds; sets the time in the units of the stamps as well. */
static double look_at_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    now_10us = (uint32_t)(t.tv_sec * 100000ULL + t.tv_nsec / 10000);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* --- one caller --- */

static void hang_up(struct caller *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static void over(struct caller *c) {
    hang_up(c);
    running--;
}

static void is_wrong(struct caller *c, const char *why, const char *said, size_t len) {
    if (!wrong++) {
        if (len > 150) len = 150;
        snprintf(first_wrong, sizeof first_wrong, "%s at token %ld: %.*s", why, c->i, (int)len, said);
        for (char *p = first_wrong; *p; p++) if (*p < ' ' || *p == '"' || *p == '\\') *p = '\'';
    }
    over(c);
}

static void want_next(struct caller *c) {
    char *p = c->want;
    if (c->i & 1) *p++ = ' ';
    uint32_t stamp = c->t0 + (uint32_t)(c->i * step);
    if (c->i == 0) memcpy(p, c->id, 4);
    else for (int k = 0; k < 4; k++) p[k] = DIGITS[stamp >> (18 - 6 * k) & 63];
    c->want_len = p + 4 - c->want;
    c->at = 0;
}

static void ask(struct caller *c) {
    if (c->fd < 0) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int on = 1;
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (c->fd < 0 || (connect(c->fd, (void *)&to, sizeof to) && errno != EINPROGRESS)) {
            is_wrong(c, "no connection", strerror(errno), strlen(strerror(errno)));
            return;
        }
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e);
    } else {
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
    }
    for (int k = 0; k < 4; k++) c->id[k] = DIGITS[next_id >> (18 - 6 * k) & 63];
    next_id++;
    memcpy(c->request + id_at, c->id, 4);
    c->sending = 1, c->sent = 0, c->place = HEAD, c->head.len = c->line.len = 0;
    c->finished = c->done = 0, c->i = 0, c->t0 = 0;
    want_next(c);
    c->began = look_at_clock();
}

static void send_more(struct caller *c) {
    while (c->sent < request_len) {
        ssize_t sent = send(c->fd, c->request + c->sent, request_len - c->sent, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN && errno != ENOTCONN) is_wrong(c, "cannot send", "", 0);
            return;
        }
        c->sent += sent;
    }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
    c->sending = 0;
}

/* A whole answer is there, and what stands in it has been compared. False if it is wrong. */
static int complete(struct caller *c) {
    if (c->i != n || c->at) return is_wrong(c, "too short", "", 0), 0;
    if (!bare && !c->finished) return is_wrong(c, "no finish_reason", "", 0), 0;
    if (!bare && streams && !c->done) return is_wrong(c, "no [DONE]", "", 0), 0;
    answers++, c->answers++;
    keep(&latency, now - c->began);
    if (c->closes) hang_up(c);
    if (each ? c->answers < each : now - begun < seconds) ask(c);
    else over(c);
    return 1;
}

/* --- what the answer says --- */

static void token_came(struct caller *c) {
    int inside = now - begun >= mark0 && now - begun < mark1;
    tokens++;
    window_tokens += inside;
    if (rate && streams && c->i) {
        uint32_t units = (now_10us - c->t0 - (uint32_t)(c->i * step)) & 0xffffff;
        double late = (units < 0x800000 ? units : (double)units - 0x1000000) / 100.0;
        keep(&lateness, late);
        if (inside) keep(&steady, late);
    }
    c->i++;
    want_next(c);
}

/* Compare a piece of the text with what it has to be. False if it is wrong. */
static int said(struct caller *c, const char *text, size_t len) {
    if (len && !c->i && !c->at) keep(&first_token, now - c->began);
    for (size_t k = 0; k < len; k++) {
        if (c->i >= n) return is_wrong(c, "too long", text, len), 0;
        if (c->i == 1 && c->at) { /* the stamp that all others follow from */
            if (value[(uint8_t)text[k]] < 0) return is_wrong(c, "no stamp", text, len), 0;
            c->t0 = c->t0 << 6 | (uint32_t)value[(uint8_t)text[k]];
            if (c->at == 4) {
                c->t0 = (c->t0 - (uint32_t)step) & 0xffffff;
                uint32_t age = (now_10us - c->t0) & 0xffffff;
                if (age / 1e5 > now - c->began + 0.0001)
                    return is_wrong(c, "the stamp of another time", text, len), 0;
            }
        } else if (text[k] != c->want[c->at]) {
            return is_wrong(c, "another token", text, len), 0;
        }
        if (++c->at == c->want_len) token_came(c);
    }
    return 1;
}

/* What the events of an API other than chat completions are known by; `path` ends its path. */
static const struct api {
    const char *path, *text, *finished, *done;
} apis[] = {
    {"/responses", "\"delta\":", "\"response.completed\"", "\"response.completed\""},
    {"/messages", "\"text\":", "\"end_turn\"", "\"message_stop\""},
}, *api; /* none: chat completions */

static const char *find(const char *p, size_t len, const char *name) {
    const char *found = memmem(p, len, name, strlen(name));
    if (!found) return NULL;
    for (found += strlen(name); *found == ' '; found++);
    return found;
}

/* One chunk or one completion. `json` ends with a zero or a new line. */
static int read_json(struct caller *c, const char *json, size_t len) {
    const char *end = json + len;
    const char *text = find(json, len, api ? api->text : "\"content\":");
    if (text && *text == '"') {
        text++;
        const char *quote = memchr(text, '"', end - text);
        if (!quote || memchr(text, '\\', quote - text)) return is_wrong(c, "escapes", json, len), 0;
        if (!said(c, text, quote - text)) return 0;
    }
    if (api) {
        if (find(json, len, api->finished)) c->finished = 1;
        if (find(json, len, api->done)) c->done = 1;
        return 1;
    }
    const char *reason = find(json, len, "\"finish_reason\":"); /* some have it before the text */
    if (reason && *reason == '"') {
        if (strncmp(reason, "\"stop\"", 6)) return is_wrong(c, "finish_reason", reason, 20), 0;
        c->finished = 1;
    }
    if (!reason && !find(json, len, "\"choices\":")) return is_wrong(c, "said", json, len), 0;
    return 1;
}

static int read_line(struct caller *c, const char *line, size_t len) {
    if (len && line[len - 1] == '\r') len--;
    if (!len || *line == ':') return 1;
    if (api && len > 6 && !memcmp(line, "event:", 6)) return 1;
    if (len < 5 || memcmp(line, "data:", 5)) return is_wrong(c, "no event", line, len), 0;
    for (line += 5, len -= 5; len && *line == ' '; line++) len--;
    if (len == 6 && !memcmp(line, "[DONE]", 6)) return c->done = 1;
    return read_json(c, line, len);
}

/* Some decoded bytes of the body. False if they are wrong. */
static int read_body(struct caller *c, const char *p, size_t len) {
    const char *end = p + len, *stop;
    if (bare) return said(c, p, len);
    for (; streams && (stop = memchr(p, '\n', end - p)); p = stop + 1) {
        if (!c->line.len) {
            if (!read_line(c, p, stop - p)) return 0;
            continue;
        }
        add(&c->line, p, stop + 1 - p);
        size_t whole = c->line.len - 1;
        c->line.len = 0;
        if (!read_line(c, c->line.at, whole)) return 0;
    }
    if (p < end) add(&c->line, p, end - p);
    return 1;
}

static int body_ends(struct caller *c) {
    if (!streams && !bare && !read_json(c, c->line.at ? c->line.at : "", c->line.len)) return 0;
    return complete(c);
}

/* --- HTTP --- */

static int read_head(struct caller *c) {
    char *head = c->head.at, *length = strcasestr(head, "\ncontent-length:");
    if (strncmp(head, "HTTP/1.", 7) || strncmp(head + 9, "200", 3))
        return is_wrong(c, "answered", head, c->head.len), 0;
    c->closes = strcasestr(head, "\nconnection: close") != NULL;
    c->place = strcasestr(head, "\ntransfer-encoding: chunked") ? SIZE : SIZED;
    c->left = c->place == SIZE ? 0 : length ? strtoul(length + 16, NULL, 10) : SIZE_MAX;
    c->head.len = 0;
    return 1;
}

static void take(struct caller *c, char *p, size_t len) {
    for (char *end = p + len, *stop; p < end;) {
        size_t have = end - p;
        if (c->place == DATA || c->place == SIZED) {
            size_t part = have < c->left ? have : c->left;
            if (!read_body(c, p, part)) return;
            p += part;
            c->left -= part;
            if (c->place == DATA && !c->left) c->place = DATA_END;
            else if (!c->left) { body_ends(c); return; }
            continue;
        }
        stop = memchr(p, '\n', have); /* all other parts are lines */
        add(&c->head, p, stop ? (size_t)(stop + 1 - p) : have);
        if (!stop) return;
        p = stop + 1;
        if (c->place == HEAD) {
            if (!strcmp(c->head.at + c->head.len - 2, "\r\n") &&
                (c->head.len < 4 || c->head.at[c->head.len - 3] == '\n') && !read_head(c)) return;
            continue;
        }
        if (c->place == TRAILER) { body_ends(c); return; }
        if (c->place == SIZE) {
            c->left = strtoul(c->head.at, NULL, 16);
            c->place = c->left ? DATA : TRAILER;
        } else {
            c->place = SIZE;
        }
        c->head.len = 0;
    }
}

static void take_in(struct caller *c) {
    static char block[262144];
    ssize_t got = recv(c->fd, block, sizeof block, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    now = look_at_clock();
    if (got > 0) {
        bytes += got;
        take(c, block, got);
    } else if (c->place == SIZED && c->left > SIZE_MAX / 2) {
        c->closes = 1;
        body_ends(c);
    } else {
        is_wrong(c, "cut", c->place == HEAD ? "before the answer" : "in the answer", 17);
    }
}

/* --- the run --- */

static void load_request(const char *file) {
    FILE *in = fopen(file, "rb");
    struct text body = {0};
    char part[65536];
    for (size_t got; in && (got = fread(part, 1, sizeof part, in));) add(&body, part, got);
    char *id = body.at ? memmem(body.at, body.len, " id=AAAA", 8) : NULL;
    if (!id) {
        fprintf(stderr, "load: no plan in %s\n", file);
        exit(2);
    }
    fclose(in);
    int head = asprintf(&request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n"
        "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", path, port, key, body.len);
    request_len = head + body.len;
    request = realloc(request, request_len);
    memcpy(request + head, body.at, body.len);
    id_at = head + (id - body.at) + 4;
    free(body.at);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_numbers(const char *name, struct numbers *numbers, double unit) {
    if (!numbers->len) return;
    qsort(numbers->all, numbers->len, sizeof(double), by_size);
    printf(", \"%s_p50\": %.3f, \"%s_p99\": %.3f, \"%s_max\": %.3f",
           name, numbers->all[numbers->len / 2] * unit, name,
           numbers->all[(size_t)((numbers->len - 1) * 0.99)] * unit,
           name, numbers->all[numbers->len - 1] * unit);
}

int main(int argc, char **argv) {
    const char *file = "";
    for (int k = 1; k < argc; k++) {
        char *v = strchr(argv[k], '=');
        if (!v) return 2;
        *v++ = 0;
        const char *name = argv[k];
        if (!strcmp(name, "port")) port = atoi(v);
        else if (!strcmp(name, "path")) path = v;
        else if (!strcmp(name, "body")) file = v;
        else if (!strcmp(name, "key")) key = v;
        else if (!strcmp(name, "callers")) callers = atoi(v);
        else if (!strcmp(name, "seconds")) seconds = atof(v);
        else if (!strcmp(name, "n")) n = atol(v);
        else if (!strcmp(name, "rate")) rate = atol(v);
        else if (!strcmp(name, "stream")) streams = atoi(v);
        else if (!strcmp(name, "text")) bare = atoi(v);
        else if (!strcmp(name, "each")) each = atol(v);
        else if (!strcmp(name, "ramp")) ramp = atof(v);
        else if (!strcmp(name, "limit")) limit = atof(v);
        else if (!strcmp(name, "mark0")) mark0 = atof(v);
        else if (!strcmp(name, "mark1")) mark1 = atof(v);
        else return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    memset(value, -1, sizeof value);
    for (int k = 0; k < 64; k++) value[(uint8_t)DIGITS[k]] = k;
    step = rate ? 100000 / rate : 1;
    for (size_t k = 0; k < sizeof apis / sizeof *apis; k++) {
        size_t have = strlen(path), ends = strlen(apis[k].path);
        if (have > ends && !strcmp(path + have - ends, apis[k].path)) api = &apis[k];
    }
    load_request(file);
    epoll = epoll_create1(0);
    struct caller *crowd = calloc(callers, sizeof *crowd);
    struct epoll_event events[512];
    int started = 0, marks = mark1 > 0 ? 0 : 2;
    begun = look_at_clock();
    next_id = now_10us;
    for (running = callers; running > 0;) {
        double at = look_at_clock() - begun, due = started < callers ? ramp * started / callers : limit;
        for (; started < callers && ramp * started / callers <= at; started++) {
            struct caller *c = &crowd[started];
            c->fd = -1;
            c->request = memcpy(malloc(request_len), request, request_len);
            ask(c);
        }
        if (marks < 2 && at >= (marks ? mark1 : mark0)) printf("mark %d\n", marks++), fflush(stdout);
        if (at >= limit) break;
        if (marks < 2 && due > (marks ? mark1 : mark0)) due = marks ? mark1 : mark0;
        int wait = due > at ? (int)((due - at) * 1000) + 1 : 0;
        int count = epoll_wait(epoll, events, 512, wait);
        for (int k = 0; k < count; k++) {
            struct caller *c = events[k].data.ptr;
            if (c->fd >= 0 && c->sending && events[k].events & EPOLLOUT) send_more(c);
            if (c->fd >= 0 && events[k].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take_in(c);
        }
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"answers\": %ld, \"wrong\": %ld, \"unfinished\": %d, \"first_wrong\": \"%s\", "
           "\"seconds\": %.4f, \"tokens\": %ld, \"bytes\": %ld, \"window_tokens\": %ld, \"cpu\": %.4f",
           answers, wrong, running, first_wrong, look_at_clock() - begun, tokens, bytes, window_tokens,
           used.ru_utime.tv_sec + used.ru_stime.tv_sec
           + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    print_numbers("latency_ms", &latency, 1000);
    print_numbers("first_ms", &first_token, 1000);
    print_numbers("late_ms", &lateness, 1);
    print_numbers("steady_ms", &steady, 1);
    printf("}\n");
    return wrong || running;
}
