package app

import (
	"fmt"
	"math"
	"strings"

	"github.com/dkvdb/dkv/api/serverpb"
)

// questions are asked in this order.
var questions = []question{
	{"an empty value is there", func(a *asker) string { return a.put("a", "", 0) + ", " + a.get("a") }, `put, "a"=""`},
	{"a key that never was", func(a *asker) string { return a.get("none") }, "absent"},
	{"nothing is expected, and the value is empty", func(a *asker) string { return a.swap("a", "", "x", 0) + ", " + a.get("a") }, `true, "a"="x"`},
	{"nothing is expected, and there is a value", func(a *asker) string { return a.swap("a", "", "y", 0) + ", " + a.get("a") }, `false, "a"="x"`},
	{"nothing is expected, set to nothing", func(a *asker) string { return a.swap("b", "", "", 0) + ", " + a.get("b") }, `true, "b"=""`},
	{"a value is expected of no key", func(a *asker) string { return a.swap("none", "x", "y", 0) + ", " + a.get("none") }, "false, absent"},
	{"a beginning of the value is expected", func(a *asker) string { return a.put("a", "x\x00", 0) + ", " + a.swap("a", "x", "y", 0) }, "put, false"},
	{"a value with a zero is expected", func(a *asker) string { return a.swap("a", "x\x00", "x", 0) }, "true"},
	{"delete", func(a *asker) string { return a.remove("b") + ", " + a.remove("b") + ", " + a.get("b") }, "deleted, deleted, absent"},

	{"put no key", func(a *asker) string { return a.put("", "v", 0) }, "InvalidArgument: key is empty (not applied)"},
	{"get no key", func(a *asker) string { return a.get("") }, "InvalidArgument: key is empty"},
	{"get a key and none", func(a *asker) string { return a.getAll("a", "") }, "InvalidArgument: key 2 of 2: key is empty"},
	{"get nothing", func(a *asker) string { return a.getAll() }, ""},
	{"put nothing", func(a *asker) string { return a.putAll() }, "put"},

	{"get keys again and again", func(a *asker) string { return a.put("c", "", 0) + ", " + a.getAll("c", "none", "a", "c", "a", "a") },
		`put, "c"="", "a"="x", "c"="", "a"="x", "a"="x"`},
	{"get ten thousand keys", func(a *asker) string {
		keys := make([]string, 10_000)
		for i := range keys {
			keys[i] = fmt.Sprint("none", i)
		}
		keys[77], keys[9_999] = "a", "c"
		return a.getAll(keys...)
	}, `"a"="x", "c"=""`},
	{"put a key twice", func(a *asker) string { return a.putAll(pair("d", "1", future), pair("d", "2", 0)) + ", " + a.get("d") }, `put, "d"="2"`},
	{"put a key twice, the second time with an expiry", func(a *asker) string {
		return a.putAll(pair("d", "1", 0), pair("d", "2", future)) + ", " + a.get("d")
	}, `put, "d"="2" until 1099511627776`},
	{"put a key twice, the second time expired", func(a *asker) string { return a.putAll(pair("d", "1", 0), pair("d", "2", past)) + ", " + a.get("d") }, "put, absent"},
	{"put a key twice, the first time expired", func(a *asker) string { return a.putAll(pair("d", "1", past), pair("d", "2", 0)) + ", " + a.get("d") }, `put, "d"="2"`},
	{"put many keys", func(a *asker) string {
		var pairs []*serverpb.PutRequest
		for i := range 20 {
			pairs = append(pairs, pair(fmt.Sprintf("many/%02d", i), fmt.Sprint(i), 0))
		}
		return a.putAll(pairs...) + ", " + a.keys("many/", "many/17", false, 0)
	}, `put, "many/17", "many/18", "many/19"`},

	{"an expiry in the past", func(a *asker) string { return a.put("e", "v", past) + ", " + a.get("e") }, "put, absent"},
	{"an expiry in the past, of a key that is there", func(a *asker) string { return a.put("e", "v", 0) + ", " + a.put("e", "w", past) + ", " + a.get("e") }, "put, put, absent"},
	{"the greatest expiry", func(a *asker) string { return a.put("e", "v", never) + ", " + a.get("e") }, `put, "e"="v" until 18446744073709551615`},
	{"swapped without an expiry", func(a *asker) string { return a.swap("e", "v", "w", 0) + ", " + a.get("e") }, `true, "e"="w"`},
	{"swapped with one in the past", func(a *asker) string { return a.swap("e", "w", "x", past) + ", " + a.get("e") }, "true, absent"},
	{"created with one in the past", func(a *asker) string { return a.swap("e", "", "x", past) + ", " + a.get("e") }, "true, absent"},

	{"the greatest counter", func(a *asker) string { return a.add("n", math.MaxInt64, 0) }, "9223372036854775807"},
	{"beyond that", func(a *asker) string { return a.add("n", 1, 0) },
		`FailedPrecondition: counter "n" is 9223372036854775807; the sum would leave the range of int64 (not applied)`},
	{"nothing is added", func(a *asker) string { return a.add("n", 0, 0) }, "9223372036854775807"},
	{"the least is added to the greatest", func(a *asker) string { return a.add("n", math.MinInt64, 0) }, "-1"},
	{"below the least", func(a *asker) string { return a.add("n", math.MinInt64, 0) },
		`FailedPrecondition: counter "n" is -1; the sum would leave the range of int64 (not applied)`},
	{"the least counter", func(a *asker) string { return a.add("n", -math.MaxInt64, 0) + ", " + a.get("n") }, `-9223372036854775808, "n"="\x80\x00\x00\x00\x00\x00\x00\x00"`},
	{"a text is no counter", func(a *asker) string { return a.add("a", 1, 0) },
		`FailedPrecondition: key "a" does not hold a counter, which is 8 bytes big endian; count under another key, or delete this one first (not applied)`},
	{"an empty value counts", func(a *asker) string { return a.add("c", 7, 0) }, "7"},
	{"a counter keeps its expiry", func(a *asker) string { return a.add("m", 1, future) + ", " + a.add("m", 1, 0) + ", " + a.get("m") },
		`1, 2, "m"="\x00\x00\x00\x00\x00\x00\x00\x02" until 1099511627776`},
	{"a counter with an expiry in the past", func(a *asker) string { return a.add("m", 1, past) + ", " + a.get("m") + ", " + a.add("m", 5, 0) }, "3, absent, 5"},
	{"a request is repeated", func(a *asker) string {
		id := &serverpb.RequestID{ClientId: a.id, Sequence: 1}
		return a.addAs(id, "r", 4, 0) + ", " + a.addAs(id, "r", 4, 0) + ", " + a.add("r", 0, 0)
	}, "4, 4, 4"},

	{"keys of zeros and of 0xff", func(a *asker) string {
		return a.putAll(pair("\x00", "0", 0), pair("\x00\x00", "00", 0), pair("\xfe\xff", "fe", 0), pair("\xff", "ff", 0), pair("\xff\xff", "ffff", 0), pair("\xff\xff\x00", "", 0)) +
			", " + a.getAll("\xff\xff", "\x00", "\xff")
	}, `put, "\xff\xff"="ffff", "\x00"="0", "\xff"="ff"`},
	{"the prefix 0xff", func(a *asker) string { return a.keys("\xff", "", false, 0) }, `"\xff", "\xff\xff", "\xff\xff\x00"`},
	{"the prefix 0xff, downwards", func(a *asker) string { return a.keys("\xff", "", true, 0) }, `"\xff\xff\x00", "\xff\xff", "\xff"`},
	{"the prefix 0xff, downwards from a key", func(a *asker) string { return a.keys("\xff", "\xff\xff", true, 0) }, `"\xff\xff", "\xff"`},
	{"the prefix 0xff, downwards from no key", func(a *asker) string { return a.keys("\xff", "\xff\xff\xff\xff", true, 2) }, `"\xff\xff\x00", "\xff\xff"`},
	{"the prefix 0xff twice", func(a *asker) string { return a.keys("\xff\xff", "", false, 0) }, `"\xff\xff", "\xff\xff\x00"`},
	{"behind the last key", func(a *asker) string { return a.keys("", "\xff\xff\xff", false, 0) }, ""},
	{"the prefix 0xfe", func(a *asker) string { return a.keys("\xfe", "", true, 0) }, `"\xfe\xff"`},
	{"the prefix zero", func(a *asker) string { return a.keys("\x00", "", false, 0) }, `"\x00", "\x00\x00"`},
	{"before the first key, downwards", func(a *asker) string { return a.keys("", "\x00", true, 0) }, `"\x00"`},
	{"the first keys", func(a *asker) string { return a.keys("", "", false, 3) }, `"\x00", "\x00\x00", "a"`},
	{"the last keys", func(a *asker) string { return a.keys("", "", true, 2) }, `"\xff\xff\x00", "\xff\xff"`},
	{"a long prefix", func(a *asker) string { return a.keys(strings.Repeat("\xff", 100_000), "", true, 0) }, ""},
	{"a long start", func(a *asker) string { return a.keys("", strings.Repeat("\xff", 100_000), true, 1) }, `"\xff\xff\x00"`},
	{"the greatest limit", func(a *asker) string { return a.keys("many/1", "many/18", false, math.MaxUint64) }, `"many/18", "many/19"`},
	{"a start without the prefix", func(a *asker) string { return a.keys("b", "a", false, 0) }, `InvalidArgument: startKey "a" does not begin with keyPrefix "b"`},

	{"the longest key", func(a *asker) string { return a.put(key1K, "v", 0) + ", " + a.get(key1K) }, `put, 1024 bytes of "k"="v"`},
	{"a longer one", func(a *asker) string { return a.put(key1K+"k", "v", 0) }, "InvalidArgument: key has 1025 bytes, the limit is 1024 (max-key-size) (not applied)"},
	{"reads of longer ones", func(a *asker) string {
		return a.get(strings.Repeat("k", 70_000)) + ", " + a.getAll(strings.Repeat("k", 70_000), "a")
	}, `absent, "a"="x"`},
	{"the largest value", func(a *asker) string { return a.put(key1K, value4M, 0) + ", " + a.get(key1K) }, `put, 1024 bytes of "k"=4194304 bytes of "v"`},
	{"a larger one", func(a *asker) string { return a.put("l", value4M+"v", 0) },
		`InvalidArgument: value of key "l" has 4194305 bytes, the limit is 4194304 (max-value-size) (not applied)`},
	{"the largest values are swapped", func(a *asker) string { return a.swap(key1K, value4M, "w"+value4M[1:], never) + ", " + a.get(key1K) },
		`true, 1024 bytes of "k"=4194304 bytes of "w" until 18446744073709551615`},
	{"much at once", func(a *asker) string { return a.putAll(pair("l1", value4M, 0), pair("l1", value4M[:1<<20], 0)) }, "put"},
	{"too much at once", func(a *asker) string { return a.putAll(pair("l1", value4M, 0), pair("l1", value4M[3:], 0)) },
		"InvalidArgument: the request has 8388609 bytes of keys and values, the limit is 8388608 (max-batch-size); split it (not applied)"},
	{"three of the largest", func(a *asker) string { return a.getAll(key1K, key1K, key1K) },
		strings.Repeat(`, 1024 bytes of "k"=4194304 bytes of "w" until 18446744073709551615`, 3)[2:]},
	{"four of the largest", func(a *asker) string { return a.getAll(key1K, key1K, key1K, key1K) },
		"ResourceExhausted: the pairs exceed 16777216 bytes, the limit of a response (max-message-size); ask for fewer keys"},
	{"the largest pairs in an iteration", func(a *asker) string {
		return a.iterate(&serverpb.IterateRequest{KeyPrefix: []byte("k"), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
	},
		`1024 bytes of "k"=4194304 bytes of "w" until 18446744073709551615`},
}
