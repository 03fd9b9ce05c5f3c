/* SPDX-License-Identifier: Apache-2.0 */
/* event.h: the log. Every line is an event with a row in event.tbl.h: level, name, what it means. Written to stderr as
 * one line: `2026-01-02T03:04:05.678Z info weft-proxy link_up peer="10.0.0.1:4810" ...` (or JSON with
 * WEFT_LOG_FORMAT=json). Tests wait for events by name, never for time. Not for request data at info level. */
#ifndef WEFT_LIB_EVENT_H
#define WEFT_LIB_EVENT_H

#include "lib/base.h"

enum event_level { EVENT_DEBUG, EVENT_INFO, EVENT_WARN, EVENT_ERROR };

enum event {
#define EVENT(name, level, label, text) EV_##name,
#include "lib/event.tbl.h"
#undef EVENT
	EV_COUNT
};

/* program: stands in every line. level from WEFT_LOG_LEVEL (debug|info|warn|error), default info. Call once. */
void event_init(const char *program);
void event_set_level(enum event_level level);
bool event_level_parse(const char *text, enum event_level *ret);
bool event_enabled(enum event ev);
/* fmt gives `key=value` pairs separated by spaces; quote text values with %s inside \"...\". Control bytes and quotes
 * in the result are escaped, the line is cut at 1 KiB: no caller can forge a second line. At most 100 lines a second
 * of one event; the surplus is counted and said once. */
void event(enum event ev, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
