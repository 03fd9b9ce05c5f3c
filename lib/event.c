/* SPDX-License-Identifier: Apache-2.0 */
/* event.c: writes one line an event. It formats the arguments itself, because only it can tell the caller's own quotes
 * from those in a value that came from outside. Any thread may log: a line is one write(). */
#include "lib/event.h"

#include "lib/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define ARGS_MAX   1024 /* bytes of key=value pairs */
#define LINE_MAX_B (2 * ARGS_MAX + 256)
#define PER_SECOND 100

static const struct {
	const char *label;
	enum event_level level;
} rows[EV_COUNT] = {
#define EVENT(name, level_, label_, text) [EV_##name] = {.label = label_, .level = EVENT_##level_},
#include "lib/event.tbl.h"
#undef EVENT
};

static const char *const level_names[] = {
    [EVENT_DEBUG] = "debug",
    [EVENT_INFO] = "info",
    [EVENT_WARN] = "warn",
    [EVENT_ERROR] = "error",
};

static const char *program_name = "weft";
static bool as_json;
static _Atomic int least = EVENT_INFO;

/* How often each event was written in the current second, and how often it was not. */
static _Atomic uint32_t written[EV_COUNT], dropped[EV_COUNT];
static _Atomic int64_t window; /* seconds of CLOCK_MONOTONIC */

void event_init(const char *program)
{
	const char *level = getenv("WEFT_LOG_LEVEL"), *format = getenv("WEFT_LOG_FORMAT");
	enum event_level parsed;

	program_name = program;
	as_json = format && strcmp(format, "json") == 0;
	if (level && event_level_parse(level, &parsed))
		event_set_level(parsed);
}

void event_set_level(enum event_level level)
{
	least = level;
}

bool event_level_parse(const char *text, enum event_level *ret)
{
	for (unsigned i = 0; i < ARRAY_LEN(level_names); i++) {
		if (strcmp(text, level_names[i]) == 0) {
			*ret = (enum event_level)i;
			return true;
		}
	}
	return false;
}

bool event_enabled(enum event ev)
{
	return (int)rows[ev].level >= least;
}

/* --- a bounded text --- */

struct out {
	char *p;
	size_t len, cap; /* cap leaves room for an ending */
	bool cut;
	bool quoted; /* inside the caller's quotes */
};

static void put(struct out *o, const char *p, size_t n)
{
	if (o->cut || n > o->cap - o->len) {
		o->cut = true;
		return;
	}
	memcpy(o->p + o->len, p, n);
	o->len += n;
}

/* A value: quotes, backslashes, control bytes escaped as in JSON; bytes that are not UTF-8 become '?'. */
static void put_value(struct out *o, const char *p, size_t n)
{
	while (n > 0 && !o->cut) {
		size_t len = utf8_len(p, n);
		uint8_t c = (uint8_t)*p;
		char esc[8];

		if (len == 0) {
			put(o, "?", 1);
			len = 1;
		} else if (c == '"' || c == '\\') {
			esc[0] = '\\';
			esc[1] = *p;
			put(o, esc, 2);
		} else if (c < 0x20 || c == 0x7f) {
			put(o, esc, (size_t)snprintf(esc, sizeof(esc), "\\u%04x", c));
		} else {
			put(o, p, len);
		}
		p += len;
		n -= len;
	}
}

/* --- printf, as far as events need it: %s %.*s %.Ns, %c, integers of every width, %% --- */

struct spec {
	char text[16]; /* "%-08" and so on, without the length modifier */
	size_t len;
	int precision;  /* -1: none */
	unsigned longs; /* l: 1, ll: 2; z, j, t: 1 */
	char conv;
};

static const char *read_spec(const char *f, struct spec *s, va_list *ap)
{
	*s = (struct spec){.text = "%", .len = 1, .precision = -1};
	while (*f && strchr("-+ #0123456789", *f) && s->len < 8)
		s->text[s->len++] = *f++;
	if (*f == '.') {
		f++;
		s->precision = 0;
		if (*f == '*') {
			s->precision = va_arg(*ap, int);
			f++;
		}
		while (*f >= '0' && *f <= '9')
			s->precision = s->precision * 10 + (*f++ - '0');
	}
	while (*f && strchr("lzjth", *f)) {
		s->longs += *f != 'h';
		f++;
	}
	s->conv = *f;
	return *f ? f + 1 : f;
}

static void put_integer(struct out *o, struct spec *s, va_list *ap)
{
	char digits[64];
	intmax_t v;

	if (strchr("di", s->conv))
		v = s->longs ? va_arg(*ap, long long) : va_arg(*ap, int);
	else
		v = (intmax_t)(s->longs ? va_arg(*ap, unsigned long long) : va_arg(*ap, unsigned));
	s->text[s->len++] = 'j';
	s->text[s->len++] = s->conv;
	s->text[s->len] = 0;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	int n = snprintf(digits, sizeof(digits), s->text, v);
#pragma GCC diagnostic pop
	if (n > 0)
		put(o, digits, MIN((size_t)n, sizeof(digits) - 1));
}

static void put_arg(struct out *o, struct spec *s, va_list *ap)
{
	char c;

	switch (s->conv) {
	case 's': {
		const char *p = va_arg(*ap, const char *);
		if (!p)
			p = "";
		put_value(o, p, s->precision >= 0 ? strnlen(p, (size_t)s->precision) : strlen(p));
		break;
	}
	case 'c':
		c = (char)va_arg(*ap, int);
		put_value(o, &c, 1);
		break;
	case '%':
		put(o, "%", 1);
		break;
	default:
		MUST(s->conv && strchr("diuxX", s->conv));
		put_integer(o, s, ap);
	}
}

static void format_args(struct out *o, const char *fmt, va_list *ap)
{
	for (const char *f = fmt; *f;) {
		if (*f == '%') {
			struct spec s;
			f = read_spec(f + 1, &s, ap);
			put_arg(o, &s, ap);
			continue;
		}
		size_t n = strcspn(f, "%");
		for (size_t i = 0; i < n; i++)
			if (f[i] == '"' && !o->cut)
				o->quoted = !o->quoted;
		put(o, f, n);
		f += n;
	}
	if (o->cut) {
		o->cut = false;
		o->cap += sizeof("...\"");
		put(o, "...\"", o->quoted ? 4 : 3);
	}
	o->p[o->len] = 0;
}

/* --- JSON: the pairs as members --- */

static size_t value_len(const char *p)
{
	size_t n = 0;

	if (*p != '"')
		return strcspn(p, " ");
	for (n = 1; p[n] && p[n] != '"'; n++)
		if (p[n] == '\\' && p[n + 1])
			n++;
	return p[n] ? n + 1 : n;
}

static bool is_number(const char *p, size_t n)
{
	size_t sign = n > 0 && *p == '-';

	if (n == sign || n > 15 || (p[sign] == '0' && n > sign + 1))
		return false;
	for (size_t i = sign; i < n; i++)
		if (p[i] < '0' || p[i] > '9')
			return false;
	return true;
}

static void put_members(struct out *o, const char *args)
{
	while (*args) {
		size_t key = strcspn(args, "= \"");
		const char *name = args;

		if (key == 0 || args[key] != '=') { /* words outside any pair */
			name = "text";
			key = 4;
		} else {
			args += key + 1;
		}
		size_t len = value_len(args);
		bool bare = is_number(args, len) || *args == '"';
		put(o, ",\"", 2);
		put(o, name, key);
		put(o, "\":", 2);
		put(o, "\"", !bare);
		put(o, args, len);
		put(o, "\"", !bare);
		args += len;
		args += strspn(args, " ");
	}
}

/* --- the line --- */

static void write_line(const char *p, size_t n)
{
	while (n > 0) {
		ssize_t done = write(STDERR_FILENO, p, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return; /* nowhere to say it */
		p += done;
		n -= (size_t)done;
	}
}

static void emit(enum event ev, const char *args)
{
	char line[LINE_MAX_B], stamp[32];
	struct out o = {.p = line, .cap = sizeof(line) - 8};
	struct timespec now;
	struct tm tm;
	char head[192];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	const char *fmt = as_json ? "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"program\":\"%s\",\"event\":\"%s\""
				  : "%s.%03ldZ %s %s %s";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	int n = snprintf(head, sizeof(head), fmt, stamp, now.tv_nsec / 1000000, level_names[rows[ev].level],
			 program_name, rows[ev].label);
#pragma GCC diagnostic pop
	put(&o, head, MIN((size_t)MAX(n, 0), sizeof(head) - 1));
	if (as_json) {
		put_members(&o, args);
		put(&o, "}", 1);
	} else if (*args) {
		put(&o, " ", 1);
		put(&o, args, strlen(args));
	}
	line[o.len++] = '\n';
	write_line(line, o.len);
}

/* A new second: says what the last one swallowed, of every event. */
static void turn_window(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	int64_t last = window;
	if (now.tv_sec == last || !atomic_compare_exchange_strong(&window, &last, now.tv_sec))
		return;
	for (unsigned ev = 0; ev < EV_COUNT; ev++) {
		char args[128];
		uint32_t n = atomic_exchange(&dropped[ev], 0);

		written[ev] = 0;
		if (n == 0)
			continue;
		snprintf(args, sizeof(args), "event=\"%s\" lines=%u", rows[ev].label, n);
		emit(EV_EVENTS_DROPPED, args);
	}
}

void event(enum event ev, const char *fmt, ...)
{
	char args[ARGS_MAX + 8];
	struct out o = {.p = args, .cap = ARGS_MAX - 8};
	int saved = errno;
	va_list ap;

	MUST(ev < EV_COUNT);
	if (!event_enabled(ev))
		return;
	turn_window();
	if (atomic_fetch_add(&written[ev], 1) >= PER_SECOND) {
		atomic_fetch_add(&dropped[ev], 1);
		return;
	}
	va_start(ap, fmt);
	format_args(&o, fmt, &ap);
	va_end(ap);
	emit(ev, args);
	errno = saved;
}
