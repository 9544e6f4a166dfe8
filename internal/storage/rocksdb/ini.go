package rocksdb

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/dkvdb/dkv/internal/storage"
)

// load applies an ini file of raw RocksDB options over the settings; the
// package comment describes its form. The error wraps storage.ErrBadOptions and
// names file and line.
func (s *settings) load(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: ini file: %w", storage.ErrBadOptions, err)
	}
	var in section
	for i, line := range strings.Split(string(text), "\n") {
		if in, err = s.loadLine(in, line); err != nil {
			return fmt.Errorf("%w: %s:%d: %w", storage.ErrBadOptions, path, i+1, err)
		}
	}
	return nil
}

type sectionKind uint8

const (
	anySection     sectionKind = iota // before the first header
	versionSection                    // which RocksDB wrote the file: of no interest
	dbSection
	familySection
	tableSection
)

// section is where the lines that follow its header apply.
type section struct {
	kind  sectionKind
	space storage.Space // of a family or table section
}

// loadLine applies a line of the section in, and returns the section of the
// next one.
func (s *settings) loadLine(in section, line string) (section, error) {
	line = strings.TrimSpace(stripComment(line))
	if line == "" {
		return in, nil
	}
	if line[0] == '[' {
		return parseHeader(line)
	}
	name, value, ok := strings.Cut(line, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || name == "" {
		return in, fmt.Errorf("%q is neither a [section] nor name=value", line)
	}
	return in, s.set(in, name, value)
}

// stripComment cuts line at the first '#' that no backslash escapes.
func stripComment(line string) string {
	for i := range len(line) {
		if line[i] == '#' && (i == 0 || line[i-1] != '\\') {
			return line[:i]
		}
	}
	return line
}

// parseHeader reads [kind] or [kind "family"].
func parseHeader(line string) (section, error) {
	body, ok := strings.CutSuffix(line[1:], "]")
	if !ok {
		return section{}, fmt.Errorf("section header %s has no closing bracket", line)
	}
	kind, argument, _ := strings.Cut(strings.TrimSpace(body), " ")
	var in section
	switch kind {
	case "Version":
		return section{kind: versionSection}, nil
	case "DBOptions":
		return section{kind: dbSection}, nil
	case "CFOptions":
		in.kind = familySection
	case "TableOptions/BlockBasedTable":
		in.kind = tableSection
	default:
		return in, fmt.Errorf(`unknown section [%s]: use DBOptions, CFOptions "name" or TableOptions/BlockBasedTable "name"`, kind)
	}
	name := strings.Trim(strings.TrimSpace(argument), `"`)
	i := slices.Index(familyNames[:], name)
	if i < 0 {
		return in, fmt.Errorf("section [%s] names column family %q: use one of %s", kind, name, strings.Join(familyNames[:], ", "))
	}
	in.space = storage.Space(i)
	return in, nil
}

// set applies one option.
func (s *settings) set(in section, name, value string) error {
	var err error
	switch in.kind {
	case versionSection:
	case dbSection:
		err = s.setOption(C.DKV_DB_SECTION, 0, name, value)
	case familySection:
		err = s.setOption(C.DKV_CF_SECTION, in.space, name, value)
	case tableSection:
		err = s.setOption(C.DKV_TABLE_SECTION, in.space, name, value)
	case anySection:
		err = s.setAnywhere(name, value)
	}
	if errors.Is(err, errUnknownOption) {
		return fmt.Errorf("RocksDB knows no option %q here", name)
	}
	return err
}

// setAnywhere applies an option to whatever knows it: the database, else every
// space, else every space's tables.
func (s *settings) setAnywhere(name, value string) error {
	err := s.setOption(C.DKV_DB_SECTION, 0, name, value)
	if errors.Is(err, errUnknownOption) {
		err = s.setSpaces(C.DKV_CF_SECTION, name, value)
	}
	if errors.Is(err, errUnknownOption) {
		err = s.setSpaces(C.DKV_TABLE_SECTION, name, value)
	}
	return err
}

func (s *settings) setSpaces(section C.int, name, value string) error {
	for space := range storage.Space(storage.Spaces) {
		if err := s.setOption(section, space, name, value); err != nil {
			return err
		}
	}
	return nil
}

var errUnknownOption = errors.New("unknown option")

// setOption sets one option of a section by its name; space is that of a section
// of one. The error is errUnknownOption if the section has no such option.
func (s *settings) setOption(section C.int, space storage.Space, name, value string) error {
	cName, cValue := C.CString(name), C.CString(value)
	defer C.free(unsafe.Pointer(cName))
	defer C.free(unsafe.Pointer(cValue))
	set := C.dkv_options_set(s.native, section, C.size_t(space), cName, cValue)
	if set.code == C.DKV_OK {
		return nil
	}
	text := C.GoString(set.message)
	C.free(unsafe.Pointer(set.message))
	if set.code == C.DKV_NOT_FOUND {
		return errUnknownOption
	}
	return fmt.Errorf("%s=%s: %s", name, value, text)
}
