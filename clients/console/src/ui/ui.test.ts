import { expect, test } from "vitest";
import { parse, sum } from "../metrics";
import { differences } from "./json";
import { argumentsOf, fieldsOf } from "./schema_form";

test("differences name each changed leaf by its JSON pointer", () => {
  const before = { a: 1, deep: { "x/y": [1], same: true } };
  const after = { deep: { "x/y": [1, 2], same: true }, added: null };
  expect(differences(before, after)).toEqual([
    { path: "/a", before: 1, after: undefined },
    { path: "/added", before: undefined, after: null },
    { path: "/deep/x~1y", before: [1], after: [1, 2] },
  ]);
  expect(differences(after, after)).toEqual([]);
});

const ARGUMENTS = {
  type: "object",
  required: ["name", "by"],
  properties: {
    name: { type: "string" },
    by: { type: "integer", default: 1 },
    tags: { anyOf: [{ type: "array" }, { type: "null" }] },
    size: { $ref: "#/$defs/Size" },
  },
};
const DEFINITIONS = { Size: { enum: ["small", "large"] } };

test("a form has a field for each argument, with defaults and choices", () => {
  const fields = fieldsOf(ARGUMENTS, DEFINITIONS);
  expect(fields.map((field) => [field.name, field.type, field.value, field.required])).toEqual([
    ["name", "text", "", true],
    ["by", "text", "1", true],
    ["tags", "json", "", false],
    ["size", "select", "", false],
  ]);
  expect(fields[3]?.options).toEqual(["", "small", "large"]);
});

test("texts stay texts, other arguments are JSON, and empty ones are left out", () => {
  const values = new FormData();
  for (const [name, value] of Object.entries({ name: "12", by: "3", tags: '["a"]', size: "" })) values.set(name, value);
  expect(argumentsOf(ARGUMENTS, DEFINITIONS, values)).toEqual({ name: "12", by: 3, tags: ["a"] });
  values.set("by", "three");
  expect(() => argumentsOf(ARGUMENTS, DEFINITIONS, values)).toThrow(SyntaxError);
});

test("metrics are summed over their labels", () => {
  const samples = parse('# TYPE a counter\na{x="1",y="say \\"hi\\", ok"} 2\na{x="2"} 3.5 # {trace_id="f"} 1\nb 7\n');
  expect(sum(samples, "a")).toBe(5.5);
  expect(sum(samples, "a", (labels) => labels.x === "2")).toBe(3.5);
  expect(samples[0]?.labels.y).toContain("hi");
});
