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

const tokenNotes = `
Actions:
  new NAME          make a token for a name. It is shown once, or written to -tokenFile (mode 600);
                    -authFile gets its hash. Without -authFile the entry is printed.
  revoke NAME|ID    remove all tokens of a name, or the one with this ID, from -authFile
  list              names, the IDs of their tokens and their rights; no secrets
A name that is new needs -role. One that exists keeps its rights, and may have two tokens: to change
a token, make the second, give it to the clients, and revoke the first by its ID.
Comments in -authFile stay; its layout may change. Every node needs the changed file.
Certificates and names in JWTs get rights in the file itself: see docs/OPERATIONS.md.

Examples:
  dkvctl -token new me -role admin -authFile auth.yaml -tokenFile me.token
  dkvctl -token new reports -role read,watch -database orders -prefix eu/ -days 90 -authFile auth.yaml
  dkvctl -token revoke bq7k2m3n -authFile auth.yaml
`
