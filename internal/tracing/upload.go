package tracing

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"golang.org/x/net/http/httpguts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

const exportMethod = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

// uploads sends spans to a collector. The exporter of OpenTelemetry's own gRPC client makes
// every gRPC server and client of the process take compressed messages, whose true size is
// known only after they have been decompressed.
type uploads struct {
	options Options
	conn    *grpc.ClientConn
	// method is the call with the path of the endpoint before it.
	method  string
	headers metadata.MD
	stop    sync.Once
}

// Start implements otlptrace.Client. It does not wait for the collector.
func (u *uploads) Start(context.Context) (err error) {
	secure := insecure.NewCredentials()
	if u.options.TLS != nil {
		secure = credentials.NewTLS(u.options.TLS)
	}
	address, path, _ := strings.Cut(u.options.Endpoint, "/")
	u.method = exportMethod
	if path = strings.Trim(path, "/"); path != "" {
		u.method = "/" + path + u.method
	}
	u.headers = metadata.New(u.options.Headers)
	u.conn, err = grpc.NewClient(address, grpc.WithTransportCredentials(secure))
	return err
}

// Stop implements otlptrace.Client.
func (u *uploads) Stop(context.Context) (err error) {
	u.stop.Do(func() { err = u.conn.Close() })
	return err
}

// UploadTraces implements otlptrace.Client.
func (u *uploads) UploadTraces(ctx context.Context, spans []*otlp.ResourceSpans) error {
	var resp collector.ExportTraceServiceResponse
	ctx = metadata.NewOutgoingContext(ctx, u.headers)
	if err := u.conn.Invoke(ctx, u.method, &collector.ExportTraceServiceRequest{ResourceSpans: spans}, &resp); err != nil {
		return err
	}
	if rejected := resp.GetPartialSuccess(); rejected.GetRejectedSpans() > 0 {
		return fmt.Errorf("the collector has rejected %d spans: %s", rejected.GetRejectedSpans(), rejected.GetErrorMessage())
	}
	return nil
}

// ParseHeaders reads headers as OpenTelemetry's variables have them: NAME=VALUE, separated
// by commas, with values that may be percent-encoded. Errors do not have the values, which
// may be secret.
func ParseHeaders(text string) (map[string]string, error) {
	out := make(map[string]string)
	for i, header := range strings.Split(text, ",") {
		if strings.TrimSpace(header) == "" {
			continue
		}
		name, value, has := strings.Cut(header, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		value, err := url.PathUnescape(strings.TrimSpace(value))
		switch {
		case !has || !httpguts.ValidHeaderFieldName(name):
			return nil, fmt.Errorf("header %d is not NAME=VALUE; separate headers by commas", i+1)
		case err != nil || !httpguts.ValidHeaderFieldValue(value):
			return nil, fmt.Errorf("the value of header %s is not percent-encoded text", name)
		}
		out[name] = value
	}
	return out, nil
}
