/*
 * The floor: an atomic write that makes the necessary calls and no others.
 *
 *     floor none|full DEST <INPUT
 *
 * It takes no care: no check of what DEST is, no owner, no mode, no attributes, no way around a missing O_TMPFILE, a
 * fixed temporary name. DEST is in the current directory.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Only what is read is ever touched. */
static char buffer[1 << 20];

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
		for (ssize_t done = 0; done < got;) {
			ssize_t put = write(file, buffer + done, got - done);
			if (put < 0)
				return 1;
			done += put;
		}
	if (got < 0)
		return 1;
	if (durable && fsync(file) < 0)
		return 1;
	if (linkat(file, "", AT_FDCWD, ".floor.tmp", AT_EMPTY_PATH) < 0)
		return 1;
	if (rename(".floor.tmp", argv[2]) < 0)
		return 1;
	if (durable) {
		int directory = open(".", O_RDONLY | O_DIRECTORY);
		if (directory < 0 || fsync(directory) < 0)
			return 1;
	}
	return 0;
}
