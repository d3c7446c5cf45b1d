// A question in a dialog: what htmx puts into #ask opens it, and what asked has the focus again afterwards.
(() => {
  const ask = document.getElementById("ask");
  if (!ask) return;
  let opener = "";
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target === ask && !ask.contains(event.detail.elt)) opener = event.detail.elt.id;
  });
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === ask && !ask.open) ask.showModal();
  });
  // What went wrong is said in the dialog that asked: behind it nobody sees or hears it.
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const { isError, target, requestConfig } = event.detail;
    const said = ask.querySelector(".said-wrong");
    if (isError && said && ask.open && target.id === "notice" && ask.contains(requestConfig.elt))
      event.detail.target = said;
  });
  ask.addEventListener("close", () => {
    ask.replaceChildren();
    // By its name: the page may have been drawn anew meanwhile.
    const back = document.getElementById(opener);
    if (back) back.focus();
  });
  ask.addEventListener("click", (event) => {
    if (event.target === ask) ask.close(); // the backdrop
  });
  // Links that act as buttons answer to the space bar too.
  document.addEventListener("keydown", (event) => {
    if (event.key === " " && event.target.matches('a[role="button"]')) {
      event.preventDefault();
      event.target.click();
    }
  });
})();
