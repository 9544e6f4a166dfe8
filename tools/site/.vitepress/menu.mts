// The menu of the site. Links are the paths of pages below docs, in lower case.
// A test (internal/pages_test.go) keeps it complete.
export const menu = [
  {
    text: 'Getting started',
    items: [
      { text: 'Quick start', link: '/guide/quick-start' },
      { text: 'Installing', link: '/guide/install' },
      { text: 'Concepts', link: '/guide/concepts' },
      { text: 'Running nodes', link: '/guide/running' },
      { text: 'Choosing a topology', link: '/guide/topologies' },
      { text: 'Migrating from the earlier DKV', link: '/guide/migration' },
      { text: 'Comparison with others', link: '/guide/comparison' },
      { text: 'Questions and answers', link: '/guide/faq' },
    ],
  },
  {
    text: 'Planning',
    items: [
      { text: 'Capacity', link: '/operate/capacity' },
      { text: 'Networks and ports', link: '/operate/networks' },
      { text: 'Kernel and Go settings', link: '/operate/tuning' },
      { text: 'Logs', link: '/operate/logs' },
      { text: 'Traces', link: '/operate/traces' },
      { text: 'Performance', link: '/operate/performance' },
      { text: 'Reliability', link: '/operate/reliability' },
    ],
  },
  {
    text: 'Operation',
    items: [
      { text: 'Operating DKV', link: '/operations' },
      { text: 'Drills', link: '/operate/drills' },
      { text: 'Runbooks', link: '/runbooks' },
      { text: 'Likely mistakes', link: '/mistakes' },
      { text: 'The console', link: '/console' },
    ],
  },
  {
    text: 'Security',
    items: [
      { text: 'Security model', link: '/security-model' },
      { text: 'Who may call what', link: '/access' },
      { text: 'The auth-file', link: '/auth-file' },
    ],
  },
  {
    text: 'Reference',
    items: [
      { text: 'Configuration', link: '/reference/configuration' },
      { text: 'dkvctl', link: '/reference/dkvctl' },
      { text: 'gRPC', link: '/reference/grpc' },
      { text: 'gRPC between nodes', link: '/reference/grpc-nodes' },
      { text: 'HTTP', link: '/reference/http' },
      { text: 'Metrics', link: '/reference/metrics' },
    ],
  },
  {
    text: 'Internals',
    items: [
      { text: 'Architecture', link: '/architecture' },
      { text: 'Benchmarks', link: '/benchmarks' },
    ],
  },
]
