/** The menu, and the search over everything (Ctrl-K). */

import { useEffect, useRef, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { call, type Schemas } from "./api";
import { collectionUrl } from "./pages/data";
import { objectUrl } from "./pages/objects";
import { may, me, signOut } from "./session";
import { texts } from "./texts";
import { Modal } from "./ui/dialogs";

export interface Destination {
  path: string;
  title: string;
  group: keyof typeof texts.groups;
  needs?: string;
  /** What else it shows, by which the search finds it. */
  also?: string;
}

export const DESTINATIONS: Destination[] = [
  { path: "/console", title: texts.overview.title, group: "watch" },
  { path: "/console/fleet", title: texts.fleet.title, group: "watch", needs: "fleet:read", also: "hosts partitions busiest objects" },
  { path: "/console/events", title: texts.events.title, group: "watch", needs: "events:read" },
  { path: "/console/dead-letters", title: texts.letters.title, group: "watch", needs: "dead_letters:manage" },
  { path: "/console/objects", title: texts.objects.title, group: "build", needs: "objects:manage" },
  { path: "/console/data", title: texts.data.title, group: "build", needs: "data:read" },
  { path: "/console/projects", title: texts.projects.title, group: "build", needs: "projects:create", also: "tasks members" },
  { path: "/console/webhooks", title: texts.webhooks.title, group: "build", needs: "webhooks:self", also: "deliveries" },
  { path: "/console/routes", title: texts.routes.title, group: "build", needs: "routes:manage" },
  { path: "/console/users", title: texts.users.title, group: "people", needs: "users:read", also: "sessions" },
  { path: "/console/roles", title: texts.roles.title, group: "people", needs: "roles:manage" },
  { path: "/console/keys", title: texts.keys.title, group: "people", needs: "keys:self", also: "access tokens" },
  { path: "/console/limits", title: texts.limits.title, group: "people", needs: "limits:manage" },
  { path: "/console/audit", title: texts.audit.title, group: "people", needs: "audit:read" },
  { path: "/console/settings", title: texts.settings.title, group: "watch", needs: "fleet:read" },
  { path: "/console/account", title: texts.account.title, group: "you", also: "password e-mail second factor recovery codes" },
];

function visible(): Destination[] {
  return DESTINATIONS.filter((each) => !each.needs || may(each.needs));
}

export function Menu({ onSearch }: { onSearch: () => void }) {
  const { path } = useLocation();
  const [open, setOpen] = useState(false);
  useEffect(() => setOpen(false), [path]);
  const groups = Object.entries(texts.groups) as [keyof typeof texts.groups, string][];
  const isHere = (each: Destination) => (each.path === "/console" ? /^\/console\/?$/.test(path) : path.startsWith(each.path));
  return (
    <aside>
      <div class="brand">
        <a href="/console">
          <strong>{texts.product}</strong>
        </a>
        <button type="button" class="secondary toggle" aria-expanded={open} onClick={() => setOpen(!open)}>
          {texts.menu}
        </button>
      </div>
      <div class={`menu ${open ? "open" : ""}`}>
        <button type="button" class="secondary search" onClick={onSearch}>
          {texts.search} <kbd>Ctrl K</kbd>
        </button>
        <nav aria-label={texts.menu}>
          {groups.map(([group, title]) => (
            <div key={group}>
              <h2>{title}</h2>
              <ul>
                {visible()
                  .filter((each) => each.group === group)
                  .map((each) => (
                    <li>
                      <a href={each.path} aria-current={isHere(each) ? "page" : undefined}>
                        {each.title}
                      </a>
                    </li>
                  ))}
              </ul>
            </div>
          ))}
        </nav>
        <p class="muted">{me.value?.user.username}</p>
        <button type="button" class="secondary" onClick={() => void signOut()}>
          {texts.signOut}
        </button>
      </div>
    </aside>
  );
}

interface Hit {
  title: string;
  path: string;
}

type Collection = Schemas["CollectionEntry"];

/** Milliseconds without a key after which the text is searched for. */
const TYPED_WITHIN = 150;

/** The first collections, with the fleet's counts of their items: too much work to repeat it for every key. */
function listCollections(): Promise<Collection[]> {
  if (!may("data:read")) return Promise.resolve([]);
  return call<{ items: Collection[] }>("GET", "/data/collections?limit=200").then(
    (page) => page.items,
    () => [],
  );
}

/** Pages by name, an object by its ID, and users, collections and projects by a part of their names. */
async function find(text: string, listed: () => Promise<Collection[]>): Promise<Hit[]> {
  const pages = visible().filter((each) => `${each.title} ${each.also ?? ""}`.toLowerCase().includes(text.toLowerCase()));
  const hits: Hit[] = pages.map(({ title, path }) => ({ title, path }));
  if (/^[a-z][a-z0-9_]*:.+/.test(text)) hits.unshift({ title: text, path: objectUrl(text) });
  if (text.length < 2) return hits;
  const none = { items: [] };
  const [users, collections, projects] = await Promise.all([
    may("users:read") ? call<{ items: Schemas["User"][] }>("GET", `/users?limit=5&q=${encodeURIComponent(text)}`).catch(() => none) : none,
    listed(),
    may("projects:create") ? call<{ items: Schemas["Project"][] }>("GET", `/projects?limit=5&q=${encodeURIComponent(text)}`).catch(() => none) : none,
  ]);
  const named = collections.filter((entry) => entry.name.includes(text)).slice(0, 5);
  return [
    ...hits,
    ...users.items.map((user) => ({ title: `${texts.users.title}: ${user.username}`, path: `/console/users/${user.id}` })),
    ...named.map((entry) => ({ title: `${texts.data.title}: ${entry.name}`, path: collectionUrl(entry.name) })),
    ...projects.items.map((project) => ({ title: `${texts.projects.title}: ${project.name}`, path: `/console/projects/${project.id}` })),
  ];
}

export function Palette({ onClose }: { onClose: () => void }) {
  const { route } = useLocation();
  const [text, setText] = useState("");
  const [hits, setHits] = useState<Hit[]>();
  const [chosen, setChosen] = useState(0);
  const collections = useRef<Promise<Collection[]> | undefined>(undefined);
  const look = () => find(text.trim(), () => (collections.current ??= listCollections()));
  useEffect(() => {
    let current = true;
    setChosen(0);
    const waiting = setTimeout(() => void look().then((found) => current && setHits(found)), text ? TYPED_WITHIN : 0);
    return () => {
      current = false;
      clearTimeout(waiting);
    };
  }, [text]);
  const go = (hit: Hit | undefined) => {
    if (!hit) return;
    onClose();
    route(hit.path);
  };
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    // What is shown may still belong to a former text.
    go((await look())[chosen]);
  };
  const move = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !hits?.length) return;
    event.preventDefault();
    setChosen((before) => (before + step + hits.length) % hits.length);
  };
  return (
    <Modal title={texts.search} onClose={onClose}>
      <form onSubmit={(event) => void submit(event)}>
        <input
          type="text"
          autofocus
          aria-label={texts.searchHint}
          placeholder={texts.searchHint}
          value={text}
          role="combobox"
          aria-expanded={Boolean(hits?.length)}
          aria-controls="hits"
          aria-activedescendant={hits?.length ? `hit-${chosen}` : undefined}
          onKeyDown={move}
          onInput={(event) => setText(event.currentTarget.value)}
        />
      </form>
      <ul class="hits" id="hits" role="listbox" aria-label={texts.search}>
        {hits?.map((hit, index) => (
          <li key={hit.path} id={`hit-${index}`} role="option" aria-selected={index === chosen} onClick={() => go(hit)}>
            {hit.title}
          </li>
        ))}
      </ul>
      {hits?.length === 0 && <p role="status">{texts.nothingFound}</p>}
    </Modal>
  );
}
