/* SPDX-License-Identifier: Apache-2.0 */
/* cli.tbl.h: every command of `weft`. CLI(function, "words", "arguments", options (CLI_*), "what it does", "an example") */
CLI(apply, "apply", "-f FILE|DIR|-", CLI_FILE | CLI_NS | CLI_DRY_RUN,
    "create or change objects: every document of the files in one transaction, or none", "weft apply -f orders.yaml --dry-run")
CLI(get, "get", "KIND [NAME]", CLI_NS | CLI_ALL | CLI_OUTPUT,
    "show objects: services, endpointslices, workloads, tokens", "weft get services -A -o wide")
CLI(delete, "delete", "KIND NAME... | -f FILE|DIR|-", CLI_FILE | CLI_NS | CLI_DRY_RUN,
    "delete objects, all of them or none", "weft delete service orders -n shop")
CLI(status, "status", "", CLI_STATUS_OUTPUT, "how the mesh is: revision, proxies, what each applied or refused", "weft status -o json")
CLI(token_create, "token create", "", CLI_NS | CLI_TOKEN,
    "make a join token for workloads; it is printed on standard output",
    "weft token create -n shop --service-account orders --label app=orders --label 'version=*' > orders.token")
CLI(token_list, "token list", "", CLI_STATUS_OUTPUT, "list join tokens, without their secrets", "weft token list")
CLI(token_delete, "token delete", "ID...", 0, "revoke join tokens; workloads that joined stay", "weft token delete 3f0a...")
CLI(version, "version", "", CLI_CLIENT | CLI_STATUS_OUTPUT, "versions of weft and of weftd", "weft version")
