package lease

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Now implements Clock by CLOCK_BOOTTIME, which counts suspended time too.
//
// The raw system call spares the scheduler's bookkeeping: reading a clock never
// blocks. (The runtime's own clock would be cheaper
// still, but it stands still during a suspension, and then a lease would not
// end.)
func (SystemClock) Now() time.Duration {
	var ts unix.Timespec
	_, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		// There is no Linux without this clock. A reading of zero would make
		// leases immortal, so going on is no choice.
		panic("lease: CLOCK_BOOTTIME cannot be read: " + errno.Error())
	}
	return time.Duration(ts.Nano())
}
