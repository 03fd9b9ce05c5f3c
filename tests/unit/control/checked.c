/* SPDX-License-Identifier: Apache-2.0 */
/* checked.c: see checked.h. */
#include "tests/unit/control/checked.h"

#include <check.h>

struct checked checked;

void checked_done(void)
{
	documents_done(&checked.docs);
	json_decref(checked.object.body);
	checked.object.body = NULL;
}

bool check_yaml(const char *yaml)
{
	checked_done();
	ck_assert_msg(documents_add_text(&checked.docs, "object.yaml", str_of(yaml), &checked.err), "%s",
		      checked.err.text);
	ck_assert_uint_eq(checked.docs.len, 1);
	return object_check(checked.docs.v[0].root, "default", &checked.object, &checked.err);
}
