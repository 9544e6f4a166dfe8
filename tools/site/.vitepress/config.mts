// The documentation site: make site builds it from docs/ into build/site. It loads nothing
// from other hosts when it is read.
import path from 'node:path'
import { createRequire } from 'node:module'
import { defineConfig } from 'vitepress'
import { menu } from './menu.mts'

// Where links lead that leave docs/.
const repository = 'https://github.com/dkvdb/dkv/blob/master/'

// slugify makes the anchors that GitHub makes, so that a link to a heading works in both.
const slugify = (title: string) =>
  title.trim().toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '').replace(/ /g, '-')

// linksOut makes links to what is no page lead to the repository, and those between pages
// follow their names in lower case.
function linksOut(md: any) {
  md.core.ruler.push('links_out', (state: any) => {
    const folder = path.posix.dirname(state.env.relativePath ?? '')
    for (const block of state.tokens)
      for (const token of block.children ?? []) {
        const href = token.type === 'link_open' ? token.attrGet('href') : null
        if (!href || /^([a-z]+:|#|\/)/.test(href)) continue
        const [file, anchor] = href.split('#')
        const target = path.posix.join(folder, file)
        const rest = anchor ? '#' + anchor : ''
        if (!file.endsWith('.md')) token.attrSet('href', repository + path.posix.join('docs', target) + rest)
        else if (target.startsWith('../')) token.attrSet('href', repository + target.slice(3) + rest)
        else token.attrSet('href', file.toLowerCase() + rest)
      }
  })
}

const { resolve } = createRequire(import.meta.url)

export default defineConfig({
  title: 'DKV',
  description: 'A distributed key-value store: strongly consistent writes, cheap reads from many replicas',
  lang: 'en-GB',
  srcDir: '../../docs',
  outDir: '../../build/site',
  cacheDir: '../../build/site-cache',
  base: process.env.SITE_BASE || '/',
  // The pages are not below this folder, where the generator's modules are.
  vite: {
    resolve: {
      alias: [
        { find: /^vue$/, replacement: resolve('vue/dist/vue.runtime.esm-bundler.js') },
        { find: /^vue\/server-renderer$/, replacement: resolve('@vue/server-renderer/dist/server-renderer.esm-bundler.js') },
      ],
    },
  },
  rewrites: (id: string) => id.toLowerCase(),
  head: [['link', { rel: 'icon', href: 'data:,' }]],
  markdown: {
    anchor: { slugify },
    toc: { slugify },
    headers: { slugify },
    config: linksOut,
  },
  themeConfig: {
    nav: [
      { text: 'Quick start', link: '/guide/quick-start' },
      { text: 'Runbooks', link: '/runbooks' },
      { text: 'Configuration', link: '/reference/configuration' },
      { text: 'dkvctl', link: '/reference/dkvctl' },
    ],
    sidebar: menu,
    outline: { level: [2, 3] },
    search: { provider: 'local' },
    docFooter: { prev: 'Before', next: 'Next' },
  },
})
