/* SPDX-License-Identifier: Apache-2.0 */
/* harden.h: what every long-running program takes away from itself at its start, before it holds a secret. */
#ifndef WEFT_LIB_HARDEN_H
#define WEFT_LIB_HARDEN_H

#include "lib/err.h"

/* LeakSanitizer traces its own process, and sanitizers need calls of their own: such a build keeps what they need. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HARDEN_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define HARDEN_SANITIZED true
#endif
#endif
#ifndef HARDEN_SANITIZED
#define HARDEN_SANITIZED false
#endif

/* no_new_privs, not dumpable (no core, no /proc/PID/mem or ptrace for its own user), RLIMIT_CORE 0. prctl(2). */
bool harden_process(struct err *err);

#endif
