# SPDX-License-Identifier: Apache-2.0
"""What a message may become on its way through the mesh: docs/hop.md's table of differences, as code. `documented(m)` is a message that was
read without a mesh, told as both ways must agree on it; `told(m)` is one that was read behind a mesh. Equal, or the mesh has changed something
that it must not.

    assert told(through_the_mesh) == documented(direct, client=address)

Nothing else is normalised: the line, names as they are spelt, values, their order and number, the body and the trailers' values are compared
byte by byte."""

import collections

# lib/http/parse_body.c: trailers that frame, route, authorize or describe content are dropped (RFC 9110 6.5.1).
FORBIDDEN_TRAILERS = {
    b"age", b"authorization", b"cache-control", b"connection", b"content-encoding", b"content-length", b"content-range", b"content-type",
    b"cookie", b"cookie2", b"date", b"expect", b"expires", b"forwarded", b"host", b"http2-settings", b"if-match", b"if-modified-since",
    b"if-none-match", b"if-range", b"if-unmodified-since", b"keep-alive", b"location", b"max-forwards", b"pragma", b"proxy-authenticate",
    b"proxy-authorization", b"proxy-connection", b"range", b"retry-after", b"set-cookie", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    b"vary", b"via", b"www-authenticate", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}

# Between neighbours (RFC 9110 7.6.1).
HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"content-length", b"http2-settings", b"upgrade"}

# line, fields: without those of the framing; framing: host, length, close, kept (HTTP/1.0's keep-alive), upgrade; kind: of the body
Told = collections.namedtuple("Told", "line fields framing kind body trailers")


def fields_of(m):
    """Name and value of each field; white space around a value is none of it."""
    out = []
    for name, value in m.fields:
        if not value and b":" in name:
            name, value = name.split(b":", 1)
        out.append((name, value.strip(b" \t")))
    return out


def options_of(fields):
    lists = [v for n, v in fields if n.lower() == b"connection"]
    return {o.strip(b" \t").lower() for v in lists for o in v.split(b",")} - {b""}


def is_request(m):
    return not m.line.startswith(b"HTTP/")


def _line(m):
    parts = m.line.split(b" ", 2)
    if not is_request(m):
        return m.line if len(parts) == 3 else m.line + b" "  # no reason phrase: the space before it is there
    method, target, version = parts
    scheme, mark, rest = target.partition(b"://")
    if mark and scheme.isalpha():
        if method != b"OPTIONS" and b"/" not in rest:
            host, query, q = rest.partition(b"?")  # an empty path of an absolute target is "/"
            rest = host + b"/" + query + q
        target = scheme.lower() + mark + rest
    return b" ".join([method, target, version])


def _authority(m, get):
    """Of an absolute target what it says itself (RFC 9112 3.2.2), else Host."""
    scheme, mark, rest = m.line.split(b" ")[1].partition(b"://")
    if mark and scheme.isalpha():
        return rest.split(b"/")[0].split(b"?")[0]
    host = get.get(b"host")
    return host[:-1] if host and host.endswith(b":") else host


def _framing(m, fields):
    old, options = b"HTTP/1.0" in m.line, options_of(fields)
    get = {n.lower(): v for n, v in fields}
    out = {}
    if is_request(m):
        out["host"] = _authority(m, get)
    elif m.status in (101, 426):
        out["upgrade"] = get.get(b"upgrade")
    no_length = not is_request(m) and (m.status < 200 or m.status == 204)
    if b"content-length" in get and not no_length:
        out["length"] = int(get[b"content-length"])
    out["close"] = b"close" in options or m.framing == "close" or (old and b"keep-alive" not in options)
    return out


def _forwarded(fields, client):
    """The address of who connected goes behind what was said of those before it: X-Forwarded-For always, Forwarded (RFC 7239) where there is one."""
    rest = [(n, v) for n, v in fields if n.lower() not in (b"x-forwarded-for", b"forwarded")]
    said = [v for n, v in fields if n.lower() == b"x-forwarded-for" and v]
    rest.append((b"X-Forwarded-For", b", ".join([*said, client])))
    if any(n.lower() == b"forwarded" for n, _ in fields):
        said = [v for n, v in fields if n.lower() == b"forwarded" and v]
        node = client if b":" not in client else b'"[' + client + b']"'
        rest.append((b"Forwarded", b", ".join([*said, b"for=" + node])))
    return rest


def _cookies(fields):
    """Several Cookie fields are one, where the first stood (RFC 9113 8.2.3)."""
    all_of = [v for n, v in fields if n.lower() == b"cookie"]
    out, done = [], False
    for n, v in fields:
        if n.lower() != b"cookie":
            out.append((n, v))
        elif not done:
            out.append((n, b"; ".join(all_of)))
            done = True
    return out


def told(m):
    """A message as it was read, sorted into what must be the same."""
    fields = fields_of(m)
    plain = [(n, v) for n, v in fields if n.lower() not in HOP_BY_HOP and not (is_request(m) and n.lower() == b"host")]
    return Told(_line(m), plain, _framing(m, fields), m.framing, m.body, [(n.lower(), v) for n, v in m.trailers])


def documented(m, client=None, asked=None, hop=True):
    """`m`, read without a mesh, as the mesh is to deliver it. client: who sent it, of a request; asked: the request, of an answer; hop: over two
    sidecars."""
    fields = fields_of(m)
    t = told(m)
    if asked is not None and m.status >= 200:
        t.framing["close"] |= told(asked).framing["close"]  # RFC 9112 9.6: who asked for the end is told that it comes
    options = options_of(fields)
    plain = []
    for n, v in t.fields:
        low = n.lower()
        if low == b"te":
            if any(one.strip(b" \t").lower() == b"trailers" for one in v.split(b",")):
                plain.append((n, b"trailers"))
        elif low == b"expect" and is_request(m) and b"HTTP/1.0" in m.line:
            continue  # RFC 9110 10.1.1
        elif low not in options and not low.startswith(b"x-weft-"):
            plain.append((n, v))
    if is_request(m):
        if hop:
            plain = _cookies(plain)
        if client:
            plain = _forwarded(plain, client)
    trailers = [(n.lower(), v) for n, v in m.trailers if n.lower() not in FORBIDDEN_TRAILERS and not n.lower().startswith(b"x-weft-")]
    return t._replace(fields=plain, trailers=trailers)
