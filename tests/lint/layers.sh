#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Includes go one way: lib <- certs <- proxy | control; bpf uses lib only, the others see only bpf/abi.h; and inside the proxy stations
# never include the spine. Prints file:line: climbs: target, and names circles. tests/ may include anything.
set -eu
cd "$(git rev-parse --show-toplevel)"
files=$(git ls-files --cached --others --exclude-standard 'lib/*.[ch]' 'certs/*.[ch]' 'proxy/*.[ch]' 'control/*.[ch]' 'bpf/*.[ch]')
edges=$(mktemp)
trap 'rm -f "$edges"' EXIT

# shellcheck disable=SC2086
grep -nE '^#include "' $files | sed -E 's/^([^:]+):([0-9]+):#include "([^"]+)".*/\1 \2 \3/' > "$edges"

awk '
function layer(f) { split(f, p, "/"); return p[1] }
BEGIN {
    ok["lib lib"]; ok["certs lib"]; ok["certs certs"]
    ok["proxy lib"]; ok["proxy certs"]; ok["proxy proxy"]
    ok["control lib"]; ok["control certs"]; ok["control control"]
    ok["bpf bpf"]; ok["bpf lib"]
    # Ranks inside the proxy: a file may include its own rank and lower ones. Stations (2) do not know the spine (4).
    n = split("snapshot snapshot_build snapshot_route options cpus handover harden detect hop mark route answer forward handshakes child succession", low, " ");    for (i = 1; i <= n; i++) rank["proxy/" low[i]] = 1
    n = split("policy/policy balance/balance balance/live balance/circuit retry pool identity config config_build view catalog stats resource resource_check", mid, " ")
    for (i = 1; i <= n; i++) rank["proxy/" mid[i]] = 2
    n = split("proxy ready tunnel file keep subscribe link link_issue", up, " ");     for (i = 1; i <= n; i++) rank["proxy/" up[i]] = 3
    n = split("session session_impl session_detect session_shed request request_impl request_retry request_hedge request_shed", spine, " ");                                   for (i = 1; i <= n; i++) rank["proxy/" spine[i]] = 4
    n = split("crew admin worker supervisor args main_proxy", top, " ");             for (i = 1; i <= n; i++) rank["proxy/" top[i]] = 5
}
function stem(f) { sub(/(\.tbl)?\.[ch]$/, "", f); return f }
function bad(what) { print $1 ":" $2 ": " what ": " $3; failed = 1 }
{
    from = layer($1); to = layer($3)
    if ($3 == "bpf/abi.h") next
    if (to == "weft.skel.h") next
    if (!((from " " to) in ok)) { bad("climbs"); next }
    a = stem($1); b = stem($3)
    if ((a in rank) && (b in rank) && rank[b] > rank[a]) bad("a station that knows a higher rank")
}
END { exit failed }' "$edges"

# Circles: a module is x.c, x.h and what is split off it (x_y.c, x_y.h), taken as one.
awk 'function module(f) { sub(/(\.bpf|\.tbl)?\.[ch]$/, "", f); n = match(f, /[^\/]*$/); base = substr(f, n); sub(/_.*/, "", base); return substr(f, 1, n - 1) base }
{ a = module($1); b = module($3); if (a != b && $3 !~ /pb-c|skel/) print b, a }' "$edges" | sort -u | tsort > /dev/null
echo "layers: ok"
