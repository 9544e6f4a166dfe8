package identify

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dkvdb/dkv/internal/auth/policy"
)

// content is what was read from the file and from those that it names.
type content struct {
	policy *policy.Policy
	// file and keys are the hashes of the file, and of the keys and authorities of its JWTs.
	file, keys [sha256.Size]byte
	// stamps are those of all files, from before they were read.
	stamps []stamp
}

func (c *content) same(other *content) bool { return c.file == other.file && c.keys == other.keys }

// load reads the file. After an error the content has the stamps of what was read.
func load(path string) (*content, error) {
	c := new(content)
	data, err := c.read(path)
	if err != nil {
		return c, err
	}
	c.file = sha256.Sum256(data)
	if c.policy, err = policy.Parse(path, data); err != nil || c.policy.JWT == nil {
		return c, err
	}
	keys := sha256.New()
	for _, name := range []*string{&c.policy.JWT.KeyFile, &c.policy.JWT.CAFile} {
		if *name == "" {
			continue
		}
		if !filepath.IsAbs(*name) {
			*name = filepath.Join(filepath.Dir(path), *name) // as users expect of a name in a file
		}
		data, err := c.read(*name)
		if err != nil {
			return c, err
		}
		keys.Write(data)
	}
	keys.Sum(c.keys[:0])
	return c, nil
}

// read reads one of the files.
func (c *content) read(path string) ([]byte, error) {
	c.stamps = append(c.stamps, stampOf(path))
	return readFile(path)
}

// readFile reads no more than a file of identities may have.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w; name a file that this user may read", err)
	}
	defer file.Close() // only read
	data, err := io.ReadAll(io.LimitReader(file, policy.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w; name a file and no folder", path, err)
	}
	return data, nil
}
