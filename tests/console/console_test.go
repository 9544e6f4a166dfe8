// Package console drives the console in a real Chromium, against real nodes. Chromium is
// Debian's package, which make test-deps installs.
package console

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dkvdb/dkv/internal/app"
	"github.com/dkvdb/dkv/internal/testkit"
)

const dkvsrv = "dkvsrv"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		dkvsrv: func() {
			os.Exit(app.Main(context.Background(), app.Process{
				Args: os.Args[1:], Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr,
			}))
		},
	})
}

var screens = flag.String("screens", "", "a folder for screenshots of what the tests see, to be looked at by a person")

// patience is how long a page may take: hosts on which tests run are busy.
const patience = time.Minute

// browser starts a Chromium that ends with the test.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		testkit.SkipFault(t, "chromium", err)
	}
	profile, err := os.MkdirTemp("", "console-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // not t.TempDir: Chromium's processes write until the last of them has ended
		if !testkit.Soon(func() bool { return os.RemoveAll(profile) == nil }) {
			t.Logf("%s cannot be removed", profile)
		}
	})
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.WSURLReadTimeout(patience),
		chromedp.NoSandbox, // tests run as root
		chromedp.Flag("disable-dev-shm-usage", true))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return ctx
}

// page is a tab that shows the console of a node.
type page struct {
	t   *testing.T
	ctx context.Context
	url string
	// said are errors on the page's console and exceptions, but for failed requests.
	said *testkit.Log
}

// open opens a view of the console of a node.
func open(t *testing.T, browser context.Context, http, view string) *page {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(browser)
	t.Cleanup(closeTab)
	p := &page{t: t, ctx: ctx, url: "http://" + http + "/", said: new(testkit.Log)}
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			fmt.Fprintf(p.said, "exception: %+v\n", e.ExceptionDetails)
		case *log.EventEntryAdded:
			if e.Entry.Source != log.SourceNetwork { // nodes are stopped on purpose
				fmt.Fprintf(p.said, "%s: %s\n", e.Entry.Source, e.Entry.Text)
			}
		}
	})
	if err := chromedp.Run(ctx); err != nil { // opens the tab, which lives as long as this context
		t.Fatal(err)
	}
	p.do(log.Enable(), chromedp.EmulateViewport(1360, 900), chromedp.Navigate(p.url+"#"+view))
	p.until("the view", `document.querySelector("main h1") !== null`)
	return p
}

func (p *page) do(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// eval evaluates an expression.
func eval[T any](p *page, expression string) (out T) {
	p.t.Helper()
	p.do(chromedp.Evaluate(expression, &out))
	return out
}

// until waits until an expression is true. If it never is, the test ends with what is shown.
func (p *page) until(what, expression string) {
	p.t.Helper()
	if !testkit.Soon(func() bool { return eval[bool](p, "Boolean("+expression+")") }) {
		p.shoot("failed")
		p.t.Fatalf("%s: %s is never true; the page shows\n%s", what, expression, eval[string](p, "document.body.innerText"))
	}
}

// click clicks on what a selector finds, once it is there and can be clicked.
func (p *page) click(selector string) {
	p.t.Helper()
	p.until("something to click", fmt.Sprintf(`(() => { const e = document.querySelector(%q); return e && !e.disabled && (e.click(), true); })()`, selector))
}

// choose clicks on the button or the item of a menu with a text.
func (p *page) choose(text string) {
	p.t.Helper()
	p.until(text, fmt.Sprintf(`(() => { const e = [...document.querySelectorAll("button")].find((b) => b.checkVisibility() && !b.disabled && b.textContent.includes(%q)); return e && (e.click(), true); })()`, text))
}

// write writes into a field.
func (p *page) write(selector, text string) {
	p.t.Helper()
	p.until(selector, fmt.Sprintf(`(() => { const e = document.querySelector(%q); if (!e) return false; e.value = %q; e.dispatchEvent(new Event("input", {bubbles: true})); return true; })()`, selector, text))
}

// text is what an element shows.
func (p *page) text(selector string) string {
	p.t.Helper()
	return eval[string](p, fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector))
}

// confirm waits for a dialog with a title, agrees and waits until it is done.
func (p *page) confirm(title string) {
	p.t.Helper()
	p.until("the dialog "+title, fmt.Sprintf(`document.querySelector("dialog[open] h2")?.innerText.includes(%q)`, title))
	p.click("dialog button[type=submit]")
	p.until("the end of "+title, `document.querySelector("dialog .succeeded, dialog .failed")`)
	if failed := p.text("dialog .failed"); failed != "" {
		p.t.Fatalf("%s: %s", title, failed)
	}
	p.click("dialog button.cancel")
	p.until("no dialog", `!document.querySelector("dialog[open]")`)
}

// insist is confirm for what a busy cluster may fail to do in time: it tries again.
func (p *page) insist(title string) {
	p.t.Helper()
	p.until("the dialog "+title, fmt.Sprintf(`document.querySelector("dialog[open] h2")?.innerText.includes(%q)`, title))
	p.until("the end of "+title, repeated)
	p.click("dialog button.cancel")
	p.until("no dialog", `!document.querySelector("dialog[open]")`)
}

// repeated is true once an act has succeeded, and tries it again while it fails.
const repeated = `(() => {
	if (document.querySelector("dialog .succeeded")) return true;
	const again = document.querySelector("dialog button[type=submit]");
	if (again && !again.disabled) again.click();
	return false;
})()`

// quiet fails the test if the page has logged errors.
func (p *page) quiet() {
	p.t.Helper()
	if p.said.String() != "" {
		p.t.Errorf("the page says\n%s", p.said.String())
	}
}

// shoot keeps screenshots, wide and narrow, light and dark.
func (p *page) shoot(name string) {
	if *screens == "" {
		return
	}
	for _, size := range []struct {
		name          string
		width, height int64
	}{{"wide", 1360, 900}, {"narrow", 390, 844}} {
		for _, scheme := range []string{"light", "dark"} {
			var png []byte
			p.do(chromedp.EmulateViewport(size.width, size.height),
				emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
				chromedp.FullScreenshot(&png, 100))
			file := filepath.Join(*screens, strings.Join([]string{name, size.name, scheme}, "-")+".png")
			if err := os.WriteFile(file, png, 0o644); err != nil {
				p.t.Error(err)
			}
		}
	}
	p.do(chromedp.EmulateViewport(1360, 900))
}

// fits fails the test if a view is wider than a phone.
func (p *page) fits(view string) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(390, 844))
	if wide := eval[int](p, "document.documentElement.scrollWidth"); wide > 390 {
		p.t.Errorf("%s is %d pixels wide on a phone of 390", view, wide)
	}
	p.do(chromedp.EmulateViewport(1360, 900))
}
