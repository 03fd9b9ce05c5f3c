# SPDX-License-Identifier: Apache-2.0
"""Rows of a .tbl.h of the unit tests, for tests that send the same bytes over sockets: one table says what is refused.

    for row in rows("tests/unit/lib/http1_requests.tbl.h", beginnings("tests/unit/lib/http1_test.c")): row.kind, row.claim, row.reason, row.data
"""

import collections
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[3]
# kind: OK, NO or WHY; reason: of a WHY, as the table spells it; data: the bytes; begins: the macro that data begins with, or ""; part: the comment
# above it
Row = collections.namedtuple("Row", "kind claim reason data begins part")

_PIECE = re.compile(r'"((?:[^"\\]|\\.)*)"|([A-Z_]+)|(,)')
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)")
_PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"f": b"\f", b"a": b"\a", b"b": b"\b"}


def _unescape(m):
    e = m.group(1)
    if e[:1] == b"x":
        return bytes([int(e[1:], 16)])
    if e[:1].isdigit():
        return bytes([int(e, 8)])
    return _PLAIN.get(e, e)


def _literal(text):
    return _ESCAPE.sub(_unescape, text.encode())


def beginnings(path):
    """The string macros of a .c file: {name: bytes}."""
    found = re.findall(r'^#define\s+([A-Z_]+)\s+((?:"(?:[^"\\]|\\.)*"|[A-Z_]+|\s)+)$', (ROOT / path).read_text(), re.M)
    out = {}
    for name, value in found:
        out[name] = b"".join(_literal(s) if not m else out.get(m, b"") for s, m, _ in _PIECE.findall(value))
    return out


def rows(path, macros):
    """All rows of the table, in order."""
    out, part = [], ""
    for line in (ROOT / path).read_text().splitlines():
        if comment := re.fullmatch(r"/\* (.*) \*/", line):
            part = comment.group(1)
        m = re.match(r"(OK|NO|WHY)\((.*)\)\s*$", line)
        if not m:
            continue
        columns = [[]]
        for text, macro, comma in _PIECE.findall(m.group(2)):
            if comma:
                columns.append([])
            else:
                columns[-1].append(("", macro) if macro else (_literal(text), ""))
        kind, claim = m.group(1), columns[0][0][0].decode()
        reason = columns[1][0][1] if kind == "WHY" else ""
        data = columns[2 if kind == "WHY" else 1]
        out.append(Row(kind, claim, reason, b"".join(macros[macro] if macro else text for text, macro in data), data[0][1], part))
    return out
