package ctl

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// printer writes results: as text, values raw, or one JSON document a line.
type printer struct {
	w    *bufio.Writer
	json bool
	buf  []byte // reused by line and document
}

// line prints one line of text.
func (p *printer) line(parts ...string) error {
	p.buf = p.buf[:0]
	for _, part := range parts {
		p.buf = append(p.buf, part...)
	}
	p.buf = append(p.buf, '\n')
	_, err := p.w.Write(p.buf)
	return err
}

// raw prints parts as they are, and a newline.
func (p *printer) raw(parts ...[]byte) error {
	p.buf = p.buf[:0]
	for _, part := range parts {
		p.buf = append(p.buf, part...)
	}
	p.buf = append(p.buf, '\n')
	_, err := p.w.Write(p.buf)
	return err
}

// document prints a JSON document whose members fill adds.
func (p *printer) document(fill func(*object)) error {
	o := object{buf: append(p.buf[:0], '{')}
	fill(&o)
	p.buf = append(o.buf, '}', '\n')
	_, err := p.w.Write(p.buf)
	return err
}

// value prints any value as one JSON document.
func (p *printer) value(v any) error {
	enc := json.NewEncoder(p.w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// ok prints the result of a command that has none but success.
func (p *printer) ok(index uint64) error {
	if !p.json {
		return p.line("OK")
	}
	return p.document(func(o *object) {
		o.str("status", "OK")
		if index != 0 {
			o.uint("index", index)
		}
	})
}

// pair prints a key with its value.
func (p *printer) pair(key, value []byte, expireTS uint64) error {
	if !p.json {
		p.buf = append(p.buf[:0], key...)
		p.buf = append(p.buf, " => "...)
		p.buf = append(append(p.buf, value...), '\n')
		_, err := p.w.Write(p.buf)
		return err
	}
	return p.document(func(o *object) { o.pair(key, value, expireTS) })
}

// object builds a JSON object member by member, in order and without
// reflection: -iter prints millions of them.
type object struct{ buf []byte }

func (o *object) name(name string) {
	if last := o.buf[len(o.buf)-1]; last != '{' {
		o.buf = append(o.buf, ',')
	}
	o.buf = append(appendJSONString(o.buf, name), ':')
}

func (o *object) str(name, value string) {
	o.name(name)
	o.buf = appendJSONString(o.buf, value)
}

// strIfAny adds a text that is known.
func (o *object) strIfAny(name, value string) {
	if value != "" {
		o.str(name, value)
	}
}

func (o *object) uint(name string, value uint64) {
	o.name(name)
	o.buf = strconv.AppendUint(o.buf, value, 10)
}

func (o *object) int(name string, value int64) {
	o.name(name)
	o.buf = strconv.AppendInt(o.buf, value, 10)
}

func (o *object) bool(name string, value bool) {
	o.name(name)
	o.buf = strconv.AppendBool(o.buf, value)
}

// bytes adds a key or value: as a string where it is valid UTF-8, otherwise
// with "_base64" behind its name.
func (o *object) bytes(name string, value []byte) {
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

func (o *object) pair(key, value []byte, expireTS uint64) {
	o.bytes("key", key)
	o.bytes("value", value)
	o.expiry(expireTS)
}

// expiry adds when a key expires, in epoch seconds, where it does.
func (o *object) expiry(expireTS uint64) {
	if expireTS != 0 {
		o.uint("expire_ts", expireTS)
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
