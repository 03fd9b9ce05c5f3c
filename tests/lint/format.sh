#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# clang-format on every source but tables, whose columns are aligned by hand.
set -eu
cd "$(git rev-parse --show-toplevel)"
git ls-files --cached --others --exclude-standard '*.c' '*.h' | grep -v '\.tbl\.h$' | xargs clang-format --dry-run -Werror && echo "format: ok"
