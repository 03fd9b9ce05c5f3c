/* SPDX-License-Identifier: Apache-2.0 */
/* resource.tbl.h: every type of resource that weftd pushes. RESOURCE(NAME, message, descriptor, followed)
 * message: behind "type.googleapis.com/weft.v1."; followed: ADDRESS (on demand, by "addr:IP") or a name asked for at once. */
RESOURCE(SERVICE, "Service", weft__v1__service__descriptor, RESOURCE_BY_ADDRESS)
RESOURCE(ENDPOINTS, "Endpoints", weft__v1__endpoints__descriptor, RESOURCE_BY_ADDRESS)
RESOURCE(MANIFEST, "Manifest", weft__v1__manifest__descriptor, RESOURCE_BY_ADDRESS)
RESOURCE(WORKLOAD, "Workload", weft__v1__workload__descriptor, RESOURCE_BY_ADDRESS)
RESOURCE(SELF, "Self", weft__v1__self__descriptor, "self")
RESOURCE(MESH, "MeshConfig", weft__v1__mesh_config__descriptor, "mesh")
