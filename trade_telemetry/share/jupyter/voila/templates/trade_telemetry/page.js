// Runs in the head, before anything of Voilà.
function ttPrepare(baseUrl) {
  const root = document.documentElement;
  root.classList.add("tt-page");
  document.title = "Trade Telemetry";

  // The theme of the last visit, before the first paint.
  let theme = null;
  try { theme = localStorage.getItem("tt-theme"); } catch { /* storage may be forbidden */ }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.ttTheme = theme === "dark" || theme === "light" ? theme : dark ? "dark" : "light";

  // Voilà ends the page's kernel by a POST when the page goes away. The server refuses it without this cookie, which
  // only a login page would set, so each visit would leave a kernel behind. Cookie and form field must be equal; the
  // protection is that another site cannot read or set either.
  if (!/(?:^|;\s*)_xsrf=/.test(document.cookie)) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const token = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
    document.cookie = `_xsrf=${token}; path=${baseUrl}; SameSite=Strict`;
  }
}
