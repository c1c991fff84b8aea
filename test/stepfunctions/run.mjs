// Runs a state machine whose tasks are calls of a server: POST <server>/<state> with the
// task's parameters; an answer other than 200 is {"errorType", "errorMessage"}. Prints the
// names of the states as they were entered, and how it ended. With "now" nothing is waited
// for; else waits and pauses between tries are as long as the definition says.
import { readFileSync } from 'node:fs';
import { StateMachine } from 'aws-local-stepfunctions';

const [definitionPath, server, inputPath, execution, pace] = process.argv.slice(2);
const definition = JSON.parse(readFileSync(definitionPath, 'utf8'));
const input = JSON.parse(readFileSync(inputPath, 'utf8'));

const call = (state) => async (parameters) => {
  const response = await fetch(`${server}/${state}`, { method: 'POST', body: JSON.stringify(parameters) });
  const body = await response.json();
  if (response.status !== 200) {
    const failure = new Error(body.errorMessage);
    failure.name = body.errorType;
    throw failure;
  }
  return body;
};

const tasks = Object.entries(definition.States).filter(([, s]) => s.Type === 'Task').map(([name]) => name);
const waits = Object.entries(definition.States).filter(([, s]) => s.Type === 'Wait').map(([name]) => name);
const of = (names, value) => Object.fromEntries(names.map((name) => [name, value(name)]));

const { result, eventLogs } = new StateMachine(definition).run(input, {
  overrides: {
    taskResourceLocalHandlers: of(tasks, call),
    ...(pace === 'now' ? { waitTimeOverrides: of(waits, () => 1), retryIntervalOverrides: of(tasks, () => 1) } : {}),
  },
  context: { Execution: { Id: execution }, Task: { Token: 'token-of-the-task' } },
});

const states = [];
const ended = result.then(() => ({ status: 'SUCCEEDED' }), (e) => {
  const failure = e.cause ?? e;
  return { status: 'FAILED', error: failure.name, cause: failure.message };
});
for await (const event of eventLogs) {
  if (event.type === 'StateEntered') states.push(event.state.name);
}
process.stdout.write(JSON.stringify({ states, ...(await ended) }));
