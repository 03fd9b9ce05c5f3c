/* SPDX-License-Identifier: Apache-2.0 */
/* pressure.tbl.h: the marks of the memory limit, mildest first. PRESSURE(name, label, enter, leave, what): entered at `enter` percent of the
 * limit less its reserve (pressure.h), left again only beneath `leave` percent, so that a level does not flap. */
PRESSURE(SHED,   "shed",   85, 80, "idle connections give way, windows stop growing, the greediest streams are reset")
PRESSURE(CLOSE,  "close",  95, 90, "no connection is kept: Connection: close, GOAWAY")
PRESSURE(REFUSE, "refuse", 98, 94, "new connections and requests are refused (overload)")
