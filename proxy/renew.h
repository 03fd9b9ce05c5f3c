/* SPDX-License-Identifier: Apache-2.0 */
/* renew.h: when a certificate is due: at half of its life, give or take a tenth, by a clock that also runs while the machine
 * sleeps. */
#ifndef WEFT_PROXY_RENEW_H
#define WEFT_PROXY_RENEW_H

#include "certs/credential.h"
#include "lib/loop.h"

struct renew { /* embed it */
	struct timer timer;
	uint64_t due_ms; /* on CLOCK_BOOTTIME; 0: nothing to renew */
	uint64_t backoff_ms;
	void (*on_due)(struct renew *r);
};

void renew_init(struct renew *r, struct loop *loop, void (*on_due)(struct renew *));
void renew_set(struct renew *r, const struct credential *c); /* from this credential's life on; on_due comes once */
void renew_later(struct renew *r); /* it did not work: on_due again after a back-off (1 s doubling to 1 min) */
void renew_stop(struct renew *r);

/* Milliseconds from now_s until a certificate of this life is due; jitter: 0 to 1000, the middle is half life. */
uint64_t renew_delay_ms(int64_t not_before_s, int64_t not_after_s, int64_t now_s, unsigned jitter);
bool renew_expired(const struct credential *c);

#endif
