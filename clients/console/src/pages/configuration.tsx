/** The configuration of a collection as a form: rules, indexes, schema and so on. */

import { call, ifMatch, type Schemas } from "../api";
import { texts } from "../texts";
import { Show, useLoad } from "../ui/basics";
import { Modal } from "../ui/dialogs";
import { Field, Form } from "../ui/fields";
import { jsonOf, textOf, wordsOf } from "../ui/values";

type Config = Partial<Schemas["Collection"]>;
type Grants = string | string[];
const t = texts.configuration;
const OPERATIONS = ["read", "create", "update", "delete"] as const;

/** The fields of a configuration, with the values that it has now. */
export function ConfigurationFields({ config }: { config: Config }) {
  return (
    <>
      <fieldset class="grid">
        <legend>{t.rules}</legend>
        {OPERATIONS.map((operation) => (
          <Field key={operation} name={operation} label={t[operation]} value={wordsFrom(config.rules?.[operation] ?? "owner")} />
        ))}
        <small>{t.rulesHint}</small>
      </fieldset>
      <Field name="indexes" label={t.indexes} hint={t.indexesHint} type="textarea" rows={2} value={linesFrom(config.indexes)} />
      <Field name="unique" label={t.unique} value={wordsFrom(config.unique ?? [])} />
      <Field name="expires_after" label={t.expiresAfter} value={config.expires_after?.toString() ?? ""} />
      <Field name="history" label={t.history} type="checkbox" checked={config.history ?? false} />
      <Field name="require_if_match" label={t.requireIfMatch} type="checkbox" checked={config.require_if_match ?? false} />
      <Field name="schema" label={t.schema} hint={t.schemaHint} type="json" rows={8} value={schemaFrom(config.schema)} />
    </>
  );
}

function wordsFrom(value: Grants): string {
  return typeof value === "string" ? value : value.join(", ");
}

function linesFrom(indexes: string[][] | undefined): string {
  return (indexes ?? []).map((paths) => paths.join(", ")).join("\n");
}

function schemaFrom(schema: unknown): string {
  return schema === null || schema === undefined ? "" : JSON.stringify(schema, null, 2);
}

/** Return the configuration that was entered. Throws `SyntaxError`. */
export function configurationOf(values: FormData) {
  const lines = textOf(values, "indexes").split("\n").filter((line) => line.trim());
  const expires = textOf(values, "expires_after");
  return {
    rules: Object.fromEntries(OPERATIONS.map((operation) => [operation, grantsOf(values, operation)])),
    indexes: lines.map((line) => line.split(/[\s,]+/).filter(Boolean)),
    unique: wordsOf(values, "unique"),
    history: values.has("history"),
    require_if_match: values.has("require_if_match"),
    expires_after: expires ? Number(expires) : null,
    schema: jsonOf(values, "schema") ?? null,
  };
}

function grantsOf(values: FormData, operation: string): Grants {
  const words = wordsOf(values, operation);
  return words.length === 1 ? (words[0] as string) : words;
}

export function Configuration({ path, onClose }: { path: string; onClose: () => void }) {
  const found = useLoad(() => call<Schemas["Collection"]>("GET", `${path}/config`), [path]);
  const save = async (values: FormData) => {
    await call("PUT", path, { ...configurationOf(values), project: found.data?.project ?? null }, ifMatch(found.data));
    onClose();
  };
  return (
    <Modal title={texts.data.configuration} onClose={onClose}>
      <Show of={found}>
        {(config) => (
          <Form submit={texts.save} onSubmit={save} onCancel={onClose}>
            <ConfigurationFields config={config} />
          </Form>
        )}
      </Show>
    </Modal>
  );
}
