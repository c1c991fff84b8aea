// What `cdk synth` wrote: templates, and what is said of the parts in them.
import fs from 'node:fs';
import path from 'node:path';

const excused = 'originchain:excused';
const logicalId = 'aws:cdk:logicalId';

export class Assembly {
  constructor(directory) {
    this.name = path.basename(directory);
    this.directory = directory;
    const { artifacts } = this.read('manifest.json');
    this.stacks = Object.entries(artifacts)
      .filter(([, a]) => a.type === 'aws:cloudformation:stack')
      .map(([name, a]) => this.stack(name, a));
    if (this.stacks.length === 0) throw new Error(`${directory} has no stacks`);
    this.resolveImports();
  }

  // What a stack imports from another is a text to the rules, which see one template at a
  // time: <LogicalId.Attribute>, as cdk-nag has it for what is of the template itself.
  resolveImports() {
    const exported = new Map();
    for (const { template } of this.stacks) {
      for (const { Export, Value } of Object.values(template.Outputs ?? {})) {
        if (Export) exported.set(Export.Name, Value.Ref ? `<${Value.Ref}>` : Value['Fn::GetAtt'] ? `<${Value['Fn::GetAtt'].join('.')}>` : undefined);
      }
    }
    for (const stack of this.stacks) {
      stack.template = JSON.parse(JSON.stringify(stack.template), (_, value) => {
        const name = value?.['Fn::ImportValue'];
        if (name === undefined) return value;
        if (!exported.get(name)) throw new Error(`${stack.name} imports ${JSON.stringify(name)}, which no stack exports`);
        return exported.get(name);
      });
    }
  }

  // write puts the templates as they are checked into a directory.
  write(directory) {
    for (const stack of this.stacks) {
      stack.file = path.join(directory, `${this.name}-${stack.name}.json`);
      fs.writeFileSync(stack.file, JSON.stringify(stack.template));
    }
  }

  read(file) {
    return JSON.parse(fs.readFileSync(path.join(this.directory, file), 'utf8'));
  }

  // A stack has its template, the path of every resource, and its excuses.
  stack(name, artifact) {
    const [, account, region] = /^aws:\/\/([^/]+)\/([^/]+)$/.exec(artifact.environment);
    const file = artifact.properties.templateFile;
    const said = { ...artifact.metadata, ...(artifact.additionalMetadataFile ? this.read(artifact.additionalMetadataFile) : {}) };
    const template = this.read(file);
    const stack = { assembly: this.name, name, account, region, template, paths: new Map(), excuses: [] };
    const excuses = new Map();
    for (const [at, entries] of Object.entries(said)) {
      for (const { type, data } of entries) {
        if (type === logicalId) stack.paths.set(data, at);
        if (type === excused) excuses.set(JSON.stringify([at, data]), { path: at, rule: data.rule, reason: data.reason, sids: data.sids ?? [], used: 0, there: new Set() });
      }
    }
    stack.excuses = [...excuses.values()];
    for (const id of Object.keys(template.Resources ?? {})) {
      if (!stack.paths.has(id)) throw new Error(`${file}: nothing says what ${id} is of`);
    }
    return stack;
  }
}
