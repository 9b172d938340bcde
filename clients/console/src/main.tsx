/** The console: a page for each part of the fleet, for whoever is logged in. */

import "@picocss/pico/css/pico.min.css";
import "./style.css";
import { render, type FunctionComponent } from "preact";
import { useEffect, useErrorBoundary, useState } from "preact/hooks";
import { LocationProvider, Route, Router, useLocation } from "preact-iso";
import { Menu, Palette } from "./navigation";
import { Account } from "./pages/account";
import { Audit } from "./pages/audit";
import { CollectionPage } from "./pages/collection";
import { Data } from "./pages/data";
import { Events } from "./pages/events";
import { Fleet } from "./pages/fleet";
import { ApiKeys } from "./pages/keys";
import { DeadLetters } from "./pages/letters";
import { RateLimits } from "./pages/limits";
import { Login } from "./pages/login";
import { ObjectPage } from "./pages/object";
import { Objects } from "./pages/objects";
import { Overview } from "./pages/overview";
import { ProjectPage, Projects } from "./pages/projects";
import { Roles } from "./pages/roles";
import { Routes } from "./pages/routes";
import { Settings } from "./pages/settings";
import { UserPage, Users } from "./pages/users";
import { Webhooks } from "./pages/webhooks";
import { loadSession, me } from "./session";
import { texts } from "./texts";
import { Failed, Loading, Page } from "./ui/basics";
import { Dialogs } from "./ui/dialogs";

const PAGES: [string, FunctionComponent][] = [
  ["/console", Overview],
  ["/console/fleet", Fleet],
  ["/console/events", Events],
  ["/console/dead-letters", DeadLetters],
  ["/console/objects", Objects],
  ["/console/objects/:object", ObjectPage],
  ["/console/data", Data],
  ["/console/data/:collection", CollectionPage],
  ["/console/projects", Projects],
  ["/console/projects/:project", ProjectPage],
  ["/console/webhooks", Webhooks],
  ["/console/routes", Routes],
  ["/console/users", Users],
  ["/console/users/:user", UserPage],
  ["/console/roles", Roles],
  ["/console/keys", ApiKeys],
  ["/console/limits", RateLimits],
  ["/console/audit", Audit],
  ["/console/settings", Settings],
  ["/console/account", Account],
];

/** Return a page that begins anew at each address, so that it shows nothing of another one. */
function keyed(Content: FunctionComponent): FunctionComponent {
  return function Keyed() {
    return <Content key={useLocation().path} />;
  };
}

const ROUTES = PAGES.map(([path, component]) => <Route key={path} path={path} component={keyed(component)} />);

/** The page at this address, or why it can't be shown. */
function Pages() {
  const [error, reset] = useErrorBoundary();
  if (error !== undefined) return <Failed error={error} onRetry={reset} />;
  return <Router onRouteChange={focusContent}>{[...ROUTES, <Route key="default" default component={Missing} />]}</Router>;
}

function Missing() {
  return (
    <Page title={texts.product}>
      <p>{texts.notFound}</p>
    </Page>
  );
}

/** Let the keyboard go on in the new page, where the menu or a link has led to. */
function focusContent() {
  document.getElementById("content")?.focus({ preventScroll: true });
}

function Frame() {
  const [searches, setSearches] = useState(false);
  useEffect(() => {
    const open = (event: KeyboardEvent) => {
      if (event.key !== "k" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      setSearches(true);
    };
    addEventListener("keydown", open);
    return () => removeEventListener("keydown", open);
  }, []);
  return (
    <LocationProvider scope="/console">
      <a class="skip" href="#content">
        {texts.skip}
      </a>
      <div class="frame">
        <Menu onSearch={() => setSearches(true)} />
        <main id="content" tabIndex={-1}>
          <Pages />
        </main>
      </div>
      {searches && <Palette onClose={() => setSearches(false)} />}
      <Dialogs />
    </LocationProvider>
  );
}

function Console() {
  const [error, setError] = useState<unknown>();
  const load = () => {
    setError(undefined);
    loadSession().catch(setError);
  };
  useEffect(load, []);
  if (error !== undefined) return <Failed error={error} onRetry={load} />;
  if (me.value === undefined) return <Loading />;
  return me.value === null ? <Login /> : <Frame />;
}

const root = document.getElementById("app");
if (root) render(<Console />, root);
