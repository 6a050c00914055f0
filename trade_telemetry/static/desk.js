// The table of many strategies: sorted, searched and filtered here, without asking the kernel.
//
// The kernel raises `version`; the table asks what is new since the version that it knows and gets the rows that changed,
// as compressed JSON. `whole` is a first version that travels with the widget. Names are set as text, never as HTML. A row
// is a link, so that it can be opened in another tab of the browser; a plain click is taken by the page's clock.

const FIRST_ROWS = 60; // drawn at first, and so many more whenever the end comes near
const HEIGHT = 26;
const WIDTH = 108;
const SVG = "http://www.w3.org/2000/svg";
const GROUPS = { strategy: "Strategy", account: "Account", bot: "Bot (run)", version: "Version" };
const MANY = { strategy: "strategies", account: "accounts", bot: "bots", version: "versions" };

// Figures come rounded to the decimals that are shown of them.
const signed = (v, digits) => (v > 0 ? "+" : "") + v.toFixed(digits).replace("-", "−");
const share = (v) => `${(100 * v).toFixed(1)} %`;
const percent = (v) => `${signed(v, 3)} %`;
const cost = (v) => `${v.toFixed(3).replace("-", "−")} %`;

// Head, whether it is a number, what it is sorted by, and how the first click sorts.
const COLUMNS = [
  { key: "pin", head: "", tip: "Draw its curve" },
  { key: "name", head: "Strategy", by: (r) => r.label.toLocaleLowerCase() },
  { key: "health", head: "Health", by: (r) => r.place, tip: "What the monitor says, the worst first" },
  { key: "near", head: "Alarm", by: (r) => r.near, down: true, tip: "How near its alarm is: the evidence as a part of its bar" },
  { key: "chance", head: "Chance", by: (r) => r.chance, tip: "Chance that it still is what the backtest promised", number: true },
  { key: "curve", head: "Return", by: (r) => r.total_pct, tip: "Cumulative return, with where it would be by the backtest", number: true },
  { key: "trades", head: "Trades", by: (r) => r.trades, down: true, number: true },
  { key: "precision", head: "Precision", by: (r) => r.precision, tip: "Live, and by the backtest", number: true },
  { key: "return_pct", head: "A trade", by: (r) => r.return_pct, tip: "Return of a trade live, and by the backtest", number: true },
  { key: "cost_pct", head: "Cost", by: (r) => r.cost_pct, down: true, tip: "Fees and slippage of a trade live, and by the backtest", number: true },
  { key: "drawdown", head: "Drawdown", by: (r) => r.drawdown_pct, tip: "Below its peak now; what 95 % of stretches of the backtest stay above", number: true },
  { key: "last", head: "Last trace", by: (r) => r.last_ms, down: true, number: true },
  { key: "writer", head: "Writer", by: (r) => ["silent", "unknown", "ended", "running"].indexOf(r.writer), tip: "Is its process alive?" },
];

function make(tag, className, parent, text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.textContent = text;
  parent?.append(node);
  return node;
}

function line(tag, parent, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent.append(node);
}

export function ageText(seconds) {
  if (seconds < 100) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

function dayText(day, now) {
  const at = new Date(`${day}T00:00:00Z`);
  const month = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ")[at.getUTCMonth()]; // en-GB would say Sept
  const year = at.getUTCFullYear() === new Date(now).getUTCFullYear() ? "" : ` ${at.getUTCFullYear()}`;
  return `${at.getUTCDate()} ${month}${year}`;
}

function hrefOf(name) {
  const kept = location.hash.slice(1).split("&").filter((part) => part && !/^(strategy|tab)=/.test(part));
  try {
    return `#${[...kept, `strategy=${encodeURIComponent(name)}`].join("&")}`;
  } catch {
    return "#"; // half a character has no address
  }
}

async function unpacked(data) {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

// The curve, its band behind it, and the line of zero.
function drawCurve(parent, row) {
  if (!row.curve) return make("span", "tt-none", parent, "—");
  const [low, high, ...parts] = row.curve;
  const y = (v) => 1 + (HEIGHT - 2) * (1 - v);
  const points = parts.map((text) => Array.from(text, (c, i) => [(WIDTH * i) / Math.max(1, text.length - 1), y((c.charCodeAt(0) - 35) / 90)]));
  const path = (list) => list.map((p) => p.map((v) => v.toFixed(1)).join(" ")).join("L");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("preserveAspectRatio", "none"); // narrow pages make it smaller
  if (points.length > 2) line("path", svg, { class: "tt-spark-band", d: `M${path(points[1])}L${path(points[2].toReversed?.() ?? [...points[2]].reverse())}Z` });
  const zero = y((0 - low) / (high - low || 1)).toFixed(1);
  line("path", svg, { class: "tt-spark-zero", d: `M0 ${zero}H${WIDTH}` });
  line("path", svg, { class: "tt-spark-line", d: `M${path(points[0])}` });
  parent.append(svg);
  make("span", "", parent, `${signed(row.total_pct, 1)} %`);
}

function beside(td, value, other, show, word) {
  make("b", value === null ? "tt-none" : "", td, value === null ? "—" : show(value));
  if (other !== null) make("small", "", td, `${word} ${show(other)}`);
}

function render({ model, el }) {
  const rows = new Map(); // by number: values by column
  const drawn = new Map(); // by number: its <tr>
  let head = { words: {}, states: {}, colors: {}, pinned: [], drawn: [], now: 0, group_by: "strategy", alarms: "", note: "" };
  let order = [];
  let known = 0;
  let received = performance.now();
  let limit = FIRST_ROWS;
  let sort = { key: "health", down: false };
  let state = null; // null: all
  let opened = null; // row that was opened last
  let scrolled = 0;

  const section = make("section", "tt-panel tt-desk-panel", el);
  const top = make("div", "tt-head", section);
  const title = make("h2", "", top);
  const alarms = make("span", "tt-note", top);
  const bar = make("div", "tt-desk-bar", section);
  const chips = make("div", "tt-desk-states", bar);
  chips.setAttribute("role", "group");
  chips.setAttribute("aria-label", "Rows by health");
  const search = make("input", "tt-desk-search", bar);
  search.type = "search";
  search.placeholder = "Search";
  search.maxLength = 200;
  search.setAttribute("aria-label", "Search names and sentences");
  const choice = (label, options) => {
    const box = make("label", "tt-desk-choice", bar, label);
    const select = make("select", "", box);
    for (const [value, words] of options) make("option", "", select, words).value = value;
    return select;
  };
  const sorter = choice("Sort ", COLUMNS.filter((c) => c.by).map((c) => [c.key, c.head]));
  sorter.parentElement.classList.add("tt-desk-sorter");
  const grouper = choice("A row is a ", Object.entries(GROUPS).map(([value, words]) => [value, words.toLowerCase()]));
  const found = make("span", "tt-note tt-desk-found", bar);
  found.setAttribute("role", "status");
  const scroll = make("div", "tt-desk-scroll", section);
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  const table = make("table", "", scroll);
  table.setAttribute("role", "table");
  const heads = make("tr", "", make("thead", "", table));
  heads.parentElement.setAttribute("role", "rowgroup");
  heads.setAttribute("role", "row");
  const body = make("tbody", "", table);
  body.setAttribute("role", "rowgroup");
  const end = make("div", "tt-desk-end", scroll);
  const calm = make("p", "tt-calm tt-quiet", section, "— no row is like that —");
  const note = make("p", "tt-note", section);

  for (const column of COLUMNS) {
    const th = make("th", column.number ? "tt-number" : "", heads);
    th.scope = "col";
    th.setAttribute("role", "columnheader");
    th.dataset.key = column.key;
    if (!column.by) {
      make("span", "tt-unseen", th, "Curve");
      continue;
    }
    const button = make("button", "", th);
    button.type = "button";
    make("span", "", button, column.head);
    make("i", "", button).setAttribute("aria-hidden", "true");
    if (column.tip) button.title = column.tip;
    button.addEventListener("click", () => sortBy(column.key));
  }

  const now = () => head.now + performance.now() - received;
  const ask = (name, value) => document.dispatchEvent(new CustomEvent("tt-ask", { detail: { name, value } }));

  function sortBy(key, down = null) {
    const column = COLUMNS.find((c) => c.key === key);
    const first = Boolean(column.down);
    sort = { key, down: down ?? (sort.key === key ? !sort.down : first) };
    limit = FIRST_ROWS;
    paint();
  }

  // Cells of a row, in the order of the columns.
  const CELLS = {
    pin(td, row, tr) {
      if (!row.opens) return;
      const box = make("input", "", td);
      box.type = "checkbox";
      box.checked = head.pinned.includes(row.opens);
      box.setAttribute("aria-label", `Draw the curve of ${row.label}`);
      box.addEventListener("change", () => ask("pin", row.opens));
      const color = head.colors[row.opens];
      if (color) tr.style.setProperty("--c", color);
      td.classList.toggle("tt-drawn", Boolean(color));
    },
    name(td, row, tr, id) {
      const link = make(row.opens ? "a" : "span", "tt-desk-name", td, row.label);
      if (row.opens) {
        link.href = hrefOf(row.opens);
        link.dataset.ask = "strategy";
        link.dataset.value = row.opens;
        link.addEventListener("click", () => ((opened = id), (scrolled = window.scrollY)));
      }
      const told = ["degraded", "watch", "recovered"].includes(row.state) || row.strategies > 1;
      if (row.sentence) make("span", told ? "tt-desk-said" : "tt-desk-said tt-unseen", td, row.sentence);
      if (row.sentence && !told) td.title = row.sentence;
    },
    health(td, row) {
      const [words, tone] = head.words[row.state] ?? ["not judged", "plain"];
      make("span", `tt-desk-badge tt-${tone}`, td, words);
      if (row.since) make("small", "", td, `since ${dayText(row.since, head.now)}`);
    },
    near(td, row) {
      if (row.near === null) return make("span", "tt-none", td, "—");
      const box = make("span", "tt-desk-bar-of", td);
      box.setAttribute("aria-hidden", "true");
      make("i", row.near >= 1 ? "tt-full" : "", box).style.width = `${100 * row.near}%`;
      make("span", "", td, `${Math.round(100 * row.near)} %`);
    },
    chance: (td, row) => make("span", row.chance === null ? "tt-none" : "", td, row.chance_said),
    curve: drawCurve,
    trades: (td, row) => make("span", "", td, row.trades.toLocaleString("en-US")),
    precision: (td, row) => beside(td, row.precision, row.precision_promised, share, "of"),
    return_pct: (td, row) => beside(td, row.return_pct, row.return_promised_pct, percent, "of"),
    cost_pct: (td, row) => beside(td, row.cost_pct, row.cost_promised_pct, cost, "of"),
    drawdown(td, row) {
      make("b", row.drawdown_pct === null ? "tt-none" : row.deep ? "tt-loss" : "", td, row.drawdown_pct === null ? "—" : signed(row.drawdown_pct, 1));
      if (row.usual !== null) make("small", "", td, `${row.deep ? "beyond" : "usual to"} ${signed(row.usual, 1)}`);
    },
    last: (td, row) => aged(make("span", "", td), row.last_ms, ""),
    writer(td, row) {
      make("span", `tt-desk-pulse tt-${row.writer}`, td, row.writer);
      if (row.writer !== "unknown" && row.writer_ms !== null) aged(make("small", "", td), row.writer_ms, "");
    },
  };

  function aged(node, ms) {
    if (ms === null) node.textContent = "—";
    else node.dataset.ms = ms;
  }

  function paintAges() {
    for (const node of body.querySelectorAll("[data-ms]")) node.textContent = `${ageText((now() - node.dataset.ms) / 1000)} ago`;
  }

  function paintRow(id) {
    const row = rows.get(id);
    const tr = drawn.get(id) ?? make("tr", "", null);
    const held = tr.contains(document.activeElement) ? document.activeElement.closest("td")?.dataset.key : null;
    tr.setAttribute("role", "row");
    tr.dataset.state = row.state ?? "none";
    tr.dataset.writer = row.writer;
    tr.style.removeProperty("--c");
    tr.replaceChildren();
    for (const column of COLUMNS) {
      const td = make("td", column.number ? "tt-number" : "", tr);
      td.dataset.key = column.key;
      td.dataset.head = column.head;
      td.setAttribute("role", "cell");
      CELLS[column.key](td, row, tr, id);
    }
    if (held) tr.querySelector(`td[data-key="${held}"] :is(a, input)`)?.focus({ preventScroll: true });
    drawn.set(id, tr);
    return tr;
  }

  function chosen() {
    const words = search.value.trim().toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const column = COLUMNS.find((c) => c.key === sort.key);
    const some = order.filter((id) => {
      const row = rows.get(id);
      if (state === "silent" ? row.writer !== "silent" : state !== null && row.state !== state) return false;
      const text = `${row.label} ${row.sentence} ${head.words[row.state]?.[0] ?? ""}`.toLocaleLowerCase();
      return words.every((word) => text.includes(word));
    });
    const value = new Map(some.map((id) => [id, column.by(rows.get(id))]));
    const sign = sort.down ? -1 : 1;
    return some.sort((a, b) => {
      const [x, y] = [value.get(a), value.get(b)];
      if (x === y) return rows.get(a).place - rows.get(b).place;
      if (x === null || y === null) return x === null ? 1 : -1; // what nobody knows comes last, whichever way
      return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
    });
  }

  function paintChips() {
    const held = chips.contains(document.activeElement) ? document.activeElement.dataset.state : null;
    chips.replaceChildren();
    const states = Object.entries(head.states).filter(([, n]) => n);
    if (state !== null && !head.states[state]) state = null;
    for (const [name, n] of [["", order.length], ...states]) {
      const [words, tone] = head.words[name] ?? [name || "all", name === "silent" ? "warn" : "plain"];
      const chip = make("button", `tt-${tone}`, chips, "");
      chip.type = "button";
      chip.dataset.state = name;
      make("b", "", chip, n.toLocaleString("en-US"));
      make("span", "", chip, ` ${words}`);
      chip.setAttribute("aria-pressed", String((state ?? "") === name));
      chip.addEventListener("click", () => {
        state = name || null;
        limit = FIRST_ROWS;
        paint();
      });
    }
    if (held !== null) (chips.querySelector(`[data-state="${held}"]`) ?? chips.firstElementChild)?.focus({ preventScroll: true });
  }

  function paint() {
    const ids = chosen();
    const shown = ids.slice(0, limit);
    title.textContent = `${order.length.toLocaleString("en-US")} ${order.length === 1 ? head.group_by : MANY[head.group_by]}`;
    alarms.textContent = head.alarms;
    note.textContent = head.note;
    grouper.value = head.group_by;
    sorter.value = sort.key;
    for (const th of heads.children) {
      if (th.dataset.key === "name") th.querySelector("button span").textContent = GROUPS[head.group_by];
      if (th.dataset.key !== "pin") th.setAttribute("aria-sort", th.dataset.key !== sort.key ? "none" : sort.down ? "descending" : "ascending");
    }
    paintChips();
    const trs = shown.map((id) => drawn.get(id) ?? paintRow(id));
    trs.forEach((tr, i) => tr.setAttribute("aria-rowindex", i + 2));
    if (trs.length !== body.children.length || trs.some((tr, i) => tr !== body.children[i])) {
      const held = body.contains(document.activeElement) ? document.activeElement : null;
      body.replaceChildren(...trs);
      if (held && held !== document.activeElement) held.focus({ preventScroll: true });
    }
    table.setAttribute("aria-rowcount", ids.length + 1);
    scroll.setAttribute("aria-label", `${title.textContent}, ${ids.length.toLocaleString("en-US")} shown`);
    found.textContent = ids.length === order.length ? "" : `${ids.length.toLocaleString("en-US")} of ${order.length.toLocaleString("en-US")}`;
    calm.hidden = ids.length > 0 || !order.length;
    end.hidden = shown.length === ids.length;
    el.dataset.rows = ids.length;
    paintAges();
  }

  function more() {
    limit += FIRST_ROWS;
    paint();
    near.unobserve(end); // look again: the end may still be near
    near.observe(end);
  }

  const near = new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && more(), { rootMargin: "600px" });
  near.observe(end);

  // Messages are unpacked one after the other, so that an older one never comes last.
  let queue = Promise.resolve();
  function take(data) {
    queue = queue.then(() => unpacked(data)).then(apply, (error) => console.error("the table of strategies could not be read", error));
  }

  function apply(told) {
    if (told.version < known) return;
    const painted = JSON.stringify([head.words, head.colors, head.pinned]) !== JSON.stringify([told.head.words, told.head.colors, told.head.pinned]);
    ({ version: known, head, order } = told);
    received = performance.now();
    for (const [number, values] of Object.entries(told.rows)) rows.set(Number(number), Object.fromEntries(told.columns.map((name, i) => [name, values[i]])));
    if (!order.every((id) => rows.has(id))) return again(); // the message before this one was lost
    order.forEach((id, i) => (rows.get(id).place = i));
    const there = new Set(order);
    for (const id of [...rows.keys()].filter((id) => !there.has(id))) rows.delete(id), drawn.delete(id);
    for (const id of drawn.keys()) if (painted || id in told.rows) paintRow(id);
    paint();
    onVersion(); // another one may have come meanwhile
  }

  function again() {
    known = asked = 0;
    order = [];
    onVersion();
  }

  let asked = 0;
  function onVersion() {
    const version = model.get("version");
    if (version <= known || version <= asked) return;
    asked = version;
    model.send({ type: "since", version: known });
  }

  function onMessage(message, buffers) {
    if (message?.type !== "rows") return;
    asked = 0;
    const data = buffers[0];
    take(data instanceof DataView ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : data);
  }

  function onOpen() {
    const open = model.get("is_open");
    if (open === !section.hidden) return;
    section.hidden = !open;
    if (!open) {
      if (opened !== null) window.scrollTo(0, 0);
    } else if (opened !== null) {
      window.scrollTo(0, scrolled);
      drawn.get(opened)?.querySelector("a")?.focus({ preventScroll: true });
      opened = null;
    }
  }

  // Up and down lead from row to row.
  body.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const links = [...body.querySelectorAll("a.tt-desk-name")];
    const here = links.indexOf(event.target);
    if (!step || here < 0) return;
    event.preventDefault();
    links[here + step]?.focus();
  });
  search.addEventListener("input", () => ((limit = FIRST_ROWS), paint()));
  sorter.addEventListener("change", () => sortBy(sorter.value, Boolean(COLUMNS.find((c) => c.key === sorter.value).down)));
  grouper.addEventListener("change", () => ask("by", grouper.value));
  model.on("change:version", onVersion);
  model.on("change:is_open", onOpen);
  model.on("msg:custom", onMessage);
  const timer = setInterval(paintAges, 15_000);

  section.hidden = !model.get("is_open");
  const first = model.get("whole");
  if (first?.byteLength) take(first);
  queue = queue.then(onVersion);
  return () => {
    clearInterval(timer);
    near.disconnect();
    model.off("change:version", onVersion);
    model.off("change:is_open", onOpen);
    model.off("msg:custom", onMessage);
  };
}

export default { render };
