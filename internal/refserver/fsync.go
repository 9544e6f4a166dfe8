package refserver

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
)

// ServeFsync answers puts and gets on l until ctx ends: the simplest durable server.
// Each put appends its record to a new file in dir and fsyncs it before it answers, one
// put after the other. Gets read a map.
func ServeFsync(ctx context.Context, l net.Listener, dir string) error {
	file, err := os.CreateTemp(dir, "fsync-*.log")
	if err != nil {
		l.Close()
		return fmt.Errorf("cannot create the log of the reference server: %w", err)
	}
	f := &fsyncServer{file: file, pairs: make(map[string][]byte)}
	err = serve(ctx, l, func(s *grpc.Server) { serverpb.RegisterDKVServer(s, f) })
	if closeErr := file.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("cannot close %s: %w", filepath.Base(file.Name()), closeErr)
	}
	return err
}

type fsyncServer struct {
	serverpb.UnimplementedDKVServer

	mu     sync.Mutex
	file   *os.File
	record []byte
	index  uint64
	pairs  map[string][]byte
}

// append writes one record: the lengths of key and value, then both.
func (f *fsyncServer) append(puts []*serverpb.PutRequest) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record = f.record[:0]
	for _, p := range puts {
		f.record = binary.AppendUvarint(f.record, uint64(len(p.GetKey())))
		f.record = binary.AppendUvarint(f.record, uint64(len(p.GetValue())))
		f.record = append(append(f.record, p.GetKey()...), p.GetValue()...)
	}
	if _, err := f.file.Write(f.record); err != nil {
		return 0, status.Errorf(codes.Internal, "%v; outcome unknown", err)
	}
	if err := f.file.Sync(); err != nil {
		return 0, status.Errorf(codes.Internal, "%v; outcome unknown", err)
	}
	for _, p := range puts {
		f.pairs[string(p.GetKey())] = p.GetValue()
	}
	f.index++
	return f.index, nil
}

func (f *fsyncServer) Put(_ context.Context, req *serverpb.PutRequest) (*serverpb.PutResponse, error) {
	index, err := f.append([]*serverpb.PutRequest{req})
	if err != nil {
		return nil, err
	}
	return &serverpb.PutResponse{Status: &serverpb.Status{}, Index: index}, nil
}

func (f *fsyncServer) MultiPut(_ context.Context, req *serverpb.MultiPutRequest) (*serverpb.PutResponse, error) {
	index, err := f.append(req.GetPutRequest())
	if err != nil {
		return nil, err
	}
	return &serverpb.PutResponse{Status: &serverpb.Status{}, Index: index}, nil
}

func (f *fsyncServer) Get(_ context.Context, req *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	value, found := f.pairs[string(req.GetKey())]
	return &serverpb.GetResponse{Status: &serverpb.Status{}, Value: value, Found: found, Index: f.index}, nil
}

func (f *fsyncServer) MultiGet(_ context.Context, req *serverpb.MultiGetRequest) (*serverpb.MultiGetResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	res := &serverpb.MultiGetResponse{Status: &serverpb.Status{}, Index: f.index}
	for _, key := range req.GetKeys() {
		if value, found := f.pairs[string(key)]; found {
			res.KeyValues = append(res.KeyValues, &serverpb.KVPair{Key: key, Value: value})
		}
	}
	return res, nil
}
