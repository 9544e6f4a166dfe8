package console

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
)

// TestConsoleOfACluster looks at each view of a cluster, acts in it, and kills a node.
func TestConsoleOfACluster(t *testing.T) {
	chrome, c := browser(t), newCluster(t)
	p := open(t, chrome, c.masters[0].http, "cluster")
	p.until("five nodes", `document.querySelectorAll("[data-node]").length === 5`)
	healthy(p)
	t.Run("cluster", func(t *testing.T) { p.t = t; testClusterView(p) })
	t.Run("acts", func(t *testing.T) { p.t = t; testActs(p) })
	t.Run("keys", func(t *testing.T) { p.t = t; testKeys(p, c) })
	t.Run("numbers", func(t *testing.T) { p.t = t; testNumbers(p) })
	t.Run("tasks", func(t *testing.T) { p.t = t; testTasks(p) })
	t.Run("log", func(t *testing.T) { p.t = t; testLog(p) })
	t.Run("death", func(t *testing.T) { p.t = t; testDeath(p, c) })
	p.t = t
	p.quiet()
}

// healthy waits until nothing is wrong.
func healthy(p *page) {
	p.t.Helper()
	p.until("all is well", `document.querySelector("#verdict.ok") && document.querySelectorAll(".cell.ok").length === 4`)
}

func testClusterView(p *page) {
	for _, want := range []string{"master1", "master2", "master3", "slave1", "discovery1", "leads the registry", "zone-1", "zone-3", "5 of 5", "vBuckets"} {
		if !strings.Contains(p.text("main"), want) {
			p.t.Errorf("the page does not show %q:\n%s", want, p.text("main"))
		}
	}
	p.click(`.cell[aria-label^="vBucket 2"]`)
	p.until("the details", `document.querySelector("#vbucket-detail")?.innerText.includes("leader")`)
	p.fits("Cluster")
	p.shoot("cluster")
	for _, want := range []string{"light", "dark", ""} {
		p.click("#theme")
		p.until("the theme "+want, fmt.Sprintf(`(document.documentElement.dataset.theme ?? "") === %q`, want))
	}
	if got := eval[string](p, `(() => { try { document.body.insertAdjacentHTML("beforeend", "<b>x</b>"); return "done"; } catch (e) { return e.name; } })()`); got != "TypeError" {
		p.t.Errorf("markup out of a string: %s", got)
	}
	if got := eval[string](p, `(() => { const s = document.createElement("style"); s.textContent = "h1 { color: rgb(1, 2, 3) }"; document.head.append(s); return getComputedStyle(document.querySelector("h1")).color; })()`); got == "rgb(1, 2, 3)" {
		p.t.Error("an inline style is used")
	}
	p.said = new(testkit.Log) // the policy has said that it refused both
}

// testActs does each act that leaves the cluster as it was.
func testActs(p *page) {
	p.click("#pause")
	p.confirm("Pause writes")
	p.until("that writes are paused", `document.querySelector(".tiles").innerText.includes("paused") && document.querySelector("#verdict.warn")`)
	p.click("#pause")
	p.confirm("Resume writes")
	healthy(p)
	p.click(`[data-node=master2] .acts button`)
	p.choose("Make it lead")
	p.insist("Make master2 lead")
	// The cluster may have spread the leaders again before the page has seen all of them there.
	p.until("that master2 leads", `document.querySelector("[data-node=master2]").innerText.includes("leads")`)
	p.click(`[data-node=master2] .acts button`)
	p.choose("Drain")
	p.insist("Drain master2")
	healthy(p)
	p.click("#add")
	p.write("#field-url", "http://127.0.0.1:1")
	p.click("dialog button[type=submit]")
	p.until("why it cannot be added", `document.querySelector("dialog .failed")?.innerText.length > 20`)
	p.click("dialog button.cancel")
}

// hostile are keys and values that would do something if they became markup.
var hostile = map[string]string{
	`<img src=x onerror=window.hacked=1>`:              `<script>window.hacked=1</script>`,
	`"><svg onload=window.hacked=1>`:                   "\u202egpj.exe\u0000\u0007",
	"{{constructor.constructor('window.hacked=1')()}}": `{"__proto__":{"hacked":1},"a":"<b>bold</b>"}`,
	strings.Repeat("long/", 150):                       strings.Repeat("w", 5000),
}

func testKeys(p *page, c *cluster) {
	for key, value := range hostile {
		put(p.t, c.masters[1], key, value)
	}
	p.click(`a[href="#keys"]`)
	p.until("the keys", fmt.Sprintf(`document.querySelectorAll("#rows tr").length === %d`, len(hostile)))
	for i := range len(hostile) {
		p.click(fmt.Sprintf("#rows tr:nth-child(%d) button", i+1))
		p.until("the value", fmt.Sprintf(`document.querySelector("#rows tr:nth-child(%d).chosen") && document.querySelector("#content")?.innerText.length > 5`, i+1))
	}
	if got := eval[string](p, `String(window.hacked) + ({}).hacked + document.querySelectorAll("main img, main script, main b > b, main [onload]").length`); got != "undefinedundefined0" {
		p.t.Errorf("data became markup: %s", got)
	}
	p.shoot("keys-hostile")
	p.fits("Keys")
	testWrites(p)
}

// testWrites puts, replaces, compares and deletes.
func testWrites(p *page) {
	p.click("#put")
	p.write("#field-key", "user:1")
	p.write("#field-value", `{"name": "Ada"}`)
	p.click("dialog button[type=submit]")
	p.until("the level", `document.querySelector("#acked")?.innerText.includes("async")`)
	p.until("the value as JSON", `document.querySelector("#content").innerText.includes('"name": "Ada"')`)
	p.shoot("keys")
	p.click("#cas")
	p.write("#field-old", "something else")
	p.write("#field-value", "Grace")
	p.click("dialog button[type=submit]")
	p.until("that it does not match", `document.querySelector("#acked")?.innerText.includes("Nothing was changed")`)
	p.click("#edit")
	p.write("#field-value", "00 01 fe")
	p.until("hex", `(() => { const s = document.querySelector("#field-encoding"); s.value = "hex"; s.dispatchEvent(new Event("input", {bubbles: true})); return true; })()`)
	p.click("dialog button[type=submit]")
	p.until("bytes", `document.querySelector("#content")?.innerText.startsWith("000000  00 01 fe")`)
	p.click("#delete")
	p.click("dialog button[type=submit]")
	p.until("that it is gone", `document.querySelector("#absent")`)
}

// testNumbers looks at the views of metrics, and takes a backup.
func testNumbers(p *page) {
	p.click(`a[href="#traffic"]`)
	p.until("what nodes ask each other", `[...document.querySelectorAll("main td")].some((e) => e.innerText === "GetNodeStatus")`)
	p.until("a chart", `document.querySelectorAll(".chart svg path").length === 4`)
	p.fits("Traffic")
	p.shoot("traffic")
	p.click(`a[href="#replication"]`)
	p.until("the slave", `document.querySelector("[data-slave=slave1]")?.innerText.includes("ago")`)
	p.until("the changelog", `document.querySelector("#changelog")?.innerText.includes("master3")`)
	p.fits("Replication")
	p.shoot("replication")
	p.click(`a[href="#storage"]`)
	p.until("each node's storage", `document.querySelectorAll("[data-storage]").length === 5 && document.querySelector("[data-storage=master2]").innerText.includes("iB")`)
	p.click("#backup")
	p.confirm("Back up now")
	p.click("[data-restore]")
	p.write("#field-confirm", "another")
	p.click("dialog button[type=submit]")
	p.until("that the name is another one", `document.querySelector("dialog .failed")?.innerText.includes("nothing was done")`)
	p.write("#field-confirm", eval[string](p, `document.querySelector("[data-restore]").dataset.restore`))
	// A leader that moves meanwhile ends a restore, which may then be tried again.
	p.until("that it is restored", repeated)
	p.click("dialog button.cancel")
	p.fits("Storage")
	p.shoot("storage")
}

// testTasks gives the page a task of a node, since those of a small database are over too soon.
func testTasks(p *page) {
	p.until("the module", `window.tasks?.far || (import("/console/tasks.js").then((m) => { window.tasks = m; }), false)`)
	task := `{kind: "backup", subject: "nightly", step: "copies the files", part: 3, parts: 16, done: 4 << 20, total: 10 << 20, unit: "B", seconds: 9, step_seconds: 2}`
	for expression, want := range map[string]string{
		"tasks.words(" + task + ")": "backup nightly, vBucket 3 of 16: copies the files",
		"tasks.far(" + task + ")":   "4.0 MiB of 10.0 MiB, 2.0 MiB/s, 3 s left",
		`tasks.far({kind: "verify", done: 50, total: 200, unit: "keys", seconds: 3, step_seconds: 2})`:          "50 of 200 keys, 25 keys/s, 6 s left",
		`tasks.far({kind: "snapshot", done: 0, total: 0, seconds: 61})`:                                         "for 1 min 1 s now",
		"(tasks.remember([{name: 'n1', health: {tasks: [" + task + "]}}]), tasks.ofKind('backup').length + '')": "1",
	} {
		if got := eval[string](p, expression); got != want {
			p.t.Errorf("%s shows %q, want %q", expression, got, want)
		}
	}
}

// testLog looks at events of all nodes, and at what this test has done to them.
func testLog(p *page) {
	p.click(`a[href="#log"]`)
	p.until("events of two nodes", `["master2", "slave1"].every((n) => [...document.querySelectorAll(".event .at")].some((e) => e.innerText === n))`)
	p.write("#log-text", "serving")
	p.until("those with a word", `(() => { const all = [...document.querySelectorAll(".event")]; return all.length && all.every((e) => e.innerText.includes("serving")); })()`)
	p.write("#log-text", "")
	p.until("the audit trail", `(() => { const s = document.querySelector("#log-kind"); s.value = "audit"; s.dispatchEvent(new Event("change", {bubbles: true})); return true; })()`)
	p.until("the backup", `[...document.querySelectorAll(".event")].some((e) => e.innerText.includes("/admin/backup"))`)
	p.fits("Log")
	p.shoot("log")
}

// testDeath kills a node while the page is watched, and starts it again.
func testDeath(p *page, c *cluster) {
	p.click(`a[href="#cluster"]`)
	healthy(p)
	killed := time.Now()
	c.masters[2].Kill()
	p.soon(killed, "that master3 does not answer", `document.querySelector("[data-node=master3].bad")?.innerText.includes("not answering")`)
	p.until("what is wrong, in words", `document.querySelector("#verdict.bad")?.innerText.includes("master3 does not answer")`)
	p.until("leaders elsewhere", `document.querySelectorAll(".cell.warn").length === 4`)
	p.shoot("cluster-node-killed")
	c.masters[2].start()
	c.masters[2].await()
	started := time.Now()
	p.soon(started, "that master3 answers", `document.querySelector("[data-node=master3]:not(.bad)")`)
	healthy(p)
}

// TestRolesInTheConsole: who may only read sees, and is told what is missing to act.
func TestRolesInTheConsole(t *testing.T) {
	chrome := browser(t)
	n, reader, admin := secured(t)
	p := open(t, chrome, n.http, "cluster")
	p.until("that a token is needed", `document.querySelector("main h1").innerText.includes("Log in")`)
	login := func(with string) {
		t.Helper()
		p.click("#login")
		p.write("#field-token", with)
		p.click("dialog button[type=submit]")
		p.until("the end of the login", `document.querySelector("dialog .failed") || !document.querySelector("dialog[open]")`)
	}
	login("dkv_wrong")
	p.until("that it is wrong", `document.querySelector("dialog .failed")`)
	p.click("dialog button.cancel")
	login(reader)
	p.until("the node", `document.querySelector("[data-node=alone]")`)
	p.click("#pause")
	p.click("dialog button[type=submit]")
	p.until("what the reader lacks", `document.querySelector("dialog .failed")?.innerText.includes("the role admin")`)
	p.shoot("role-that-may-not")
	p.click("dialog button.cancel")
	p.click(`a[href="#keys"]`)
	p.click("#put")
	p.write("#field-key", "k")
	p.click("dialog button[type=submit]")
	p.until("what the reader lacks", `document.querySelector("dialog .failed")?.innerText.includes("the role write")`)
	p.click("dialog button.cancel")
	login(admin)
	p.until("the keys", `document.querySelector("#walk")`)
	p.click("#put")
	p.write("#field-key", "k")
	p.write("#field-value", "v")
	p.click("dialog button[type=submit]")
	p.until("the level", `document.querySelector("#acked")`)
	if kept := eval[string](p, `JSON.stringify({...localStorage}) + document.cookie + location.href`); strings.Contains(kept, admin) {
		t.Errorf("the token is kept: %s", kept)
	}
	p.quiet()
}
