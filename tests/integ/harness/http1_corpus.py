# SPDX-License-Identifier: Apache-2.0
"""Messages of HTTP/1 that are legal, however odd: what they are, the request, the answer to it. Each is sent without a mesh and through one
and must be the same at both ends (tests/integ/test_corpus.py). A request in pieces leaves in as many segments."""

import collections

Entry = collections.namedtuple("Entry", "claim ask answer")

HOST = b"Host: orders:8080\r\n"
GET = b"GET /a/b?c=d HTTP/1.1\r\n" + HOST + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
ENTRIES = []


def ask(claim, *pieces):
    ENTRIES.append(Entry(claim, list(pieces), OK))


def get(claim, target=b"/", fields=b"", method=b"GET", host=HOST, version=b"HTTP/1.1"):
    ask(claim, method + b" " + target + b" " + version + b"\r\n" + host + fields + b"\r\n")


def post(claim, fields, body=b"", method=b"POST"):
    ask(claim, method + b" / HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body)


def answer(claim, data, ask=GET):
    ENTRIES.append(Entry(claim, [ask], data))


def status(line, fields=b"Content-Length: 5\r\n", body=b"hello"):
    answer("an answer of " + line.decode("latin-1"), b"HTTP/1.1 " + line + b"\r\n" + fields + b"\r\n" + body)


CHUNKED = b"Transfer-Encoding: chunked\r\n"

# --- request lines ---
get("the usual GET")
get("a query", b"/a/b?c=d%20e&f[]=g|h")
get("an empty query", b"/?")
get("a query of question marks", b"/a??b=?")
get("two slashes at the beginning", b"//a//b")
get("dot segments stay", b"/a/../b/./c/..")
get("encoded dot segments and slashes stay", b"/a/%2e%2e/%2F%2f")
get("hex digits in both cases", b"/%c3%A4%00%7f")
get("a percent without digits", b"/100%/%zz")
get("path parameters", b"/a;b=c;d,e/f@g:h")
get("characters that many encode", b'/"<>\\^`{|}')
get("a target of 8,000 bytes", b"/" + b"a" * 7999)
get("the asterisk of OPTIONS", b"*", method=b"OPTIONS")
get("OPTIONS of a path", b"/x", method=b"OPTIONS")
get("OPTIONS of an absolute target without a path", b"http://orders:8080", method=b"OPTIONS")
get("an absolute target", b"http://orders:8080/x?y")
get("an absolute target in another case", b"HTTP://orders:8080/x")
get("an absolute target of https", b"https://orders:8080/x")
get("an absolute target without a path", b"http://orders:8080")
get("an absolute target with a query and no path", b"http://orders:8080?q")
get("an absolute target whose Host is spelt otherwise", b"http://orders:8080/", host=b"Host: Orders:8080\r\n")
get("an absolute target with another target in its query", b"http://orders:8080/?u=http://other/")
for m in (b"HEAD", b"DELETE", b"PUT", b"PATCH", b"TRACE", b"PROPFIND", b"M-SEARCH", b"QUERY", b"get", b"!#$%&'*+-.^_`|~", b"A" * 64):
    get("the method " + m.decode(), method=m)
# --- Host ---
get("a Host without a port", host=b"Host: orders\r\n")
get("a Host in capitals", host=b"HOST: ORDERS.shop.SVC\r\n")
get("a Host with an empty port", host=b"Host: orders:\r\n")
get("a Host of IPv4", host=b"Host: 10.0.0.1:80\r\n")
get("a Host of IPv6", host=b"Host: [fd00::1]:80\r\n")
get("a Host with an underscore and a dot at its end", host=b"host:a_b.c.\r\n")
get("a Host that is not first", host=b"", fields=b"A: b\r\n" + HOST + b"C: d\r\n")
# --- HTTP/1.0 ---
get("HTTP/1.0 without Host", version=b"HTTP/1.0", host=b"")
get("HTTP/1.0 with Host", version=b"HTTP/1.0")
get("HTTP/1.0 with fields and without Host", version=b"HTTP/1.0", host=b"", fields=b"User-Agent: x\r\nX-a: b\r\n")
get("HTTP/1.0 that keeps its connection", version=b"HTTP/1.0", fields=b"Connection: keep-alive\r\n")
get("HTTP/1.0 that says close", version=b"HTTP/1.0", fields=b"Connection: close\r\n")
get("HTTP/1.0 whose expectation is ignored", version=b"HTTP/1.0", fields=b"Expect: 100-continue\r\n")
get("an absolute target of HTTP/1.0 without Host", b"http://orders:8080/", version=b"HTTP/1.0", host=b"")
ask("POST of HTTP/1.0", b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc")
ask("HEAD of HTTP/1.0", b"HEAD / HTTP/1.0\r\n\r\n")
# --- bodies of requests ---
post("a length", b"Content-Length: 5\r\n", b"hello")
post("a length of zero", b"Content-Length: 0\r\n")
post("no length and no body", b"")
post("leading zeros of a length", b"Content-Length: 0005\r\n", b"hello")
post("a body of every byte", b"Content-Length: 256\r\n", bytes(range(256)))
post("a body that looks like a request", b"Content-Length: 37\r\n", b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\nab")
post("a body of 70,000 bytes", b"Content-Length: 70000\r\n", b"0123456789" * 7000)
post("one chunk", CHUNKED, b"5\r\nhello\r\n0\r\n\r\n")
post("chunks of one byte", CHUNKED, b"1\r\na\r\n" * 100 + b"0\r\n\r\n")
post("no chunk but the last", CHUNKED, b"0\r\n\r\n")
post("sizes in capitals with leading zeros", CHUNKED, b"000A\r\n0123456789\r\n0a\r\n0123456789\r\n0000\r\n\r\n")
post("Chunked in capitals", b"TRANSFER-ENCODING: CHUNKED\r\n", b"5\r\nhello\r\n0\r\n\r\n")
post("chunk extensions are dropped", CHUNKED, b"5;a;b=c\r\nhello\r\n0;last\r\n\r\n")
post("quoted chunk extensions are dropped", CHUNKED, b'5;a="b;c\\" \t\\\\d"\r\nhello\r\n0\r\n\r\n')
post("content that looks like the last chunk", CHUNKED, b"7\r\n0\r\n\r\nab\r\n0\r\n\r\n")
post("chunks of 70,000 bytes in all", CHUNKED, (b"1f40\r\n" + b"x" * 8000 + b"\r\n") * 8 + b"1770\r\n" + b"y" * 6000 + b"\r\n0\r\n\r\n")
for m in (b"GET", b"DELETE", b"OPTIONS", b"PROPFIND", b"HEAD"):
    post(m.decode() + " with a body by length", b"Content-Length: 2\r\n", b"hi", method=m)
    post(m.decode() + " with a chunked body", CHUNKED, b"2\r\nhi\r\n0\r\n\r\n", method=m)
post("a length of zero of a GET", b"Content-Length: 0\r\n", method=b"GET")
ask("a body behind its head by a pause", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n", b"he", b"llo")
ask("chunks cut in odd places", b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"\r", b"\n5", b"\r", b"\nhel", b"lo\r", b"\n0\r\n", b"\r", b"\n")
ask("a head cut in odd places", b"G", b"ET / HT", b"TP/1.1\r", b"\nHo", b"st: x\r\n", b"\r", b"\n")
ask("an empty line before the request", b"\r\n" + GET)
post("a body that was not waited with", b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"hello")
post("an expectation in another case", b"expect: 100-Continue\r\n" + CHUNKED, b"5\r\nhello\r\n0\r\n\r\n")
# --- trailers of requests ---
post("a trailer", CHUNKED + b"Trailer: x-sum\r\n", b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n")
post("trailers, one twice and one empty", b"TE: trailers\r\nConnection: TE\r\n" + CHUNKED, b"0\r\nX-a: 1\r\nx-A: 2\r\nempty:\r\n\r\n")
post("trailers that frame, route or authorize are dropped", CHUNKED, b"1\r\na\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
     b"Host: evil\r\nAuthorization: x\r\nCookie: y\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nx-ok: 1\r\n\r\n")
post("trailers that only sidecars may say are dropped", CHUNKED, b"0\r\nx-weft-close: 1\r\nX-Weft-Error: a;b;c\r\nx-ok: 1\r\n\r\n")
# --- fields of requests ---
get("names in every case", fields=b"X-MiXeD: 1\r\nx-lower: 2\r\nX-UPPER: 3\r\nETag: 4\r\nDNT: 5\r\nWWW-Authenticate: 6\r\ntE-sT: 7\r\n")
get("the same name in three cases", fields=b"x-dup: 1\r\nX-Dup: 2\r\nX-DUP: 3\r\nx-dup: 4\r\n")
get("the same field five times with the same value", fields=b"X-Same: v\r\n" * 5)
get("duplicates with others between", fields=b"a: 1\r\nb: 2\r\na: 3\r\nb: 4\r\nA: 5\r\n")
get("empty values", fields=b"a:\r\nb: \r\nc:\t \r\nd: x\r\n")
get("white space around values", fields=b"a:b\r\nc:  \t d \t \r\ne: f\tg  h\r\n")
get("every byte of a name", fields=b"!#$%&'*+-.^_`|~09azAZ: 1\r\n")
get("every byte of a value", fields=b"a: " + bytes([*range(0x21, 0x7f), 0x20, 9, *range(0x80, 0x100)]) + b"\r\n")
get("colons, commas and quotes in values", fields=b'a: b: c:: d\r\ne: "f, g", h;i="j\\"k"\r\n')
get("a value of 30,000 bytes", fields=b"X-Long: " + b"v" * 30000 + b"\r\n")
get("a name of 255 bytes", fields=b"n" * 255 + b": 1\r\n")
get("a name of 256 bytes", fields=b"n" * 256 + b": 1\r\n")
get("a name of 257 bytes", fields=b"n" * 257 + b": 1\r\n")
get("95 fields", fields=b"".join(b"X-%d: %d\r\n" % (i, i) for i in range(94)))
get("a Cookie of several", fields=b"Cookie: a=1; b=2;c=3\r\nX-After: 1\r\n")
get("several Cookie fields", fields=b"A: b\r\nCookie: a=1\r\nB: c\r\nCookie: b=2; c=3\r\n")
get("an empty Cookie", fields=b"Cookie:\r\n")
get("credentials", fields=b"Authorization: Bearer abc\r\nProxy-Authorization: Basic eHg=\r\n")
get("conditions and ranges", fields=b"If-Match: \"x\"\r\nIf-None-Match: W/\"y\", *\r\nIf-Modified-Since: Sat, 29 Oct 1994 19:43:31 GMT\r\n"
    b"If-Range: \"z\"\r\nRange: bytes=0-1,-5\r\n")
get("what a browser sends", fields=b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,*/*;q=0.8\r\nAccept-Language: de\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nReferer: http://a/\r\nOrigin: null\r\nSec-Fetch-Mode: navigate\r\nUpgrade-Insecure-Requests: 1\r\n")
get("the trace of a request", fields=b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nX-Request-Id: 7\r\nb3: 0\r\n")
get("Via, Date and Max-Forwards stay as they are", fields=b"Via: 1.0 fred, 1.1 p.example\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nMax-Forwards: 0\r\n")
get("what other proxies say of the client", fields=b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 1.2.3.4\r\n")
get("X-Forwarded-For is appended to", fields=b"X-Forwarded-For: 1.2.3.4\r\n")
get("X-Forwarded-For in several lines and cases is one list", fields=b"x-forwarded-for: 1.2.3.4\r\nA: b\r\nX-FORWARDED-FOR: 5.6.7.8, 9.9.9.9\r\n")
get("X-Forwarded-For in ninety long lines is one list", fields=b"".join(b"X-Forwarded-For: " + b"2001:db8::%x, " % i * 20 + b"1.2.3.4\r\n" for i in range(90)))
get("an empty X-Forwarded-For", fields=b"X-Forwarded-For:\r\n")
get("X-Forwarded-For that is no address", fields=b"X-Forwarded-For: unknown, <script>\r\n")
get("Forwarded is appended to", fields=b'Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43\r\n')
get("Forwarded in several lines is one list", fields=b'forwarded: for="[2001:db8::1]"\r\nA: b\r\nFORWARDED: for=_hidden, for=unknown\r\n')
get("Forwarded beside X-Forwarded-For", fields=b"Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\n")
get("an empty Forwarded", fields=b"Forwarded:\r\n")
get("fields that only sidecars may say are deleted", fields=b"X-Weft-Close: 1\r\nx-weft-error: a;b;c\r\nX-WEFT-Target: none\r\nx-weft-anything: 1\r\n")
# --- Connection ---
get("Connection: close", fields=b"Connection: close\r\n")
get("Connection: keep-alive says nothing", fields=b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n")
get("Connection in another case and a list", fields=b"cOnNeCtIoN: foo,, CLOSE ,\r\n")
get("what Connection names ends at the sidecar", fields=b"Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nx-hop: 2\r\nX-End: 3\r\n")
get("Proxy-Connection ends at the sidecar", fields=b"Proxy-Connection: close\r\nA: b\r\n")
get("TE of codings ends at the sidecar", fields=b"TE: gzip;q=0.5\r\nConnection: TE\r\n")
get("TE of trailers goes on", fields=b"TE: gzip, trailers\r\nConnection: TE\r\n")
get("an upgrade that Connection does not name", fields=b"Upgrade: websocket\r\n")
get("an upgrade to h2c and its settings", fields=b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n")
# --- answers: statuses ---
for line in (b"200 OK", b"201 Created", b"202 Accepted", b"203 Non-Authoritative Information", b"206 Partial Content", b"207 Multi-Status",
             b"226 IM Used", b"299 Odd", b"300 Multiple Choices", b"301 Moved Permanently", b"302 Found", b"303 See Other", b"305 Use Proxy",
             b"307 Temporary Redirect", b"308 Permanent Redirect", b"400 Bad Request", b"401 Unauthorized", b"402 Payment Required",
             b"403 Forbidden", b"404 Not Found", b"405 Method Not Allowed", b"406 Not Acceptable", b"407 Proxy Authentication Required",
             b"408 Request Timeout", b"409 Conflict", b"410 Gone", b"411 Length Required", b"412 Precondition Failed", b"413 Content Too Large",
             b"414 URI Too Long", b"415 Unsupported Media Type", b"416 Range Not Satisfiable", b"417 Expectation Failed", b"418 I'm a teapot",
             b"421 Misdirected Request", b"422 Unprocessable Content", b"425 Too Early", b"428 Precondition Required", b"429 Too Many Requests",
             b"431 Request Header Fields Too Large", b"451 Unavailable For Legal Reasons", b"499 Mine", b"500 Internal Server Error",
             b"501 Not Implemented", b"502 Bad Gateway", b"503 Service Unavailable", b"504 Gateway Timeout", b"505 HTTP Version Not Supported",
             b"599 Network", b"600 Beyond", b"999 Odd"):
    status(line)
status(b"426 Upgrade Required", b"Upgrade: TLS/1.3, websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n")
status(b"204 No Content", b"X-A: b\r\n", b"")
status(b"205 Reset Content", b"Content-Length: 0\r\n", b"")
status(b"304 Not Modified", b"ETag: \"x\"\r\n", b"")
answer("a 204 that says that it has nothing", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
answer("a 304 that says how long it would be", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 12345\r\n\r\n")
# --- answers: reason phrases ---
for phrase in (b"200 Alles gut", b"200  two blanks ", b"200 50% \"x\"", b"200 \xc3\xa4\xff", b"200 O\tK", b"404 " + b"x" * 100):
    status(phrase)
answer("no reason phrase", b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello")
answer("no reason phrase and no blank before it", b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello")
# --- answers: bodies ---
answer("an answer of length zero", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
answer("an answer with leading zeros of its length", b"HTTP/1.1 200 OK\r\nContent-Length: 0005\r\n\r\nhello")
answer("an answer of every byte", b"HTTP/1.1 200 OK\r\nContent-Length: 256\r\n\r\n" + bytes(range(256)))
answer("an answer of 70,000 bytes", b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"0123456789" * 7000)
answer("an answer in chunks", b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")
answer("an answer of no chunk but the last", b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n0\r\n\r\n")
answer("an answer with chunk extensions", b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n5;a=\"b\"\r\nhello\r\n0;c\r\n\r\n")
answer("an answer with trailers", b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\n" + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\nempty:\r\n\r\n")
answer("trailers of an answer that frame or authorize are dropped",
       b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n0\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\nLocation: /x\r\nx-ok: 1\r\n\r\n")
answer("an answer of 70,000 bytes in chunks", b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n" + (b"1b58\r\n" + b"x" * 7000 + b"\r\n") * 10 + b"0\r\n\r\n")
answer("an answer that lasts until its end", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end")
answer("an answer that lasts until its end and does not say so", b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nuntil the end")
answer("an answer that lasts until its end and has nothing", b"HTTP/1.1 200 OK\r\n\r\n")
answer("an answer by length that says close", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
answer("an answer in chunks that says close", b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n")
answer("an answer of HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
answer("an answer of HTTP/1.0 by length", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")
answer("an answer of HTTP/1.0 that keeps the connection", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello")
answer("HTTP/1.0 at both ends", b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"GET / HTTP/1.0\r\n\r\n")
answer("HTTP/1.0 at both ends with keep-alive", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
       b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
HEAD = b"HEAD /h HTTP/1.1\r\n" + HOST + b"\r\n"
answer("an answer to HEAD with a length", b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", HEAD)
answer("an answer to HEAD without a length", b"HTTP/1.1 200 OK\r\nETag: x\r\n\r\n", HEAD)
answer("an answer to HEAD that a GET would get in chunks", b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n", HEAD)
answer("an answer to HEAD of length zero", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", HEAD)
answer("a 404 to HEAD", b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n", HEAD)
# --- answers: interim ones ---
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-MiXeD: 1\r\n\r\n"
answer("100 that nobody waited for", b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
answer("102 and its own phrase", b"HTTP/1.1 102 Still at it\r\n\r\n" + OK)
answer("103 twice, then the answer", HINTS + HINTS + OK)
answer("31 interim answers", HINTS * 31 + OK)
answer("103 before 304", HINTS + b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n")
answer("103 before an answer to HEAD", HINTS + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", HEAD)
# --- answers: fields ---
answer("names and duplicates of an answer", b"HTTP/1.1 200 OK\r\nX-MiXeD: 1\r\netag: 2\r\nETag: 3\r\nWWW-Authenticate: a\r\nwww-authenticate: b\r\n"
       b"Content-Length: 5\r\n\r\nhello")
answer("Set-Cookie fields are not joined", b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nset-cookie: c=3\r\nContent-Length: 5\r\n\r\nhello")
answer("what a server sends", b"HTTP/1.1 200 OK\r\nServer: x/1 (y)\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nVia: 1.1 p\r\nAge: 5\r\nVary: *\r\n"
       b"Cache-Control: no-store\r\nLast-Modified: x\r\nAccept-Ranges: bytes\r\nAlt-Svc: h2=\":443\"\r\nStrict-Transport-Security: max-age=1\r\n"
       b"Content-Type: text/plain\r\nContent-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello")
answer("no Date and no Server are added", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
answer("empty values of an answer", b"HTTP/1.1 200 OK\r\na:\r\nb: \r\nContent-Length: 5\r\n\r\nhello")
answer("every byte of a value of an answer", b"HTTP/1.1 200 OK\r\na: " + bytes([*range(0x21, 0x7f), 0x20, 9, *range(0x80, 0x100)])
       + b"\r\nContent-Length: 5\r\n\r\nhello")
answer("a value of 30,000 bytes of an answer", b"HTTP/1.1 200 OK\r\nX-Long: " + b"v" * 30000 + b"\r\nContent-Length: 5\r\n\r\nhello")
answer("95 fields of an answer", b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %d\r\n" % (i, i) for i in range(94)) + b"Content-Length: 5\r\n\r\nhello")
answer("what Connection names of an answer ends at the sidecar", b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n"
       b"Keep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\nhello")
answer("an upgrade that an answer advertises ends at the sidecar", b"HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello")
answer("fields that only sidecars may say, of an answer", b"HTTP/1.1 200 OK\r\nX-Weft-Unprocessed: 1\r\nx-weft-error: a;b;c\r\nContent-Length: 5\r\n\r\nhello")
answer("an X-Forwarded-For of an answer is nobody's", b"HTTP/1.1 200 OK\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 5\r\n\r\nhello")
