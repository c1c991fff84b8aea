package objecttest

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"originchain/shared/object"
)

// What a Faulty store fails with. They are of no kind that package object names, as
// the passing failures of a real store are.
var (
	ErrInternal = errors.New("500 InternalError: we encountered an internal error, please try again")
	ErrSlowDown = errors.New("503 SlowDown: please reduce your request rate")
	ErrTimeout  = errors.New("the connection was lost before the answer came")
	ErrAway     = errors.New("no route to the object store")
)

// Fault is a way in which a call goes wrong.
type Fault string

// The faults. Those of a put and of a deletion may have had their effect, as one of
// several tries may have had; those of a get are met while reading.
const (
	Internal    Fault = "internal"      // any call: nothing is done, ErrInternal
	SlowDown    Fault = "slow_down"     // any call: nothing is done, ErrSlowDown
	LostAnswer  Fault = "lost_answer"   // put, delete, erase: done, ErrTimeout
	LostAndTold Fault = "lost_and_told" // put: done, ErrExists, as when a retry meets its own success
	HalfDone    Fault = "half_done"     // delete, erase: every second key is gone, ErrTimeout
	WrongByte   Fault = "wrong_byte"    // get: one bit is not as it was put
	Truncated   Fault = "truncated"     // get: it breaks off with io.ErrUnexpectedEOF
	Away        Fault = "away"          // any call while the store is away: ErrAway
)

// Call is a call of a Faulty store.
type Call struct {
	Op string // put, get, stat, list, delete, erase, now
	// Keys are those of the call; of a list the prefix.
	Keys []string
	// Nth counts the calls of this Op whose first key is the same, from 1.
	Nth int
}

// Hook sees the calls of a Faulty store.
type Hook struct {
	// Before runs before a call, which fails with its error and is not done. It may
	// block, until the context ends at most.
	Before func(ctx context.Context, c Call) error
	// After runs after a call that was done, with its outcome, and returns what the
	// caller is told instead. It runs for no call that Before or a fault has failed.
	After func(ctx context.Context, c Call, err error) error
}

// Faulty is a Store that goes wrong on purpose. Whether a call does is a function of
// the seed and the Call: the same for every order in which goroutines come. So a
// call that failed may pass when it is tried again.
type Faulty struct {
	store object.Store
	seed  uint64

	mu    sync.Mutex
	rates map[Fault]float64
	away  bool
	hook  Hook
	nth   map[string]int
	met   map[Fault]int
	calls []Call
}

var _ object.Store = (*Faulty)(nil)

// NewFaulty returns a store that is another one, until it is told how to fail.
func NewFaulty(store object.Store, seed uint64) *Faulty {
	return &Faulty{store: store, seed: seed, nth: make(map[string]int), met: make(map[Fault]int)}
}

// SetRates sets how often a call meets each fault that can meet it, from 0 to 1; no
// rates heal the store. It meets one at most: the rates of an op add up.
func (f *Faulty) SetRates(rates map[Fault]float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rates = rates
}

// SetAway makes every call fail, or ends that. Readers that are open read on.
func (f *Faulty) SetAway(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}

// SetHook sets what sees the calls; the zero Hook ends that.
func (f *Faulty) SetHook(h Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = h
}

// Met returns how many calls have met a fault. A test whose fault was never met has
// tested nothing.
func (f *Faulty) Met(fault Fault) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.met[fault]
}

// Calls returns the calls so far, in the order in which they came.
func (f *Faulty) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// String implements Store.
func (f *Faulty) String() string { return f.store.String() }

// faultsOf lists what can meet an op.
func faultsOf(op string) []Fault {
	faults := []Fault{Internal, SlowDown}
	switch op {
	case "put":
		return append(faults, LostAnswer, LostAndTold)
	case "delete", "erase":
		return append(faults, LostAnswer, HalfDone)
	case "get":
		return append(faults, WrongByte, Truncated)
	default:
		return faults
	}
}

// begin decides what meets a call.
func (f *Faulty) begin(op string, keys []string) (c Call, met Fault, rng *rand.Rand, hook Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := ""
	if len(keys) > 0 {
		first = keys[0]
	}
	h := fnv.New64a()
	_, _ = io.WriteString(h, op+" "+first)
	f.nth[op+" "+first]++
	c = Call{Op: op, Keys: slices.Clone(keys), Nth: f.nth[op+" "+first]}
	f.calls = append(f.calls, c)
	rng = rand.New(rand.NewPCG(f.seed^h.Sum64(), uint64(c.Nth)))
	if f.away {
		met = Away
	} else {
		x := rng.Float64()
		for _, fault := range faultsOf(op) {
			if x -= f.rates[fault]; x < 0 {
				met = fault
				break
			}
		}
	}
	if met != "" {
		f.met[met]++
	}
	return c, met, rng, f.hook
}

// do runs a call, or what a fault leaves of it. half does every second part of it.
func (f *Faulty) do(ctx context.Context, op string, keys []string, call, half func() error) (met Fault, rng *rand.Rand, err error) {
	c, met, rng, hook := f.begin(op, keys)
	fail := func(err error) error {
		return &object.Error{Op: op, Key: object.Several(keys), Store: f.String(), Err: err}
	}
	if hook.Before != nil {
		if err := hook.Before(ctx, c); err != nil {
			return "", nil, fail(err)
		}
	}
	switch met {
	case Internal:
		return met, rng, fail(ErrInternal)
	case SlowDown:
		return met, rng, fail(ErrSlowDown)
	case Away:
		return met, rng, fail(ErrAway)
	case HalfDone:
		return met, rng, fail(errors.Join(ErrTimeout, half()))
	}
	if err = call(); err == nil && met == LostAnswer {
		return met, rng, fail(ErrTimeout)
	} else if err == nil && met == LostAndTold {
		return met, rng, fail(object.ErrExists)
	}
	if hook.After != nil {
		told := hook.After(ctx, c, err)
		var typed *object.Error
		if told != nil && !errors.As(told, &typed) {
			told = fail(told)
		}
		err = told
	}
	return met, rng, err
}

// Put implements Store.
func (f *Faulty) Put(ctx context.Context, key string, body object.Body) error {
	_, _, err := f.do(ctx, "put", []string{key}, func() error { return f.store.Put(ctx, key, body) }, nil)
	return err
}

// Get implements Store.
func (f *Faulty) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	var r io.ReadCloser
	met, rng, err := f.do(ctx, "get", []string{key}, func() (err error) {
		r, err = f.store.Get(ctx, key, off, n)
		return err
	}, nil)
	if err != nil {
		if r != nil {
			err = errors.Join(err, r.Close())
		}
		return nil, err
	}
	if met != WrongByte && met != Truncated {
		return r, nil
	}
	if n < 0 {
		info, err := f.store.Stat(ctx, key)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		n = info.Size - off
	}
	if n <= 0 {
		return r, nil // there is no byte to be wrong
	}
	return &spoilt{r: r, how: met, at: rng.Int64N(n), bit: 1 << rng.IntN(8)}, nil
}

// spoilt is a reader that goes wrong at one byte.
type spoilt struct {
	r   io.ReadCloser
	how Fault
	at  int64 // how many bytes are left before it
	bit byte
}

func (s *spoilt) Close() error { return s.r.Close() }

func (s *spoilt) Read(p []byte) (int, error) {
	if s.how == Truncated {
		if s.at == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		p = p[:min(int64(len(p)), s.at)]
	}
	n, err := s.r.Read(p)
	if s.at >= 0 && s.at < int64(n) {
		p[s.at] ^= s.bit
	}
	s.at -= int64(n)
	return n, err
}

// Stat implements Store.
func (f *Faulty) Stat(ctx context.Context, key string) (info object.Info, err error) {
	_, _, err = f.do(ctx, "stat", []string{key}, func() (err error) {
		info, err = f.store.Stat(ctx, key)
		return err
	}, nil)
	return info, err
}

// List implements Store.
func (f *Faulty) List(ctx context.Context, prefix, after string, limit int) (list []object.Info, err error) {
	_, _, err = f.do(ctx, "list", []string{prefix}, func() (err error) {
		list, err = f.store.List(ctx, prefix, after, limit)
		return err
	}, nil)
	return list, err
}

// Delete implements Store.
func (f *Faulty) Delete(ctx context.Context, keys ...string) error {
	return f.remove(ctx, "delete", f.store.Delete, keys)
}

// Erase implements Store.
func (f *Faulty) Erase(ctx context.Context, keys ...string) error {
	return f.remove(ctx, "erase", f.store.Erase, keys)
}

// EraseVersions implements Store.
func (f *Faulty) EraseVersions(ctx context.Context, prefix string) (n int, err error) {
	_, _, err = f.do(ctx, "erase versions", []string{prefix}, func() (err error) {
		n, err = f.store.EraseVersions(ctx, prefix)
		return err
	}, nil)
	return n, err
}

// Now implements Store.
func (f *Faulty) Now(ctx context.Context) (now time.Time, err error) {
	_, _, err = f.do(ctx, "now", nil, func() (err error) {
		now, err = f.store.Now(ctx)
		return err
	}, nil)
	return now, err
}

func (f *Faulty) remove(ctx context.Context, op string, remove func(context.Context, ...string) error, keys []string) error {
	_, _, err := f.do(ctx, op, keys, func() error { return remove(ctx, keys...) }, func() error {
		var half []string
		for i := 0; i < len(keys); i += 2 {
			half = append(half, keys[i])
		}
		return remove(ctx, half...)
	})
	return err
}
