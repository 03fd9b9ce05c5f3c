/* SPDX-License-Identifier: Apache-2.0 */
/* check.c: see check.h. A check is a function and a row. */
#include "bpf/check.h"

#include "bpf/host.h"
#include "bpf/load.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define KERNEL_MAJOR 6
#define KERNEL_MINOR 1

enum verdict { GOOD, WARN, BAD };

struct finding {
	enum verdict verdict;
	char text[400];
	char hint[200]; /* what to do; empty when good */
};

static void say(struct finding *f, enum verdict v, const char *hint, const char *fmt, ...) PRINTF_LIKE(4, 5);
static void say(struct finding *f, enum verdict v, const char *hint, const char *fmt, ...)
{
	va_list ap;

	f->verdict = v;
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
	snprintf(f->hint, sizeof(f->hint), "%s", hint ? hint : "");
}

static void check_kernel(const struct options *o, struct finding *f)
{
	struct utsname u;
	int major = 0, minor = 0;

	uname(&u);
	if (sscanf(u.release, "%d.%d", &major, &minor) == 2 &&
	    (major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR)))
		say(f, GOOD, NULL, "kernel %s", u.release);
	else
		say(f, BAD, "boot a kernel of 6.1 or later (Debian 12 has it)", "kernel %s is older than 6.1",
		    u.release);
}

static void check_capabilities(const struct options *o, struct finding *f)
{
	static const struct {
		unsigned number;
		const char *name;
	} need[] = {
	    {CAP_BPF, "CAP_BPF"},       {CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {CAP_SETUID, "CAP_SETUID"},
	    {CAP_SETGID, "CAP_SETGID"}, {CAP_SETPCAP, "CAP_SETPCAP"},     {CAP_CHOWN, "CAP_CHOWN"},
	};
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct have[2] = {{0}};
	char lacking[200] = "";

	syscall(SYS_capget, &head, have);
	for (size_t i = 0; i < ARRAY_LEN(need); i++) {
		if (!(have[need[i].number / 32].effective & (1u << need[i].number % 32)))
			snprintf(lacking + strlen(lacking), sizeof(lacking) - strlen(lacking), " %s", need[i].name);
	}
	if (lacking[0])
		say(f, BAD, "run as root, or grant them", "capabilities missing:%s", lacking);
	else
		say(f, GOOD, NULL, "capabilities");
}

static void check_cgroup2(const struct options *o, struct finding *f)
{
	char root[NODE_PATH_MAX];

	if (node_find_cgroup2(root))
		say(f, GOOD, NULL, "cgroup2 at %s", root);
	else
		say(f, BAD, "mount -t cgroup2 none /sys/fs/cgroup/unified", "cgroup2 is not mounted");
}

static void check_bpffs(const struct options *o, struct finding *f)
{
	char path[NODE_PATH_MAX];

	if (node_find_bpffs(path))
		say(f, GOOD, NULL, "bpffs at %s", path);
	else
		say(f, WARN, "weft-capture exec mounts it (needs CAP_SYS_ADMIN); or: mount -t bpf bpf /sys/fs/bpf",
		    "bpffs is not mounted");
}

static void check_loopback(const struct options *o, struct finding *f)
{
	struct netns ns;
	struct err err;

	if (netns_read(&ns, &err) && ns.loopback)
		say(f, GOOD, NULL, "loopback is up");
	else
		say(f, BAD, "ip link set lo up", "loopback is down in this network namespace");
}

static void check_addresses(const struct options *o, struct finding *f)
{
	char four[IP_TEXT_MAX] = "", six[IP_TEXT_MAX] = "";
	struct netns ns;
	struct err err;

	if (!netns_read(&ns, &err)) {
		say(f, BAD, "use a kernel of 6.1 or later", "%s", err.text);
		return;
	}
	if (ns.addr4.len)
		ip_text(&ns.addr4, four);
	if (ns.addr6.len)
		ip_text(&ns.addr6, six);
	if (!four[0] && !six[0])
		say(f, WARN, "add an address before the workload starts",
		    "this network namespace has no address of its own");
	else
		say(f, GOOD, NULL, "own address %s%s%s%s", four, four[0] && six[0] ? " and " : "", six,
		    ns.ipv6 ? "" : ", no IPv6");
}

/* The attach of this namespace, if there is one. */
static bool find_attach(const struct options *o, const struct netns *ns, struct weft_workload *ret)
{
	struct node n;
	struct maps m;
	bool found = false;

	if (!node_open(o, false, &n, NULL))
		return false;
	if (maps_open(&n, &m, NULL)) {
		found = bpf_map_lookup_elem(m.fd[MAP_WORKLOADS], &ns->cookie, ret) == 0;
		maps_close(&m);
	}
	close(n.lock);
	return found;
}

static void check_host(const struct options *o, struct finding *f)
{
	struct weft_workload w;
	struct netns ns;
	uint32_t left;

	if (!netns_read(&ns, NULL) || !ns.host) {
		say(f, GOOD, NULL, "a network namespace of its own: everything is captured");
		return;
	}
	if (!find_attach(o, &ns, &w)) {
		say(f, WARN,
		    "list the ports by --ports and --capture-out-ports, and confirm within 60 s (--undo-after): "
		    "weft-capture confirm",
		    "the machine's own network namespace (%s): only listed ports are captured, never SSH, and an "
		    "attach undoes itself unless confirmed",
		    ns.host);
		return;
	}
	switch (host_state(&w, &left)) {
	case HOST_UNDO_NONE:
	case HOST_UNDO_KEPT:
		say(f, GOOD, NULL,
		    "the machine's own network namespace (%s): listed ports captured for %s/%s, confirmed", ns.host,
		    w.ns, w.name);
		break;
	case HOST_UNDO_WAITING:
		say(f, WARN, "keep it: weft-capture confirm",
		    "the machine's own network namespace (%s): the attach of %s/%s undoes itself in %u s", ns.host,
		    w.ns, w.name, left);
		break;
	case HOST_UNDO_DONE:
		say(f, WARN, "weft-capture detach, then weft-capture exec and confirm in time",
		    "the machine's own network namespace (%s): the attach of %s/%s undid itself, nobody had confirmed "
		    "it",
		    ns.host, w.ns, w.name);
		break;
	}
}

static bool is_ours(const char *name)
{
	return !strncmp(name, "weft_", strlen("weft_"));
}

/* Names of programs at a hook of the root that are not ours. */
static void others_at(int root, enum bpf_attach_type hook, char *out, size_t size)
{
	__u32 ids[64], n = ARRAY_LEN(ids);

	if (bpf_prog_query(root, hook, BPF_F_QUERY_EFFECTIVE, NULL, ids, &n))
		return;
	for (__u32 i = 0; i < n; i++) {
		struct bpf_prog_info info = {0};
		__u32 len = sizeof(info);
		int fd = bpf_prog_get_fd_by_id(ids[i]);

		if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && !is_ours(info.name))
			snprintf(out + strlen(out), size - strlen(out), " %s", info.name[0] ? info.name : "(unnamed)");
		if (fd >= 0)
			close(fd);
	}
}

/* A socket load balancer rewrites service addresses at the same hook: what it has turned into a pod's address before us is no service to
 * the mesh any more, and no policy of that service applies. */
static void check_rivals(const struct options *o, struct finding *f)
{
	char path[NODE_PATH_MAX], names[256] = "";
	int root = node_find_cgroup2(path) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (root < 0) {
		say(f, WARN, "mount cgroup2 first", "programs at the cgroup root cannot be listed");
		return;
	}
	others_at(root, BPF_CGROUP_INET4_CONNECT, names, sizeof(names));
	others_at(root, BPF_CGROUP_INET6_CONNECT, names, sizeof(names));
	close(root);
	if (names[0])
		say(f, WARN, "keep it out of meshed namespaces (Cilium: socketLB.hostNamespaceOnly=true)",
		    "other programs rewrite connect() at the cgroup root, perhaps a socket load balancer:%s", names);
	else
		say(f, GOOD, NULL, "nothing else rewrites connect() at the cgroup root");
}

static void check_programs(const struct options *o, struct finding *f)
{
	size_t attached = 0, all = 0;
	struct node n;
	struct err err;

	if (!node_open(o, false, &n, &err)) {
		say(f, GOOD, NULL, "no workload is attached yet");
		return;
	}
	for (const char *const *name = load_shared_names; *name; name++, all++) {
		char pin[NODE_PATH_MAX];
		struct load_link l;

		attached += path_join(pin, "%s/%s", n.pins, *name) && load_link_read(pin, &l) && l.attached;
	}
	close(n.lock);
	if (attached == all)
		say(f, GOOD, NULL, "%zu of %zu shared programs attached", attached, all);
	else
		say(f, BAD, "weft-capture exec attaches them again", "%zu of %zu shared programs attached", attached,
		    all);
}

static const struct row {
	const char *name;
	void (*run)(const struct options *o, struct finding *f);
} rows[] = {
    {"kernel", check_kernel},     {"capabilities", check_capabilities},
    {"cgroup2", check_cgroup2},   {"bpffs", check_bpffs},
    {"loopback", check_loopback}, {"addresses", check_addresses},
    {"host", check_host},         {"rivals", check_rivals},
    {"programs", check_programs},
};

static const char *const signs[] = {[GOOD] = "√", [WARN] = "‼", [BAD] = "×"};
static const char *const words[] = {[GOOD] = "ok", [WARN] = "warning", [BAD] = "error"};

static void print_line(const struct finding *f)
{
	printf("%s %s\n", signs[f->verdict], f->text);
	if (f->hint[0])
		printf("    hint: %s\n", f->hint);
}

bool check_run(const struct options *o, struct err *err)
{
	bool json = !strcmp(o->v[OPT_OUTPUT], "json");
	json_t *list = json_array();
	size_t bad = 0;

	if (!json && strcmp(o->v[OPT_OUTPUT], "table"))
		return err_set(err, ERR_INVALID, "--output: %s is neither table nor json", o->v[OPT_OUTPUT]);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct finding f = {0};

		rows[i].run(o, &f);
		bad += f.verdict == BAD;
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "name", rows[i].name, "result",
						      words[f.verdict], "text", f.text, "hint", f.hint));
		if (!json)
			print_line(&f);
	}
	if (json) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(list);
	return bad == 0 || err_set(err, ERR_UNSUPPORTED, "capture does not work here");
}
