package restoration

// RunUntil is Run with a function that is called behind each step; ErrCrash from that ends the
// process's part there, as a crash does.
var (
	RunUntil = run
	ErrCrash = errCrash
)
