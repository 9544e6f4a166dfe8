#include <sys/prctl.h>

// What Linux gives a process, in nanoseconds, unless something has chosen another.
enum { kSystemsOwn = 50 * 1000 };

// Every thread inherits this from the one that starts it, so it has to be there
// before Go starts its own: this runs before Go does.
__attribute__((constructor)) static void dkv_timer_slack(void) {
  if (prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) == kSystemsOwn) {
    prctl(PR_SET_TIMERSLACK, 1000 * 1000, 0, 0, 0);
  }
}
