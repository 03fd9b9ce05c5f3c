/* SPDX-License-Identifier: Apache-2.0 */
/* vip.c: the table `vips`. An address is free (no row), in use (freed_ms null) or resting (freed_ms says since when). Addresses
 * within the two pools have a place there; those that a user chose elsewhere have none. */
#include "control/vip.h"

#include "control/store_db.h"

#include <arpa/inet.h>

#define V4_BASE      0xf0000000u
#define V4_PLACE_MAX 0x0ffffffeu /* 255.255.255.255 is broadcast */
#define V6_PLACE_MAX INT64_MAX

static const uint8_t v6_prefix[8] = {0xfd, 0x77, 0x65, 0x66, 0x74, 0x00, 0x00, 0x01};

static int family_index(const struct ip *ip)
{
	return ip->len == 4 ? 0 : 1;
}

/* 0: not in a pool (place 0 itself, the network's own address, is never given). */
static int64_t place_of(const struct ip *ip)
{
	uint64_t place = 0;

	if (ip->len == 4) {
		uint32_t v4;
		memcpy(&v4, ip->b, 4);
		return (ip->b[0] & 0xf0) == 0xf0 ? (int64_t)(ntohl(v4) - V4_BASE) : 0;
	}
	if (memcmp(ip->b, v6_prefix, sizeof(v6_prefix)) != 0)
		return 0;
	for (int i = 8; i < 16; i++)
		place = place << 8 | ip->b[i];
	return place > (uint64_t)V6_PLACE_MAX ? 0 : (int64_t)place;
}

static struct ip ip_of(int family, int64_t place)
{
	struct ip ip = {.len = family == 0 ? 4 : 16};

	if (family == 0) {
		uint32_t v = htonl(V4_BASE + (uint32_t)place);
		memcpy(ip.b, &v, 4);
		return ip;
	}
	memcpy(ip.b, v6_prefix, sizeof(v6_prefix));
	for (int i = 15; i >= 8; i--, place >>= 8)
		ip.b[i] = (uint8_t)place;
	return ip;
}

/* Rows whose rest is over are forgotten. */
static bool wake(struct store *s, struct err *err)
{
	if (!db_exec(s, err, "DELETE FROM vips WHERE freed_ms < ?", "i", db_now_ms() - (int64_t)VIP_REST_MS))
		return false;
	if (sqlite3_changes(s->db) > 0)
		s->vip_hint[0] = s->vip_hint[1] = 0;
	return true;
}

/* The lowest place without a row. Every place below the hint has one, so a batch of n services scans the table once. */
static bool lowest(struct store *s, int family, int64_t *ret, struct err *err)
{
	int64_t place = (int64_t)MAX(s->vip_hint[family], 1), max = family == 0 ? V4_PLACE_MAX : V6_PLACE_MAX;
	sqlite3_stmt *st = db_query(s, err, "SELECT place FROM vips WHERE family = ? AND place >= ? ORDER BY place",
				    "ii", (int64_t)family, place);
	int rc;

	if (!st)
		return false;
	while ((rc = db_step(s, st, err)) == 1 && sqlite3_column_int64(st, 0) == place)
		place++;
	db_done(s, st);
	if (rc < 0)
		return false;
	if (place > max)
		return err_set(err, ERR_LIMIT, "no virtual address is left in %s",
			       family == 0 ? VIP_CIDR_V4 : VIP_CIDR_V6);
	s->vip_hint[family] = (uint64_t)place;
	*ret = place;
	return true;
}

static bool put(struct store *s, const char *service, const struct ip *ip, struct err *err)
{
	int64_t place = place_of(ip);
	sqlite3_stmt *st =
	    db_query(s, err, "INSERT OR REPLACE INTO vips (ip, family, place, service) VALUES (?, ?, nullif(?, 0), ?)",
		     "biis", ip->b, (size_t)ip->len, (int64_t)family_index(ip), place, service);
	if (!st)
		return false;
	int rc = db_step(s, st, err);
	db_done(s, st);
	return rc == 0;
}

bool vip_take(struct store *s, const char *service, int family, struct ip *ret, struct err *err)
{
	int fi = family == AF_INET ? 0 : 1;
	int64_t place = 0;

	MUST(s->in_tx);
	if (!wake(s, err))
		return false;
	/* Its own one, in use or resting, comes first: a service deleted and applied again keeps its address. */
	sqlite3_stmt *st = db_query(
	    s, err,
	    "SELECT place FROM vips INDEXED BY vips_service WHERE service = ? AND family = ? AND place IS NOT NULL"
	    " ORDER BY freed_ms IS NULL DESC, place LIMIT 1",
	    "si", service, (int64_t)fi);
	if (!st)
		return false;
	int rc = db_step(s, st, err);
	if (rc == 1)
		place = sqlite3_column_int64(st, 0);
	db_done(s, st);
	if (rc < 0 || (rc == 0 && !lowest(s, fi, &place, err)))
		return false;
	struct ip ip = ip_of(fi, place);
	if (!put(s, service, &ip, err))
		return false;
	*ret = ip;
	return true;
}

bool vip_claim(struct store *s, const char *service, const struct ip *ip, struct err *err)
{
	char owner[STORE_NS_MAX + STORE_NAME_MAX], text[IP_TEXT_MAX];

	MUST(s->in_tx);
	sqlite3_stmt *st =
	    db_query(s, err, "SELECT service FROM vips WHERE ip = ? AND freed_ms IS NULL", "b", ip->b, (size_t)ip->len);
	if (!st)
		return false;
	int rc = db_step(s, st, err);
	bool fits = rc != 1 || db_text(st, 0, owner, sizeof(owner));
	db_done(s, st);
	if (rc < 0)
		return false;
	if (!fits)
		return db_corrupt(s, err, "a virtual address");
	if (rc == 1 && strcmp(owner, service) != 0)
		return err_set(err, ERR_CONFLICT, "%s is the address of Service %s", ip_text(ip, text), owner);
	return put(s, service, ip, err);
}

bool vip_free(struct store *s, const char *service, const struct ip *keep, size_t keep_len, struct err *err)
{
	MUST(s->in_tx && keep_len <= 2);
	struct ip none = {0};
	const struct ip *a = keep_len > 0 ? &keep[0] : &none, *b = keep_len > 1 ? &keep[1] : &none;

	return db_exec(s, err,
		       "UPDATE vips SET freed_ms = ? WHERE service = ? AND freed_ms IS NULL AND ip != ? AND ip != ?",
		       "isbb", db_now_ms(), service, a->b, (size_t)a->len, b->b, (size_t)b->len);
}
