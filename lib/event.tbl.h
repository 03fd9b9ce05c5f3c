/* SPDX-License-Identifier: Apache-2.0 */
/* event.tbl.h: every event that a program of Weft can log. EVENT(name, level, label, meaning).
 * Grouped by program; add a row here and nothing else. */
EVENT(STARTED, INFO, "started", "the program is up; pid, version")
EVENT(READY, INFO, "ready", "the program serves")
EVENT(STOPPING, INFO, "stopping", "a signal asked the program to stop")
EVENT(STOPPED, INFO, "stopped", "the program ends in order")
EVENT(FATAL, ERROR, "fatal", "the program cannot go on and ends")
EVENT(CONFIG_WARNING, WARN, "config_warning", "a setting is odd but usable")
EVENT(EVENTS_DROPPED, WARN, "events_dropped", "more than 100 lines of one event came in a second: so many were not written")

/* weft-proxy: supervisor */
EVENT(WORKER_STARTED, INFO, "worker_started", "the supervisor started a worker; pid")
EVENT(WORKER_DIED, WARN, "worker_died", "a worker ended unasked; it is started again after a back-off")
/* weft-proxy: in the machine's own network namespace */
EVENT(CAPTURE_UNCONFIRMED, WARN, "capture_unconfirmed", "the capture undoes itself unless it is confirmed; when, and how to keep it")
EVENT(CAPTURE_CONFIRMED, INFO, "capture_confirmed", "the capture stays: it was confirmed")
EVENT(CAPTURE_UNDONE, ERROR, "capture_undone", "nobody confirmed the capture: new connections go around this proxy, which withdraws; how to begin again")
EVENT(CAPTURE_DETACHED, WARN, "capture_detached", "the capture was detached: new connections go around this proxy, which withdraws")
/* weft-proxy: sessions and requests */
EVENT(SESSION_OPEN, DEBUG, "session_open", "a connection was accepted; direction, peer, original destination")
EVENT(SESSION_END, DEBUG, "session_end", "a connection ended; reason row")
EVENT(REQUEST_END, DEBUG, "request_end", "a request ended; status, reason row, attempts")
EVENT(ACCEPT_PAUSED, WARN, "accept_paused", "no descriptors left: accepting pauses")
EVENT(ENDPOINT_EJECTED, WARN, "endpoint_ejected", "an endpoint failed several times in a row and gets nothing for a while; service, reason, how long")
EVENT(ENDPOINT_BACK, INFO, "endpoint_back", "an ejected endpoint is used again")
EVENT(PEER_REFUSED, WARN, "peer_refused", "a peer's certificate or identity was refused; why")
/* weft-proxy: link to weftd */
EVENT(LINK_UP, INFO, "link_up", "the link to weftd is up")
EVENT(LINK_DOWN, WARN, "link_down", "the link to weftd is down; last good configuration stays")
EVENT(REGISTERED, INFO, "registered", "weftd registered this workload; as what, from which address")
EVENT(REGISTRATION_REFUSED, WARN, "registration_refused", "weftd does not register this workload; why")
EVENT(CLOCK_SKEW, WARN, "clock_skew", "this machine's clock and weftd's are far apart")
EVENT(IDENTITY_ISSUED, INFO, "identity_issued", "a certificate was issued to this proxy; identity, expiry")
EVENT(IDENTITY_FAILED, WARN, "identity_failed", "no certificate could be had; tried again after a back-off")
EVENT(RESOURCE_REFUSED, WARN, "resource_refused", "a pushed resource is not valid; the last good one stays")
EVENT(SNAPSHOT_SWAPPED, DEBUG, "snapshot_swapped", "a new configuration snapshot is in force")

/* weftd */
EVENT(REVISION, INFO, "revision", "a change of policy was stored; revision, who, what")
EVENT(ISSUED, INFO, "issued", "a certificate was issued; identity, instance, serial")
EVENT(ISSUE_REFUSED, WARN, "issue_refused", "a certificate was refused; why")
EVENT(PROXY_JOINED, INFO, "proxy_joined", "a proxy's link came up; identity, instance, address")
EVENT(PROXY_LEFT, INFO, "proxy_left", "a proxy's link is down; its lease runs")
EVENT(REGISTER_REFUSED, WARN, "register_refused", "a workload's registration was refused; why")
EVENT(WORKLOAD_GONE, INFO, "workload_gone", "a workload is no longer registered; why")
EVENT(LEASE_EXPIRED, WARN, "lease_expired", "a workload's lease ran out; its endpoints are gone")
EVENT(LINKS_FULL, WARN, "links_full", "as many connections are open as may be: new ones are closed at once")
EVENT(LEASE_GUARD, ERROR, "lease_guard", "more than 30 % of the workloads would vanish at once; kept (0: let go)")
EVENT(NACK, WARN, "nack", "a proxy refused a resource; which, why")
EVENT(STORE_FAILED, ERROR, "store_failed", "the store refused a write or a read; nothing was changed")
EVENT(API_REQUEST, DEBUG, "api_request", "an API call was answered; method, path, status, who")
