import { call, ifMatch, type Schemas } from "../api";
import { texts } from "../texts";
import { Page, Show, useLoad } from "../ui/basics";
import { tell } from "../ui/dialogs";
import { Field, Form } from "../ui/fields";
import { jsonOf } from "../ui/values";

const t = texts.limits;

export function RateLimits() {
  const limits = useLoad(() => call<Schemas["RateLimits"]>("GET", "/rate-limits"), []);
  const save = async (values: FormData) => {
    await call("PUT", "/rate-limits", { policies: jsonOf(values, "policies") }, ifMatch(limits.data));
    tell(texts.account.saved);
    limits.reload();
  };
  return (
    <Page title={t.title}>
      <Show of={limits}>
        {({ policies, version }) => (
          <Form key={version} submit={texts.save} onSubmit={save}>
            <p class="muted">{t.about}</p>
            <Field name="policies" label={t.hint} type="json" rows={18} value={JSON.stringify(policies, null, 2)} />
          </Form>
        )}
      </Show>
    </Page>
  );
}
