/* SPDX-License-Identifier: Apache-2.0 */
/* node.c: see node.h. */
#include "bpf/node.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#define BPFFS      "/sys/fs/bpf"
#define BPFFS_TYPE 0xcafe4a11L

bool path_join(char ret[static NODE_PATH_MAX], const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(ret, NODE_PATH_MAX, fmt, ap);
	va_end(ap);
	return n > 0 && n < NODE_PATH_MAX;
}

bool path_make(const char *path, unsigned mode, struct err *err)
{
	char part[NODE_PATH_MAX];

	if (!path_join(part, "%s", path))
		return err_set(err, ERR_LIMIT, "%s: the path is too long", path);
	for (char *at = part + 1;; at++) {
		char was = *at;

		if (was != '/' && was != '\0')
			continue;
		*at = '\0';
		if (mkdir(part, was ? 0755 : mode) && errno != EEXIST)
			return err_errno(err, "%s: cannot be made", part);
		if (!was)
			return true;
		*at = was;
	}
}

/* The mount point of a file system type as process `pid` sees it: field 5; the type stands behind " - ". */
static bool mount_of(const char *root, const char *pid, const char *type, char ret[static NODE_PATH_MAX])
{
	char path[64], line[4096], point[NODE_PATH_MAX], kind[64];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/mountinfo", pid);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		const char *tail = strstr(line, " - ");

		found = tail && sscanf(line, "%*s %*s %*s %*s %511s", point) == 1 &&
			sscanf(tail, " - %63s", kind) == 1 && !strcmp(kind, type);
	}
	if (f)
		fclose(f);
	return found && path_join(ret, "%s%s", root, point);
}

static pid_t parent_of(pid_t pid)
{
	char path[64], line[1024];
	const char *tail;
	pid_t parent = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f && fgets(line, sizeof(line), f) && (tail = strrchr(line, ')')))
		(void)sscanf(tail, ") %*c %d", &parent);
	if (f)
		fclose(f);
	return parent;
}

/* Whose mounts count: the nearest process, this one first, that sees cgroup2 and lets us look. root: prefix of its paths. */
struct view {
	char root[64], pid[16];
};

static bool find_view(struct view *v, char cgroup2[static NODE_PATH_MAX])
{
	*v = (struct view){.root = "", .pid = "self"};
	if (mount_of(v->root, v->pid, "cgroup2", cgroup2))
		return true;
	for (pid_t pid = getppid(); pid > 0; pid = parent_of(pid)) {
		snprintf(v->pid, sizeof(v->pid), "%d", (int)pid);
		snprintf(v->root, sizeof(v->root), "/proc/%d/root", (int)pid);
		if (mount_of(v->root, v->pid, "cgroup2", cgroup2) && access(cgroup2, X_OK) == 0)
			return true;
	}
	*v = (struct view){.root = "", .pid = "self"};
	return false;
}

bool node_find_cgroup2(char ret[static NODE_PATH_MAX])
{
	struct view v;

	return find_view(&v, ret);
}

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == BPFFS_TYPE;
}

bool node_find_bpffs(char ret[static NODE_PATH_MAX])
{
	char cgroup2[NODE_PATH_MAX];
	struct view v;

	find_view(&v, cgroup2);
	MUST(path_join(ret, "%s" BPFFS, v.root));
	return is_bpffs(ret);
}

/* In the mount namespace of the view: a mount in a namespace of our own would end with us, and the pins with it. */
static int mount_there(const struct view *v)
{
	char path[64];
	int ns;

	if (strcmp(v->pid, "self")) {
		snprintf(path, sizeof(path), "/proc/%s/ns/mnt", v->pid);
		ns = open(path, O_RDONLY | O_CLOEXEC);
		if (ns < 0 || setns(ns, CLONE_NEWNS))
			return errno;
	}
	return mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") ? errno : 0;
}

/* What is mounted there ends with the last process of that mount namespace, a service's or a container's; and with a bpffs the links that are
 * pinned in it: everything would be open. Where process 1 may not be looked at, nothing is known against it. */
static bool is_private(const struct view *v)
{
	struct stat first, there;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%s/ns/mnt", v->pid);
	return stat("/proc/1/ns/mnt", &first) == 0 && stat(path, &there) == 0 && first.st_ino != there.st_ino;
}

static bool mount_bpffs(const struct view *v, struct err *err)
{
	pid_t child;
	int status;

	if (is_private(v))
		return err_set(err, ERR_UNSUPPORTED,
			       "bpffs is not mounted, and this mount namespace is not the machine's: what is mounted "
			       "here would end with "
			       "it, and the capture too; mount it on the machine: mount -t bpf bpf " BPFFS);
	child = fork();
	if (child < 0)
		return err_errno(err, "fork");
	if (child == 0)
		_exit(mount_there(v));
	if (waitpid(child, &status, 0) != child)
		return err_errno(err, "waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
		return err_errno(err, "bpffs is not mounted and cannot be; mount it: mount -t bpf bpf " BPFFS);
	}
	return true;
}

/* Pins in the default place follow the mount; another --pin-dir is taken as it is. */
static bool find_pins(const struct view *v, const char *dir, bool make, char ret[static NODE_PATH_MAX], struct err *err)
{
	bool ours = !strncmp(dir, BPFFS "/", strlen(BPFFS "/"));
	char mount_point[NODE_PATH_MAX];

	if (!path_join(ret, "%s%s", ours ? v->root : "", dir))
		return err_set(err, ERR_LIMIT, "--pin-dir: %s is too long", dir);
	if (ours && !node_find_bpffs(mount_point)) {
		if (!make)
			return err_set(err, ERR_NOT_FOUND, "bpffs is not mounted: nothing was ever attached here");
		if (!mount_bpffs(v, err))
			return false;
	}
	if (make && !path_make(ret, 0700, err))
		return false;
	if (access(ret, F_OK))
		return err_set(err, ERR_NOT_FOUND, "%s is not there: nothing is attached", dir);
	return is_bpffs(ret) || err_set(err, ERR_INVALID, "--pin-dir: %s is not in a bpffs", dir);
}

bool node_open(const struct options *o, bool make, struct node *ret, struct err *err)
{
	struct view v;

	ret->lock = -1;
	if (!find_view(&v, ret->cgroup))
		return err_set(
		    err, ERR_UNSUPPORTED,
		    "cgroup2 is not to be seen; mount it (mount -t cgroup2 none /sys/fs/cgroup/unified) or enter the "
		    "namespace by nsenter --net=/run/netns/NAME");
	if (!path_join(ret->proxies, "%s/%s", ret->cgroup, o->v[OPT_CGROUP]))
		return err_set(err, ERR_LIMIT, "--cgroup: %s is too long", o->v[OPT_CGROUP]);
	if (!find_pins(&v, o->v[OPT_PIN_DIR], make, ret->pins, err))
		return false;
	ret->lock = open(ret->pins, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ret->lock < 0 || flock(ret->lock, LOCK_EX))
		return err_errno(err, "%s: cannot be locked", ret->pins);
	return true;
}

void node_ns_path(const struct node *n, uint64_t cookie, const char *leaf, char ret[static NODE_PATH_MAX])
{
	MUST(path_join(ret, "%s/ns/%llu%s%s", n->pins, (unsigned long long)cookie, leaf ? "/" : "", leaf ? leaf : ""));
}

void node_proxy_path(const struct node *n, const char *instance, const char *leaf, char ret[static NODE_PATH_MAX])
{
	MUST(path_join(ret, "%s/%s%s%s", n->proxies, instance, leaf ? "/" : "", leaf ? leaf : ""));
}

bool node_proxy_runs(const struct node *n, const char *instance)
{
	char path[NODE_PATH_MAX], line[64];
	bool populated = false;
	FILE *f;

	node_proxy_path(n, instance, "cgroup.events", path);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		populated = populated || !strcmp(line, "populated 1\n");
	if (f)
		fclose(f);
	return populated;
}

/* Whether an interface's address is one that peers would see. */
static bool is_own(const struct ifaddrs *a, struct ip *ret)
{
	struct addr found;

	if (!a->ifa_addr || (a->ifa_flags & IFF_LOOPBACK) || !(a->ifa_flags & IFF_UP))
		return false;
	addr_from_sockaddr(a->ifa_addr, &found);
	if (!found.ip.len || ip_is_loopback(&found.ip))
		return false;
	if (found.ip.len == 16 && found.ip.b[0] == 0xfe && (found.ip.b[1] & 0xc0) == 0x80)
		return false;
	*ret = found.ip;
	return true;
}

static void own_addresses(struct netns *ret)
{
	struct ifaddrs *all = NULL;
	struct ip ip;

	if (getifaddrs(&all))
		return;
	for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
		if (!is_own(a, &ip))
			continue;
		if (ip.len == 4 && !ret->addr4.len)
			ret->addr4 = ip;
		else if (ip.len == 16 && !ret->addr6.len)
			ret->addr6 = ip;
	}
	freeifaddrs(all);
}

static bool can_bind_v6_loopback(void)
{
	struct sockaddr_in6 one = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&one, sizeof(one)) == 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

static bool loopback_is_up(void)
{
	struct ifreq r = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool up = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &r) == 0 && (r.ifr_flags & IFF_UP);

	if (fd >= 0)
		close(fd);
	return up;
}

/* An init as process 1, in this very namespace: a machine, or a container that is one, with logins of its own. Process 1 of an application's
 * container is that application, and its namespace a workload's. */
static bool init_lives_here(uint32_t ino)
{
	static const char *const inits[] = {"init", "systemd", "openrc-init", "runit", "s6-svscan", "dinit"};
	char name[32] = "";
	struct stat st;
	FILE *f;

	if (stat("/proc/1/ns/net", &st) || (uint32_t)st.st_ino != ino)
		return false; /* also where it may not be looked at */
	f = fopen("/proc/1/comm", "re");
	if (f) {
		if (!fgets(name, sizeof(name), f))
			name[0] = '\0';
		fclose(f);
	}
	name[strcspn(name, "\n")] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(inits); i++) {
		if (!strcmp(name, inits[i]))
			return true;
	}
	return false;
}

static const char *why_host(uint32_t ino)
{
	if (access("/proc/sys/net/core/netdev_max_backlog", F_OK) == 0) /* shown in the first namespace only */
		return "the kernel's first one";
	if (access("/proc/sys/net/core/somaxconn", F_OK)) /* shown in each */
		return "or it may be: /proc/sys/net is not to be seen";
	return init_lives_here(ino) ? "process 1 is an init and lives in it" : NULL;
}

bool netns_read(struct netns *ret, struct err *err)
{
	socklen_t len = sizeof(ret->cookie);
	struct stat st;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

	*ret = (struct netns){0};
	if (fd < 0)
		return err_errno(err, "socket");
	rc = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &ret->cookie, &len);
	close(fd);
	if (rc)
		return err_errno(err, "the network namespace's cookie cannot be read: the kernel is older than 5.14");
	if (stat("/proc/self/ns/net", &st))
		return err_errno(err, "/proc/self/ns/net");
	ret->ino = (uint32_t)st.st_ino;
	own_addresses(ret);
	ret->ipv6 = can_bind_v6_loopback();
	ret->loopback = loopback_is_up();
	ret->host = why_host(ret->ino);
	return true;
}
