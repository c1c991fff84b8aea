// The definitions of state machines, as they are once CloudFormation has filled them in.
import validate from 'asl-validator';

export function machines(assembly) {
  return assembly.stacks.flatMap((stack) =>
    Object.entries(stack.template.Resources)
      .filter(([, r]) => r.Type === 'AWS::StepFunctions::StateMachine')
      .flatMap(([id, r]) => faults(definition(stack, r.Properties)).map((says) => ({ stack, id, rule: 'asl-validator', says }))),
  );
}

// faults are what Step Functions would refuse in a definition.
export function faults(text) {
  let machine;
  try {
    machine = JSON.parse(text);
  } catch (e) {
    return [`the definition is not JSON: ${e.message}`];
  }
  const empty = [...new Set(text.match(/\$\{[^}]*\}/g))].map((p) => `nothing is filled in for ${p}`);
  return [...empty, ...validate(machine).errors.map((e) => `${e['Error code']}: ${e.Message}`)];
}

function definition(stack, p) {
  if (p.DefinitionString === undefined) throw new Error(`${stack.name}: the definition of a state machine is not in the template`);
  let text = resolve(stack, p.DefinitionString);
  for (const [name, value] of Object.entries(p.DefinitionSubstitutions ?? {})) text = text.replaceAll('${' + name + '}', resolve(stack, value));
  return text;
}

// resolve stands an ARN in for what only CloudFormation knows.
function resolve(stack, v) {
  if (typeof v === 'string') return v.replace(/<([A-Za-z0-9]+)\.Arn>/g, (_, id) => arn(stack, id));
  if (v['Fn::Join']) return v['Fn::Join'][1].map((e) => resolve(stack, e)).join(v['Fn::Join'][0]);
  if (v.Ref === 'AWS::Partition') return 'aws';
  if (v.Ref === 'AWS::Region') return stack.region;
  if (v.Ref === 'AWS::AccountId') return stack.account;
  if (v.Ref) return arn(stack, v.Ref);
  if (v['Fn::GetAtt']) return arn(stack, v['Fn::GetAtt'][0]);
  throw new Error(`${stack.name}: nobody here knows what ${JSON.stringify(v)} is in a state machine`);
}

const arn = (stack, id) => `arn:aws:lambda:${stack.region}:${stack.account}:function:${id}`;
