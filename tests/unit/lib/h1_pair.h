/* SPDX-License-Identifier: Apache-2.0 */
/* h1_pair.h: the HTTP/1 codec on one end of a socket pair, raw bytes on the other: the ground of the suites h1 and h1_client.
 * What the owner of the codec heard is a line of words; what the other end got is compared byte by byte. One pair at a time. */
#ifndef WEFT_TESTS_H1_PAIR_H
#define WEFT_TESTS_H1_PAIR_H

#include "lib/http/codec.h"

#include <check.h>
#include <stdio.h>

extern struct loop *h1_loop;
extern bool h1_got_all; /* what the run waited for is there; the test clears it before it runs on */

/* The raw end. */
extern struct h1_raw {
	int fd;
	struct io io;
	struct timer next;
	struct str to_send;
	size_t piece;
	bool fin_after, eof, reset;
	struct buf got;
	size_t want; /* bytes; then the run is over, unless want_eof */
	bool want_eof, sent_all;
} h1_raw;

/* The owner of the codec. */
extern struct h1_own {
	struct http_session *session;
	struct http_stream *st;
	const struct http_stream_events *serve; /* of streams that the raw end opens; NULL: none is taken */
	struct arena arena;
	struct buf log;
	struct message *m;
	struct http_limits lim;
	bool closed, hold_body, drop_body, in_body;
	unsigned drainings;
	size_t held;
	const char *wait_for; /* words of the log that end the run */
} h1_own;

/* A loop, both ends and an h1_own.lim of defaults; the test makes the session of what it returns. All runs have one deadline. */
struct conn *h1_pair(void);
void h1_pair_done(void);
extern const struct http_session_events h1_session_events;

/* The raw end writes `bytes`, which stay the caller's, `piece` of them a loop turn. */
void h1_say(struct str bytes, size_t piece);
/* Ends the run a little later if all that h1_raw and h1_own want is there. */
void h1_check_over(void);
/* What was heard and what the raw end got, to the byte. */
void h1_compare(const char *claim, const char *want_log, struct str want_out);

/* Words of the log; pieces of a body that follow each other are one word. */
void h1_log_body(struct str bytes);
void h1_log_word(const char *word);
#define H1_LOG(...)                                        \
	do {                                               \
		char word[512];                            \
		snprintf(word, sizeof(word), __VA_ARGS__); \
		h1_log_word(word);                         \
	} while (0)

/* What every owner does: logs trailers; logs a reset and closes its stream. */
void h1_close(void);
void h1_on_trailers(void *ctx, const struct fields *f, struct arena *a);
void h1_on_reset(void *ctx, const struct http_reset *why);

#define S(text)                        \
	{                              \
		text, sizeof(text) - 1 \
	}

#endif
