package console

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/dkvdb/dkv/internal/testkit"
)

// await evaluates an expression and waits for its promise.
func await[T any](p *page, expression string) (out T) {
	p.t.Helper()
	p.do(chromedp.Evaluate(expression, &out, func(e *runtime.EvaluateParams) *runtime.EvaluateParams { return e.WithAwaitPromise(true) }))
	return out
}

// alone opens a view of a node of its own.
func alone(t *testing.T, view string) *page {
	t.Helper()
	n := launch(t, t.TempDir(), "alone")
	n.await()
	return open(t, browser(t), n.http, view)
}

// TestPageKeepsWhatItShows: bytes as they are, and acts and answers that overlap apart.
func TestPageKeepsWhatItShows(t *testing.T) {
	p := alone(t, "keys")
	t.Run("bytes", func(t *testing.T) { p.t = t; testBytes(p) })
	t.Run("names", func(t *testing.T) { p.t = t; testNames(p) })
	t.Run("dialogs", func(t *testing.T) { p.t = t; testDialogs(p) })
	t.Run("answers", func(t *testing.T) { p.t = t; testAnswers(p) })
	t.Run("lifetime", func(t *testing.T) { p.t = t; testLifetime(p) })
	p.t = t
	p.quiet()
}

// testBytes: what a form begins with means the same bytes when it is sent unchanged, and JSON
// is shown as it was written.
func testBytes(p *page) {
	const same = `(async () => {
		const b = await import("/console/binary.js");
		const value = b.fromBase64(%q), e = b.editable(value);
		if (e === null) return "too large";
		const field = document.createElement("textarea");
		field.value = e.value;
		return b.same(b.parse(field.value, e.encoding), value) ? e.encoding : "changed";
	})()`
	for value, want := range map[string]string{
		"plain\n\ttext":            "text",
		"":                         "text",
		"a\r\nb":                   "hex",
		"\u202egpj.exe":            "hex",
		"\ufeffmarked":             "hex",
		"\x00\xff":                 "hex",
		strings.Repeat("x", 70000): "too large",
	} {
		if got := await[string](p, fmt.Sprintf(same, base64of(value))); got != want {
			p.t.Errorf("%.20q is edited as %s, want %s", value, got, want)
		}
	}
	const shown = `import("/console/binary.js").then((b) => b.shown(b.fromBase64(%q), "json"))`
	const document = `{"id":12345678901234567890,"a":[1.0,{}],"a":"x\"{,","__proto__":{},"b":[]}`
	const want = "{\n  \"id\": 12345678901234567890,\n  \"a\": [\n    1.0,\n    {}\n  ],\n  \"a\": \"x\\\"{,\",\n  \"__proto__\": {},\n  \"b\": []\n}"
	if got := await[string](p, fmt.Sprintf(shown, base64of(document))); got != want {
		p.t.Errorf("the JSON is shown as\n%s\nwant\n%s", got, want)
	}
	if got := await[string](p, `import("/console/binary.js").then((b) => b.printable(new Uint8Array([0xef, 0xbb, 0xbf, 0x61]), 80))`); got != `\ufeffa` {
		p.t.Errorf("a byte order mark is shown as %q", got)
	}
}

// testNames: nodes of one name are shown apart, with their addresses.
func testNames(p *page) {
	const names = `import("/console/model.js").then((m) => m.understand({database: "d", nodes: [
		{name: "same", address: "10.0.0.1:1", role: "master"}, {name: "same", address: "10.0.0.2:1", role: "master"}, {name: "other", address: "10.0.0.3:1", role: "slave"}],
	}).nodes.map((n) => n.name).join(", "))`
	if got := await[string](p, names); got != "same (10.0.0.1:1), same (10.0.0.2:1), other" {
		p.t.Errorf("the nodes are named %s", got)
	}
}

// testDialogs: an act that goes on after its dialog was closed does not draw into the next
// one, and is reported when it ends.
func testDialogs(p *page) {
	eval[bool](p, `import("/console/dialog.js").then((d) => d.ask({title: "First", text: "x", action: "Go", run: (_, step) => new Promise((resolve) => {
		window.goOn = () => { step("one step more"); };
		window.finish = () => { resolve("it is done"); };
	})})) && true`)
	p.until("the first dialog", `document.querySelector("dialog[open] h2")?.innerText === "First"`)
	p.click("dialog button[type=submit]")
	p.until("that it runs", `window.finish`)
	p.click("dialog button.cancel")
	p.click("#put")
	p.until("the second dialog", `document.querySelector("dialog[open] h2")?.innerText === "Put a key"`)
	p.write("#field-key", "typed")
	eval[bool](p, `(window.goOn(), window.finish(), true)`)
	p.until("the report", `document.querySelector(".toast.ok")?.innerText.includes("First: it is done")`)
	if got := p.text("dialog h2"); got != "Put a key" {
		p.t.Errorf("the dialog shows %q", got)
	}
	if got := eval[string](p, `document.querySelector("#field-key").value`); got != "typed" {
		p.t.Errorf("what was typed has become %q", got)
	}
	p.click("dialog button.cancel")
}

// testAnswers: the value of a key that another one has overtaken is not shown as that one's.
func testAnswers(p *page) {
	for _, key := range []string{"slow", "swift"} {
		p.click("#put")
		p.write("#field-key", key)
		p.write("#field-value", "value of "+key)
		p.click("dialog button[type=submit]")
		p.until(key, fmt.Sprintf(`document.querySelector("#content")?.innerText === %q`, "value of "+key))
	}
	p.until("both keys", `document.querySelectorAll("#rows tr").length === 2`)
	eval[bool](p, fmt.Sprintf(`(() => {
		const ask = window.fetch;
		window.fetch = async (path, options) => {
			if (!String(path).startsWith("/data/get") || !String(path).includes(encodeURIComponent(%q))) return ask(path, options);
			await new Promise((resolve) => { window.release = resolve; });
			window.fetch = ask;
			return ask(path, options);
		};
		return true;
	})()`, base64of("slow")))
	p.click("#rows tr:nth-child(1) button")
	p.until("that it is asked for", `window.release`)
	p.click("#rows tr:nth-child(2) button")
	p.until("the other one", `document.querySelector("#content")?.innerText === "value of swift"`)
	// The answer has been taken in once the page has drawn twice after another request.
	await[bool](p, `(async () => {
		window.release();
		await (await fetch("/data/get?key=slow")).text();
		for (let i = 0; i < 20; i++) await new Promise(requestAnimationFrame);
		return true;
	})()`)
	if got := p.text("#content"); got != "value of swift" {
		p.t.Errorf("under the key swift the page shows %q", got)
	}
}

// testLifetime: a value that expires keeps its time to live when it is replaced as it is shown.
func testLifetime(p *page) {
	p.click("#put")
	p.write("#field-key", "session")
	p.write("#field-value", "of a day")
	p.write("#field-ttl", "86400")
	p.click("dialog button[type=submit]")
	p.until("the value", `document.querySelector("#content")?.innerText === "of a day"`)
	p.click("#edit")
	p.until("the time that is left", `Number(document.querySelector("#field-ttl").value) > 80000`)
	p.click("dialog button.cancel")
}

// TestMembershipByTheConsole adds a node, drains it, removes it, and promotes the slave.
func TestMembershipByTheConsole(t *testing.T) {
	c := newCluster(t)
	p := open(t, browser(t), c.masters[0].http, "cluster")
	healthy(p)
	url := "http://" + testkit.Address(t)
	fourth := launch(t, t.TempDir(), "master4", append([]string{"--role", "master", "--dc-id", "zone-1", "--nexus-join",
		"--nexus-node-url", url, "--nexus-cluster-url", c.urls}, c.common...)...)
	p.click("#add")
	p.write("#field-url", url)
	p.insist("Add a node") // it may not listen yet
	fourth.await()
	p.until("six nodes", `document.querySelector("[data-node=master4]")?.innerText.includes("healthy") && document.querySelectorAll("[data-node]").length === 6`)

	p.act("master4", "Make it lead")
	p.insist("Make master4 lead")
	p.until("that it leads", `document.querySelector("[data-node=master4]").innerText.includes("leads")`)
	p.act("master4", "Drain")
	p.insist("Drain master4")
	healthy(p)
	p.act("master4", "Remove")
	p.until("what is left", `document.querySelector("dialog")?.innerText.includes("3 voting members stay") && document.querySelector("dialog").innerText.includes("1 failure, as before")`)
	p.shoot("remove")
	p.insist("Remove master4")
	p.until("five nodes", `document.querySelectorAll("[data-node]").length === 5`)
	healthy(p)
	testPromotion(p, c)
}

// testPromotion makes the slave the master, at its own page.
func testPromotion(p *page, c *cluster) {
	put(p.t, c.masters[0], "kept", "by the slave")
	q := open(p.t, p.ctx, c.slave.http, "cluster")
	q.until("the slave", `document.querySelector("[data-node=slave1]")?.innerText.includes("healthy")`)
	q.act("slave1", "Promote to master")
	q.insist("Promote slave1")
	q.until("that it leads", `document.querySelector("[data-node=slave1]")?.innerText.includes("leads all 4 vBuckets")`)
	q.click(`a[href="#keys"]`)
	q.click("#rows tr:nth-child(1) button")
	q.until("what was acknowledged", `document.querySelector("#content")?.innerText === "by the slave"`)
	q.quiet()
}

// act opens the menu of a node and chooses an act.
func (p *page) act(node, text string) {
	p.t.Helper()
	p.click(fmt.Sprintf(`[data-node=%s] .acts button`, node))
	p.choose(text)
}

// promptly is far more than the two seconds in which a dead node should show: hosts on which
// tests run are busy.
const promptly = 30 * time.Second

// soon is until for what has to show soon after something happened.
func (p *page) soon(since time.Time, what, expression string) {
	p.t.Helper()
	p.until(what, expression)
	took := time.Since(since)
	p.t.Logf("%s: after %v", what, took.Round(time.Millisecond))
	if took > promptly {
		p.t.Errorf("%s: only after %v", what, took)
	}
}
