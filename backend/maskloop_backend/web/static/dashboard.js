// What HTML and htmx alone do not: the theme, remembered layers, the side view, a select that sends its form.
(() => {
  const root = document.documentElement;

  const toggle = document.querySelector("[data-theme-toggle]");
  if (toggle) {
    toggle.hidden = false;
    toggle.addEventListener("click", () => {
      const dark = root.dataset.theme
        ? root.dataset.theme === "dark"
        : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      localStorage.setItem("maskloop-theme", root.dataset.theme);
    });
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submit]")) event.target.form.submit();
    if (event.target.matches("#show-outline, #show-heat"))
      localStorage.setItem(`maskloop-${event.target.id}`, String(event.target.checked));
  });
  for (const box of document.querySelectorAll("#show-outline, #show-heat"))
    box.checked = localStorage.getItem(`maskloop-${box.id}`) !== "false";

  const side = document.getElementById("side");
  if (side) {
    let opener = null;
    document.body.addEventListener("htmx:beforeRequest", (event) => {
      if (event.detail.target === side) opener = event.detail.elt;
    });
    document.body.addEventListener("htmx:afterSwap", (event) => {
      if (event.detail.target === side && !side.open) side.showModal();
    });
    side.addEventListener("close", () => {
      side.replaceChildren();
      if (opener) opener.focus();
    });
    side.addEventListener("click", (event) => {
      if (event.target === side) side.close(); // the backdrop
    });
    // From one image to the next with the arrow keys.
    side.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step || !opener || event.target.matches("input, select, .scroll")) return;
      const shots = [...document.querySelectorAll(".card a.shot")];
      const next = shots[shots.indexOf(opener) + step];
      if (next) next.click();
    });
  }
})();
