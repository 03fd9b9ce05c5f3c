/* SPDX-License-Identifier: Apache-2.0 */
/* cli.tbl.h: every command of `weft`. CLI(function, "words", "arguments", options (CLI_*), "what it does", "examples, one a line") */
CLI(apply, "apply", "-f FILE|DIR|-", CLI_FILE | CLI_NS | CLI_DRY_RUN,
    "create or change objects: every document of the files in one transaction, or none",
    "weft apply -f orders.yaml\nweft apply -f policy/ --dry-run")
CLI(diff, "diff", "-f FILE|DIR|-", CLI_FILE | CLI_NS,
    "show what apply would change; exit code 0: nothing, 1: something, more: it failed", "weft diff -f orders.yaml")
CLI(get, "get", "KIND [NAME]", CLI_NS | CLI_ALL | CLI_OUTPUT | CLI_WATCH,
    "show objects: services, endpointslices, httproutes, workloads, tokens", "weft get services -A -o wide\nweft get services -n shop -w")
CLI(describe, "describe", "KIND NAME", CLI_NS | CLI_STATUS_OUTPUT,
    "show one object with its endpoints, and which proxies hold it at which version", "weft describe service orders -n shop")
CLI(delete, "delete", "KIND NAME... | -f FILE|DIR|-", CLI_FILE | CLI_NS | CLI_DRY_RUN,
    "delete objects, all of them or none", "weft delete service orders -n shop\nweft delete -f orders.yaml")
CLI(wait, "wait", "[-f FILE|DIR|- | KIND NAME | --revision N]", CLI_FILE | CLI_NS | CLI_WAIT,
    "wait until every proxy that holds it has applied it; names those that have not", "weft apply -f orders.yaml && weft wait -f orders.yaml --timeout 10s\nweft wait --revision 12")
CLI(history, "history", "[REVISION | KIND NAME]", CLI_NS | CLI_HISTORY | CLI_STATUS_OUTPUT,
    "who changed what and when; with a REVISION, what it changed", "weft history\nweft history service orders -n shop\nweft history 12")
CLI(rollback, "rollback", "REVISION [KIND NAME]", CLI_NS | CLI_DRY_RUN,
    "put objects back as they were after REVISION, all or one, in one transaction; that is a new revision", "weft rollback 11 --dry-run\nweft rollback 11 service orders -n shop")
CLI(status, "status", "", CLI_STATUS_OUTPUT, "how the mesh is: revision, proxies, what each applied or refused", "weft status -o json")
CLI(check, "check", "", CLI_STATUS_OUTPUT | CLI_CHECK,
    "look for what is wrong: configuration, control plane, certificates, clocks, versions, proxies, this machine", "weft check\nweft check -o json")
CLI(config_dump, "config dump", "[NAME]", CLI_NS | CLI_SOCKET,
    "print the configuration that a proxy on this machine has", "weft config dump orders-1 -n shop\nweft config dump --socket /run/weft/shop-orders-1/admin.sock")
CLI(config_render, "config render", "-f FILE...", CLI_FILE | CLI_NS | CLI_RENDER,
    "make the JSON file that `weft-proxy -f` runs from, without a control plane",
    "weft config render -f mesh.yaml --name web --trust-domain demo --mesh-cidr 10.1.0.0/16 > web.json")
CLI(token_create, "token create", "", CLI_NS | CLI_TOKEN | CLI_IDENTITY,
    "make a join token for workloads; it is printed on standard output",
    "weft token create -n shop --service-account orders --label app=orders --label 'version=*' > orders.token")
CLI(token_list, "token list", "", CLI_STATUS_OUTPUT, "list join tokens, without their secrets", "weft token list")
CLI(token_delete, "token delete", "ID...", 0, "revoke join tokens; workloads that joined stay", "weft token delete 3f0a...")
CLI(completion, "completion", "bash|zsh|fish", 0, "print a script that completes commands, options and kinds in a shell",
    "weft completion bash > /etc/bash_completion.d/weft\nweft completion zsh > ~/.zfunc/_weft")
CLI(version, "version", "", CLI_CLIENT | CLI_STATUS_OUTPUT, "versions of weft and of weftd", "weft version")
