package server

import (
	"context"

	"google.golang.org/grpc"
)

// registrar registers services so that their unary calls pass through calls before their
// messages are read; an interceptor would see them only afterwards.
type registrar struct {
	*grpc.Server
	calls *calls
}

// RegisterService implements grpc.ServiceRegistrar.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	watched := *desc
	watched.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		full := "/" + desc.ServiceName + "/" + m.MethodName
		h := r.calls.unary(full, m.Handler)
		watched.Methods[i] = grpc.MethodDesc{MethodName: m.MethodName, Handler: h}
		r.calls.unaries[full] = served{srv: impl, handler: h}
	}
	for _, stream := range desc.Streams {
		r.calls.streamed["/"+desc.ServiceName+"/"+stream.StreamName] = streamed{srv: impl, handler: stream.Handler}
	}
	r.Server.RegisterService(&watched, impl)
}

// handler is what a grpc.MethodDesc calls.
type handler = func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error)
