/* SPDX-License-Identifier: Apache-2.0 */
/* args.tbl.h: every option of weft-proxy. OPTION(flag, letter, environment, argument, member setter, help) */
OPTION("name",       0,   "WEFT_NAME",       "NAME",   set_name,      "name of this workload, unique in its namespace")
OPTION("namespace",  'n', "WEFT_NAMESPACE",  "NS",     set_namespace, "its namespace (default: default)")
OPTION("labels",     'l', "WEFT_LABELS",     "K=V,..", set_labels,    "labels that Services select it by, as far as its token allows")
OPTION("ports",      'p', "WEFT_PORTS",      "PORT[/PROTO],..", set_ports, "ports that the application serves: 8080/http,9090 (http, http2, grpc, tcp, tls)")
OPTION("control",    'c', "WEFT_CONTROL",    "ADDR,..", set_control,  "weftd, host:4810, one a family (default: from the join token)")
OPTION("token-file", 0,   "WEFT_TOKEN_FILE", "FILE",   set_token,     "join token (weft token create); weft-capture hands it over without a file")
OPTION("state-dir",  0,   "WEFT_STATE_DIR",  "DIR",    set_state,     "rejoin secret and last good configuration")
OPTION("zone",       0,   "WEFT_ZONE",       "ZONE",   set_zone,      "where this workload runs")
OPTION("file",       'f', "WEFT_FILE",       "FILE",   set_file,      "everything from one JSON file, no control plane")
OPTION("drain",      0,   "WEFT_DRAIN",      "TIME",   set_drain,     "grace for open connections after SIGTERM (default: 28s)")
OPTION("log-level",  0,   "WEFT_LOG_LEVEL",  "LEVEL",  set_level,     "debug, info, warn or error (default: info)")
