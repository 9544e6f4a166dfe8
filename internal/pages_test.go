package internal_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// page is a page of the documentation, by its path from the root of the tree.
type page struct {
	path, text string
	// prose is the text without fenced blocks.
	prose string
	// blocks are the fenced blocks.
	blocks []block
}

// block is a fenced block, with the line after its first fence.
type block struct {
	language, text string
	line           int
}

// pages reads what is written in Markdown, apart from what is installed or built.
func pages(t *testing.T) map[string]*page {
	t.Helper()
	out := make(map[string]*page)
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (name == "node_modules" || name == "target" || name == "build" || name == "data" || name == ".git"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(file) != ".md":
			return nil
		}
		raw, err := os.ReadFile(file)
		p := parsePage(strings.TrimPrefix(filepath.ToSlash(file), "../"), string(raw))
		out[p.path] = p
		return err
	})
	if err != nil || len(out) < 20 {
		t.Fatalf("%d pages: %v", len(out), err)
	}
	return out
}

func parsePage(name, text string) *page {
	p := &page{path: name, text: text}
	var prose, code strings.Builder
	var open *block
	fence := ""
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case open == nil && strings.HasPrefix(trimmed, "```"):
			fence = trimmed[:len(trimmed)-len(strings.TrimLeft(trimmed, "`"))]
			open = &block{language: strings.TrimLeft(trimmed, "`"), line: i + 2}
			code.Reset()
		case open != nil && trimmed == fence:
			open.text = code.String()
			p.blocks, open = append(p.blocks, *open), nil
		case open != nil:
			code.WriteString(line + "\n")
		default:
			prose.WriteString(line + "\n")
		}
	}
	p.prose = prose.String()
	return p
}

var (
	heading  = regexp.MustCompile(`(?m)^#{1,6} +(.+)$`)
	linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	linkTo   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code     = regexp.MustCompile("`[^`\n]*`")
	slugless = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the names by which the headings of a page are linked, as GitHub makes them
// and tools/site as well.
func (p *page) anchors() map[string]bool {
	out := make(map[string]bool)
	for _, m := range heading.FindAllStringSubmatch(p.prose, -1) {
		title := strings.ToLower(linkText.ReplaceAllString(m[1], "$1"))
		out[strings.ReplaceAll(slugless.ReplaceAllString(title, ""), " ", "-")] = true
	}
	return out
}

// TestLinksOfPagesResolve: each link of a page leads to a file of the tree and, if it names
// one, to a heading there.
func TestLinksOfPagesResolve(t *testing.T) {
	all, links := pages(t), 0
	for _, p := range all {
		for _, m := range linkTo.FindAllStringSubmatch(code.ReplaceAllString(p.prose, ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			file := p.path
			if target != "" {
				file = path.Join(path.Dir(p.path), target)
			}
			if _, err := os.Stat(filepath.Join("..", file)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", p.path, m[1])
			} else if to := all[file]; anchor != "" && (to == nil || !to.anchors()[anchor]) {
				t.Errorf("%s: %s has no heading for #%s", p.path, file, anchor)
			}
		}
	}
	if links < 100 {
		t.Errorf("only %d links were found", links)
	}
}

// TestSiteHasEveryPage: each page below docs is in the menu of the site.
func TestSiteHasEveryPage(t *testing.T) {
	menu, err := os.ReadFile("../tools/site/.vitepress/menu.mts")
	if err != nil {
		t.Fatal(err)
	}
	for name := range pages(t) {
		link, below := strings.CutPrefix(strings.TrimSuffix(name, ".md"), "docs/")
		if below && link != "index" && !strings.Contains(string(menu), "'/"+strings.ToLower(link)+"'") {
			t.Errorf("the menu of the site does not have %s", name)
		}
	}
	for _, m := range regexp.MustCompile(`link: '/([^']*)'`).FindAllStringSubmatch(string(menu), -1) {
		found := false
		for name := range pages(t) {
			found = found || strings.ToLower(name) == "docs/"+m[1]+".md"
		}
		if !found {
			t.Errorf("the menu of the site names %s, and there is no such page", m[1])
		}
	}
}
