//go:build !linux

// Bench measures DKV beside etcd and a bare gRPC echo. It needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: what servers use is read from /proc, which only Linux has")
	os.Exit(1)
}
