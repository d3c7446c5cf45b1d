(() => {
  // What somebody looks at in a dialog stays: the page beneath looks again when it is closed.
  const state = document.getElementById("batch-state");
  if (state)
    state.addEventListener("htmx:beforeRequest", (event) => {
      if (document.querySelector("dialog[open]")) event.preventDefault();
    });
  // What would come is true of the form as it was: a change takes it away. A new try takes away what was wrong before.
  const form = document.getElementById("batch-form");
  if (!form) return;
  form.addEventListener("change", () => document.getElementById("preview").replaceChildren());
  form.addEventListener("htmx:beforeRequest", () => document.getElementById("notice").replaceChildren());
})();
