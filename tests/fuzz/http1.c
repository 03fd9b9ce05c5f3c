/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz http1: any bytes as an HTTP/1 message. The first byte picks what: Q a request, A an answer, H, C, U an answer to HEAD,
 * CONNECT or an upgrade. However the bytes are cut, the result is the same; what was served is written again, read again, and
 * means the same. */
#include "lib/mem.h"
#include "tests/unit/lib/http1_read.h"

#define WHOLE_MAX (20 << 10) /* dumps are compared in one piece of at most 16 KiB */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct http1_asked asked_by(uint8_t kind)
{
	struct http1_asked asked = {.head = kind == 'H', .connect = kind == 'C'};
	if (kind == 'U')
		asked.upgrade = STR("foo/2, websocket");
	return asked;
}

static struct str head_text(const struct message *m, struct buf *to)
{
	buf_init(to, SIZE_MAX);
	http1_dump_head(to, m);
	return to->len <= 16 << 10 ? buf_pullup(to, to->len) : (struct str){0};
}

static void check_written(const struct message *m, struct http1_asked asked)
{
	struct http1_plan plan = http1_read_plan(m);
	struct http1_read again;
	struct buf out, before, after;
	buf_init(&out, SIZE_MAX);
	MUST(http1_write_head(&out, m, &plan));
	if (out.len <= 16 << 10) {
		http1_read(&again, buf_pullup(&out, out.len), 0, SIZE_MAX, m->request, asked);
		MUST(again.m);
		MUST(again.used <= out.len);
		again.m->reason = m->reason; /* an empty one is written in words */
		MUST(str_eq(head_text(m, &before), head_text(again.m, &after)));
		buf_done(&before);
		buf_done(&after);
		http1_read_done(&again);
	}
	buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http1_read whole, other;
	if (size < 2 || size > WHOLE_MAX)
		return 0;
	bool request = data[0] == 'Q';
	struct http1_asked asked = asked_by(data[0]);
	struct str in = str_make(data + 1, size - 1);
	http1_read(&whole, in, 0, in.len, request, asked);
	const size_t steps[] = {1, 3, 64, in.len};
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		http1_read(&other, in, data[size - 1] % in.len, steps[i], request, asked);
		MUST(whole.step == other.step && whole.why == other.why);
		if (whole.step != HTTP1_BAD && whole.dump.len <= 16 << 10)
			MUST(http1_read_same(&whole, &other));
		http1_read_done(&other);
	}
	if (whole.m)
		check_written(whole.m, asked);
	http1_read_done(&whole);
	return 0;
}
