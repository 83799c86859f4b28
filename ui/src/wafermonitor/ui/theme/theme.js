// Sets light or dark before the first paint. In: the viewer's earlier choice, else the system's. Called by: page.html, page.js.
(() => {
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
