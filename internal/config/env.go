package config

import (
	"regexp"
	"strings"

	"github.com/dkvdb/dkv/internal/suggest"
)

// envPrefix begins the name of every environment variable of dkvsrv.
const envPrefix = "DKV_"

// envName converts a key's name to that of its variable, without the prefix.
func envName(key string) string {
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(key))
}

// environment is the parsed environment variables.
type environment struct {
	file     named
	settings []setting
	notices  []string
}

// parseEnv reads the variables that begin with DKV_.
func parseEnv(t *table, env []string) *environment {
	byVar := map[string]*key{}
	known := []string{"CONFIG"} // without the prefix, which would make all of them look similar
	for k := range t.all {
		byVar[k.env()] = k
		known = append(known, envName(k.name))
	}
	e := &environment{}
	for _, entry := range env {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		origin := Origin{Source: FromEnv, Name: name}
		switch k := byVar[name]; {
		case k != nil:
			e.settings = append(e.settings, setting{k, text, origin})
		case name == envPrefix+"CONFIG":
			e.file = named{path: text, origin: origin, given: true}
		case name == envPrefix+"TOKEN":
			// dkvctl's variable: both programs may share an environment.
		case isServiceLink(name, text):
			e.notices = append(e.notices, name+" is ignored: it describes a Kubernetes service, not this node")
		default:
			// A warning, not an error: orchestrators set variables by themselves.
			e.notices = append(e.notices, "the environment variable "+oneLine(name)+" is ignored: there is no such key"+
				didYouMean(envPrefix, suggest.Nearest(strings.TrimPrefix(name, envPrefix), known)))
		}
	}
	return e
}

// isServiceLink reports whether a variable is one of those that Kubernetes sets in
// every pod for every service of the namespace: a service called "dkv" or
// "dkv-master" must not keep its own pods from starting. The shortest of them,
// DKV_PORT, is recognised by its value, which is a URL.
func isServiceLink(name, text string) bool {
	return serviceVariable().MatchString(name) || strings.HasSuffix(name, "_PORT") && strings.Contains(text, "://")
}

func serviceVariable() *regexp.Regexp {
	return regexp.MustCompile(`_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)
}
