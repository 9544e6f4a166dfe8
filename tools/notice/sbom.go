package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// bill is what is checked of a bill of materials in CycloneDX's JSON.
type bill struct {
	Format       string `json:"bomFormat"`
	Spec         string `json:"specVersion"`
	SerialNumber string `json:"serialNumber"`
	Components   []struct {
		Name     string `json:"name"`
		Version  string `json:"version"`
		PURL     string `json:"purl"`
		Licenses []any  `json:"licenses"`
	} `json:"components"`
}

// checkSBOM reports whether a bill of materials is one, and names every module that the
// server is linked with, with its licence.
func checkSBOM(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	modules, err := linkedWith("github.com/dkvdb/dkv/cmd/dkvsrv")
	if err != nil {
		return err
	}
	if err := compare(raw, modules); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// compare checks a bill of materials against the modules that it has to name.
func compare(raw []byte, modules []module) error {
	var b bill
	if err := json.Unmarshal(raw, &b); err != nil {
		return err
	}
	if b.Format != "CycloneDX" || !strings.HasPrefix(b.Spec, "1.") || !strings.HasPrefix(b.SerialNumber, "urn:uuid:") {
		return fmt.Errorf("it is %q %q with serial number %q, which is no CycloneDX", b.Format, b.Spec, b.SerialNumber)
	}
	licensed := make(map[string]bool)
	for _, c := range b.Components {
		if c.PURL == "" {
			return fmt.Errorf("%s has no package URL", c.Name)
		}
		licensed[c.Name+" "+c.Version] = len(c.Licenses) > 0
	}
	var errs []error
	for _, m := range modules {
		if has, there := licensed[m.path+" "+m.version]; !there {
			errs = append(errs, fmt.Errorf("%s %s is missing", m.path, m.version))
		} else if !has {
			errs = append(errs, fmt.Errorf("%s %s has no licence", m.path, m.version))
		}
	}
	return errors.Join(errs...)
}
