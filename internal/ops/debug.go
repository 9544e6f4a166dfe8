package ops

import (
	"bytes"
	"encoding/json"
	"expvar"
	"fmt"
	"net/http"
	"net/http/pprof"
)

// vars answers with the runtime's variables, those that libraries publish through expvar,
// and those of Options.Vars. The server publishes none through expvar itself: its list
// belongs to the process, and a name in it stays for good.
func (s *Server) vars(w http.ResponseWriter, r *http.Request) error {
	document := make(map[string]json.RawMessage)
	expvar.Do(func(kv expvar.KeyValue) {
		if text := []byte(kv.Value.String()); json.Valid(text) {
			document[kv.Key] = text
		}
	})
	for name, value := range s.options.Vars {
		var text bytes.Buffer
		if err := json.NewEncoder(&text).Encode(value()); err != nil {
			return fmt.Errorf("encode variable %q: %w", name, err)
		}
		document[name] = text.Bytes()
	}
	return s.writeDocument(w, r, http.StatusOK, document)
}

// registerPprof serves runtime profiles. Importing the package also puts them on
// http.DefaultServeMux, which this program does not serve.
func (s *Server) registerPprof() {
	s.get("/debug/pprof/", s.profile(pprof.Index))
	s.get("/debug/pprof/cmdline", s.profile(pprof.Cmdline))
	s.get("/debug/pprof/profile", s.profile(pprof.Profile))
	s.get("/debug/pprof/trace", s.profile(pprof.Trace))
	s.mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol) // GET and POST
}

// profile serves a profile. It may show parts of the memory and so is audited. There is no
// bound on the time that the response may take: a profile takes as long as ?seconds says.
func (s *Server) profile(h http.HandlerFunc) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		_, err := s.audited(r, r.URL.Path, nil, func() (any, error) {
			setWriteDeadline(w, 0)
			h(w, r)
			return nil, nil
		})
		return err
	}
}
