/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c: main() of a fuzz target without a fuzzer: runs each file of the folders (or files) named, once. So the seeds, and what a
 * fuzzer once found, are tests that run everywhere. Exit 1 when there is nothing to run: a corpus that got lost. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	if (!f || fstat(fileno(f), &st) != 0) {
		perror(path);
		exit(1);
	}
	size_t size = (size_t)st.st_size;
	uint8_t *data = malloc(size ? size : 1); /* exact: ASan sees a read past the end */
	if (!data || fread(data, 1, size, f) != size) {
		perror(path);
		exit(1);
	}
	fclose(f);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 1;
}

static int run_folder(const char *path)
{
	DIR *d = opendir(path);
	char file[4096];
	int n = 0;
	if (!d)
		return run_file(path);
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
		n += run_file(file);
	}
	closedir(d);
	return n;
}

int main(int argc, char **argv)
{
	int n = 0;
	for (int i = 1; i < argc; i++)
		n += run_folder(argv[i]);
	printf("%s: %d inputs\n", argv[0], n);
	return n > 0 ? 0 : 1;
}
