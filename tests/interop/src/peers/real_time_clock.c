/* Preloaded into a daemon: /dev/rtc is a clock of the test's. The file that SIMULATED_RTC names says when (Unix seconds)
 * it was how much fast (seconds), and what it gains (seconds per second); setting the clock changes that file. With
 * SIMULATED_RTC_SILENT it does not tell when a second begins. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/rtc.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static int device = -1;

struct state {
	double at, fast, rate;
};

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static struct state load(void)
{
	struct state s = { 0, 0, 0 };
	FILE *file = fopen(getenv("SIMULATED_RTC"), "r");
	if (!file || fscanf(file, "%lf %lf %lf", &s.at, &s.fast, &s.rate) != 3)
		abort();
	fclose(file);
	return s;
}

static double shown(struct state s, double at)
{
	return at + s.fast + s.rate * (at - s.at);
}

static struct timespec span(double seconds)
{
	struct timespec t = { (time_t)seconds, (long)((seconds - floor(seconds)) * 1e9) };
	return t;
}

static int tell_updates(int on)
{
	struct itimerspec timer = { 0 };
	if (getenv("SIMULATED_RTC_SILENT")) {
		errno = EINVAL;
		return -1;
	}
	if (on) {
		struct state s = load();
		double at = now(), here = shown(s, at);
		timer.it_value = span(at + (floor(here) + 1 - here) / (1 + s.rate));
		timer.it_interval = span(1 / (1 + s.rate));
	}
	return timerfd_settime(device, TFD_TIMER_ABSTIME, &timer, NULL);
}

static int read_time(struct rtc_time *to)
{
	time_t second = (time_t)floor(shown(load(), now()));
	struct tm tm;
	gmtime_r(&second, &tm);
	*to = (struct rtc_time){ .tm_sec = tm.tm_sec, .tm_min = tm.tm_min, .tm_hour = tm.tm_hour,
		.tm_mday = tm.tm_mday, .tm_mon = tm.tm_mon, .tm_year = tm.tm_year };
	return 0;
}

static int set_time(const struct rtc_time *from)
{
	struct tm tm = { .tm_sec = from->tm_sec, .tm_min = from->tm_min, .tm_hour = from->tm_hour,
		.tm_mday = from->tm_mday, .tm_mon = from->tm_mon, .tm_year = from->tm_year };
	double rate = load().rate, at = now();
	FILE *file = fopen(getenv("SIMULATED_RTC"), "w");
	if (!file)
		abort();
	fprintf(file, "%.6f %.6f %.9f\n", at, timegm(&tm) - at, rate);
	fclose(file);
	return 0;
}

#define OPEN(name) \
	int name(const char *path, int flags, ...) \
	{ \
		va_list rest; \
		va_start(rest, flags); \
		int mode = va_arg(rest, int); \
		va_end(rest); \
		if (path && !strcmp(path, "/dev/rtc")) \
			return device = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC); \
		return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(path, flags, mode); \
	}

OPEN(open)
OPEN(open64)
OPEN(__open_2)
OPEN(__open64_2)

int ioctl(int fd, unsigned long request, ...)
{
	va_list rest;
	va_start(rest, request);
	void *argument = va_arg(rest, void *);
	va_end(rest);
	if (device < 0 || fd != device)
		return (int)syscall(SYS_ioctl, fd, request, argument);
	switch (request) {
	case RTC_UIE_ON:
		return tell_updates(1);
	case RTC_UIE_OFF:
		return tell_updates(0);
	case RTC_RD_TIME:
		return read_time(argument);
	case RTC_SET_TIME:
		return set_time(argument);
	}
	errno = ENOTTY;
	return -1;
}

ssize_t read(int fd, void *to, size_t octets)
{
	ssize_t got = syscall(SYS_read, fd, to, octets);
	if (device >= 0 && fd == device && got == 8) {
		unsigned long told = 1 << 8 | RTC_UF | RTC_IRQF;
		memcpy(to, &told, sizeof(told));
	}
	return got;
}
