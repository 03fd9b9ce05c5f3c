/* SPDX-License-Identifier: Apache-2.0 */
/* parse_text.c: the characters and lines that heads, chunks and trailers of HTTP/1 are made of. Owns nothing but the line that has not
 * ended yet. */
#include "lib/http/parse_impl.h"

#include "lib/mem.h"

/* --- characters --- */

#define ALNUM (C_TOKEN | C_VALUE | C_TARGET | C_HOST | C_QUOTED)
#define TOKEN (C_TOKEN | C_VALUE | C_TARGET | C_QUOTED)
#define HOST  (C_TOKEN | C_VALUE | C_TARGET | C_QUOTED | C_HOST) /* in tokens and in reg-names */
#define SUBD  (C_VALUE | C_TARGET | C_QUOTED | C_HOST)           /* in reg-names, not in tokens */
#define OTHER (C_VALUE | C_TARGET | C_QUOTED)

/* C_QUOTED: qdtext and quoted-pair without '"' and '\', which the state machine of chunk extensions handles. */
static const uint8_t chars[256] = {
    ['\t'] = C_VALUE | C_QUOTED,
    [' '] = C_VALUE | C_QUOTED,
    ['!'] = HOST,
    ['"'] = C_VALUE | C_TARGET,
    ['#'] = C_TOKEN | C_VALUE | C_QUOTED,
    ['$'] = HOST,
    ['%'] = TOKEN,
    ['&'] = HOST,
    ['\''] = HOST,
    ['('] = SUBD,
    [')'] = SUBD,
    ['*'] = HOST,
    ['+'] = HOST,
    [','] = OTHER,
    ['-'] = HOST,
    ['.'] = HOST,
    ['/'] = OTHER,
    ['0' ... '9'] = ALNUM,
    [':'] = OTHER,
    [';'] = SUBD,
    ['<'] = OTHER,
    ['='] = SUBD,
    ['>'] = OTHER,
    ['?'] = OTHER,
    ['@'] = OTHER,
    ['A' ... 'Z'] = ALNUM,
    ['['] = OTHER,
    ['\\'] = C_VALUE | C_TARGET,
    [']'] = OTHER,
    ['^'] = TOKEN,
    ['_'] = HOST,
    ['`'] = TOKEN,
    ['a' ... 'z'] = ALNUM,
    ['{'] = OTHER,
    ['|'] = TOKEN,
    ['}'] = OTHER,
    ['~'] = HOST,
    [0x80 ... 0xff] = C_VALUE | C_QUOTED,
};

bool http1_char_is(char c, uint8_t class)
{
	return (chars[(uint8_t)c] & class) != 0;
}

bool http1_all(struct str s, uint8_t class)
{
	uint8_t both = class;
	for (size_t i = 0; i < s.len; i++)
		both &= chars[(uint8_t)s.p[i]];
	return both == class;
}

bool http1_is_token(struct str s)
{
	return s.len > 0 && http1_all(s, C_TOKEN);
}

bool http1_is_value(struct str s)
{
	return http1_all(s, C_VALUE) && str_trim(s).len == s.len;
}

bool http1_is_phrase(struct str s)
{
	return http1_all(s, C_VALUE);
}

bool http1_is_target(struct str s)
{
	return s.len > 0 && http1_all(s, C_TARGET);
}

static bool reg_name_or_ip(struct str host)
{
	if (host.len == 0)
		return false;
	if (host.p[0] != '[')
		return http1_all(host, C_HOST);
	struct ip ip;
	return host.len > 2 && host.p[host.len - 1] == ']' && memchr(host.p, ':', host.len) &&
	       ip_parse(str_make(host.p + 1, host.len - 2), &ip);
}

bool http1_authority(struct str s, bool need_port, struct str *ret)
{
	size_t host_len = s.len;
	const char *colon = memrchr(s.p, ':', s.len);
	const char *bracket = memrchr(s.p, ']', s.len);
	if (colon && (!bracket || bracket < colon))
		host_len = (size_t)(colon - s.p);
	if (!reg_name_or_ip(str_make(s.p, host_len)))
		return false;
	struct str port = host_len < s.len ? str_make(s.p + host_len + 1, s.len - host_len - 1) : (struct str){0};
	uint64_t number;
	if (port.len > 5 || (port.len && !str_to_u64(port, 65535, &number)) || (need_port && !port.len))
		return false;
	*ret = port.len ? s : str_make(s.p, host_len);
	return true;
}

/* --- lines --- */

static void part_add(struct http1_lines *l, const char *p, size_t n)
{
	if (l->part_len + n > l->part_cap) {
		l->part_cap = MAX(MAX(l->part_cap * 2, l->part_len + n), (size_t)256);
		l->part = mem_realloc(l->part, l->part_cap);
	}
	memcpy(l->part + l->part_len, p, n);
	l->part_len += n;
}

void http1_lines_done(struct http1_lines *l)
{
	FREE(&l->part);
	l->part_len = l->part_cap = 0;
}

static struct str lines_keep(struct http1_lines *l, const char *p, size_t n, struct http1_piece *ret)
{
	char *copy = arena_alloc(l->arena, n);
	if (!copy) {
		ret->no_room = true;
		return (struct str){0};
	}
	memcpy(copy, p, n);
	return str_make(copy, n);
}

/* The line that began in an earlier piece. */
static size_t lines_go_on(struct http1_lines *l, struct str in, http1_may_fn *may, const void *ctx,
			  struct http1_piece *ret)
{
	const char *nl = memchr(in.p, '\n', in.len);
	size_t n = nl ? (size_t)(nl - in.p) + 1 : in.len;
	part_add(l, in.p, n);
	if (!may(ctx, l->count, l->bytes, l->part_len))
		ret->over = str_make(l->part, l->part_len);
	else if (nl) {
		ret->whole = lines_keep(l, l->part, l->part_len, ret);
		l->part_len = 0;
	}
	return n;
}

size_t http1_lines_take(struct http1_lines *l, struct str in, http1_may_fn *may, const void *ctx,
			struct http1_piece *ret)
{
	*ret = (struct http1_piece){0};
	if (l->part_len)
		return lines_go_on(l, in, may, ctx, ret);
	size_t at = 0, line = l->count, before = l->bytes;
	bool empty = false;
	while (at < in.len && !empty && !ret->over.p) {
		const char *nl = memchr(in.p + at, '\n', in.len - at);
		size_t n = nl ? (size_t)(nl - in.p) + 1 - at : in.len - at;
		if (!may(ctx, line, before, n)) {
			ret->over = str_make(in.p + at, n);
			break;
		}
		if (!nl)
			break;
		empty = n == 2 && in.p[at] == '\r';
		before += line++ || !l->free_first ? n : 0;
		at += n;
	}
	if (at) {
		ret->whole = lines_keep(l, in.p, at, ret);
		return at;
	}
	if (!ret->over.p)
		part_add(l, in.p, in.len);
	return in.len;
}

/* Cuts the first line off `rest`: *ret_line without its CRLF. False: it does not end in CRLF, or has another CR within. */
bool http1_line_cut(struct str *rest, struct str *ret_line)
{
	const char *nl = memchr(rest->p, '\n', rest->len);
	size_t n = (size_t)(nl - rest->p);
	struct str line = str_make(rest->p, n);
	*rest = str_make(nl + 1, rest->len - n - 1);
	if (n == 0 || line.p[n - 1] != '\r')
		return false;
	line.len--;
	*ret_line = line;
	return memchr(line.p, '\r', line.len) == NULL;
}

/* "name: value": token, no space before the colon; the value trimmed and without control bytes. */
bool http1_field_cut(struct str line, struct str *ret_name, struct str *ret_value)
{
	struct str name, value;
	if (!str_cut(line, ':', &name, &value) || !http1_is_token(name))
		return false;
	value = str_trim(value);
	if (!http1_all(value, C_VALUE))
		return false;
	*ret_name = name;
	*ret_value = value;
	return true;
}
