/* SPDX-License-Identifier: Apache-2.0 */
/* init.h: `weftd init`: the first start of a mesh. Makes the authority, the store and the administrator's configuration; never
 * overwrites one. */
#ifndef WEFT_CONTROL_INIT_H
#define WEFT_CONTROL_INIT_H

#include "lib/err.h"

struct init_options {
	const char *store;        /* file to make */
	const char *admin_config; /* file to make, mode 0600 */
	const char *trust_domain;
	const char *const
	    *cidrs; /* of the mesh: what lies inside is meshed or refused, what lies outside is external */
	size_t cidrs_len;
	const char *server; /* "host:4810" as proxies reach weftd, NULL: each token says it */
	const char
	    *url; /* of the API, for the administrator's configuration; NULL: that of server, or of this machine */
};
bool init_run(const struct init_options *o, struct err *err);

#endif
