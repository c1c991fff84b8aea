package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"
)

// plugins make the code; each is a tool of tools.mod.
var plugins = []string{"protoc-gen-go", "protoc-gen-go-grpc"}

// skipped directories hold no proto file of ours.
var skipped = []string{".git", "bin", "var", "testdata", "node_modules", "cdk.out"}

// write generates the code of all proto files below root and writes what has
// changed; it returns the files that it wrote.
func write(ctx context.Context, root string) (written []string, err error) {
	code, err := generate(ctx, root)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(code)) {
		path := filepath.Join(root, name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, code[name]) {
			continue
		}
		if err := os.WriteFile(path, code[name], 0o644); err != nil {
			return written, err
		}
		written = append(written, path)
	}
	return written, nil
}

// generate returns the code by file, named from root.
func generate(ctx context.Context, root string) (map[string][]byte, error) {
	files, err := find(root)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no proto file below " + root)
	}
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard, // comments go into the code
	}
	linked, err := compiler.Compile(ctx, files...)
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: files, Parameter: proto.String("paths=source_relative")}
	sent := make(map[string]bool)
	for _, file := range linked {
		add(request, sent, file)
	}
	code := make(map[string][]byte)
	for _, plugin := range plugins {
		if err := run(ctx, root, plugin, request, code); err != nil {
			return nil, fmt.Errorf("%s: %w", plugin, err)
		}
	}
	return code, nil
}

// find lists the proto files below root, with slashes and sorted.
func find(root string) (files []string, err error) {
	err = fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(skipped, entry.Name()):
			return fs.SkipDir
		case !entry.IsDir() && strings.HasSuffix(path, ".proto"):
			files = append(files, path)
		}
		return nil
	})
	return files, err
}

// add puts a file into the request, after what it imports, as plugins want it.
func add(request *pluginpb.CodeGeneratorRequest, sent map[string]bool, file protoreflect.FileDescriptor) {
	if sent[file.Path()] {
		return
	}
	sent[file.Path()] = true
	for i := range file.Imports().Len() {
		add(request, sent, file.Imports().Get(i).FileDescriptor)
	}
	request.ProtoFile = append(request.ProtoFile, protoutil.ProtoFromFileDescriptor(file))
}

// run asks one plugin and adds its files to code.
func run(ctx context.Context, root, plugin string, request *pluginpb.CodeGeneratorRequest, code map[string][]byte) error {
	in, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "go", "tool", "-modfile=tools.mod", plugin)
	command.Dir = root
	command.Stdin = bytes.NewReader(in)
	var errors bytes.Buffer
	command.Stderr = &errors
	out, err := command.Output()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, errors.Bytes())
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &response); err != nil {
		return err
	}
	if response.Error != nil {
		return fmt.Errorf("refused: %s", response.GetError())
	}
	for _, file := range response.GetFile() {
		code[file.GetName()] = []byte(file.GetContent())
	}
	return nil
}
