package writer

import (
	"testing"
)

func TestRowWriteReadDelete(t *testing.T) {
	n := start(t)
	n.register(ordersManifest)
	a := n.call("POST", "/rows/shop.orders", `{"id":"a","total":5}`).want(200)
	v := a.str("version")
	a.is(`{"schema":"shop.orders","pk":"a","lsn":` + v + `,"version":` + v + `}`)
	g := n.call("GET", "/rows/shop.orders/a", "").want(200).is(`{"id":"a","total":5,"email":null}`)
	if g.header.Get("ETag") != `"`+v+`"` {
		t.Fatal(g.header)
	}
}
