// The list of trades: an anywidget that keeps what a viewer is typing while the rows below it change.
//
// The kernel filters and sorts over all trades and sends one page of finished words as JSON (`table`). Here they are
// put into cells as text, never as HTML. What a viewer asks for goes to the page's clock as an event, `tt-ask`, or as a
// button with `data-ask`; the kernel reads it with suspicion.

const TYPING_MS = 350; // after so long without another key, what was typed is asked for

function make(tag, className, parent, text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.textContent = text;
  parent?.append(node);
  return node;
}

function button(parent, ask, value, text, label, className = "") {
  const node = make("button", className, parent, text);
  node.type = "button";
  node.dataset.ask = ask;
  node.dataset.value = value;
  if (label) node.setAttribute("aria-label", label);
  return node;
}

// A cell is a text, or a pair of a short text and the whole of it.
function write(node, cell) {
  const [short, whole] = Array.isArray(cell) ? cell : [cell, ""];
  node.textContent = short;
  if (whole) node.title = whole;
}

function render({ model, el }) {
  el.classList.add("tt-trades");
  const section = make("section", "tt-panel");
  const head = make("div", "tt-head", section);
  const title = make("h2", "", head);
  const note = make("span", "tt-note", head);
  note.setAttribute("role", "status");
  const pager = make("div", "tt-buttons", head);
  const newer = button(pager, "page", "", "‹ Back");
  const place = make("span", "tt-note", pager);
  const older = button(pager, "page", "", "Next ›");
  const close = button(pager, "cell", "", "Close", "Close the list of trades");
  const bar = make("div", "tt-listing", section);
  const search = make("input", "tt-search", bar);
  search.type = "search";
  search.placeholder = "Search symbol, strategy, reason, tag, id";
  search.setAttribute("aria-label", "Search all trades by symbol, strategy, exit reason, entry tag or id");
  search.maxLength = 100;
  const chips = make("div", "tt-chips", bar);
  const save = button(bar, "export", "csv", "", "", "tt-save");
  const wide = make("div", "tt-wide", section);
  wide.tabIndex = 0;
  wide.setAttribute("role", "region");
  wide.setAttribute("aria-label", "Trades");
  const table = make("table", "tt-list tt-all", wide);
  const heads = make("thead", "", table);
  const body = make("tbody", "", table);
  const calm = make("div", "tt-calm tt-quiet", section);
  const problems = make("p", "tt-problem", section);
  problems.setAttribute("role", "alert");

  let columns = ""; // names of the columns that the head was made for
  const fields = new Map(); // by column: its head, its button, its field
  const timers = new Map();

  function tell(change) {
    document.dispatchEvent(new CustomEvent("tt-ask", { detail: { name: "list", value: JSON.stringify(change), from: el } }));
  }

  // A field asks when its reader pauses, at once on Enter, and is emptied by Escape.
  function listen(field, change) {
    const send = () => {
      clearTimeout(timers.get(field));
      timers.delete(field);
      if (field.value.trim() !== field.dataset.asked) tell(change((field.dataset.asked = field.value.trim())));
    };
    field.addEventListener("input", () => {
      clearTimeout(timers.get(field));
      timers.set(field, setTimeout(send, TYPING_MS));
    });
    field.addEventListener("change", send);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") send();
      if (event.key !== "Escape" || !field.value) return;
      event.stopPropagation(); // the page has its own use for it
      field.value = "";
      send();
    });
  }

  function setField(field, text) {
    if (timers.has(field)) return; // somebody is typing
    field.dataset.asked = text;
    if (field.value.trim() !== text) field.value = text;
  }

  function makeHeads(list) {
    columns = list.map((c) => c.name).join();
    heads.replaceChildren();
    fields.clear();
    const [names, filters] = [make("tr", "", heads), make("tr", "tt-filter", heads)];
    for (const column of list) {
      const css = column.number ? "tt-number" : "";
      const th = make("th", css, names);
      th.scope = "col";
      const sort = button(th, "list", "", "", "", "tt-sort");
      make("span", "", sort, column.head);
      make("i", "", sort).setAttribute("aria-hidden", "true");
      const field = make("input", "", make("td", css, filters));
      field.type = "text";
      field.placeholder = column.hint;
      field.maxLength = 100;
      field.spellcheck = false;
      field.setAttribute("aria-label", `Filter ${column.head}, such as ${column.hint}`);
      listen(field, (value) => ({ where: { [column.name]: value } }));
      fields.set(column.name, { th, sort, field });
    }
  }

  function paintHeads(list) {
    if (list.map((c) => c.name).join() !== columns) makeHeads(list);
    for (const column of list) {
      const { th, sort, field } = fields.get(column.name);
      th.setAttribute("aria-sort", column.sorted);
      sort.dataset.value = column.ask;
      sort.title = column.tip;
      setField(field, column.where);
      field.setAttribute("aria-invalid", String(column.bad));
    }
  }

  function paintRows(rows, list) {
    body.replaceChildren();
    for (const row of rows) {
      const tr = make("tr", row.right ? "tt-right" : "", body);
      tr.title = row.title;
      row.cells.forEach((cell, i) => {
        const td = make("td", list[i].number ? "tt-number" : list[i].name === "actual" ? "tt-came" : "", tr);
        write(list[i].name === "return_pct" ? make("b", row.tone, td) : td, cell);
      });
    }
  }

  function paintChips(list) {
    const focused = chips.contains(document.activeElement) ? document.activeElement.dataset.value : null;
    chips.replaceChildren();
    for (const chip of list) {
      const node = button(chips, "list", chip.ask, "", `Take away: ${chip.words}`, "tt-taken");
      make("span", "", node, chip.words);
      make("span", "", node, "×").setAttribute("aria-hidden", "true");
    }
    if (focused !== null) (chips.firstElementChild ?? search).focus(); // the one that was taken away had it
  }

  function paint() {
    const t = JSON.parse(model.get("table") || "null");
    if (!t) return section.remove();
    section.style.setProperty("--c", t.color);
    title.replaceChildren();
    if (t.color) make("span", "tt-chip", title);
    write(make("span", "", title), t.title);
    note.textContent = t.note;
    place.textContent = t.place;
    for (const [node, to, words] of [[newer, t.page - 1, t.back], [older, t.page + 1, t.next]]) {
      node.dataset.value = String(to);
      node.disabled = to < 0 || to >= t.pages;
      node.setAttribute("aria-label", words);
    }
    close.hidden = !t.close;
    setField(search, t.search);
    paintChips(t.chips);
    write(save, t.save);
    save.hidden = !t.total;
    paintHeads(t.columns);
    paintRows(t.rows, t.columns);
    calm.textContent = t.empty;
    calm.hidden = !t.empty;
    problems.textContent = t.problems;
    problems.hidden = !t.problems;
    if (!section.isConnected) el.append(section);
  }

  listen(search, (value) => ({ search: value }));
  model.on("change:table", paint);
  paint();
  return () => {
    for (const timer of timers.values()) clearTimeout(timer);
    model.off("change:table", paint);
  };
}

export default { render };
