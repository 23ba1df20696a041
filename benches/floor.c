/*
 * The floor: an atomic write that makes the calls of atomwrite's promise and no others: O_TMPFILE, write, flock, linkat
 * and renameat; with `full` also an fsync of the file and of the directory.
 *
 *     floor none|full DEST <INPUT
 *
 * The lock distinguishes a stale temporary file from one in use. Everything else is left out: there is no check of what
 * DEST is, no owner, mode or attributes, no fallback without O_TMPFILE, and the temporary name is fixed. DEST is in the
 * current directory.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* Only the pages that are read into take memory. */
static char buffer[1 << 16];

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	int durable = strcmp(argv[1], "full") == 0;

	int file = open(".", O_TMPFILE | O_WRONLY, 0666);
	if (file < 0)
		return 1;
	ssize_t got;
	while ((got = read(0, buffer, sizeof buffer)) > 0)
		if (write(file, buffer, got) != got)
			return 1;
	if (got < 0)
		return 1;
	if (durable && fsync(file) < 0)
		return 1;
	if (flock(file, LOCK_EX | LOCK_NB) < 0)
		return 1;
	if (linkat(file, "", AT_FDCWD, ".floor.tmp", AT_EMPTY_PATH) < 0)
		return 1;
	if (renameat(AT_FDCWD, ".floor.tmp", AT_FDCWD, argv[2]) < 0)
		return 1;
	if (durable) {
		int directory = open(".", O_RDONLY | O_DIRECTORY);
		if (directory < 0 || fsync(directory) < 0)
			return 1;
	}
	return 0;
}
