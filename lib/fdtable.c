/* SPDX-License-Identifier: Apache-2.0 */
/* fdtable.c: a descriptor at the end of the room, for a moment. */
#include "lib/fdtable.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

void fdtable_reserve(unsigned n)
{
	struct rlimit most;
	int fd = eventfd(0, EFD_CLOEXEC);

	if (fd < 0)
		return;
	if (getrlimit(RLIMIT_NOFILE, &most) == 0 && most.rlim_cur < n)
		n = (unsigned)most.rlim_cur;
	int last = fcntl(fd, F_DUPFD_CLOEXEC, (int)n - 1);
	if (last >= 0)
		close(last);
	close(fd);
}
