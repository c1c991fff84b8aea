// Package documents are the commands of instance control as documents of Systems Manager,
// one for each verb of oc-node. A parameter can be nothing but what it is of: each has a
// pattern that has no room for what a shell reads as anything but one word.
package documents

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Document is one document.
type Document struct {
	// Verb is that of oc-node.
	Verb string
	// Content is JSON, of schema 2.2.
	Content string
}

// Name is the document's name among those of an instance.
func (d Document) Name(prefix string) string { return prefix + "-" + d.Verb }

const (
	// timeoutSeconds bounds the script: above what oc-node takes at most by itself.
	timeoutSeconds = "180"
	// maxTextChars is what the largest unit file has in base64.
	maxTextChars = 21848
)

// command is what a verb does, and is given.
type command struct {
	verb, does string
	// unattended: what somebody holds by hand is not let go.
	unattended bool
	// looks: it changes nothing, and needs no record of who writes.
	looks bool
	// text: it is given the text of a unit file.
	text bool
}

func commands() []command {
	return []command{
		{verb: "process", does: "Tells what is known of the process of the node's server. Changes nothing.", looks: true},
		{verb: "stop", does: "Holds the unit of the node's server and ends its process, if the record of who writes is of the epoch.", unattended: true},
		{verb: "start", does: "Lifts the hold of the node's server and starts it, if the record of who writes is of the epoch.", unattended: true},
		{verb: "restart", does: "Ends the node's server and starts it by its unit as that reads now, if the record of who writes is of the epoch.", unattended: true},
		{verb: "unit", does: "Prints the unit file of the node's server. Changes nothing.", looks: true},
		{verb: "rewrite", does: "Replaces the unit file of the node's server for its next start, if the record of who writes is of the epoch.", text: true},
	}
}

// content is a document of schema 2.2.
type content struct {
	SchemaVersion string               `json:"schemaVersion"`
	Description   string               `json:"description"`
	Parameters    map[string]parameter `json:"parameters"`
	MainSteps     []step               `json:"mainSteps"`
}

type parameter struct {
	Type           string `json:"type"`
	Description    string `json:"description"`
	AllowedPattern string `json:"allowedPattern"`
	MaxChars       int    `json:"maxChars,omitempty"`
}

type step struct {
	Action       string               `json:"action"`
	Name         string               `json:"name"`
	Precondition map[string][2]string `json:"precondition"`
	Inputs       struct {
		TimeoutSeconds string   `json:"timeoutSeconds"`
		RunCommand     []string `json:"runCommand"`
	} `json:"inputs"`
}

// content has the command in words that a shell takes as they are, each parameter in quotes.
func (c command) content() content {
	line, epoch := "exec /opt/originchain/bin/oc-node "+c.verb, parameter{"String", "The epoch of the record that the command was sent for.", `^[1-9][0-9]{0,19}$`, 0}
	if c.unattended {
		line += " --unattended"
	}
	line += " --unit oc-http.service --epoch '{{ Epoch }}'"
	if c.looks {
		epoch.Description, epoch.AllowedPattern = "The epoch of the record that the command was sent for; 0 for none.", `^(0|[1-9][0-9]{0,19})$`
	}
	out := content{SchemaVersion: "2.2", Description: c.does, Parameters: map[string]parameter{"Epoch": epoch}}
	if c.text {
		line += " --text-base64 '{{ Text }}'"
		out.Parameters["Text"] = parameter{"String", "The new text of the unit file, in base64.", `^[A-Za-z0-9+/]+={0,2}$`, maxTextChars}
	}
	run := step{Action: "aws:runShellScript", Name: c.verb, Precondition: map[string][2]string{"StringEquals": {"platformType", "Linux"}}}
	run.Inputs.TimeoutSeconds, run.Inputs.RunCommand = timeoutSeconds, []string{"#!/bin/sh", line}
	out.MainSteps = []step{run}
	return out
}

// All are the documents that instance control needs.
func All() (out []Document, err error) {
	for _, c := range commands() {
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(c.content()); err != nil {
			return nil, fmt.Errorf("the document of %s: %w", c.verb, err)
		}
		out = append(out, Document{c.verb, text.String()})
	}
	return out, nil
}
