package bench

import (
	"context"
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/refserver"
)

// workload makes the operations of the workers. It holds what they share.
type workload struct {
	cfg    *Config
	values *values
	zipf   *zipf
	prefix string
	// classes name what is measured apart.
	classes []string
}

func newWorkload(cfg *Config) *workload {
	w := &workload{cfg: cfg, values: newValues(cfg.ValueSize, cfg.Seed), prefix: cfg.keyPrefix(), classes: []string{string(cfg.Operation)}}
	if cfg.Zipf > 0 {
		w.zipf = newZipf(cfg.Keys, cfg.Zipf)
	}
	if cfg.Operation == Mixed {
		w.classes = []string{string(Get), string(Put)}
	}
	return w
}

// operation makes the operation of one worker.
func (w *workload) operation(conn grpc.ClientConnInterface, worker int) operation {
	b := &base{workload: w, conn: conn, choose: newChooser(w.cfg, w.zipf, worker)}
	switch w.cfg.Operation {
	case Put:
		if w.cfg.Ledger != nil {
			return newLedgerPut(b)
		}
		return newPutOp(b)
	case Get:
		return newGetOp(b)
	case Mixed:
		return &mixedOp{base: b, get: newGetOp(b), put: newPutOp(b)}
	case Iterate:
		return newIterateOp(b)
	case MultiPut:
		return newMultiPutOp(b)
	case MultiGet:
		return newMultiGetOp(b)
	case CAS:
		return &casOp{base: b, req: serverpb.CompareAndSetRequest{Key: b.newKey()}}
	case Incr:
		return &incrOp{base: b, req: serverpb.IncrementRequest{Key: b.newKey(), Delta: 1}}
	default:
		return &echoOp{base: b, req: serverpb.PutRequest{Key: b.newKey()}}
	}
}

// base is what all operations of one worker need.
type base struct {
	*workload
	conn   grpc.ClientConnInterface
	choose *chooser
}

func (b *base) newKey() []byte { return make([]byte, b.cfg.KeySize) }

// nextKey fills key with a chosen key and returns its index.
func (b *base) nextKey(key []byte) uint64 {
	n := b.choose.next()
	writeKey(key, b.prefix, n)
	return n
}

func (b *base) randomValue() []byte { return b.values.at(b.choose.rand.Uint64()) }

func (b *base) consistency() serverpb.ReadConsistency {
	if b.cfg.Linearizable {
		return serverpb.ReadConsistency_LINEARIZABLE
	}
	return serverpb.ReadConsistency_SEQUENTIAL
}

// failed turns the status inside a response into an error.
func failed(st *serverpb.Status) error {
	if st.GetCode() == 0 {
		return nil
	}
	return status.Error(codes.Unknown, st.GetMessage())
}

type putOp struct {
	*base
	req serverpb.PutRequest
	res serverpb.PutResponse
}

func newPutOp(b *base) *putOp { return &putOp{base: b, req: serverpb.PutRequest{Key: b.newKey()}} }

func (o *putOp) do(ctx context.Context) (effect, error) {
	o.nextKey(o.req.Key)
	o.req.Value = o.randomValue()
	return effect{items: 1}, o.send(ctx)
}

func (o *putOp) send(ctx context.Context) error {
	if err := o.conn.Invoke(ctx, serverpb.DKV_Put_FullMethodName, &o.req, &o.res); err != nil {
		return err
	}
	return failed(o.res.Status)
}

type getOp struct {
	*base
	req serverpb.GetRequest
	res serverpb.GetResponse
}

func newGetOp(b *base) *getOp {
	return &getOp{base: b, req: serverpb.GetRequest{Key: b.newKey(), ReadConsistency: b.consistency()}}
}

func (o *getOp) do(ctx context.Context) (effect, error) {
	o.nextKey(o.req.Key)
	if err := o.conn.Invoke(ctx, serverpb.DKV_Get_FullMethodName, &o.req, &o.res); err != nil {
		return effect{}, err
	}
	if !o.res.Found && len(o.res.Value) == 0 {
		return effect{unmatched: 1}, failed(o.res.Status)
	}
	return effect{items: 1}, failed(o.res.Status)
}

type mixedOp struct {
	*base
	get *getOp
	put *putOp
}

func (o *mixedOp) do(ctx context.Context) (effect, error) {
	if o.choose.rand.Float64() < o.cfg.ReadRatio {
		return o.get.do(ctx)
	}
	e, err := o.put.do(ctx)
	e.class = 1
	return e, err
}

type iterateOp struct {
	*base
	client serverpb.DKVClient
	req    serverpb.IterateRequest
}

func newIterateOp(b *base) *iterateOp {
	return &iterateOp{base: b, client: serverpb.NewDKVClient(b.conn), req: serverpb.IterateRequest{
		KeyPrefix: []byte(b.cfg.Prefix), StartKey: b.newKey(), Limit: uint64(b.cfg.Scan), Batched: true,
		ReadConsistency: b.consistency()}}
}

func (o *iterateOp) do(ctx context.Context) (effect, error) {
	o.nextKey(o.req.StartKey)
	stream, err := o.client.Iterate(ctx, &o.req)
	if err != nil {
		return effect{}, err
	}
	var e effect
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return e, nil
		}
		if err != nil {
			return e, err
		}
		e.items += uint64(len(res.Pairs))
		if len(res.Key) > 0 {
			e.items++
		}
	}
}

type multiPutOp struct {
	*base
	req serverpb.MultiPutRequest
	res serverpb.PutResponse
}

func newMultiPutOp(b *base) *multiPutOp {
	o := &multiPutOp{base: b}
	for range b.cfg.Batch {
		o.req.PutRequest = append(o.req.PutRequest, &serverpb.PutRequest{Key: b.newKey()})
	}
	return o
}

func (o *multiPutOp) do(ctx context.Context) (effect, error) {
	for _, put := range o.req.PutRequest {
		o.nextKey(put.Key)
		put.Value = o.randomValue()
	}
	if err := o.conn.Invoke(ctx, serverpb.DKV_MultiPut_FullMethodName, &o.req, &o.res); err != nil {
		return effect{}, err
	}
	return effect{items: uint64(len(o.req.PutRequest))}, failed(o.res.Status)
}

type multiGetOp struct {
	*base
	req serverpb.MultiGetRequest
	res serverpb.MultiGetResponse
}

func newMultiGetOp(b *base) *multiGetOp {
	o := &multiGetOp{base: b, req: serverpb.MultiGetRequest{ReadConsistency: b.consistency()}}
	for range b.cfg.Batch {
		o.req.Keys = append(o.req.Keys, b.newKey())
	}
	return o
}

func (o *multiGetOp) do(ctx context.Context) (effect, error) {
	for _, key := range o.req.Keys {
		o.nextKey(key)
	}
	// A key that is asked for twice may be answered once.
	slices.SortFunc(o.req.Keys, slices.Compare)
	distinct := 1
	for i := 1; i < len(o.req.Keys); i++ {
		if !slices.Equal(o.req.Keys[i-1], o.req.Keys[i]) {
			distinct++
		}
	}
	if err := o.conn.Invoke(ctx, serverpb.DKV_MultiGet_FullMethodName, &o.req, &o.res); err != nil {
		return effect{}, err
	}
	found := len(o.res.KeyValues)
	return effect{items: uint64(found), unmatched: uint64(max(distinct-found, 0))}, failed(o.res.Status)
}

// casOp replaces the preloaded value of a key by the same one, so that every
// attempt succeeds and none depends on another.
type casOp struct {
	*base
	req serverpb.CompareAndSetRequest
	res serverpb.CompareAndSetResponse
}

func (o *casOp) do(ctx context.Context) (effect, error) {
	value := o.values.ofKey(o.nextKey(o.req.Key))
	o.req.OldValue, o.req.NewValue = value, value
	if err := o.conn.Invoke(ctx, serverpb.DKV_CompareAndSet_FullMethodName, &o.req, &o.res); err != nil {
		return effect{}, err
	}
	if !o.res.Updated {
		return effect{unmatched: 1}, failed(o.res.Status)
	}
	return effect{items: 1}, failed(o.res.Status)
}

type incrOp struct {
	*base
	req serverpb.IncrementRequest
	res serverpb.IncrementResponse
}

func (o *incrOp) do(ctx context.Context) (effect, error) {
	o.nextKey(o.req.Key)
	if err := o.conn.Invoke(ctx, serverpb.DKV_Increment_FullMethodName, &o.req, &o.res); err != nil {
		return effect{}, err
	}
	return effect{items: 1}, failed(o.res.Status)
}

// echoOp sends a key and a value and gets both back.
type echoOp struct {
	*base
	req, res serverpb.PutRequest
}

func (o *echoOp) do(ctx context.Context) (effect, error) {
	o.nextKey(o.req.Key)
	o.req.Value = o.randomValue()
	return effect{items: 1}, o.conn.Invoke(ctx, refserver.EchoMethod, &o.req, &o.res)
}
