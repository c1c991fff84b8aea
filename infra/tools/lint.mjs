// Checks synthesized deployments against every rule of cdk-nag and of cfn-guard's
// Control Tower set, and their state machines as Step Functions would.
//
//   node lint.mjs DIRECTORY...   each an output of `cdk synth`
//
// A finding is excused by metadata of its part, or of one around it (excuse() in
// infra/stack). What is not excused, and an excuse that is wrong, is a line of JSON on
// standard output; then the exit code is 1. 2 means that the checks could not be made.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { Assembly } from './assembly.mjs';
import { judge } from './excuses.mjs';
import { guard } from './guard.mjs';
import { machines } from './machines.mjs';
import { nag } from './nag.mjs';

export async function lint(directories) {
  const assemblies = directories.map((d) => new Assembly(d));
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'lint-'));
  try {
    for (const a of assemblies) a.write(scratch);
    const findings = [...(await guard(assemblies)), ...assemblies.flatMap(nag), ...assemblies.flatMap(machines)];
    return judge(assemblies, findings);
  } finally {
    fs.rmSync(scratch, { recursive: true });
  }
}

if (process.argv[1] === import.meta.filename) {
  try {
    if (process.argv.length < 3) throw new Error('usage: node lint.mjs DIRECTORY...');
    const { errors, summary } = await lint(process.argv.slice(2));
    for (const e of errors) console.log(JSON.stringify(e));
    console.error(summary);
    process.exitCode = errors.length > 0 ? 1 : 0;
  } catch (e) {
    console.error(e.stack);
    process.exitCode = 2;
  }
}
