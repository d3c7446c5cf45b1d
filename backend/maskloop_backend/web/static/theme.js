// Before anything is painted: the theme that was chosen on this machine.
(() => {
  const chosen = localStorage.getItem("maskloop-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
