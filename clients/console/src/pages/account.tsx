import { useState } from "preact/hooks";
import { call, MERGE_PATCH, type Schemas } from "../api";
import { loadSession, me } from "../session";
import { texts } from "../texts";
import { Action, Badge, Copy, Page } from "../ui/basics";
import { ask, Modal, tell } from "../ui/dialogs";
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
    const revoke_keys = values.has("revoke_keys");
    const body = { current_password: values.get("password"), new_password: values.get("new_password"), revoke_keys };
    await call("POST", "/auth/password", body);
    tell(revoke_keys ? t.changedAndRevoked : t.changed);
  };
  const endAll = async () => {
    await call("POST", "/auth/logout?all=true");
    me.value = null;
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
          {user.username} · {user.roles.join(", ")}
        </p>
        <Form submit={texts.save} onSubmit={saveProfile} fields={[{ name: "full_name", label: texts.users.fullName, value: user.full_name }]} />
      </section>
      <Email user={user} />
      <section>
        <h2>{t.password}</h2>
        <Form
          submit={texts.save}
          onSubmit={changePassword}
          fields={[
            PASSWORD,
            { name: "new_password", label: t.next, type: "password", required: true, autocomplete: "new-password" },
            { name: "revoke_keys", label: t.revokeKeys, type: "checkbox" },
          ]}
        />
      </section>
      <SecondFactor />
      <section>
        <h2>{texts.users.sessions}</h2>
        <Sessions path="/auth/sessions" />
        <Action label={t.endAll} run={endAll} />
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

/** The user's address, which changes only with the link that is mailed to the new one. */
function Email({ user }: { user: Schemas["User"] }) {
  const change = async (values: FormData) => {
    const email = textOf(values, "email");
    await call("POST", "/auth/email", { email, password: values.get("password") });
    tell(t.changeMailed(email));
  };
  const verify = (email: string) => call("POST", "/auth/email/verify").then(() => tell(t.verifyMailed(email)));
  return (
    <section>
      <h2>{t.email}</h2>
      {user.email && (
        <div class="actions">
          {user.email} <Badge kind={user.email_verified ? "good" : "busy"}>{user.email_verified ? t.verified : t.unverified}</Badge>
          {!user.email_verified && <Action label={t.verify} run={() => verify(user.email ?? "")} />}
        </div>
      )}
      <Form
        submit={t.mailLink}
        onSubmit={change}
        fields={[{ name: "email", label: t.newEmail, hint: t.newEmailHint, type: "email", required: true, autocomplete: "email" }, PASSWORD]}
      />
    </section>
  );
}

function proof(values: FormData) {
  const code = textOf(values, "code");
  const factor = !code ? {} : /^\d{6}$/.test(code) ? { otp: code } : { recovery_code: code };
  return { password: String(values.get("password")), ...factor };
}

/** A change of the second factor. */
interface Change {
  title: string;
  warning: string;
  submit: string;
  run: (values: FormData) => Promise<void>;
}

function SecondFactor() {
  const [secret, setSecret] = useState<Schemas["TotpSecret"]>();
  const [codes, setCodes] = useState<string[]>([]);
  const [asked, setAsked] = useState<Change>();
  const on = me.value?.mfa ?? false;
  const begin = async (values: FormData) => setSecret(await call("POST", "/auth/mfa/totp", proof(values)));
  const confirm = async (values: FormData) => {
    const { recovery_codes } = await call<Schemas["RecoveryCodes"]>("POST", "/auth/mfa/totp/confirm", { otp: textOf(values, "code") });
    setSecret(undefined);
    setCodes(recovery_codes);
    await loadSession();
  };
  const renew = async (values: FormData) => {
    const { recovery_codes } = await call<Schemas["RecoveryCodes"]>("POST", "/auth/mfa/recovery-codes", proof(values));
    setCodes(recovery_codes);
  };
  const disable = async (values: FormData) => {
    await call("DELETE", "/auth/mfa/totp", proof(values));
    setCodes([]);
    await loadSession();
  };
  const changes: Change[] = [
    { title: t.renew, warning: t.renewWarning, submit: t.renewNow, run: renew },
    { title: t.replace, warning: t.replaceWarning, submit: t.enrol, run: begin },
    { title: t.disable, warning: t.disableWarning, submit: t.disable, run: disable },
  ];
  return (
    <section>
      <h2>{t.mfa}</h2>
      <p>
        <Badge kind={on ? "good" : "busy"}>{on ? t.mfaOn : t.mfaOff}</Badge>
      </p>
      {codes.length > 0 && (
        <div role="status">
          <p>{t.recovery}</p>
          <Copy key={codes[0]} text={codes.join(" ")} />
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
        <div class="actions">
          {changes.map((change) => (
            <button type="button" class="secondary" onClick={() => setAsked(change)}>
              {change.title}
            </button>
          ))}
        </div>
      ) : (
        <Form submit={t.enrol} onSubmit={begin} fields={[PASSWORD]} />
      )}
      {asked && <Proof of={asked} onClose={() => setAsked(undefined)} />}
    </section>
  );
}

/** Ask for the password and a code before the second factor changes. */
function Proof({ of: change, onClose }: { of: Change; onClose: () => void }) {
  return (
    <Modal title={change.title} onClose={onClose}>
      <p>{change.warning}</p>
      <Form submit={change.submit} onSubmit={(values) => change.run(values).then(onClose)} onCancel={onClose} fields={[PASSWORD, CODE]} />
    </Modal>
  );
}
