// Looking back: a day, a slider over the live days, and a button that lets a year pass in a minute.
//
// Each step waits for the kernel's answer (`ack`) before the next is asked for, and the day that comes next goes by the
// clock of the wall: where an answer takes long, days are skipped, and nothing is ever queued. What the kernel says of
// the steps (`told`) is set as text, never as HTML.

const DAY = 86_400_000;
const DAYS_A_SECOND = 365 / 60; // a year in a minute
const SHORTEST = 200; // ms between two steps at least: a page that changes faster is not read
const ICONS = { play: "M4 2.5v11l9-5.5z", pause: "M4 2.5h3v11H4zM9.5 2.5h3v11h-3z" };

function make(tag, className, parent, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  parent.append(node);
  return node;
}

function picture(button, name) {
  button.replaceChildren();
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  button.append(svg);
}

export const dayOf = (text) => Math.round(Date.parse(`${text}T00:00:00Z`) / DAY);
export const textOf = (day) => new Date(day * DAY).toISOString().slice(0, 10);

function parsed(text, otherwise) {
  try {
    return JSON.parse(text) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function render({ model, el }) {
  el.classList.add("tt-asof");
  const band = make("div", "tt-asof-band", el);
  const title = make("b", "", band);
  const said = make("span", "", band);
  const bar = make("div", "tt-asof-bar", el);
  const label = make("label", "", bar, "As of ");
  const date = make("input", "", label);
  date.type = "date";
  const play = make("button", "tt-asof-play", bar);
  play.type = "button";
  const track = make("div", "tt-asof-track", bar);
  const slider = make("input", "", track);
  slider.type = "range";
  slider.step = 1;
  slider.setAttribute("aria-label", "Day that is shown");
  const ticks = make("div", "tt-asof-ticks", track);
  ticks.setAttribute("aria-hidden", "true");
  const now = make("button", "tt-asof-now", bar, "Back to now");
  now.type = "button";
  const told = make("ul", "tt-asof-told", el);
  told.setAttribute("aria-live", "polite");
  told.setAttribute("aria-label", "First days on which somebody would have been told");

  let open = false;
  let started = null; // performance.now() at which the play began, and the day it began with
  let timer = 0;
  let wanted = null; // asked for while an answer is awaited
  let asked = 0; // performance.now() of the last question

  const app = () => el.closest(".tt-app");
  const span = () => parsed(model.get("span"), null);
  const waiting = () => model.get("step") !== model.get("ack");

  function send(type, value) {
    if (waiting()) {
      wanted = { type, value };
      return;
    }
    wanted = null;
    asked = performance.now();
    const step = model.get("step") + 1;
    model.set("step", step);
    model.save_changes();
    model.send({ type, value, step });
  }

  function paint() {
    const days = span();
    const shown = model.get("shown");
    const day = shown.slice(0, 10);
    el.dataset.open = String(open || shown !== "");
    el.dataset.shown = shown;
    el.dataset.playing = String(started !== null);
    el.dataset.step = model.get("ack");
    band.style.display = shown ? "" : "none";
    bar.style.display = open || shown ? "" : "none";
    title.textContent = shown ? `Shown as of ${shown}. Not the present.` : "";
    said.textContent = shown ? model.get("said") : "";
    for (const part of [date, slider, play]) part.disabled = !days;
    now.disabled = !shown && started === null;
    if (days) {
      Object.assign(date, { min: days.first, max: days.last });
      Object.assign(slider, { min: dayOf(days.first), max: dayOf(days.last) });
      if (document.activeElement !== date) date.value = day || days.last;
      if (!slider.matches(":active") && wanted === null) slider.value = dayOf(day || days.last);
      slider.setAttribute("aria-valuetext", textOf(Number(slider.value)));
    }
    picture(play, started === null ? "play" : "pause");
    play.title = started === null ? "Play: a year in a minute" : "Stop here";
    play.setAttribute("aria-label", play.title);
    paintTold(days);
    app()?.querySelector(".tt-back")?.setAttribute("aria-expanded", String(open || shown !== ""));
  }

  function paintTold(days) {
    const marks = parsed(model.get("told"), []);
    told.replaceChildren();
    ticks.replaceChildren();
    for (const mark of marks) {
      const line = make("li", "", told);
      line.dataset.state = mark.state;
      make("b", "", line, mark.strategy);
      make("span", "", line, ` ${mark.words}`);
      if (!days) continue;
      const tick = make("i", "", ticks);
      tick.dataset.state = mark.state;
      tick.style.left = `${(100 * (dayOf(mark.on) - dayOf(days.first))) / Math.max(1, dayOf(days.last) - dayOf(days.first))}%`;
    }
  }

  function stop(ask = true) {
    if (started === null) return;
    started = null;
    clearTimeout(timer);
    if (ask) send("as_of", textOf(Number(slider.value))); // with all that takes longer
    paint();
  }

  function next() {
    if (started === null) return;
    if (!el.isConnected || document.hidden) return stop();
    const last = Number(slider.max);
    const passed = Math.floor(((performance.now() - started.at) / 1000) * DAYS_A_SECOND);
    const day = Math.min(last, Math.max(Number(slider.value) + 1, started.day + passed));
    slider.value = day;
    send("play", textOf(day));
    if (day >= last) started.over = true;
  }

  function begin() {
    if (Number(slider.value) >= Number(slider.max)) slider.value = slider.min;
    started = { at: performance.now(), day: Number(slider.value), over: false };
    send("play", textOf(started.day));
    paint();
  }

  function onAck() {
    if (waiting()) return;
    if (wanted) send(wanted.type, wanted.value);
    else if (started?.over) stop();
    else if (started) timer = setTimeout(next, Math.max(0, SHORTEST - (performance.now() - asked)));
    paint();
  }

  function pick(text) {
    stop(false);
    if (/^\d{4}-\d{2}-\d{2}$/.test(text)) send("as_of", text);
  }

  function toggle() {
    open = !(open || model.get("shown") !== "");
    if (open) model.send({ type: "open" });
    else if (model.get("shown")) leave();
    paint();
    if (open) slider.focus({ preventScroll: true });
  }

  function leave() {
    stop(false);
    open = false;
    send("as_of", "");
    paint();
    app()?.querySelector(".tt-back")?.focus({ preventScroll: true });
  }

  slider.addEventListener("input", () => {
    date.value = textOf(Number(slider.value));
    slider.setAttribute("aria-valuetext", date.value);
  });
  slider.addEventListener("change", () => pick(textOf(Number(slider.value))));
  date.addEventListener("change", () => pick(date.value));
  play.addEventListener("click", () => (started === null ? begin() : stop()));
  now.addEventListener("click", leave);
  el.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    if (started === null) leave();
    else stop();
  });
  model.on("change:ack", onAck);
  model.on("change:shown change:said change:span change:told", paint);
  let home = null;
  requestAnimationFrame(() => {
    home = app();
    home?.addEventListener("tt-look-back", toggle);
    paint();
  });
  paint();
  return () => {
    started = null;
    clearTimeout(timer);
    home?.removeEventListener("tt-look-back", toggle);
    model.off("change:ack", onAck);
    model.off("change:shown change:said change:span change:told", paint);
  };
}

export default { render };
