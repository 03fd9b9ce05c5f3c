/* SPDX-License-Identifier: Apache-2.0 */
/* weftd.tbl.h: every option of weftd. WEFTD(member, type, letter, "name", "ARG", "ENV", "text").
 * The block that is wanted is chosen by WEFTD_INIT or WEFTD_RUN. */
WEFTD(help, FLAG, 'h', "help", NULL, NULL, "this text")
WEFTD(store, TEXT, 0, "store", "FILE", "WEFT_STORE", "the store (default /var/lib/weft/weft.db)")
#ifdef WEFTD_INIT
WEFTD(trust_domain, TEXT, 0, "trust-domain", "NAME", "WEFT_TRUST_DOMAIN", "name of the mesh in every identity")
WEFTD(cidrs, LIST, 0, "mesh-cidr", "CIDR", "WEFT_MESH_CIDRS", "a network whose workloads are in the mesh; several times")
WEFTD(admin_config, TEXT, 0, "admin-config", "FILE", "WEFT_ADMIN_CONFIG", "what `weft` needs, mode 0600 (default /etc/weft/admin.json)")
WEFTD(server, TEXT, 0, "server", "HOST:PORT", "WEFT_SERVER", "weftd as proxies reach it, for join tokens")
WEFTD(init_listen, TEXT, 0, "listen", "ADDR:PORT", NULL, "the same as --server, when it is an address")
WEFTD(url, TEXT, 0, "url", "URL", "WEFT_URL", "the API as `weft` reaches it (default https://HOST of --server:4811)")
#endif
#ifdef WEFTD_RUN
WEFTD(listen, LIST, 0, "listen", "ADDR:PORT", "WEFT_LISTEN", "push and identity (default [::]:4810)")
WEFTD(listen_api, LIST, 0, "listen-api", "ADDR:PORT", "WEFT_LISTEN_API", "the API (default [::]:4811)")
WEFTD(listen_admin, LIST, 0, "listen-admin", "ADDR:PORT", "WEFT_LISTEN_ADMIN", "ready, live, metrics (default [::]:4814)")
WEFTD(names, LIST, 0, "name", "NAME", "WEFT_NAMES", "a host name or address in weftd's own certificate; several times")
WEFTD(certificate, TEXT, 0, "certificate-lifetime", "TIME", "WEFT_CERTIFICATE_LIFETIME", "of workloads, 1s to 24h (default 24h)")
WEFTD(renew_grace, TEXT, 0, "renew-grace", "TIME", "WEFT_RENEW_GRACE", "a certificate expired for so long can renew (default 1h)")
WEFTD(lease, TEXT, 0, "lease", "TIME", "WEFT_LEASE", "of a registered workload, 1s to 1h (default 15s)")
#endif
