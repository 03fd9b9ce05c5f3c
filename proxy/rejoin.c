/* SPDX-License-Identifier: Apache-2.0 */
/* rejoin.c: four lines of text: "weft-rejoin 1", SHA-256 of the root in hex, trust domain, secret. */
#include "proxy/rejoin.h"

#include "certs/spiffe.h"
#include "lib/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define REJOIN_NAME  "rejoin"
#define REJOIN_MAGIC "weft-rejoin 1"

/* --- files of the state directory --- */

static bool write_all(int fd, const uint8_t *p, size_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static bool replace(int dir, const char *name, const char *tmp, const void *bytes, size_t len, bool durable)
{
	int fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return false;
	bool ok = fchmod(fd, 0600) == 0 && write_all(fd, bytes, len) && (!durable || fsync(fd) == 0);
	ok = close(fd) == 0 && ok;
	return ok && renameat(dir, tmp, dir, name) == 0 && (!durable || fsync(dir) == 0);
}

bool state_write(const char *dir, const char *name, const void *bytes, size_t len, bool durable, struct err *err)
{
	char tmp[64];
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, "state directory %s", dir);
	/* In an upgrade two workers have the same directory for a moment: they write one after the other. Held for one write. */
	while (flock(fd, LOCK_EX) != 0 && errno == EINTR)
		;
	snprintf(tmp, sizeof(tmp), ".%s.new", name);
	bool ok = replace(fd, name, tmp, bytes, len, durable) || err_errno(err, "%s/%s", dir, name);
	close(fd);
	return ok;
}

bool state_read(const char *dir, const char *name, size_t max, uint8_t **ret, size_t *ret_len, struct err *err)
{
	struct stat st;
	char *path = mem_printf("%s/%s", dir, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	bool ok = fd >= 0 && fstat(fd, &st) == 0;
	if (!ok) {
		err_errno(err, "%s", path);
		if (err && errno == ENOENT)
			err->code = ERR_NOT_FOUND;
	} else if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > max) {
		ok = err_set(err, ERR_LIMIT, "%s: is not a plain file of at most %zu bytes", path, max);
	}
	if (ok) {
		size_t len = 0, size = (size_t)st.st_size;
		uint8_t *p = mem_alloc(size + 1);
		for (ssize_t n; len < size && (n = read(fd, p + len, size - len)) > 0;)
			len += (size_t)n;
		*ret = p;
		*ret_len = len;
	}
	if (fd >= 0)
		close(fd);
	mem_free(path);
	return ok;
}

/* --- the secret --- */

static bool hex_parse(struct str s, uint8_t *out, size_t n)
{
	if (s.len != 2 * n)
		return false;
	for (size_t i = 0; i < 2 * n; i++) {
		char c = s.p[i];
		int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
		if (v < 0)
			return false;
		out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | v : v << 4);
	}
	return true;
}

/* A line of the file into `out`, printable and not empty. */
static bool line_text(struct str line, char *out, size_t size)
{
	if (line.len == 0 || line.len >= size)
		return false;
	for (size_t i = 0; i < line.len; i++)
		if (line.p[i] <= ' ' || line.p[i] > '~')
			return false;
	memcpy(out, line.p, line.len);
	out[line.len] = '\0';
	return true;
}

static bool parse(struct str text, struct rejoin *ret)
{
	struct str line[4], rest = text;
	for (size_t i = 0; i < ARRAY_LEN(line); i++)
		if (!str_cut(rest, '\n', &line[i], &rest))
			return false;
	return rest.len == 0 && str_is(line[0], REJOIN_MAGIC) && hex_parse(line[1], ret->root_hash, 32) &&
	       line_text(line[2], ret->trust_domain, sizeof(ret->trust_domain)) &&
	       trust_domain_valid(str_of(ret->trust_domain)) && line_text(line[3], ret->secret, sizeof(ret->secret));
}

bool rejoin_load(const char *dir, struct rejoin *ret, struct err *err)
{
	uint8_t *bytes;
	size_t len;
	if (!state_read(dir, REJOIN_NAME, 4096, &bytes, &len, err))
		return false;
	bool ok = parse(str_make(bytes, len), ret) ||
		  err_set(err, ERR_INVALID, "%s/%s: is damaged; a new join token is needed", dir, REJOIN_NAME);
	mem_wipe_free(bytes, len);
	return ok;
}

bool rejoin_store(const char *dir, const struct rejoin *r, struct err *err)
{
	char text[1024], hex[65];
	for (size_t i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", r->root_hash[i]);
	int len = snprintf(text, sizeof(text), "%s\n%s\n%s\n%s\n", REJOIN_MAGIC, hex, r->trust_domain, r->secret);
	MUST(len > 0 && (size_t)len < sizeof(text));
	bool ok = state_write(dir, REJOIN_NAME, text, (size_t)len, true, err);
	mem_wipe(text, sizeof(text));
	return ok;
}
