/*
 * Writes bytes to stdout as fast as the reader takes them.
 *
 *     produce BYTES [BYTES_PER_SECOND [BYTES_PER_WRITE]]
 *
 * Without a rate, or with a rate of 0, as fast as possible; 64 KiB a write.
 */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static char block[65536];

static void wait_until(struct timespec start, double seconds)
{
	struct timespec then = start;
	then.tv_sec += (time_t)seconds;
	then.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
	if (then.tv_nsec >= 1000000000) {
		then.tv_sec++;
		then.tv_nsec -= 1000000000;
	}
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, NULL);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	unsigned long long size = strtoull(argv[1], NULL, 10);
	double rate = argc > 2 ? strtod(argv[2], NULL) : 0;
	size_t most = argc > 3 ? strtoul(argv[3], NULL, 10) : sizeof block;
	if (most == 0 || most > sizeof block)
		return 2;

	/* Not zeros, which a program could turn into a hole. */
	for (size_t i = 0; i < sizeof block && i < size; i++)
		block[i] = (char)('a' + i % 26);

	struct timespec start;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (unsigned long long done = 0; done < size;) {
		size_t length = size - done < most ? size - done : most;
		if (rate > 0)
			wait_until(start, (double)(done + length) / rate);
		ssize_t put = write(1, block, length);
		if (put <= 0)
			return 1;
		done += put;
	}
	return 0;
}
