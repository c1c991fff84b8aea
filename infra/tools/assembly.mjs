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
    const stack = { assembly: this.name, name, account, region, file: path.join(this.directory, file), template, paths: new Map(), excuses: [] };
    for (const [at, entries] of Object.entries(said)) {
      for (const { type, data } of entries) {
        if (type === logicalId) stack.paths.set(data, at);
        if (type === excused) stack.excuses.push({ path: at, rule: data.rule, reason: data.reason, used: 0 });
      }
    }
    for (const id of Object.keys(template.Resources ?? {})) {
      if (!stack.paths.has(id)) throw new Error(`${file}: nothing says what ${id} is of`);
    }
    return stack;
  }
}
