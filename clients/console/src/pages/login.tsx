import { useState } from "preact/hooks";
import { call, Problem } from "../api";
import { loadSession } from "../session";
import { texts } from "../texts";
import { type FieldProps, Form } from "../ui/fields";
import { textOf } from "../ui/values";

const t = texts.login;
const NAME: FieldProps = { name: "username", label: t.username, required: true, autocomplete: "username" };
const PASSWORD: FieldProps = {
  name: "password",
  label: t.password,
  type: "password",
  required: true,
  autocomplete: "current-password",
};
const CODE: FieldProps = { name: "code", label: t.otp, hint: t.otpHint, required: true, autocomplete: "one-time-code" };

export function Login() {
  const [challenge, setChallenge] = useState("");
  const [registers, setRegisters] = useState(false);

  const logIn = async (values: FormData) => {
    const body = { username: textOf(values, "username"), password: String(values.get("password")) };
    try {
      await call("POST", "/auth/login?cookie=true", body);
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "mfa-required") throw error;
      setChallenge(String(error.extra.challenge));
      return;
    }
    await loadSession();
  };
  const verify = async (values: FormData) => {
    const code = textOf(values, "code");
    const factor = /^\d{6}$/.test(code) ? { otp: code } : { recovery_code: code };
    await call("POST", "/auth/mfa/verify?cookie=true", { challenge, ...factor });
    await loadSession();
  };
  const register = async (values: FormData) => {
    const [username, email, full_name] = ["username", "email", "full_name"].map((name) => textOf(values, name));
    await call("POST", "/auth/register", { username, email, full_name, password: String(values.get("password")) });
    await logIn(values);
  };

  if (challenge) return <Box title={t.title}>{<Form fields={[CODE]} submit={t.submit} onSubmit={verify} />}</Box>;
  const extra: FieldProps[] = [
    { name: "email", label: t.email, type: "email", required: true, autocomplete: "email" },
    { name: "full_name", label: t.fullName, autocomplete: "name" },
  ];
  const other = () => setRegisters(!registers);
  return (
    <Box title={registers ? t.register : t.title}>
      {registers ? (
        <Form key="register" fields={[{ ...NAME, label: texts.users.username }, ...extra, { ...PASSWORD, autocomplete: "new-password" }]} submit={t.register} onSubmit={register} />
      ) : (
        <Form key="login" fields={[NAME, PASSWORD]} submit={t.submit} onSubmit={logIn} />
      )}
      <button type="button" class="link" onClick={other}>
        {registers ? t.haveAccount : t.register}
      </button>
    </Box>
  );
}

function Box({ title, children }: { title: string; children: preact.ComponentChildren }) {
  return (
    <main class="login">
      <article>
        <p class="muted">{texts.product}</p>
        <h1>{title}</h1>
        {children}
      </article>
    </main>
  );
}
