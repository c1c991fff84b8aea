// Package documents are the commands of instance control as documents of Systems Manager,
// one for each verb of oc-node. A parameter can be nothing but what it is of: each has a
// pattern that has no room for what a shell reads as anything but one word.
package documents

import (
	"embed"
	"fmt"
)

//go:embed *.json
var files embed.FS

// Document is one document.
type Document struct {
	// Verb is that of oc-node.
	Verb string
	// Content is JSON, of schema 2.2.
	Content string
}

// Name is the document's name among those of an instance.
func (d Document) Name(prefix string) string { return prefix + "-" + d.Verb }

// All are the documents that instance control needs.
func All() (out []Document, err error) {
	for _, verb := range []string{"process", "stop", "start", "restart", "unit", "rewrite"} {
		content, err := files.ReadFile(verb + ".json")
		if err != nil {
			return nil, fmt.Errorf("the document of %s: %w", verb, err)
		}
		out = append(out, Document{verb, string(content)})
	}
	return out, nil
}
