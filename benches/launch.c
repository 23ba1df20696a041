/*
 * Runs the processes of a line of shell, without the shell, and prints when each process began and ended and how much
 * memory it had at its peak.
 *
 *     launch WORD...
 *
 * A WORD is part of a command, or one of these, as in a shell:
 *     |       the next command reads what this one writes
 *     &&      the next command begins when this one has exited with status 0
 *     &       the next command begins at once
 *     < FILE  > FILE
 *     << N    stdin is a pipe that already holds N bytes and has no writer (N <= 65536)
 * Other stdins and stdouts are /dev/null. On stdout, for each process:
 *     BEGAN ENDED (ns, CLOCK_MONOTONIC) PEAK (KiB) PROGRAM
 *
 * The time is from before the first vfork until the last wait4 has returned. This is a separate program, static and
 * small, because the peak that wait4 reports includes the memory of the process before exec, which is its parent's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* One process: its words, and where its stdin and stdout are. */
struct process {
	char **argv;
	const char *from, *to;
	int held; /* a pipe that is full already, or -1 */
	enum { AFTER, BESIDE, PIPED } next; /* how the next process begins */
	pid_t pid;
	long long began, ended, peak;
};

static int null;

static void die(const char *what)
{
	fprintf(stderr, "launch: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int full_pipe(size_t bytes)
{
	static char block[65536];
	int ends[2];
	memset(block, 'a', sizeof block);
	if (bytes > sizeof block || pipe2(ends, O_CLOEXEC) < 0)
		die("pipe");
	if (write(ends[1], block, bytes) != (ssize_t)bytes)
		die("write");
	close(ends[1]);
	return ends[0];
}

/* Between vfork and exec: only system calls, and no change to memory that the parent uses. */
static void become(const struct process *process, int in, int out)
{
	if (process->from)
		in = open(process->from, O_RDONLY);
	if (process->to)
		out = open(process->to, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0)
		_exit(126);
	if (process->from)
		close(in);
	if (process->to)
		close(out);
	execv(process->argv[0], process->argv);
	_exit(127);
}

static pid_t spawn(const struct process *process, int in, int out)
{
	pid_t pid = vfork();
	if (pid == 0)
		become(process, in, out);
	if (pid < 0)
		die("vfork");
	return pid;
}

/* Starts the processes up to the next && and waits for them all. Returns the first process after them. */
static struct process *run(struct process *first)
{
	struct process *process = first;
	int in = -1, running = 0;
	for (int more = 1; more; process++) {
		int ends[2] = { -1, null };
		more = process->next != AFTER;
		if (process->next == PIPED && pipe2(ends, O_CLOEXEC) < 0)
			die("pipe");
		int mine = process->held >= 0 ? process->held : in >= 0 ? in : null;
		process->began = now();
		process->pid = spawn(process, mine, ends[1]);
		running++;
		if (mine != null)
			close(mine);
		if (process->next == PIPED)
			close(ends[1]);
		in = ends[0];
	}
	for (; running > 0; running--) {
		int status;
		struct rusage usage;
		pid_t pid = wait4(-1, &status, 0, &usage);
		long long ended = now();
		if (pid < 0)
			die("wait4");
		for (struct process *one = first; one < process; one++)
			if (one->pid == pid) {
				one->ended = ended;
				one->peak = usage.ru_maxrss;
				if (status != 0) {
					fprintf(stderr, "launch: %s: status %#x\n", one->argv[0], status);
					exit(1);
				}
			}
	}
	return process;
}

static int parse(char **words, struct process *processes)
{
	int count = 0;
	struct process *process = NULL;
	char **kept = words;
	for (; *words; words++) {
		if (!process) {
			process = &processes[count++];
			*process = (struct process){ .argv = kept, .held = -1 };
		}
		if (strcmp(*words, "|") == 0 || strcmp(*words, "&") == 0 || strcmp(*words, "&&") == 0) {
			process->next = **words == '|' ? PIPED : (*words)[1] ? AFTER : BESIDE;
			process = NULL;
			*kept++ = NULL;
		} else if (strcmp(*words, "<<") == 0 && words[1]) {
			process->held = full_pipe(strtoul(*++words, NULL, 10));
		} else if (strcmp(*words, "<") == 0 && words[1]) {
			process->from = *++words;
		} else if (strcmp(*words, ">") == 0 && words[1]) {
			process->to = *++words;
		} else {
			*kept++ = *words;
		}
	}
	*kept = NULL;
	return count;
}

int main(int argc, char **argv)
{
	struct process *processes = calloc((size_t)argc, sizeof *processes);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (argc < 2 || !processes || null < 0)
		return 2;
	int count = parse(argv + 1, processes);
	struct process *end = processes + count;
	for (struct process *next = processes; next < end;)
		next = run(next);
	for (struct process *one = processes; one < end; one++)
		printf("%lld %lld %lld %s\n", one->began, one->ended, one->peak, one->argv[0]);
	return 0;
}
