/* SPDX-License-Identifier: Apache-2.0 */
/* load.c: see load.h. */
#include "bpf/load.h"
#include "bpf/weft.skel.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Attached in this order: what explains a connection before what diverts it. */
const char *const load_shared_names[] = {
    "weft_handover", "weft_getpeername4", "weft_getpeername6", "weft_getsockname4", "weft_getsockname6",
    "weft_sendmsg4", "weft_sendmsg6",     "weft_connect4",     "weft_connect6",     NULL,
};
static const char *const proxy_names[] = {"weft_setsockopt", "weft_getsockopt", NULL};

/* libbpf explains failures on its log only; its last lines are kept for the error. */
static char last_words[300];

__attribute__((format(printf, 2, 0))) static int keep_words(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	if (level == LIBBPF_WARN) {
		char line[300];

		vsnprintf(line, sizeof(line), fmt, ap);
		if (!last_words[0] || strstr(line, "libbpf: map"))
			snprintf(last_words, sizeof(last_words), "%s", line);
		last_words[strcspn(last_words, "\n")] = '\0';
	}
	return 0;
}

static bool failed(struct err *err, const char *what)
{
	int saved = errno;

	if (saved == EPERM)
		return err_set(err, ERR_DENIED, "%s: not permitted; weft-capture needs CAP_BPF and CAP_NET_ADMIN",
			       what);
	errno = saved;
	err_errno(err, "%s", what);
	return last_words[0] ? err_prefix(err, "%s", last_words) : false;
}

struct weft_bpf *load_open(const struct node *n, uint64_t cookie, struct err *err)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .pin_root_path = n->pins);
	char path[NODE_PATH_MAX];
	struct weft_bpf *s;

	libbpf_set_print(keep_words);
	last_words[0] = '\0';
	node_ns_path(n, cookie, NULL, path);
	if (!path_make(path, 0700, err))
		return NULL;
	s = weft_bpf__open_opts(&opts);
	if (!s) {
		failed(err, "the eBPF programs cannot be opened");
		return NULL;
	}
	s->rodata->weft_netns_cookie = cookie;
	node_ns_path(n, cookie, "inbound", path);
	if (bpf_map__set_pin_path(s->maps.inbound, path) || weft_bpf__load(s)) {
		failed(err, errno == EINVAL
				? "maps of another version are pinned (weft-capture detach --all removes them)"
				: "the eBPF programs cannot be loaded");
		weft_bpf__destroy(s);
		return NULL;
	}
	return s;
}

void load_close(struct weft_bpf **s)
{
	weft_bpf__destroy(*s);
	*s = NULL;
}

static bool prog_tag(int fd, struct load_link *ret)
{
	struct bpf_prog_info info = {0};
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return false;
	ret->prog_id = info.id;
	memcpy(ret->tag, info.tag, sizeof(ret->tag));
	return true;
}

bool load_link_read(const char *pin, struct load_link *ret)
{
	struct bpf_link_info info = {0};
	__u32 len = sizeof(info);
	int link = bpf_obj_get(pin), prog;
	bool ok;

	if (link < 0)
		return false;
	ok = bpf_obj_get_info_by_fd(link, &info, &len) == 0;
	close(link);
	if (!ok)
		return false;
	ret->attached = info.type == BPF_LINK_TYPE_NETNS ? info.netns.netns_ino != 0 : info.cgroup.cgroup_id != 0;
	prog = bpf_prog_get_fd_by_id(info.prog_id);
	if (prog < 0)
		return false;
	ok = prog_tag(prog, ret);
	close(prog);
	return ok;
}

/* Switches a pinned link to `prog` unless it runs the same instructions already. */
static bool renew(const char *pin, const struct load_link *now, struct bpf_program *prog, struct err *err)
{
	struct load_link mine;
	struct bpf_link *link;
	int rc;

	if (prog_tag(bpf_program__fd(prog), &mine) && !memcmp(mine.tag, now->tag, sizeof(mine.tag)))
		return true;
	link = bpf_link__open(pin);
	if (!link)
		return failed(err, pin);
	rc = bpf_link__update_program(link, prog);
	bpf_link__destroy(link);
	return rc == 0 || failed(err, pin);
}

typedef struct bpf_link *attach_fn(const struct bpf_program *prog, int fd);

/* After this the program is attached and its link pinned; killed in between, the kernel takes the unpinned link away with us. */
static bool hold(struct bpf_program *prog, const char *pin, attach_fn *attach, int target, struct err *err)
{
	struct load_link now;
	struct bpf_link *link;
	int rc;

	if (load_link_read(pin, &now)) {
		if (now.attached)
			return renew(pin, &now, prog, err);
		unlink(pin);
	}
	link = attach(prog, target);
	if (!link)
		return failed(err, bpf_program__name(prog));
	rc = bpf_link__pin(link, pin);
	bpf_link__destroy(link); /* closes our handle; the pin keeps it */
	return rc == 0 || failed(err, pin);
}

static bool hold_named(struct weft_bpf *s, const char *name, const char *pin, attach_fn *attach, int target,
		       struct err *err)
{
	struct bpf_program *prog = bpf_object__find_program_by_name(s->obj, name);

	MUST(prog);
	return hold(prog, pin, attach, target, err);
}

bool load_attach_shared(struct weft_bpf *s, const struct node *n, struct err *err)
{
	int root = open(n->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok = root >= 0 || err_errno(err, "%s", n->cgroup);

	for (const char *const *name = load_shared_names; ok && *name; name++) {
		char pin[NODE_PATH_MAX];

		ok = path_join(pin, "%s/%s", n->pins, *name) || err_set(err, ERR_LIMIT, "%s: path too long", n->pins);
		ok = ok && hold_named(s, *name, pin, bpf_program__attach_cgroup, root, err);
	}
	if (root >= 0)
		close(root);
	return ok;
}

bool load_attach_netns(struct weft_bpf *s, const struct node *n, uint64_t cookie, struct err *err)
{
	char pin[NODE_PATH_MAX];
	int ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	bool ok;

	if (ns < 0)
		return err_errno(err, "/proc/self/ns/net");
	node_ns_path(n, cookie, "weft_steer", pin);
	ok = hold_named(s, "weft_steer", pin, bpf_program__attach_netns, ns, err);
	close(ns);
	return ok;
}

bool load_attach_proxy(struct weft_bpf *s, const struct node *n, uint64_t cookie, int cgroup, struct err *err)
{
	for (const char *const *name = proxy_names; *name; name++) {
		char pin[NODE_PATH_MAX];

		node_ns_path(n, cookie, *name, pin);
		unlink(pin); /* the last proxy's cgroup need not be this one's */
		if (!hold_named(s, *name, pin, bpf_program__attach_cgroup, cgroup, err))
			return false;
	}
	return true;
}

bool load_set_listener(struct weft_bpf *s, int fd, struct err *err)
{
	__u32 first = 0;
	__u64 value = (__u64)fd;

	if (bpf_map_update_elem(bpf_map__fd(s->maps.inbound), &first, &value, BPF_ANY))
		return failed(err, "the inbound listener cannot be put into the steering map");
	return true;
}
