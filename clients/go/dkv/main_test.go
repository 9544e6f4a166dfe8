package dkv_test

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/clients/go/dkv"
)

// The server that the examples talk to.
var (
	exampleServer  dkv.ExampleServer
	exampleAddress string
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(withServer{m}) }

// withServer runs the tests while a server for the examples runs.
type withServer struct{ *testing.M }

func (w withServer) Run() int {
	var s standIn
	defer s.end()
	exampleServer = dkv.StartExampleServer(&s)
	exampleAddress = exampleServer.Address()
	return w.M.Run()
}

// standIn is a testing.TB for use outside of a test.
type standIn struct {
	testing.TB
	cleanups []func()
}

func (s *standIn) Helper()           {}
func (s *standIn) Cleanup(f func())  { s.cleanups = append(s.cleanups, f) }
func (s *standIn) Error(args ...any) { panic(fmt.Sprint(args...)) }
func (s *standIn) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (s *standIn) end() {
	for _, f := range s.cleanups {
		f()
	}
}
