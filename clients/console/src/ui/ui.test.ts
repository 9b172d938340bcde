import { expect, test } from "vitest";
import { placeOf } from "../placement";
import { parseSearch } from "../search";
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

test("a search compares a path of the state, or looks for a text anywhere", () => {
  const state = { value: 12, owner: { name: "ada" }, tags: ["Blue"], big: "9" };
  for (const text of ["value > 10", "value=12", "value <= 12", "owner.name = ada", 'owner.name = "ada"', "blue", "tags.0 = Blue", "gone != 1"])
    expect(parseSearch(text)(state), text).toBe(true);
  for (const text of ["value > 12", "value = 13", "owner = ada", "green", "gone > 1", "big > 8", "constructor.name = Object"])
    expect(parseSearch(text)(state), text).toBe(false);
});

test("an object's partition is the one that the fleet computes, and its host the one that owns it", () => {
  const all = [...Array(64).keys()];
  const first = { service: "objects", replica: 0, partitions: { counter: all.slice(0, 32), basket: all } };
  const second = { service: "objects", replica: 1, partitions: { counter: all.slice(32, 63) } };
  // As `aidevos.contracts.subjects.partition` has them.
  expect(placeOf("counter", "clicks", [first, second])).toEqual({ partition: 18, host: "objects-0" });
  expect(placeOf("counter", "hot", [first, second])).toEqual({ partition: 42, host: "objects-1" });
  expect(placeOf("show", "frïday", [first, second])).toEqual({ partition: 28, host: undefined });
  expect(placeOf("counter", "clicks", [])).toBeUndefined();
});
