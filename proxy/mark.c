/* SPDX-License-Identifier: Apache-2.0 */
/* mark.c: socket options of the capture ABI (bpf/abi.h). */
#include "proxy/mark.h"

#include "lib/mem.h"

#include <errno.h>
#include <string.h>

struct mark {
	bool captured;
	uint8_t token[WEFT_TOKEN_LEN];
};

struct mark *mark_new(const uint8_t *token)
{
	struct mark *m = NEW(struct mark);
	if (token != NULL) {
		m->captured = true;
		memcpy(m->token, token, sizeof(m->token));
	}
	return m;
}

void mark_free(struct mark **m)
{
	if (*m == NULL)
		return;
	mem_wipe_free(*m, sizeof(**m));
	*m = NULL;
}

static bool refused(const char *what, struct err *err)
{
	if (errno == EPERM)
		return err_set(err, ERR_DENIED,
			       "the kernel refused to mark a socket (%s): the exemption token is not the one "
			       "of this workload; start the proxy through weft-capture exec",
			       what);
	return err_errno(err, "marking a socket (%s): is the capture attached to this cgroup? (weft-capture status)",
			 what);
}

bool mark_exempt(const struct mark *m, int fd, struct err *err)
{
	if (!m->captured)
		return true;
	struct weft_opt_exempt opt;
	memcpy(opt.token, m->token, sizeof(opt.token));
	if (setsockopt(fd, WEFT_SOL, WEFT_OPT_EXEMPT, &opt, sizeof(opt)) == 0)
		return true;
	return refused("exempt", err);
}

bool mark_client(const struct mark *m, int fd, const struct addr *client, const struct addr *via, struct err *err)
{
	/* A client of the other family cannot be written into the accepting socket's address: leave the proxy's source. */
	if (!m->captured || client->ip.len != via->ip.len)
		return true;
	struct weft_opt_client opt = {
	    .family = client->ip.len == 4 ? AF_INET : AF_INET6,
	    .port = htons(client->port),
	};
	memcpy(opt.token, m->token, sizeof(opt.token));
	memcpy(opt.addr, client->ip.b, client->ip.len);
	if (setsockopt(fd, WEFT_SOL, WEFT_OPT_CLIENT, &opt, sizeof(opt)) == 0)
		return true;
	return refused("client", err);
}

bool mark_client_pooled(const struct mark *m, int fd, const struct addr *via, struct err *err)
{
	static const uint8_t v4[] = WEFT_POOLED_V4;
	static const uint8_t v6[] = WEFT_POOLED_V6;
	struct addr client = {.ip.len = via->ip.len, .port = 0};
	memcpy(client.ip.b, via->ip.len == 4 ? v4 : v6, via->ip.len);
	return mark_client(m, fd, &client, via, err);
}

bool mark_original(int fd, const struct addr *peer, struct addr *ret)
{
	struct sockaddr_storage ss = {0};
	bool v6 = peer->ip.len == 16;
	socklen_t len = v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

	if (getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, WEFT_SO_ORIGINAL_DST, &ss, &len) != 0)
		return false;
	addr_from_sockaddr((struct sockaddr *)&ss, ret);
	return ret->ip.len != 0 && ret->port != 0;
}

bool mark_state(const struct mark *m, int fd, struct weft_opt_state *ret)
{
	struct weft_opt_state state = {0};
	socklen_t len = sizeof(state);

	if (!m->captured || getsockopt(fd, WEFT_SOL, WEFT_OPT_STATE, &state, &len) != 0 || len != sizeof(state))
		return false;
	*ret = state;
	return state.meshed != 0;
}

struct addr mark_source(const struct addr *to)
{
	static const uint8_t v4[] = WEFT_SOURCE_V4;
	struct addr from = {.ip = to->ip}; /* IPv6: its own address, see abi.h */

	if (to->ip.len == 4)
		memcpy(from.ip.b, v4, sizeof(v4));
	return from;
}
