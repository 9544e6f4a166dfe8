package dkv

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/dkvdb/dkv/api/serverpb"
)

// TestEveryRequestNamesItsCluster stamps the request of each method of service DKV. A
// request without the mark would be served by any cluster.
func TestEveryRequestNamesItsCluster(t *testing.T) {
	methods := serverpb.File_api_api_proto.Services().ByName("DKV").Methods()
	for i := range methods.Len() {
		method := methods.Get(i)
		kind, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
		if err != nil {
			t.Fatal(err)
		}
		field := method.Input().Fields().ByName(clusterField)
		if field == nil || field.Kind() != protoreflect.Fixed64Kind {
			t.Errorf("%s: %s has no fixed64 %s", method.Name(), method.Input().Name(), clusterField)
			continue
		}
		req := kind.New()
		stamp(req.Interface(), 0xc1)
		if got := req.Get(field).Uint(); got != 0xc1 {
			t.Errorf("%s: the request is for cluster %x", method.Name(), got)
		}
	}
	if methods.Len() < 8 {
		t.Errorf("service DKV has only %d methods", methods.Len())
	}
}
