/* SPDX-License-Identifier: Apache-2.0 */
/* clock_shim.c: for LD_PRELOAD: the wall clock and CLOCK_BOOTTIME are off by what stands in the file named by CLOCK_SHIM (two int64_t, seconds), which a
 * test changes while the program runs. The monotonic clock is true. The file is mapped once: no system call later. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *offsets; /* wall, boot */
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void start(void)
{
	const char *name = getenv("CLOCK_SHIM");
	int fd = name != NULL ? open(name, O_RDONLY | O_CLOEXEC) : -1;
	real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	if (fd < 0)
		return;
	void *p = mmap(NULL, 2 * sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
	offsets = p == MAP_FAILED ? NULL : p;
	close(fd);
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	int rc = real(id, t);
	if (rc == 0 && offsets != NULL && id == CLOCK_REALTIME)
		t->tv_sec += offsets[0];
	if (rc == 0 && offsets != NULL && id == CLOCK_BOOTTIME)
		t->tv_sec += offsets[1];
	return rc;
}

time_t time(time_t *ret)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	if (ret != NULL)
		*ret = t.tv_sec;
	return t.tv_sec;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
	struct timespec t;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	ret->tv_sec = t.tv_sec;
	ret->tv_usec = t.tv_nsec / 1000;
	return 0;
}
