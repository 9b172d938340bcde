"use strict";
const at = id => document.getElementById(id);
const post = (path, body) => fetch(path, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  credentials: "omit",
});
// When the form is submitted, `send` runs, and what it returns is shown.
const onSubmit = send => at("form").addEventListener("submit", async event => {
  event.preventDefault();
  at("go").disabled = true;
  at("said").textContent = await send().catch(() => "There was no response. Please try again.");
  at("go").disabled = false;
});
