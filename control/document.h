/* SPDX-License-Identifier: Apache-2.0 */
/* document.h: YAML and JSON files of users as JSON trees, each with the place that it came from. Everything is bounded
 * before it can hurt: size, depth, number of nodes and documents; aliases and duplicate keys are refused. Scalars follow the
 * core schema of YAML 1.2. It knows no kinds; a List is taken apart. */
#ifndef WEFT_CONTROL_DOCUMENT_H
#define WEFT_CONTROL_DOCUMENT_H

#include "lib/err.h"
#include "lib/str.h"

#include <jansson.h>

#define DOCUMENT_FILE_MAX  (4 * 1024 * 1024) /* bytes of one file */
#define DOCUMENT_DEPTH_MAX 64
#define DOCUMENT_NODES_MAX 400000 /* of one file */
#define DOCUMENTS_MAX      10000  /* in all */

struct document {
	json_t *root;
	const char *file; /* as the user named it, "-" for standard input; owned by the documents */
	unsigned line;    /* where it begins */
};
struct documents {
	struct document *v;
	size_t len, cap;
	char **files;
	size_t files_len;
};
/* Adds the documents of one text. JSON when the name ends in ".json", or when it is "-" and begins with "{". Empty
 * documents are left out. Errors begin with "file:line:column: ". */
bool documents_add_text(struct documents *d, const char *name, struct str text, struct err *err);
/* A file, a directory (its *.yaml, *.yml, *.json in the order of their names, not below), or "-". A file that is too large
 * is refused unread. */
bool documents_add_path(struct documents *d, const char *path, struct err *err);
void documents_done(struct documents *d);

/* A plain scalar by the core schema: null, true, 12, 1.5 or text; a new reference. NULL and err: a number that does not fit
 * or is not one in every YAML ("010"). */
json_t *document_scalar(struct str text, struct err *err);

#endif
