/* SPDX-License-Identifier: Apache-2.0 */
/* lock_counter.c: preloaded into a program (LD_PRELOAD), it counts what each thread asks of POSIX mutexes and read-write locks. The counts stand in
 * the file that WEFT_LOCK_COUNTS names, 64 rows of four 64-bit numbers: thread id, mutexes locked, read-write locks taken, waits. A wait is a
 * mutex that another thread had. malloc's own locks are not among them: they are no POSIX mutexes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROWS 64

struct row {
	uint64_t tid, mutexes, rwlocks, waits;
};

static struct row *rows;
static _Thread_local struct row *mine;
static int (*real_lock)(pthread_mutex_t *), (*real_try)(pthread_mutex_t *), (*real_read)(pthread_rwlock_t *),
    (*real_write)(pthread_rwlock_t *);

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("WEFT_LOCK_COUNTS");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	*(void **)&real_try = dlsym(RTLD_NEXT, "pthread_mutex_trylock");
	*(void **)&real_read = dlsym(RTLD_NEXT, "pthread_rwlock_rdlock");
	*(void **)&real_write = dlsym(RTLD_NEXT, "pthread_rwlock_wrlock");
	*(void **)&real_lock = dlsym(RTLD_NEXT, "pthread_mutex_lock");
	if (fd < 0)
		return;
	void *p = mmap(NULL, ROWS * sizeof(struct row), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p != MAP_FAILED)
		rows = p;
}

static struct row *row(void)
{
	uint64_t tid;
	if (mine || !rows)
		return mine;
	tid = (uint64_t)syscall(SYS_gettid);
	for (unsigned i = 0; i < ROWS && !mine; i++) {
		uint64_t none = 0;
		if (__atomic_compare_exchange_n(&rows[i].tid, &none, tid, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			mine = &rows[i];
	}
	return mine;
}

int pthread_mutex_lock(pthread_mutex_t *m)
{
	struct row *r = row();
	if (!real_lock)
		*(void **)&real_lock = dlsym(RTLD_NEXT, "pthread_mutex_lock");
	if (!r || !real_try)
		return real_lock(m);
	r->mutexes++;
	int got = real_try(m);
	if (got == 0)
		return 0;
	r->waits++;
	return real_lock(m);
}

int pthread_rwlock_rdlock(pthread_rwlock_t *l)
{
	struct row *r = row();
	if (!real_read)
		*(void **)&real_read = dlsym(RTLD_NEXT, "pthread_rwlock_rdlock");
	if (r)
		r->rwlocks++;
	return real_read(l);
}

int pthread_rwlock_wrlock(pthread_rwlock_t *l)
{
	struct row *r = row();
	if (!real_write)
		*(void **)&real_write = dlsym(RTLD_NEXT, "pthread_rwlock_wrlock");
	if (r)
		r->rwlocks++;
	return real_write(l);
}
