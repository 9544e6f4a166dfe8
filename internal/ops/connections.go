package ops

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/conns"
)

// limit bounds the connections of a listener, and those from one host, so that there is room
// for the health checks of others. One connection is served even if the process has no file
// descriptor left: that is when operators ask for its health.
func limit(l net.Listener, o *Options) *conns.Listener {
	return conns.Limit(l, conns.Options{
		Max:        o.MaxConnections,
		MaxPerHost: (o.MaxConnections*3 + 3) / 4,
		Key:        "a share of the limit of open files",
		HostKey:    "three quarters of a share of the limit of open files",
		Refusal:    refusal(o.TLS),
		Handshake:  o.TLS != nil,
		Spare:      true,
		Log:        o.Logger,
	})
}

// refusal returns what a connection is sent for which there is no room: an alert, if it
// expects TLS.
func refusal(by *certs.Acceptor) func(string) []byte {
	if by.Mode() == certs.Required {
		return func(string) []byte { return certs.NoRoom() }
	}
	return unavailable
}

// unavailable is the answer to a connection that there is no room for.
func unavailable(reason string) []byte {
	body, _ := json.Marshal(map[string]string{"error": reason}) // a map of strings always encodes
	return fmt.Appendf(nil, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		len(body), body)
}

// atWork keeps a connection from being closed to make room for others while it serves a
// request.
func atWork(c net.Conn, state http.ConnState) {
	counted := below(c)
	if counted == nil {
		return
	}
	switch state {
	case http.StateActive:
		counted.Begin()
	case http.StateIdle:
		counted.End()
	}
}

// below returns the connection that is counted: below TLS, if there is any.
func below(c net.Conn) *conns.Conn {
	for {
		if counted, ok := c.(*conns.Conn); ok {
			return counted
		}
		outer, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = outer.NetConn()
	}
}

var (
	connectionsDesc = prometheus.NewDesc("dkv_http_connections", "Open HTTP connections.", nil, nil)
	refusedDesc     = prometheus.NewDesc("dkv_http_connections_refused_total", "HTTP connections that there was no room for.", nil, nil)
	displacedDesc   = prometheus.NewDesc("dkv_http_connections_displaced_total", "Idle HTTP connections that were closed to make room for others.", nil, nil)
)

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	ch <- connectionsDesc
	ch <- refusedDesc
	ch <- displacedDesc
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	stats := s.listener.Stats()
	ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(stats.Open))
	ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(stats.Refused))
	ch <- prometheus.MustNewConstMetric(displacedDesc, prometheus.CounterValue, float64(stats.Displaced))
}
