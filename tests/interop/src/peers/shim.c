/* Preloaded into a daemon that will not run without control of the clock: every call that would
 * change the clock reports success and changes nothing. Reading is passed on to the kernel, but
 * for the pace of the clock, which is said to be what was wished last. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static int read_only(clockid_t clock, struct timex *t)
{
	static struct timex wished;
	struct timex asked = *t;
	(void)clock;
	wished.modes |= asked.modes & (ADJ_FREQUENCY | ADJ_TICK);
	if (asked.modes & ADJ_FREQUENCY)
		wished.freq = asked.freq;
	if (asked.modes & ADJ_TICK)
		wished.tick = asked.tick;
	t->modes = 0;
	int state = (int)syscall(SYS_adjtimex, t);
	if (wished.modes & ADJ_FREQUENCY)
		t->freq = wished.freq;
	if (wished.modes & ADJ_TICK)
		t->tick = wished.tick;
	return state;
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
