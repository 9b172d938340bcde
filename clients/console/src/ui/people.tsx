/** Users by name, for those who may read users; for others by ID. */

import { useEffect, useState } from "preact/hooks";
import { call, type PageOf, Problem, type Schemas } from "../api";
import { may, me } from "../session";
import { texts } from "../texts";

type User = Schemas["User"];
const USER_ID = /^[0-9a-f]{32}$/;
/** The names that were asked for in this visit, by ID; an empty one for no user. */
const names = new Map<string, Promise<string>>();

function nameOf(id: string): Promise<string> {
  const known = names.get(id);
  if (known) return known;
  const asked = call<User>("GET", `/users/${encodeURIComponent(id)}`).then(
    (user) => user.username,
    () => "",
  );
  names.set(id, asked);
  return asked;
}

/** A user's name with a link to the user's page; whatever else it is, as it is. */
export function UserName({ id }: { id: string }) {
  const own = me.value?.user;
  const [name, setName] = useState(id === own?.id ? own.username : "");
  const reads = USER_ID.test(id) && may("users:read");
  useEffect(() => {
    if (reads) void nameOf(id).then(setName);
  }, [id, reads]);
  if (!id) return <>{texts.none}</>;
  return reads && name ? (
    <a href={`/console/users/${id}`} title={id}>
      {name}
    </a>
  ) : (
    <span title={id}>{name || id}</span>
  );
}

/** Return the ID of a user who is named by ID or, by those who may read users, by username; for nobody an empty text. */
export async function findUser(text: string): Promise<string> {
  if (!text) return "";
  if (text === me.value?.user.username) return me.value.user.id;
  if (USER_ID.test(text) || !may("users:read")) return text;
  const found = await call<PageOf<User>>("GET", `/users?q=${encodeURIComponent(text)}`);
  const user = found.items.find((each) => each.username.toLowerCase() === text.toLowerCase() || each.email === text);
  if (!user) throw new Problem(404, "not-found", texts.users.unknown(text));
  return user.id;
}
