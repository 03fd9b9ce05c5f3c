/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* counter.tbl.h: what the eBPF programs count for each workload. COUNTER(name, label, text) */
COUNTER(CAPTURED, "captured", "outbound connections handed to the proxy")
COUNTER(EXEMPT, "exempt", "connections of the proxy itself")
COUNTER(EXCLUDED_OUT, "excluded_out", "outbound connections let through by an exclusion")
COUNTER(UNDIVERTED, "undiverted", "outbound connections refused because they could not be diverted safely")
COUNTER(ORIGINS, "origins", "original destinations handed to the proxy")
COUNTER(ORIGINS_LOST, "origins_lost", "captured connections whose original destination could not be kept; the proxy closes them")
COUNTER(CLIENTS, "clients", "application sockets that were told their real client")
COUNTER(STEERED, "steered", "inbound connections handed to the proxy")
COUNTER(DROPPED, "dropped", "inbound connections refused because no proxy listens")
COUNTER(EXCLUDED_IN, "excluded_in", "inbound connections let through by an exclusion")
COUNTER(TOKEN_WRONG, "token_wrong", "attempts to mark a socket with a wrong token")
COUNTER(UDP, "udp", "UDP connects and addressed sends that passed untouched")
