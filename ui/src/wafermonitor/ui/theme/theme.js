// Sets light or dark before the first paint, and the place where page.js and screen.js meet. In: the viewer's earlier choice, else the
// system's. Called by: page.html, page.js.
(() => {
  // Panel loads screen.js through a loader of its own: a plain import of page.js there would run a second page beside the first.
  window.waferPage = new Promise((resolve) => { window.waferPageReady = resolve; });
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("wafer-theme"); } catch { return null; } };
  const show = () => { document.documentElement.dataset.theme = stored() ?? (system.matches ? "dark" : "light"); };
  window.waferTheme = () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("wafer-theme", next); } catch { /* a private window keeps it for this page only */ }
    document.documentElement.dataset.theme = next;
    return next;
  };
  system.addEventListener("change", show);
  show();
})();
