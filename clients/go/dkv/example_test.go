package dkv_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/dkvdb/dkv/clients/go/dkv"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
)

func Example() {
	ctx := context.Background()
	c, err := dkv.Open(ctx, exampleAddress)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	if _, err := c.Put(ctx, []byte("greeting"), []byte("hello")); err != nil {
		log.Fatal(err)
	}
	value, err := c.Get(ctx, []byte("greeting"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", value.Bytes)
	// Output: hello
}

func ExampleClient_Get() {
	c, ctx := open()
	defer c.Close()

	index, err := c.Put(ctx, []byte("session"), []byte("alice"), dkv.TTL(time.Hour))
	if err != nil {
		log.Fatal(err)
	}
	// Any replica may answer, once it has that write.
	value, err := c.Get(ctx, []byte("session"), dkv.Sequential, dkv.MinIndex(index))
	fmt.Printf("%s %v\n", value.Bytes, err)

	_, err = c.Get(ctx, []byte("no such key"))
	fmt.Println(errors.Is(err, dkv.ErrNotFound))
	// Output:
	// alice <nil>
	// true
}

func ExampleClient_Increment() {
	c, ctx := open()
	defer c.Close()

	for range 3 {
		value, _, err := c.Increment(ctx, []byte("visits"), 1)
		if errors.Is(err, dkv.ErrOutcomeUnknown) {
			log.Fatal("it may have been counted, or may still: ", err)
		} else if err != nil {
			log.Fatal("it was not counted: ", err)
		}
		fmt.Println(value)
	}
	// Output:
	// 1
	// 2
	// 3
}

func ExampleClient_CompareAndSet() {
	c, ctx := open()
	defer c.Close()

	// An empty old value means that the key must not be there.
	for _, owner := range []string{"alice", "bob"} {
		won, _, err := c.CompareAndSet(ctx, []byte("lock"), nil, []byte(owner), dkv.TTL(time.Minute))
		fmt.Println(owner, won, err)
	}
	// Output:
	// alice true <nil>
	// bob false <nil>
}

func ExampleClient_Iterate() {
	c, ctx := open()
	defer c.Close()

	_, err := c.MultiPut(ctx,
		dkv.Pair{Key: []byte("fruit/apple"), Value: []byte("green")},
		dkv.Pair{Key: []byte("fruit/lemon"), Value: []byte("yellow")})
	if err != nil {
		log.Fatal(err)
	}
	for pair, err := range c.Iterate(ctx, dkv.Range{Prefix: []byte("fruit/")}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s is %s\n", pair.Key, pair.Value)
	}
	// Output:
	// fruit/apple is green
	// fruit/lemon is yellow
}

func ExampleClient_Watch() {
	c, ctx := open()
	defer c.Close()

	cursor, err := c.Position(ctx) // the start of the watch, now or on another day
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.Put(ctx, []byte("config/size"), []byte("10")); err != nil {
		log.Fatal(err)
	}
	for change, err := range c.Watch(ctx, []byte("config/"), cursor) {
		if err != nil {
			log.Fatal(err) // dkv.ErrTrimmed: read all keys again, then watch
		}
		for _, m := range change.Mutations {
			fmt.Printf("%s = %s\n", m.Key, m.Value)
		}
		cursor.Advance(change)
		break
	}
	// Output: config/size = 10
}

func ExampleClient_Conn() {
	c, ctx := open()
	defer c.Close()

	node, err := admin.NodeStatus(ctx, c.Conn(exampleAddress))
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range node.GetVBuckets() {
		fmt.Println(v.GetVBucket(), v.GetState())
	}
	// Output: default serving
}

func ExampleAnswer() {
	c, ctx := open()
	defer c.Close()
	var answer dkv.Answer
	if _, err := c.Put(ctx, []byte("order"), []byte("paid"), dkv.AckAsync, &answer); err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Acked)
	// Output: async
}

// open is what the first example shows.
func open() (*dkv.Client, context.Context) {
	exampleServer.Empty()
	ctx := context.Background()
	c, err := dkv.Open(ctx, exampleAddress)
	if err != nil {
		log.Fatal(err)
	}
	return c, ctx
}
