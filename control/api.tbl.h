/* SPDX-License-Identifier: Apache-2.0 */
/* api.tbl.h: every call of weftd's API. API(function, method, path, queries that it knows (API_Q_*), what it does); {} is one segment,
 * given to the function in order. Bodies and answers are JSON; an error is {"error": {"code", "text"}}, with "object" (index) from
 * apply and delete. docs/openapi.json describes each row; tests/doc/openapi.py writes it. */
API(api_version, "GET", "/v1/version", 0, "the version of weftd, and its clock")
API(api_status, "GET", "/v1/status", 0, "revision, objects, proxies and how far each resource is")
API(api_apply, "POST", "/v1/apply", 0, "{objects: [...], dryRun, bodies, what}: all of them in one transaction, or none")
API(api_remove_many, "POST", "/v1/delete", 0, "{objects: [{kind, namespace, name}], dryRun, bodies, what}: all or none")
API(api_list, "GET", "/v1/objects/{}", API_Q_NAMESPACE, "every object of a kind, or those of one namespace")
API(api_get, "GET", "/v1/objects/{}/{}/{}", 0, "one object: kind, namespace, name")
API(api_remove_one, "DELETE", "/v1/objects/{}/{}/{}", 0, "deletes one object")
API(api_describe, "GET", "/v1/describe/{}/{}/{}", 0, "one object with its endpoints, and who holds it at which version")
API(api_watch, "GET", "/v1/watch/{}", API_Q_NAMESPACE | API_Q_REVISION | API_Q_SECONDS,
    "objects of a kind that changed after a revision; waits for the first one at most `seconds`")
API(api_wait, "POST", "/v1/wait", 0,
    "{revision | objects: [{kind, namespace, name}], seconds}: waits until every proxy that holds it has applied it")
API(api_revisions, "GET", "/v1/revisions", API_Q_NAMESPACE | API_Q_KIND | API_Q_NAME | API_Q_BEFORE | API_Q_LIMIT,
    "who changed what and when, the newest first")
API(api_revision, "GET", "/v1/revisions/{}", 0, "one revision with each object before and after it")
API(api_rollback, "POST", "/v1/rollback", 0,
    "{revision, kind, namespace, name, dryRun, bodies}: objects become as they were after that revision; a new revision")
API(api_workloads, "GET", "/v1/workloads", 0, "workload instances that joined, with their leases")
API(api_workload_remove, "DELETE", "/v1/workloads/{}/{}", 0, "forgets an instance: namespace, name; its rejoin secret is void")
API(api_tokens, "GET", "/v1/tokens", 0, "join tokens, without their secrets")
API(api_token_create, "POST", "/v1/tokens", 0, "{namespace, serviceAccount, labels, ttlSeconds, server}: a new join token")
API(api_token_remove, "DELETE", "/v1/tokens/{}", 0, "revokes a join token")
API(api_bearer_create, "POST", "/v1/bearers", 0, "{name, ttlSeconds}: a bearer token for this API")
