/* Preloaded into a daemon that will not run without control of the clock: every call that would
 * change the clock reports success and changes nothing. Reading is passed on to the kernel. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static int read_only(clockid_t clock, struct timex *t)
{
	t->modes = 0;
	(void)clock;
	return (int)syscall(SYS_adjtimex, t);
}

int clock_adjtime(clockid_t clock, struct timex *t) { return read_only(clock, t); }
int adjtimex(struct timex *t) { return read_only(CLOCK_REALTIME, t); }
int __adjtimex(struct timex *t) { return read_only(CLOCK_REALTIME, t); }
int ntp_adjtime(struct timex *t) { return read_only(CLOCK_REALTIME, t); }

int clock_settime(clockid_t clock, const struct timespec *t)
{
	(void)clock;
	(void)t;
	return 0;
}

int settimeofday(const struct timeval *t, const struct timezone *z)
{
	(void)t;
	(void)z;
	return 0;
}
