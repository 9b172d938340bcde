/** The types of objects in the fleet and their methods, from the API's own description. */

import { call } from "./api";
import type { Schema } from "./ui/schema_form";

export interface Method {
  name: string;
  about: string;
  args: Schema;
}

export interface ObjectType {
  name: string;
  about: string;
  methods: Method[];
}

export interface Described {
  types: ObjectType[];
  definitions: Record<string, Schema>;
}

interface OpenApi {
  tags: { name: string; description?: string }[];
  paths: Record<string, { post?: Operation }>;
  components: { schemas: Record<string, Schema> };
}

interface Operation {
  tags?: string[];
  requestBody?: { content: Record<string, { schema: Schema }> };
}

const OWN_PATH = /^\/durable-objects\/([a-z][a-z0-9_]*):\{id\}\/request$/;

/** Return the types that callers may use; those of the services' own machinery only with `internal`. */
export async function readTypes(internal = false): Promise<Described> {
  const document = await call<OpenApi>("GET", `/openapi.json${internal ? "?internal=true" : ""}`);
  const definitions = document.components.schemas;
  const types = Object.entries(document.paths).flatMap(([path, item]) => {
    const name = OWN_PATH.exec(path)?.[1];
    if (!name || !item.post) return [];
    const about = document.tags.find((tag) => item.post?.tags?.includes(tag.name))?.description ?? "";
    return [{ name, about, methods: methodsOf(item.post, definitions) }];
  });
  return { types, definitions };
}

/** Each method is one alternative of the request's body: a constant `method` beside its `args`. */
function methodsOf(operation: Operation, definitions: Record<string, Schema>): Method[] {
  const body = operation.requestBody?.content["application/json"]?.schema ?? {};
  const choices = (body.oneOf ?? body.anyOf ?? [body]) as Schema[];
  return choices.flatMap((choice) => {
    const schema = choice.$ref ? (definitions[choice.$ref.split("/").pop() ?? ""] ?? {}) : choice;
    const method = schema.properties?.method;
    const names = method?.const !== undefined ? [method.const] : (method?.enum ?? []);
    const about = schema.description ?? "";
    return names.map((name) => ({ name: String(name), about, args: schema.properties?.args ?? {} }));
  });
}
