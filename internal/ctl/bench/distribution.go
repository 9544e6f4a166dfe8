package bench

import (
	"math"
	"math/rand/v2"
)

// chooser picks the index of the next key. Each worker has its own.
type chooser struct {
	rand *rand.Rand
	keys uint64
	zipf *zipf // nil chooses uniformly
}

func newChooser(cfg *Config, z *zipf, worker int) *chooser {
	return &chooser{rand: rand.New(rand.NewPCG(cfg.Seed, uint64(worker))), keys: cfg.Keys, zipf: z}
}

func (c *chooser) next() uint64 {
	if c.zipf == nil {
		return c.rand.Uint64N(c.keys)
	}
	// The popular keys are spread over the whole key space, as they are in
	// life; otherwise they would share one storage block.
	return scramble(c.zipf.rank(c.rand.Float64())) % c.keys
}

// zipf draws ranks from 0 to n-1 where rank r has a probability proportional
// to 1/(r+1)^theta, 0 < theta < 1: the generator of Gray et al., "Quickly
// generating billion-record synthetic databases", SIGMOD 1994, which YCSB uses
// too. It is safe for concurrent use, and making one takes time in O(n).
type zipf struct {
	n                 float64
	alpha, eta, zetaN float64
	second            float64 // below it, scaled by zetaN, a draw is rank 1
}

func newZipf(n uint64, theta float64) *zipf {
	zetaN := 0.0
	for i := uint64(1); i <= n; i++ {
		zetaN += math.Pow(float64(i), -theta)
	}
	zeta2 := 1 + math.Pow(2, -theta)
	return &zipf{
		n:      float64(n),
		alpha:  1 / (1 - theta),
		eta:    (1 - math.Pow(2/float64(n), 1-theta)) / (1 - zeta2/zetaN),
		zetaN:  zetaN,
		second: zeta2,
	}
}

// rank turns u, uniform in [0, 1), into a rank.
func (z *zipf) rank(u float64) uint64 {
	scaled := u * z.zetaN
	switch {
	case scaled < 1:
		return 0
	case scaled < z.second:
		return 1
	default:
		return min(uint64(z.n*math.Pow(z.eta*u-z.eta+1, z.alpha)), uint64(z.n)-1)
	}
}
