// A compressed network made smaller still: values near zero dropped, the others merged. The same as simplify.py, which
// says why, to the bit. Chapter 07.

/** The nearest number that a float16 can hold; weights are far from its largest. */
function half(x) {
  const step = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(x)))) - 10);
  return x ? Math.round(x / step) * step : 0;
}

/** The distinct values of some weights other than 0, ascending, and how often each occurs. */
export function shared(weights) {
  const counts = new Map();
  for (const weight of weights) if (weight) counts.set(weight, (counts.get(weight) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => a - b).map(([value, count]) => ({ value, count }));
}

/** For each distinct value what becomes of it: `dropped` of them become 0, the others share `values` values. */
export function merged(distinct, dropped, values) {
  const order = [...distinct].sort((a, b) => Math.abs(a.value) - Math.abs(b.value) || b.value - a.value);
  const gone = new Set(order.slice(0, dropped));
  const groups = distinct.filter((each) => !gone.has(each)).map((each) => ({ members: [each.value], mean: each.value, size: each.count }));
  const cost = (a, b) => ((a.size * b.size) / (a.size + b.size)) * (b.mean - a.mean) ** 2;
  while (groups.length > values) {
    let best = 0;
    for (let i = 1; i < groups.length - 1; i += 1) if (cost(groups[i], groups[i + 1]) < cost(groups[best], groups[best + 1])) best = i;
    const [a, b] = groups.slice(best, best + 2);
    const size = a.size + b.size;
    groups.splice(best, 2, { members: [...a.members, ...b.members], mean: (a.size * a.mean + b.size * b.mean) / size, size });
  }
  const becomes = new Map(distinct.map(({ value }) => [value, 0]));
  for (const { members, mean } of groups) for (const value of members) becomes.set(value, half(mean));
  return becomes;
}

/** A network's tensors with fewer shared values in each layer's weights. */
export function simplified(tensors, dropped, values) {
  const smaller = new Map(tensors);
  for (const [name, tensor] of tensors) {
    if (!name.endsWith(".weight")) continue;
    const becomes = merged(shared(tensor.values), dropped, values);
    smaller.set(name, { ...tensor, values: tensor.values.map((weight) => (weight ? becomes.get(weight) : weight)) });
  }
  return smaller;
}
