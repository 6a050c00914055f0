// Pictures of the open tab: headings, calendars, grids and tables, and the words beside each chart.
//
// The kernel sends all of them as one JSON (`pictures`); each card of the page is a view of the same model and takes the
// picture of its place. Charts are drawn by another widget inside the same card. Everything from a file is set as text.
// A click on a day, a month, an hour or a name asks for its trades; tables are sorted here, without the kernel.

function make(tag, className, parent, text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.textContent = text;
  parent?.append(node);
  return node;
}

// What a click asks for: the trades that fulfil one or two conditions. Without conditions the text stays a text.
function asker(parent, where, text, label) {
  if (!where) return make("span", "", parent, text);
  const node = make("button", "", parent, text);
  node.type = "button";
  node.dataset.ask = "open";
  node.dataset.value = JSON.stringify({ where });
  if (label) node.setAttribute("aria-label", label);
  return node;
}

// Text that a spreadsheet would take for a formula gets an apostrophe in front; numbers with a sign are words here, too.
function csvCell(words) {
  const text = words.replace(/^−(?=\d)/, "-"); // a spreadsheet reads no true minus
  const safe = /^[-=+@\t\r]/.test(text) && !/^[-+]?[\d.,]+( ?%)?$/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function csvText(header, rows) {
  return [header, ...rows].map((row) => row.map(csvCell).join(",")).join("\n") + "\n";
}

function wide(parent, label) {
  const box = make("div", "tt-wide", parent);
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", label);
  return box;
}

function wordTable(parent, picture, css = "tt-list tt-words") {
  const table = make("table", css, parent);
  const head = make("tr", "", make("thead", "", table));
  picture.header.forEach((text, i) => {
    const th = make("th", picture.numbers[i] ? "tt-number" : "", head, text);
    th.scope = "col";
  });
  const body = make("tbody", "", table);
  for (const row of picture.rows) {
    const tr = make("tr", "", body);
    row.forEach((text, i) => make("td", picture.numbers[i] ? "tt-number" : "", tr, text));
  }
  return table;
}

// ---- a table that is sorted here -----------------------------------------------------------------------------------

function compare(a, b) {
  if (typeof a === "string" && typeof b === "string") return a.localeCompare(b, undefined, { sensitivity: "base", numeric: true });
  return a < b ? -1 : a > b ? 1 : 0;
}

export function sortedRows(keys, column, descending, last = -1) {
  const rows = keys.map((_, i) => i);
  return rows.sort((a, b) => {
    if ((a === last) !== (b === last)) return a === last ? 1 : -1; // what sums up the rest stays below
    const [x, y] = [keys[a][column], keys[b][column]];
    if (x === null || y === null) return (x === null) - (y === null) || a - b; // the unknown comes last either way
    return (descending ? -compare(x, y) : compare(x, y)) || a - b;
  });
}

function drawTable(body, picture, kept) {
  const { keys, marked, asks, last } = picture.data;
  const table = wordTable(wide(body, picture.title), picture, "tt-list tt-words tt-sorted");
  const rows = [...table.tBodies[0].rows];
  rows.forEach((tr, i) => {
    if (marked.includes(i)) tr.className = "tt-marked";
    const cell = tr.cells[0];
    if (asks[i]) {
      const text = cell.textContent;
      cell.textContent = "";
      asker(cell, asks[i], text, `Trades of ${text}`);
    }
  });
  const heads = [...table.tHead.rows[0].cells];
  function sort(column, descending) {
    kept.sort = column === null ? null : [column, descending];
    heads.forEach((th, i) => th.setAttribute("aria-sort", i !== column ? "none" : descending ? "descending" : "ascending"));
    if (column !== null) table.tBodies[0].append(...sortedRows(keys, column, descending, last).map((i) => rows[i]));
  }
  heads.forEach((th, i) => {
    const text = th.textContent;
    th.textContent = "";
    const button = make("button", "tt-sort", th);
    button.type = "button";
    make("span", "", button, text);
    make("i", "", button).setAttribute("aria-hidden", "true");
    button.addEventListener("click", () => sort(i, kept.sort?.[0] === i ? !kept.sort[1] : picture.numbers[i]));
  });
  sort(...(kept.sort ?? [null, false]));
}

// ---- grids and calendars -------------------------------------------------------------------------------------------

function tint(node, value, scale) {
  if (value === null || value === undefined) return node.classList.add("tt-void");
  node.style.setProperty("--v", Math.min(1, Math.abs(value) / scale).toFixed(2));
  node.classList.add(value > 0 ? "tt-plus" : value < 0 ? "tt-minus" : "tt-even");
}

// One cell of a grid takes part in the order of the keyboard; arrows lead to the others.
function roam(box, kept) {
  const cells = () => [...box.querySelectorAll("button")];
  const take = (node) => {
    for (const other of box.querySelectorAll('button[tabindex="0"]')) other.tabIndex = -1;
    node.tabIndex = 0;
    kept.place = node.dataset.value;
  };
  for (const node of cells()) node.tabIndex = -1;
  const first = cells().find((node) => node.dataset.value === kept.place) ?? cells().at(-1);
  if (first) take(first);
  box.addEventListener("focusin", (event) => event.target.tagName === "BUTTON" && take(event.target));
  box.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || event.target.tagName !== "BUTTON") return;
    event.preventDefault();
    const from = event.target.getBoundingClientRect();
    const [x, y] = [from.x + from.width / 2, from.y + from.height / 2];
    let best = null;
    for (const node of cells()) {
      const at = node.getBoundingClientRect();
      const [dx, dy] = [at.x + at.width / 2 - x, at.y + at.height / 2 - y];
      const ahead = dx * step[0] + dy * step[1];
      const aside = Math.abs(dx * step[1]) + Math.abs(dy * step[0]);
      if (ahead > 1 && (!best || ahead + 3 * aside < best.far)) best = { node, far: ahead + 3 * aside };
    }
    best?.node.focus();
  });
}

const signed = (value, digits) => `${value > 0 ? "+" : ""}${value.toFixed(digits)}`.replace("-", "−").replace(/^[+−](0(\.0+)?)$/, "$1");

// A month of a row's year, or an hour of a row's weekday: what a cell stands for, as conditions on trades.
const CONDITIONS = {
  month: (row, j) => ({ exit_at: `${row}-${String(j + 1).padStart(2, "0")}` }),
  hour: (row, j, column) => ({ entry_weekday: row, entry_hour: String(parseInt(column, 10)) }),
};

function drawGrid(body, picture, kept) {
  const { values, scale, marked, ask, totals, digits } = picture.data;
  const columns = picture.header.slice(1, values[0].length + 1);
  const table = make("table", "tt-heat", wide(body, picture.title));
  table.classList.toggle("tt-many", columns.length > 12);
  table.style.minWidth = `${152 + 40 * columns.length}px`;
  const head = make("tr", "", make("thead", "", table));
  for (const name of [picture.header[0], ...columns, ...(totals ? [picture.header.at(-1)] : [])]) make("th", "", head, name).scope = "col";
  const inner = make("tbody", "", table);
  picture.rows.forEach((words, i) => {
    const tr = make("tr", "", inner);
    make("th", "", tr, words[0]).scope = "row";
    columns.forEach((column, j) => {
      const td = make("td", marked.some(([a, b]) => a === i && b === j) ? "tt-marked" : "", tr);
      const value = values[i][j];
      tint(td, value, scale);
      if (value === null) return;
      const label = `${words[0]} ${column}: ${words[j + 1]}`;
      asker(td, CONDITIONS[ask]?.(words[0], j, column), signed(value, digits), label).title = label;
    });
    if (totals) make("td", "tt-total", tr, words.at(-1).replace(/ \(.*/, ""));
  });
  roam(table, kept);
}

function drawCalendar(body, picture, kept) {
  const { months, scale, weekdays, values } = picture.data;
  const box = make("div", "tt-months", body);
  for (const month of months) {
    const table = make("table", "tt-month", box);
    const caption = make("caption", "", table);
    make("b", "", caption, month.name);
    make("span", month.tone, caption, month.sum);
    const head = make("tr", "", make("thead", "", table));
    for (const day of weekdays) {
      const th = make("th", "", head, day[0]);
      th.scope = "col";
      th.abbr = day;
    }
    const inner = make("tbody", "", table);
    for (const [place, day, k] of month.days) {
      const line = Math.floor(place / weekdays.length);
      while (inner.rows.length <= line) make("tr", "", inner);
      const tr = inner.rows[line];
      while (tr.cells.length < place % weekdays.length) make("td", "tt-off", tr);
      const td = make("td", k === null ? "tt-quiet-day" : "", tr, k === null ? day : "");
      if (k === null) continue;
      const [iso, sum, trades] = picture.rows[k];
      tint(td, values[k], scale);
      asker(td, { exit_at: iso }, day, `${iso}: ${sum}, ${trades} trades`).title = `${iso}: ${sum}, trades: ${trades}`;
    }
  }
  roam(box, kept);
  return () => box.scrollTo(0, box.scrollHeight); // the newest month
}

const DRAW = { table: drawTable, grid: drawGrid, calendar: drawCalendar };

// ---- a card --------------------------------------------------------------------------------------------------------

function render({ model, el }) {
  el.classList.add("tt-picture-face");
  let drawn = ""; // the picture that is drawn, as text
  const kept = new Map(); // by picture: order of its rows, place of the keyboard, whether its table is open

  function save(picture) {
    const detail = { name: `trade_telemetry_${picture.name}.csv`, text: csvText(picture.header, picture.rows) };
    document.dispatchEvent(new CustomEvent("tt-save", { detail }));
  }

  function foot(picture, own) {
    const box = make("div", "tt-picture-foot", el);
    if (picture.kind !== "table") {
      const details = make("details", "", box);
      make("summary", "", details, "As a table").setAttribute("aria-label", `As a table: ${picture.title}`);
      const fill = () => details.open && details.children.length < 2 && wordTable(wide(details, picture.title), picture);
      details.addEventListener("toggle", () => ((own.open = details.open), fill()));
      details.open = own.open ?? false;
      fill();
    }
    const button = make("button", "tt-save", box, "CSV");
    button.type = "button";
    button.title = "Save as CSV";
    button.setAttribute("aria-label", `Save as CSV: ${picture.title}`);
    button.addEventListener("click", () => save(picture));
  }

  function place() {
    const slots = [...(el.closest(".tt-pictures")?.querySelectorAll(".tt-picture") ?? [])];
    return slots.indexOf(el.closest(".tt-picture"));
  }

  // What had the keyboard before is found again by what it does.
  function held() {
    const node = el.contains(document.activeElement) ? document.activeElement : null;
    return node && [node.tagName, node.dataset.value ?? "", node.getAttribute("aria-label") ?? "", node.textContent];
  }

  function paint() {
    const picture = JSON.parse(model.get("pictures") || "[]")[place()];
    const text = JSON.stringify(picture ?? null);
    if (text === drawn) return;
    drawn = text;
    const focus = held();
    const scrolled = el.querySelector(".tt-wide")?.scrollLeft ?? null;
    el.replaceChildren();
    if (!picture) return;
    if (!kept.has(picture.name)) kept.set(picture.name, {});
    const own = kept.get(picture.name);
    const head = make("div", "tt-head", el);
    make("h2", "", head, picture.title);
    if (picture.note) make("p", "tt-note", head, picture.note);
    const body = make("div", "tt-picture-body", el);
    const after = DRAW[picture.kind]?.(body, picture, own);
    if (picture.rows.length) foot(picture, own);
    after?.();
    if (scrolled) body.querySelector(".tt-wide")?.scrollTo(scrolled, 0);
    if (!focus) return;
    const alike = [...el.querySelectorAll(focus[0])].find(
      (n) => (n.dataset.value ?? "") === focus[1] && (n.getAttribute("aria-label") ?? "") === focus[2] && (focus[1] || focus[2] || n.textContent === focus[3]),
    );
    alike?.focus({ preventScroll: true });
  }

  model.on("change:pictures", paint);
  requestAnimationFrame(paint); // only then does it stand in its card
  return () => model.off("change:pictures", paint);
}

export default { render };
