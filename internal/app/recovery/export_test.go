package recovery

// RunUntil is Run with a function that is called behind each step: an error ends the process's part
// there, as a crash does.
var RunUntil = run
