/** A form for the arguments of a method, made from its JSON Schema. */

import { texts } from "../texts";
import type { FieldProps } from "./fields";
import { jsonOf, textOf } from "./values";

export interface Schema {
  type?: string | string[];
  properties?: Record<string, Schema>;
  required?: string[];
  enum?: unknown[];
  const?: unknown;
  anyOf?: Schema[];
  default?: unknown;
  description?: string;
  $ref?: string;
  [key: string]: unknown;
}

type Definitions = Record<string, Schema>;

/** Follow a reference, whether into `$defs` or into the components of the API's document. */
export function resolve(schema: Schema, definitions: Definitions): Schema {
  for (let hops = 0; schema.$ref && hops < 10; hops++) schema = definitions[schema.$ref.split("/").pop() ?? ""] ?? {};
  return schema;
}

/** The one type of a value that may also be null, or undefined if it has several. */
function typeOf(schema: Schema, definitions: Definitions): Schema & { only?: string } {
  const own = resolve(schema, definitions);
  const choices = (own.anyOf ?? [own]).map((choice) => resolve(choice, definitions));
  const filled = choices.filter((choice) => choice.type !== "null");
  const [first] = filled;
  if (filled.length !== 1 || !first || typeof first.type !== "string") return own;
  return { ...first, only: first.type };
}

/** Return one field for each argument of a method. */
export function fieldsOf(args: Schema, definitions: Definitions): FieldProps[] {
  const schema = resolve(args, definitions);
  return Object.entries(schema.properties ?? {}).map(([name, property]) => {
    const own = typeOf(property, definitions);
    const required = schema.required?.includes(name) ?? false;
    const value = property.default === undefined || property.default === null ? "" : asText(property.default);
    const label = required ? `${name} (${texts.form.required})` : name;
    return { name, label, required, value, ...inputFor(own), ...(own.description ? { hint: own.description } : {}) };
  });
}

function inputFor(schema: Schema & { only?: string }): Partial<FieldProps> {
  if (schema.enum) return { type: "select", options: ["", ...schema.enum.map(String)], empty: texts.choose };
  if (schema.only === "boolean") return { type: "select", options: ["", "true", "false"], empty: texts.choose };
  if (schema.only === "integer" || schema.only === "number") return { type: "text" };
  return schema.only === "string" ? { type: "text" } : { type: "json", rows: 3 };
}

function asText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Return the arguments that were entered; what was left empty is left out. Throws `SyntaxError`. */
export function argumentsOf(args: Schema, definitions: Definitions, values: FormData): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const [name, property] of Object.entries(resolve(args, definitions).properties ?? {})) {
    if (textOf(values, name) === "") continue;
    found[name] = typeOf(property, definitions).only === "string" ? String(values.get(name)) : jsonOf(values, name);
  }
  return found;
}
