package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/table"
	"originchain/test/oracle"
)

// client sends one request after the other and keeps what it was told. Every
// request but the building of an index also writes the client's row of the
// journal, in the same frame, so that a frame says whose it is.
type client struct {
	id  int
	seq int
	rng *rand.Rand
	rec *record
	// scratch are the client's own tables that it made and has not dropped.
	scratch []string
	// errs are answers that no request may get.
	errs []error
}

func newClient(id int, seed uint64, rec *record) *client {
	return &client{id: id, rng: rand.New(rand.NewPCG(seed, uint64(id)+100)), rec: rec}
}

// Keys are few, so that clients meet: uniques collide, transactions conflict,
// foreign keys dangle.
const (
	customerIDs = 40
	orderIDs    = 120
	emails      = 50
)

// refusals are what a correct engine may answer to requests that collide.
var refusals = map[fault.Code]bool{
	fault.AlreadyExists: true, fault.UniqueViolation: true, fault.FKViolation: true,
	fault.VersionMismatch: true, fault.Conflict: true, fault.UnknownTable: true, fault.NotFound: true,
}

func refused(err error) bool { return refusals[fault.CodeOf(err)] }

// step sends one random request; the answer is checked and kept.
func (c *client) step(r *run) {
	var err error
	switch n := c.rng.IntN(100); {
	case n < 48:
		err = c.change(r, 1, c.rng.IntN(3) == 0)
	case n < 58:
		err = c.change(r, 5+c.rng.IntN(20), c.rng.IntN(2) == 0)
	case n < 74:
		err = c.transaction(r)
	case n < 80:
		err = c.createScratch(r)
	case n < 85:
		err = c.dropScratch(r)
	case n < 89:
		err = c.index(r)
	case n < 94:
		err = c.putRecord(r)
	default:
		err = c.compareAndSwap(r)
	}
	if err != nil && !refused(err) {
		c.errs = append(c.errs, err)
	}
}

func (c *client) next(what string) *proposal {
	c.seq++
	return c.rec.propose(&proposal{client: c.id, seq: c.seq, what: what})
}

// edit is one row change; nil row is a delete.
type edit struct {
	table  string
	pk     int64
	row    schema.Row
	insert bool
}

func (c *client) edit() edit {
	switch c.rng.IntN(8) {
	case 0:
		return edit{table: "sim.customers", pk: int64(c.rng.IntN(customerIDs))}
	case 1:
		return edit{table: "sim.orders", pk: int64(c.rng.IntN(orderIDs))}
	case 2, 3, 4:
		id := int64(c.rng.IntN(customerIDs))
		return edit{table: "sim.customers", pk: id, insert: c.rng.IntN(3) == 0, row: schema.Row{
			schema.I64(id), c.text("m", emails), c.text("city ", 5), schema.F64(c.rng.NormFloat64()), schema.Str(c.note()),
		}}
	default:
		id, parent := int64(c.rng.IntN(orderIDs)), schema.Null()
		if c.rng.IntN(6) > 0 {
			parent = schema.I64(int64(c.rng.IntN(customerIDs)))
		}
		return edit{table: "sim.orders", pk: id, insert: c.rng.IntN(3) == 0, row: schema.Row{
			schema.I64(id), parent, c.text("tag ", 4), schema.Str(c.note()),
		}}
	}
}

func (c *client) text(prefix string, n int) schema.Value {
	if c.rng.IntN(5) == 0 {
		return schema.Null()
	}
	return schema.Str(fmt.Sprint(prefix, c.rng.IntN(n)))
}

// note is unlike every other one, and of very different lengths; now and then
// longer than a segment.
func (c *client) note() string {
	n := c.rng.IntN(120)
	switch c.rng.IntN(40) {
	case 0:
		n = 2000 + c.rng.IntN(4000)
	case 1:
		n = segmentBytes + c.rng.IntN(1000)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + c.rng.IntN(26))
	}
	return fmt.Sprintf("%d/%d %s", c.id, c.seq, b)
}

// plan is what a proposal does to a builder, with what it means.
type plan func(b *rows.Builder, i *intent) error

// intent is what a frame is going to mean: per name the last change, and
// whether there was anything before the frame. What is made and taken back in
// one frame means nothing.
type intent struct {
	effects oracle.Effects
	stood   map[string]bool
}

func newIntent() *intent { return &intent{oracle.Effects{}, map[string]bool{}} }

// touch notes, before the first change of a name, whether it stands.
func (i *intent) touch(name string, v table.View, key []byte) error {
	if _, known := i.stood[name]; known {
		return nil
	}
	_, ok, err := v.Get(key)
	i.stood[name] = ok
	return err
}

func (i *intent) gone(name string) {
	if i.stood[name] {
		i.effects[name] = oracle.Gone
	} else {
		delete(i.effects, name)
	}
}

// commit sends a proposal; its journal row goes with it.
func (c *client) commit(r *run, p *proposal, do plan) (engine.Outcome, error) {
	p.again = func(r *run, p *proposal) (engine.Outcome, error) { return send(r, p, do) }
	out, err := p.again(r, p)
	if err == nil {
		c.rec.ack(p, out.Pos, true, storedBody(out, p))
		err = c.readBack(r, p, out.Pos)
	}
	return out, err
}

// storedBody is the answer that a client of the request gets.
func storedBody(out engine.Outcome, p *proposal) string {
	switch {
	case p.idem == "":
		return ""
	case out.Stored != nil:
		return string(out.Stored.Body)
	}
	return string(answerBody(out.Pos))
}

func send(r *run, p *proposal, do plan) (engine.Outcome, error) {
	journal, err := journalRow(r, p)
	if err != nil {
		return engine.Outcome{}, err
	}
	return r.Commit(context.Background(), engine.Proposal{
		Tenant: tenant, Idem: p.idempotency(),
		Build: func(b *rows.Builder) error {
			i := newIntent()
			if err := do(b, i); err != nil {
				return err
			}
			if _, err := b.Put(journal, rows.Any()); err != nil {
				return err
			}
			p.mean(i.effects)
			return nil
		},
	})
}

func (p *proposal) idempotency() *engine.Idempotency {
	if p.idem == "" {
		return nil
	}
	return &engine.Idempotency{Key: p.idem, Request: p.request(), Status: 200, Answer: answerBody}
}

// mean notes what the frame that is now handed on must mean.
func (p *proposal) mean(e oracle.Effects) {
	row := schema.Row{schema.I64(int64(p.client)), schema.I64(int64(p.seq))}
	e[oracle.RowName("sim.journal", row[:1])] = oracle.RowValue(row)
	if p.idem != "" {
		e[oracle.AnswerName(p.idem)] = "present"
	}
	p.effects.Store(&e)
}

func journalRow(r *run, p *proposal) (*rows.Prepared, error) {
	t, err := r.table("sim.journal")
	if err != nil {
		return nil, err
	}
	return rows.Prepare(t, schema.Row{schema.I64(int64(p.client)), schema.I64(int64(p.seq))}, nil)
}

// readBack requires that what was answered is visible to the one who asked.
func (c *client) readBack(r *run, p *proposal, pos lsn.Pos) (err error) {
	snap, err := r.Snapshot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	at, durable := snap.Applied().Pos.LSN, r.Durable()
	if at < pos.LSN {
		return fmt.Errorf("%s was answered at %s, and a read after it stands at %d", p, pos, at)
	}
	if at > durable {
		return fmt.Errorf("a read stands at %d, and the log is durable up to %d", at, durable)
	}
	seq, err := journalSeq(snap, r, c.id)
	if err == nil && seq != p.seq {
		err = fmt.Errorf("%s was answered at %s, and a read after it sees request %d", p, pos, seq)
	}
	return err
}

// journalSeq is the client's last request in a view; 0 for none.
func journalSeq(v table.View, r *run, client int) (int, error) {
	t, err := r.table("sim.journal")
	if err != nil {
		return 0, err
	}
	key, err := table.RowKeyOf(nil, t, []schema.Value{schema.I64(int64(client))})
	if err != nil {
		return 0, err
	}
	row, _, ok, err := table.GetRow(v, t, key, nil)
	if err != nil || !ok {
		return 0, err
	}
	return int(row[1].AsI64()), nil
}

// change sends n row changes as one commit, with or without a key; a request
// with a key is often repeated at once.
func (c *client) change(r *run, n int, keyed bool) error {
	p := c.next(fmt.Sprintf("%d changes", n))
	if keyed {
		p.idem = fmt.Sprintf("%d-%d", c.id, c.seq)
	}
	edits := make([]edit, n)
	for i := range edits {
		edits[i] = c.edit()
		// A batch that upserts and never deletes is rarely refused.
		edits[i].insert = edits[i].insert && n == 1
	}
	do := func(b *rows.Builder, i *intent) error { return applyEdits(b, edits, i) }
	out, err := c.commit(r, p, do)
	if err != nil || !keyed || c.rng.IntN(3) > 0 {
		return err
	}
	return repeat(r, p, storedBody(out, p))
}

// repeat sends an answered request again: it must get the first answer.
func repeat(r *run, p *proposal, answer string) error {
	out, err := p.again(r, p.copy())
	switch {
	case err != nil:
		return fmt.Errorf("%s repeated: %w", p, err)
	case out.Stored == nil:
		return fmt.Errorf("%s was executed a second time at %s", p, out.Pos)
	case string(out.Stored.Body) != answer:
		return fmt.Errorf("%s was answered %q and, repeated, %q", p, answer, out.Stored.Body)
	}
	return nil
}

// changer is a builder of a frame, or a transaction.
type changer interface {
	table.View
	Put(*rows.Prepared, rows.Expect) (bool, error)
	Delete(*table.Table, []byte, rows.Expect) (bool, error)
}

func applyEdits(b *rows.Builder, edits []edit, i *intent) error {
	cat, err := b.Catalog(tenant)
	if err != nil {
		return err
	}
	return apply(b, cat, edits, i)
}

func apply(b changer, cat *table.Catalog, edits []edit, i *intent) error {
	for _, ed := range edits {
		t, err := cat.Table(ed.table)
		if err != nil {
			return err
		}
		expect := rows.Any()
		if ed.insert {
			expect = rows.Absent()
		}
		if err := ed.apply(b, t, expect, i); err != nil {
			return err
		}
	}
	return nil
}

func (ed *edit) apply(b changer, t *table.Table, expect rows.Expect, i *intent) error {
	pk := []schema.Value{schema.I64(ed.pk)}
	key, err := table.RowKeyOf(nil, t, pk)
	if err != nil {
		return err
	}
	name := oracle.RowName(ed.table, pk)
	if err := i.touch(name, b, key); err != nil {
		return err
	}
	if ed.row == nil {
		i.gone(name)
		_, err := b.Delete(t, key, expect)
		return err
	}
	p, err := rows.Prepare(t, ed.row, nil)
	if err != nil {
		return err
	}
	i.effects[name] = oracle.RowValue(ed.row)
	_, err = b.Put(p, expect)
	return err
}

// compareAndSwap changes a row only if it is as it was read.
func (c *client) compareAndSwap(r *run) error {
	ed := c.edit()
	for ed.row == nil {
		ed = c.edit()
	}
	t, err := r.table(ed.table)
	if err != nil {
		return err
	}
	key, err := table.RowKeyOf(nil, t, []schema.Value{schema.I64(ed.pk)})
	if err != nil {
		return err
	}
	_, version, ok, err := table.GetRow(r.View(), t, key, nil)
	if err != nil || !ok {
		return err
	}
	ed.insert = false
	p := c.next("compare and swap")
	_, err = c.commit(r, p, func(b *rows.Builder, i *intent) error {
		return ed.apply(b, t, rows.Version(version), i)
	})
	return err
}
