package dkv

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/dkvdb/dkv/internal/testkit"
)

// resetting is a server, or a proxy in front of one, that resets each stream with an
// HTTP/2 code when it has received all of the request.
func resetting(t *testing.T, code http2.ErrCode) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go resetAll(conn, code)
		}
	}()
	return l.Addr().String()
}

func resetAll(conn net.Conn, code http2.ErrCode) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(conn, conn)
	err := f.WriteSettings()
	for err == nil {
		var frame http2.Frame
		if frame, err = f.ReadFrame(); err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				err = f.WritePing(true, frame.Data)
			}
		case *http2.DataFrame:
			if frame.StreamEnded() {
				err = f.WriteRSTStream(frame.StreamID, code)
			}
		}
	}
}

// A reset stream proves nothing about its request, whatever the code of the reset: gRPC
// converts some of them to codes with which services reject requests.
func TestResetSaysNothingOfTheOutcome(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeEnhanceYourCalm, http2.ErrCodeInadequateSecurity, http2.ErrCodeInternal, http2.ErrCodeCancel} {
		t.Run(code.String(), func(t *testing.T) {
			addr := resetting(t, code)
			c := open(t, addr, WithFixedAddresses(), WithoutIdempotency(), WithTimeout(5*time.Second))
			_, err := c.Put(testkit.Within(t, enough), []byte("k"), []byte("v"))
			if !errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("a put that was cut off when all of it was there: %v", err)
			}
			for _, wrong := range []error{ErrInvalid, ErrUnauthenticated, ErrUnimplemented} {
				if errors.Is(err, wrong) {
					t.Errorf("it is taken for %v: %v", wrong, err)
				}
			}
		})
	}
}
