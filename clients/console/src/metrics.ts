/** Metrics in Prometheus' text format. */

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** Return the samples of an exposition; lines of other kinds are left out. */
export function parse(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    const found = line.startsWith("#") ? null : LINE.exec(line);
    if (!found?.[1] || !found[3]) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map((label) => [label[1], label[2]]));
    samples.push({ name: found[1], labels: labels as Record<string, string>, value: Number(found[3]) });
  }
  return samples;
}

export function sum(samples: Sample[], name: string, matches: (labels: Record<string, string>) => boolean = () => true) {
  let total = 0;
  for (const sample of samples) if (sample.name === name && matches(sample.labels)) total += sample.value;
  return total;
}
