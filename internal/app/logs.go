package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/dkvdb/dkv/internal/accesslog"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/telemetry"
	"github.com/dkvdb/dkv/internal/tracing"
	"github.com/dkvdb/dkv/internal/version"
)

// openAccessLog opens the access log; it is nil if there is none.
func (a *app) openAccessLog() (*accesslog.Log, error) {
	cfg := &a.node.Config.Log
	if cfg.Access == "" {
		return nil, nil
	}
	o := accesslog.Options{
		File: cfg.Access, MaxSize: int64(cfg.AccessSize), Files: cfg.AccessFiles, JSON: cfg.Format == config.LogJSON,
		Node: a.node.Config.Node.Name, Database: a.node.Layout.Database, Common: a.node.Log,
	}
	if cfg.Access == config.CommonLog {
		// The last events in memory are for people, who would find nothing else among them.
		o.File, o.Common = "", telemetry.Unkept(a.node.Log)
	}
	l, err := accesslog.New(o)
	if err != nil {
		return nil, err
	}
	a.node.OnClose(l.Close)
	a.node.OnReload(l.Reopen)
	return l, a.metrics.Register(l)
}

// openTracer makes what sends the spans of requests to a collector; it is nil without one.
func (a *app) openTracer() (*tracing.Tracer, error) {
	cfg := a.node.Config
	if cfg.Ops.TraceEndpoint == "" {
		return nil, nil
	}
	o := tracing.Options{
		Endpoint: cfg.Ops.TraceEndpoint, Sample: cfg.Ops.TraceSample, Log: a.node.Log,
		Node: cfg.Node.Name, Address: a.node.Info.Address, Version: version.String(), Database: a.node.Layout.Database,
	}
	if host, secure := strings.CutPrefix(o.Endpoint, "https://"); secure {
		o.Endpoint = host
		var err error
		if o.TLS, err = collectorTLS(&cfg.Security); err != nil {
			return nil, err
		}
	}
	var err error
	if o.Headers, err = collectorHeaders(); err != nil {
		return nil, err
	}
	t, err := tracing.New(o)
	if err != nil {
		return nil, err
	}
	a.node.OnClose(t.Close)
	return t, nil
}

// collectorHeaders are the headers that the variables of OpenTelemetry name for collectors.
// Those of the variable for traces are used instead of the general ones.
func collectorHeaders() (map[string]string, error) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"} {
		if text := os.Getenv(name); text != "" {
			headers, err := tracing.ParseHeaders(text)
			if err != nil {
				return nil, fmt.Errorf("the environment's %s: %w", name, err)
			}
			return headers, nil
		}
	}
	return nil, nil
}

// collectorTLS is how the collector is spoken to: its certificate is checked by tls-ca-file,
// or by the authorities of the system without that, and is shown this node's if there is one.
func collectorTLS(cfg *config.Security) (*tls.Config, error) {
	out := &tls.Config{MinVersion: uint16(cfg.TLSMinVersion)}
	if cfg.TLSCAFile != "" {
		pem, err := os.ReadFile(cfg.TLSCAFile)
		if err != nil {
			return nil, fmt.Errorf("tls-ca-file: %w", err)
		}
		if out.RootCAs = x509.NewCertPool(); !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls-ca-file %s has no certificates", cfg.TLSCAFile)
		}
	}
	if cfg.TLSCertFile != "" {
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cfg.TLSCertFile, cfg.TLSKeyFile) // again for each connection: it is renewed
			return &pair, err
		}
	}
	return out, nil
}
