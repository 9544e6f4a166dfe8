package tracing

import (
	"context"
	"fmt"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// uploads sends spans to a collector. The exporter of OpenTelemetry's own gRPC client makes
// every gRPC server and client of the process take compressed messages, whose true size is
// known only after they have been decompressed.
type uploads struct {
	options Options
	conn    *grpc.ClientConn
}

// Start implements otlptrace.Client. It does not wait for the collector.
func (u *uploads) Start(context.Context) (err error) {
	secure := insecure.NewCredentials()
	if u.options.TLS != nil {
		secure = credentials.NewTLS(u.options.TLS)
	}
	u.conn, err = grpc.NewClient(u.options.Endpoint, grpc.WithTransportCredentials(secure))
	return err
}

// Stop implements otlptrace.Client.
func (u *uploads) Stop(context.Context) error { return u.conn.Close() }

// UploadTraces implements otlptrace.Client.
func (u *uploads) UploadTraces(ctx context.Context, spans []*otlp.ResourceSpans) error {
	resp, err := collector.NewTraceServiceClient(u.conn).Export(ctx, &collector.ExportTraceServiceRequest{ResourceSpans: spans})
	if err != nil {
		return err
	}
	if rejected := resp.GetPartialSuccess(); rejected.GetRejectedSpans() > 0 {
		return fmt.Errorf("the collector has rejected %d spans: %s", rejected.GetRejectedSpans(), rejected.GetErrorMessage())
	}
	return nil
}
