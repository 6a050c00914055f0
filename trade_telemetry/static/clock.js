// The dashboard's clock: an anywidget that lives in the page, so that its timer ends with the page.
//
// It raises `beat`; the kernel refreshes the panels and answers `ack` with the same number. The next beat waits for
// that answer, so a slow refresh is never queued behind another one. What the kernel knows (`state`, `mode`, `rows`, `words`,
// `newest_ms`) comes as traits; what only the page can know (how old the page is, whether anybody still answers) is
// decided here. Texts are set as text, never as HTML.

const SLOW_SECONDS = 4; // after so long without an answer, ask the server whether the kernel is still there
const ICONS = {
  refresh: "M13.5 8a5.5 5.5 0 1 1-1.6-3.9M13.5 1.8v3h-3",
  theme: "M8 1.5a6.5 6.5 0 1 0 0 13zM8 1.5a6.5 6.5 0 0 1 0 13",
  back: "M2.6 6.2A5.8 5.8 0 1 1 2.3 9M2.2 2.8v3.4h3.4M8 5v3.3l2.2 1.4",
  save: "M8 2v8m0 0 3-3m-3 3L5 7M2.5 13.5h11",
};
const NAMES = { live: "Live", historical: "Historical", stale: "Stale", error: "Refresh error", lost: "Connection lost" };

const NEXT_THEME = { light: "dark", dark: "projector", projector: "light" }; // the last one is large, black on white

const PULSE = { boxShadow: ["0 0 0 0 currentColor", "0 0 0 8px transparent"] };
const CALM = matchMedia("(prefers-reduced-motion: reduce)");

function make(tag, className, parent, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  parent.append(node);
  return node;
}

function makeButton(className, icon, label, parent, text = "") {
  const button = make("button", className, parent);
  button.type = "button";
  button.title = label;
  button.setAttribute("aria-label", label);
  if (icon) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS(svg.namespaceURI, "path");
    path.setAttribute("d", ICONS[icon]);
    if (icon === "theme") path.setAttribute("fill-rule", "evenodd");
    svg.append(path);
    button.append(svg);
  }
  if (text) make("span", "", button, text);
  return button;
}

export function ageText(seconds) {
  if (seconds < 2) return "just now";
  if (seconds < 100) return `${Math.round(seconds)} s ago`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

// Where Voilà serves us, the page knows its server and kernel; elsewhere (JupyterLab) only the missing answer tells.
function kernelUrl() {
  try {
    const { baseUrl, kernelId } = JSON.parse(document.getElementById("jupyter-config-data").textContent);
    return kernelId ? `${baseUrl}api/kernels/${kernelId}` : null;
  } catch {
    return null;
  }
}

async function kernelState(url) {
  try {
    const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(3000) });
    return answer.ok ? (await answer.json()).execution_state : "gone";
  } catch {
    return "gone";
  }
}

function saveFile(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: name.endsWith(".csv") ? "text/csv" : "application/json" }));
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// A table of words is sorted in the page: columns of numbers by value, others by text; a dash comes last.
function cellValue(text) {
  const plain = text.replaceAll("−", "-").replaceAll(",", "").trim();
  if (plain === "" || plain.startsWith("—")) return null;
  const number = /^([-+]?\d*\.?\d+(?:e[-+]?\d+)?)(?: ?[^\d\s-].*)?$/.exec(plain);
  return number ? Number(number[1]) : plain;
}

export function sortTable(table, column, descending) {
  const rows = [...table.tBodies[0].rows].map((row) => [row, cellValue(row.cells[column].textContent)]);
  const words = rows.some(([, value]) => typeof value === "string");
  const order = (a, b) => (words ? String(a).localeCompare(String(b), undefined, { numeric: true }) : a - b);
  rows.sort(([, a], [, b]) => (a === null || b === null ? (a === null) - (b === null) : descending ? order(b, a) : order(a, b)));
  table.tBodies[0].append(...rows.map(([row]) => row));
  [...table.tHead.rows[0].cells].forEach((th, i) => th.setAttribute("aria-sort", i !== column ? "none" : descending ? "descending" : "ascending"));
}

function setTheme(theme) {
  document.documentElement.dataset.ttTheme = theme;
  try {
    localStorage.setItem("tt-theme", theme);
  } catch {
    // a browser may forbid storage: then the choice lasts as long as the page
  }
}

// The template brings the style and sets the theme before the first paint; a plain notebook has neither.
function dress(look) {
  const root = document.documentElement;
  if (root.classList.contains("tt-page") || document.getElementById("tt-look")) return;
  const style = make("style", "", document.head, look);
  style.id = "tt-look";
}

function firstTheme() {
  if (document.documentElement.dataset.ttTheme) return;
  document.documentElement.dataset.ttTheme = document.body.dataset.jpThemeLight === "false" ? "dark" : "light";
}

// What the viewer chose is kept as long as the browser's tab: a reload gives it back to the new kernel.
function keptChoices() {
  try {
    return sessionStorage.getItem("tt-choices") ?? "";
  } catch {
    return "";
  }
}

function keepChoices(text) {
  try {
    sessionStorage.setItem("tt-choices", text);
  } catch {
    // a browser may forbid storage: then the choices last as long as the page
  }
}

// The address behind the # says the same, so that a view can be shared and the browser's back and forward lead through
// the views: `#strategy=gap_fade&tab=when`. Both sides are percent-encoded, and whatever stands there is only text that is
// given to the kernel, which takes what can be chosen.
const LONGEST_HASH = 8000;
const PLACES = ["strategy", "tab", "desk", "by"]; // a change of these is a step, one of the filters is not

function decoded(text) {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return ""; // half a character
  }
}

export function choicesOf(hash) {
  if (hash.length > LONGEST_HASH) return {};
  const pairs = hash.replace(/^#/, "").split("&").map((part) => part.split(/=(.*)/s).slice(0, 2).map((side) => decoded(side ?? "")));
  return Object.fromEntries(pairs.filter(([key, value]) => key && value));
}

export function hashOf(choices) {
  const pairs = Object.entries(choices).filter(([, value]) => typeof value === "string" && value);
  try {
    return pairs.map((pair) => pair.map(encodeURIComponent).join("=")).join("&");
  } catch {
    return ""; // half a character has no address
  }
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

function render({ model, el }) {
  dress(model.get("look") ?? "");
  firstTheme();
  el.classList.add("tt-clock");
  const pill = make("span", "tt-pill", el);
  const dot = make("span", "tt-dot", pill);
  const name = make("span", "", pill);
  name.setAttribute("role", "status");
  const words = make("span", "tt-words", el);
  const reload = makeButton("tt-reload", "", "Load the page again", el, "Reload");
  const refresh = makeButton("tt-refresh", "refresh", "Refresh now", el);
  const back = makeButton("tt-back", "back", "Look back: what was known on an earlier day", el);
  back.setAttribute("aria-expanded", "false");
  const theme = makeButton("tt-theme", "theme", "Light, dark or projector", el);
  const save = makeButton("tt-export", "save", "Export what is shown as JSON", el, "Export JSON");
  const sheet = makeButton("tt-export-csv", "", "Save the trades behind the page as CSV", el, "CSV");

  const url = kernelUrl();
  let sentAt = -Infinity; // performance.now() of the last beat
  let freshAt = null; // the same of the last answer without an error
  let lost = false;
  let asking = false;
  let silent = 0; // times in a row that the kernel had nothing to do and yet did not answer

  const app = () => el.closest(".tt-app");
  const seconds = (since) => (performance.now() - since) / 1000;
  const waiting = () => model.get("beat") !== model.get("ack");

  function paint() {
    const state = lost ? "lost" : model.get("state");
    const mode = model.get("mode");
    Object.assign(el.dataset, { state, mode, rows: model.get("rows"), beat: model.get("beat"), ack: model.get("ack"), waiting: String(waiting()) });
    if (app()) Object.assign(app().dataset, { state, tab: model.get("tab") ?? "working", place: model.get("place") ?? "page" });
    name.textContent = (!lost && model.get("title")) || NAMES[state] || state;
    const old = freshAt === null ? "nothing is updating" : `data ${ageText(Math.max(2, seconds(freshAt))).replace(" ago", " old")}`;
    const fresh = freshAt === null ? "refreshing …" : `refreshed ${ageText(seconds(freshAt))}`;
    const newest = model.get("newest_ms");
    const last = newest === null || state === "stale" || !["live", "paper"].includes(mode) ? "" : ` · last trace ${ageText(Math.max(0, (Date.now() - newest) / 1000))}`;
    if (lost) window.ttLive?.();
    if (lost) words.textContent = old;
    else if (state === "error") words.textContent = `${model.get("words")} · ${old}`;
    else words.textContent = `${model.get("words")}${last} · ${fresh}`;
    reload.style.display = lost ? "" : "none";
    refresh.disabled = save.disabled = sheet.disabled = back.disabled = lost;
    back.style.display = app()?.querySelector(".tt-asof") ? "" : "none"; // a notebook of somebody else may have none
    if (url) document.title = lost ? "Connection lost · Trade Telemetry" : `${model.get("alerts") ? `(${model.get("alerts")}) ` : ""}Trade Telemetry`;
  }

  function beat() {
    if (waiting()) return;
    sentAt = performance.now();
    silent = 0;
    try {
      model.set("beat", model.get("beat") + 1);
      model.save_changes();
    } catch {
      lost = true; // the widget's channel is closed
    }
    paint();
  }

  async function inquire() {
    if (asking || !url) return;
    asking = true;
    const state = await kernelState(url);
    asking = false;
    if (!waiting()) return;
    silent = state === "busy" ? 0 : silent + 1; // a busy kernel is only slow; once may be an answer on its way
    if (state === "gone" || silent > 1) lost = true;
    paint();
  }

  function tick() {
    const interval = model.get("interval_seconds");
    if (waiting()) {
      if (seconds(sentAt) > 2 * interval) lost = true; // two beats without an answer
      else if (seconds(sentAt) > Math.min(SLOW_SECONDS, interval)) inquire();
    } else if (seconds(sentAt) >= interval) {
      beat();
    }
    paint();
  }

  function onAnswer() {
    if (waiting()) return;
    if (model.get("state") !== "error") freshAt = performance.now();
    lost = false;
    document.documentElement.classList.remove("tt-restoring");
    window.ttLive?.(); // the picture of before goes, the panels are there
    if (model.get("state") === "live" && !CALM.matches) dot.animate(PULSE, 700); // once an answer: an idle page draws nothing
    paint();
    if (model.get("more")) beat(); // what takes long was left out: now it can come
  }

  // A key may come while the answer to what was asked is still on its way, part for part: what counts is not what is in
  // sight but where the viewer is bound for.
  let bound = parsed(model.get("choices")).strategy; // a strategy's page, or none

  function ask(name, value) {
    if (name === "strategy") bound = value;
    if (name === "choices") bound = parsed(value).strategy;
    model.send({ type: "ask", name, value });
  }

  function goBack() {
    if (bound || model.get("place") === "strategy") ask("strategy", "");
  }

  function onButton(name, value) {
    if (name === "export") return model.send({ type: "export", name: value });
    if (name === "cell") scrollTo = value ? ".tt-trades section" : null;
    ask(name, value);
  }

  // What was clicked or pressed before anybody listened (see `ttListen` in page.js).
  const onEarly = ({ key, name, value }) => (key === "Escape" ? goBack() : onButton(name, value));

  // Buttons of the panels say what they ask for; the kernel translates it and draws the answer. Drawing replaces the
  // button, so the keyboard's place is kept by its meaning.
  let place = null;
  const orders = new Map(); // by title: how a table is sorted
  const titleOf = (table) => table.dataset.sortable.replace(/[\d,]+/g, ""); // counts in it change

  function onSort(button) {
    const table = button.closest("table");
    const column = Number(button.dataset.sort);
    const [before, down] = orders.get(titleOf(table)) ?? [];
    orders.set(titleOf(table), [column, before === column ? !down : button.closest("th").classList.contains("tt-number")]);
    sortTable(table, ...orders.get(titleOf(table)));
  }

  function onClick(event) {
    const head = event.target.closest?.("[data-sortable] [data-sort]");
    if (head && app()?.contains(head)) return onSort(head);
    const button = event.target.closest?.("[data-ask]");
    if (!button || button.disabled || !app()?.contains(button)) return;
    if (button.href) {
      if (event.button || event.ctrlKey || event.metaKey || event.shiftKey) return; // a link in another tab is the browser's
      event.preventDefault();
    }
    onButton(button.dataset.ask, button.dataset.value);
  }

  // Arrows lead from question to question, Escape from a strategy back to all of them.
  function onKey(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && !event.target.closest?.("input, select, textarea")) return goBack();
    const tab = event.target.closest?.("[role=tab]");
    if (tab && app()?.contains(tab)) {
      const tabs = [...tab.parentElement.querySelectorAll("[role=tab]")];
      const here = tabs.indexOf(tab);
      const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: -1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = tabs.at(to % tabs.length);
      next.focus();
      next.click();
    }
  }

  function onFocus(event) {
    const { ask, value } = event.target.dataset ?? {};
    place = ask && app()?.contains(event.target) ? { ask, value, label: event.target.getAttribute("aria-label") } : null;
  }

  let scrollTo = null;

  function sameButton() {
    const alike = [...app().querySelectorAll(`[data-ask="${place.ask}"]`)];
    return alike.find((b) => b.dataset.value === place.value) ?? alike.find((b) => b.getAttribute("aria-label") === place.label);
  }

  function onDrawn() {
    for (const table of app().querySelectorAll("[data-sortable]:not(:has([aria-sort]))")) {
      const order = orders.get(titleOf(table));
      if (order) sortTable(table, ...order); // it was drawn anew
    }
    if (place && document.activeElement === document.body) sameButton()?.focus({ preventScroll: true });
    const found = scrollTo && app()?.querySelector(scrollTo);
    if (!found) return;
    scrollTo = null;
    found.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  // Other widgets of the page ask through here, and save files.
  const onAsk = ({ detail }) => ask(String(detail.name), String(detail.value));
  const onSave = ({ detail }) => saveFile(String(detail.name), String(detail.text));

  function onPointer(event) {
    if (!event.target.closest?.("[data-ask]")) place = null;
  }

  const drawn = new MutationObserver(onDrawn);
  requestAnimationFrame(() => app() && drawn.observe(app(), { childList: true, subtree: true }));
  document.addEventListener("click", onClick);
  document.addEventListener("focusin", onFocus);
  document.addEventListener("pointerdown", onPointer);

  function onShown() {
    if (!document.hidden) tick(); // timers of hidden tabs are slowed down: catch up at once
  }

  function onMessage(message) {
    if (message?.type === "export") saveFile(message.name, message.text);
  }

  const onMore = () => model.get("more") && !waiting() && beat(); // a choice was shown in a hurry

  const shares = url !== null; // elsewhere the address is not ours
  let restoring = true; // what was kept is no step of the viewer

  function onChoices() {
    keepChoices(model.get("choices"));
    const now = parsed(model.get("choices"));
    bound = now.strategy;
    if (!shares) return;
    const then = choicesOf(location.hash);
    const step = !restoring && PLACES.some((key) => (now[key] ?? "") !== (then[key] ?? ""));
    restoring = false;
    if (hashOf(now) === hashOf(then)) return;
    const address = location.pathname + location.search + (hashOf(now) && `#${hashOf(now)}`);
    history[step ? "pushState" : "replaceState"](null, "", address);
  }

  function askFor(choices) {
    restoring = true;
    ask("choices", choices);
  }

  const onHash = () => shares && askFor(JSON.stringify(choicesOf(location.hash)));

  reload.addEventListener("click", () => location.reload());
  refresh.addEventListener("click", beat);
  back.addEventListener("click", () => app()?.dispatchEvent(new CustomEvent("tt-look-back")));
  theme.addEventListener("click", () => setTheme(NEXT_THEME[document.documentElement.dataset.ttTheme] ?? "dark"));
  save.addEventListener("click", () => model.send({ type: "export" }));
  sheet.addEventListener("click", () => model.send({ type: "export", name: "csv" }));
  model.on("change:ack", onAnswer);
  model.on("change:words change:state change:rows change:alerts change:title change:tab change:place", paint);
  model.on("change:more", onMore);
  model.on("change:choices", onChoices);
  model.on("msg:custom", onMessage);
  document.addEventListener("visibilitychange", onShown);
  document.addEventListener("keydown", onKey);
  document.addEventListener("tt-ask", onAsk);
  document.addEventListener("tt-save", onSave);
  window.addEventListener("popstate", onHash);
  const timer = setInterval(tick, 1000);

  // Charts follow the window but not their own box: tell them when it changes.
  const boxes = new ResizeObserver(() => requestAnimationFrame(() => window.dispatchEvent(new Event("resize"))));
  requestAnimationFrame(() => {
    for (const chart of document.querySelectorAll(".tt-app :is(.tt-curve, .tt-strategy, .tt-band)")) boxes.observe(chart);
  });

  const shared = shares && hashOf(choicesOf(location.hash)) ? JSON.stringify(choicesOf(location.hash)) : "";
  const kept = shared || keptChoices();
  if (kept && kept !== model.get("choices")) askFor(kept);
  else restoring = false;
  window.ttEarly?.(onEarly);
  beat(); // a page from the warm pool is as old as its kernel
  return () => {
    clearInterval(timer);
    boxes.disconnect();
    drawn.disconnect();
    document.removeEventListener("click", onClick);
    document.removeEventListener("focusin", onFocus);
    document.removeEventListener("pointerdown", onPointer);
    document.removeEventListener("keydown", onKey);
    document.removeEventListener("tt-ask", onAsk);
    document.removeEventListener("tt-save", onSave);
    window.removeEventListener("popstate", onHash);
    document.removeEventListener("visibilitychange", onShown);
    model.off("change:ack", onAnswer);
    model.off("change:words change:state change:rows change:alerts change:title change:tab change:place", paint);
    model.off("change:more", onMore);
    model.off("change:choices", onChoices);
    model.off("msg:custom", onMessage);
  };
}

export default { render };
