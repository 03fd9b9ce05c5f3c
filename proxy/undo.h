/* SPDX-License-Identifier: Apache-2.0 */
/* undo.h: in the machine's own network namespace a capture can end while its proxy lives: undone at its deadline since nobody confirmed it,
 * or detached. Looks once a second, says what happened and how to keep it, and tells the worker. Changes nothing in the kernel. */
#ifndef WEFT_PROXY_UNDO_H
#define WEFT_PROXY_UNDO_H

#include "lib/loop.h"
#include "proxy/mark.h"

struct undo;

struct undo_cfg {
	struct loop *loop;
	const struct mark *mark; /* borrowed */
	const char *name, *ns;   /* of the workload, for the command that is told; borrowed, NULL: not known */
	void (*on_over)(
	    void *ctx); /* called once, from the loop or from undo_new(): new connections do not come here any more */
	void *ctx;
};

/* NULL: nothing to look at (not captured, or a workload's own namespace, or it is over already). */
struct undo *undo_new(const struct undo_cfg *cfg);
void undo_free(struct undo **u);

#endif
