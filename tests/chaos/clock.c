/* The time of day as it would be had somebody set it: the true one, and the seconds that the file CHAOS_CLOCK holds.

   Preloaded. Monotonic clocks go on, as they do when a clock is set. A wait until a time of day is told the true one, so
   one that is under way when the clock jumps is not cut short. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *set_by_s;

__attribute__((constructor)) static void open_clock(void) {
  const char *name = getenv("CHAOS_CLOCK");
  int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *held = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  if (held != MAP_FAILED) set_by_s = held;
  close(file);
}

static int64_t set_by(void) { return set_by_s ? *set_by_s : 0; }

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += set_by();
  return failed;
}

int timespec_get(struct timespec *now, int base) { return clock_gettime(CLOCK_REALTIME, now) ? 0 : base; }

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec exact;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *kept) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (kept) *kept = exact.tv_sec;
  return exact.tv_sec;
}

/* No machine is up for as long as the epoch is old: what is later than this is a time of day. */
enum { DAYTIME_S = 1000000000 };

static struct timespec true_time(const struct timespec *until) {
  struct timespec same = *until;
  if (same.tv_sec > DAYTIME_S) same.tv_sec -= set_by();
  return same;
}

static void *next(const char *name, const char *version) {
  void *found = dlvsym(RTLD_NEXT, name, version);
  return found ? found : dlsym(RTLD_NEXT, name);
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  if (!wait) wait = next("pthread_cond_timedwait", "GLIBC_2.3.2"); /* older ones know another pthread_cond_t */
  struct timespec same = true_time(until);
  return wait(cond, mutex, &same);
}

/* C11's, which librdkafka waits by; in glibc it does not go through the one above. */
int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until) {
  static int (*wait)(cnd_t *, mtx_t *, const struct timespec *);
  if (!wait) wait = dlsym(RTLD_NEXT, "cnd_timedwait");
  struct timespec same = true_time(until);
  return wait(cond, mutex, &same);
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until) {
  static int (*wait)(sem_t *, const struct timespec *);
  if (!wait) wait = dlsym(RTLD_NEXT, "sem_timedwait");
  struct timespec same = true_time(until);
  return wait(sem, &same);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
  static int (*lock)(pthread_mutex_t *, const struct timespec *);
  if (!lock) lock = dlsym(RTLD_NEXT, "pthread_mutex_timedlock");
  struct timespec same = true_time(until);
  return lock(mutex, &same);
}
