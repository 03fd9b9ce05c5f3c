/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c: reason rows as messages. */
#include "proxy/answer.h"

#include "proxy/hop.h"

/* Which hop answered and why; to the other sidecar also whether the application had the request. */
static bool mark(const struct answer *a, struct message *m)
{
	return hop_add_error(m, a->side, a->reason, a->policy) && (!a->unprocessed || hop_add_unprocessed(m));
}

bool answer_wants_grpc(const struct message *request)
{
	const struct field *f = message_get(request, "content-type");
	struct str grpc = STR("application/grpc");
	return f != NULL && request->version == HTTP_2 && str_starts(f->value, grpc) &&
	       (f->value.len == grpc.len || strchr("+;", f->value.p[grpc.len]) != NULL);
}

bool answer_http(const struct answer *a, bool head_only, struct message *m, struct str *ret_body)
{
	const struct reason_row *row = reason_row(a->reason);
	struct str text = arena_printf(m->arena, "weft: %s: %s\n", row->label, row->text);
	MUST(row->http_status != 0);
	m->version = HTTP_1_1;
	m->status = row->http_status;
	m->reason = str_of(http_reason_phrase(m->status));
	m->framing = head_only ? FRAMING_NONE : FRAMING_LENGTH;
	m->head_only = head_only;
	m->has_length = true;
	m->content_length = text.len;
	*ret_body = text;
	return text.p != NULL && message_add(m, STR("content-type"), STR("text/plain; charset=utf-8"), true) &&
	       mark(a, m);
}

bool answer_grpc_trailers(const struct answer *a, struct message *m)
{
	const struct reason_row *row = reason_row(a->reason);
	struct str status = arena_printf(m->arena, "%u", row->grpc_status);
	struct str text = arena_printf(m->arena, "weft: %s: %s", row->label, row->text);
	return status.p != NULL && text.p != NULL && message_add(m, STR("grpc-status"), status, true) &&
	       message_add(m, STR("grpc-message"), text, true) && mark(a, m);
}

bool answer_grpc(const struct answer *a, struct message *m)
{
	m->version = HTTP_2;
	m->status = 200;
	m->framing = FRAMING_NONE;
	return message_add(m, STR("content-type"), STR("application/grpc"), true) && answer_grpc_trailers(a, m);
}
