/* SPDX-License-Identifier: Apache-2.0 */
/* resource.tbl.h: every type of resource that weftd pushes. RESOURCE(NAME, message, descriptor, followed)
 * message: behind "type.googleapis.com/weft.v1."; followed: ADDRESS (on demand, by "addr:IP"), NAME (when a manifest lists
 * it), or a name asked for at once. The order is that of the numbers in the copy on disk: new ones go to the end. */
RESOURCE(SERVICE, "Service", weft__v1__service__descriptor, RESOURCE_BY_ADDRESS)
RESOURCE(ENDPOINTS, "Endpoints", weft__v1__endpoints__descriptor, RESOURCE_BY_ADDRESS)
RESOURCE(MANIFEST, "Manifest", weft__v1__manifest__descriptor, RESOURCE_BY_ADDRESS)
RESOURCE(WORKLOAD, "Workload", weft__v1__workload__descriptor, RESOURCE_BY_ADDRESS)
RESOURCE(SELF, "Self", weft__v1__self__descriptor, "self")
RESOURCE(MESH, "MeshConfig", weft__v1__mesh_config__descriptor, "mesh")
RESOURCE(ROUTE, "Route", weft__v1__route__descriptor, RESOURCE_BY_NAME)
