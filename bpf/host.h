/* SPDX-License-Identifier: Apache-2.0 */
/* host.h: capture in the machine's own network namespace, where remote logins live, has a deadline: an attach that nobody confirmed
 * counts as none from then on. The programs keep it (deadline_ns in state.h); here it is decided and said. */
#ifndef WEFT_BPF_HOST_H
#define WEFT_BPF_HOST_H

#include "bpf/workload.h"

enum host_undo {
	HOST_UNDO_NONE,    /* a workload's own namespace: nothing undoes itself */
	HOST_UNDO_KEPT,    /* confirmed */
	HOST_UNDO_WAITING, /* captured until the deadline */
	HOST_UNDO_DONE,    /* the deadline has passed: not captured */
};

/* Boot time at which this attach ends unless confirmed; 0: never, because the namespace is a workload's own, or because what is attached there
 * now is confirmed and stays as it is. While that is neither changed nor confirmed its deadline stays: a proxy that is started again
 * and again prolongs nothing. When the list changes, the entry in force gets the new deadline at once. ERR_CONFLICT: the last attach undid itself. */
bool host_deadline(const struct maps *m, const struct netns *ns, const struct spec *s, uint64_t *ret_ns,
		   struct err *err);

/* What is captured now and how to keep it, to stderr; nothing in a workload's own namespace. */
void host_say(const struct netns *ns, const struct spec *s, uint64_t deadline_ns);

/* Where the entry stands, and (HOST_UNDO_WAITING only, else 0) the seconds left, rounded up. */
enum host_undo host_state(const struct weft_workload *w, uint32_t *ret_left_s);

#endif
