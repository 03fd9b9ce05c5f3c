#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the built programs link: the proxy no database, no YAML, no loader; nobody but weft-capture libbpf. $1: folder of the programs.
set -eu
failed=0
check() { # program, libraries that it must not link
    p=$1
    shift
    for lib in "$@"; do
        if ldd "$bin/$p" | grep -q "$lib"; then
            echo "$p: links $lib"
            failed=1
        fi
    done
}
bin=$1
check weft-proxy libsqlite3 libyaml libbpf libelf libcheck
check weftd libbpf libelf libcheck
check weft libbpf libelf libcheck
check weft-capture libsqlite3 libyaml libnghttp2
[ $failed = 0 ] && echo "links: ok"
exit $failed
