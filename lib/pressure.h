/* SPDX-License-Identifier: Apache-2.0 */
/* pressure.h: how near the process is to its memory limit, as one level that every station may ask, from any thread; and whether
 * descriptors run out.
 *
 * Who measures (proxy/shed.c) says what is used; between two measurements the level counts what buffers have taken since (lib/chunk.h) and what
 * was admitted (pressure_admit), so that a burst does not outrun the clock. Asking costs a few loads and no lock. Without a
 * limit the level is always PRESSURE_NONE. Not here: reading the kernel's figures, and what is done about it. */
#ifndef WEFT_LIB_PRESSURE_H
#define WEFT_LIB_PRESSURE_H

#include "lib/base.h"

enum pressure {
	PRESSURE_NONE,
#define PRESSURE(name, label, enter, leave, what) PRESSURE_##name,
#include "lib/pressure.tbl.h"
#undef PRESSURE
	PRESSURE_COUNT
};
const char *pressure_name(enum pressure p); /* "none", "shed", ... */

/* 0: none. Before the first measurement. The marks are percents of it less a reserve: a sixteenth, at most 512 KiB, which what is done at a mark takes. */
void pressure_set_limit(size_t bytes);
size_t pressure_limit(void);
/* The process was seen to use so many bytes. True when that changes the level; *ret_from is the one before (may be NULL). */
bool pressure_measured(size_t used, enum pressure *ret_from);
/* A downstream connection was accepted: what it will cost is counted until the next measurement. */
void pressure_admit(void);
/* The level now: the last measured one, or a higher one that what came since has reached. */
enum pressure pressure_level(void);
size_t pressure_used(void); /* as last measured */
/* So much would be a level: worth a second, dearer look. */
bool pressure_near(size_t used);
/* Bytes above the point where shedding stops; 0 while the level is PRESSURE_NONE. */
size_t pressure_excess(void);
/* The process may hold so many descriptors (RLIMIT_NOFILE); a sixteenth of them, at least 16, is kept for its own use. 0: not known. */
void pressure_set_descriptors(size_t most);
/* A connection may have this descriptor, which the kernel has just given (it gives the lowest that is free). False: they are running out,
 * it is to be refused with REASON_OVERLOAD. */
bool pressure_may_use(int fd);
/* A part of the limit, at most `max`: for budgets of their own (without a limit: max). */
size_t pressure_share(size_t percent, size_t max);

#endif
