import { useState } from "preact/hooks";
import { call, Problem } from "../api";
import { loadSession } from "../session";
import { texts } from "../texts";
import { type FieldProps, Form } from "../ui/fields";
import { textOf } from "../ui/values";
import { Link } from "./letters";

const t = texts.login;
const NAME: FieldProps = { name: "username", label: t.username, required: true, autocomplete: "username" };
const PASSWORD: FieldProps = {
  name: "password",
  label: t.password,
  type: "password",
  required: true,
  autocomplete: "current-password",
};
const EMAIL: FieldProps = { name: "email", label: t.email, type: "email", required: true, autocomplete: "email" };
const NEW_USER: FieldProps[] = [
  { ...NAME, label: texts.users.username },
  EMAIL,
  { name: "full_name", label: t.fullName, autocomplete: "name" },
  { ...PASSWORD, autocomplete: "new-password" },
];
const CODE: FieldProps = { name: "code", label: t.otp, hint: t.otpHint, required: true, autocomplete: "one-time-code" };

type Mode = "login" | "register" | "forgot";

export function Login() {
  const [challenge, setChallenge] = useState("");
  const [mode, setMode] = useState<Mode>("login");
  const [mailed, setMailed] = useState(false);

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
  const show = (next: Mode) => {
    setMode(next);
    setMailed(false);
  };
  const mailLink = async (values: FormData) => {
    await call("POST", "/auth/password/reset", { email: textOf(values, "email") });
    show("login");
    setMailed(true);
  };

  if (challenge) return <Box title={t.title}>{<Form fields={[CODE]} submit={t.submit} onSubmit={verify} />}</Box>;
  return (
    <Box title={{ login: t.title, register: t.register, forgot: t.forgot }[mode]}>
      {mailed && <p role="status">{t.mailed}</p>}
      {mode === "login" && <Form key="login" fields={[NAME, PASSWORD]} submit={t.submit} onSubmit={logIn} />}
      {mode === "register" && <Form key="register" fields={NEW_USER} submit={t.register} onSubmit={register} />}
      {mode === "forgot" && <Form key="forgot" fields={[EMAIL]} submit={t.mailLink} onSubmit={mailLink} />}
      {mode === "login" ? (
        <div class="actions">
          <Link text={t.register} onOpen={() => show("register")} />
          <Link text={t.forgot} onOpen={() => show("forgot")} />
        </div>
      ) : (
        <Link text={t.back} onOpen={() => show("login")} />
      )}
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
