package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"originchain/shared/engine"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/table"
	"originchain/test/oracle"
)

// transaction reads and writes a few rows in a snapshot and commits them.
func (c *client) transaction(r *run) error {
	p := c.next("transaction")
	if c.rng.IntN(2) == 0 {
		p.idem = fmt.Sprintf("%d-%d", c.id, c.seq)
	}
	edits := make([]edit, 1+c.rng.IntN(4))
	for i := range edits {
		edits[i] = c.edit()
	}
	p.again = func(r *run, p *proposal) (engine.Outcome, error) { return onlyStored(r, p) }
	pos, err := transact(r, p, edits)
	if err != nil {
		return err
	}
	c.rec.ack(p, pos, true, string(answerBody(pos)))
	return c.readBack(r, p, pos)
}

// errExecuted is what a repeated transaction gets when its answer is not kept.
var errExecuted = errors.New("the stored answer was not found")

// onlyStored asks for the answer to an earlier request.
func onlyStored(r *run, p *proposal) (engine.Outcome, error) {
	return r.Commit(context.Background(), engine.Proposal{
		Tenant: tenant, Idem: p.idempotency(), Build: func(*rows.Builder) error { return errExecuted },
	})
}

func transact(r *run, p *proposal, edits []edit) (lsn.Pos, error) {
	tx, err := r.Begin(tenant)
	if err != nil {
		return lsn.Pos{}, err
	}
	defer tx.Close()
	cat, err := tx.Catalog()
	if err != nil {
		return lsn.Pos{}, err
	}
	i := newIntent()
	if err := apply(tx, cat, edits, i); err != nil {
		return lsn.Pos{}, err
	}
	t, err := cat.Table("sim.journal")
	if err != nil {
		return lsn.Pos{}, err
	}
	journal, err := rows.Prepare(t, schema.Row{schema.I64(int64(p.client)), schema.I64(int64(p.seq))}, nil)
	if err != nil {
		return lsn.Pos{}, err
	}
	if _, err := tx.Put(journal, rows.Any()); err != nil {
		return lsn.Pos{}, err
	}
	p.mean(i.effects)
	return tx.Commit(context.Background(), p.idempotency())
}

// scratchRows is how many rows a scratch table is made with.
const scratchRows = 5

// createScratch makes a table with rows in it, all in one frame.
func (c *client) createScratch(r *run) error {
	p := c.next("create table")
	name := fmt.Sprintf("scratch_%d_%d", c.id, c.seq)
	_, err := c.commit(r, p, func(b *rows.Builder, i *intent) error {
		t, _, err := b.CreateTable(tenant, []byte(scratchManifest(name)))
		if err != nil {
			return err
		}
		i.effects[oracle.TableName("sim."+name)] = "present"
		for id := range int64(scratchRows) {
			ed := edit{table: "sim." + name, pk: id, row: schema.Row{schema.I64(id), schema.Str(fmt.Sprint("word ", id%3))}}
			if err := ed.apply(b, t, rows.Absent(), i); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		c.scratch = append(c.scratch, "sim."+name)
	}
	return err
}

// dropScratch drops one of the client's own tables with its rows.
func (c *client) dropScratch(r *run) error {
	if len(c.scratch) == 0 {
		return nil
	}
	p := c.next("drop table")
	name := c.scratch[0]
	c.scratch = c.scratch[1:]
	_, err := c.commit(r, p, func(b *rows.Builder, i *intent) error {
		i.effects[oracle.TableName(name)] = oracle.Gone
		for id := range int64(scratchRows) {
			i.effects[oracle.RowName(name, []schema.Value{schema.I64(id)})] = oracle.Gone
		}
		return b.DropTable(tenant, name)
	})
	return err
}

// index makes an index while others write, or drops it. A unique one over
// cities fails; what it left must go.
func (c *client) index(r *run) error {
	name := fmt.Sprintf("extra_%d", c.rng.IntN(2))
	p := c.next("index " + name)
	p.builds = "sim.customers"
	if c.rng.IntN(3) == 0 {
		pos, err := r.DropIndex(context.Background(), tenant, p.builds, name)
		if err == nil {
			c.rec.ack(p, pos, false, "")
		}
		return err
	}
	ix := table.IndexRecord{Name: name, Columns: []string{"score"}}
	if c.rng.IntN(3) == 0 {
		ix.Columns, ix.Unique = []string{"city"}, true
	}
	_, pos, err := r.CreateIndex(context.Background(), tenant, p.builds, ix)
	if err == nil {
		c.rec.ack(p, pos, false, "")
	}
	return err
}

// putRecord stores a token's record.
func (c *client) putRecord(r *run) error {
	p := c.next("record")
	id := []byte(fmt.Sprintf("token %d", c.rng.IntN(6)))
	value := fmt.Sprintf("%d/%d %s", c.id, c.seq, strings.Repeat("x", c.rng.IntN(60)))
	_, err := c.commit(r, p, func(b *rows.Builder, i *intent) error {
		i.effects[oracle.RecordName(table.SpaceTokens, id)] = value
		return b.PutRecord(table.SpaceTokens, id, []byte(value), false)
	})
	return err
}
