/* SPDX-License-Identifier: Apache-2.0 */
/* api.tbl.h: every call of weftd's API. API(function, method, path, what it does); {} is one segment, given to the function
 * in order. Bodies and answers are JSON; an error is {"error": {"code", "text"}}, with "object" (index) from apply and delete. */
API(version, "GET", "/v1/version", "the version of weftd")
API(status, "GET", "/v1/status", "revision, objects, proxies and how far each resource is")
API(apply, "POST", "/v1/apply", "{objects: [...], dryRun, what}: all of them in one transaction, or none")
API(remove_many, "POST", "/v1/delete", "{objects: [{kind, namespace, name}], dryRun, what}: all or none")
API(list, "GET", "/v1/objects/{}", "every object of a kind; ?namespace= one namespace's")
API(get, "GET", "/v1/objects/{}/{}/{}", "one object: kind, namespace, name")
API(remove_one, "DELETE", "/v1/objects/{}/{}/{}", "deletes one object")
API(workloads, "GET", "/v1/workloads", "workload instances that joined, with their leases")
API(workload_remove, "DELETE", "/v1/workloads/{}/{}", "forgets an instance: namespace, name; its rejoin secret is void")
API(tokens, "GET", "/v1/tokens", "join tokens, without their secrets")
API(token_create, "POST", "/v1/tokens", "{namespace, serviceAccount, labels, ttlSeconds, server}: a new join token")
API(token_remove, "DELETE", "/v1/tokens/{}", "revokes a join token")
API(bearer_create, "POST", "/v1/bearers", "{name, ttlSeconds}: a bearer token for this API")
