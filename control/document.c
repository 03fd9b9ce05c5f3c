/* SPDX-License-Identifier: Apache-2.0 */
/* document.c: files, directories and standard input as a list of documents. */
#include "control/document.h"

#include "control/document_yaml.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR_FILES_MAX 1000

struct adding {
	struct documents *d;
	const char *file;
};

void documents_done(struct documents *d)
{
	for (size_t i = 0; i < d->len; i++)
		json_decref(d->v[i].root);
	for (size_t i = 0; i < d->files_len; i++)
		mem_free(d->files[i]);
	mem_free(d->v);
	mem_free(d->files);
	memset(d, 0, sizeof(*d));
}

static bool put(const struct adding *a, json_t *root, unsigned line, struct err *err)
{
	struct documents *d = a->d;

	if (d->len == DOCUMENTS_MAX)
		return err_set(err, ERR_LIMIT, "%u:1: more than %d documents", line, DOCUMENTS_MAX);
	if (d->len == d->cap) {
		d->cap = d->cap ? d->cap * 2 : 16;
		d->v = mem_realloc(d->v, d->cap * sizeof(*d->v));
	}
	d->v[d->len++] = (struct document){json_incref(root), a->file, line};
	return true;
}

/* What `kubectl get -o yaml` prints for several objects. */
static bool add(void *ctx, json_t *root, unsigned line, struct err *err)
{
	const char *kind = json_string_value(json_object_get(root, "kind"));
	const json_t *items = json_object_get(root, "items");

	if (!kind || strcmp(kind, "List") != 0 || !json_is_array(items))
		return put(ctx, root, line, err);
	for (size_t i = 0; i < json_array_size(items); i++)
		if (!put(ctx, json_array_get(items, i), line, err))
			return false;
	return true;
}

static bool is_json(const char *name, struct str text)
{
	size_t len = strlen(name), i = 0;

	if (strcmp(name, "-") != 0)
		return len > 5 && strcmp(name + len - 5, ".json") == 0;
	while (i < text.len && strchr(" \t\r\n", text.p[i]) && text.p[i])
		i++;
	/* Several documents with "---" between them are YAML, whose superset of JSON reads them. */
	return i < text.len && text.p[i] == '{' && memmem(text.p, text.len, "\n---", 4) == NULL;
}

bool documents_add_text(struct documents *d, const char *name, struct str text, struct err *err)
{
	bool ok;

	if (text.len > DOCUMENT_FILE_MAX)
		return err_set(err, ERR_LIMIT, "%s: it is larger than %d MiB", name, DOCUMENT_FILE_MAX / 1024 / 1024);
	d->files = mem_realloc(d->files, (d->files_len + 1) * sizeof(*d->files));
	d->files[d->files_len] = mem_strdup(name);
	struct adding a = {d, d->files[d->files_len++]};
	if (is_json(name, text)) {
		json_t *root = json_read(text, err);
		ok = root && add(&a, root, 1, err);
		json_decref(root);
		return ok || err_prefix(err, "%s", name);
	}
	ok = yaml_read(text, add, &a, err);
	if (!ok && err) { /* "file:line:column", as compilers say it */
		char why[ERR_TEXT_MAX];
		snprintf(why, sizeof(why), "%s", err->text);
		err_set(err, err->code, "%s:%s", name, why);
	}
	return ok;
}

/* All bytes up to the limit; *ret is freed by the caller. */
static bool slurp(int fd, const char *path, char **ret, size_t *ret_len, struct err *err)
{
	size_t cap = 64 * 1024, len = 0;
	char *p = mem_alloc(cap);
	ssize_t n;

	while ((n = read(fd, p + len, cap - len)) > 0 || (n < 0 && errno == EINTR)) {
		len += n > 0 ? (size_t)n : 0;
		if (len > DOCUMENT_FILE_MAX) {
			mem_free(p);
			return err_set(err, ERR_LIMIT, "%s: it is larger than %d MiB", path,
				       DOCUMENT_FILE_MAX / 1024 / 1024);
		}
		if (len == cap)
			p = mem_realloc(p, cap *= 2);
	}
	if (n < 0) {
		err_errno(err, "%s", path);
		mem_free(p);
		return false;
	}
	*ret = p;
	*ret_len = len;
	return true;
}

static bool add_fd(struct documents *d, int fd, const char *path, struct err *err)
{
	char *text = NULL;
	size_t len = 0;

	if (!slurp(fd, path, &text, &len, err))
		return false;
	bool ok = documents_add_text(d, path, str_make(text, len), err);
	mem_free(text);
	return ok;
}

static bool add_file(struct documents *d, const char *path, struct err *err)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, "%s", path);
	bool ok = fstat(fd, &st) == 0 || err_errno(err, "%s", path);
	if (ok && st.st_size > DOCUMENT_FILE_MAX)
		ok = err_set(err, ERR_LIMIT, "%s: it is %lld bytes; at most %d MiB are read", path,
			     (long long)st.st_size, DOCUMENT_FILE_MAX / 1024 / 1024);
	ok = ok && add_fd(d, fd, path, err);
	close(fd);
	return ok;
}

static int is_policy(const struct dirent *e)
{
	const char *dot = strrchr(e->d_name, '.');

	return e->d_name[0] != '.' && dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml") || !strcmp(dot, ".json"));
}

static bool add_dir(struct documents *d, const char *path, struct err *err)
{
	struct dirent **names = NULL;
	int n = scandir(path, &names, is_policy, alphasort);
	bool ok = true;

	if (n < 0)
		return err_errno(err, "%s", path);
	if (n == 0)
		ok = err_set(err, ERR_INVALID, "%s: no *.yaml, *.yml or *.json in this directory", path);
	if (n > DIR_FILES_MAX)
		ok = err_set(err, ERR_LIMIT, "%s: more than %d files", path, DIR_FILES_MAX);
	for (int i = 0; i < n; i++) {
		char *file = mem_printf("%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/", names[i]->d_name);
		ok = ok && add_file(d, file, err);
		mem_free(file);
		free(names[i]);
	}
	free(names);
	return ok;
}

bool documents_add_path(struct documents *d, const char *path, struct err *err)
{
	struct stat st;

	if (strcmp(path, "-") == 0)
		return add_fd(d, STDIN_FILENO, "-", err);
	if (!*path || stat(path, &st) != 0)
		return *path ? err_errno(err, "%s", path) : err_set(err, ERR_INVALID, "-f: an empty file name");
	return S_ISDIR(st.st_mode) ? add_dir(d, path, err) : add_file(d, path, err);
}
