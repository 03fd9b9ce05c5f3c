/* SPDX-License-Identifier: Apache-2.0 */
/* pushed.tbl.h: the types of resources that weftd pushes, in the order in which one turn sends them: what others refer to
 * goes first, manifests last, so that a proxy has everything when it learns that it is complete. PUSHED(name, message) */
PUSHED(MESH, "MeshConfig")
PUSHED(SELF, "Self")
PUSHED(SERVICE, "Service")
PUSHED(ENDPOINTS, "Endpoints")
PUSHED(WORKLOAD, "Workload")
PUSHED(ROUTE, "Route")
PUSHED(MANIFEST, "Manifest")
