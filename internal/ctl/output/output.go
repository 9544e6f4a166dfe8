// Package output prints the results of dkvctl: as text, with values as they are, or as
// one JSON document a line.
package output

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// Printer writes results to W, as JSON documents if JSON is set.
type Printer struct {
	W    *bufio.Writer
	JSON bool
	buf  []byte // reused by line and document
}

// Line prints one line of text, with what is not Printable escaped.
func (p *Printer) Line(parts ...string) error {
	p.buf = p.buf[:0]
	for _, part := range parts {
		p.buf = append(p.buf, Printable(part)...)
	}
	p.buf = append(p.buf, '\n')
	_, err := p.W.Write(p.buf)
	return err
}

// Raw prints parts as they are, and a newline.
func (p *Printer) Raw(parts ...[]byte) error {
	p.buf = p.buf[:0]
	for _, part := range parts {
		p.buf = append(p.buf, part...)
	}
	p.buf = append(p.buf, '\n')
	_, err := p.W.Write(p.buf)
	return err
}

// Document prints a JSON document with the members that fill adds.
func (p *Printer) Document(fill func(*Object)) error {
	o := Object{buf: append(p.buf[:0], '{')}
	fill(&o)
	p.buf = append(o.buf, '}', '\n')
	_, err := p.W.Write(p.buf)
	return err
}

// Value prints any value as one JSON document.
func (p *Printer) Value(v any) error {
	enc := json.NewEncoder(p.W)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// OK prints the result of a command that only succeeds or fails.
func (p *Printer) OK(index uint64) error {
	if !p.JSON {
		return p.Line("OK")
	}
	return p.Document(func(o *Object) {
		o.Str("status", "OK")
		if index != 0 {
			o.Uint("index", index)
		}
	})
}

// Pair prints a key with its value.
func (p *Printer) Pair(key, value []byte, expireTS uint64) error {
	if !p.JSON {
		p.buf = append(p.buf[:0], key...)
		p.buf = append(p.buf, " => "...)
		p.buf = append(append(p.buf, value...), '\n')
		_, err := p.W.Write(p.buf)
		return err
	}
	return p.Document(func(o *Object) { o.Pair(key, value, expireTS) })
}

// Object builds a JSON object member by member, in order and without
// reflection: -iter prints millions of them.
type Object struct{ buf []byte }

func (o *Object) name(name string) {
	if last := o.buf[len(o.buf)-1]; last != '{' {
		o.buf = append(o.buf, ',')
	}
	o.buf = append(appendJSONString(o.buf, name), ':')
}

// Str adds a text.
func (o *Object) Str(name, value string) {
	o.name(name)
	o.buf = appendJSONString(o.buf, value)
}

// StrIfAny adds a text unless it is empty.
func (o *Object) StrIfAny(name, value string) {
	if value != "" {
		o.Str(name, value)
	}
}

// Uint adds a number.
func (o *Object) Uint(name string, value uint64) {
	o.name(name)
	o.buf = strconv.AppendUint(o.buf, value, 10)
}

// Int adds a number.
func (o *Object) Int(name string, value int64) {
	o.name(name)
	o.buf = strconv.AppendInt(o.buf, value, 10)
}

// Bool adds true or false.
func (o *Object) Bool(name string, value bool) {
	o.name(name)
	o.buf = strconv.AppendBool(o.buf, value)
}

// Bytes adds a key or value: as a string if it is valid UTF-8, otherwise in base64 with
// "_base64" added to its name.
func (o *Object) Bytes(name string, value []byte) {
	if utf8.Valid(value) {
		o.name(name)
		o.buf = appendJSONString(o.buf, value)
		return
	}
	o.name(name + "_base64")
	o.buf = append(o.buf, '"')
	o.buf = base64.StdEncoding.AppendEncode(o.buf, value)
	o.buf = append(o.buf, '"')
}

// Pair adds a key, its value and when it expires.
func (o *Object) Pair(key, value []byte, expireTS uint64) {
	o.Bytes("key", key)
	o.Bytes("value", value)
	o.Expiry(expireTS)
}

// Expiry adds when a key expires, in epoch seconds, unless it never does.
func (o *Object) Expiry(expireTS uint64) {
	if expireTS != 0 {
		o.Uint("expire_ts", expireTS)
	}
}

// appendJSONString appends s, which is valid UTF-8, as a JSON string.
func appendJSONString[S string | []byte](dst []byte, s S) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	copied := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
			continue
		}
		dst = append(dst, s[copied:i]...)
		copied = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[copied:]...)
	return append(dst, '"')
}
