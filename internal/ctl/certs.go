package ctl

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/ca"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// runCerts runs an action of -certs.
func runCerts(_ context.Context, s *session, args []string) error {
	switch action, names := strings.ToLower(args[0]), args[1:]; {
	case action == "init" && len(names) == 0:
		return s.certsInit()
	case action == "node":
		return s.certsNode(names)
	case action == "client" && len(names) == 1:
		return s.certsClient(names[0])
	case action == "rotate" && len(names) == 1 && strings.EqualFold(names[0], "ca"):
		return s.certsRotateCA()
	case action == "rotate":
		return s.certsRotate(names)
	case action == "show":
		return s.certsShow(names)
	case action == "init" || action == "client":
		return options.Usagef("-certs init takes no name, and -certs client one: dkvctl help certs")
	}
	return options.Usagef("-certs has no action %q: they are init, node, client, rotate and show; dkvctl help certs explains them", args[0])
}

// certsResult prints the certificates of files, and what to do next.
func (s *session) certsResult(files []string, next ...string) error {
	reports := ca.Show(files, filepath.Join(s.Dir, ca.CertFile), s.NodeName)
	if s.out.JSON {
		return s.out.Value(struct {
			Files []ca.Report `json:"files"`
			Next  []string    `json:"next,omitempty"`
		}{reports, next})
	}
	if err := output.WriteColumns(s.out.W, certRows(reports)); err != nil {
		return err
	}
	for _, line := range next {
		if err := s.out.Line(line); err != nil {
			return err
		}
	}
	return nil
}

func certRows(reports []ca.Report) [][]string {
	rows := make([][]string, len(reports))
	for i, r := range reports {
		rows[i] = []string{r.File, output.OrDash(r.Kind)}
		if !r.NotAfter.IsZero() {
			rows[i] = append(rows[i], fmt.Sprintf("%d days left", r.DaysLeft), "until "+r.NotAfter.Format(time.DateOnly), strings.Join(r.Names, " "))
		}
		if r.Problem != "" {
			rows[i] = append(rows[i], "PROBLEM: "+output.OneLine(strings.TrimPrefix(r.Problem, r.File+": ")))
		}
	}
	return rows
}

func (s *session) certsInit() error {
	a, err := ca.Init(s.Dir, s.Days)
	if err != nil {
		return err
	}
	defer a.Close()
	file := filepath.Join(s.Dir, ca.CertFile)
	return s.certsResult([]string{file},
		"Keep "+filepath.Join(s.Dir, ca.KeyFile)+" here, and nowhere else: it can make certificates of nodes, which have all rights.",
		"Next, for each node, with the names and addresses at which it is reached: dkvctl -certs node HOST ..."+s.dirFlag())
}

// dirFlag returns the option that the next command needs for the same folder.
func (s *session) dirFlag() string {
	if !s.Given["dir"] {
		return ""
	}
	return " -dir " + s.Dir
}

func (s *session) certsNode(hosts []string) error {
	a, err := ca.Open(s.Dir)
	if err != nil {
		return err
	}
	defer a.Close()
	file, err := a.IssueNode(ca.Node{Hosts: hosts, NodeName: s.NodeName, Loopback: s.Loopback, Days: s.Days})
	if err != nil {
		return err
	}
	next := fmt.Sprintf("Next, on the node: dkvsrv --tls-mode required --tls-ca-file %s --tls-cert-file %s --tls-key-file %s ...",
		filepath.Join(s.Dir, ca.CertFile), file, ca.KeyOf(file))
	if s.NodeName != "" && s.NodeName != ca.DefaultNodeName {
		next = strings.Replace(next, " ...", " --tls-node-name "+s.NodeName+" ...", 1)
	}
	return s.certsResult([]string{file}, next)
}

func (s *session) certsClient(name string) error {
	a, err := ca.Open(s.Dir)
	if err != nil {
		return err
	}
	defer a.Close()
	file, err := a.IssueClient(name, s.NodeName, s.Days)
	if err != nil {
		return err
	}
	return s.certsResult([]string{file},
		fmt.Sprintf("Next: give the name %s rights in auth-file, and call with dkvctl -caCert %s -cert %s -key %s ...",
			name, filepath.Join(s.Dir, ca.CertFile), file, ca.KeyOf(file)))
}

// certsRotate renews the certificates of files, or those that are due.
func (s *session) certsRotate(files []string) error {
	a, err := ca.Open(s.Dir)
	if err != nil {
		return err
	}
	defer a.Close()
	if len(files) == 0 {
		if files, err = a.Due(); err != nil {
			return err
		}
		if len(files) == 0 {
			return s.certsResult(nil, "No certificate in "+s.Dir+" is due: each has more than a third of its time left. dkvctl -certs rotate FILE renews one all the same.")
		}
	}
	for i, file := range files {
		if err := a.Renew(file, s.Days); err != nil {
			return s.certsPartly(files[:i], err)
		}
	}
	return s.certsResult(files, "Next: copy each certificate with its key to its host, where they are read again by themselves.")
}

// certsPartly returns the error of a renewal, and prints the certificates that were renewed
// before it: their former keys are gone, so that their hosts need the new ones.
func (s *session) certsPartly(renewed []string, err error) error {
	if len(renewed) == 0 {
		return err
	}
	next := "These are renewed all the same: copy each with its key to its host. The others stay as they were."
	return errors.Join(s.certsResult(renewed, next), err)
}

// certsRotateCA does the next step of replacing the authority.
func (s *session) certsRotateCA() error {
	a, err := ca.Open(s.Dir)
	if err != nil {
		return err
	}
	defer a.Close()
	done, files, err := a.Rotate(s.Days)
	switch {
	case err != nil && done == ca.Switched:
		return s.certsPartly(onlyCerts(files), err)
	case err != nil:
		return err
	}
	file, again := filepath.Join(s.Dir, ca.CertFile), "dkvctl -certs rotate ca"+s.dirFlag()
	switch done {
	case ca.Announced:
		return s.certsResult([]string{file}, "Step 1 of 3: "+file+" trusts the next authority too; the present one still issues.",
			"Next: copy it to every node and every client. When all have it: "+again)
	case ca.Switched:
		return s.certsResult(onlyCerts(files), "Step 2 of 3: the next authority issues from now on, and has renewed the certificates above.",
			"Next: copy each with its key to its host; renew by dkvctl -certs node and client what is kept elsewhere. When all are in use: "+again)
	}
	return s.certsResult([]string{file}, "Step 3 of 3: "+file+" trusts the new authority alone.",
		"Next: copy it to every node and every client; from then on they reject certificates of the former authority.")
}

// onlyCerts leaves out the files of keys.
func onlyCerts(files []string) (certs []string) {
	for _, f := range files {
		if strings.HasSuffix(f, ".pem") {
			certs = append(certs, f)
		}
	}
	return certs
}

func (s *session) certsShow(files []string) (err error) {
	if len(files) == 0 {
		if files, err = ca.Folder(s.Dir); err != nil {
			return err
		}
	}
	if err := s.certsResult(files); err != nil {
		return err
	}
	for _, r := range ca.Show(files, filepath.Join(s.Dir, ca.CertFile), s.NodeName) {
		if r.Problem != "" {
			return errors.New(strings.TrimPrefix(r.Problem, r.File+": ") + " (" + r.File + ")")
		}
	}
	return nil
}
