package verification

import (
	"fmt"

	"originchain/shared/rows"
	"originchain/shared/table"
	"originchain/shared/tenant"
)

// seeRecord checks a record that is read as a whole, by the loader the server
// reads it with.
func (c *contents) seeRecord(p table.Parts, key, value []byte) {
	var err error
	switch p.Space {
	case table.SpaceTenants:
		err = c.seeTenant(p, value)
	case table.SpaceTokens:
		err = c.seeToken(p, value)
	case table.SpaceIdem:
		c.tally(holder{p.Tenant, table.IdemTable, 0}, key, value)
		err = c.seeAnswer(p, value)
	case table.SpaceIdemOrder:
		err = c.seeOrder(p, key)
	default:
		err = fmt.Errorf("there is no space %d", p.Space)
	}
	if err != nil {
		f := Fault{Check: CheckRecords, Problem: err.Error()}
		if p.Tenant != table.System {
			f.Tenant = p.Tenant.String()
		}
		c.keyFault(f, key)
	}
}

// seeTenant reads a tenant's record. The system's records come before those of
// any tenant, since its id is zero: all tenants are known when they are needed.
func (c *contents) seeTenant(p table.Parts, value []byte) error {
	r, err := tenant.DecodeTenant(value)
	if err != nil {
		return err
	}
	if p.Tenant != table.System || string(p.Rest) != string(r.ID[:]) {
		return fmt.Errorf("the record of tenant %s is under another key", r.ID)
	}
	c.tenants[r.ID] = true
	return nil
}

func (c *contents) seeToken(p table.Parts, value []byte) error {
	r, err := tenant.DecodeToken(value)
	if err != nil {
		return err
	}
	if p.Tenant != table.System || string(p.Rest) != string(r.ID[:]) {
		return fmt.Errorf("the record of token %s is under another key", r.ID)
	}
	if !c.tenants[r.Tenant] {
		return fmt.Errorf("token %s is of tenant %s, which does not exist", r.ID, r.Tenant)
	}
	return nil
}

// seeAnswer holds a stored answer against its place in the order of expiry.
func (c *contents) seeAnswer(p table.Parts, value []byte) error {
	a, err := rows.DecodeAnswer(value)
	if err != nil {
		return err
	}
	_, ok, err := c.snap.Get(table.IdemOrderKey(p.Tenant, a.Stamp, string(p.Rest)))
	if err == nil && !ok {
		err = fmt.Errorf("the stored answer has no place in the order of expiry")
	}
	return err
}

// seeOrder holds a place in the order of expiry against its stored answer.
func (c *contents) seeOrder(p table.Parts, key []byte) error {
	stamp, name, ok := table.SplitIdemOrderKey(key)
	if !ok {
		return fmt.Errorf("the key has no known form")
	}
	value, ok, err := c.snap.Get(table.IdemKey(p.Tenant, name))
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("a place in the order of expiry without its stored answer")
	}
	a, err := rows.DecodeAnswer(value)
	if err == nil && a.Stamp != stamp {
		err = fmt.Errorf("a place in the order of expiry at %d for a stored answer of %d", stamp, a.Stamp)
	}
	return err
}
