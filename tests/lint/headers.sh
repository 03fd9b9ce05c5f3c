#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every header compiles alone, and every source carries its licence.
set -eu
cd "$(git rev-parse --show-toplevel)"
failed=0
for h in $(git ls-files --cached --others --exclude-standard 'lib/*.h' 'certs/*.h' 'proxy/*.h' 'control/*.h' 'bpf/*.h' | grep -vE '\.tbl\.h$|\.bpf\.h$'); do
    printf '#include "%s"\n' "$h" |
        ${CC:-cc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wno-unused-parameter -Werror -fsyntax-only -I. -Ibuild/gen -x c - || failed=1
done
for f in $(git ls-files --cached --others --exclude-standard '*.c' '*.h' '*.sh' '*.py' '*.proto' 'Makefile'); do
    head -4 "$f" | grep -q 'SPDX-License-Identifier' || { echo "$f:1: no SPDX line"; failed=1; }
done
[ $failed = 0 ] && echo "headers: ok"
exit $failed
