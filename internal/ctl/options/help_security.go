package options

const certsNotes = `
Actions:
  init              make an authority in -dir: ca.pem and ca.key
  node [HOST ...]   certificate of a node that is reached at these names and addresses
  client NAME       certificate of a client, for auth-file; with -cert and -key
  rotate [FILE ...] renew these certificates, or all that have lived for two thirds of their time
  rotate ca         replace the authority, one step each time; each prints what to do next
  show [FILE ...]   names and days left; exit code 1 if one has expired or cannot be used
Existing files are not overwritten, except by rotate. Nodes and clients read renewed files by themselves.
Keep ca.key on one machine, which need not run a node. Of the rest, a node needs its own certificate
and key and ca.pem.

Examples:
  dkvctl -certs init
  dkvctl -certs node db1.example 10.0.0.1
  dkvctl -certs client reports
  dkvctl -certs rotate -days 90
`
