/* SPDX-License-Identifier: Apache-2.0 */
/* balancers.tbl.h: the algorithms, the default first. BALANCER(symbol suffix, name, meaning) */
BALANCER(p2c,         "p2c",         "the cheaper of two random endpoints: peak EWMA of latency x requests in flight")
BALANCER(round_robin, "round-robin", "one after the other, by weight")
