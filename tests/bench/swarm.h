/* SPDX-License-Identifier: Apache-2.0 */
/* swarm.h: what the two halves of swarm say to each other: links and reports (swarm.c), subscriptions (swarm_subscribe.c). */
#ifndef WEFT_TESTS_BENCH_SWARM_H
#define WEFT_TESTS_BENCH_SWARM_H

#include "lib/sock.h"

#define SWARM_FOLLOW_MAX 64

extern struct ip swarm_follow[SWARM_FOLLOW_MAX]; /* addresses that every one of them follows */
extern unsigned swarm_n_follow;

/* Everything that was asked for has been answered once. */
void swarm_configured(const char *instance);
/* Something that is in force at once has come: a Manifest, Endpoints or a Workload, or that one is gone. */
void swarm_changed(const char *instance);

#endif
