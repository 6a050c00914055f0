// Runs in the head, before anything of Voilà.
function ttPrepare(baseUrl) {
  const root = document.documentElement;
  root.classList.add("tt-page");
  document.title = "Trade Telemetry";

  // The theme of the last visit, before the first paint.
  let theme = null;
  try { theme = localStorage.getItem("tt-theme"); } catch { /* storage may be forbidden */ }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.ttTheme = ["light", "dark", "projector"].includes(theme) ? theme : dark ? "dark" : "light";

  // After a reload, or by an address that was shared, the viewer's choices are given to a new kernel (see clock.js).
  // Until it has answered, nothing is shown of the choices that it began with.
  let kept = null;
  try { kept = JSON.parse(sessionStorage.getItem("tt-choices")); } catch { /* nothing is kept then */ }
  if (location.hash.length > 1 || (kept && Object.values(kept).some((value) => value !== null))) {
    root.classList.add("tt-restoring");
    addEventListener("load", () => setTimeout(() => root.classList.remove("tt-restoring"), 6000));
  }

  // Voilà ends the page's kernel by a POST when the page goes away. The server refuses it without this cookie, which
  // only a login page would set, so each visit would leave a kernel behind. Cookie and form field must be equal; the
  // protection is that another site cannot read or set either.
  if (!/(?:^|;\s*)_xsrf=/.test(document.cookie)) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const token = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
    document.cookie = `_xsrf=${token}; path=${baseUrl}; SameSite=Strict`;
  }

  ttListen();
  ttPatience();
  ttLighten();
  ttServe();
  ttMeasure();
  ttWatch(baseUrl);
}

// The panels as the kernel of the pool has drawn them, until it answers: `ttLive` is called by the clock then. Text that
// was written into a page by `innerHTML` runs no script. A viewer whose choices are given back sees only their answer.
function ttFirst() {
  const root = document.documentElement;
  if (root.classList.contains("tt-restoring")) return;
  const first = document.createElement("div");
  first.id = "tt-first";
  first.inert = true;
  first.setAttribute("aria-busy", "true");
  first.innerHTML = JSON.parse(document.getElementById("tt-first-html").textContent);
  document.getElementById("rendered_cells").before(first);
  root.classList.add("tt-waking");
}

function ttLive() {
  document.getElementById("tt-first")?.remove();
  document.documentElement.classList.remove("tt-waking");
}

// Clicks and keys that come before the clock listens are kept and handed to it: nobody has to ask twice because the page
// was still waking. The picture of before is inert, so what was clicked in it is found by its place.
function ttListen() {
  const kept = [];
  let take = (asked) => kept.push(asked);
  const under = ({ clientX: x, clientY: y }) => (button) => {
    const { left, right, top, bottom } = button.getBoundingClientRect();
    return x >= left && x < right && y >= top && y < bottom;
  };

  function onClick(event) {
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const live = event.target.closest?.(".tt-app [data-ask]");
    const button = live ?? [...document.querySelectorAll("#tt-first [data-ask]:not([disabled])")].find(under(event));
    if (!button || (live && window.ttEarly === undefined)) return; // the clock hears this one itself
    event.preventDefault();
    button.classList.add("tt-asked");
    take({ name: button.dataset.ask, value: button.dataset.value });
  }

  function onKey(event) {
    if (window.ttEarly === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && !event.target.closest?.("input, select, textarea")) take({ key: event.key });
  }

  window.ttEarly = (taker) => {
    delete window.ttEarly;
    take = taker;
    kept.splice(0).forEach(taker);
  };
  document.addEventListener("click", onClick, true);
  document.addEventListener("keydown", onKey, true);
}

// A widget with a script of its own is given two seconds to begin; then it is given up for good, and its panel stays empty.
// A busy machine needs longer than that to read the scripts of a page.
function ttPatience() {
  const timeout = AbortSignal.timeout.bind(AbortSignal);
  AbortSignal.timeout = (milliseconds) => timeout(milliseconds === 2000 ? 120_000 : milliseconds);
}

// The chart library writes the size "auto" into an attribute of its drawing before it measures its box. No SVG knows that
// size: it is left out, which means the same, and each browser's console stays free for what matters.
function ttMeasure() {
  const draw = SVGSVGElement.prototype;
  const { setAttribute } = Element.prototype;
  draw.setAttribute = function (name, value) {
    if (value !== "auto" || (name !== "width" && name !== "height")) setAttribute.call(this, name, value);
  };
}

// Voilà's page brings JupyterLab 4.2 to its extensions, some of which were built beside a newer one. They share what the
// page has in any case (only one copy of it may run), and each of them says so in the console. What they use is in both:
// so the page offers what it has as a later minor version before an extension is told what there is.
function ttServe() {
  function offer(scope) {
    for (const versions of Object.values(scope)) {
      for (const [version, module] of Object.entries(versions)) {
        if (module.from !== "_JUPYTERLAB.CORE_OUTPUT") continue;
        delete versions[version];
        versions[version.replace(/^(\d+).*/, "$1.999.0")] = module;
      }
    }
  }
  const wrapped = (extension) => ({ ...extension, init: (scope, ...rest) => (offer(scope), extension.init(scope, ...rest)) });
  window._JUPYTERLAB = new Proxy(window._JUPYTERLAB ?? {}, {
    set: (all, name, extension) => Reflect.set(all, name, name !== "CORE_OUTPUT" && extension?.init ? wrapped(extension) : extension),
  });
}

// Most of what Voilà's page loads is JupyterLab: editors, notebooks, icons, formulas, of which nothing is ever used here.
// It finds each of them by name and version in one list of what is shared. Where a newer version stands there, that one is
// taken, so the page writes itself in with modules that hold nothing: what is built on them can be defined, never used.
// Voilà's own script runs what was left for it in this array with its loader, before it loads anything.
function ttLighten() {
  try {
    if (sessionStorage.getItem("tt-loaded-again")) return; // it did not come up: this time with all there is
  } catch { /* storage may be forbidden */ }
  const UNUSED = ["codemirror", "console", "docregistry", "logconsole", "mainmenu", "notebook", "settingregistry", "ui-components"];
  const NO_PLUGINS = ["codemirror", "javascript", "json", "markedparser", "mathjax", "mathjax2", "vega5"];
  const nothing = new Proxy(class {}, {
    get(none, name) {
      if (name === "prototype" || name === "__esModule") return name === "prototype" ? none.prototype : true;
      if (name === Symbol.toPrimitive) return () => "";
      return typeof name === "symbol" || name === "then" ? undefined : nothing;
    },
    apply: () => nothing,
  });
  const shared = {};
  const offer = (name, version, module) => (shared[name] = { [version]: { get: () => () => module, loaded: 1, from: "trade_telemetry" } });
  for (const name of UNUSED) offer(`@jupyterlab/${name}`, "4.9999.0", nothing);
  for (const name of NO_PLUGINS) offer(`@jupyterlab/${name}-extension`, "4.9999.0", { __esModule: true, default: [] });
  offer("@lumino/datagrid", "2.9999.0", nothing);
  offer("echarts-gl", "2.9999.0", {});
  offer("react", "18.9999.0", nothing);
  offer("react-dom", "18.9999.0", nothing);
  const chunks = (window.webpackChunk_JUPYTERLAB_CORE_OUTPUT ??= []);
  chunks.push([["trade_telemetry"], {}, (loader) => (loader.S.default = { ...shared, ...loader.S.default })]);
}

// The page comes with its outputs, but the panels are drawn by asking its kernel. If that has gone meanwhile, the page
// would stay empty without a word: say so, and load the page again, once.
function ttWatch(baseUrl) {
  const PATIENCE = 60; // seconds after loading; the panels need one or two, on a machine under load many more
  const LOADED_AGAIN = "tt-loaded-again";
  let seconds = 0;
  let notice = null;

  function again() {
    try {
      if (sessionStorage.getItem(LOADED_AGAIN)) return false;
      sessionStorage.setItem(LOADED_AGAIN, "yes");
      return true;
    } catch {
      return false; // without storage it could go on for ever
    }
  }

  function say(text) {
    notice = document.body.appendChild(document.createElement("div"));
    notice.className = "tt-no-kernel";
    notice.setAttribute("role", "alert");
    notice.style.cssText =
      "position:fixed;inset:0;z-index:9;padding:24px;background:var(--tt-ground);color:var(--tt-bad);font:600 16px var(--tt-font)";
    notice.textContent = text;
  }

  async function kernelIsGone() {
    try {
      const { kernelId } = JSON.parse(document.getElementById("jupyter-config-data").textContent);
      return (await fetch(`${baseUrl}api/kernels/${kernelId}`, { cache: "no-store" })).status === 404;
    } catch {
      return false; // no server: nothing to load again
    }
  }

  async function look() {
    if (document.querySelector(".tt-clock")) {
      clearInterval(timer); // the clock looks after the kernel from now on
      notice?.remove();
      try { sessionStorage.removeItem(LOADED_AGAIN); } catch { /* as above */ }
      return;
    }
    seconds += document.readyState === "complete"; // the server may still be running the notebook
    const cut = seconds > 1 && !window.ttWhole; // a kernel died while the page was being written
    if (notice || (!cut && seconds < PATIENCE && (seconds % 5 !== 3 || !(await kernelIsGone())))) return;
    if (notice) return; // another look was quicker
    const reload = again();
    say(`The page came up without its kernel. ${reload ? "Loading it again …" : "Reload it; if that does not help, the server's log says why."}`);
    if (reload) setTimeout(() => location.reload(), 1500); // time to read it
  }

  const timer = setInterval(look, 1000);
}
