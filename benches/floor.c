/*
 * The floor: an atomic write that makes the calls of atomwrite's promise and no others.
 *
 *     floor none|full DEST <INPUT
 *     floor none|full -t D [SOURCE]... <SOURCES
 *
 * One file: O_TMPFILE, write, flock, linkat and renameat; with `full` also an fsync of the file and of the directory.
 * The lock distinguishes a stale temporary file from one in use. DEST is in the current directory.
 *
 * Many files: all are written to a private directory in D and then renamed; with `full` also one syncfs before and an
 * fsync of D after. Without operands, their names are read from stdin, each of which ends with a zero byte.
 *
 * Everything else is left out: there is no check of what DEST is, no owner, mode or attributes, no signal, no fallback,
 * and the temporary name is fixed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Only the pages that are read into take memory. */
static char buffer[1 << 16];

static int copy(int from, int to)
{
	ssize_t got;
	while ((got = read(from, buffer, sizeof buffer)) > 0)
		if (write(to, buffer, got) != got)
			return -1;
	return got;
}

static int flush_directory(const char *path)
{
	int directory = open(path, O_RDONLY | O_DIRECTORY);
	return directory < 0 ? -1 : fsync(directory);
}

static int one(int durable, const char *dest)
{
	int file = open(".", O_TMPFILE | O_WRONLY, 0666);
	if (file < 0 || copy(0, file) < 0)
		return 1;
	if (durable && fsync(file) < 0)
		return 1;
	if (flock(file, LOCK_EX | LOCK_NB) < 0)
		return 1;
	if (linkat(file, "", AT_FDCWD, ".floor.tmp", AT_EMPTY_PATH) < 0)
		return 1;
	if (renameat(AT_FDCWD, ".floor.tmp", AT_FDCWD, dest) < 0)
		return 1;
	return durable && flush_directory(".") < 0;
}

static const char *base(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static int stage(int staging, const char *source)
{
	struct stat status;
	int from = open(source, O_RDONLY);
	if (from < 0 || fstat(from, &status) < 0)
		return -1;
	int to = openat(staging, base(source), O_CREAT | O_EXCL | O_WRONLY, status.st_mode & 0777);
	if (to < 0 || copy(from, to) < 0)
		return -1;
	close(from);
	return close(to);
}

/* Reads names that end with a zero byte from stdin. */
static char **read_names(size_t *count)
{
	char **names = NULL;
	for (*count = 0;; ++*count) {
		size_t size = 0;
		names = realloc(names, (*count + 1) * sizeof *names);
		names[*count] = NULL;
		if (getdelim(&names[*count], &size, '\0', stdin) <= 0)
			return names;
	}
}

static int many(int durable, const char *dest, char **names, size_t count)
{
	int directory = open(dest, O_RDONLY | O_DIRECTORY);
	if (directory < 0 || mkdirat(directory, ".floor.tmp", 0700) < 0)
		return 1;
	int staging = openat(directory, ".floor.tmp", O_RDONLY | O_DIRECTORY);
	if (staging < 0)
		return 1;
	for (size_t i = 0; i < count; i++)
		if (stage(staging, names[i]) < 0)
			return 1;
	if (durable && syncfs(staging) < 0)
		return 1;
	for (size_t i = 0; i < count; i++)
		if (renameat(staging, base(names[i]), directory, base(names[i])) < 0)
			return 1;
	if (unlinkat(directory, ".floor.tmp", AT_REMOVEDIR) < 0)
		return 1;
	return durable && fsync(directory) < 0;
}

int main(int argc, char **argv)
{
	if (argc == 3)
		return one(strcmp(argv[1], "full") == 0, argv[2]);
	if (argc < 4 || strcmp(argv[2], "-t") != 0)
		return 2;
	size_t count = argc - 4;
	char **names = count > 0 ? argv + 4 : read_names(&count);
	return many(strcmp(argv[1], "full") == 0, argv[3], names, count);
}
