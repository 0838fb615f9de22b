/* Steps the host's clock for one process (LD_PRELOAD): CLOCK_REALTIME moves by the nanoseconds that the file named by
 * LEGATE_CLOCK_STEP holds as a 64-bit number; what measures durations is left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *step;
static int (*real_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("LEGATE_CLOCK_STEP");
  int file = path == NULL ? -1 : open(path, O_RDONLY);
  real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  if (file < 0) return;
  void *map = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  if (map != MAP_FAILED) step = map;
  close(file);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  if (real_gettime == NULL) real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real_gettime(clock, time);
  if (failed != 0 || step == NULL || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
  int64_t at = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + *step;
  time->tv_sec = at / 1000000000;
  time->tv_nsec = at % 1000000000;
  return 0;
}

int gettimeofday(struct timeval *time, void *zone) {
  struct timespec now;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return 0;
}
