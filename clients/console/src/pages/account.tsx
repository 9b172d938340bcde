import { useState } from "preact/hooks";
import { call, MERGE_PATCH, type Schemas } from "../api";
import { loadSession, me } from "../session";
import { texts } from "../texts";
import { Badge, Copy, Page } from "../ui/basics";
import { ask, tell } from "../ui/dialogs";
import { type FieldProps, Form } from "../ui/fields";
import { Sessions } from "./users";
import { textOf } from "../ui/values";

const t = texts.account;
const PASSWORD: FieldProps = { name: "password", label: t.current, type: "password", required: true, autocomplete: "current-password" };
const CODE: FieldProps = { name: "code", label: t.code, required: true, autocomplete: "one-time-code" };

export function Account() {
  const user = me.value?.user;
  if (!user) return null;
  const saveProfile = async (values: FormData) => {
    await call("PATCH", "/users/me", { full_name: textOf(values, "full_name") }, MERGE_PATCH);
    await loadSession();
    tell(t.saved);
  };
  const changePassword = async (values: FormData) => {
    const body = { current_password: values.get("password"), new_password: values.get("new_password") };
    await call("POST", "/auth/password", body);
    tell(t.changed);
  };
  const erase = async (values: FormData) => {
    const password = String(values.get("password"));
    ask(t.eraseWarning, t.erase, async () => {
      await call("DELETE", `/users/${user.id}`, { password });
      me.value = null;
    });
  };
  return (
    <Page title={t.title}>
      <section>
        <h2>{t.profile}</h2>
        <p>
          {user.username} {user.email && `· ${user.email}`} · {user.roles.join(", ")}
        </p>
        <Form submit={texts.save} onSubmit={saveProfile} fields={[{ name: "full_name", label: texts.users.fullName, value: user.full_name }]} />
      </section>
      <section>
        <h2>{t.password}</h2>
        <Form
          submit={texts.save}
          onSubmit={changePassword}
          fields={[PASSWORD, { name: "new_password", label: t.next, type: "password", required: true, autocomplete: "new-password" }]}
        />
      </section>
      <SecondFactor />
      <section>
        <h2>{texts.users.sessions}</h2>
        <Sessions path="/auth/sessions" />
      </section>
      <section>
        <h2>{t.permissions}</h2>
        <p>{me.value?.permissions.join(", ")}</p>
      </section>
      <section>
        <h2>{t.erase}</h2>
        <Form submit={t.erase} kind="danger" onSubmit={erase} fields={[PASSWORD]} />
      </section>
    </Page>
  );
}

function proof(values: FormData) {
  const code = textOf(values, "code");
  const factor = !code ? {} : /^\d{6}$/.test(code) ? { otp: code } : { recovery_code: code };
  return { password: String(values.get("password")), ...factor };
}

function SecondFactor() {
  const [secret, setSecret] = useState<Schemas["TotpSecret"]>();
  const [codes, setCodes] = useState<string[]>([]);
  const on = me.value?.mfa ?? false;
  const begin = async (values: FormData) => setSecret(await call("POST", "/auth/mfa/totp", proof(values)));
  const confirm = async (values: FormData) => {
    const { recovery_codes } = await call<Schemas["RecoveryCodes"]>("POST", "/auth/mfa/totp/confirm", { otp: textOf(values, "code") });
    setSecret(undefined);
    setCodes(recovery_codes);
    await loadSession();
  };
  const disable = async (values: FormData) => {
    await call("DELETE", "/auth/mfa/totp", proof(values));
    setCodes([]);
    await loadSession();
  };
  return (
    <section>
      <h2>{t.mfa}</h2>
      <p>
        <Badge kind={on ? "good" : "busy"}>{on ? t.mfaOn : t.mfaOff}</Badge>
      </p>
      {codes.length > 0 && (
        <div role="status">
          <p>{t.recovery}</p>
          <Copy text={codes.join(" ")} />
        </div>
      )}
      {secret ? (
        <>
          <p>{t.scan}</p>
          <img class="qr" alt={secret.uri} src={`data:image/svg+xml;utf8,${encodeURIComponent(secret.qr_svg)}`} />
          <p>{t.orSecret}</p>
          <Copy text={secret.secret} />
          <Form submit={t.confirm} onSubmit={confirm} fields={[CODE]} />
        </>
      ) : on ? (
        <Form key="off" submit={t.disable} onSubmit={disable} fields={[PASSWORD, CODE]} />
      ) : (
        <Form key="on" submit={t.enrol} onSubmit={begin} fields={[PASSWORD]} />
      )}
    </section>
  );
}
