package nodes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/options"
)

// maxDocument is the largest answer over HTTP that is accepted, in bytes.
const maxDocument = 32 << 20

// GetJSON asks the HTTP address of a node for a document. The node's certificate is checked,
// and the token sent, as for requests at its gRPC address. The timeout is the request's.
// /health has its document with the status 503 too.
func (c *Client) GetJSON(ctx context.Context, addr, path string, into any) error {
	if err := c.MayAsk(addr); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	scheme := "http"
	if usesTLS(c.Options) {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+addr+path, nil)
	if err != nil {
		return err
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client, err := httpClient(c.Options)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%s does not answer over HTTP: %w", addr, unwrapURL(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return fmt.Errorf("%s%s: %w", addr, path, err)
	}
	// Also a node that is too busy answers 503, with an error.
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusServiceUnavailable && path == "/health" && errorIn(body) == "" {
		if err := json.Unmarshal(body, into); err != nil {
			return fmt.Errorf("%s%s answers with something else than the document: %w", addr, path, err)
		}
		return nil
	}
	return fmt.Errorf("%s%s: %s: %s", addr, path, resp.Status, said(body))
}

// said returns what an error's body says.
func said(body []byte) string {
	return cmp.Or(errorIn(body), strings.TrimSpace(string(body[:min(len(body), 200)])))
}

// errorIn returns the error that a body is; empty if it is something else.
func errorIn(body []byte) string {
	var document struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(body, &document) // other bodies have none
	return document.Error
}

// httpClient returns a client that keeps no connection, so that it need not be closed.
func httpClient(o *options.Options) (*http.Client, error) {
	cfg, err := tlsConfig(o)
	if err != nil {
		return nil, err
	}
	if cfg != nil {
		cfg.ServerName = o.Authority // empty: that of the address
	}
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true},
		// The token is for this node alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// unwrapURL returns the cause of an error of package http, which repeats the URL.
func unwrapURL(err error) error {
	if cause := errors.Unwrap(err); cause != nil {
		return cause
	}
	return err
}
