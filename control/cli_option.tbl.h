/* SPDX-License-Identifier: Apache-2.0 */
/* cli_option.tbl.h: every option of `weft`. CLI_OPTION(bit that a command needs to have it, member, type, letter, "name", "ARG", "ENV",
 * "text"); CLI_ANY: every command has it. */
CLI_OPTION(CLI_FILE, files, LIST, 'f', "filename", "FILE", NULL, "a file, a directory, or - for standard input; several times")
CLI_OPTION(CLI_NS, ns, TEXT, 'n', "namespace", "NS", "WEFT_NAMESPACE", "namespace (default \"default\")")
CLI_OPTION(CLI_ALL, all, FLAG, 'A', "all-namespaces", NULL, NULL, "objects of every namespace")
CLI_OPTION(CLI_OUTPUT, output, TEXT, 'o', "output", "FORMAT", NULL, "table, wide, json, yaml, name, or hosts (of services)")
CLI_OPTION(CLI_STATUS_OUTPUT, output, TEXT, 'o', "output", "FORMAT", NULL, "table, json or yaml")
CLI_OPTION(CLI_DRY_RUN, dry_run, FLAG, 0, "dry-run", NULL, NULL, "check everything as if, change nothing")
CLI_OPTION(CLI_TOKEN, sa, TEXT, 0, "service-account", "NAME", NULL, "the identity that workloads get (default \"default\")")
CLI_OPTION(CLI_TOKEN, labels, LIST, 'l', "label", "KEY=VALUE", NULL, "a label they may have; VALUE may end in *; several times")
CLI_OPTION(CLI_TOKEN, ttl, TEXT, 0, "ttl", "TIME", NULL, "how long workloads can join with it (default 24h)")
CLI_OPTION(CLI_TOKEN, server, TEXT, 0, "server", "HOST:PORT", NULL, "weftd as the workloads reach it (default: that of `weftd init`)")
CLI_OPTION(CLI_CLIENT, client, FLAG, 0, "client", NULL, NULL, "only this program's own version")
CLI_OPTION(CLI_ANY, config, TEXT, 0, "config", "FILE", NULL, "how to reach weftd (default: WEFT_CONFIG, ~/.config/weft/config.json, /etc/weft/admin.json)")
CLI_OPTION(CLI_ANY, timeout, TEXT, 0, "timeout", "TIME", NULL, "for the answer of weftd (default 30s)")
CLI_OPTION(CLI_ANY, help, FLAG, 'h', "help", NULL, NULL, "this text")
